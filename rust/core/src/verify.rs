//! The rules of AG-UI about the order of events (docs/spec/agui.md §6.5, 1.0.0), in the reference's words.
use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::family::{Edge, Family, Part, PerFamily, Role};
use crate::kind::Kind;
use crate::lifecycle::{Entity, Lifecycle, Owner, input_messages, open_ids, snapshot_messages, sort_by_time};
use crate::scan::{self, MemberVec};
use crate::{members, text};

mod subagents;

/// How the rules name a reasoning span.
const SPAN: &str = "reasoning span";

impl Lifecycle {
    /// Verify an event and record it. An error changes nothing.
    pub fn check(&mut self, event: &Event<'_>) -> Result<()> {
        self.verify(event)?;
        self.apply(event);
        Ok(())
    }

    fn verify(&self, event: &Event<'_>) -> Result<()> {
        // The rules about the run come first, because the reference reports them first.
        self.verify_run(event)?;
        if event.is_null("subagentRunId") {
            return refuse_null(event, "subagentRunId");
        }
        match event.role() {
            Role::Stream(family, Part::Delta | Part::End) => self.verify_continued(event, family),
            Role::Stream(Family::ToolCall, Part::Start) => self.verify_tool_call_start(event),
            Role::Stream(family, Part::Start) => {
                let row = family.row();
                let id = require_id(event, row.id)?;
                let entity = self.streams[family].get(&*id);
                check_closed(event, &id, entity.is_some_and(Entity::is_open), row.noun, row.end)?;
                check_owner(event, entity.map(|entity| &entity.owner), row.owned_noun, &id)
            }
            Role::Span(edge) => self.verify_span(event, edge),
            Role::EncryptedValue => self.verify_encrypted_value(event),
            Role::ActivityDelta => {
                // A delta for an unknown activity is legal (docs/spec/agui.md §6.5).
                let id = event.string("messageId").unwrap_or_default();
                check_owner(event, self.activities.get(&*id), "activity", &id)
            }
            Role::Step(edge) => self.verify_step(event, edge),
            Role::Subagent(edge) => self.verify_subagent(event, edge),
            Role::MessagesSnapshot => refuse_null_owners(snapshot_messages(event)),
            Role::RunStarted => refuse_null_owners(input_messages(event)),
            Role::RunFinished => self.verify_finished(event),
            Role::RunError
            | Role::Chunk(_)
            | Role::ToolResult
            | Role::StateSnapshot
            | Role::StateDelta
            | Role::ActivitySnapshot
            | Role::Raw
            | Role::Custom
            | Role::Unknown => Ok(()),
        }
    }

    /// Refuse an event before the run starts or after it ends, and a run in a run (rules 1 to 4).
    fn verify_run(&self, event: &Event<'_>) -> Result<()> {
        let name = event.type_name();
        match (self.ended_with, event.role()) {
            (Some(_), Role::RunStarted) | (Some(Kind::RunFinished), Role::RunError) => Ok(()),
            (Some(Kind::RunError), _) => refuse(format!(
                "Cannot send event type '{name}': The run has already errored with 'RUN_ERROR'. No further events \
                 can be sent."
            )),
            (Some(_), _) => refuse(format!(
                "Cannot send event type '{name}': The run has already finished with 'RUN_FINISHED'. Start a new run \
                 with 'RUN_STARTED'."
            )),
            (None, Role::RunStarted) if self.is_started => refuse(
                "Cannot send 'RUN_STARTED' while a run is still active. The previous run must be finished with \
                 'RUN_FINISHED' before starting a new run."
                    .into(),
            ),
            (None, Role::RunStarted | Role::RunError) => Ok(()),
            (None, _) if !self.has_events => refuse("First event must be 'RUN_STARTED'".into()),
            (None, _) => Ok(()),
        }
    }

    /// Refuse a CONTENT, ARGS or END whose stream is not open.
    #[inline]
    fn verify_continued(&self, event: &Event<'_>, family: Family) -> Result<()> {
        let row = family.row();
        let id = require_id(event, row.id)?;
        match self.streams[family].get(&*id) {
            Some(entity) if entity.is_open() => check_owner(event, Some(&entity.owner), row.owned_noun, &id),
            _ => {
                let (name, noun, start) = (event.type_name(), row.noun, row.start);
                let is_end = matches!(event.role(), Role::Stream(_, Part::End));
                let advice = if is_end && row.has_short_end_advice {
                    format!("A '{start}' event must be sent first.")
                } else {
                    format!("Start a {noun} with '{start}' first.")
                };
                refuse(format!("Cannot send '{name}' event: No active {noun} found with ID '{id}'. {advice}"))
            }
        }
    }

    /// Refuse a call that is open, or that does not belong to the owner of its parent message (rules 6 and 10).
    fn verify_tool_call_start(&self, event: &Event<'_>) -> Result<()> {
        let row = Family::ToolCall.row();
        let id = require_id(event, row.id)?;
        let call = self.streams.tool_call.get(&*id);
        check_closed(event, &id, call.is_some_and(Entity::is_open), row.noun, row.end)?;
        let subagent = event.subagent();
        let parent = event.string("parentMessageId");
        let parent = parent.and_then(|id| self.streams.text.get(&*id).map(|message| (id, &message.owner)));
        if let (Some(subagent), Some((parent, owner))) = (&subagent, &parent)
            && owner.as_deref() != Some(subagent)
        {
            let owner = name_owner(owner);
            return refuse(format!(
                "Cannot send 'TOOL_CALL_START': subagentRunId '{subagent}' does not match its parent message \
                 '{parent}' owner '{owner}'. A tool call belongs to the message that carries it."
            ));
        }
        let Some(call) = call else { return Ok(()) };
        check_owner(event, Some(&call.owner), row.owned_noun, &id)?;
        match parent {
            Some((parent, owner)) if subagent.is_none() && *owner != call.owner => refuse(format!(
                "Cannot send 'TOOL_CALL_START': tool call '{id}' is owned by '{}' but its parent message '{parent}' \
                 is owned by '{}'. A tool call belongs to the message that carries it.",
                name_owner(&call.owner),
                name_owner(owner)
            )),
            _ => Ok(()),
        }
    }

    /// Refuse to open a span twice, or to close one that is not open (rule 8).
    fn verify_span(&self, event: &Event<'_>, edge: Edge) -> Result<()> {
        let id = require_id(event, "messageId")?;
        let is_open = self.spans.contains_key(&*id);
        match edge {
            Edge::Open => check_closed(event, &id, is_open, SPAN, "REASONING_END")?,
            Edge::Close if !is_open => {
                return refuse(format!(
                    "Cannot send 'REASONING_END' event: No active {SPAN} found with ID '{id}'. A 'REASONING_START' \
                     event must be sent first."
                ));
            }
            Edge::Close => {}
        }
        let owner = self.streams.reasoning.get(&*id).map(|entity| &entity.owner);
        check_owner(event, owner, Family::Reasoning.row().owned_noun, &id)
    }

    fn verify_encrypted_value(&self, event: &Event<'_>) -> Result<()> {
        let id = event.string("entityId").unwrap_or_default();
        let PerFamily { text, tool_call, reasoning } = &self.streams;
        let (entity, noun) = match event.string("subtype").as_deref() {
            Some("tool-call") => (tool_call.get(&*id), "tool call"),
            // A text message and a reasoning message may both carry one.
            Some("message") => (text.get(&*id).or_else(|| reasoning.get(&*id)), "message"),
            _ => (reasoning.get(&*id), "reasoning message"),
        };
        check_owner(event, entity.map(|entity| &entity.owner), noun, &id)
    }

    /// Refuse to start an open step of the same owner, or to finish one of another owner (rule 7).
    fn verify_step(&self, event: &Event<'_>, edge: Edge) -> Result<()> {
        let step = require_id(event, "stepName")?;
        let owner = event.subagent().map(Cow::into_owned);
        let is_open = self.steps.get(&owner).is_some_and(|steps| steps.names.contains_key(&*step));
        if edge == Edge::Open {
            if !is_open {
                return Ok(());
            }
            let place = owner.map(|owner| format!(" in subagent '{owner}'")).unwrap_or_default();
            return refuse(format!("Step \"{step}\" is already active for 'STEP_STARTED'{place}"));
        }
        if is_open {
            return Ok(());
        }
        // The step may be open under another owner; the reference names the earliest one.
        let others = self.steps.iter().filter(|(_, steps)| steps.names.contains_key(&*step));
        let Some((other, _)) = others.min_by_key(|(_, steps)| steps.opened_at) else {
            return refuse(format!("Cannot send 'STEP_FINISHED' for step \"{step}\" that was not started"));
        };
        let describe = |owner: &Owner| match owner {
            Some(owner) => format!("subagent '{owner}'"),
            None => "the parent agent".into(),
        };
        refuse(format!(
            "Cannot send 'STEP_FINISHED' for step \"{step}\" attributed to {}: that step is open under {}. A step \
             must be finished by whoever started it.",
            describe(&owner),
            describe(other)
        ))
    }

    /// Refuse to finish a run while anything is open (rule 9), or with an interrupt whose subagent is null (rule 11).
    fn verify_finished(&self, event: &Event<'_>) -> Result<()> {
        let outcome = event.get("outcome").unwrap_or_default();
        if members::string_of(outcome, "type").as_deref() == Some("interrupt") {
            for interrupt in scan::elements(members::value_of(outcome, "interrupts").unwrap_or_default()) {
                if members::value_of(interrupt, "subagentRunId") == Some("null") {
                    let id = members::value_of(interrupt, "id").map_or("undefined".into(), text::display);
                    return refuse(format!(
                        "Cannot send 'RUN_FINISHED' with an interrupt (id '{id}') carrying 'subagentRunId: null'. \
                         The field is optional — omit it entirely."
                    ));
                }
            }
        }
        let steps = self.describe_open_steps();
        let PerFamily { text, tool_call, reasoning } = &self.streams;
        // The reference names only the first of these that is open, in this order.
        for (nouns, open) in [
            ("steps", steps.iter().map(String::as_str).collect()),
            ("text messages", open_ids(text)),
            ("reasoning messages", open_ids(reasoning)),
            ("reasoning spans", self.open_spans()),
            ("tool calls", open_ids(tool_call)),
            ("subagents", self.open_subagents()),
        ] {
            if !open.is_empty() {
                let open = open.join(", ");
                return refuse(format!("Cannot send 'RUN_FINISHED' while {nouns} are still active: {open}"));
            }
        }
        Ok(())
    }

    fn describe_open_steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        let by_owner = self.steps.iter().map(|(owner, steps)| (steps.opened_at, (owner, &steps.names)));
        for (owner, names) in sort_by_time(by_owner) {
            for name in sort_by_time(names.iter().map(|(name, opened_at)| (*opened_at, name))) {
                steps.push(owner.as_ref().map_or(name.clone(), |owner| format!("{name} (subagent '{owner}')")));
            }
        }
        steps
    }
}

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::InvalidSequence(message))
}

fn refuse_null<T>(event: &Event<'_>, field: &str) -> Result<T> {
    let name = event.type_name();
    refuse(format!("Cannot send '{name}' with '{field}: null'. The field is optional — omit it entirely."))
}

fn name_owner(owner: &Owner) -> &str {
    owner.as_deref().unwrap_or("(the parent agent)")
}

fn require_id<'a>(event: &Event<'a>, name: &str) -> Result<Cow<'a, str>> {
    match event.string(name) {
        Some(id) => Ok(id),
        None => refuse(format!("Cannot send '{}' without a '{name}'.", event.type_name())),
    }
}

/// Refuse an event of a subagent that is not the owner. An event without a subagent agrees with every owner.
#[inline]
fn check_owner(event: &Event<'_>, owner: Option<&Owner>, noun: &str, id: &str) -> Result<()> {
    match (event.subagent(), owner) {
        (Some(subagent), Some(owner)) if owner.as_deref() != Some(&*subagent) => refuse(format!(
            "Cannot send '{}': subagentRunId '{subagent}' does not match the {noun} '{id}' opener's subagent '{}'.",
            event.type_name(),
            name_owner(owner)
        )),
        _ => Ok(()),
    }
}

/// Refuse a START whose stream is open.
fn check_closed(event: &Event<'_>, id: &str, is_open: bool, noun: &str, end: &str) -> Result<()> {
    if !is_open {
        return Ok(());
    }
    let name = event.type_name();
    refuse(format!(
        "Cannot send '{name}' event: A {noun} with ID '{id}' is already in progress. Complete it with '{end}' first."
    ))
}

fn refuse_null_owners<'j>(messages: impl Iterator<Item = (&'j str, MemberVec<'j>)>) -> Result<()> {
    for (_, message) in messages {
        if members::find(&message, "subagentRunId") == Some("null")
            && let Some(id) = members::find_string(&message, "id")
        {
            return refuse(format!(
                "Cannot send a message (id '{id}') with 'subagentRunId: null'. The field is optional — omit it \
                 entirely."
            ));
        }
    }
    Ok(())
}
