const isApproval = (one) => one.responseSchema?.properties?.approved?.type === "boolean";
/** Returns the draft of an answer to a question. It survives a repaint. */
function draftOf({ id }) {
  if (!thread.drafts.has(id)) thread.drafts.set(id, { mode: "", text: null, reason: "", wrong: "", marks: {} });
  return thread.drafts.get(id);
}
/** Switches the way to answer. Draws at once, so that the field has the focus for what is typed next. */
function switchMode(draft, mode) {
  Object.assign(draft, { mode, wrong: "" });
  drawTalk();
  if (mode) draft.field?.focus();
  draw();
}
/** Returns the time in ms from which a question can only be cancelled; `NaN`: never. */
const readExpiry = ({ expiresAt }) => typeof expiresAt === "string" ? Date.parse(expiresAt) : NaN;
const isExpired = (one) => readExpiry(one) <= Date.now();
function timeLeft(at) {
  const seconds = Math.max(0, Math.ceil((at - Date.now()) / 1000));
  if (seconds < 120) return `expires in ${seconds} s`;
  if (seconds < 7200) return `expires in ${Math.round(seconds / 60)} min`;
  return `expires ${new Date(at).toLocaleString(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" })}`;
}
setInterval(() => {
  for (const clock of document.querySelectorAll(".clock")) if (clock.until <= Date.now()) draw(); else setText(clock, timeLeft(clock.until));
}, 1000);

/** Paints a question of the agent and the ways to answer it. One run answers all open questions. */
function paintQuestion(one, asks) {
  const given = thread.answers.get(one.id), open = isOpen(asks), active = open && !given, past = isExpired(one), draft = draftOf(one);
  const fields = isObject(one.responseSchema?.properties) ? one.responseSchema.properties : {}, said = isObject(one.metadata) ? one.metadata : {};
  const call = shownFold().calls.get(one.toolCallId)?.call.function, approval = isApproval(one);
  const answer = (status, payload) => {
    thread.answers.set(one.id, { interruptId: one.id, status, ...(payload !== undefined && { payload }) });
    if (asks.every(({ id }) => thread.answers.has(id))) start({ resume: asks.map(({ id }) => thread.answers.get(id)) });
    else draw();
  };
  const left = active && !past && readExpiry(one) > 0 && h("span", { class: "clock" }, timeLeft(readExpiry(one)));
  if (left) left.until = readExpiry(one);
  const stands = given ? describeAnswer(given) : !open ? "" : past ? "expired" : ["waits for your answer", left && [", ", left]];
  return box("tool", [h("b", {}, String(said.tool ?? call?.name ?? one.reason ?? "question")), h("span", { class: `end ${past ? "failed" : active ? "asking" : ""}` }, [stands].flat(2).filter(Boolean))],
    one.message && h("p", {}, truncate(String(one.message))),
    approval && !(active && draft.mode === "edit") && (said.input ?? call?.arguments) !== undefined && part("input", inputOf(said, call)),
    one.responseSchema && !approval && h("div", { class: "part", style: "display: block" }, buildTree(one.responseSchema)),
    open && given && h("div", { class: "answer" }, h("span", { class: "dim" }, "The run continues when all questions are answered."),
      h("button", { class: "plain", onclick: () => { thread.answers.delete(one.id); draw(); } }, "Change")),
    active && h("div", { class: "answer" }, past ? [h("span", { class: "dim" }, "It has expired and can only be cancelled."), h("button", { class: "main", onclick: () => answer("cancelled") }, "Cancel")]
      : approval ? buildApproval(draft, fields, inputOf(said, call), answer) : buildAnswer(one, draft, answer)));
}
const inputOf = (said, call) => {
  let value = said.input;
  if (value === undefined) try { value = JSON.parse(call.arguments); } catch { return String(call?.arguments ?? ""); }
  return JSON.stringify(value, null, JSON.stringify(value).length > 48 ? 2 : 0);
};

/** Builds the controls to approve, edit or reject, which answer `{approved, editedArgs, reason}` and the ticked options. */
function buildApproval(draft, fields, given, answer) {
  const back = h("button", { class: "plain", onclick: () => switchMode(draft, "") }, "Back");
  const wrong = draft.wrong && h("div", { class: "failed", role: "alert" }, draft.wrong);
  const ticks = Object.entries(fields).filter(([name, field]) => name !== "approved" && field?.type === "boolean");
  const marks = ticks.map(([name, { description }]) => h("label", {}, h("input", { type: "checkbox", checked: draft.marks[name] === true, onchange: ({ target }) => { draft.marks[name] = target.checked; } }),
    shorten(String(description ?? name), 60)));
  const ticked = () => Object.fromEntries(ticks.filter(([name]) => draft.marks[name]).map(([name]) => [name, true]));
  const reject = () => answer("resolved", { approved: false, ...(draft.reason.trim() && { reason: draft.reason.trim() }) });
  if (draft.mode === "edit") {
    const field = draft.field = h("textarea", { class: "mono", spellcheck: "false", "aria-label": "The input, as JSON", oninput: () => { draft.text = field.value; } });
    field.value = draft.text ??= given;
    const run = () => {
      let editedArgs;
      try { editedArgs = JSON.parse(field.value); } catch ({ message }) { draft.wrong = `This is not JSON: ${message}`; return draw(); }
      if (!isObject(editedArgs) || Array.isArray(editedArgs)) { draft.wrong = "The input must be a JSON object: { … }"; return draw(); }
      answer("resolved", { approved: true, editedArgs, ...ticked() });
    };
    return [field, wrong, h("button", { class: "main", onclick: run }, "Approve as edited"), back, marks];
  }
  if (draft.mode === "reject") {
    const field = draft.field = h("input", { type: "text", "aria-label": "Reason", placeholder: "Reason, for the agent (optional)", value: draft.reason,
      oninput: () => { draft.reason = field.value; }, onkeydown: (press) => { if (press.key === "Enter" && !press.isComposing) reject(); } });
    return [field, h("button", { class: "main", onclick: reject }, "Reject"), back];
  }
  return [h("button", { class: "main", onclick: () => answer("resolved", { approved: true, ...ticked() }) }, "Approve"),
    fields.editedArgs && h("button", { onclick: () => switchMode(draft, "edit") }, "Edit"),
    h("button", { onclick: () => fields.reason ? switchMode(draft, "reject") : reject() }, "Reject"), marks];
}

/** Builds the controls for a question with no schema, or with one that does not ask for approval. */
function buildAnswer(one, draft, answer) {
  const free = one.reason === "input_required" || draft.mode === "other";
  const field = draft.field = h("textarea", { class: "mono", "aria-label": "Answer, as JSON or text", placeholder: "An answer: JSON, or text", hidden: !free, oninput: () => { draft.text = field.value; } });
  field.value = draft.text ?? "";
  const send = () => {
    let payload = field.value;
    try { payload = JSON.parse(payload); } catch { /* sent as text */ }
    answer("resolved", payload);
  };
  const other = free ? h("button", { onclick: send }, "Send the answer") : h("button", { onclick: () => switchMode(draft, "other") }, "Other answer");
  return [field,
    one.reason !== "input_required" && [h("button", { class: "main", onclick: () => answer("resolved", { approved: true }) }, "Approve"), h("button", { onclick: () => answer("resolved", { approved: false }) }, "Reject")],
    other, h("button", { class: "plain", onclick: () => answer("cancelled") }, "Cancel")];
}
