// Clients that outlive a question: {"op", ...} -> {"value"} or {"refused", "status", "payload"}. Used by stock_clients.py.
import { answer } from "./lines.mjs";

// stdout is for answers.
console.log = console.info = console.debug = () => {};
// Where a connection breaks the clients reject twice, once to nobody: a page logs that, node would end.
process.on("unhandledRejection", () => {});

const PATIENCE = 20_000;
const clients = new Map();
const underWay = new Map();

function timed(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`took too long: ${what}`)), PATIENCE);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function view({ agent, errors }) {
  const { messages, state, pendingInterrupts, isRunning } = agent;
  return { messages, state, pendingInterrupts, isRunning, errors };
}

function* strings(value) {
  if (typeof value === "string") yield value;
  else if (value && typeof value === "object") for (const inner of Object.values(value)) yield* strings(inner);
}

// Waits until what the client holds has a text in one of its strings, or in its JSON.
function until({ agent, watching }, text) {
  return new Promise((resolve) => {
    const look = () => {
      const held = [agent.messages, agent.state];
      if (!JSON.stringify(held).includes(text) && ![...strings(held)].some((one) => one.includes(text))) return;
      watching.delete(look);
      resolve(null);
    };
    watching.add(look);
    look();
  });
}

// A run tells those who subscribed before it began: one subscriber for all that is ever looked at.
function watched(client) {
  const watching = new Set();
  const changed = () => watching.forEach((look) => look());
  client.agent.subscribe({ onMessagesChanged: changed, onStateChanged: changed });
  return { ...client, watching };
}

// What a run or connect was for the client's subscribers: each event's type, the outcomes and errors.
async function witnessed(client, work) {
  const seen = { types: [], outcomes: [], runErrors: [] };
  const { unsubscribe } = client.agent.subscribe({
    onEvent: ({ event }) => void seen.types.push(event.type),
    onRunFinishedEvent: ({ event }) => void seen.outcomes.push(event.outcome?.type ?? null),
    onRunErrorEvent: ({ event }) => void seen.runErrors.push([event.message, event.code ?? null]),
  });
  const errors = client.errors.length;
  try {
    await work();
  } catch (error) {
    seen.refused = String(error.message ?? error);
    Object.assign(seen, { status: error.status, payload: error.payload });
  } finally {
    unsubscribe();
  }
  return { ...seen, reported: client.errors.slice(errors) };
}

const own = {
  run: (client, { message, ...parameters }) => {
    if (message) client.agent.addMessage(message);
    return witnessed(client, () => client.run(parameters));
  },
  connect: (client) => witnessed(client, () => client.connect()),
  stop: (client) => void client.stop(),
  detach: (client) => client.agent.detachActiveRun(),
  until: (client, { text }) => until(client, text),
  view: (client) => view(client),
  keep: (client, { messages }) => void client.agent.setMessages(messages),
  move: (client, { threadId }) => void (client.agent.threadId = threadId),
};

// `make(kind, options)` gives {agent, run(parameters), connect(), stop(), errors}; `more` are further ops.
export async function clientsOf(make, more = {}) {
  const common = {
    async new({ id, kind, ...options }) {
      clients.set(id, watched(await make(kind, options)));
      return null;
    },
    join: ({ task }) => underWay.get(task),
    ...more,
  };
  const perform = ({ op, client, ...rest }) => (client ? own[op](clients.get(client), rest) : common[op](rest));
  await answer(async ({ begin, ...question }) => {
    try {
      if (begin) {
        const work = Promise.resolve(perform(question));
        work.catch(() => {});
        underWay.set(begin, work);
        return { value: null };
      }
      return { value: (await timed(Promise.resolve(perform(question)), JSON.stringify(question))) ?? null };
    } catch (error) {
      return { refused: String(error.message ?? error), status: error.status, payload: error.payload };
    }
  });
}
