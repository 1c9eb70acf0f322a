const known = new Map();  // Thread records by id, as the server lists them.
let listed = [];          // Those that the list shows, in order.
let nextPage = null;
let agents = {};
let thread = null;        // The open thread.
const titles = new Map(); // First words of threads without a name.

/** An open thread: its runs as they were received, and their fold. */
class Thread {
  runs = []; fold = new Fold(); cursor = null; notice = ""; bad = false; following = null; stopping = false; sent = null; loaded = false;
  answers = new Map(); drafts = new Map(); picked = null; refusal = null;
  constructor(id, agent) { this.id = id; this.agent = agent; }
  get record() { return known.get(this.id); }
  get live() { return this.sent !== null || (this.runs.length > 0 && !this.runs.at(-1).ended && this.following !== null); }
  /** The run that the right side shows: the last one, unless the user has picked another. */
  get run() { return this.picked ?? this.runs.at(-1) ?? null; }

  /** Adds a frame as it arrives. Cursors with a dot are of compacted events; those with the same `P` are of one run. */
  take(frame) {
    const { event, seq, compacted } = frame;
    let run = this.runs.at(-1);
    // A refused run: its error is not part of the thread, and another run will get its cursor.
    if (event.type === "RUN_ERROR" && (!frame.cursor || (!compacted && (!run || run.ended)))) {
      this.refusal = event;
      return;
    }
    // Not stored either: all is answered, although the answering run has failed; or the next snapshot replaces all messages.
    if (!frame.cursor) {
      if (event.type === "RUN_FINISHED") this.markAnswered();
      if (event.type === "MESSAGES_SNAPSHOT") this.fold.startsOver = true;
      return;
    }
    if (!run || (compacted ? run.last !== seq : run.ended)) {
      run = { number: this.runs.length, first: compacted ? (run?.last ?? 0) + 1 : seq, frames: [], tail: [], raw: null, compact: null, gone: "", form: null,
        ended: false, status: "running", came: performance.now(), took: null };
      if (!compacted) run.raw = run.frames;
      this.runs.push(run);
    }
    run.last = seq;
    run.frames.push(frame);
    if (event.type === "RUN_STARTED") run.answers = Boolean(event.input?.resume?.length);
    if (!compacted) {
      frame.at = event.timestamp ?? performance.timeOrigin + performance.now();
      run.tail.push(frame);
      if (run.raw && run.raw !== run.frames) run.raw.push(frame);
    } else run.prefix = seq;
    if (event.type === "RUN_FINISHED") this.markAnswered();
    if (event.type === "RUN_FINISHED" || event.type === "RUN_ERROR") {
      const outcome = event.outcome?.type;
      run.ended = true;
      // A stopped run may end like any other, but this page knows that it has stopped it.
      run.status = this.stopping && !outcome ? "stopped" : event.type === "RUN_ERROR" ? (event.code === "STOPPED" ? "stopped" : "failed") : outcome === "interrupt" ? "asking" : outcome === "cancelled" ? "stopped" : "finished";
      if (!compacted && run.frames === run.raw) run.took = performance.now() - run.came;
      if (run.tail.length === 0) run.compact = run.frames;
    }
    this.sent = null;
    this.cursor = frame.cursor;
    this.fold.push(event, run.number);
    run.state = this.fold.states;
    draw();
  }

  markAnswered() {
    this.fold.asking = [];
    for (const run of this.runs) if (run.status === "asking") run.status = "finished";
    draw();
  }

  /** Forgets all runs, to read the thread again from its start. */
  reset() { Object.assign(this, { runs: [], fold: new Fold(), cursor: null, picked: null }); }
}
const STATUS = { running: "running", finished: "finished", stopped: "stopped", failed: "failed", asking: "waits for an answer" };

const input = (open, more) => ({ threadId: open.id, runId: newId(), protocolVersion: "1.0", state: {}, messages: [], tools: [], context: [], forwardedProps: {}, ...more });
const agentOf = (open) => open.agent in agents ? open.agent : Object.keys(agents)[0];
const connect = (open, cursor, signal) => request(`agent/${encodeURIComponent(agentOf(open))}/connect`,
  { method: "POST", body: input(open), headers: cursor ? { "Last-Event-ID": cursor } : {}, signal });

/** Fetches the raw events of a run after its first event, which is the first compacted event as well. */
async function loadRaw(open, run) {
  if (run.raw || run.gone) return run.raw;
  return run.loadingRaw ??= (async () => {
    const until = run.prefix, frames = [{ ...run.frames[0], cursor: String(run.first), seq: run.first, compacted: false }];
    if (until > run.first) {
      const quit = new AbortController(), answer = await connect(open, String(run.first), quit.signal);
      if (answer.status === 410) run.gone = "The raw events are gone: they are deleted some minutes after the run.";
      else if (!answer.ok) run.gone = await readError(answer);
      else await readFrames(answer, (frame) => { if (!frame.cursor) return true; if (frame.compacted || frame.seq > until) return false; frames.push(frame); return frame.seq < until; });
      if (!run.gone && frames.length !== until - run.first + 1) run.gone = "The raw events are gone.";
      quit.abort();
    }
    if (!run.gone) run.raw = [...frames, ...run.tail];
    return run.raw;
  })().catch((error) => { run.gone = error.message; return null; }).finally(() => { run.loadingRaw = null; draw(); });
}

/** Fetches the compacted events of a run that was watched live. */
async function loadCompact(open, run) {
  if (run.compact || !run.ended) return run.compact;
  return run.loadingCompact ??= (async () => {
    const before = open.runs.slice(0, run.number).findLast((one) => one.compact), quit = new AbortController();
    const answer = await connect(open, before && before.compact.at(-1).cursor, quit.signal), frames = [];
    if (answer.ok) await readFrames(answer, (frame) => {
      if (!frame.cursor) return true;  // It is sent with replays only.
      if (!frame.compacted || frame.seq > run.last) return false;
      if (frame.seq === run.last) frames.push(frame);
      return !(frame.seq === run.last && /^RUN_(FINISHED|ERROR)$/.test(frame.event.type));
    });
    quit.abort();
    if (frames.length) {
      run.compact = frames;
      // The cursor of a compacted event stays valid, that of a raw event only for minutes.
      if (open.runs.at(-1) === run && open.cursor === String(run.last)) open.cursor = frames.at(-1).cursor;
    }
    return run.compact;
  })().catch(() => null).finally(() => { run.loadingCompact = null; draw(); });
}
