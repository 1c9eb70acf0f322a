/** Builds a tree of JSON. What differs from `old` is marked, and what differs from `last` is bold. */
function buildTree(value, options = {}) {
  options = { opened: new Map(), deep: 3, ...options };
  if (!isObject(value) || !Object.keys(value).length) return h("div", { class: "tree" }, buildBranch(null, value, "", options, options.old, options.last));
  const root = h("div", { class: "tree" });
  fillTree(root, value, "", options, options.old, options.last);
  return root;
}
/** Adds the members of an object or array, 200 at a time. */
function fillTree(node, value, path, options, old, last, from = 0) {
  const keys = Object.keys(value), of = (some, key) => isObject(some) && Object.hasOwn(some, key) ? some[key] : NOTHING;
  const deeper = { ...options, deep: options.deep - 1 };
  node.append(...keys.slice(from, from + 200).map((key) => buildBranch(key, value[key], `${path}/${key}`, deeper, of(old, key), of(last, key))));
  if (keys.length > from + 200) node.append(h("button", { class: "plain", onclick: (click) => { click.target.remove(); fillTree(node, value, path, options, old, last, from + 200); } }, `${formatCount(keys.length - from - 200)} more`));
}
const NOTHING = Symbol("nothing");
function buildBranch(key, value, path, options, old, last) {
  const label = key === null ? null : h("span", { class: "k" }, `${truncate(key, 300)}: `);
  const changed = options.compare && !isEqual(value, old), now = options.compare && !isEqual(value, last);
  const marks = `${changed ? " changed" : ""}${now ? " now" : ""}`;
  if (!isObject(value)) {
    const kind = typeof value === "string" ? "s" : typeof value === "number" ? "n" : "l";
    const was = changed && old !== NOTHING && !isObject(old) ? h("span", { class: "was" }, ` was ${truncate(JSON.stringify(old) ?? "nothing", 120)}`) : null;
    return h("div", { class: `leaf${now ? " now" : ""}` }, label, h("span", { class: kind + (changed ? " changed" : "") }, truncate(JSON.stringify(value) ?? "undefined")), was);
  }
  const keys = Object.keys(value), list = Array.isArray(value), size = `${keys.length} ${list ? (keys.length === 1 ? "item" : "items") : keys.length === 1 ? "key" : "keys"}`;
  if (!keys.length) return h("div", { class: "leaf" }, label, h("span", { class: `dim${marks}` }, list ? "[]" : "{}"));
  const node = h("details", {}, h("summary", { class: now && changed ? "now" : "" }, label, h("span", { class: "dim" }, list ? `[${size}]` : `{${size}}`)));
  const fill = () => { if (node.childElementCount === 1) fillTree(node, value, path, options, old, last); };
  node.open = options.opened.get(path) ?? (options.deep > 0 && keys.length <= 60);
  if (node.open) fill();
  node.ontoggle = () => { options.opened.set(path, node.open); if (node.open) fill(); };
  return node;
}
