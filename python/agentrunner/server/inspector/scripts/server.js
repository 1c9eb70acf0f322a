const BASE = location.pathname.slice(0, location.pathname.lastIndexOf("/") + 1);
let token = sessionStorage.getItem("agentrunner.token");

/** Sends a request; if the server requires a token, asks the user for it first. */
async function request(path, { method = "GET", body, headers, signal } = {}) {
  const used = token;
  const answer = await fetch(BASE + path, {
    method, signal, body: body === undefined ? undefined : JSON.stringify(body),
    headers: { ...(body !== undefined && { "Content-Type": "application/json" }), ...(used && { Authorization: `Bearer ${used}` }), ...headers },
  });
  if (answer.status !== 401) return answer;
  if (used === token) await login(used !== null);
  return request(path, { method, body, headers, signal });
}

let loggingIn = null;
function login(wrong) {
  return loggingIn ??= new Promise((done) => {
    setText($("login-wrong"), wrong ? "The server does not accept this token." : "");
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

/** Returns the message of an error response. */
async function readError(answer) {
  const text = await answer.text();
  try {
    const { message, error } = JSON.parse(text);
    return message || error || `HTTP ${answer.status}`;
  } catch {
    return `HTTP ${answer.status} ${text.slice(0, 200)}`;
  }
}

async function sendChange(path, method, body) {
  const answer = await request(path, { method, body });
  if (!answer.ok) throw new Error(await readError(answer));
  return answer.json();
}

/**
 * Reads server-sent events and calls `take(frame)` for each until it returns `false`. Every 4 ms it lets the browser
 * draw, and the server waits meanwhile, so that a burst never blocks the page.
 */
let breath = 0;
async function readFrames(answer, take) {
  const reader = answer.body.getReader(), decoder = new TextDecoder();
  for (let rest = ""; ;) {
    const { done, value } = await reader.read();
    rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
    let from = 0;
    for (let end; (end = rest.indexOf("\n\n", from)) >= 0; from = end + 2) {
      const frame = parseFrame(rest.slice(from, end));
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

/** Parses a frame: its cursor (`P.i` or `seq`), `P` or `seq` as a number, the event and its JSON. `null` for a comment. */
function parseFrame(block) {
  let cursor = "", text = null;
  for (const row of block.split("\n")) {
    if (row.startsWith("id: ")) cursor = row.slice(4);
    else if (row.startsWith("data: ")) text = (text === null ? "" : text + "\n") + row.slice(6);
  }
  if (text === null) return null;
  let event;
  try { event = JSON.parse(text); } catch { /* shown as text */ }
  if (!isObject(event)) event = { type: "UNREADABLE", text };
  return { cursor, seq: parseInt(cursor, 10), compacted: cursor.includes("."), event, text };
}
