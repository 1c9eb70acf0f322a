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
use crate::reopen_streams::{Reopen, without};
use crate::scan;

/// What a returning reader is given, in this order.
#[derive(Debug)]
pub struct Snapshot {
    /// The last run's `RUN_STARTED` without its input. One is made up, with the ids its end has or else empty ones,
    /// for a thread that has none.
    pub started: String,
    /// The events that come before the messages. None, but where messages were ever moved or dropped: then a reader may
    /// hold them in another order, or such as are gone, and a START may make one anew, so all is opened and swept away.
    pub before: Vec<String>,
    /// The thread's messages, a JSON array, for a `MESSAGES_SNAPSHOT`.
    pub messages: String,
    /// The thread's state, for a `STATE_SNAPSHOT`; `None` if no event set or changed it.
    pub state: Option<String>,
    /// The run's end, if it has ended; else what opens again what is open, if that has not come before.
    pub events: Vec<String>,
}

/// Snapshots that leave nothing of what a reader held, once the messages follow. One owns activities and reasoning by
/// bringing one of each; but only what the messages bring as well, for else they would not drop it again. Where they
/// bring no reasoning, what went away is made plain messages first: the newer client drops those. (The older one does
/// not, in a replay neither.) Activities the newer one lets be disowned.
fn sweep(messages: &str, gone_reasoning: &[String]) -> Vec<String> {
    const ACTIVITY: &str = r#"{"id":"agentrunner-sweep-1","role":"activity","activityType":"sweep","content":{}}"#;
    const REASONING: &str = r#"{"id":"agentrunner-sweep-2","role":"reasoning","content":""}"#;
    let roles: Vec<_> = scan::elements(messages).into_iter().filter_map(|message| string(message, "role")).collect();
    let brings = |role| roles.iter().any(|it| it == role);
    let event = |messages: &str| {
        let owned = r#"{"@ag-ui/client":{"authoritativeActivityTypes":null}}"#;
        format!(r#"{{"type":"MESSAGES_SNAPSHOT","messages":[{messages}],"metadata":{owned}}}"#)
    };
    let mut events = Vec::new();
    if !brings("reasoning") && !gone_reasoning.is_empty() {
        let plain = gone_reasoning.iter().map(|id| format!(r#"{{"id":"{id}","role":"developer","content":""}}"#));
        events.push(event(&plain.collect::<Vec<_>>().join(",")));
    }
    let each = [("activity", ACTIVITY), ("reasoning", REASONING)];
    let brought: Vec<_> = each.iter().filter(|(role, _)| brings(role)).map(|(_, message)| *message).collect();
    events.push(event(&brought.join(",")));
    events
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
        let state = self.fold.state_set().then(|| self.fold.state());
        let mut open: Vec<_> = if ended { Vec::new() } else { self.reopen.into_events().collect() };
        let mut before = Vec::new();
        if !self.fold.only_grew() {
            before.append(&mut open);
            before.extend(sweep(&messages, self.fold.gone_reasoning()));
        }
        let started = self.started.unwrap_or_else(|| started(self.finished.as_deref()));
        let events = open.into_iter().chain(self.finished).chain(self.error).collect();
        Snapshot { started, before, messages, state, events }
    }
}

/// A `RUN_STARTED` for a run that has none, with the ids its end has.
fn started(finished: Option<&str>) -> String {
    let id = |name| finished.and_then(|json| field(json, name)).unwrap_or("\"\"");
    let fields = [("type", "\"RUN_STARTED\""), ("threadId", id("threadId")), ("runId", id("runId"))];
    object_of(fields.into_iter())
}
