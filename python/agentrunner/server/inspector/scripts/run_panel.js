function drawState() {
  const { run } = thread, { state, before, started } = replay ? replay.fold.states : run?.state ?? thread.fold.states;
  const live = thread.live && !replay, wait = stateAt + 120 - performance.now(), place = replay?.place;
  if (stateDrawn && stateDrawn.state === state && stateDrawn.before === before && stateDrawn.run === run && stateDrawn.place === place) return;
  // A large state that changes all the time is not written sixty times a second.
  if (live && wait > 0) { setTimeout(draw, wait); return; }
  stateDrawn = { state, before, run, place };
  stateAt = performance.now();
  const empty = (some) => isObject(some) && !Object.keys(some).length;
  // Where there was nothing before, all of it is new: then only what came after that is marked.
  const old = !empty(started) ? started : empty(before) ? state : before, last = empty(before) ? state : before;
  const where = replay ? `After event ${count(place)}` : run ? `After run ${run.number + 1}` : "";
  say($("state-about"), empty(state) ? "No state: STATE_SNAPSHOT and STATE_DELTA events make it."
    : `${where}. ${same(state, old) ? "" : "Marked: changed by this run. "}Bold: by the last change.`);
  $("state").replaceChildren(empty(state) ? "" : tree(state, { compare: true, old, last, opened: stateOpened }));
}

function pickRun(run, look) {
  if (replay && replay.run !== run) leaveReplay();
  thread.picked = run === thread.runs.at(-1) ? null : run;
  if (look) { pane("run"); tab("events"); }
  loadCompact(thread, run);
  draw();
}
function pickEvent(index, look) {
  const frame = timeline.frames[timeline.rows[index]];
  if (replay) { pause(); seek(timeline.rows[index] + 1); }
  events.follow = false;
  if (!look && $("detail").hidden) return;
  picked = frame;
  say($("detail-type"), String(frame.event.type));
  say($("detail-about"), `${frame.cursor} · ${sizeOf(bytesOf([frame]))}`);
  $("detail-json").replaceChildren(tree(frame.event, { deep: 2 }));
  $("detail-json").scrollTop = 0;
  show($("detail"), true);
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
function tab(name) {
  for (const one of ["events", "state"]) {
    $(`tab-${one}`).ariaSelected = one === name;
    $(`tab-${one}`).tabIndex = one === name ? 0 : -1;
    show($(`${one}-panel`), one === name);
  }
  draw();
}
/** On a narrow screen: the pane that is seen. */
function pane(name) {
  document.body.dataset.pane = name;
  for (const one of document.querySelectorAll(".panes button")) one.ariaSelected = one.dataset.pane === name;
}
