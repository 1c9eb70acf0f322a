function openThread(id, agent) {
  if (thread?.id === id) return;
  leaveReplay();
  thread?.following?.abort();
  thread = new Thread(id, agent ?? known.get(id)?.agentId ?? "default");
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
  $("agent").value = agentOf(thread);
  resetView();
  follow(thread);
}
function newThread() {
  leaveReplay();
  thread?.following?.abort();
  const agent = recall("agent");
  thread = new Thread(newId(), agent in agents ? agent : "default" in agents ? "default" : Object.keys(agents)[0]);
  thread.loaded = true;
  history.replaceState(null, "", location.pathname);
  $("agent").value = thread.agent ?? "";
  resetView();
  showPane("talk");
  $("message").focus();
}
function resetView() {
  talk.epoch++;
  talk.pinned = true;
  picked = null;
  timeline.frames = null;
  events.follow = true;
  $("message").value = "";
  endRename();
  drawThreadList();
  draw();
}

/** Reads the first page of the thread list again, or with a cursor the next page. */
let refreshing = null, paged = false;
async function refresh(cursor = null) {
  clearTimeout(refreshing);
  try {
    if (!Object.keys(agents).length) await readInfo();
    const answer = await request(`threads?includeArchived=true&limit=50${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`);
    if (!answer.ok) throw new Error(await readError(answer));
    const page = await answer.json(), here = new Set(page.threads.map(({ id }) => id)), oldest = page.threads.at(-1)?.updatedAt;
    if (!cursor) for (const [id, one] of known) {
      // A thread that this page should have was deleted by another client. One in its first run is in no list yet.
      const covered = !page.nextCursor || one.updatedAt > oldest;
      if (!here.has(id) && covered && !one.local) known.delete(id);
    }
    for (const one of page.threads) known.set(one.id, one);
    paged ||= cursor !== null;
    if (cursor || !paged) nextPage = page.nextCursor;
    if (lost.startsWith("Server")) lost = "";
    const record = thread?.record;
    if (record && !record.local && thread.loaded && !thread.following && (record.running || record.updatedAt !== thread.seen)) {
      thread.seen = record.updatedAt;
      follow(thread);
    }
  } catch (error) { lost = `Server not reachable: ${error.message}`; }
  drawThreadList();
  draw();
  refreshing = setTimeout(refresh, document.hidden ? 15_000 : 2500);
}
async function readInfo() {
  const answer = await request("info");
  if (!answer.ok) throw new Error(await readError(answer));
  agents = (await answer.json()).agents;
  $("agent").replaceChildren(...Object.keys(agents).map((id) => h("option", { value: id }, id)));
  if (thread) $("agent").value = agentOf(thread);
}

/** Loads the first words of threads without a name from their first event, two threads at a time. */
const wanted = [];
let peeking = 0;
function requestTitle(id) {
  if (titles.has(id)) return;
  titles.set(id, "");
  wanted.push(id);
  while (peeking < 2 && wanted.length) loadTitle(wanted.shift());
}
async function loadTitle(id) {
  peeking++;
  const quit = new AbortController();
  try {
    const answer = await connect(new Thread(id, known.get(id)?.agentId), null, quit.signal);
    if (answer.ok) await readFrames(answer, ({ event }) => { titles.set(id, firstWords(event.input?.messages)); return false; });
  } catch { /* the id stays its title */ }
  quit.abort();
  peeking--;
  if (wanted.length) loadTitle(wanted.shift());
  drawThreadList();
}
function firstWords(messages) {
  const content = messages?.find?.((message) => message?.role === "user")?.content;
  return toOneLine(typeof content === "string" ? content : Array.isArray(content) ? content.find((part) => part?.type === "text")?.text ?? "" : "").trim().slice(0, 200);
}
const titleOf = (id) => known.get(id)?.name || titles.get(id) || id.slice(0, 64);
