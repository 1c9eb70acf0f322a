const BASE = location.pathname.slice(0, location.pathname.lastIndexOf("/") + 1);
let token = sessionStorage.getItem("agentrunner.token");

/** Asks the server; where that wants to know who asks, the user first. */
async function ask(path, { method = "GET", body, headers, signal } = {}) {
  const used = token;
  const answer = await fetch(BASE + path, {
    method, signal, body: body === undefined ? undefined : JSON.stringify(body),
    headers: { ...(body !== undefined && { "Content-Type": "application/json" }), ...(used && { Authorization: `Bearer ${used}` }), ...headers },
  });
  if (answer.status !== 401) return answer;
  if (used === token) await login(used !== null);
  return ask(path, { method, body, headers, signal });
}

let loggingIn = null;
function login(wrong) {
  return loggingIn ??= new Promise((done) => {
    say($("login-wrong"), wrong ? "The server does not take this token." : "");
    $("token").value = "";
    $("login").showModal();
    $("login").onclose = () => {
      if (!$("token").value) return $("login").showModal();
      sessionStorage.setItem("agentrunner.token", token = $("token").value);
      loggingIn = null;
      done();
    };
  });
}

/** What a refusal says, in words. */
async function words(answer) {
  const text = await answer.text();
  try {
    const { message, error } = JSON.parse(text);
    return message || error || `HTTP ${answer.status}`;
  } catch {
    return `HTTP ${answer.status} ${text.slice(0, 200)}`;
  }
}

async function change(path, method, body) {
  const answer = await ask(path, { method, body });
  if (!answer.ok) throw new Error(await words(answer));
  return answer.json();
}

/**
 * Reads server-sent events: `take(frame)` for each, until it gives `false`. After 4 ms the screen gets its turn, and
 * the server waits for as long: a burst fills many small slices, never one long task.
 */
let breath = 0;
async function read(answer, take) {
  const reader = answer.body.getReader(), decoder = new TextDecoder();
  for (let rest = ""; ;) {
    const { done, value } = await reader.read();
    rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
    let from = 0;
    for (let end; (end = rest.indexOf("\n\n", from)) >= 0; from = end + 2) {
      const frame = frameOf(rest.slice(from, end));
      if (frame && take(frame) === false) return reader.cancel();
      if (performance.now() - breath > 4) {
        await nextFrame();
        breath = performance.now();
      }
    }
    rest = rest.slice(from);
    if (done) return;
  }
}

/** A frame: its cursor `P.i` or `seq`, `P` or `seq` as a number, the event and its JSON. `null` for a comment. */
function frameOf(block) {
  let cursor = "", text = null;
  for (const row of block.split("\n")) {
    if (row.startsWith("id: ")) cursor = row.slice(4);
    else if (row.startsWith("data: ")) text = (text === null ? "" : text + "\n") + row.slice(6);
  }
  if (text === null) return null;
  let event;
  try { event = JSON.parse(text); } catch { /* shown as it came */ }
  if (!isObject(event)) event = { type: "UNREADABLE", text };
  return { cursor, seq: parseInt(cursor, 10), compacted: cursor.includes("."), event, text };
}
