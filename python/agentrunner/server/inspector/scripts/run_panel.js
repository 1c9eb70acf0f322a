function drawState() {
  const { run } = thread, { state, before, started } = replay ? replay.fold.states : run?.state ?? thread.fold.states;
  const live = thread.live && !replay, wait = stateAt + 120 - performance.now(), place = replay?.place;
  if (stateDrawn && stateDrawn.state === state && stateDrawn.before === before && stateDrawn.run === run && stateDrawn.place === place) return;
  // Drawing a large state sixty times a second would block the page.
  if (live && wait > 0) { setTimeout(draw, wait); return; }
  stateDrawn = { state, before, run, place };
  stateAt = performance.now();
  const empty = (some) => isObject(some) && !Object.keys(some).length;
  // If there was no state before, all of it is new: mark only what changed after that.
  const old = !empty(started) ? started : empty(before) ? state : before, last = empty(before) ? state : before;
  const where = replay ? `After event ${formatCount(place)}` : run ? `After run ${run.number + 1}` : "";
  setText($("state-about"), empty(state) ? "No state: STATE_SNAPSHOT and STATE_DELTA events set it."
    : `${where}. ${isEqual(state, old) ? "" : "Marked: changed by this run. "}Bold: changed by the last event.`);
  $("state").replaceChildren(empty(state) ? "" : buildTree(state, { compare: true, old, last, opened: stateOpened }));
}

function pickRun(run, look) {
  if (replay && replay.run !== run) leaveReplay();
  thread.picked = run === thread.runs.at(-1) ? null : run;
  if (look) { showPane("run"); showTab("events"); }
  loadCompact(thread, run);
  draw();
}
function pickEvent(index, look) {
  const frame = timeline.frames[timeline.rows[index]];
  if (replay) { pause(); seek(timeline.rows[index] + 1); }
  events.follow = false;
  if (!look && $("detail").hidden) return;
  picked = frame;
  setText($("detail-type"), String(frame.event.type));
  setText($("detail-about"), `${frame.cursor} · ${formatSize(bytesOf([frame]))}`);
  $("detail-json").replaceChildren(buildTree(frame.event, { deep: 2 }));
  $("detail-json").scrollTop = 0;
  setVisible($("detail"), true);
  events.go(index);
}
async function setForm(form) {
  const { run } = thread, open = thread;
  if (!run || (form === "compacted" && $("form-compacted").disabled)) return;
  if (replay) leaveReplay();
  if (form === "raw" && !(await loadRaw(open, run))) return draw();
  if (form === "compacted") await loadCompact(open, run);
  run.form = form;
  draw();
}
function showTab(name) {
  for (const one of ["events", "state"]) {
    $(`tab-${one}`).ariaSelected = one === name;
    $(`tab-${one}`).tabIndex = one === name ? 0 : -1;
    setVisible($(`${one}-panel`), one === name);
  }
  draw();
}
/** Shows one pane; narrow screens have room for only one. */
function showPane(name) {
  document.body.dataset.pane = name;
  for (const one of document.querySelectorAll(".panes button")) one.ariaSelected = one.dataset.pane === name;
}
