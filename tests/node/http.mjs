// {"url", "runId"} -> {"messages", "state", "types"}: what the real HttpAgent makes of one served run.
import { HttpAgent } from "@ag-ui/client";

import { answer } from "./lines.mjs";

await answer(async ({ url, threadId, runId }) => {
  const agent = new HttpAgent({ url, threadId });
  const types = [];
  try {
    await agent.runAgent({ runId }, { onEvent: ({ event }) => void types.push(event.type) });
  } catch (error) {
    return { refused: String(error.message ?? error), types };
  }
  return { messages: agent.messages, state: agent.state, types };
});
