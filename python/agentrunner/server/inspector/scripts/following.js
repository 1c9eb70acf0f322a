let lost = "";
function setNotice(text, bad = false) {
  if (thread) Object.assign(thread, { notice: text, bad });
  draw();
}

/**
 * Follows a thread until it has no live run; after a lost connection it resumes at the cursor. `answer` is the response
 * to a new run; `refused(why)` is called if the server refuses that run.
 */
async function follow(open, answer = null, refused = null) {
  if (!answer) { open.following?.abort(); open.following = new AbortController(); }
  const quit = open.following;
  for (let tries = 0, again = false; open === thread && !quit.signal.aborted;) {
    let came = 0;
    try {
      answer ??= await connect(open, open.cursor, quit.signal);
      if (answer.status === 410 || (answer.status === 409 && open.cursor)) {
        const why = await readError(answer);
        if (!open.cursor) throw new Error(why);
        open.reset();
        setNotice(`Reading could not resume where it had stopped, so the thread was read again from the start. ${why}`);
        answer = null;
        continue;
      }
      if (!answer.ok) { setNotice(await readError(answer), true); break; }
      lost = "";
      open.loaded = true;
      draw();
      await readFrames(answer, (frame) => { came++; tries = 0; if (quit.signal.aborted) return false; open.take(frame); });
      if (quit.signal.aborted) return;
      if (open.refusal) {
        const { message } = open.refusal;
        open.refusal = null;
        if (refused) {
          // Another client may have been faster: show its run.
          refused(String(message ?? "The run was refused"));
          return follow(open);
        }
        break;
      }
      const last = open.runs.at(-1);
      if (!again && last?.answers && last.status === "failed" && open.fold.asking.length) {
        // The answering run has failed: ask the server whether the question is still open.
        again = true;
        open.reset();
        answer = null;
        continue;
      }
      // The stream has ended in order, so no run is live. If a run has no end, connect again, until that brings nothing.
      if (!open.runs.length || open.runs.at(-1).ended || !came) break;
    } catch (error) {
      if (quit.signal.aborted) return;
      const wait = Math.min(300 * 2 ** tries++, 8000);
      lost = `Connection lost, trying again in ${wait < 1000 ? "a moment" : `${Math.round(wait / 1000)} s`}`;
      draw();
      await sleep(wait, quit.signal);
    }
    answer = null;
  }
  if (quit.signal.aborted) return;
  Object.assign(open, { following: null, stopping: false, sent: null });
  const last = open.runs.at(-1);
  if (last?.ended && last.tail.length) setText($("spoken"), `Run ${STATUS[last.status]}`);
  if (last) for (const run of open.runs.slice(-3)) await loadCompact(open, run);
  refresh();
  draw();
}

/** Starts a run in the open thread, with a message or with answers to its questions. */
async function start({ text, resume }) {
  const open = thread, asker = resume && open.record?.agentId, agent = asker in agents ? asker : $("agent").value || agentOf(open);
  const messages = open.fold.messages.map(({ message }) => message);
  if (text !== undefined) messages.push({ id: newId(), role: "user", content: text });
  open.agent = agent;
  Object.assign(open, { sent: text ?? "", notice: "", picked: null });
  talk.pinned = true;
  events.follow = true;
  remember("agent", agent);
  if (!open.record) known.set(open.id, { id: open.id, name: null, agentId: agent, archived: false, running: true, updatedAt: new Date().toISOString(), local: true });
  if (text !== undefined && !titles.has(open.id)) titles.set(open.id, text.slice(0, 200));
  history.replaceState(null, "", `#${encodeURIComponent(open.id)}`);
  drawThreadList();
  const quit = open.following = new AbortController();
  const refused = (why) => {
    Object.assign(open, { sent: null, following: null });
    open.answers.clear();
    if (text !== undefined && !$("message").value) $("message").value = text;
    if (open.record?.local && !open.runs.length) { known.delete(open.id); drawThreadList(); }
    setNotice(why, true);
  };
  try {
    const answer = await request(`agent/${encodeURIComponent(agent)}/run`, { method: "POST", signal: quit.signal, body: input(open, { messages, state: open.fold.state, ...(resume && { resume }) }) });
    if (answer.status === 409) {
      refused(`${await readError(answer)}. Another client started a run in this thread; it is shown here.`);
      return follow(open);
    }
    if (!answer.ok) return refused(await readError(answer));
    setText($("spoken"), "Run started");
    await follow(open, answer, refused);
    open.answers.clear();
  } catch (error) {
    if (!quit.signal.aborted) refused(`The run could not be started: ${error.message}`);
  }
}

async function stop() {
  if (!thread?.live || thread.stopping) return;
  const open = thread;
  open.stopping = true;
  draw();
  try {
    const { stopped, message } = await sendChange(`agent/${encodeURIComponent(agentOf(open))}/stop/${encodeURIComponent(open.id)}`, "POST", {});
    if (!stopped) { open.stopping = false; setNotice(message); }
  } catch (error) { open.stopping = false; setNotice(`The run could not be stopped: ${error.message}`, true); }
}
