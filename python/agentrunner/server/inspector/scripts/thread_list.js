const threads = new List($("threads"), {
  height: 48,
  pick: (index) => { openThread(listed[index].id); showPane("talk"); },
  move: (index) => openThread(listed[index].id),
  fill(row, index) {
    const one = listed[index];
    if (!one.name) requestTitle(one.id);
    row.className = `row thread-row${one.archived ? " archived" : ""}`;
    row.replaceChildren(
      h("b", { class: "clip" }, titleOf(one.id)), one.running ? h("i", { class: "dot live", title: "running" }) : h("i"),
      h("span", { class: "clip" }, one.archived ? `${one.agentId} · archived` : one.agentId), h("span", {}, one.running ? "running" : formatAge(one.updatedAt)));
  },
});

/** Selects the threads to show, and draws them. */
let shownAs = 0;
function drawThreadList() {
  const search = $("search").value.trim().toLowerCase(), archived = $("archived").checked;
  const live = (one) => one.running || (thread?.id === one.id && thread.live);
  listed = [...known.values()].map((one) => ({ ...one, running: live(one) }))
    .filter((one) => (archived || !one.archived || one.id === thread?.id) && (!search || `${titleOf(one.id)} ${one.id} ${one.agentId}`.toLowerCase().includes(search)))
    .sort((a, b) => b.running - a.running || (a.updatedAt < b.updatedAt ? 1 : a.updatedAt > b.updatedAt ? -1 : a.id < b.id ? -1 : 1));
  threads.active = listed.findIndex(({ id }) => id === thread?.id);
  threads.set(listed.length, ++shownAs);
  setVisible($("no-threads"), !listed.length);
  setText($("no-threads"), search ? "No thread matches." : known.size ? "All threads are archived." : "No threads yet. Send a message to start one.");
  setText($("count"), `${formatCount(listed.length)}${nextPage ? "+" : ""}`);
  setVisible($("more"), Boolean(nextPage));
}
