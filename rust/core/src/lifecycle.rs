//! The state of a run: its open streams, spans, steps and subagents, and their owners.
//!
//! [`verify`](crate::verify) checks events against it, and [`finalize`](crate::finalize) uses it to end a broken run.
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use crate::event::Event;
use crate::family::{Edge, Family, Part, PerFamily, Role};
use crate::kind::Kind;
use crate::members::{self, Members};
use crate::scan::{self, MemberVec};
use crate::text;

/// The subagent something belongs to; `None` is the parent agent.
pub(crate) type Owner = Option<String>;

/// A message, tool call or reasoning of the run. It outlives its END, because its owner must stay known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Entity {
    pub(crate) owner: Owner,
    /// When it was opened, if it is still open.
    pub(crate) opened_at: Option<u64>,
}

impl Entity {
    pub(crate) fn is_open(&self) -> bool {
        self.opened_at.is_some()
    }
}

/// A tool call whose END or RESULT has not arrived yet.
#[derive(Debug, Clone)]
pub(crate) struct UnansweredCall {
    pub(crate) opened_at: u64,
    /// The tool's name.
    pub(crate) tool: String,
    pub(crate) has_end: bool,
    pub(crate) has_result: bool,
}

/// A call without a result that only a snapshot of messages has, so that its events were never seen.
#[derive(Debug, Clone)]
pub(crate) struct UnstartedCall {
    pub(crate) call: UnansweredCall,
    /// The id of its message.
    pub(crate) message: String,
}

/// The open steps of one owner.
#[derive(Debug, Clone)]
pub(crate) struct Steps {
    pub(crate) opened_at: u64,
    pub(crate) names: HashMap<String, u64>,
}

/// The open things of a run. Ids are only unique within a family, so each family has its own map.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    pub(crate) has_events: bool,
    pub(crate) is_started: bool,
    pub(crate) ended_with: Option<Kind>,
    /// Counts what is opened. It keeps the order of opening without a list to remove from.
    clock: u64,
    pub(crate) streams: PerFamily<HashMap<String, Entity>>,
    pub(crate) activities: HashMap<String, Owner>,
    /// Open reasoning spans. Their owners are those of the reasoning messages of the same id.
    pub(crate) spans: HashMap<String, u64>,
    pub(crate) unanswered: HashMap<String, UnansweredCall>,
    /// Those of them that the last snapshot of messages has answered or removed.
    pub(crate) settled: HashSet<String>,
    /// The calls that only the last snapshot of messages has; earlier runs may have made some of them.
    pub(crate) unstarted: HashMap<String, UnstartedCall>,
    /// Whether the agent has answered a call of the run itself.
    pub(crate) has_answered: bool,
    pub(crate) steps: HashMap<Owner, Steps>,
    /// Every subagent of the run; `None` once it is closed.
    pub(crate) subagents: HashMap<String, Option<u64>>,
}

impl Lifecycle {
    /// Create the lifecycle of a run without events.
    pub fn new() -> Self {
        Self::default()
    }

    /// Record an event that is not verified, as the reference's finalizer does.
    pub fn note(&mut self, event: &Event<'_>) {
        let role = event.role();
        // A `RUN_ERROR` may follow a `RUN_FINISHED` (docs/spec/agui.md §6.5, rule 3).
        let is_over = self.has_ended() && !matches!(role, Role::RunStarted | Role::RunError);
        // An empty id opens nothing in the reference's finalizer.
        let is_nameless = matches!(role, Role::Stream(family, Part::Start)
            if family.row().ignores_empty_id && event.get(family.id_field()) == Some("\"\""));
        if !is_over && !is_nameless {
            self.apply(event);
        }
    }

    /// Return whether the run has a `RUN_STARTED`.
    pub fn is_started(&self) -> bool {
        self.is_started
    }

    /// Return whether the run has ended and no `RUN_STARTED` has followed.
    pub fn has_ended(&self) -> bool {
        self.ended_with.is_some()
    }

    /// Record an event that is in order.
    pub(crate) fn apply(&mut self, event: &Event<'_>) {
        self.has_events = true;
        let now = self.clock + 1;
        let owner = || event.subagent().map(Cow::into_owned);
        let id = |name| event.string(name);
        match event.role() {
            Role::RunStarted => {
                self.is_started = true;
                self.ended_with = None;
                for (_, message) in input_messages(event) {
                    self.seed(&message, false);
                }
            }
            Role::RunFinished | Role::RunError => {
                // Owners are forgotten with the run, because the next run may give the same ids to other subagents.
                let ended_with = Some(event.kind());
                *self = Self { has_events: true, is_started: self.is_started, ended_with, ..Self::default() };
            }
            Role::MessagesSnapshot => {
                self.find_unstarted(event);
                for (_, message) in snapshot_messages(event) {
                    self.seed(&message, true);
                }
                if !self.unanswered.is_empty() {
                    self.settle(event);
                }
            }
            Role::Stream(Family::ToolCall, Part::Start) => self.open_call(event, now),
            Role::Stream(family, Part::Start) => {
                let Some(id) = id(family.id_field()) else { return };
                open(&mut self.streams[family], &id, owner, now);
                self.clock = now;
            }
            Role::Stream(family, Part::End) => {
                let Some(id) = id(family.id_field()) else { return };
                if let Some(entity) = self.streams[family].get_mut(&*id) {
                    entity.opened_at = None;
                }
                match family {
                    Family::ToolCall => self.answer(&id, |call| call.has_end = true),
                    Family::Text | Family::Reasoning => {}
                }
            }
            Role::ToolResult => {
                let Some(id) = id("toolCallId") else { return };
                self.has_answered |= self.unanswered.contains_key(&*id);
                self.unstarted.remove(&*id);
                self.answer(&id, |call| call.has_result = true);
                // The result makes a message, which belongs to the subagent that sent it.
                if let Some(message) = event.string("messageId") {
                    self.streams.text.entry(message.into()).or_default().owner = owner();
                }
            }
            Role::Span(Edge::Open) => {
                let Some(id) = id("messageId") else { return };
                // A span and the reasoning message of its id have one owner: that of the one opened first.
                let entity = || Entity { owner: owner(), opened_at: None };
                self.streams.reasoning.entry(id.clone().into()).or_insert_with(entity);
                self.spans.entry(id.into()).or_insert(now);
                self.clock = now;
            }
            Role::Span(Edge::Close) => {
                let Some(id) = id("messageId") else { return };
                self.spans.remove(&*id);
            }
            Role::ActivitySnapshot => {
                let Some(id) = id("messageId") else { return };
                // A snapshot that does not replace leaves the activity, and so its owner, as they are.
                if event.get("replace") != Some("false") || !self.activities.contains_key(&*id) {
                    self.activities.insert(id.into(), owner());
                }
            }
            Role::Step(Edge::Open) => {
                let Some(name) = id("stepName") else { return };
                // Names of steps are only unique under one owner.
                let steps = || Steps { opened_at: now, names: HashMap::new() };
                self.steps.entry(owner()).or_insert_with(steps).names.entry(name.into()).or_insert(now);
                self.clock = now;
            }
            Role::Step(Edge::Close) => {
                let Some(name) = id("stepName") else { return };
                if let Some(steps) = self.steps.get_mut(&owner()) {
                    steps.names.remove(&*name);
                }
            }
            Role::Subagent(edge) => {
                let Some(id) = id("subagentRunId") else { return };
                // A closed subagent stays known, because its id must not be used again.
                self.subagents.insert(id.into(), (edge == Edge::Open).then_some(now));
                self.clock = now;
            }
            Role::Stream(_, Part::Delta)
            | Role::Chunk(_)
            | Role::StateSnapshot
            | Role::StateDelta
            | Role::ActivityDelta
            | Role::EncryptedValue
            | Role::Raw
            | Role::Custom
            | Role::Unknown => {}
        }
    }

    /// Record the start of a tool call.
    fn open_call(&mut self, event: &Event<'_>, now: u64) {
        let Some(id) = event.string("toolCallId") else { return };
        let parent = event.string("parentMessageId");
        let parent = parent.and_then(|parent| self.streams.text.get(&*parent));
        // An untagged call belongs to the owner of the message that carries it.
        let owner = || {
            let own = event.subagent().map(Cow::into_owned);
            own.or_else(|| parent.and_then(|parent| parent.owner.clone()))
        };
        open(&mut self.streams.tool_call, &id, owner, now);
        let tool = event.string("toolCallName").unwrap_or_default().into_owned();
        let call = UnansweredCall { opened_at: now, tool, has_end: false, has_result: false };
        self.settled.remove(&*id);
        self.unstarted.remove(&*id);
        // A call that is opened again must end again, even if its result came before.
        self.unanswered.entry(id.into()).or_insert(call).has_end = false;
        self.clock = now;
    }

    fn answer(&mut self, id: &str, update: impl FnOnce(&mut UnansweredCall)) {
        // A result for an unknown call is legal (docs/spec/agui.md §6.5), and there is nothing to close.
        if let Some(call) = self.unanswered.get_mut(id) {
            update(call);
            if call.has_end && call.has_result {
                self.unanswered.remove(id);
            }
        }
    }

    /// Note the calls without a result that only snapshots of messages have.
    fn find_unstarted(&mut self, snapshot: &Event<'_>) {
        let earlier = std::mem::take(&mut self.unstarted);
        for (_, message) in snapshot_messages(snapshot) {
            if let Some(answered) = members::find_string(&message, "toolCallId") {
                self.unstarted.remove(&*answered);
            }
            for call in scan::elements(members::find(&message, "toolCalls").unwrap_or_default()) {
                let Some(id) = members::string_of(call, "id") else { continue };
                // The run's input has calls of earlier runs, and those of the run's events are known anyway.
                if self.streams.tool_call.contains_key(&*id) && !earlier.contains_key(&*id) {
                    continue;
                }
                self.clock += 1;
                let function = members::value_of(call, "function").unwrap_or_default();
                let tool = members::string_of(function, "name").unwrap_or_default().into_owned();
                let call = UnansweredCall { opened_at: self.clock, tool, has_end: true, has_result: false };
                let message = members::find_string(&message, "id").unwrap_or_default().into_owned();
                self.unstarted.insert(id.into_owned(), UnstartedCall { call, message });
            }
        }
    }

    /// Note which calls a snapshot of messages has answered or removed.
    fn settle(&mut self, snapshot: &Event<'_>) {
        let (mut calls, mut answered) = (HashSet::new(), HashSet::new());
        for (_, message) in snapshot_messages(snapshot) {
            answered.extend(members::find_string(&message, "toolCallId"));
            let of_message = scan::elements(members::find(&message, "toolCalls").unwrap_or_default());
            calls.extend(of_message.into_iter().filter_map(|call| members::string_of(call, "id")));
        }
        let is_settled = |id: &&String| answered.contains(id.as_str()) || !calls.contains(id.as_str());
        self.settled = self.unanswered.keys().filter(is_settled).cloned().collect();
    }

    /// Take owners from a message of the history (docs/spec/agui.md §6.5, rule 10).
    ///
    /// A snapshot replaces owners known before, an input does not.
    fn seed(&mut self, message: &Members<'_>, replace: bool) {
        let Some(id) = members::find_string(message, "id") else { return };
        let owner = members::find(message, "subagentRunId").filter(|id| *id != "null");
        let owner = owner.map(|id| text::display(id).into_owned());
        let set_owner = |entities: &mut HashMap<String, Entity>, id: Cow<'_, str>| match entities.get_mut(&*id) {
            Some(entity) if replace => entity.owner.clone_from(&owner),
            Some(_) => {}
            None => {
                entities.insert(id.into_owned(), Entity { owner: owner.clone(), opened_at: None });
            }
        };
        match members::find_string(message, "role").as_deref() {
            Some("reasoning") => set_owner(&mut self.streams.reasoning, id),
            Some("activity") => {
                if replace || !self.activities.contains_key(&*id) {
                    self.activities.insert(id.into_owned(), owner.clone());
                }
            }
            _ => set_owner(&mut self.streams.text, id),
        }
        for call in scan::elements(members::find(message, "toolCalls").unwrap_or_default()) {
            if let Some(id) = members::string_of(call, "id") {
                set_owner(&mut self.streams.tool_call, id);
            }
        }
    }

    /// Return the ids of open reasoning spans, in the order they were opened.
    pub(crate) fn open_spans(&self) -> Vec<&str> {
        sort_by_time(self.spans.iter().map(|(id, opened_at)| (*opened_at, id.as_str())))
    }

    /// Return the ids of open subagents, in the order they were opened.
    pub(crate) fn open_subagents(&self) -> Vec<&str> {
        sort_by_time(self.subagents.iter().filter_map(|(id, opened_at)| Some(((*opened_at)?, id.as_str()))))
    }
}

fn open(entities: &mut HashMap<String, Entity>, id: &str, owner: impl FnOnce() -> Owner, now: u64) {
    // The first to open an id owns it for the run, even if it is opened again without an owner.
    let entity = entities.entry(id.into()).or_insert_with(|| Entity { owner: owner(), opened_at: None });
    entity.opened_at.get_or_insert(now);
}

/// Return the ids of open entities, in the order they were opened.
pub(crate) fn open_ids(entities: &HashMap<String, Entity>) -> Vec<&str> {
    sort_by_time(entities.iter().filter_map(|(id, entity)| Some((entity.opened_at?, id.as_str()))))
}

/// Return the items in the order of their times.
pub(crate) fn sort_by_time<T>(items: impl Iterator<Item = (u64, T)>) -> Vec<T> {
    let mut items: Vec<_> = items.collect();
    // No two items have the same time, because whatever is opened advances the clock.
    items.sort_unstable_by_key(|(time, _)| *time);
    items.into_iter().map(|(_, item)| item).collect()
}

/// Iterate over the messages of a run's input, each with its members.
pub(crate) fn input_messages<'a>(event: &Event<'a>) -> impl Iterator<Item = (&'a str, MemberVec<'a>)> + use<'a> {
    let messages = event.get("input").and_then(|input| members::value_of(input, "messages"));
    scan::objects(messages.unwrap_or_default())
}

/// Iterate over the messages of a snapshot, each with its members.
pub(crate) fn snapshot_messages<'a>(event: &Event<'a>) -> impl Iterator<Item = (&'a str, MemberVec<'a>)> + use<'a> {
    scan::objects(event.get("messages").unwrap_or_default())
}
