//! A thread as a reader takes it over who may hold some of it already: what it holds is replaced, not added to.
//!
//! `RUN_STARTED`, `MESSAGES_SNAPSHOT`, `STATE_SNAPSHOT`, the events that follow, then the rest of the run as it comes.
//! Facts about the clients that make this right (`@ag-ui/client` 0.0.59 and 1.0.0 alike):
//! - A START whose message or call is there changes nothing but its metadata, so what is open can be opened again.
//! - A snapshot replaces messages by id where they stand and puts new ones at the end: whoever holds the beginning of
//!   the thread's messages gets their order. It drops what it does not bring, but activities only if it brings one, and
//!   reasoning only if it brings some.
//!
//! What stays: a verifying client takes a message's owner from the snapshot, and refuses a later event of the run that
//! gives an id of an earlier run to another subagent.
use std::borrow::Cow;

use crate::chunks::Expander;
use crate::error::Result;
use crate::event::{Event, Kind, object_of};
use crate::fold::Fold;
use crate::frames;
use crate::lifecycle::{field, string};
use crate::reopen::{Reopen, without};
use crate::scan;

/// What a returning reader is given.
#[derive(Debug)]
pub struct Snapshot {
    /// The last run's `RUN_STARTED` without its input. One is made up, with the ids its end has or else empty ones,
    /// for a thread that has none.
    pub started: String,
    /// The thread's messages, a JSON array.
    pub messages: String,
    /// The thread's state; `None` if no event set or changed it.
    pub state: Option<String>,
    /// The run's end, if it has ended; else what opens again what is open. Before the end, behind the opening: snapshots
    /// that sweep away what is held, where a reader may hold messages in another order or such as are gone.
    pub events: Vec<String>,
}

/// Snapshots that leave nothing of what a reader held, then the messages. The first owns activities and reasoning by
/// bringing one of each; but only what the second brings as well, for else that would not drop it again. What no
/// snapshot brings, the older client keeps in a replay too; the newer one lets its activities be disowned.
fn replacing(messages: &str) -> [String; 2] {
    const ACTIVITY: &str = r#"{"id":"agentrunner-sweep-1","role":"activity","activityType":"sweep","content":{}}"#;
    const REASONING: &str = r#"{"id":"agentrunner-sweep-2","role":"reasoning","content":""}"#;
    let roles: Vec<_> = scan::elements(messages).into_iter().filter_map(|message| string(message, "role")).collect();
    let swept = [("activity", ACTIVITY), ("reasoning", REASONING)];
    let swept: Vec<_> = swept.iter().filter(|(role, _)| roles.iter().any(|it| it == role)).map(|it| it.1).collect();
    [&format!("[{}]", swept.join(",")), messages].map(|messages| {
        let owned = r#"{"@ag-ui/client":{"authoritativeActivityTypes":null}}"#;
        format!(r#"{{"type":"MESSAGES_SNAPSHOT","messages":{messages},"metadata":{owned}}}"#)
    })
}

/// The thread of these frames, all runs in order; `None` without an event.
pub fn snapshot<'f>(pieces: impl IntoIterator<Item = &'f [u8]>) -> Result<Option<Snapshot>> {
    let (mut thread, mut expander, mut out) = (Thread::default(), Expander::new(), Vec::new());
    for frame in pieces.into_iter().flat_map(frames::iter) {
        let event = Event::parse_str(frame?.1)?;
        let normalized = event.normalized();
        let event = match &normalized {
            Cow::Borrowed(_) => event,
            Cow::Owned(json) => Event::parse_str(json)?,
        };
        if expander.push(&event, &mut out)? {
            for json in out.drain(..) {
                thread.push(&Event::parse_str(&json)?);
            }
        } else {
            thread.push(&event);
        }
    }
    Ok(thread.seen.then(|| thread.finish()))
}

#[derive(Default)]
struct Thread {
    seen: bool,
    fold: Fold,
    /// Of the last run.
    started: Option<String>,
    reopen: Reopen,
    finished: Option<String>,
    error: Option<String>,
}

impl Thread {
    fn push(&mut self, event: &Event<'_>) {
        self.seen = true;
        self.fold.push(event);
        match event.kind() {
            Kind::RunStarted => {
                let fold = std::mem::take(&mut self.fold);
                *self = Self { seen: true, fold, started: Some(without(event, "input")), ..Self::default() };
            }
            Kind::RunFinished => self.finished = Some(event.json().to_owned()),
            Kind::RunError => self.error = Some(event.json().to_owned()),
            _ => self.reopen.push(event),
        }
    }

    fn finish(self) -> Snapshot {
        let ended = self.finished.is_some() || self.error.is_some();
        let messages = self.fold.messages();
        let mut events: Vec<_> = if ended { Vec::new() } else { self.reopen.into_events().collect() };
        // What a reader holds may stand in another order then, or be there no longer; a START may have made it anew.
        if !self.fold.only_grew() {
            events.extend(replacing(&messages));
        }
        let started = self.started.unwrap_or_else(|| started(self.finished.as_deref()));
        events.extend(self.finished);
        events.extend(self.error);
        let state = self.fold.state_set().then(|| self.fold.state());
        Snapshot { started, messages, state, events }
    }
}

/// A `RUN_STARTED` for a run that has none, with the ids its end has.
fn started(finished: Option<&str>) -> String {
    let id = |name| finished.and_then(|json| field(json, name)).unwrap_or("\"\"");
    let fields = [("type", "\"RUN_STARTED\""), ("threadId", id("threadId")), ("runId", id("runId"))];
    object_of(fields.into_iter())
}
