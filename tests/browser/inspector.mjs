// Scenarios of the inspector, each against a server of its own: `node inspector.mjs <scenario> <url>`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { inspector, wire } from "./page.mjs";

/** Answers the page's open interrupts as another client does. */
async function elsewhere(page, payload) {
  await page.evaluate(async (payload) => {
    const id = decodeURIComponent(location.hash.slice(1)), ids = { threadId: id, runId: crypto.randomUUID(), messages: [], tools: [], context: [], state: {}, forwardedProps: {}, protocolVersion: "1.0" };
    const post = (verb, more) => fetch(`agent/default/${verb}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...ids, ...more }) }).then((answer) => answer.text());
    const frames = (await post("connect")).split("\n").filter((line) => line.startsWith("data: ")).map((line) => JSON.parse(line.slice(6)));
    const resume = frames.at(-1).outcome.interrupts.map(({ id }) => ({ interruptId: id, status: "resolved", payload }));
    await post("run", { resume });
  }, payload);
}

const scenarios = {
  async empty_page_then_a_run({ page, key, sees, settled, texts, reads, row }) {
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
    // The second run: what it changed of the state is marked.
    await page.click("#tab-events");
    await sees("All is well.");
    await page.fill("#message", "Again");
    await key("Enter", "e");
    await sees("Again");
    await page.locator("#items .item.run").nth(1).getByText("finished", { exact: true }).waitFor();
    await page.click("#tab-state");
    await page.getByText("After run 2").waitFor();
  },

  async a_slow_run_is_seen_live_and_stopped({ page, send, sees, status, settled, row }) {
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
    // What was compacted when it came back is raw too, as long as it is kept.
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
    // Each event is at its place in the list.
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
    // After a reload the runs are there compacted, and their raw events are asked for.
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

  async a_question_is_answered({ page, send, sees, status, settled, key, texts }) {
    await send("Book it", "asks");
    await sees("Shall I?");
    await settled();
    await status("waits for an answer");
    await page.reload();
    await sees("Shall I?");
    // With the message field in focus Enter goes to the answer: nothing else is taken now.
    await page.focus("#message");
    await key("Enter", "Enter");
    await sees("You said {\"approved\":true}");
    await page.locator("#items .item.note").getByText("Approved", { exact: true }).waitFor();
    await status("finished");
    assert.equal(await page.getByRole("button", { name: "Approve" }).count(), 0);
    await send("Again");
    await page.getByRole("button", { name: "Reject" }).click();
    await sees("You said {\"approved\":false}");
    await send("And again");
    await page.getByRole("button", { name: "Other answer" }).click();
    await page.keyboard.type('{"at":9}');
    await page.getByRole("button", { name: "Send the answer" }).click();
    await sees("You said {\"at\":9}");
    assert.equal((await texts("#items .item.run")).length, 6);
  },

  async an_approval_is_given({ page, send, sees, status, settled, key, shot }) {
    await send("Please book", "default");
    await sees("Allow 'book' to run?");
    await settled();
    await status("waits for an answer");
    const box = page.locator("#items .item.question .box");
    assert.match(await box.innerText(), /^book\s+waits for your answer\s+Allow 'book' to run\?\s+input\s+\{"place":"Tasca","seats":2\}\s+Approve\s+Edit\s+Reject\s+Do not ask again/);
    await shot("open");
    await page.reload();
    await sees("Allow 'book' to run?");
    await page.focus("#message");
    await key("Enter", "Enter");
    await sees("Well: 2 seats at Tasca");
    await status("finished");
    await page.locator("#items .item.note").getByText("Approved", { exact: true }).waitFor();
    await page.locator("#items .item.run").first().getByText("finished", { exact: true }).waitFor();
    assert.equal(await page.getByRole("button", { name: "Approve" }).count(), 0);
    await shot("approved");
    // As it is shown to who comes later.
    await page.reload();
    await sees("Well: 2 seats at Tasca");
    await page.locator("#items .item.note").getByText("Approved", { exact: true }).waitFor();
    assert.equal(await page.locator("#items .item.question").count(), 0);
    await shot("reloaded");
  },

  async an_approval_is_edited({ page, send, sees, key, shot }) {
    await send("Please book", "default");
    await page.getByRole("button", { name: "Edit" }).click();
    const field = page.getByLabel("The input, as JSON");
    assert.deepEqual(JSON.parse(await field.inputValue()), { place: "Tasca", seats: 2 });
    assert.equal(await field.evaluate((one) => one === document.activeElement), true);
    for (const [words, wrong] of [['{"place":', "This is not JSON"], ["[1]", "The input must be a JSON object"]]) {
      await field.fill(words);
      await page.getByRole("button", { name: "Approve as edited" }).click();
      await page.getByRole("alert").getByText(wrong).waitFor();
      // What was written is there still.
      assert.equal(await field.inputValue(), words);
    }
    await shot("no-json");
    await page.getByRole("button", { name: "Back" }).click();
    await page.getByRole("button", { name: "Edit" }).click();
    assert.equal(await field.inputValue(), "[1]");
    // What the tool does not take the server refuses, and nothing is lost.
    await field.fill('{"place": "Ramiro", "seats": "many"}');
    await page.getByRole("button", { name: "Approve as edited" }).click();
    await page.locator("#notice").getByText("seats: Input should be a valid integer").waitFor();
    await field.waitFor();
    assert.equal(await field.inputValue(), '{"place": "Ramiro", "seats": "many"}');
    await shot("no-fit");
    await field.fill('{"place": "Ramiro", "seats": 3}');
    await shot("edited");
    await page.getByRole("button", { name: "Approve as edited" }).click();
    await sees("Well:");
    await sees("3 seats at Ramiro");
    await sees('Approved with {"place":"Ramiro","seats":3}');
    await shot("done");
  },

  async an_approval_is_refused({ page, send, sees, settled, key, shot }) {
    await send("Please book", "default");
    await page.getByRole("button", { name: "Reject" }).click();
    await page.getByLabel("Reason").waitFor();
    await page.keyboard.type("too far");
    await shot("why");
    await key("Enter");
    await sees("Rejected: too far");
    await sees("Well: The user has rejected this call");
    await settled();
    await send("Please book again");
    await page.getByRole("button", { name: "Reject" }).click();
    await page.getByRole("button", { name: "Reject" }).click();
    await page.locator("#items .item.note").getByText("Rejected", { exact: true }).waitFor();
    await shot("done");
  },

  async what_is_ticked_is_not_asked_again({ page, send, sees, settled, shot }) {
    await send("Please book", "default");
    await page.getByLabel("Do not ask again").check();
    await page.getByRole("button", { name: "Approve" }).click();
    await sees("Well: 2 seats");
    await settled();
    await send("Please book once more");
    await page.waitForFunction(() => document.querySelectorAll("#items .item.run").length === 3);
    await settled();
    assert.equal(await page.locator("#items").getByText("Well: 2 seats at Tasca").count(), 2);
    assert.equal(await page.getByRole("button", { name: "Approve" }).count(), 0);
  },

  async two_approvals_are_answered_together({ page, send, sees, status, shot }) {
    await send("Please book both", "default");
    const boxes = page.locator("#items .item.question .box");
    await page.waitForFunction(() => document.querySelectorAll("#items .item.question .box").length === 2);
    await boxes.nth(0).getByRole("button", { name: "Approve" }).click();
    await boxes.nth(0).getByText("The run continues when all questions are answered.").waitFor();
    await shot("one");
    // One may think again as long as the other is open.
    await boxes.nth(0).getByRole("button", { name: "Change" }).click();
    await boxes.nth(1).getByRole("button", { name: "Approve" }).click();
    await boxes.nth(0).getByRole("button", { name: "Reject" }).click();
    await page.getByRole("button", { name: "Reject" }).click();
    await status("finished");
    await sees("8 seats at Solar");
    assert.equal(await page.locator("#items").getByText("2 seats at Tasca").count(), 0);
    await shot("both");
  },

  async an_approval_is_answered_elsewhere({ page, send, sees, status, until, shot }) {
    await send("Please book", "default");
    await sees("Allow 'book' to run?");
    await status("waits for an answer");
    await elsewhere(page, { approved: true });
    // The page sees it by itself.
    await sees("Well: 2 seats at Tasca");
    await until(() => !document.querySelector(".answer"));
    await status("finished");
    await shot("seen");
    // And where it has not come to that yet, the answer is refused, and what was done is shown.
    await send("Please book again");
    await page.getByRole("button", { name: "Approve" }).waitFor();
    let holds = true;
    const held = [];
    await page.route("**/threads?*", (route) => holds ? void held.push(route) : route.continue());
    await elsewhere(page, { approved: false, reason: "no" });
    await page.getByRole("button", { name: "Approve" }).click();
    await page.locator("#notice").getByText("has been decided").waitFor();
    await sees("Rejected: no");
    await until(() => !document.querySelector(".answer"));
    await shot("refused");
    holds = false;
    for (const route of held) await route.continue();
    await send("Thanks");
    await sees("Hello");
  },

  async a_run_fails_behind_its_approval({ page, send, sees, settled, until, shot }) {
    await send("Please book and fail", "default");
    await page.getByRole("button", { name: "Approve" }).click();
    await sees("the model does not answer");
    await settled();
    await until(() => !document.querySelector(".answer"));
    await shot("own");
    await send("Hello");
    await page.locator("#items .said").getByText("Hello").nth(1).waitFor();
    await settled();
    // The same for an answer somebody else has given.
    await send("Please book and fail again");
    await page.getByRole("button", { name: "Approve" }).waitFor();
    await settled();
    await elsewhere(page, { approved: true });
    await until(() => document.querySelectorAll("#items .box.error").length === 2);
    await until(() => !document.querySelector(".answer"));
    await shot("elsewhere");
    await page.reload();
    await until(() => document.querySelectorAll("#items .box.error").length === 2);
    assert.equal(await page.locator(".answer").count(), 0);
    await send("Hello there");
    await page.locator("#items .said").getByText("Hello", { exact: true }).last().waitFor();
  },

  async an_approval_expires({ page, send, sees, status, until, shot }) {
    await send("Please book", "default");
    await page.getByText("waits for your answer, expires in").waitFor();
    await shot("waits");
    await page.getByText("It has expired and can only be cancelled.").waitFor();
    assert.equal(await page.getByRole("button", { name: "Approve" }).count(), 0);
    await page.reload();
    await page.getByText("It has expired and can only be cancelled.").waitFor();
    await shot("expired");
    await page.getByRole("button", { name: "Cancel" }).click();
    await page.locator("#items .item.note").getByText("Cancelled", { exact: true }).waitFor();
    await sees("Well: The user has rejected this call");
  },

  async an_error_is_shown_in_its_place({ page, send, sees, status }) {
    await send("Fail", "fails");
    await sees("it broke");
    await status("failed");
    assert.equal(await page.locator("#items .box.error").count(), 1);
    await send("Hello again", "default");
    await sees("All is well.");
  },

  async light_and_dark({ page, sees }) {
    await sees("Run an agent");
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await ground();
    await page.emulateMedia({ colorScheme: "dark" });
    const dark = await ground();
    assert.notEqual(dark, light);
    await page.click("#theme");
    assert.equal(await ground(), light);
    await page.reload();
    assert.equal(await ground(), light);
    await page.click("#theme");
    assert.equal(await ground(), dark);
    for (const theme of ["light", "dark"]) {
      const faint = await page.evaluate((theme) => {
        document.documentElement.dataset.theme = theme;
        const probe = document.body.appendChild(document.createElement("i"));
        const light = (name) => {
          probe.style.color = `var(--${name})`;
          const parts = getComputedStyle(probe).color.match(/[\d.]+/g).map((part) => part / 255).map((part) => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4);
          return .2126 * parts[0] + .7152 * parts[1] + .0722 * parts[2];
        };
        const contrast = (a, b) => { const [low, high] = [light(a), light(b)].sort((x, y) => x - y); return (high + .05) / (low + .05); };
        const inks = ["ink", "dim", "accent", "life", "text", "tool", "reasoning", "state", "activity", "error", "other"];
        const pairs = inks.flatMap((ink) => ["bg", "side", "raise", "hover", "pick"].map((ground) => [ink, ground, 4.5]));
        pairs.push(["on-accent", "accent", 4.5], ["ink", "changed", 4.5], ["text", "changed", 4.5], ["tool", "changed", 4.5], ["reasoning", "changed", 4.5], ["error", "wrong", 4.5], ["edge", "bg", 3], ["edge", "raise", 3]);
        return pairs.map(([ink, ground, least]) => [ink, ground, contrast(ink, ground), least]).filter(([, , found, least]) => found < least);
      }, theme);
      assert.deepEqual(faint, [], theme);
    }
  },

  async by_keyboard_only({ page, key, sees, until, settled }) {
    const focus = () => page.evaluate(() => document.activeElement.id);
    await sees("Run an agent");
    await page.keyboard.type("Mind the keys");
    await key("Enter");
    await settled();
    await key("Escape");
    assert.equal(await focus(), "");
    await key("?");
    await page.locator("#keys").waitFor();
    await key("Escape");
    await key("v");
    assert.equal(await focus(), "events");
    await key("Home", "j", "ArrowDown", "k", "Enter");
    await page.locator("#detail").waitFor();
    assert.equal(await page.locator("#detail-type").innerText(), "REASONING_START");
    assert.equal(await page.locator("#events").getAttribute("aria-activedescendant"), await page.locator("#events [aria-selected=true]").getAttribute("id"));
    await key("j");
    assert.equal(await page.locator("#detail-type").innerText(), "REASONING_MESSAGE_START");
    await key("Escape", "c");
    await until(() => document.querySelector("#form-compacted").ariaPressed === "true");
    await key("e");
    await page.locator("#state-panel").waitFor();
    await key("e", "r");
    await page.locator("#player").waitFor();
    await key("r");
    await page.locator("#player").waitFor({ state: "hidden" });
    await key("n");
    assert.equal(await focus(), "message");
    await page.keyboard.type("Second thread");
    await key("Enter");
    await settled();
    await key("Escape", "t", "j");
    await sees("Mind the keys");
    await key("k");
    await sees("Second thread");
    await key("/");
    assert.equal(await focus(), "search");
    await page.keyboard.type("mind");
    await key("Enter");
    await sees("Mind the keys");
    await key("i");
    assert.equal(await focus(), "message");
    await page.selectOption("#agent", "slow");
    await page.keyboard.type("Count");
    await key("Enter");
    await sees("tick 1");
    await key("Escape");
    await page.locator("#items .item.run").last().getByText("stopped", { exact: true }).waitFor();
    // All that can be pressed has a name.
    const nameless = await page.evaluate(() => [...document.querySelectorAll("button, input, select, textarea, [role=listbox]")]
      .filter((one) => !(one.textContent.trim() || one.ariaLabel || one.labels?.length)).map((one) => one.outerHTML));
    assert.deepEqual(nameless, []);
  },

  async hostile_content_stays_text({ page, send, sees, settled, key }) {
    const bad = '<img src=x onerror="window.pwned=1">';
    await send(`${bad} hello`, "hostile");
    await sees("hello");
    await settled();
    await page.locator("#threads .row:visible", { hasText: bad }).waitFor();
    await page.click("#rename");
    await page.fill("#rename-to", `${bad} name`);
    await key("Enter");
    await page.locator("#title", { hasText: `${bad} name` }).waitFor();
    for (const index of await page.locator("#events .row:visible").count().then((count) => [...Array(count).keys()])) {
      await page.locator("#events .row:visible").nth(index).click();
      await page.locator("#detail").waitFor();
    }
    await page.click("#tab-state");
    await page.getByText(bad).last().waitFor();
    await page.reload();
    await sees("hello");
    await key("Escape", "r");
    await page.locator("#player").waitFor();
    await key("End");
    await sees(`the end of ${bad}`);
    const found = await page.evaluate(() => ({
      pwned: window.pwned, polluted: {}.polluted,
      tags: [...new Set([...document.querySelectorAll("main *")].map((one) => one.localName))].sort(),
      handlers: [...document.querySelectorAll("main *")].filter((one) => [...one.attributes].some(({ name }) => name.startsWith("on"))).length,
    }));
    assert.equal(found.pwned, undefined);
    assert.equal(found.polluted, undefined);
    assert.equal(found.handlers, 0);
    const ours = ["aside", "b", "button", "details", "div", "form", "h2", "i", "input", "label", "option", "p", "path", "pre", "section", "select", "span", "summary", "svg", "textarea"];
    assert.deepEqual(found.tags.filter((tag) => !ours.includes(tag)), []);
  },

  async ten_thousand_events({ page, send, settled, texts, reads, key, until }) {
    await send("All of them", "burst");
    await settled();
    await reads(".forms b", ["10,000", "302"]);
    const small = async () => assert.ok(await page.evaluate(() => document.querySelectorAll("*").length) < 2500);
    await small();
    // Through all of it, a page at a time: no event is missing, none is twice.
    await page.click("#tab-events");
    await page.focus("#events");
    await key("Home");
    const seen = new Set();
    for (let last = 0; last < 10_000;) {
      for (const text of await texts("#events .row:visible .at")) seen.add(Number(text));
      last = Math.max(...seen);
      await key("PageDown");
    }
    assert.equal(seen.size, 10_000);
    await small();
    await page.mouse.move(1100, 500);
    await key("Home");
    await page.mouse.wheel(0, 120_000);
    await page.locator("#events .row:visible", { hasText: "5010" }).first().waitFor();
    await small();
    // The conversation, up to its first words.
    await page.mouse.move(600, 400);
    while (await page.locator("#items").getByText("All of them").count() === 0) await page.mouse.wheel(0, -3000);
    await small();
    await key("Escape", "r");
    await page.locator("#player").waitFor();
    await page.locator("#scrub").fill("5000");
    await page.locator("#events .row[aria-selected=true]", { hasText: "5000" }).waitFor();
    await key("End");
    await until(() => document.querySelector("#place").textContent === "10,000 / 10,000");
    await small();
  },

  async a_narrow_screen({ page, send, sees, settled }) {
    await page.setViewportSize({ width: 390, height: 780 });
    await send("Hello", "default");
    await sees("All is well.");
    assert.equal(await page.locator(".side").isVisible(), false);
    await page.click(".panes >> text=Events");
    await settled();
    await page.locator("#events .row:visible").first().waitFor();
    assert.equal(await page.locator("#talk").isVisible(), false);
    await page.click(".panes >> text=Threads");
    await page.locator("#threads .row:visible", { hasText: "Hello" }).click();
    await sees("All is well.");
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  },

  /** The page's own reducer, on the fixtures every other one is held to. */
  async the_page_folds_as_the_client_does({ page, sees }) {
    await sees("Run an agent");
    for (const name of ["fold", "interleaved", "sequential"]) {
      const cases = readFileSync(new URL(`../fixtures/${name}.jsonl`, import.meta.url), "utf8").trim().split("\n").map((text) => JSON.parse(text));
      const folded = await page.evaluate((all) => all.map((events) => {
        const fold = new Fold();
        for (const event of events) fold.push(event, 0);
        return { messages: fold.messages.map(({ message }) => message), state: fold.state };
      }), cases.map(({ events }) => events));
      assert.ok(cases.length >= 120);
      cases.forEach((one, index) => assert.deepEqual(folded[index], { messages: one.messages, state: one.state }, one.name));
    }
  },
};

/** Those that bring the page themselves. */
const alone = {
  async a_cut_line_is_mended(url) {
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

  async what_the_server_no_longer_keeps_is_said(url) {
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

  async a_token_is_asked_for(url) {
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

const [name, url] = process.argv.slice(2);
let open;
try {
  if (alone[name]) open = await alone[name](url);
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
