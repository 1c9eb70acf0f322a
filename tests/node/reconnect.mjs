// {"client": "old" | "new", "held": [...], "sent": [...]} -> {"messages", "state"}: what the real client holds that
// replayed the first events, one request a run, and was then connected anew and sent the second.
import * as newer from "@ag-ui/client";
import * as older from "agui-client-0";
import { EventSchemas } from "agui-core-0";
import { from } from "rxjs";

import { answer, runs } from "./lines.mjs";

const replaying = ({ AbstractAgent }) =>
  class extends AbstractAgent {
    run() {
      return from(this.next);
    }
    connect() {
      return from(this.next);
    }
  };

const clients = { old: replaying(older), new: replaying(newer) };
// The newer client reads events by its schema wherever they come from, the older one in its transport.
const read = { old: (event) => EventSchemas.parse(event), new: (event) => event };

await answer(async ({ client, held, sent }) => {
  const agent = new clients[client]({ threadId: "thread" });
  const replay = async (how, events) => {
    agent.next = events.map(read[client]);
    // Whatever the run before asked is answered.
    const resume = agent.pendingInterrupts.map(({ id }) => ({ interruptId: id, status: "resolved" }));
    try {
      await agent[how]({ resume });
    } catch (error) {
      // A run that ends in RUN_ERROR rejects with its message; any other refusal is the answer.
      if (events.at(-1).type !== "RUN_ERROR") throw error;
    }
  };
  try {
    for (const run of runs(held)) if (run.length) await replay("runAgent", run);
    if (sent.length) await replay("connectAgent", sent);
  } catch (error) {
    return { refused: String(error.message ?? error) };
  }
  return { messages: agent.messages, state: agent.state };
});
