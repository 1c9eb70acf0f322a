// Scenarios about questions and approvals.
import assert from "node:assert/strict";

/** Answers the open interrupts of the page's thread as another client would. */
async function answerAsAnotherClient(page, payload) {
  await page.evaluate(async (payload) => {
    const id = decodeURIComponent(location.hash.slice(1)), ids = { threadId: id, runId: crypto.randomUUID(), messages: [], tools: [], context: [], state: {}, forwardedProps: {}, protocolVersion: "1.0" };
    const post = (verb, more) => fetch(`agent/default/${verb}`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ ...ids, ...more }) }).then((answer) => answer.text());
    const frames = (await post("connect")).split("\n").filter((line) => line.startsWith("data: ")).map((line) => JSON.parse(line.slice(6)));
    const resume = frames.at(-1).outcome.interrupts.map(({ id }) => ({ interruptId: id, status: "resolved", payload }));
    await post("run", { resume });
  }, payload);
}

export default {
  async a_question_is_answered({ page, send, sees, status, settled, key, texts }) {
    await send("Book it", "asks");
    await sees("Shall I?");
    await settled();
    await status("waits for an answer");
    await page.reload();
    await sees("Shall I?");
    // Enter in the message field moves the focus to the answer, as the thread accepts nothing else.
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
    // As a reloaded page shows it.
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
      // The draft is still there.
      assert.equal(await field.inputValue(), words);
    }
    await shot("no-json");
    await page.getByRole("button", { name: "Back" }).click();
    await page.getByRole("button", { name: "Edit" }).click();
    assert.equal(await field.inputValue(), "[1]");
    // The server refuses an input that does not fit the tool, and the draft is kept.
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

  async a_remembered_approval_is_not_requested_again({ page, send, sees, settled, shot }) {
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
    // An answer can be changed as long as the other question is open.
    await boxes.nth(0).getByRole("button", { name: "Change" }).click();
    await boxes.nth(1).getByRole("button", { name: "Approve" }).click();
    await boxes.nth(0).getByRole("button", { name: "Reject" }).click();
    await page.getByRole("button", { name: "Reject" }).click();
    await status("finished");
    await sees("8 seats at Solar");
    assert.equal(await page.locator("#items").getByText("2 seats at Tasca").count(), 0);
    await shot("both");
  },

  async another_client_answers_an_approval({ page, send, sees, status, until, shot }) {
    await send("Please book", "default");
    await sees("Allow 'book' to run?");
    await status("waits for an answer");
    await answerAsAnotherClient(page, { approved: true });
    // The page shows it without a reload.
    await sees("Well: 2 seats at Tasca");
    await until(() => !document.querySelector(".answer"));
    await status("finished");
    await shot("seen");
    // If the page does not know it yet, its answer is refused, and the other answer is shown.
    await send("Please book again");
    await page.getByRole("button", { name: "Approve" }).waitFor();
    let holds = true;
    const held = [];
    await page.route("**/threads?*", (route) => holds ? void held.push(route) : route.continue());
    await answerAsAnotherClient(page, { approved: false, reason: "no" });
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

  async a_run_fails_after_its_approval({ page, send, sees, status, settled, until, shot }) {
    await send("Please book and fail", "default");
    await page.getByRole("button", { name: "Approve" }).click();
    await sees("the model does not answer");
    await settled();
    await until(() => !document.querySelector(".answer"));
    await shot("own");
    await send("Hello");
    await page.locator("#items .said").getByText("Hello").nth(1).waitFor();
    await settled();
    // The same for an answer of another client.
    await send("Please book and fail again");
    await page.getByRole("button", { name: "Approve" }).waitFor();
    await settled();
    await answerAsAnotherClient(page, { approved: true });
    // The page reads the thread again, and a replay reports only the last failure.
    await status("failed");
    await until(() => document.querySelectorAll("#items .box.error").length === 1 && !document.querySelector(".answer"));
    await shot("elsewhere");
    await page.reload();
    await until(() => document.querySelectorAll("#items .box.error").length === 1);
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
};
