// {"live", "replay", "replay_legacy", "live_legacy"}: bodies of responses -> what the real clients of both generations hold
// that were sent them: {"new": [live, replay], "old": [live, replay]}, each {"messages", "state"} or {"refused"}.
import { clients } from "./body_clients.mjs";
import { answer } from "./lines.mjs";

console.log = console.info = console.debug = () => {};

async function read(client, how, body) {
  const agent = new clients[client]({ threadId: "thread" });
  agent.body = body;
  let failure = null;
  agent.subscribe({ onRunErrorEvent: ({ event }) => void (failure = event.message) });
  try {
    await agent[how]({ runId: "run" });
  } catch (error) {
    // A run that ends in RUN_ERROR rejects with its message; any other refusal is the answer.
    const text = String(error.message ?? error);
    if (text !== failure) return { refused: text };
  }
  return { messages: agent.messages, state: agent.state, failure };
}

await answer(async ({ live, replay, live_legacy, replay_legacy }) => ({
  new: [await read("new", "runAgent", live), await read("new", "connectAgent", replay)],
  old: [await read("old", "runAgent", live_legacy), await read("old", "connectAgent", replay_legacy)],
}));
