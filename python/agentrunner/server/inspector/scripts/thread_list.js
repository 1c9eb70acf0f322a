const threads = new List($("threads"), {
  height: 48,
  pick: (index) => { openThread(listed[index].id); pane("talk"); },
  move: (index) => openThread(listed[index].id),
  fill(row, index) {
    const one = listed[index];
    if (!one.name) wantTitle(one.id);
    row.className = `row thread-row${one.archived ? " archived" : ""}`;
    row.replaceChildren(
      h("b", { class: "clip" }, titleOf(one.id)), one.running ? h("i", { class: "dot live", title: "running" }) : h("i"),
      h("span", { class: "clip" }, one.archived ? `${one.agentId} · archived` : one.agentId), h("span", {}, one.running ? "running" : ago(one.updatedAt)));
  },
});

/** Works out which threads are shown, and writes them. */
let shownAs = 0;
function list() {
  const search = $("search").value.trim().toLowerCase(), archived = $("archived").checked;
  const live = (one) => one.running || (thread?.id === one.id && thread.live);
  listed = [...known.values()].map((one) => ({ ...one, running: live(one) }))
    .filter((one) => (archived || !one.archived || one.id === thread?.id) && (!search || `${titleOf(one.id)} ${one.id} ${one.agentId}`.toLowerCase().includes(search)))
    .sort((a, b) => b.running - a.running || (a.updatedAt < b.updatedAt ? 1 : a.updatedAt > b.updatedAt ? -1 : a.id < b.id ? -1 : 1));
  threads.active = listed.findIndex(({ id }) => id === thread?.id);
  threads.set(listed.length, ++shownAs);
  show($("no-threads"), !listed.length);
  say($("no-threads"), search ? "No thread matches." : known.size ? "All threads are archived." : "No threads yet. A message starts the first.");
  say($("count"), `${count(listed.length)}${nextPage ? "+" : ""}`);
  show($("more"), Boolean(nextPage));
}
