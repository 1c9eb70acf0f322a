// The real clients of both generations, `old` and `new`, which read the body of a response that the test gives them.
import * as newer from "@ag-ui/client";
import * as older from "agui-client-0";

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

export const clients = { old: reading(older), new: reading(newer) };
