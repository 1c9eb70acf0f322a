// A browser with the inspector open, the steps that scenarios share, and a proxy that cuts connections.
import assert from "node:assert/strict";
import http from "node:http";
import { chromium } from "playwright-core";

export async function inspector(url, { width = 1280, height = 800, scheme = "light", expected = [] } = {}) {
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(error.stack));
  page.on("console", (message) => {
    const text = message.text();
    if (["error", "warning"].includes(message.type()) && !expected.some((pattern) => pattern.test(text))) complaints.push(text);
  });
  await page.addInitScript(() => {
    const find = (selector) => document.querySelector(selector);
    /** What keeps the last run from having ended, with its raw and compacted counts known. */
    window.missing = () => ({
      live: !find("#stop").hidden,
      running: find("#items .item.run:last-of-type .running, #items .ghost")?.textContent,
      counts: find("#saved").textContent && /\d/.test(find("#form-compacted b").textContent) ? "" : find("#form-raw").textContent,
    });
  });
  await page.goto(url);
  let shots = 0;
  const row = (text) => page.locator("#events .row:visible", { hasText: text });
  return {
    browser, page, complaints, row,
    /** Takes a screenshot, if the environment variable SHOTS names a folder. */
    shot: (name) => process.env.SHOTS && page.screenshot({ path: `${process.env.SHOTS}/${process.argv[2]}-${++shots}-${name}.png` }),
    key: (...keys) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve()),
    until: (condition, argument) => page.waitForFunction(condition, argument),
    sees: (text) => page.locator("#talk").getByText(text).first().waitFor(),
    status: (text) => page.locator("#items .item.run").last().getByText(text, { exact: true }).waitFor(),
    /** Sends a message to an agent, as a user would. */
    async send(text, agent) {
      await page.locator("#items .intro, #items .item").first().waitFor();
      if (agent) await page.selectOption("#agent", agent);
      await page.fill("#message", text);
      await page.press("#message", "Enter");
    },
    /** Waits until the last run has ended and its raw and compacted counts are known. */
    settled: () => page.waitForFunction(() => Object.values(missing()).every((one) => !one)).catch(async () => {
      assert.fail(`not settled: ${JSON.stringify(await page.evaluate(() => [missing(), document.querySelector("#notice").textContent]))}`);
    }),
    texts: (selector) => page.locator(selector).allTextContents(),
    /** Waits until the elements have these texts. */
    reads: (selector, texts) => page.waitForFunction(([selector, texts]) => JSON.stringify([...document.querySelectorAll(selector)].map((one) => one.textContent)) === texts,
      [selector, JSON.stringify(texts)]).catch(async () => assert.deepEqual(await page.locator(selector).allTextContents(), texts)),
  };
}

/** A proxy in front of the server: `cut()` breaks every connection; `refuse` may answer a request instead of it. */
export async function wire(to) {
  const sockets = new Set(), target = new URL(to);
  const line = { refuse: () => null, connects: [] };
  const server = http.createServer((asked, answer) => {
    if (asked.url.endsWith("/connect")) line.connects.push(asked.headers["last-event-id"]);
    const refusal = line.refuse(asked);
    if (refusal) {
      asked.resume();
      answer.writeHead(refusal.status, { "content-type": "application/json" });
      answer.end(JSON.stringify(refusal.body));
      return;
    }
    const passed = http.request({ host: target.hostname, port: target.port, path: asked.url, method: asked.method, headers: asked.headers }, (got) => {
      answer.writeHead(got.statusCode, got.headers);
      got.pipe(answer);
      got.on("error", () => answer.destroy());
    });
    passed.on("error", () => answer.destroy());
    answer.on("close", () => passed.destroy());
    asked.pipe(passed);
  });
  server.on("connection", (socket) => { sockets.add(socket); socket.on("close", () => sockets.delete(socket)); });
  await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
  line.url = `http://127.0.0.1:${server.address().port}${target.pathname}`;
  line.cut = () => sockets.forEach((socket) => socket.destroy());
  line.close = () => { line.cut(); server.close(); };
  return line;
}
