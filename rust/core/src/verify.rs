//! The rules of AG-UI about the order of events (docs/spec/agui.md §6.5, 1.0.0), in the reference's words.
use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::event::{Event, Kind};
use crate::lifecycle::{
    Entity, Lifecycle, Owner, field, field_in, in_order, input_messages, opened, shown, snapshot_messages, string,
    string_in, tag,
};
use crate::scan;

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::InvalidSequence(message))
}

impl Lifecycle {
    pub(crate) fn verify(&self, event: &Event<'_>) -> Result<()> {
        let name = event.type_name();
        self.verify_run(event)?;
        if event.is_null("subagentRunId") {
            return refuse(format!(
                "Cannot send '{name}' with 'subagentRunId: null'. The field is optional — omit it entirely."
            ));
        }
        match event.kind() {
            Kind::TextMessageContent | Kind::TextMessageEnd => {
                continues(event, &self.messages, "messageId", "text message", "message")
            }
            Kind::ToolCallArgs | Kind::ToolCallEnd => {
                continues(event, &self.tools, "toolCallId", "tool call", "tool call")
            }
            Kind::ReasoningMessageContent | Kind::ReasoningMessageEnd => {
                continues(event, &self.reasoning, "messageId", "reasoning message", "reasoning message")
            }
            Kind::TextMessageStart => {
                let id = id(event, "messageId")?;
                let known = self.messages.get(&*id);
                closed(event, &id, known.is_some_and(|it| it.open.is_some()), "text message", "TEXT_MESSAGE_END")?;
                agrees(event, known.map(|it| &it.owner), "message", &id)
            }
            Kind::ToolCallStart => self.verify_tool_start(event),
            Kind::ReasoningMessageStart => {
                let id = id(event, "messageId")?;
                let known = self.reasoning.get(&*id);
                let open = known.is_some_and(|it| it.open.is_some());
                closed(event, &id, open, "reasoning message", "REASONING_MESSAGE_END")?;
                agrees(event, known.map(|it| &it.owner), "reasoning message", &id)
            }
            Kind::ReasoningStart => {
                let id = id(event, "messageId")?;
                closed(event, &id, self.spans.contains_key(&*id), "reasoning span", "REASONING_END")?;
                agrees(event, self.reasoning.get(&*id).map(|it| &it.owner), "reasoning message", &id)
            }
            Kind::ReasoningEnd => {
                let id = id(event, "messageId")?;
                if !self.spans.contains_key(&*id) {
                    return refuse(format!(
                        "Cannot send 'REASONING_END' event: No active reasoning span found with ID '{id}'. \
                         A 'REASONING_START' event must be sent first."
                    ));
                }
                agrees(event, self.reasoning.get(&*id).map(|it| &it.owner), "reasoning message", &id)
            }
            Kind::ReasoningEncryptedValue => self.verify_encrypted(event),
            Kind::ActivityDelta => {
                let id = event.string("messageId").unwrap_or_default();
                agrees(event, self.activities.get(&*id), "activity", &id)
            }
            Kind::StepStarted | Kind::StepFinished => self.verify_step(event),
            Kind::SubagentStarted | Kind::SubagentFinished | Kind::SubagentError => self.verify_subagent(event),
            Kind::MessagesSnapshot => no_null_owner(&snapshot_messages(event)),
            Kind::RunStarted => no_null_owner(&input_messages(event)),
            Kind::RunFinished => self.verify_finished(event),
            _ => Ok(()),
        }
    }

    fn verify_run(&self, event: &Event<'_>) -> Result<()> {
        let name = event.type_name();
        match (self.ended_with, event.kind()) {
            (Some(_), Kind::RunStarted) | (Some(Kind::RunFinished), Kind::RunError) => Ok(()),
            (Some(Kind::RunError), _) => refuse(format!(
                "Cannot send event type '{name}': The run has already errored with 'RUN_ERROR'. No further events \
                 can be sent."
            )),
            (Some(_), _) => refuse(format!(
                "Cannot send event type '{name}': The run has already finished with 'RUN_FINISHED'. Start a new run \
                 with 'RUN_STARTED'."
            )),
            (None, Kind::RunStarted) if self.started => refuse(
                "Cannot send 'RUN_STARTED' while a run is still active. The previous run must be finished with \
                 'RUN_FINISHED' before starting a new run."
                    .into(),
            ),
            (None, Kind::RunStarted | Kind::RunError) => Ok(()),
            (None, _) if !self.seen => refuse("First event must be 'RUN_STARTED'".into()),
            (None, _) => Ok(()),
        }
    }

    fn verify_tool_start(&self, event: &Event<'_>) -> Result<()> {
        let id = id(event, "toolCallId")?;
        let known = self.tools.get(&*id);
        closed(event, &id, known.is_some_and(|it| it.open.is_some()), "tool call", "TOOL_CALL_END")?;
        let tag = tag(event);
        let parent = event.string("parentMessageId");
        let parent = parent.and_then(|id| self.messages.get(&*id).map(|it| (id, &it.owner)));
        if let (Some(tag), Some((parent, owner))) = (&tag, &parent)
            && owner.as_deref() != Some(tag)
        {
            let owner = named(owner);
            return refuse(format!(
                "Cannot send 'TOOL_CALL_START': subagentRunId '{tag}' does not match its parent message '{parent}' \
                 owner '{owner}'. A tool call belongs to the message that carries it."
            ));
        }
        let Some(known) = known else { return Ok(()) };
        agrees(event, Some(&known.owner), "tool call", &id)?;
        match parent {
            Some((parent, owner)) if tag.is_none() && *owner != known.owner => refuse(format!(
                "Cannot send 'TOOL_CALL_START': tool call '{id}' is owned by '{}' but its parent message '{parent}' \
                 is owned by '{}'. A tool call belongs to the message that carries it.",
                named(&known.owner),
                named(owner)
            )),
            _ => Ok(()),
        }
    }

    fn verify_encrypted(&self, event: &Event<'_>) -> Result<()> {
        let id = event.string("entityId").unwrap_or_default();
        let (entity, what) = match event.string("subtype").as_deref() {
            Some("tool-call") => (self.tools.get(&*id), "tool call"),
            // Both kinds of message may carry one.
            Some("message") => (self.messages.get(&*id).or_else(|| self.reasoning.get(&*id)), "message"),
            _ => (self.reasoning.get(&*id), "reasoning message"),
        };
        agrees(event, entity.map(|it| &it.owner), what, &id)
    }

    fn verify_step(&self, event: &Event<'_>) -> Result<()> {
        let step = id(event, "stepName")?;
        let owner = tag(event).map(Cow::into_owned);
        let open = self.steps.get(&owner).is_some_and(|steps| steps.names.contains_key(&*step));
        if event.kind() == Kind::StepStarted {
            if !open {
                return Ok(());
            }
            let place = owner.map(|owner| format!(" in subagent '{owner}'")).unwrap_or_default();
            return refuse(format!("Step \"{step}\" is already active for 'STEP_STARTED'{place}"));
        }
        if open {
            return Ok(());
        }
        // The likelier mistake is told apart: the step is open, but somebody else's.
        let others = self.steps.iter().filter(|(_, steps)| steps.names.contains_key(&*step));
        let Some((other, _)) = others.min_by_key(|(_, steps)| steps.since) else {
            return refuse(format!("Cannot send 'STEP_FINISHED' for step \"{step}\" that was not started"));
        };
        let who = |owner: &Owner| match owner {
            Some(owner) => format!("subagent '{owner}'"),
            None => "the parent agent".into(),
        };
        refuse(format!(
            "Cannot send 'STEP_FINISHED' for step \"{step}\" attributed to {}: that step is open under {}. A step \
             must be finished by whoever started it.",
            who(&owner),
            who(other)
        ))
    }

    fn verify_subagent(&self, event: &Event<'_>) -> Result<()> {
        let name = event.type_name();
        let (optional, required): (&[_], _) = match event.kind() {
            Kind::SubagentStarted => {
                (&["description", "parentSubagentRunId", "parentToolCallId", "parentMessageId"], Some("name"))
            }
            Kind::SubagentFinished => (&["outcome"], None),
            _ => (&["code"], Some("message")),
        };
        if let Some(field) = optional.iter().find(|field| event.is_null(field)) {
            return refuse(format!(
                "Cannot send '{name}' with '{field}: null'. The field is optional — omit it entirely."
            ));
        }
        verify_outcome(event)?;
        let id = id(event, "subagentRunId")?;
        if let Some(field) = required.filter(|field| event.escaped(field).is_none()) {
            return refuse(format!("Cannot send '{name}' without a '{field}'."));
        }
        let known = self.subagents.get(&*id);
        if event.kind() != Kind::SubagentStarted {
            return match known {
                Some(Some(_)) => Ok(()),
                _ => refuse(format!(
                    "Cannot send '{name}': no active subagent found with ID '{id}'. A 'SUBAGENT_STARTED' event must \
                     be sent first."
                )),
            };
        }
        match known {
            Some(Some(_)) => refuse(format!(
                "Cannot send 'SUBAGENT_STARTED': subagent '{id}' is already active. Finish it with \
                 'SUBAGENT_FINISHED' first."
            )),
            Some(None) => refuse(format!(
                "Cannot send 'SUBAGENT_STARTED': subagent '{id}' has already finished in this run. Subagent IDs are \
                 per-invocation and cannot be reused."
            )),
            None => match event.string("parentSubagentRunId") {
                Some(parent) if !self.subagents.contains_key(&*parent) => refuse(format!(
                    "Cannot send 'SUBAGENT_STARTED': parentSubagentRunId '{parent}' has not been started in this run."
                )),
                _ => Ok(()),
            },
        }
    }

    fn verify_finished(&self, event: &Event<'_>) -> Result<()> {
        let outcome = event.get("outcome").unwrap_or_default();
        if string(outcome, "type").as_deref() == Some("interrupt") {
            for interrupt in scan::elements(field(outcome, "interrupts").unwrap_or_default()) {
                if field(interrupt, "subagentRunId") == Some("null") {
                    let id = field(interrupt, "id").map_or("undefined".into(), shown);
                    return refuse(format!(
                        "Cannot send 'RUN_FINISHED' with an interrupt (id '{id}') carrying 'subagentRunId: null'. \
                         The field is optional — omit it entirely."
                    ));
                }
            }
        }
        let mut steps = Vec::new();
        for (owner, names) in in_order(self.steps.iter().map(|(owner, it)| (it.since, (owner, &it.names)))) {
            for name in in_order(names.iter().map(|(name, at)| (*at, name))) {
                steps.push(owner.as_ref().map_or(name.clone(), |owner| format!("{name} (subagent '{owner}')")));
            }
        }
        let steps = steps.iter().map(String::as_str).collect();
        let spans = in_order(self.spans.iter().map(|(id, at)| (*at, id.as_str())));
        for (what, open) in [
            ("steps", steps),
            ("text messages", opened(&self.messages)),
            ("reasoning messages", opened(&self.reasoning)),
            ("reasoning spans", spans),
            ("tool calls", opened(&self.tools)),
            ("subagents", self.open_subagents()),
        ] {
            if !open.is_empty() {
                let open = open.join(", ");
                return refuse(format!("Cannot send 'RUN_FINISHED' while {what} are still active: {open}"));
            }
        }
        Ok(())
    }
}

fn named(owner: &Owner) -> &str {
    owner.as_deref().unwrap_or("(the parent agent)")
}

fn id<'a>(event: &Event<'a>, name: &str) -> Result<Cow<'a, str>> {
    match event.string(name) {
        Some(id) => Ok(id),
        None => refuse(format!("Cannot send '{}' without a '{name}'.", event.type_name())),
    }
}

/// An absent tag agrees with every owner; without an owner on record every tag is fine.
#[inline]
fn agrees(event: &Event<'_>, owner: Option<&Owner>, what: &str, id: &str) -> Result<()> {
    match (tag(event), owner) {
        (Some(tag), Some(owner)) if owner.as_deref() != Some(&*tag) => refuse(format!(
            "Cannot send '{}': subagentRunId '{tag}' does not match the {what} '{id}' opener's subagent '{}'.",
            event.type_name(),
            named(owner)
        )),
        _ => Ok(()),
    }
}

/// A CONTENT, ARGS or END needs its stream open.
#[inline]
fn continues(event: &Event<'_>, open: &HashMap<String, Entity>, key: &str, noun: &str, what: &str) -> Result<()> {
    let id = id(event, key)?;
    match open.get(&*id) {
        Some(entity) if entity.open.is_some() => agrees(event, Some(&entity.owner), what, &id),
        _ => {
            let (opener, bare_end) = match event.kind() {
                Kind::TextMessageContent => ("TEXT_MESSAGE_START", false),
                Kind::TextMessageEnd => ("TEXT_MESSAGE_START", true),
                Kind::ToolCallArgs => ("TOOL_CALL_START", false),
                Kind::ToolCallEnd => ("TOOL_CALL_START", true),
                _ => ("REASONING_MESSAGE_START", false),
            };
            let advice = if bare_end {
                format!("A '{opener}' event must be sent first.")
            } else {
                format!("Start a {noun} with '{opener}' first.")
            };
            let name = event.type_name();
            refuse(format!("Cannot send '{name}' event: No active {noun} found with ID '{id}'. {advice}"))
        }
    }
}

/// A START needs its stream closed.
fn closed(event: &Event<'_>, id: &str, open: bool, noun: &str, end: &str) -> Result<()> {
    if !open {
        return Ok(());
    }
    let name = event.type_name();
    refuse(format!(
        "Cannot send '{name}' event: A {noun} with ID '{id}' is already in progress. Complete it with '{end}' first."
    ))
}

fn verify_outcome(event: &Event<'_>) -> Result<()> {
    let name = event.type_name();
    let Some(outcome) = event.get("outcome").filter(|outcome| *outcome != "null") else { return Ok(()) };
    if !matches!(string(outcome, "type").as_deref(), Some("success" | "suspended")) {
        let given = field(outcome, "type").map_or("undefined".into(), shown);
        return refuse(format!(
            "Cannot send '{name}' with outcome type '{given}'. The outcome is either {{ type: \"success\" }} or \
             {{ type: \"suspended\" }}."
        ));
    }
    let ids = field(outcome, "interruptIds").unwrap_or_default();
    if ids == "null" {
        return refuse(format!(
            "Cannot send '{name}' with 'outcome.interruptIds: null'. The field is optional — omit it entirely."
        ));
    }
    if scan::elements(ids).iter().any(|id| !id.starts_with('"')) {
        return refuse(format!(
            "Cannot send '{name}' with a non-string entry in 'outcome.interruptIds'. Interrupt ids are strings."
        ));
    }
    Ok(())
}

fn no_null_owner(messages: &[&str]) -> Result<()> {
    for message in messages {
        let message = scan::members(message);
        if field_in(&message, "subagentRunId") == Some("null")
            && let Some(id) = string_in(&message, "id")
        {
            return refuse(format!(
                "Cannot send a message (id '{id}') with 'subagentRunId: null'. The field is optional — omit it \
                 entirely."
            ));
        }
    }
    Ok(())
}
