// {"events": [...]} -> {"error"}: the first refusal of `verifyEvents`, run by run, or of the event schema; null if none.
import { verifyEvents } from "@ag-ui/client";
import { EventSchemas } from "@ag-ui/core/schemas";
import { from, lastValueFrom, toArray } from "rxjs";

import { answer, runs } from "./lines.mjs";

await answer(async ({ events, parse }) => {
  try {
    for (const run of runs(events)) await lastValueFrom(from(run).pipe(verifyEvents(), toArray()));
    if (parse) for (const event of events) EventSchemas.parse(event);
    return { error: null };
  } catch (error) {
    return { error: String(error.message ?? error) };
  }
});
