//! New ids for messages and tool calls whose ids their thread has already used for something else.
//!
//! A client keeps one message for each message id and one call for each call id. But a framework may stream reasoning
//! and text under one id, and some models number their calls from `call_0` in every response. The later one then gets a
//! new id, which replaces the agent's id in every event that refers to it (docs/spec/agui.md, "Ids").
//!
//! Whether earlier runs have used an id is looked up in the store's table of message ids, a few entries for each new id
//! ([`crate::entries`]). [`Ids::wanted`] returns the entries an event needs, and [`Ids::learn`] takes the result.
use std::collections::{HashMap, HashSet};

use crate::dedup;
use crate::entries::{self, Class, split_own_id};
use crate::event::Event;
use crate::family::{Edge, Family, Part, Role};
use crate::lifecycle::{Lifecycle, Owner};
use crate::{members, scan, text};

mod call;
mod calls;
mod history;
mod messages;
mod open;
mod prepared;
mod rewrite;
mod snapshot;

use call::Call;
use history::History;
use open::OpenIds;
use prepared::PreparedSnapshot;

/// The event that is recorded in place of an agent's event.
#[derive(Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// The event as it is.
    Same,
    /// An event with other ids.
    Changed(String),
    /// Nothing: it repeats an event of an earlier run.
    Nothing,
}

/// The ids of a run's messages and calls, and of those that its thread had before.
#[derive(Debug, Default)]
pub struct Ids {
    history: History,
    /// How many calls without a result the agent may repeat, because the run answers interrupts.
    repeats: usize,
    /// The calls that the agent may repeat, by the ids that clients see, if the run continues an earlier attempt.
    interrupted: Option<Vec<String>>,
    /// The calls that the agent may repeat, by the agent's id, once it has started one of that id.
    repeatable: HashMap<String, Vec<String>>,
    client_tools: HashSet<String>,
    /// The class of each message of this run and its input, by the id that clients see.
    classes: HashMap<String, Class>,
    /// The ids of messages that are not their id's first owner's, by the agent's id.
    owned: HashMap<(Class, String, Owner), String>,
    /// The number of the newest of them.
    owned_numbers: HashMap<(Class, String), u64>,
    /// The owners of messages that clients make for calls.
    parents: HashMap<String, Owner>,
    open: OpenIds,
    /// The calls of this run, by the agent's id.
    calls: HashMap<String, Vec<Call>>,
    /// How often the thread has used a call's id, by the agent's id.
    numbers: HashMap<String, u64>,
    /// The calls with results, by the id that clients see.
    answered: HashSet<String>,
    /// Those of them whose result this run, its input or its last snapshot of messages has.
    shown: HashSet<String>,
    /// The ids that clients see for this run's messages with results.
    results: HashSet<String>,
    /// Whether a call of this run has another id than the agent's, or repeats an earlier one.
    has_own_calls: bool,
    /// The agent's ids of the calls that the run's last snapshot of messages has; `None` without a snapshot.
    snapshot_calls: Option<HashSet<String>>,
    prepared: Option<PreparedSnapshot>,
}

impl Ids {
    /// Create the ids of a run with this input, whose thread has the messages `known_ids`.
    pub fn new(input: &str, known_ids: &HashSet<String>) -> Self {
        let mut ids = Self::default();
        let is_given = |value: Option<&str>| value.is_some_and(|value| !matches!(value, "null" | "[]" | "{}"));
        let command = members::value_of(input, "forwardedProps").and_then(|props| members::value_of(props, "command"));
        let answers = scan::elements(members::value_of(input, "resume").unwrap_or_default()).len();
        ids.repeats = answers.max(usize::from(is_given(members::value_of(input, "resume")) || is_given(command)));
        ids.client_tools = dedup::tool_names(input);
        for message in scan::elements(members::value_of(input, "messages").unwrap_or_default()) {
            ids.add_message(message, known_ids);
        }
        ids
    }

    /// Look up the ids that earlier runs have used, because the thread may have earlier runs.
    pub fn look_up(&mut self) {
        self.history.exists = true;
    }

    /// Expect that the agent repeats these calls, given by the ids that clients see; without them, at least one.
    pub fn resume(&mut self, calls: Option<Vec<String>>) {
        self.repeats = self.repeats.max(1);
        self.interrupted = calls;
    }

    /// Add a message of the input.
    fn add_message(&mut self, message: &str, known_ids: &HashSet<String>) {
        let message = scan::members(message);
        let Some(id) = members::find_string(&message, "id") else { return };
        // Only for a result that the thread has is it certain which call it names; see `rewrite_input`.
        if known_ids.contains(&*id)
            && let Some(call) = members::find_string(&message, "toolCallId")
        {
            self.shown.insert(call.clone().into_owned());
            self.answered.insert(call.into_owned());
        }
        self.classes.insert(id.into_owned(), Class::of_role(members::find_string(&message, "role").as_deref()));
        for call in scan::elements(members::find(&message, "toolCalls").unwrap_or_default()) {
            if let Some(call) = members::string_of(call, "id") {
                let (id, number) = split_own_id(&call);
                self.history.note_call(id, number);
            }
        }
    }

    /// Return the entries that must be looked up before an event can be recorded; most often none.
    pub fn wanted(&mut self, event: &Event<'_>, run: &Lifecycle) -> Vec<String> {
        if !self.history.exists {
            return Vec::new();
        }
        let text = |name| event.string(name);
        let owner = event.subagent();
        let owner = owner.as_deref();
        let mut wanted = Vec::new();
        let mut note = |lookup: std::result::Result<(), Vec<String>>| wanted.extend(lookup.err().into_iter().flatten());
        match event.role() {
            Role::Stream(Family::ToolCall, Part::Start) | Role::Chunk(Family::ToolCall) => {
                if let Some(id) = text("toolCallId") {
                    // The second lookup begins with the entries that the first one asks for.
                    let start = || self.start_call(&id, &self.owner_of_call(event, run)).map(drop);
                    note(self.parent_of_call(&id).map(drop).and_then(|()| start()));
                }
                if let Some(id) = text("parentMessageId") {
                    note(self.parent_id(&id, owner, run).map(drop));
                }
            }
            Role::Stream(family, Part::Start) | Role::Chunk(family) => {
                if let Some(id) = text("messageId") {
                    note(self.message_id(Class::of_family(family, event), &id, false).map(drop));
                }
            }
            Role::Span(Edge::Open) => {
                if let Some(id) = text("messageId") {
                    note(self.message_id(Class::Reasoning, &id, true).map(drop));
                }
            }
            Role::ActivitySnapshot | Role::ActivityDelta => {
                if let Some(id) = text("messageId") {
                    note(self.message_id(Class::Activity, &id, false).map(drop));
                }
            }
            Role::ToolResult => {
                if let (Some(call), Some(id)) = (text("toolCallId"), text("messageId")) {
                    note(self.result_ids(&call, &id, owner).map(drop));
                }
            }
            Role::EncryptedValue => {
                if let Some(id) = text("entityId") {
                    note(self.entity_id(event, &id).map(drop));
                }
            }
            Role::Subagent(Edge::Open) => {
                let parent = text("parentSubagentRunId");
                if let Some(id) = text("parentToolCallId") {
                    note(self.call_id(&id, parent.as_deref(), 0).map(drop));
                }
                if let Some(id) = text("parentMessageId") {
                    note(self.parent_id(&id, parent.as_deref(), run).map(drop));
                }
            }
            Role::RunFinished | Role::RunError => {
                for id in outcome_calls(event) {
                    note(self.call_id(&id, None, 0).map(drop));
                }
                wanted.extend(self.wanted_by_end(run));
            }
            Role::MessagesSnapshot => return self.prepare_snapshot(event),
            Role::Stream(_, Part::Delta | Part::End)
            | Role::RunStarted
            | Role::Span(Edge::Close)
            | Role::Step(_)
            | Role::Subagent(Edge::Close)
            | Role::StateSnapshot
            | Role::StateDelta
            | Role::Raw
            | Role::Custom
            | Role::Unknown => {}
        }
        wanted
    }

    /// Return the entries that must be looked up before the run's input can be recorded.
    pub fn wanted_by_input(&self, input: &str) -> Vec<String> {
        if !self.history.exists {
            return Vec::new();
        }
        let messages = scan::elements(members::value_of(input, "messages").unwrap_or_default());
        let calls = messages.into_iter().filter_map(|message| members::string_of(message, "toolCallId"));
        calls.filter_map(|call| self.unanswered_call(&call).err()).flatten().collect()
    }

    /// Take the result of a lookup: the entries that were wanted, and those of them that the thread has.
    pub fn learn(&mut self, wanted: Vec<String>, known: &HashSet<String>) {
        self.history.learn(wanted, known);
    }

    /// Return the run's input with each result under the id of the call that it answers.
    ///
    /// A client may answer a call under the agent's id, which an earlier call has for clients.
    pub fn rewrite_input(&mut self, input: &str) -> String {
        entries::replace_members(input, |key, value| {
            (key == "messages").then(|| {
                entries::replace_elements(value, |message| {
                    entries::replace_members(message, |key, value| {
                        let call = (key == "toolCallId").then(|| text::unquote(value).and_then(text::decode))??;
                        let own = self.unanswered_call(&call).ok().flatten();
                        let answered = own.clone().unwrap_or_else(|| call.into_owned());
                        self.shown.insert(answered.clone());
                        self.answered.insert(answered);
                        own.map(|own| text::quote(&own))
                    })
                })
            })
        })
    }
}

/// Return the calls that the outcome of a run names.
fn outcome_calls(event: &Event<'_>) -> Vec<String> {
    let outcome = event.get("outcome").unwrap_or_default();
    let interrupts = scan::elements(members::value_of(outcome, "interrupts").unwrap_or_default());
    let calls = interrupts.into_iter().filter_map(|interrupt| members::string_of(interrupt, "toolCallId"));
    let pending = scan::elements(members::value_of(outcome, "pendingToolCallIds").unwrap_or_default());
    let pending = pending.into_iter().filter_map(|id| text::unquote(id).and_then(text::decode));
    calls.chain(pending).map(std::borrow::Cow::into_owned).collect()
}
