/**
 * What events make: messages and state as `@ag-ui/client` holds them, and `items`, the conversation as it is drawn:
 * messages, and between them runs, steps, errors and questions. An item's `version` grows with each change. Plain data
 * all through, so that it can be cloned.
 */
class Fold {
  messages = []; items = []; ids = new Map(); calls = new Map();
  state = {}; before = {}; started = {}; asking = []; made = 0;

  /** The state; before the last event that changed it; before the run. What is shared is never changed. */
  get states() { return { state: this.state, before: this.before, started: this.started }; }
  clone() { return Object.assign(new Fold(), structuredClone({ ...this })); }

  /** Takes in an event; `run` is the number of the run it belongs to. */
  push(event, run) {
    const make = Fold.on[event.type];
    if (make) try { make.call(this, event, run); } catch (error) { console.debug("not folded", event, error); }
  }

  item(kind, more) {
    const item = { kind, key: `${kind}${this.made++}`, version: 0, ...more };
    this.items.push(item);
    return item;
  }

  /** Puts a message at the end, or a tool's result behind its call and the results that follow that. */
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

  /** The message an event names, which it then changes. */
  named(event) {
    const slot = this.ids.get(event.messageId);
    return slot && slot.message.role !== "activity" ? slot : null;
  }

  begin(event, role, given) {
    const tag = event.subagentRunId != null ? { subagentRunId: event.subagentRunId } : {};
    const slot = this.named(event) ?? (this.ids.has(event.messageId) ? null
      : this.append({ id: event.messageId, role: (given && event.role) || role, content: "", ...(given && event.name !== undefined && { name: event.name }), ...tag }));
    if (slot) { slot.open = true; note(slot.message, event); slot.version++; }
  }
  more(event) {
    const slot = this.named(event);
    if (!slot || typeof event.delta !== "string") return;
    slot.message.content = (typeof slot.message.content === "string" ? slot.message.content : "") + event.delta;
    note(slot.message, event);
    slot.version++;
  }
  end(event) {
    const slot = this.named(event);
    if (slot) { slot.open = false; note(slot.message, event); slot.version++; }
  }

  static on = {
    RUN_STARTED(event, run) {
      this.item("run", { run });
      this.started = this.before = this.state;
      for (const message of event.input?.messages ?? []) if (isObject(message) && !this.ids.has(message.id)) this.append(structuredClone(message));
      for (const answer of event.input?.resume ?? []) this.item("note", { text: inWords(answer) });
    },
    RUN_FINISHED(event, run) {
      this.asking = event.outcome?.type === "interrupt" && Array.isArray(event.outcome.interrupts) ? event.outcome.interrupts : [];
      if (this.asking.length) this.item("question", { asks: this.asking, run });
      if (event.outcome?.type === "cancelled") this.item("note", { text: "Stopped" });
    },
    RUN_ERROR(event) { this.item("error", { text: String(event.message ?? ""), code: event.code }); },
    TEXT_MESSAGE_START(event) { this.begin(event, "assistant", true); },
    REASONING_MESSAGE_START(event) { this.begin(event, "reasoning", false); },
    TEXT_MESSAGE_CONTENT(event) { this.more(event); },
    REASONING_MESSAGE_CONTENT(event) { this.more(event); },
    TEXT_MESSAGE_END(event) { this.end(event); },
    REASONING_MESSAGE_END(event) { this.end(event); },
    TOOL_CALL_START(event) {
      const known = this.calls.get(event.toolCallId);
      if (known) {
        known.call.function.name = event.toolCallName;
        note(known.call, event);
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
      note(call, event);
      this.calls.set(event.toolCallId, { owner, call, open: true });
      owner.version++;
    },
    TOOL_CALL_ARGS(event) {
      const found = this.calls.get(event.toolCallId);
      if (!found) return;
      if (typeof event.delta === "string") found.call.function.arguments += event.delta;
      note(found.call, event);
      found.owner.version++;
    },
    TOOL_CALL_END(event) {
      const found = this.calls.get(event.toolCallId);
      if (!found) return;
      found.open = false;
      note(found.call, event);
      found.owner.version++;
    },
    TOOL_CALL_RESULT(event) {
      const message = { id: event.messageId, toolCallId: event.toolCallId, role: event.role || "tool", content: event.content ?? "" };
      if (event.subagentRunId != null) message.subagentRunId = event.subagentRunId;
      note(message, event);
      const slot = this.add(message), owner = this.calls.get(event.toolCallId)?.owner;
      let at = owner?.message.role === "assistant" ? this.messages.lastIndexOf(owner) + 1 : this.messages.length;
      while (at < this.messages.length && this.messages[at].message.role === "tool") at++;
      this.messages.splice(at, 0, slot);
    },
    STATE_SNAPSHOT(event) { this.before = this.state; this.state = event.snapshot; },
    STATE_DELTA(event) { const next = patched(this.state, event.delta); this.before = this.state; this.state = next; },
    MESSAGES_SNAPSHOT(event) {
      const news = event.messages.filter(isObject).map((message) => structuredClone(message));
      const declared = event.metadata?.["@ag-ui/client"], types = declared?.authoritativeActivityTypes;
      const brings = (role) => news.some((message) => message.role === role);
      const owned = declared === undefined || (isObject(declared) && types === undefined) ? (brings("activity") ? null : [])
        : types === null && isObject(declared) ? null : Array.isArray(types) ? types : [];
      const stays = ({ role, activityType }) => role === "activity" ? owned !== null && !owned.includes(activityType) : role === "reasoning" && !brings("reasoning");
      const byId = new Map(news.map((message) => [message.id, message])), old = this.ids;
      const kept = this.messages.map(({ message }) => byId.get(message.id) ?? (stays(message) ? message : null)).filter(Boolean);
      const all = [...kept, ...news.filter((message) => !old.has(message.id))];
      const slots = new Map(this.items.filter((item) => item.kind === "message").map((item) => [item.message.id, item]));
      this.ids = new Map();
      this.calls = new Map();
      const drawn = this.items;
      this.items = [];
      this.messages = [];
      for (const message of all) {
        const slot = this.append(message), was = slots.get(message.id);
        // A message that stays keeps its place on the screen.
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
      note(slot.message, event);
      slot.version++;
    },
    ACTIVITY_DELTA(event) {
      const slot = this.ids.get(event.messageId);
      if (slot?.message.role !== "activity") return;
      note(slot.message, event);
      slot.message.content = patched(slot.message.content ?? {}, event.patch ?? []);
      if (event.activityType !== undefined) slot.message.activityType = event.activityType;
      slot.version++;
    },
    REASONING_ENCRYPTED_VALUE(event) {
      const target = event.subtype === "tool-call" ? this.calls.get(event.entityId)?.call : this.named({ messageId: event.entityId })?.message;
      if (target) target.encryptedValue = event.encryptedValue;
    },
    STEP_STARTED(event) { this.item("note", { text: `Step ${event.stepName}` }); },
    SUBAGENT_STARTED(event) { this.item("note", { text: `Sub-agent ${event.name} started` }); },
    SUBAGENT_FINISHED() { this.item("note", { text: "Sub-agent finished" }); },
    SUBAGENT_ERROR(event) { this.item("error", { text: String(event.message ?? ""), code: event.code ?? "sub-agent" }); },
  };
}
/** An answer to an interrupt, in words. */
function inWords({ status, payload }) {
  if (status === "cancelled") return "Cancelled";
  const { approved, editedArgs, reason } = isObject(payload) ? payload : {}, json = (value) => clip(JSON.stringify(value), 300);
  if (approved === true) return editedArgs !== undefined ? `Approved with ${json(editedArgs)}` : "Approved";
  if (approved === false) return typeof reason === "string" && reason ? `Rejected: ${clip(reason, 300)}` : "Rejected";
  return `Answered${payload === undefined ? "" : `: ${json(payload)}`}`;
}
/** Merges an event's metadata into a message or call. */
function note(target, { metadata }) {
  if (isObject(metadata)) target.metadata = { ...target.metadata, ...metadata };
}
