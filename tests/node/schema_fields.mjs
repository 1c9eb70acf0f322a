// {} -> {"fields": [...]}: the path of every field in the event schema of 1.0.0; `[]` stands for the items of a list.
import { EventSchemas } from "@ag-ui/core/schemas";

import { answer } from "./lines.mjs";

function* fields(schema, path) {
  const { def } = schema;
  switch (def.type) {
    case "object":
      for (const [name, field] of Object.entries(schema.shape)) {
        yield `${path}.${name}`;
        yield* fields(field, `${path}.${name}`);
      }
      return;
    case "array":
      return yield* fields(def.element, `${path}[]`);
    case "union":
      for (const option of def.options) yield* fields(option, path);
      return;
    case "pipe":
      return yield* fields(def.in, path);
    default:
      if (def.innerType) yield* fields(def.innerType, path);
  }
}

await answer(() => ({
  fields: [...new Set(EventSchemas.options.flatMap((event) => [...fields(event, event.shape.type.def.values[0])]))],
}));
