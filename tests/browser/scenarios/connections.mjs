// Scenarios that open the page themselves: cut connections, expired events, tokens.
import assert from "node:assert/strict";
import { inspector, wire } from "../page.mjs";

export default {
  async a_cut_connection_is_resumed(url) {
    const line = await wire(url);
    const open = await inspector(line.url, { expected: [/Failed to load resource/] });
    const { page, send, sees, status, settled } = open;
    await send("Count", "slow");
    for (const tick of [4, 10, 16]) {
      await sees(`tick ${tick}`);
      line.cut();
    }
    await sees("tick 22");
    await page.click("#stop");
    await status("stopped");
    await settled();
    const ticks = (await page.locator("#items .said").last().innerText()).trim().split(" tick ");
    assert.deepEqual(ticks.slice(1).map(Number), ticks.slice(1).map((_, index) => index + 1));
    assert.ok(line.connects.filter(Boolean).length >= 3);
    line.close();
    return open;
  },

  async expired_events_are_reported(url) {
    const line = await wire(url), expired = { status: 410, body: { error: "Cursor expired", message: "The events behind it are gone." } };
    const open = await inspector(line.url, { expected: [/Failed to load resource/] });
    const { page, send, sees, settled } = open;
    await send("Hello", "default");
    await settled();
    await page.reload();
    await sees("All is well.");
    const bare = (asked) => asked.url.endsWith("/connect") && /^\d+$/.test(asked.headers["last-event-id"] ?? "");
    line.refuse = (asked) => bare(asked) ? expired : null;
    await page.click("#form-raw");
    await page.getByText("The raw events are gone").waitFor();
    await page.click("#replay");
    await page.getByText("compacted: the raw events are gone").waitFor();
    await page.click("#leave");
    await send("Count", "slow");
    await sees("tick 4");
    line.cut();
    await page.getByText("read again from the start. The events behind it are gone.").waitFor();
    await sees("Hello");
    await sees("tick 9");
    await page.click("#stop");
    line.close();
    return open;
  },

  async a_token_is_requested(url) {
    const open = await inspector(url, { expected: [/401/] });
    const { page, send, sees, key } = open;
    await page.locator("#login").waitFor();
    await page.keyboard.type("wrong");
    await key("Enter");
    await page.getByText("The server does not accept this token.").waitFor();
    await page.keyboard.type("open sesame");
    await key("Enter");
    await page.locator("#login").waitFor({ state: "hidden" });
    await send("Hello", "default");
    await sees("All is well.");
    await page.reload();
    await sees("All is well.");
    assert.equal(await page.locator("#login").isVisible(), false);
    assert.equal(await page.evaluate(() => JSON.stringify(localStorage).includes("sesame")), false);
    return open;
  },
};
