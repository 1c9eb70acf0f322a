//! Record the retired `THINKING_*` events as the `REASONING_*` events that replaced them.
//!
//! `THINKING_*` events have no ids, and a 1.0 client would invent new ones in each replay. Here they get ids derived
//! from the run's id. They may be incomplete, nested wrongly or never end: missing events are added, and an event that
//! closes nothing is left out.
use crate::event::Event;
use crate::family::Family;
use crate::members::write_object;
use crate::text;

/// What is open in one lane: a subagent, or the parent agent.
#[derive(Debug, Default)]
struct Lane {
    /// The subagent as JSON; `None` is the parent agent.
    subagent: Option<String>,
    span: Option<String>,
    message: Option<String>,
}

/// Translates a run's `THINKING_*` events, and remembers what they have left open.
#[derive(Debug)]
pub struct Thinking {
    /// The prefix of the ids, unique to the run.
    prefix: String,
    count: u64,
    lanes: Vec<Lane>,
}

impl Thinking {
    /// Create a translator for the events of a run.
    pub fn new(run_id: &str) -> Self {
        Self { prefix: format!("thinking-{:016x}", text::hash(run_id)), count: 0, lanes: Vec::new() }
    }

    /// Forget what is open, because the run has ended.
    pub fn reset(&mut self) {
        self.lanes.clear();
    }

    /// Add the events that are recorded in place of this one to `out`.
    ///
    /// Returns false, and leaves `out` alone, for an event of any other kind.
    pub fn push(&mut self, event: &Event<'_>, out: &mut Vec<String>) -> bool {
        let Some(name) = event.type_name().strip_prefix("THINKING_") else { return false };
        let subagent = event.subagent_json();
        let index = self.lanes.iter().position(|lane| lane.subagent.as_deref() == subagent).unwrap_or_else(|| {
            self.lanes.push(Lane { subagent: subagent.map(String::from), ..Lane::default() });
            self.lanes.len() - 1
        });
        let lane = &mut self.lanes[index];
        let mut next_id = || {
            self.count += 1;
            format!("{}-{}", self.prefix, self.count)
        };
        let row = Family::Reasoning.row();
        match name {
            "START" => {
                lane.close_message(out);
                if let Some(id) = lane.span.take() {
                    out.push(write("REASONING_END", &id, lane.fields()));
                }
                let id = lane.span.insert(next_id());
                out.push(write("REASONING_START", id, event.members()));
            }
            "END" => {
                lane.close_message(out);
                if let Some(id) = lane.span.take() {
                    out.push(write("REASONING_END", &id, event.members()));
                }
            }
            "TEXT_MESSAGE_START" => {
                lane.close_message(out);
                let id = lane.message.insert(next_id());
                out.push(write(row.start, id, event.members().filter(|(key, _)| *key != "role").chain(ROLE)));
            }
            "TEXT_MESSAGE_CONTENT" => {
                if lane.message.is_none() {
                    let id = next_id();
                    out.push(write(row.start, &id, lane.fields().chain(ROLE)));
                    lane.message = Some(id);
                }
                let id = lane.message.as_deref().expect("it is opened above");
                out.push(write(row.delta, id, event.members()));
            }
            "TEXT_MESSAGE_END" => {
                if let Some(id) = lane.message.take() {
                    out.push(write(row.end, &id, event.members()));
                }
            }
            _ => return false,
        }
        true
    }
}

const ROLE: [(&str, &str); 1] = [("role", "\"reasoning\"")];

impl Lane {
    fn close_message(&mut self, out: &mut Vec<String>) {
        if let Some(id) = self.message.take() {
            out.push(write(Family::Reasoning.row().end, &id, self.fields()));
        }
    }

    /// Return the fields that every event of this lane has.
    fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.subagent.as_deref().map(|subagent| ("subagentRunId", subagent)).into_iter()
    }
}

/// Write an event with the other fields of the event that it replaces.
fn write<'f>(type_name: &str, id: &str, fields: impl Iterator<Item = (&'f str, &'f str)>) -> String {
    let (type_name, id) = (text::quote(type_name), text::quote(id));
    let own = [("type", type_name.as_str()), ("messageId", id.as_str())];
    // Otherwise a later field of the same name would override the event's own.
    let others: Vec<_> = fields.filter(|(key, _)| own.iter().all(|(name, _)| !text::is_same(key, name))).collect();
    write_object(own.into_iter().chain(others))
}
