//! Find the snapshots in a thread's stored runs that later ones replace, so that a replay can leave them out.
//!
//! An agent that ends each run with a snapshot of all its messages and state makes a thread grow with the square of its
//! runs. A replay sends only the last of them. Earlier snapshots may have changed the order of the messages, so the
//! last one is sent as the messages that a reader of the whole thread has at that place.
use crate::error::Result;
use crate::event::Event;
use crate::family::Role;
use crate::fold::Fold;
use crate::frames::{self, Cursor};
use crate::members;
use crate::snapshot::sweep;

/// The last snapshots of a thread's stored runs.
#[derive(Debug, Default)]
pub struct Superseded {
    fold: Fold,
    /// The number of message snapshots; the last one's cursor, and the frames that are sent instead of it.
    messages: (u64, Option<(Cursor, Vec<String>)>),
    /// The same for state snapshots.
    state: (u64, Option<Cursor>),
}

impl Superseded {
    /// Create it for a thread without frames.
    pub fn new() -> Self {
        Self::default()
    }

    /// Push the next frames of the thread's stored runs.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        for frame in frames::iter(bytes) {
            let (cursor, json) = frame?;
            let event = Event::parse_str(json)?;
            self.fold.push(&event);
            match event.role() {
                Role::MessagesSnapshot => {
                    let messages = self.fold.messages();
                    let mut events = sweep(&messages, self.fold.lost_reasoning());
                    events.push(format!("{{\"type\":\"MESSAGES_SNAPSHOT\",\"messages\":{messages}}}"));
                    self.messages = (self.messages.0 + 1, Some((cursor, events)));
                }
                Role::StateSnapshot => self.state = (self.state.0 + 1, Some(cursor)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Return whether the thread has anything to leave out.
    pub fn is_empty(&self) -> bool {
        self.messages.0 < 2 && self.state.0 < 2
    }

    /// Forget the thread's messages, which only `push` needs.
    pub fn finish(&mut self) {
        self.fold = Fold::new();
    }

    /// Return stored frames without what is superseded.
    pub fn leave_out(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let mut out = Vec::with_capacity(bytes.len());
        for frame in frames::iter_any(bytes) {
            let (cursor, json) = frame?;
            let Some(cursor) = cursor else {
                frames::write_event(&mut out, json);
                continue;
            };
            // Almost every frame is written unchanged, and need not be parsed.
            let is_candidate =
                ["_SNAPSHOT\"", "\"STATE_DELTA\"", "\"RUN_STARTED\""].iter().any(|name| json.contains(name));
            if is_candidate {
                self.write(&mut out, cursor, json)?;
            } else {
                frames::write(&mut out, cursor, json);
            }
        }
        Ok(out)
    }

    fn write(&self, out: &mut Vec<u8>, cursor: Cursor, json: &str) -> Result<()> {
        let event = Event::parse_str(json)?;
        let is_before = |last: Cursor| (cursor.seq, cursor.index) < (last.seq, last.index);
        let last_state = self.state.1.filter(|_| self.state.0 > 1);
        let is_before_state = last_state.is_some_and(is_before);
        match (event.role(), &self.messages) {
            (Role::StateSnapshot | Role::StateDelta, _) if is_before_state => {}
            (Role::RunStarted, _) if is_before_state => {
                let input = event.get("input").filter(|input| members::value_of(input, "state").is_some());
                match input.map(without_state) {
                    Some(input) => frames::write(out, cursor, &event.with_field("input", &input)),
                    None => frames::write(out, cursor, json),
                }
            }
            (Role::MessagesSnapshot, (2.., Some((last, events)))) if cursor == *last => {
                let (snapshot, sweeps) = events.split_last().expect("the snapshot comes last");
                for sweep in sweeps {
                    frames::write_event(out, sweep);
                }
                frames::write(out, cursor, snapshot);
            }
            (Role::MessagesSnapshot, (2.., Some((last, _)))) if is_before(*last) => {}
            _ => frames::write(out, cursor, json),
        }
        Ok(())
    }
}

/// Return a run's input without its state, which only the agent needs.
fn without_state(input: &str) -> String {
    members::write_object(crate::scan::members(input).into_iter().filter(|(key, _)| *key != "state"))
}
