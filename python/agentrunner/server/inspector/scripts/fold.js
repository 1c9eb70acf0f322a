/**
 * The messages and the state that events add up to, as `@ag-ui/client` has them, and `items`, the conversation to draw:
 * messages, and between them runs, steps, errors and questions. The `version` of an item grows with each change. All of
 * it is plain data, so that it can be cloned.
 */
class Fold {
  messages = []; items = []; ids = new Map(); calls = new Map();
  state = {}; before = {}; started = {}; asking = []; made = 0;
  startsOver = false;  // Whether the next MESSAGES_SNAPSHOT replaces the messages that it does not name, and their order.

  /** The state now, before the last change, and before the run. Parts that they share are never changed. */
  get states() { return { state: this.state, before: this.before, started: this.started }; }
  clone() { return Object.assign(new Fold(), structuredClone({ ...this })); }

  /** Adds an event; `run` is the number of its run. */
  push(event, run) {
    const make = Fold.on[event.type];
    if (make) try { make.call(this, event, run); } catch (error) { console.debug("not folded", event, error); }
  }

  item(kind, more) {
    const item = { kind, key: `${kind}${this.made++}`, version: 0, ...more };
    this.items.push(item);
    return item;
  }

  /** Adds a message at the end; draws a tool's result with its call. */
  add(message, hidden = false) {
    const call = message.role === "tool" && this.calls.get(message.toolCallId);
    const slot = call || hidden ? { kind: "message", version: 0 } : this.item("message");
    slot.message = message;
    if (call) { call.result ??= slot; call.owner.version++; }
    if (typeof message.id === "string" && !this.ids.has(message.id)) this.ids.set(message.id, slot);
    for (const one of Array.isArray(message.toolCalls) ? message.toolCalls : []) if (!this.calls.has(one?.id)) this.calls.set(one?.id, { owner: slot, call: one });
    return slot;
  }
  append(message) { const slot = this.add(message); this.messages.push(slot); return slot; }

  /** Returns the message that an event names and may change. */
  findMessage(event) {
    const slot = this.ids.get(event.messageId);
    return slot && slot.message.role !== "activity" ? slot : null;
  }

  beginText(event, role, given) {
    const tag = event.subagentRunId != null ? { subagentRunId: event.subagentRunId } : {};
    const slot = this.findMessage(event) ?? (this.ids.has(event.messageId) ? null
      : this.append({ id: event.messageId, role: (given && event.role) || role, content: "", ...(given && event.name !== undefined && { name: event.name }), ...tag }));
    if (slot) { slot.open = true; mergeMetadata(slot.message, event); slot.version++; }
  }
  appendText(event) {
    const slot = this.findMessage(event);
    if (!slot || typeof event.delta !== "string") return;
    slot.message.content = (typeof slot.message.content === "string" ? slot.message.content : "") + event.delta;
    mergeMetadata(slot.message, event);
    slot.version++;
  }
  endText(event) {
    const slot = this.findMessage(event);
    if (slot) { slot.open = false; mergeMetadata(slot.message, event); slot.version++; }
  }

  static on = {
    RUN_STARTED(event, run) {
      this.item("run", { run });
      this.started = this.before = this.state;
      for (const message of event.input?.messages ?? []) if (isObject(message) && !this.ids.has(message.id)) this.append(structuredClone(message));
      for (const answer of event.input?.resume ?? []) this.item("note", { text: describeAnswer(answer) });
    },
    RUN_FINISHED(event, run) {
      this.asking = event.outcome?.type === "interrupt" && Array.isArray(event.outcome.interrupts) ? event.outcome.interrupts : [];
      if (this.asking.length) this.item("question", { asks: this.asking, run });
      if (event.outcome?.type === "cancelled") this.item("note", { text: "Stopped" });
    },
    RUN_ERROR(event) { this.item("error", { text: String(event.message ?? ""), code: event.code }); },
    TEXT_MESSAGE_START(event) { this.beginText(event, "assistant", true); },
    REASONING_MESSAGE_START(event) { this.beginText(event, "reasoning", false); },
    TEXT_MESSAGE_CONTENT(event) { this.appendText(event); },
    REASONING_MESSAGE_CONTENT(event) { this.appendText(event); },
    TEXT_MESSAGE_END(event) { this.endText(event); },
    REASONING_MESSAGE_END(event) { this.endText(event); },
    TOOL_CALL_START(event) {
      const known = this.calls.get(event.toolCallId);
      if (known) {
        known.call.function.name = event.toolCallName;
        mergeMetadata(known.call, event);
        known.owner.version++;
        return;
      }
      const parent = event.parentMessageId || null, existing = parent && this.ids.get(parent);
      let owner = existing?.message.role === "assistant" ? existing : null;
      if (!owner) {
        const id = parent && !existing ? parent : event.toolCallId;
        owner = this.append({ id, role: "assistant", toolCalls: [], ...(!this.ids.has(id) && event.subagentRunId != null && { subagentRunId: event.subagentRunId }) });
      }
      const call = { id: event.toolCallId, type: "function", function: { name: event.toolCallName, arguments: "" } };
      if (!Array.isArray(owner.message.toolCalls)) owner.message.toolCalls = [];
      owner.message.toolCalls.push(call);
      mergeMetadata(call, event);
      this.calls.set(event.toolCallId, { owner, call, open: true });
      owner.version++;
    },
    TOOL_CALL_ARGS(event) {
      const found = this.calls.get(event.toolCallId);
      if (!found) return;
      if (typeof event.delta === "string") found.call.function.arguments += event.delta;
      mergeMetadata(found.call, event);
      found.owner.version++;
    },
    TOOL_CALL_END(event) {
      const found = this.calls.get(event.toolCallId);
      if (!found) return;
      found.open = false;
      mergeMetadata(found.call, event);
      found.owner.version++;
    },
    TOOL_CALL_RESULT(event) {
      const message = { id: event.messageId, toolCallId: event.toolCallId, role: event.role || "tool", content: event.content ?? "" };
      if (event.subagentRunId != null) message.subagentRunId = event.subagentRunId;
      mergeMetadata(message, event);
      const slot = this.add(message), owner = this.calls.get(event.toolCallId)?.owner;
      let at = owner?.message.role === "assistant" ? this.messages.lastIndexOf(owner) + 1 : this.messages.length;
      while (at < this.messages.length && this.messages[at].message.role === "tool") at++;
      this.messages.splice(at, 0, slot);
    },
    STATE_SNAPSHOT(event) { this.before = this.state; this.state = event.snapshot; },
    STATE_DELTA(event) { const next = applyPatch(this.state, event.delta); this.before = this.state; this.state = next; },
    MESSAGES_SNAPSHOT(event) {
      const news = event.messages.filter(isObject).map((message) => structuredClone(message));
      const declared = event.metadata?.["@ag-ui/client"], types = declared?.authoritativeActivityTypes;
      const brings = (role) => news.some((message) => message.role === role);
      const owned = declared === undefined || (isObject(declared) && types === undefined) ? (brings("activity") ? null : [])
        : types === null && isObject(declared) ? null : Array.isArray(types) ? types : [];
      const stays = ({ role, activityType }) => role === "activity" ? owned !== null && !owned.includes(activityType) : role === "reasoning" && !brings("reasoning");
      const byId = new Map(news.map((message) => [message.id, message])), old = this.ids;
      const kept = this.startsOver ? [] : this.messages.map(({ message }) => byId.get(message.id) ?? (stays(message) ? message : null)).filter(Boolean);
      const all = this.startsOver ? news : [...kept, ...news.filter((message) => !old.has(message.id))];
      this.startsOver = false;
      const slots = new Map(this.items.filter((item) => item.kind === "message").map((item) => [item.message.id, item]));
      this.ids = new Map();
      this.calls = new Map();
      const drawn = this.items;
      this.items = [];
      this.messages = [];
      for (const message of all) {
        const slot = this.append(message), was = slots.get(message.id);
        // A message that stays keeps its position on the screen.
        if (was && this.items.at(-1) === slot) { this.items.pop(); Object.assign(slot, { key: was.key, version: was.version + 1 }); drawn[drawn.indexOf(was)] = slot; slots.delete(message.id); }
      }
      const gone = new Set(slots.values());
      this.items = [...drawn.filter((item) => !gone.has(item)), ...this.items];
    },
    ACTIVITY_SNAPSHOT(event) {
      const fill = { activityType: event.activityType ?? "", content: event.content ?? {} }, replace = event.replace !== false;
      if (event.subagentRunId != null) fill.subagentRunId = event.subagentRunId;
      let slot = this.ids.get(event.messageId);
      if (!slot) slot = this.append({ id: event.messageId, role: "activity", ...fill });
      else if (slot.message.role !== "activity") {
        if (!replace) return;
        slot.message = { id: event.messageId, role: "activity", ...fill };
      } else if (replace) {
        delete slot.message.subagentRunId;
        Object.assign(slot.message, fill);
      }
      mergeMetadata(slot.message, event);
      slot.version++;
    },
    ACTIVITY_DELTA(event) {
      const slot = this.ids.get(event.messageId);
      if (slot?.message.role !== "activity") return;
      mergeMetadata(slot.message, event);
      slot.message.content = applyPatch(slot.message.content ?? {}, event.patch ?? []);
      if (event.activityType !== undefined) slot.message.activityType = event.activityType;
      slot.version++;
    },
    REASONING_ENCRYPTED_VALUE(event) {
      const target = event.subtype === "tool-call" ? this.calls.get(event.entityId)?.call : this.findMessage({ messageId: event.entityId })?.message;
      if (target) target.encryptedValue = event.encryptedValue;
    },
    STEP_STARTED(event) { this.item("note", { text: `Step ${event.stepName}` }); },
    SUBAGENT_STARTED(event) { this.item("note", { text: `Sub-agent ${event.name} started` }); },
    SUBAGENT_FINISHED() { this.item("note", { text: "Sub-agent finished" }); },
    SUBAGENT_ERROR(event) { this.item("error", { text: String(event.message ?? ""), code: event.code ?? "sub-agent" }); },
  };
}
/** Describes an answer to an interrupt. */
function describeAnswer({ status, payload }) {
  if (status === "cancelled") return "Cancelled";
  const { approved, editedArgs, reason } = isObject(payload) ? payload : {}, json = (value) => truncate(JSON.stringify(value), 300);
  if (approved === true) return editedArgs !== undefined ? `Approved with ${json(editedArgs)}` : "Approved";
  if (approved === false) return typeof reason === "string" && reason ? `Rejected: ${truncate(reason, 300)}` : "Rejected";
  return `Answered${payload === undefined ? "" : `: ${json(payload)}`}`;
}
/** Merges an event's metadata into a message or call. */
function mergeMetadata(target, { metadata }) {
  if (isObject(metadata)) target.metadata = { ...target.metadata, ...metadata };
}
