// {"events": [...]} -> {"old", "new", "client"}: which of them the event schemas of 0.0.59 and of 1.0.0 accept, and which
// the 1.0.0 client reads: it translates a few older forms, and drops what is of a later version.
import { CompatibilityBoundary, enforceEvents } from "@ag-ui/client";
import { EventSchemas } from "@ag-ui/core/schemas";
import { EventSchemas as OldSchemas } from "agui-core-0";
import { of } from "rxjs";

import { answer } from "./lines.mjs";

const accepted = (schema, events) => events.map((event) => schema.safeParse(event).success);

function isRead(event) {
  let error = null;
  try {
    const translated = new CompatibilityBoundary().transformEvent(event);
    of(translated).pipe(enforceEvents()).subscribe({ error: (refusal) => void (error = refusal) });
  } catch (refusal) {
    error = refusal;
  }
  return error === null;
}

await answer(({ events }) => ({
  old: accepted(OldSchemas, events),
  new: accepted(EventSchemas, events),
  client: events.map(isRead),
}));
