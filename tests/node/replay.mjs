// {"events": [...]} -> {"messages", "state"}: what the real client holds after replaying them, one `runAgent` a run.
import { AbstractAgent } from "@ag-ui/client";
import { from } from "rxjs";

import { answer, runs } from "./lines.mjs";

class Replay extends AbstractAgent {
  run() {
    return from(this.next);
  }
}

await answer(async ({ events }) => {
  const agent = new Replay({ threadId: "thread" });
  for (const run of runs(events)) {
    agent.next = run;
    try {
      // Whatever the run before asked is answered.
      const resume = agent.pendingInterrupts.map(({ id }) => ({ interruptId: id, status: "resolved" }));
      await agent.runAgent({ resume });
    } catch (error) {
      // A run that ends in RUN_ERROR rejects with its message; any other refusal is the answer.
      if (run.at(-1).type !== "RUN_ERROR") return { refused: String(error.message ?? error) };
    }
  }
  return { messages: agent.messages, state: agent.state };
});
