const $ = (id) => document.getElementById(id);
const PLAY = "M4.5 3v10l8-5z", PAUSE = "M4 3h3v10H4zM9 3h3v10H9z";
const MAX_CHARACTERS = 100_000;

/** Creates an element. Strings become text nodes. No attribute but `title` may hold content of a thread. */
function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) element[name] = value;
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}
const setText = (element, text) => { if (element.textContent !== text) element.textContent = text; };
const setVisible = (element, shown) => { if (element.hidden === shown) element.hidden = !shown; };
const formatCount = (number) => number.toLocaleString("en");
const truncate = (text, most = MAX_CHARACTERS) => text.length > most ? `${text.slice(0, most)}\n… ${formatCount(text.length - most)} more characters` : text;
const shorten = (text, most) => text.length > most ? `${text.slice(0, most - 1)}…` : text;
const toOneLine = (text) => text.replace(/[\n\r\t\u2028\u2029]+/g, " ");
const toText = (value) => typeof value === "string" ? value : JSON.stringify(value, null, 2) ?? "";
const formatSize = (bytes) => bytes < 1000 ? `${bytes} B` : bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
const isObject = (value) => value !== null && typeof value === "object";
const remember = (key, value) => { try { localStorage.setItem(`agentrunner.${key}`, value); } catch { /* storage is blocked */ } };
const recall = (key) => { try { return localStorage.getItem(`agentrunner.${key}`); } catch { return null; } };

function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();  // Only on https and on localhost.
  return "10000000-1000-4000-8000-100000000000".replace(/[018]/g, (digit) =>
    (+digit ^ crypto.getRandomValues(new Uint8Array(1))[0] & 15 >> +digit / 4).toString(16));
}

function formatAge(iso) {
  const seconds = (Date.now() - Date.parse(iso)) / 1000;
  if (!(seconds >= 45)) return "now";
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h`;
  if (seconds < 86400 * 6) return `${Math.round(seconds / 86400)} d`;
  return new Date(iso).toLocaleDateString(undefined, { day: "numeric", month: "short", year: "2-digit" });
}

function isEqual(a, b) {
  if (a === b) return true;
  if (!isObject(a) || !isObject(b) || Array.isArray(a) !== Array.isArray(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && isEqual(a[key], b[key]));
}

/** Waits for the next animation frame; a hidden page has none, so it waits a moment. */
const nextFrame = () => new Promise((go) => document.hidden ? setTimeout(go, 50) : requestAnimationFrame(go));
const sleep = (ms, signal) => new Promise((go) => { setTimeout(go, ms); signal?.addEventListener("abort", go); });
