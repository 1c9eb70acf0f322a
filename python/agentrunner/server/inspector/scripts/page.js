let drawing = false;
/** Draws in the next animation frame, once, however much happened before it. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    drawHead();
    drawTalk();
    drawRun();
    // Scrolling asks for the layout: once, after all that changes it.
    if (talk.pinned) $("talk").scrollTop = talk.drawn ? 1e9 : 0;
    events.scroll();
  });
}
const shown = () => replay?.fold ?? thread.fold;

function drawHead() {
  const { record, live, notice } = thread, [dot, said] = $("link").children;
  dot.className = `dot${lost ? " lost" : live ? " live" : ""}`;
  say(said, lost || (live ? (thread.stopping ? "Stopping" : "Live") : "Idle"));
  if (!titles.get(thread.id) && thread.fold.messages.length) titles.set(thread.id, firstWords(thread.fold.messages.map(({ message }) => message)));
  const title = thread.runs.length || record ? line(titleOf(thread.id)) : "New thread";
  say($("title"), title);
  document.title = `${live ? "● " : ""}${title.slice(0, 60)} – agentrunner`;
  say($("thread-agent"), record ? thread.agent : "");
  show($("verbs"), Boolean(record && !record.local));
  say($("archive"), record?.archived ? "Unarchive" : "Archive");
  show($("notice"), Boolean(notice));
  $("notice").classList.toggle("bad", thread.bad);
  say($("notice").firstChild, notice);
  show($("stop"), live);
  $("stop").disabled = thread.stopping;
  say($("stop"), thread.stopping ? "Stopping" : "Stop");
  show($("send"), !live);
  const waits = thread.fold.asking.length > 0 && !live;
  $("send").disabled = !Object.keys(agents).length;
  $("message").placeholder = waits ? "Answer the question first; Enter goes there" : live ? "The run is live; s or Escape stops it" : "Type a message, Enter runs it";
  say($("about"), aboutAgent($("agent").value));
}
