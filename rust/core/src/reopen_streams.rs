//! The events that reopen a run's open streams, spans, steps and subagents, for a reader that joins in the middle.
use std::borrow::Cow;
use std::collections::HashMap;

use crate::event::Event;
use crate::family::{Edge, Family, Part, Role};
use crate::lifecycle::Owner;
use crate::text;

/// The kinds of things that can be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Opened {
    Text,
    ToolCall,
    Reasoning,
    Span,
    Step,
}

/// Something open: what it is, its owner where its id is only unique with one, and its id.
type Key = (Opened, Owner, String);

/// The opening events of a run whose streams, spans, steps and subagents are still open.
///
/// It is built from a run's frames only when a reader needs it, so it costs nothing while a run is recorded.
#[derive(Debug, Default)]
pub(crate) struct ReopenStreams {
    /// The opening events in the order of the run; `None` for those that were closed.
    events: Vec<Option<String>>,
    open: HashMap<Key, usize>,
}

impl ReopenStreams {
    /// Push the next event of the run.
    pub(crate) fn push(&mut self, event: &Event<'_>) {
        match event.role() {
            Role::Stream(family, Part::Start) => {
                // The reader's message or call has its metadata already, and later events may have changed it.
                self.open(Opened::from(family), family.id_field(), event, event.without_field("metadata"));
            }
            Role::Stream(family, Part::End) => self.close(Opened::from(family), family.id_field(), event),
            Role::Span(Edge::Open) => self.open(Opened::Span, "messageId", event, event.json().to_owned()),
            Role::Span(Edge::Close) => self.close(Opened::Span, "messageId", event),
            Role::Step(Edge::Open) => self.open(Opened::Step, "stepName", event, event.json().to_owned()),
            Role::Step(Edge::Close) => self.close(Opened::Step, "stepName", event),
            // A closed subagent must stay known, because another one may name it as its parent.
            Role::Subagent(_) => self.events.push(Some(event.json().to_owned())),
            Role::RunStarted
            | Role::RunFinished
            | Role::RunError
            | Role::Stream(_, Part::Delta)
            | Role::Chunk(_)
            | Role::ToolResult
            | Role::StateSnapshot
            | Role::StateDelta
            | Role::MessagesSnapshot
            | Role::ActivitySnapshot
            | Role::ActivityDelta
            | Role::EncryptedValue
            | Role::Raw
            | Role::Custom
            | Role::Unknown => {}
        }
    }

    fn open(&mut self, what: Opened, id_field: &str, event: &Event<'_>, json: String) {
        let Some(key) = key(what, id_field, event) else { return };
        self.events.push(Some(json));
        // Only the last START is sent: a verifying client refuses a second one for an open stream.
        if let Some(earlier) = self.open.insert(key, self.events.len() - 1) {
            self.events[earlier] = None;
        }
    }

    fn close(&mut self, what: Opened, id_field: &str, event: &Event<'_>) {
        if let Some(index) = key(what, id_field, event).and_then(|key| self.open.remove(&key)) {
            self.events[index] = None;
        }
    }

    /// Return the events, in the order of the run.
    pub(crate) fn into_events(self) -> impl Iterator<Item = String> {
        self.events.into_iter().flatten()
    }
}

fn key(what: Opened, id_field: &str, event: &Event<'_>) -> Option<Key> {
    let id = text::display(event.get(id_field)?).into_owned();
    let owner = event.subagent().filter(|_| what == Opened::Step).map(Cow::into_owned);
    Some((what, owner, id))
}

impl From<Family> for Opened {
    fn from(family: Family) -> Self {
        match family {
            Family::Text => Self::Text,
            Family::ToolCall => Self::ToolCall,
            Family::Reasoning => Self::Reasoning,
        }
    }
}
