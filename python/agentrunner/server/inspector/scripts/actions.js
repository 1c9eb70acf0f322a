function send() {
  const text = $("message").value.trim();
  if (!thread.live && thread.fold.asking.length) { talk.pinned = true; document.querySelector(".answer :is(button.main, textarea:not([hidden]))")?.focus(); return; }
  if (!text || thread.live || $("send").disabled) return;
  $("message").value = "";
  start({ text });
}
$("ask").onsubmit = (submit) => { submit.preventDefault(); send(); };
$("stop").onclick = stop;
$("new").onclick = newThread;
$("search").oninput = list;
$("archived").onchange = list;
$("more").onclick = () => refresh(nextPage);
$("agent").onchange = () => { thread.agent = $("agent").value; draw(); };
$("notice").lastElementChild.onclick = () => tell("");
$("earlier").onclick = () => shift(-60);
$("later").onclick = () => shift(60);
$("run").onchange = () => pickRun(thread.runs[$("run").value], false);
$("replay").onclick = () => startReplay(thread.run);
$("form-raw").onclick = () => setForm("raw");
$("form-compacted").onclick = () => setForm("compacted");
$("tab-events").onclick = () => tab("events");
$("tab-state").onclick = () => tab("state");
$("close").onclick = () => { show($("detail"), false); $("events").focus(); };
show($("copy"), Boolean(navigator.clipboard));
$("copy").onclick = async () => { await navigator.clipboard.writeText(picked.text); say($("copy"), "Copied"); setTimeout(() => say($("copy"), "Copy"), 1200); };
$("play").onclick = toggle;
$("back").onclick = () => stepTo(replay.place - 1);
$("step").onclick = () => stepTo(replay.place + 1);
$("scrub").oninput = () => stepTo(Number($("scrub").value));
$("leave").onclick = leaveReplay;
$("help").onclick = () => $("keys").showModal();
for (const one of document.querySelectorAll(".panes button")) one.onclick = () => pane(one.dataset.pane);
$("talk").addEventListener("scroll", () => {
  const view = $("talk"), left = view.scrollHeight - view.scrollTop - view.clientHeight;
  // What came since it was drawn does not count: the end of what was drawn is the end.
  talk.pinned = talk.to === talk.drawn && left < 40;
  if (view.scrollTop < 150 && talk.from > 0) shift(-60);
  else if (left < 150 && talk.to < talk.drawn) shift(60);
}, { passive: true });

for (const kind of KINDS) {
  const chip = h("button", { style: `--c: var(--${kind})`, "aria-pressed": "false", onclick: () => {
    if (!timeline.only.delete(kind)) timeline.only.add(kind);
    timeline.frames = null;
    draw();
  } }, `${KIND_NAMES[kind] ?? kind} `, h("span", {}));
  chip.kind = kind;
  $("kinds").append(chip);
}

/** Renames, archives, deletes; what went wrong is said. */
async function mutate(work) {
  try { await work(thread.id); } catch (error) { tell(error.message, true); }
  refresh();
}
const at = (id) => `threads/${encodeURIComponent(id)}`;
function endRename() { show($("rename-to"), false); show($("title"), true); }
$("rename").onclick = () => {
  show($("title"), false);
  show($("rename-to"), true);
  $("rename-to").value = thread.record.name ?? "";
  $("rename-to").placeholder = titleOf(thread.id);
  $("rename-to").focus();
};
$("rename-to").onkeydown = (press) => {
  if (press.key !== "Enter") return;
  const name = $("rename-to").value.trim();
  endRename();
  mutate((id) => change(at(id), "PATCH", { agentId: thread.record.agentId, name: name || null }));
};
$("rename-to").onblur = endRename;
$("archive").onclick = () => mutate((id) => thread.record.archived ? change(at(id), "PATCH", { agentId: thread.record.agentId, archived: false })
  : change(`${at(id)}/archive`, "POST", { agentId: thread.record.agentId }));
$("delete").onclick = () => {
  say($("sure-about"), `“${titleOf(thread.id)}”, its ${count(thread.runs.length)} ${thread.runs.length === 1 ? "run" : "runs"} and everything in them go for good.`);
  $("sure").returnValue = "";
  $("sure").showModal();
};
$("sure").onclose = () => {
  if ($("sure").returnValue !== "delete") return;
  const { id, record } = thread;
  mutate(async () => { await change(at(id), "DELETE", { agentId: record.agentId }); known.delete(id); newThread(); });
};
