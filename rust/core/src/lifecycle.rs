//! What is open in a run: each event is verified against it (`verify`), and a broken run is ended from it
//! (`finalize`).
use std::borrow::Cow;
use std::collections::HashMap;

use crate::error::Result;
use crate::event::{Event, Kind};
pub use crate::finalize::Ending;
use crate::scan;
use crate::text;

/// The subagent something belongs to; `None` is the parent agent.
pub(crate) type Owner = Option<String>;

/// A message, tool call or reasoning of the run. It outlives its END, because its owner must stay known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entity {
    pub(crate) owner: Owner,
    /// When it was opened, if it still is.
    pub(crate) open: Option<u64>,
}

/// A tool call whose END or RESULT is still to come.
#[derive(Debug, Clone)]
pub(crate) struct Unanswered {
    pub(crate) since: u64,
    pub(crate) ended: bool,
    pub(crate) result: bool,
}

/// The open steps of one owner.
#[derive(Debug, Clone)]
pub(crate) struct Steps {
    pub(crate) since: u64,
    pub(crate) names: HashMap<String, u64>,
}

/// What is open in a run. Ids are only unique within a kind, so every kind has a map of its own.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    pub(crate) seen: bool,
    pub(crate) started: bool,
    pub(crate) ended_with: Option<Kind>,
    /// Counts what is opened: the order of opening without a list to remove from.
    clock: u64,
    pub(crate) messages: HashMap<String, Entity>,
    pub(crate) tools: HashMap<String, Entity>,
    pub(crate) reasoning: HashMap<String, Entity>,
    pub(crate) activities: HashMap<String, Owner>,
    /// Open reasoning spans; their owners are those of `reasoning`.
    pub(crate) spans: HashMap<String, u64>,
    pub(crate) unanswered: HashMap<String, Unanswered>,
    pub(crate) steps: HashMap<Owner, Steps>,
    /// Every subagent of the run; `None` once it is closed.
    pub(crate) subagents: HashMap<String, Option<u64>>,
}

impl Lifecycle {
    /// Of a run without events.
    pub fn new() -> Self {
        Self::default()
    }

    /// Verifies an event (docs/spec/agui.md §6.5) and notes it. On an error nothing is changed.
    pub fn check(&mut self, event: &Event<'_>) -> Result<()> {
        self.verify(event)?;
        self.apply(event);
        Ok(())
    }

    /// Notes an event without verifying it.
    pub fn note(&mut self, event: &Event<'_>) {
        let over = self.ended() && !matches!(event.kind(), Kind::RunStarted | Kind::RunError);
        // An empty id opens nothing in the reference's finalizer.
        let nameless = match event.kind() {
            Kind::TextMessageStart => event.get("messageId") == Some("\"\""),
            Kind::ToolCallStart => event.get("toolCallId") == Some("\"\""),
            _ => false,
        };
        if !over && !nameless {
            self.apply(event);
        }
    }

    /// Whether a `RUN_STARTED` was seen.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Whether the run ended with `RUN_FINISHED` or `RUN_ERROR`, and no `RUN_STARTED` came since.
    pub fn ended(&self) -> bool {
        self.ended_with.is_some()
    }

    fn apply(&mut self, event: &Event<'_>) {
        self.seen = true;
        let field = match event.kind() {
            Kind::TextMessageContent | Kind::ToolCallArgs | Kind::ReasoningMessageContent => return,
            Kind::RunStarted => {
                self.started = true;
                self.ended_with = None;
                for message in input_messages(event) {
                    self.seed(message, false);
                }
                return;
            }
            Kind::RunFinished | Kind::RunError => {
                let ended_with = Some(event.kind());
                *self = Self { seen: true, started: self.started, ended_with, ..Self::default() };
                return;
            }
            Kind::MessagesSnapshot => {
                for message in snapshot_messages(event) {
                    self.seed(message, true);
                }
                return;
            }
            Kind::StepStarted | Kind::StepFinished => "stepName",
            Kind::SubagentStarted | Kind::SubagentFinished | Kind::SubagentError => "subagentRunId",
            Kind::ToolCallStart | Kind::ToolCallEnd | Kind::ToolCallResult => "toolCallId",
            _ => "messageId",
        };
        if let Some(id) = event.string(field) {
            self.apply_to(event, &id);
        }
    }

    fn apply_to(&mut self, event: &Event<'_>, id: &str) {
        let at = self.clock + 1;
        let owner = || tag(event).map(Cow::into_owned);
        match event.kind() {
            Kind::TextMessageStart => open(&mut self.messages, id, owner, at),
            Kind::TextMessageEnd => close(&mut self.messages, id),
            Kind::ToolCallStart => {
                let parent = event.string("parentMessageId");
                let parent = parent.and_then(|parent| self.messages.get(&*parent));
                // An untagged call belongs to whoever owns the message that carries it.
                let owner = || owner().or_else(|| parent.and_then(|parent| parent.owner.clone()));
                open(&mut self.tools, id, owner, at);
                let new = Unanswered { since: at, ended: false, result: false };
                self.unanswered.entry(id.into()).or_insert(new).ended = false;
            }
            Kind::ToolCallEnd => {
                close(&mut self.tools, id);
                self.answer(id, true, false);
            }
            Kind::ToolCallResult => {
                self.answer(id, false, true);
                if let Some(message) = event.string("messageId") {
                    self.messages.entry(message.into()).or_default().owner = owner();
                }
            }
            Kind::ReasoningMessageStart => open(&mut self.reasoning, id, owner, at),
            Kind::ReasoningMessageEnd => close(&mut self.reasoning, id),
            Kind::ReasoningStart => {
                self.spans.entry(id.into()).or_insert(at);
                self.reasoning.entry(id.into()).or_insert_with(|| Entity { owner: owner(), open: None });
            }
            Kind::ReasoningEnd => {
                self.spans.remove(id);
            }
            // Only a snapshot that replaces makes the activity anew, and so its owner.
            Kind::ActivitySnapshot => {
                if event.get("replace") != Some("false") || !self.activities.contains_key(id) {
                    self.activities.insert(id.into(), owner());
                }
            }
            Kind::StepStarted => {
                let new = || Steps { since: at, names: HashMap::new() };
                self.steps.entry(owner()).or_insert_with(new).names.entry(id.into()).or_insert(at);
            }
            Kind::StepFinished => {
                if let Some(steps) = self.steps.get_mut(&owner()) {
                    steps.names.remove(id);
                }
            }
            Kind::SubagentStarted => {
                self.subagents.insert(id.into(), Some(at));
            }
            Kind::SubagentFinished | Kind::SubagentError => {
                self.subagents.insert(id.into(), None);
            }
            _ => return,
        }
        self.clock = at;
    }

    fn answer(&mut self, id: &str, ended: bool, result: bool) {
        if let Some(call) = self.unanswered.get_mut(id) {
            call.ended |= ended;
            call.result |= result;
            if call.ended && call.result {
                self.unanswered.remove(id);
            }
        }
    }

    /// Takes owners from a message of history; a snapshot's replace those known, an input's do not.
    fn seed(&mut self, message: &str, replace: bool) {
        let message = scan::members(message);
        let Some(id) = string_in(&message, "id") else { return };
        let owner = field_in(&message, "subagentRunId").filter(|tag| *tag != "null").map(|tag| shown(tag).into_owned());
        let settle = |entities: &mut HashMap<String, Entity>, id: Cow<'_, str>| match entities.get_mut(&*id) {
            Some(entity) if replace => entity.owner.clone_from(&owner),
            Some(_) => {}
            None => {
                entities.insert(id.into_owned(), Entity { owner: owner.clone(), open: None });
            }
        };
        match string_in(&message, "role").as_deref() {
            Some("reasoning") => settle(&mut self.reasoning, id),
            Some("activity") => {
                if replace || !self.activities.contains_key(&*id) {
                    self.activities.insert(id.into_owned(), owner.clone());
                }
            }
            _ => settle(&mut self.messages, id),
        }
        for call in scan::elements(field_in(&message, "toolCalls").unwrap_or_default()) {
            if let Some(id) = string(call, "id") {
                settle(&mut self.tools, id);
            }
        }
    }

    /// The open subagents, the first opened first.
    pub(crate) fn open_subagents(&self) -> Vec<&str> {
        in_order(self.subagents.iter().filter_map(|(id, open)| Some(((*open)?, id.as_str()))))
    }
}

fn open(entities: &mut HashMap<String, Entity>, id: &str, owner: impl FnOnce() -> Owner, at: u64) {
    // The first to open an id owns it for the run, whoever opens it again without a tag.
    entities.entry(id.into()).or_insert_with(|| Entity { owner: owner(), open: None }).open.get_or_insert(at);
}

fn close(entities: &mut HashMap<String, Entity>, id: &str) {
    if let Some(entity) = entities.get_mut(id) {
        entity.open = None;
    }
}

/// The ids of what is open, the first opened first.
pub(crate) fn opened(entities: &HashMap<String, Entity>) -> Vec<&str> {
    in_order(entities.iter().filter_map(|(id, entity)| Some((entity.open?, id.as_str()))))
}

pub(crate) fn in_order<T>(items: impl Iterator<Item = (u64, T)>) -> Vec<T> {
    let mut items: Vec<_> = items.collect();
    items.sort_unstable_by_key(|(at, _)| *at);
    items.into_iter().map(|(_, item)| item).collect()
}

/// The subagent an event is attributed to.
#[inline]
pub(crate) fn tag<'a>(event: &Event<'a>) -> Option<Cow<'a, str>> {
    event.get("subagentRunId").filter(|tag| *tag != "null").map(shown)
}

/// A JSON value as a message shows it: a string's text, else the JSON itself.
pub(crate) fn shown(json: &str) -> Cow<'_, str> {
    text::inner(json).and_then(text::decoded).unwrap_or(Cow::Borrowed(json))
}

/// A member of a JSON object.
pub(crate) fn field<'j>(json: &'j str, name: &str) -> Option<&'j str> {
    field_in(&scan::members(json), name)
}

/// A member of a JSON object that is a string.
pub(crate) fn string<'j>(json: &'j str, name: &str) -> Option<Cow<'j, str>> {
    string_in(&scan::members(json), name)
}

/// One of these members.
pub(crate) fn field_in<'j>(members: &[(&'j str, &'j str)], name: &str) -> Option<&'j str> {
    members.iter().rev().find_map(|(key, value)| text::same(key, name).then_some(*value))
}

/// One of these members, if it is a string.
pub(crate) fn string_in<'j>(members: &[(&'j str, &'j str)], name: &str) -> Option<Cow<'j, str>> {
    text::decoded(text::inner(field_in(members, name)?)?)
}

/// The messages a run begins with.
pub(crate) fn input_messages<'a>(event: &Event<'a>) -> Vec<&'a str> {
    scan::elements(event.get("input").and_then(|input| field(input, "messages")).unwrap_or_default())
}

/// The messages of a snapshot.
pub(crate) fn snapshot_messages<'a>(event: &Event<'a>) -> Vec<&'a str> {
    scan::elements(event.get("messages").unwrap_or_default())
}
