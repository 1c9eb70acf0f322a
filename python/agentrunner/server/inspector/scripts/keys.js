document.addEventListener("keydown", (press) => {
  const { key, target } = press;
  if (press.ctrlKey || press.metaKey || press.altKey || document.querySelector("dialog[open]")) return;
  const writes = target.matches("textarea, select, input:not([type=checkbox], [type=range])"), slides = target.matches("[type=range]");
  const done = () => press.preventDefault();
  if (key === "Escape") {
    if (target === $("rename-to")) endRename();
    else if (target.matches("select, [type=search]")) target.blur();
    else if (replay) leaveReplay();
    else if (thread.live) stop();
    else if (!$("detail").hidden) setVisible($("detail"), false);
    else target.blur();
    return done();
  }
  if (target === $("message") && key === "Enter" && !press.shiftKey && !press.isComposing) {
    send();
    return done();
  }
  if (target === $("search") && (key === "ArrowDown" || key === "Enter")) {
    $("threads").focus();
    threads.key(key === "Enter" && threads.active < 0 ? "j" : key);
    return done();
  }
  if (writes) return;
  if (target.matches("[role=tab]") && (key === "ArrowLeft" || key === "ArrowRight")) {
    const tabs = [...target.parentElement.children], next = tabs[(tabs.indexOf(target) + 1) % tabs.length];
    next.click();
    next.focus();
    return done();
  }
  if (replay && !target.matches(".list")) {
    const { place, frames } = replay;
    const act = { " ": toggle, ...(!slides && { ArrowLeft: () => stepTo(place - 1), ArrowRight: () => stepTo(place + 1), Home: () => stepTo(0), End: () => stepTo(frames.length) }) }[key];
    if (act && !(key === " " && target.matches("button") && target !== $("play"))) { act(); return done(); }
  }
  if (target.matches(".list")) {
    if (replay && { " ": toggle, ArrowLeft: () => stepTo(replay.place - 1), ArrowRight: () => stepTo(replay.place + 1) }[key]?.() === undefined && /^( |ArrowLeft|ArrowRight)$/.test(key)) return done();
    if ((target === $("threads") ? threads : events).key(key)) return done();
  } else if (/^[jk]$/.test(key)) {
    (List.used ?? threads).element.focus();
    List.used.key(key);
    return done();
  }
  const { runs, run } = thread;
  const act = {
    "/": () => { showPane("threads"); $("search").focus(); $("search").select(); },
    n: newThread,
    i: () => { showPane("talk"); $("message").focus(); },
    t: () => { showPane("threads"); $("threads").focus(); },
    v: () => { showPane("run"); showTab("events"); $("events").focus(); if (events.active < 0) events.key("Home"); },
    s: stop,
    r: () => replay ? leaveReplay() : startReplay(run),
    e: () => showTab($("tab-state").ariaSelected === "true" ? "events" : "state"),
    c: () => run && setForm(formOf(run) === "raw" ? "compacted" : "raw"),
    "[": () => run?.number > 0 && pickRun(runs[run.number - 1], false),
    "]": () => run && run.number + 1 < runs.length && pickRun(runs[run.number + 1], false),
    "?": () => $("keys").showModal(),
  }[key];
  if (act) { act(); done(); }
});
