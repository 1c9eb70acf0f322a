/** Applies a JSON Patch. Returns a new document that shares the unchanged parts; on an error the old one stays as it was. */
function applyPatch(document, operations) {
  const tokens = (pointer) => pointer === "" ? [] : pointer.slice(1).split("/").map((token) => token.replaceAll("~1", "/").replaceAll("~0", "~"));
  const has = (node, key) => isObject(node) && (Array.isArray(node) ? /^\d+$/.test(key) && +key < node.length : Object.hasOwn(node, key));
  const at = (node, path) => path.reduce((inner, key) => { if (!has(inner, key)) throw new Error(`nothing at ${key}`); return inner[key]; }, node);
  const put = (node, key, value) => Object.defineProperty(node, key, { value, writable: true, enumerable: true, configurable: true });
  const edit = (node, [key, ...rest], change) => {
    if (!isObject(node)) throw new Error("neither array nor object");
    const copy = Array.isArray(node) ? [...node] : { ...node };
    if (rest.length) put(copy, key, edit(at(node, [key]), rest, change));
    else change(copy, key);
    return copy;
  };
  const add = (path, value) => path.length ? edit(document, path, (node, key) => {
    if (!Array.isArray(node)) return put(node, key, value);
    if (key !== "-" && !(/^\d+$/.test(key) && +key <= node.length)) throw new Error(`no index: ${key}`);
    node.splice(key === "-" ? node.length : +key, 0, value);
  }) : value;
  const remove = (path) => path.length ? edit(document, path, (node, key) => Array.isArray(node) ? node.splice(+key, 1) : delete node[key]) : null;
  for (const { op, path: pointer, from, value } of operations) {
    const path = tokens(pointer);
    if (op !== "add" && op !== "copy" && op !== "move") at(document, path);
    if (op === "add") document = add(path, value);
    else if (op === "remove") document = remove(path);
    else if (op === "replace") document = path.length ? edit(document, path, (node, key) => put(node, key, value)) : value;
    else if (op === "copy") document = add(path, at(document, tokens(from)));
    else if (op === "move") { const moved = at(document, tokens(from)); document = remove(tokens(from)); document = add(path, moved); }
    else if (op !== "test" || !isEqual(at(document, path), value)) throw new Error(`${op} failed`);
  }
  return document;
}
