// Scenarios about runs: live, stopped, reloaded, replayed, raw and compacted, and failing.
import assert from "node:assert/strict";

export default {
  async the_first_run_on_an_empty_page({ page, key, sees, settled, texts, reads, row }) {
    await sees("Run an agent and watch every event");
    assert.equal(await page.locator(":focus").getAttribute("id"), "message");
    assert.deepEqual(await texts("#agent option"), ["default", "slow", "asks", "fails", "burst", "hostile"]);
    await page.keyboard.type("Hello there");
    await key("Enter");
    await sees("Hello there");
    await sees("All is well.");
    await settled();
    assert.match(await page.locator("#items").innerText(), /user\s+Hello there\s+reasoning\s+Let me think\.\s+tool\s+look\s+done\s+args\s+\{"q":1\}\s+result\s+found\s+assistant\s+All is well\./);
    await page.locator("#threads .row:visible", { hasText: "Hello there" }).waitFor();
    assert.equal(await page.inputValue("#message"), "");
    assert.match(page.url(), /inspector#.+/);
    await row("RUN_FINISHED").waitFor();
    await page.click("#tab-state");
    await reads("#state .leaf", ["count: 2 was 1", 'name: "x"']);
    // In the second run, what it changed of the state is marked.
    await page.click("#tab-events");
    await sees("All is well.");
    await page.fill("#message", "Again");
    await key("Enter", "e");
    await sees("Again");
    await page.locator("#items .item.run").nth(1).getByText("finished", { exact: true }).waitFor();
    await page.click("#tab-state");
    await page.getByText("After run 2").waitFor();
  },

  async a_slow_run_is_shown_live_and_stopped({ page, send, sees, status, settled, row }) {
    await send("Count", "slow");
    await sees("tick 3");
    assert.match(await page.title(), /^●/);
    await page.getByText("Live", { exact: true }).waitFor();
    await page.locator("#threads .row:visible", { hasText: "running" }).waitFor();
    assert.equal(await page.locator("#send").isVisible(), false);
    await page.click("#stop");
    await status("stopped");
    await settled();
    await row("RUN_FINISHED").waitFor();
    await page.getByText("Idle", { exact: true }).waitFor();
    assert.equal(await page.locator("#send").isVisible(), true);
  },

  async a_reloaded_page_follows_the_run({ page, send, sees, status, settled, until, texts }) {
    await send("Count", "slow");
    await sees("tick 5");
    await page.reload();
    await sees("tick 12");
    assert.match(await page.locator("#items .said").last().innerText(), /^(tick \d+ )*tick 12 (tick \d+ ?)*$/);
    // What came compacted after the reload is available raw as well, while the server keeps it.
    await page.click("#form-raw");
    await page.click("#events");
    await page.keyboard.press("Home");
    await page.locator("#events .row:visible", { hasText: '"tick 0 "' }).waitFor();
    await page.keyboard.press("s");
    await status("stopped");
    await settled();
    const [raw, compacted] = await texts(".forms b");
    assert.equal(compacted, "5");
    const number = Number(raw);
    await until((number) => document.querySelector("#events .row").ariaSetSize === String(number), number);
    const ticks = (await page.locator("#items .said").last().innerText()).trim().split(" tick ");
    assert.deepEqual(ticks.slice(1).map(Number), ticks.slice(1).map((_, index) => index + 1));
  },

  async a_run_is_replayed({ page, key, send, sees, settled, until }) {
    await send("Hello", "default");
    await settled();
    await page.reload();
    await sees("All is well.");
    await key("Escape", "r");
    await page.locator("#player").waitFor();
    const place = () => page.inputValue("#scrub").then(Number);
    await key("Home");
    assert.equal(await place(), 0);
    await until(() => !document.querySelector("#items .item"));
    // Each event is at its position in the list.
    const at = async (event) => {
      for (let steps = 0; await page.locator("#events .row[aria-selected=true]:visible", { hasText: event }).count() === 0; steps++) {
        assert.ok(steps < 22, event);
        const now = await place();
        await key("ArrowRight");
        await page.locator("#events .row[aria-selected=true]:visible .at", { hasText: new RegExp(`^${now + 1}$`) }).waitFor();
      }
    };
    await at("TOOL_CALL_RESULT");
    assert.equal(await page.locator("#items").getByText("All is well").count(), 0);
    await sees("found");
    await key("e");
    await page.getByText("No state").waitFor();
    await key("e");
    await at("STATE_DELTA");
    await key("e");
    await page.getByText("count: 2").waitFor();
    await key("ArrowLeft");
    await page.getByText("count: 1").waitFor();
    const paused = await place();
    await key("Space");
    await until((paused) => Number(document.querySelector("#scrub").value) > paused, paused);
    await until(() => document.querySelector("#scrub").value === document.querySelector("#scrub").max && document.querySelector("#play").ariaLabel === "Play");
    await sees("All is well.");
    assert.match(await page.locator("#replaying").innerText(), /raw events/);
    await page.locator("#scrub").fill("3");
    await page.locator("#items").getByText("All is well").waitFor({ state: "detached" });
    await key("Escape");
    await sees("All is well.");
    assert.equal(await page.locator("#ask").isVisible(), true);
  },

  async raw_and_compacted({ page, send, settled, texts, reads, row, sees, until }) {
    for (const words of ["One", "Two"]) {
      await send(words, "default");
      await sees(words);
      await settled();
    }
    const id = decodeURIComponent(new URL(page.url()).hash.slice(1));
    const { events } = await page.evaluate((id) => fetch(`threads/${id}/events`).then((answer) => answer.json()), id);
    await reads(".forms b", ["22", String(events.length / 2)]);
    assert.equal(await page.locator("#saved").innerText(), `${Math.round((1 - events.length / 44) * 100)} % fewer, ${(await page.locator("#saved").innerText()).split(", ")[1]}`);
    await row("RUN_FINISHED").first().waitFor();
    assert.equal(await page.locator("#events .row:visible", { hasText: "TEXT_MESSAGE_CONTENT" }).count(), 4);
    await page.click("#form-compacted");
    await page.locator("#events .row:visible", { hasText: "44.0" }).waitFor();
    assert.equal(await page.locator("#events .row:visible", { hasText: "TEXT_MESSAGE_CONTENT" }).count(), 1);
    // After a reload the runs are compacted, and their raw events are fetched on request.
    await page.reload();
    await page.selectOption("#run", "0");
    await page.locator("#events .row:visible", { hasText: "22.0" }).waitFor();
    await page.click("#form-raw");
    await page.locator("#events .row:visible", { hasText: /^22RUN_FINISHED/ }).waitFor();
    assert.deepEqual((await texts("#events .row:visible .at")).map(Number).sort((a, b) => a - b), Array.from({ length: 22 }, (_, index) => index + 1));
    await page.click("#kinds button:has-text('tool')");
    await until(() => document.querySelectorAll("#events .row:not([hidden])").length === 5);
    await row("TOOL_CALL_RESULT").click();
    assert.match(await page.locator("#detail").innerText(), /TOOL_CALL_RESULT[\s\S]*content: "found"/);
  },

  async a_thread_is_renamed_archived_and_deleted({ page, send, sees, settled, key }) {
    const row = (text) => page.locator("#threads .row:visible", { hasText: text });
    await send("First words", "default");
    await settled();
    await page.click("#rename");
    await page.fill("#rename-to", "A name");
    await key("Enter");
    await row("A name").waitFor();
    await page.reload();
    await sees("All is well.");
    assert.equal(await page.locator("#title").innerText(), "A name");
    await page.click("#archive");
    await row("archived").waitFor();
    await page.click("#new");
    await page.getByText("All threads are archived.").waitFor();
    await page.check("#archived");
    await row("A name").click();
    await page.click("#archive");
    await page.locator("#archive", { hasText: /^Archive$/ }).waitFor();
    await page.uncheck("#archived");
    await page.fill("#search", "nothing like it");
    await page.getByText("No thread matches.").waitFor();
    await page.fill("#search", "a nam");
    await row("A name").waitFor();
    await page.fill("#search", "");
    await page.click("#delete");
    await page.click("#sure >> text=Keep it");
    await row("A name").waitFor();
    await page.click("#delete");
    await page.click("#sure button.stop");
    await page.getByText("No threads yet.").waitFor();
    await sees("Run an agent and watch every event");
  },

  async an_error_is_shown_in_its_place({ page, send, sees, status }) {
    await send("Fail", "fails");
    await sees("it broke");
    await status("failed");
    assert.equal(await page.locator("#items .box.error").count(), 1);
    await send("Hello again", "default");
    await sees("All is well.");
  },
};
