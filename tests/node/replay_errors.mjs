// {"new", "old"}: bodies of a connect's response -> what the real client of each generation tells its subscribers and holds:
// {"new": {"connectAgent", "runAgent"}, "old": {...}}, each {"errors", "finished", "messages", "interrupts"}.
import { clients } from "./body_clients.mjs";
import { answer } from "./lines.mjs";

console.log = console.info = console.debug = () => {};

async function read(client, how, body) {
  const agent = new clients[client]({ threadId: "t1" });
  agent.body = body;
  const errors = [];
  const finished = [];
  agent.subscribe({
    onRunErrorEvent: ({ event }) => void errors.push(event.message),
    onRunFinishedEvent: ({ event }) => void finished.push(event.runId),
  });
  let refused = null;
  try {
    await agent[how]({ runId: "read" });
  } catch (error) {
    // A run that ends in RUN_ERROR rejects with its message; any other refusal is the answer.
    const text = String(error.message ?? error);
    if (text !== errors.at(-1)) refused = text;
  }
  const interrupts = agent.pendingInterrupts.map(({ id }) => id);
  return { errors, finished, messages: agent.messages.map(({ id }) => id), interrupts, refused };
}

const both = async (client, body) => ({
  connectAgent: await read(client, "connectAgent", body),
  runAgent: await read(client, "runAgent", body),
});

await answer(async (bodies) => ({ new: await both("new", bodies.new), old: await both("old", bodies.old) }));
