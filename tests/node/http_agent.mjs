// Clients of @ag-ui/client 1.0.0. Its HttpAgent has no connect: one whose url is the connect route is what it has.
import { HttpAgent } from "@ag-ui/client";

import { clientsOf } from "./clients.mjs";
import { httpAgent } from "./http_clients.mjs";

await clientsOf((_, options) => httpAgent(HttpAgent, options));
