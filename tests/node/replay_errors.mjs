// {"new", "old"}: bodies of a connect's response -> what the real client of each generation tells its subscribers and holds:
// {"new": {"connectAgent", "runAgent"}, "old": {...}}, each {"errors", "finished", "messages", "interrupts"}.
import * as newer from "@ag-ui/client";
import * as older from "agui-client-0";

import { answer } from "./lines.mjs";

console.log = console.info = console.debug = () => {};

// An agent that reads a body as the client's own HttpAgent does. `runAgent` verifies the order of events.
const reading = ({ AbstractAgent, runHttpRequest, transformHttpEventStream }) =>
  class extends AbstractAgent {
    run() {
      const headers = { "content-type": "text/event-stream" };
      return transformHttpEventStream(runHttpRequest(async () => new Response(this.body, { headers })));
    }
    connect(input) {
      return this.run(input);
    }
  };

const clients = { old: reading(older), new: reading(newer) };

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
