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
$("search").oninput = drawThreadList;
$("archived").onchange = drawThreadList;
$("more").onclick = () => refresh(nextPage);
$("agent").onchange = () => { thread.agent = $("agent").value; draw(); };
$("notice").lastElementChild.onclick = () => setNotice("");
$("earlier").onclick = () => moveWindow(-60);
$("later").onclick = () => moveWindow(60);
$("run").onchange = () => pickRun(thread.runs[$("run").value], false);
$("replay").onclick = () => startReplay(thread.run);
$("form-raw").onclick = () => setForm("raw");
$("form-compacted").onclick = () => setForm("compacted");
$("tab-events").onclick = () => showTab("events");
$("tab-state").onclick = () => showTab("state");
$("close").onclick = () => { setVisible($("detail"), false); $("events").focus(); };
setVisible($("copy"), Boolean(navigator.clipboard));
$("copy").onclick = async () => { await navigator.clipboard.writeText(picked.text); setText($("copy"), "Copied"); setTimeout(() => setText($("copy"), "Copy"), 1200); };
$("play").onclick = toggle;
$("back").onclick = () => stepTo(replay.place - 1);
$("step").onclick = () => stepTo(replay.place + 1);
$("scrub").oninput = () => stepTo(Number($("scrub").value));
$("leave").onclick = leaveReplay;
$("help").onclick = () => $("keys").showModal();
for (const one of document.querySelectorAll(".panes button")) one.onclick = () => showPane(one.dataset.pane);
$("talk").addEventListener("scroll", () => {
  const view = $("talk"), left = view.scrollHeight - view.scrollTop - view.clientHeight;
  // Items that arrived since the last drawing do not count yet.
  talk.pinned = talk.to === talk.drawn && left < 40;
  if (view.scrollTop < 150 && talk.from > 0) moveWindow(-60);
  else if (left < 150 && talk.to < talk.drawn) moveWindow(60);
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

/** Renames, archives or deletes the thread, and shows an error if that fails. */
async function mutate(work) {
  try { await work(thread.id); } catch (error) { setNotice(error.message, true); }
  refresh();
}
const threadPath = (id) => `threads/${encodeURIComponent(id)}`;
function endRename() { setVisible($("rename-to"), false); setVisible($("title"), true); }
$("rename").onclick = () => {
  setVisible($("title"), false);
  setVisible($("rename-to"), true);
  $("rename-to").value = thread.record.name ?? "";
  $("rename-to").placeholder = titleOf(thread.id);
  $("rename-to").focus();
};
$("rename-to").onkeydown = (press) => {
  if (press.key !== "Enter") return;
  const name = $("rename-to").value.trim();
  endRename();
  mutate((id) => sendChange(threadPath(id), "PATCH", { agentId: thread.record.agentId, name: name || null }));
};
$("rename-to").onblur = endRename;
$("archive").onclick = () => mutate((id) => thread.record.archived ? sendChange(threadPath(id), "PATCH", { agentId: thread.record.agentId, archived: false })
  : sendChange(`${threadPath(id)}/archive`, "POST", { agentId: thread.record.agentId }));
$("delete").onclick = () => {
  setText($("sure-about"), `“${titleOf(thread.id)}”, with its ${formatCount(thread.runs.length)} ${thread.runs.length === 1 ? "run" : "runs"}, will be deleted permanently.`);
  $("sure").returnValue = "";
  $("sure").showModal();
};
$("sure").onclose = () => {
  if ($("sure").returnValue !== "delete") return;
  const { id, record } = thread;
  mutate(async () => { await sendChange(threadPath(id), "DELETE", { agentId: record.agentId }); known.delete(id); newThread(); });
};
