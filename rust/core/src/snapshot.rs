//! A thread's snapshot, for a reader that may already have a part of the thread.
//!
//! The snapshot replaces the reader's messages and state. The reader gets `RUN_STARTED`, `MESSAGES_SNAPSHOT`,
//! `STATE_SNAPSHOT`, the events that follow them, then the rest of the run as it arrives. This works because both
//! `@ag-ui/client` 0.0.59 and 1.0.0 behave as follows:
//! - A START whose message or call exists changes only its metadata. Open streams can therefore be opened again.
//! - A snapshot replaces messages by id in their place and adds new ones at the end. A reader who holds the first
//!   messages of the thread therefore gets the thread's order.
//! - A snapshot drops the messages it does not bring. It drops activities only if it brings one, and reasoning only if
//!   it brings some.
//!
//! One limit remains: a verifying client takes a message's owner from the snapshot, and refuses a later event of the run
//! that gives an id of an earlier run to another subagent.
use std::borrow::Cow;

use crate::chunks::Expander;
use crate::error::Result;
use crate::event::Event;
use crate::family::Role;
use crate::fold::Fold;
use crate::frames;
use crate::members;
use crate::reopen_streams::ReopenStreams;
use crate::scan;
use crate::schema;

/// The events for a returning reader, in this order.
#[derive(Debug)]
pub struct Snapshot {
    /// The last run's `RUN_STARTED` without its input.
    ///
    /// A thread without one gets one, with the ids of its `RUN_FINISHED`, or else with empty ids.
    pub started: String,
    /// The events that come before the messages.
    ///
    /// None, unless messages were ever moved or dropped. The reader may then hold messages in another order, or messages
    /// the thread has dropped, and a START could create such a message again. So everything open is opened first, and
    /// then swept away.
    pub before: Vec<String>,
    /// The thread's messages, a JSON array, for a `MESSAGES_SNAPSHOT`.
    pub messages: String,
    /// The thread's state, for a `STATE_SNAPSHOT`; `None` if no event set or changed it.
    pub state: Option<String>,
    /// The end of a run that has ended; otherwise the events that open again what is open, unless they came before.
    pub events: Vec<String>,
}

/// Compute the snapshot of a thread from the frames of all its runs in order; `None` without an event.
pub fn snapshot<'f>(pages: impl IntoIterator<Item = &'f [u8]>) -> Result<Option<Snapshot>> {
    let (mut thread, mut expander, mut out) = (Thread::default(), Expander::new(), Vec::new());
    for frame in pages.into_iter().flat_map(frames::iter) {
        let event = Event::parse_str(frame?.1)?;
        // Runs of other writers may have chunks, and fields that a recorder would have mended.
        let Some(mended) = schema::mend(&event) else { continue };
        let event = match &mended {
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
    Ok(thread.has_events.then(|| thread.finish()))
}

#[derive(Default)]
struct Thread {
    has_events: bool,
    fold: Fold,
    /// The last run's `RUN_STARTED`; so are the fields below the last run's.
    started: Option<String>,
    reopen: ReopenStreams,
    finished: Option<String>,
    error: Option<String>,
}

impl Thread {
    fn push(&mut self, event: &Event<'_>) {
        self.has_events = true;
        self.fold.push(event);
        match event.role() {
            Role::RunStarted => {
                // Only the last run can be open; messages and state are those of the whole thread.
                let fold = std::mem::take(&mut self.fold);
                let started = Some(event.without_field("input"));
                *self = Self { has_events: true, fold, started, ..Self::default() };
            }
            // Both are kept, because a `RUN_ERROR` may follow a `RUN_FINISHED`.
            Role::RunFinished => self.finished = Some(event.json().to_owned()),
            Role::RunError => self.error = Some(event.json().to_owned()),
            _ => self.reopen.push(event),
        }
    }

    fn finish(self) -> Snapshot {
        let has_ended = self.finished.is_some() || self.error.is_some();
        let messages = self.fold.messages();
        let state = self.fold.has_state().then(|| self.fold.state());
        let mut open: Vec<_> = if has_ended { Vec::new() } else { self.reopen.into_events().collect() };
        let mut before = Vec::new();
        if !self.fold.only_grew() {
            before.append(&mut open);
            before.extend(sweep(&messages, self.fold.lost_reasoning()));
        }
        let started = self.started.unwrap_or_else(|| make_run_started(self.finished.as_deref()));
        let events = open.into_iter().chain(self.finished).chain(self.error).collect();
        Snapshot { started, before, messages, state, events }
    }
}

/// Return snapshots that clear everything a reader may hold, once the messages follow.
///
/// A snapshot drops activities and reasoning only if it brings one of each. It brings only what the messages bring as
/// well, because otherwise they would not drop it again. Where they bring no reasoning, lost reasoning is turned into
/// plain messages first, which 1.0.0 then drops; 0.0.59 keeps them, and so does its replay. Activities can be disowned
/// by metadata in 1.0.0.
pub(crate) fn sweep(messages: &str, lost_reasoning: &[String]) -> Vec<String> {
    const ACTIVITY: &str = r#"{"id":"agentrunner-sweep-1","role":"activity","activityType":"sweep","content":{}}"#;
    const REASONING: &str = r#"{"id":"agentrunner-sweep-2","role":"reasoning","content":""}"#;
    let elements = scan::elements(messages);
    let roles: Vec<_> = elements.into_iter().filter_map(|message| members::string_of(message, "role")).collect();
    let has_role = |role| roles.iter().any(|it| it == role);
    let snapshot_of = |messages: &str| {
        let metadata = r#"{"@ag-ui/client":{"authoritativeActivityTypes":null}}"#;
        format!(r#"{{"type":"MESSAGES_SNAPSHOT","messages":[{messages}],"metadata":{metadata}}}"#)
    };
    let mut events = Vec::new();
    if !has_role("reasoning") && !lost_reasoning.is_empty() {
        let plain = lost_reasoning.iter().map(|id| format!(r#"{{"id":"{id}","role":"developer","content":""}}"#));
        events.push(snapshot_of(&plain.collect::<Vec<_>>().join(",")));
    }
    let candidates = [("activity", ACTIVITY), ("reasoning", REASONING)];
    let swept: Vec<_> = candidates.iter().filter(|(role, _)| has_role(role)).map(|(_, message)| *message).collect();
    events.push(snapshot_of(&swept.join(",")));
    events
}

/// Make a `RUN_STARTED` for a run that has none, with the ids of its `RUN_FINISHED`.
fn make_run_started(finished: Option<&str>) -> String {
    let id = |name| finished.and_then(|json| members::value_of(json, name)).unwrap_or("\"\"");
    let fields = [("type", "\"RUN_STARTED\""), ("threadId", id("threadId")), ("runId", id("runId"))];
    members::write_object(fields.into_iter())
}
