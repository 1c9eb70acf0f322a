// Runs one scenario of the inspector against a server of its own: `node inspector.mjs <scenario> <url>`.
import assert from "node:assert/strict";
import { inspector } from "./page.mjs";
import approvals from "./scenarios/approvals.mjs";
import connections from "./scenarios/connections.mjs";
import looks from "./scenarios/looks.mjs";
import runs from "./scenarios/runs.mjs";

const scenarios = { ...runs, ...approvals, ...looks };

const [name, url] = process.argv.slice(2);
let open;
try {
  if (connections[name]) open = await connections[name](url);
  else {
    open = await inspector(url);
    await scenarios[name](open);
  }
  assert.deepEqual(open.complaints, []);
} catch (error) {
  console.error(error.stack, open?.complaints ?? "");
  process.exitCode = 1;
} finally {
  await open?.browser.close();
}
process.exit();
