// Scenarios about the page itself: themes, keyboard, hostile content, size.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";

export default {
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
    // Every control has an accessible name.
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
    // Page through the whole list: no event is missing, and none appears twice.
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
    // Scroll the conversation up to its first words.
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

  /** Runs the page's own fold on the fixtures that all folds must pass. */
  async the_page_folds_events_like_the_client({ page, sees }) {
    await sees("Run an agent");
    for (const name of ["fold", "interleaved", "sequential"]) {
      const cases = readFileSync(new URL(`../../fixtures/${name}.jsonl`, import.meta.url), "utf8").trim().split("\n").map((text) => JSON.parse(text));
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
