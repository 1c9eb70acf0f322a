/** The kinds of events, recognized by the beginning of their names. */
const KINDS = ["life", "text", "tool", "reasoning", "state", "activity", "error", "other"];
const KIND_NAMES = { life: "run", other: "other" };
const PREFIXES = { RUN_ERROR: "error", SUBAGENT_ERROR: "error", RUN_: "life", STEP_: "life", SUBAGENT_: "life", TEXT_: "text", MESSAGES_: "text", TOOL_: "tool", REASONING_: "reasoning", THINKING_: "reasoning", STATE_: "state", ACTIVITY_: "activity" };
const kinds = new Map();
function kindOf(type) {
  if (!kinds.has(type)) kinds.set(type, PREFIXES[Object.keys(PREFIXES).find((prefix) => String(type).startsWith(prefix))] ?? "other");
  return kinds.get(type);
}
/** Returns one line about an event. */
function summarize({ event, text }) {
  if (text.length > 20_000) return toOneLine(text.slice(0, 160));
  const brief = (value) => toOneLine(truncate(typeof value === "string" ? value : JSON.stringify(value) ?? "", 160));
  if (typeof event.delta === "string") return JSON.stringify(event.delta.slice(0, 160));
  switch (event.type) {
    case "RUN_STARTED": return firstWords(event.input?.messages) || brief(event.runId);
    case "RUN_FINISHED": return event.outcome ? brief(event.outcome.type) : event.result !== undefined ? brief(event.result) : "";
    case "RUN_ERROR": return `${brief(event.code ?? "")} ${brief(event.message)}`;
    case "TEXT_MESSAGE_START": return brief(event.role ?? event.messageId);
    case "TOOL_CALL_START": return brief(event.toolCallName);
    case "TOOL_CALL_RESULT": return brief(event.content);
    case "STATE_DELTA": return Array.isArray(event.delta) ? event.delta.slice(0, 3).map(({ op, path, value }) => `${op} ${path}${value === undefined ? "" : ` ${brief(value)}`}`).join(", ") : "";
    case "STEP_STARTED": case "STEP_FINISHED": return brief(event.stepName);
    case "CUSTOM": return `${brief(event.name)} ${brief(event.value)}`;
    case "ACTIVITY_SNAPSHOT": case "ACTIVITY_DELTA": return `${brief(event.activityType)} ${brief(event.content ?? event.patch)}`;
    case "STATE_SNAPSHOT": return text.slice(text.indexOf('"snapshot":') + 11, 400).replace(/\}$/, "");
    default: return brief(event.messageId ?? event.toolCallId ?? event.name ?? text.slice(0, 200));
  }
}

/** The timeline: the frames of the shown run, raw or compacted, filtered by kind. */
const timeline = { frames: null, seen: 0, counts: {}, rows: [], only: new Set(), version: 0 };
let picked = null;  // The frame whose JSON the detail panel shows.
const events = new List($("events"), {
  height: 24,
  pick: (index) => { pickEvent(index, true); },
  move: (index) => pickEvent(index, false),
  /** Events that a replay has not reached yet are faint. */
  dress: (row, index) => row.classList.toggle("later", replay !== null && timeline.run === replay.run && timeline.rows[index] >= replay.place),
  fill(row, index) {
    const at = timeline.rows[index], frame = timeline.frames[at], { event, cursor } = frame;
    if (!row.cells) {
      row.cells = ["span", "i", "b", "span", "span"].map((tag) => row.appendChild(document.createElement(tag)));
      for (const [cell, name] of [[0, "at"], [3, "about"], [4, "when"]]) row.cells[cell].className = name;
    }
    const began = timeline.frames[0].at, [where, , type, about, when] = row.cells;
    row.classList.add("row", "event");
    row.style.setProperty("--c", `var(--${kindOf(event.type)})`);
    setText(where, cursor);
    setText(type, shorten(String(event.type), 25));
    setText(about, summarize(frame));
    setText(when, frame.at === undefined || began === undefined ? "" : `${((frame.at - began) / 1000).toFixed(2)}`);
  },
});
events.mayFollow = true;
events.follow = true;

function formOf(run) {
  if (replay?.run === run) return replay.form;
  return run.form ?? (run.raw ? "raw" : "compacted");
}
function framesOf(run) { return formOf(run) === "raw" ? run.raw ?? run.frames : run.compact ?? run.frames; }

let stateDrawn = null, stateAt = 0;
const stateOpened = new Map();
function drawRun() {
  const { run } = thread;
  if (thread.runs.length !== $("run").length) {
    $("run").replaceChildren(...thread.runs.map((one) => h("option", { value: one.number }, `Run ${one.number + 1}`)));
  }
  setVisible($("run"), thread.runs.length > 1);
  if (run && $("run").value !== String(run.number)) $("run").value = run.number;
  setVisible($("replay"), Boolean(run?.ended) && !replay);
  const onState = $("tab-state").ariaSelected === "true";
  if (onState) drawState(); else drawEvents(run);
}
function drawEvents(run) {
  const frames = run ? framesOf(run) : [], form = run && formOf(run);
  const raw = run ? run.last - run.first + 1 : 0, compact = run ? run.compact?.length ?? (run.ended ? null : run.raw ? null : run.frames.length) : 0;
  setVisible($("events-panel").firstElementChild, Boolean(run));
  setVisible($("kinds"), Boolean(run));
  if (!run) setText($("saved"), "");
  else {
    setText($("form-raw").lastChild, formatCount(raw));
    setText($("form-compacted").lastChild, compact === null ? "" : formatCount(compact));
    $("form-raw").ariaPressed = form === "raw";
    $("form-compacted").ariaPressed = form === "compacted";
    $("form-compacted").disabled = compact === null && !run.ended;
    $("form-compacted").title = $("form-compacted").disabled ? "Available when the run has ended" : "";
    if (run.ended && compact !== null) run.saved ??= `${Math.round((1 - compact / raw) * 100)} % fewer`;
    if (run.raw && run.compact && run.ended) run.savedBytes ??= `, ${formatSize(bytesOf(run.raw))} → ${formatSize(bytesOf(run.compact))}`;
    setText($("saved"), run.ended && compact !== null ? run.saved + (run.savedBytes ?? "") : "");
    setText($("form-note"), run.loadingRaw ? "Reading the raw events" : run.gone);
    $("form-note").className = run.loadingRaw ? "dim" : "failed";
  }
  if (timeline.frames !== frames) {
    if (timeline.run !== run) { events.active = -1; events.follow = !run?.ended; }
    Object.assign(timeline, { frames, run, seen: 0, counts: {}, rows: [], version: timeline.version + 1 });
    if (!events.follow) { events.element.scrollTop = events.top = 0; }
    if (picked && !frames.includes(picked)) { picked = null; setVisible($("detail"), false); }
  }
  const place = replay?.run === run ? replay.place : -1;
  for (; timeline.seen < frames.length; timeline.seen++) {
    const kind = kindOf(frames[timeline.seen].event.type);
    timeline.counts[kind] = (timeline.counts[kind] ?? 0) + 1;
    if (!timeline.only.size || timeline.only.has(kind)) timeline.rows.push(timeline.seen);
  }
  if (frames.length) $("events").style.setProperty("--cursor", `${Math.max(3, frames.at(-1).cursor.length)}ch`);
  for (const chip of $("kinds").children) {
    const number = timeline.counts[chip.kind] ?? 0;
    setVisible(chip, number > 0 || timeline.only.has(chip.kind));
    setText(chip.lastChild, formatCount(number));
    chip.ariaPressed = timeline.only.has(chip.kind);
  }
  if (place >= 0) {
    const at = timeline.rows.findLastIndex((index) => index < place);
    events.count = timeline.rows.length;
    if (at >= 0) events.go(at, .4); else events.active = -1;
  }
  events.set(timeline.rows.length, timeline.version);
  setVisible($("no-events"), !timeline.rows.length);
  setText($("no-events"), !run ? (thread.loaded ? "Events appear here when a run starts." : "Reading the thread") : "No events of these kinds.");
}
const bytesOf = (frames) => new Blob(frames.map(({ text }) => text)).size;
