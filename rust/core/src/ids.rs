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
use crate::entries::{self, Class, own_call_id, own_message_id, own_result_id, split_own_id};
use crate::event::Event;
use crate::family::{Edge, Family, Part, Role};
use crate::{members, scan, text};

mod history;
mod prepared;
mod rewrite;
mod snapshot;

use history::{History, Lookup};
use prepared::PreparedSnapshot;

/// How many of the newest calls of one id are searched for the one without a result.
const SEARCHED_CALLS: u64 = 8;

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

/// A call of this run.
#[derive(Debug)]
struct Call {
    /// The id that clients see.
    own: String,
    is_open: bool,
    /// Whether the client runs it.
    is_clients: bool,
    /// Whether its events repeat those of an earlier run, and are left out.
    is_repeat: bool,
}

/// The ids of a run's messages and calls, and of those that its thread had before.
#[derive(Debug, Default)]
pub struct Ids {
    history: History,
    /// Whether the run answers an interrupt or continues an earlier attempt, so that its agent may repeat a call.
    is_resuming: bool,
    client_tools: HashSet<String>,
    /// The class of each message of this run and its input, by the id that clients see.
    classes: HashMap<String, Class>,
    /// The ids that clients see for open messages, by the agent's id, if the two differ.
    open: HashMap<(Family, String), String>,
    /// The same for open reasoning spans.
    spans: HashMap<String, String>,
    /// The calls of this run, by the agent's id.
    calls: HashMap<String, Vec<Call>>,
    /// How often the thread has used a call's id, by the agent's id.
    numbers: HashMap<String, u64>,
    /// The calls with results, by the id that clients see.
    answered: HashSet<String>,
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
        ids.is_resuming = is_given(members::value_of(input, "resume")) || is_given(command);
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

    /// Expect repetitions of the calls that have no result yet: the run continues an attempt that was cut short.
    pub fn resume(&mut self) {
        self.is_resuming = true;
    }

    /// Add a message of the input.
    fn add_message(&mut self, message: &str, known_ids: &HashSet<String>) {
        let message = scan::members(message);
        let Some(id) = members::find_string(&message, "id") else { return };
        // Only for a result that the thread has is it certain which call it names; see `rewrite_input`.
        if known_ids.contains(&*id)
            && let Some(call) = members::find_string(&message, "toolCallId")
        {
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
    pub fn wanted(&mut self, event: &Event<'_>) -> Vec<String> {
        if !self.history.exists {
            return Vec::new();
        }
        let text = |name| event.string(name);
        let mut wanted = Vec::new();
        let mut note = |lookup: std::result::Result<(), Vec<String>>| wanted.extend(lookup.err().into_iter().flatten());
        match event.role() {
            Role::Stream(Family::ToolCall, Part::Start) | Role::Chunk(Family::ToolCall) => {
                if let Some(id) = text("toolCallId") {
                    // The second lookup begins with the entries that the first one asks for.
                    note(self.parent_of_call(&id).map(drop).and_then(|()| self.start_call(&id).map(drop)));
                }
                if let Some(id) = text("parentMessageId") {
                    note(self.parent_id(&id).map(drop));
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
                    note(self.result_ids(&call, &id).map(drop));
                }
            }
            Role::EncryptedValue => {
                if let Some(id) = text("entityId") {
                    note(self.entity_id(event, &id).map(drop));
                }
            }
            Role::Subagent(Edge::Open) => {
                if let Some(id) = text("parentToolCallId") {
                    note(self.call_id(&id, 0).map(drop));
                }
                if let Some(id) = text("parentMessageId") {
                    note(self.parent_id(&id).map(drop));
                }
            }
            Role::RunFinished => {
                for id in outcome_calls(event) {
                    note(self.call_id(&id, 0).map(drop));
                }
            }
            Role::MessagesSnapshot => return self.prepare_snapshot(event),
            Role::Stream(_, Part::Delta | Part::End)
            | Role::RunStarted
            | Role::RunError
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
                        self.answered.insert(own.clone().unwrap_or_else(|| call.into_owned()));
                        own.map(|own| text::quote(&own))
                    })
                })
            })
        })
    }

    /// Return the id that clients see for the run's last call with an agent's id.
    pub(crate) fn last_call<'i>(&'i self, id: &'i str) -> &'i str {
        self.calls.get(id).and_then(|calls| calls.last()).map_or(id, |call| &call.own)
    }

    /// Return the id that clients see for a call with an agent's id.
    ///
    /// If several have no result, this is the one after `skip` others, otherwise the newest.
    pub fn newest_call(&self, id: &str, skip: usize) -> String {
        self.call_id(id, skip).unwrap_or_else(|_| id.to_owned())
    }

    /// Return the id that clients see for a message.
    ///
    /// A message of the agent's history may have been recorded by a version that did not mark classes.
    fn message_id(&self, class: Class, id: &str, is_history: bool) -> Lookup<String> {
        let own = || own_message_id(id, class);
        let known = match self.classes.get(id) {
            Some(known) => Some(*known),
            None => self.history.class_of(id, Some(class), is_history.then_some(class))?,
        };
        let other = known.filter(|other| *other != class);
        Ok(if other.is_some() { own() } else { id.to_owned() })
    }

    /// Return the id that clients see for a call's parent message.
    fn parent_id(&self, id: &str) -> Lookup<String> {
        let own = self.message_id(Class::Text, id, true)?;
        // A call may name the user's message that it follows; it then gets its own message, as in the reference.
        let is_prompt = self.classes.get(id) == Some(&Class::Prompt) || self.history.is_prompt(id);
        Ok(if is_prompt && !self.classes.contains_key(&own) { id.to_owned() } else { own })
    }

    /// Return how often the thread has used a call's id.
    fn number(&self, id: &str) -> Lookup<u64> {
        self.numbers.get(id).copied().map_or_else(|| self.history.number_of(id), Ok)
    }

    /// Return the id that clients see for a call that starts, and whether it repeats a call of an earlier run.
    fn start_call(&self, id: &str) -> Lookup<(String, bool)> {
        let calls = self.calls.get(id).map(Vec::as_slice).unwrap_or_default();
        if let Some(call) = calls.last().filter(|call| call.is_open) {
            return Ok((call.own.clone(), call.is_repeat));
        }
        let number = self.number(id)?;
        if number == 0 {
            return Ok((id.to_owned(), false));
        }
        if calls.is_empty() && self.snapshot_calls.as_ref().is_some_and(|kept| !kept.contains(id)) {
            // A continued run often calls its model again, which repeats the calls of the attempt that crashed. The
            // snapshot has removed those from clients, so no new id is needed, and the agent would not know it.
            return Ok((own_call_id(id, number), false));
        }
        if calls.is_empty() && self.is_resuming {
            let own = own_call_id(id, number);
            if !self.is_answered(&own)? {
                return Ok((own, true));
            }
        }
        // The agent may itself have used an id that the runner would assign.
        let mut others = (number + 1..).map(|number| own_call_id(id, number));
        let own = others.find(|own| !self.calls.contains_key(own)).expect("there are more numbers than calls");
        Ok((own, false))
    }

    /// Return the parent for a call without one, so that its message has a unique id; usually none is needed.
    ///
    /// Clients use the call's id for the message that they create for it, and another message may have that id.
    fn parent_of_call(&self, id: &str) -> Lookup<Option<String>> {
        let class =
            self.classes.get(id).map_or_else(|| self.history.class_of(id, None, None), |class| Ok(Some(*class)));
        match self.number(id) {
            Ok(0) => Ok(class?.map(|_| own_message_id(id, Class::Text))),
            Ok(_) => Ok(None),
            Err(wanted) => Err(wanted.into_iter().chain(class.err().into_iter().flatten()).collect()),
        }
    }

    fn is_answered(&self, own: &str) -> Lookup<bool> {
        if self.answered.contains(own) { Ok(true) } else { self.history.has(&entries::answered(own)) }
    }

    /// Return the id that clients see for the call that an event refers to.
    ///
    /// If several calls have no result, this is the `skip`-th after the first, otherwise the newest call.
    fn call_id(&self, id: &str, skip: usize) -> Lookup<String> {
        if let Some(calls) = self.calls.get(id) {
            let mut open = calls.iter().filter(|call| !self.answered.contains(&call.own));
            let call = open.nth(skip).or(calls.last()).expect("no list of calls is empty");
            return Ok(call.own.clone());
        }
        Ok(own_call_id(id, self.number(id)?))
    }

    /// Return the id that clients see for the call that a result answers.
    fn answered_call(&self, id: &str) -> Lookup<String> {
        let Some(calls) = self.calls.get(id) else {
            return Ok(self.unanswered_call(id)?.unwrap_or_else(|| id.to_owned()));
        };
        let is_open = |call: &&Call| !self.answered.contains(&call.own);
        // The agent sends results for its own calls, so consider the client's calls last.
        let call = calls.iter().filter(is_open).find(|call| !call.is_clients);
        let call = call.or_else(|| calls.iter().find(is_open)).or(calls.last());
        Ok(call.map_or_else(|| id.to_owned(), |call| call.own.clone()))
    }

    /// Return the newest call of an earlier run, under the agent's id, that has no result; `None` if it has that id.
    fn unanswered_call(&self, id: &str) -> Lookup<Option<String>> {
        let number = self.number(id)?;
        if number < 2 {
            return Ok(None);
        }
        for number in (number.saturating_sub(SEARCHED_CALLS).max(1)..=number).rev() {
            let own = own_call_id(id, number);
            if !self.is_answered(&own)? {
                return Ok((number > 1).then_some(own));
            }
        }
        Ok(Some(own_call_id(id, number)))
    }

    /// Return the ids that clients see for a result's call and message.
    fn result_ids(&self, call: &str, message: &str) -> Lookup<(String, String)> {
        let call = self.answered_call(call)?;
        let own = self.message_id(Class::Tool, message, false)?;
        // A call without a result cannot be the one that the thread's message answers.
        let is_taken = self.results.contains(&own) || (self.has_result(&own)? && !self.is_answered(&call)?);
        if !is_taken {
            return Ok((call, own));
        }
        let numbered = own_call_id(message, split_own_id(&call).1);
        let is_new = numbered != own && !self.has_result(&numbered)?;
        let is_free = is_new && self.message_id(Class::Tool, &numbered, false)? == numbered;
        let own = if is_free { numbered } else { own_result_id(&call) };
        Ok((call, own))
    }

    /// Return whether the thread has a result in a message with this id.
    fn has_result(&self, message: &str) -> Lookup<bool> {
        match (self.classes.get(message), Class::Tool.mark(message)) {
            (None, Some(mark)) => self.history.has(&mark),
            (class, _) => Ok(class == Some(&Class::Tool)),
        }
    }

    /// Return the id that clients see for the message or call that an encrypted value belongs to.
    fn entity_id(&self, event: &Event<'_>, id: &str) -> Lookup<String> {
        if event.string("subtype").as_deref() == Some("tool-call") {
            return self.call_id(id, 0);
        }
        let reasoning = self.message_id(Class::Reasoning, id, true)?;
        // If two messages have the id, the value belongs to the reasoning.
        if self.classes.get(&reasoning) == Some(&Class::Reasoning) {
            Ok(reasoning)
        } else {
            self.message_id(Class::Text, id, true)
        }
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
