// The reference, `compactEvents` of @ag-ui/client, from JSON to JSON. The first line has the events; each line starts a measurement.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

console.warn = () => {};
const require = createRequire(new URL("../../tests/node/package.json", import.meta.url));
const { compactEvents } = require("@ag-ui/client");

let lines;
const once = () => compactEvents(lines.map((line) => JSON.parse(line))).map((event) => JSON.stringify(event));

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line);
  if (question.lines) {
    lines = question.lines;
    for (let round = 0; round < 40; round++) once();
  }
  const began = performance.now();
  once();
  console.log((performance.now() - began) / 1000);
}
