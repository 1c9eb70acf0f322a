// Drives the React example in a real browser: `node react.mjs <url> <scenario> [<folder for screenshots>]`.
import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const [url, scenario, shots] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const page = await browser.newPage({ viewport: { width: 1280, height: 800 } });
page.setDefaultTimeout(10_000);
const wrong = [];
page.on("pageerror", (error) => wrong.push(String(error)));
page.on("console", (message) => message.type() === "error" && wrong.push(message.text()));

const chat = page.locator(".chat");
const threads = page.getByRole("navigation", { name: "Threads" }).getByRole("listitem");
const items = page.getByRole("complementary", { name: "Shopping list" }).getByRole("listitem");
const approval = page.getByRole("group", { name: "Approval" });
const said = (text) => chat.getByText(text, { exact: true });

async function shot(name) {
  if (shots) await page.screenshot({ path: `${shots}/react-${name}.png` });
}

async function send(text) {
  await chat.getByRole("textbox").fill(text);
  // Unlike the enter key, the button waits until the page knows its agents.
  await page.getByTestId("copilot-send-button").click();
}

// Some are given up at once, as in React's strict mode: what counts is that none goes on.
const connects = new Set();
page.on("request", (request) => request.url().endsWith("/connect") && connects.add(request));
page.on("requestfinished", (request) => connects.delete(request));
page.on("requestfailed", (request) => connects.delete(request));

/** Does what connects to a thread. */
async function connecting(act) {
  const connect = page.waitForRequest((request) => request.url().endsWith("/connect"));
  await act();
  await connect;
}

/** Waits for a count, and sees that it is still that when all has come and the page has been drawn anew. */
async function counted(locator, expected) {
  if (expected > 0) await locator.nth(expected - 1).waitFor();
  else await locator.first().waitFor({ state: "detached" });
  do await page.evaluate(() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn))));
  while (connects.size > 0);
  assert.equal(await locator.count(), expected);
}

async function changed(method, act) {
  const answered = page.waitForResponse((response) => response.request().method() === method);
  await act();
  assert.equal((await answered).status(), 200);
}

const ANSWER = "I have put milk and bread on the list. Anything else?";

const scenarios = {
  async chat() {
    await page.getByText("What do you need?").waitFor();
    await page.getByText("No threads yet").waitFor();
    await shot("welcome");

    await page.evaluate(() => {
      window.stages = new Set();
      new MutationObserver(() => {
        const answer = document.querySelector(".chat")?.innerText.match(/I have put.*/)?.[0];
        if (answer) window.stages.add(answer);
      }).observe(document.body, { childList: true, subtree: true, characterData: true });
    });
    await send("milk and bread");
    await said(ANSWER).waitFor();
    assert.ok((await page.evaluate(() => window.stages.size)) > 2, "the answer came in pieces");
    await counted(items, 2);
    await counted(threads.filter({ hasText: "milk and bread" }), 1);
    await shot("answer");

    await connecting(() => page.reload());
    for (const text of [ANSWER, "milk and bread"]) await counted(said(text), 1);
    await counted(items, 2);
    await counted(threads, 1);
    await shot("reload");

    // A second thread, left while it answers; back in the first nothing has doubled, nor in the second.
    await page.getByRole("button", { name: "New thread" }).click();
    await counted(items, 0);
    await counted(said(ANSWER), 0);
    await send("tea");
    await chat.getByText("I have put").waitFor();
    await connecting(() => page.reload());
    await counted(said("I have put tea on the list. Anything else?"), 1);
    await counted(threads, 2);
    await connecting(() => threads.filter({ hasText: "milk and bread" }).getByRole("button").first().click());
    await counted(said(ANSWER), 1);
    await counted(said("tea"), 0);
    await counted(items, 2);
    // It is gone from the page's list, and stays away: the next run takes what the page has.
    await page.getByRole("button", { name: "Remove milk" }).click();
    await send("eggs");
    await said("I have put eggs on the list. Anything else?").waitFor();
    await items.filter({ hasText: "eggs" }).waitFor();
    assert.deepEqual((await items.allInnerTexts()).map((text) => text.split("\n")[0]), ["bread", "eggs"]);
  },

  async threads() {
    for (const text of ["tea", "milk and bread"]) {
      await page.getByRole("button", { name: "New thread" }).click();
      await send(text);
      await said(`I have put ${text} on the list. Anything else?`).waitFor();
      await counted(threads.filter({ hasText: text }), 1);
    }
    const open = threads.filter({ hasText: "milk and bread" });
    page.once("dialog", (dialog) => dialog.accept("Groceries"));
    await changed("PATCH", () => open.getByRole("button", { name: "Rename" }).click());
    const renamed = threads.filter({ hasText: "Groceries" });
    await counted(renamed, 1);
    await shot("threads");
    await changed("POST", () => renamed.getByRole("button", { name: "Archive" }).click());
    await counted(renamed, 0);
    await page.getByLabel("Show archived").check();
    await changed("PATCH", () => renamed.getByRole("button", { name: "Restore" }).click());
    await page.getByLabel("Show archived").uncheck();
    await counted(renamed, 1);
    await changed("DELETE", () => renamed.getByRole("button", { name: "Delete" }).click());
    await page.getByText("What do you need?").waitFor();
    await page.reload();
    await counted(threads, 1);
  },

  async approval() {
    await send("milk and bread");
    await approval.getByText("Order milk and bread?").waitFor();
    await shot("approval");
    await approval.getByRole("button", { name: "Approve" }).click();
    await said("milk and bread: ordered.").waitFor();
    await counted(approval, 0);
    await counted(items, 2);
    await shot("approved");

    await connecting(() => page.reload());
    await counted(said("milk and bread: ordered."), 1);
    await counted(approval, 0);

    await send("caviar");
    await approval.getByText("Order caviar?").waitFor();
    await connecting(() => page.reload());
    await approval.getByRole("button", { name: "Decline" }).click();
    await said("Nothing was ordered.").waitFor();
    await counted(approval, 0);
    await counted(items, 2);
  },

  async waiting() {
    await send("milk and bread");
    await approval.getByText("Allow 'order' to run?").waitFor();
    await connecting(() => page.reload());
    await shot("waiting");
    await approval.getByRole("button", { name: "Approve" }).click();
    await said("I have ordered milk and bread.").waitFor();
    await counted(approval, 0);
    await send("caviar");
    await approval.getByRole("button", { name: "Decline" }).click();
    await said("Nothing was ordered.").waitFor();
    await connecting(() => page.reload());
    await counted(said("Nothing was ordered."), 1);
    await counted(approval, 0);
  },
};

try {
  await page.goto(url);
  await scenarios[scenario]();
  assert.deepEqual(wrong, []);
} catch (error) {
  await shot("failed");
  throw error;
} finally {
  await browser.close();
}
