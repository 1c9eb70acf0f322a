//! The events that open again what is open in a run, for a reader who comes in the middle of it.
use std::borrow::Cow;
use std::collections::HashMap;

use crate::event::{Event, Kind, object_of};
use crate::lifecycle::{Owner, shown, tag};
use crate::text;

/// What is open, by the kind that opens it, whose it is where names are only unique with that, and its id.
type Key = (Kind, Owner, String);

/// What a run has opened so far. Made from its frames when it is asked for: a run being recorded carries none of it.
#[derive(Debug, Default)]
pub(crate) struct Reopen {
    /// In the order of the run; `None` for what was closed since.
    events: Vec<Option<String>>,
    open: HashMap<Key, usize>,
}

impl Reopen {
    /// Takes in the next event of the run.
    pub(crate) fn push(&mut self, event: &Event<'_>) {
        let (opener, field) = match event.kind() {
            Kind::TextMessageStart | Kind::TextMessageEnd => (Kind::TextMessageStart, "messageId"),
            Kind::ToolCallStart | Kind::ToolCallEnd => (Kind::ToolCallStart, "toolCallId"),
            Kind::ReasoningStart | Kind::ReasoningEnd => (Kind::ReasoningStart, "messageId"),
            Kind::ReasoningMessageStart | Kind::ReasoningMessageEnd => (Kind::ReasoningMessageStart, "messageId"),
            Kind::StepStarted | Kind::StepFinished => (Kind::StepStarted, "stepName"),
            // A subagent stays known when it is closed: another one may name it as its parent.
            Kind::SubagentStarted | Kind::SubagentFinished | Kind::SubagentError => {
                return self.events.push(Some(event.json().to_owned()));
            }
            _ => return,
        };
        let Some(id) = event.get(field) else { return };
        let owner = tag(event).filter(|_| opener == Kind::StepStarted).map(Cow::into_owned);
        let key = (opener, owner, shown(id).into_owned());
        let closed = if event.kind() == opener {
            self.events.push(Some(opening(event)));
            self.open.insert(key, self.events.len() - 1)
        } else {
            self.open.remove(&key)
        };
        if let Some(at) = closed {
            self.events[at] = None;
        }
    }

    /// The events, in the order of the run.
    pub(crate) fn into_events(self) -> impl Iterator<Item = String> {
        self.events.into_iter().flatten()
    }
}

/// As recorded, but that a message or call brings no metadata: it has it already, and later events may have changed it.
fn opening(event: &Event<'_>) -> String {
    match event.kind() {
        Kind::StepStarted | Kind::ReasoningStart => event.json().to_owned(),
        _ => without(event, "metadata"),
    }
}

/// The event's JSON without a field.
pub(crate) fn without(event: &Event<'_>, field: &str) -> String {
    object_of(event.members().filter(|(key, _)| !text::same(key, field)))
}
