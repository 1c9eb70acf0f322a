// JSON lines in, JSON lines out: one answer a question, in order.
import { createInterface } from "node:readline";

// The client warns of every patch that fails; here that is what some streams are for.
console.warn = console.error = () => {};

export async function answer(ask) {
  for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    if (line) process.stdout.write(JSON.stringify(await ask(JSON.parse(line))) + "\n");
  }
}

// A stream of several runs as the client sees it: one request a run.
export function runs(events) {
  const split = [];
  for (const event of events) {
    if (event.type === "RUN_STARTED" || split.length === 0) split.push([]);
    split.at(-1).push(event);
  }
  return split;
}
