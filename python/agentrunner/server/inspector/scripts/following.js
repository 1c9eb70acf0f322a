let lost = "";
function tell(text, bad = false) {
  if (thread) Object.assign(thread, { notice: text, bad });
  draw();
}

/**
 * Reads on in a thread until nothing runs; through lost connections, from where it was. `answer`: that of a new run;
 * `refused(why)`: what to do if it is not let in.
 */
async function follow(open, answer = null, refused = null) {
  if (!answer) { open.following?.abort(); open.following = new AbortController(); }
  const quit = open.following;
  for (let tries = 0, again = false; open === thread && !quit.signal.aborted;) {
    let came = 0;
    try {
      answer ??= await connect(open, open.cursor, quit.signal);
      if (answer.status === 410 || (answer.status === 409 && open.cursor)) {
        const why = await words(answer);
        if (!open.cursor) throw new Error(why);
        open.reset();
        tell(`This thread could not be read on from where it was, so it was read again from the start. ${why}`);
        answer = null;
        continue;
      }
      if (!answer.ok) { tell(await words(answer), true); break; }
      lost = "";
      open.loaded = true;
      draw();
      await read(answer, (frame) => { came++; tries = 0; if (quit.signal.aborted) return false; open.take(frame); });
      if (quit.signal.aborted) return;
      if (open.refusal) {
        const { message } = open.refusal;
        open.refusal = null;
        if (refused) {
          // Perhaps somebody else was faster: then what they began is to be seen.
          refused(String(message ?? "The run was refused"));
          return follow(open);
        }
        break;
      }
      const last = open.runs.at(-1);
      if (!again && last?.answers && last.status === "failed" && open.fold.asking.length) {
        // Somebody's answer has failed: whether it is to be answered still, the server says.
        again = true;
        open.reset();
        answer = null;
        continue;
      }
      // At a clean end the runs are over: unless one has no end, and asking again brought nothing.
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
  if (last?.ended && last.tail.length) say($("spoken"), `Run ${STATUS[last.status]}`);
  if (last) for (const run of open.runs.slice(-3)) await loadCompact(open, run);
  refresh();
  draw();
}

/** Starts a run in the open thread: with a message, or with the answers to its questions. */
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
  list();
  const quit = open.following = new AbortController();
  const refused = (why) => {
    Object.assign(open, { sent: null, following: null });
    open.answers.clear();
    if (text !== undefined && !$("message").value) $("message").value = text;
    if (open.record?.local && !open.runs.length) { known.delete(open.id); list(); }
    tell(why, true);
  };
  try {
    const answer = await ask(`agent/${encodeURIComponent(agent)}/run`, { method: "POST", signal: quit.signal, body: input(open, { messages, state: open.fold.state, ...(resume && { resume }) }) });
    if (answer.status === 409) {
      refused(`${await words(answer)}. This thread has a run elsewhere, which is followed here.`);
      return follow(open);
    }
    if (!answer.ok) return refused(await words(answer));
    say($("spoken"), "Run started");
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
    const { stopped, message } = await change(`agent/${encodeURIComponent(agentOf(open))}/stop/${encodeURIComponent(open.id)}`, "POST", {});
    if (!stopped) { open.stopping = false; tell(message); }
  } catch (error) { open.stopping = false; tell(`The run could not be stopped: ${error.message}`, true); }
}
