let drawing = false;
/** Draws once in the next animation frame, however much has changed. */
function draw() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => {
    drawing = false;
    drawHead();
    drawTalk();
    drawRun();
    // Scrolling forces a layout: do it once, after all changes.
    if (talk.pinned) $("talk").scrollTop = talk.drawn ? 1e9 : 0;
    events.scroll();
  });
}
const shownFold = () => replay?.fold ?? thread.fold;

function drawHead() {
  const { record, live, notice } = thread, [dot, said] = $("link").children;
  dot.className = `dot${lost ? " lost" : live ? " live" : ""}`;
  setText(said, lost || (live ? (thread.stopping ? "Stopping" : "Live") : "Idle"));
  if (!titles.get(thread.id) && thread.fold.messages.length) titles.set(thread.id, firstWords(thread.fold.messages.map(({ message }) => message)));
  const title = thread.runs.length || record ? toOneLine(titleOf(thread.id)) : "New thread";
  setText($("title"), title);
  document.title = `${live ? "● " : ""}${title.slice(0, 60)} – agentrunner`;
  setText($("thread-agent"), record ? thread.agent : "");
  setVisible($("verbs"), Boolean(record && !record.local));
  setText($("archive"), record?.archived ? "Unarchive" : "Archive");
  setVisible($("notice"), Boolean(notice));
  $("notice").classList.toggle("bad", thread.bad);
  setText($("notice").firstChild, notice);
  setVisible($("stop"), live);
  $("stop").disabled = thread.stopping;
  setText($("stop"), thread.stopping ? "Stopping" : "Stop");
  setVisible($("send"), !live);
  const waits = thread.fold.asking.length > 0 && !live;
  $("send").disabled = !Object.keys(agents).length;
  $("message").placeholder = waits ? "Answer the question first; Enter jumps to it" : live ? "The run is live; s or Escape stops it" : "Type a message, Enter runs it";
  setText($("about"), aboutAgent($("agent").value));
}
