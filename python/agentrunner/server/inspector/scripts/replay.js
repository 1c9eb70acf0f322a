let replay = null;

/** Replays the events of a run, raw if the server still has them, on top of what was before the run. */
async function startReplay(run) {
  if (!run?.ended) return;
  leaveReplay();
  const open = thread;
  pickRun(run, false);
  const raw = await loadRaw(open, run);
  if (open !== thread || !run.ended) return;
  const frames = raw ?? run.frames, base = new Fold();
  for (const one of open.runs.slice(0, run.number)) for (const { event } of one.frames) base.push(event, one.number);
  replay = { run, frames, base, form: raw ? "raw" : "compacted", fold: base.clone(), place: 0, playing: false, clock: 0, times: timesOf(frames) };
  Object.assign($("scrub"), { max: frames.length, value: 0 });
  talk.epoch++;
  talk.pinned = true;
  setVisible($("ask"), false);
  setVisible($("player"), true);
  showPane("talk");
  setText($("replaying"), `Run ${run.number + 1}, ${raw ? "raw events" : "compacted: the raw events are gone"}`);
  seek(1);
  play();
  $("play").focus();
}
function leaveReplay() {
  if (!replay) return;
  replay = null;
  talk.epoch++;
  talk.pinned = true;
  events.draw();
  setVisible($("player"), false);
  setVisible($("ask"), true);
  draw();
}
/** Returns when to show each event, in ms: as it arrived if that is known, else by its kind; pauses are shortened, to 20 s in all. */
function timesOf(frames) {
  let at = 0;
  const times = frames.map(({ event, at: came }, index) => {
    const known = came ?? event.timestamp, before = frames[index - 1]?.at ?? frames[index - 1]?.event.timestamp;
    return at += index === 0 ? 0 : known !== undefined && before !== undefined ? Math.max(0, Math.min(known - before, 1500)) : typeof event.delta === "string" ? 25 : 120;
  });
  const scale = Math.min(1, 20_000 / at || 1);
  return times.map((time) => time * scale);
}
function seek(place) {
  place = Math.max(0, Math.min(replay.frames.length, place));
  if (place < replay.place) { replay.fold = replay.base.clone(); replay.place = 0; }
  for (; replay.place < place; replay.place++) replay.fold.push(replay.frames[replay.place].event, replay.run.number);
  replay.clock = place ? replay.times[place - 1] : 0;
  talk.pinned = true;
  drawPlayer();
  draw();
}
function drawPlayer() {
  $("scrub").value = replay.place;
  $("scrub").ariaValueText = `event ${replay.place} of ${replay.frames.length}`;
  setText($("place"), `${formatCount(replay.place)} / ${formatCount(replay.frames.length)}`);
  $("play").querySelector("path").setAttribute("d", replay.playing ? PAUSE : PLAY);
  $("play").ariaLabel = replay.playing ? "Pause" : "Play";
  $("play").title = `${$("play").ariaLabel} (space)`;
}
function play() {
  const mine = replay;
  if (mine.place >= mine.frames.length) seek(0);
  mine.playing = true;
  let last = performance.now();
  const turn = (now) => {
    if (replay !== mine || !mine.playing) return;
    const clock = mine.clock + Math.max(0, now - last) * Number($("speed").value);
    last = now;
    let place = mine.place;
    while (place < mine.frames.length && mine.times[place] <= clock) place++;
    if (place !== mine.place) seek(place);
    mine.clock = clock;
    if (place >= mine.frames.length) pause(); else requestAnimationFrame(turn);
  };
  requestAnimationFrame(turn);
  drawPlayer();
}
function pause() { replay.playing = false; drawPlayer(); }
const toggle = () => replay.playing ? pause() : play();
const stepTo = (place) => { pause(); seek(place); };
