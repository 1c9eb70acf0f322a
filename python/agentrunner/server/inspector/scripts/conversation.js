/** The conversation. Only a window of its items is in the page: the newest, or those the user scrolled to. */
const talk = { nodes: new Map(), from: 0, to: 0, drawn: 0, pinned: true, epoch: 0, size: 140 };
function drawTalk() {
  const { items } = shownFold(), home = $("items");
  talk.drawn = items.length;
  if (talk.pinned || talk.to > items.length) {
    talk.to = items.length;
    // Remove many at once: each item that leaves at the top moves all the others.
    if (!talk.pinned || talk.to - talk.from > 100 || talk.from > talk.to) talk.from = Math.max(0, talk.to - 50);
  }
  else talk.to = Math.min(items.length, Math.max(talk.to, talk.from + talk.size));
  const rows = items.slice(talk.from, talk.to), kept = new Set();
  if (!items.length && thread.sent === null && thread.loaded && !replay) rows.push(intro());
  if (thread.sent !== null && !replay) rows.push({ kind: "ghost", key: "ghost", version: 0, text: thread.sent });
  let next = home.firstChild;
  for (const item of rows) {
    const look = `${talk.epoch} ${item.version} ${APPEARANCE[item.kind]?.(item) ?? ""}`;
    let node = talk.nodes.get(item.key);
    if (!node) talk.nodes.set(item.key, node = { element: h("div", {}) });
    if (node.look !== look) { node.look = look; paint(node, item); }
    if (node.element === next) next = next.nextSibling; else home.insertBefore(node.element, next);
    kept.add(item.key);
  }
  for (const [key, node] of talk.nodes) if (!kept.has(key)) { node.element.remove(); talk.nodes.delete(key); }
  const [before, after] = [talk.from, items.length - talk.to];
  setVisible($("earlier"), before > 0);
  setVisible($("later"), after > 0);
  if (before) setText($("earlier"), `${formatCount(before)} earlier`);
  if (after) setText($("later"), `${formatCount(after)} later`);
}
/** Moves the window and keeps the visible items in place. */
function moveWindow(by) {
  const { items } = shownFold(), view = $("talk");
  const anchor = by < 0 ? $("items").firstElementChild : $("items").lastElementChild, was = anchor?.getBoundingClientRect().top;
  talk.from = Math.max(0, Math.min(items.length - talk.size, talk.from + by));
  talk.to = Math.min(items.length, talk.from + talk.size);
  talk.pinned = false;
  drawTalk();
  if (anchor?.isConnected) view.scrollTop += anchor.getBoundingClientRect().top - was;
}
/** What an item's look depends on beside its content; it is painted again when this changes. */
const APPEARANCE = {
  message: ({ message: { toolCalls } }) => Array.isArray(toolCalls) && toolCalls.length ? `${thread.live} ${toolCalls.map((call) => isAsked(call, shownFold()))}` : "",
  run: ({ run }) => { const one = thread.runs[run]; return one && `${one.status} ${one.last} ${one.compact?.length} ${thread.run === one} ${replay?.run === one}`; },
  question: ({ asks }) => `${isOpen(asks)} ${asks.map((one) => `${JSON.stringify(thread.answers.get(one.id))} ${draftOf(one).mode} ${draftOf(one).wrong} ${isExpired(one)}`)}`,
  intro: () => `${Object.keys(agents)} ${$("agent").value}`,
};
const isAsked = (call, { asking }) => asking.some(({ toolCallId }) => toolCallId !== undefined && toolCallId === call?.id);
const isOpen = (asks) => !replay && !thread.live && thread.fold.asking[0]?.id === asks[0].id;
const aboutAgent = (id) => { const { description, className } = agents[id] ?? {}; return toOneLine(shorten(description || (/^[A-Z]/.test(className) && className) || "", 300)); };
const intro = () => ({ kind: "intro", key: "intro", version: 0 });

function paint(node, item) {
  const { element } = node, { message } = item;
  // Text that grows is the common case: append only the new part.
  const plain = item.kind === "message" && typeof message.content === "string" && !message.toolCalls?.length && message.role !== "activity" && message.role !== "tool";
  if (plain && node.text?.isConnected && node.epoch === talk.epoch && message.content.length >= node.length && message.content.length < MAX_CHARACTERS) {
    if (message.content.length > node.length) node.text.appendData(message.content.slice(node.length));
    node.length = message.content.length;
    node.said.className = item.open ? "said open" : "said";
    return;
  }
  node.text = null;
  element.className = `item ${item.kind}`;
  element.dataset.role = message?.role ?? "";
  element.replaceChildren(...PAINT[item.kind](item));
  if (plain && message.content.length < MAX_CHARACTERS) {
    const said = element.querySelector(".said");
    if (!said.firstChild) said.append(document.createTextNode(""));
    Object.assign(node, { said, text: said.firstChild, length: message.content.length, epoch: talk.epoch });
  }
}
const row = (who, ...what) => [h("div", { class: "who", title: who }, who), h("div", { class: "what" }, what)];
const box = (mark, top, ...parts) => h("div", { class: "box", style: `--mark: var(--${mark})` }, h("div", { class: "top" }, top), parts);
// Every scrolling element costs a compositing layer, so only long ones scroll.
const part = (name, text) => h("div", { class: text.length > 500 || text.split("\n").length > 9 ? "part long" : "part" }, h("span", { class: "dim" }, name), h("pre", {}, truncate(text)));

const PAINT = {
  message({ message, open }) {
    const { role, content, toolCalls } = message, who = message.name ? String(message.name) : String(role);
    if (role === "activity") return row("activity", box("activity", h("b", {}, String(message.activityType)), h("div", { class: "part", style: "display: block" }, buildTree(content))));
    if (role === "tool") return row("tool", box("tool", h("b", {}, String(message.toolCallId)), part("result", toText(content))));
    const text = typeof content === "string" ? content : Array.isArray(content) ? content.map((one) => one?.type === "text" ? one.text : `[${one?.type ?? "?"}]`).join("\n") : content == null ? "" : toText(content);
    const calls = (Array.isArray(toolCalls) ? toolCalls : []).map((call) => paintCall(call));
    const words = text || !calls.length ? h("div", { class: open ? "said open" : "said" }, truncate(text)) : null;
    return row(!text && calls.length ? "tool" : who, words, calls);
  },
  run({ run: number }) {
    const run = thread.runs[number];
    if (!run) return [];
    const raw = run.last - run.first + 1, made = run.compact ? ` → ${formatCount(run.compact.length)}` : "";
    return [
      h("button", { class: "which", title: "Show its events", onclick: () => pickRun(run, true) }, `Run ${number + 1}`),
      h("span", { class: run.status }, STATUS[run.status]),
      h("span", {}, `${formatCount(raw)}${made} ${raw === 1 ? "event" : "events"}`),
      run.took !== null && h("span", {}, run.took < 1000 ? `${Math.round(run.took)} ms` : `${(run.took / 1000).toFixed(run.took < 10_000 ? 2 : 1)} s`),
      run.ended && h("button", { class: "plain replay", onclick: () => startReplay(run) }, replay?.run === run ? "Replaying" : "Replay"),
    ].filter(Boolean);
  },
  note: ({ text }) => row("", truncate(toOneLine(text), 500)),
  ghost: ({ text }) => text ? [...row("user", h("div", { class: "said" }, truncate(text)))] : row("", "Sending the answer"),
  error({ text, code }) {
    const error = box("error", [h("b", {}, code ? String(code) : "error")], h("p", {}, truncate(text)));
    error.classList.add("error");
    return row("error", error);
  },
  question: ({ asks }) => row(asks.every(isApproval) ? "approval" : "question", asks.map((one) => paintQuestion(one, asks))),
  intro() {
    const ids = Object.keys(agents);
    if (thread.record && !thread.record.local) return [h("p", {}, "This thread has no stored events.")];
    return [
      h("h3", {}, "Run an agent and watch every event"),
      h("p", {}, "Type a message below and press Enter. The conversation grows here; on the right, each event as the server stores it, raw and compacted, and the state that results. Close the page during a run, or kill the server: the thread will be here when you come back."),
      h("ul", { "aria-label": "Agents" }, ids.map((id) => h("li", {}, h("button", { "aria-pressed": String(id === $("agent").value), onclick: () => { $("agent").value = thread.agent = id; $("message").focus(); draw(); } },
        h("b", {}, id), h("span", { class: "dim" }, aboutAgent(id)))))),
      h("p", { class: "keys" }, "Everything works from the keyboard: ", h("kbd", {}, "?"), " lists the keys.")];
  },
};

function paintCall(call) {
  const fold = shownFold(), found = fold.calls.get(call?.id), result = found?.result?.message, name = String(call?.function?.name ?? "");
  let given = String(call?.function?.arguments ?? "");
  if (!found?.open && given.length < 20_000) try { given = JSON.stringify(JSON.parse(given), null, given.length > 60 ? 2 : 0); } catch { /* shown as text */ }
  const doing = result ? "done" : found?.open ? "receiving arguments" : isAsked(call, fold) ? "waits for approval" : thread.live || replay ? "called" : "no result";
  return box("tool", [h("b", {}, name), h("span", { class: "end" }, doing)], given && part("args", given), result && part("result", toText(result.content)));
}
