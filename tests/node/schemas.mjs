// {"events": [...]} -> {"old", "new"}: which of them the event schemas of 0.0.59 and of 1.0.0 accept.
import { EventSchemas } from "@ag-ui/core/schemas";
import { EventSchemas as OldSchemas } from "agui-core-0";

import { answer } from "./lines.mjs";

const accepted = (schema, events) => events.map((event) => schema.safeParse(event).success);

await answer(({ events }) => ({ old: accepted(OldSchemas, events), new: accepted(EventSchemas, events) }));
