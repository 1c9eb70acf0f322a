//! The messages and state a client holds after replaying events, as `@ag-ui/client` 1.0.0 reduces them.

use crate::event::Event;
use crate::family::{Family, Part, Role};
use crate::json::{Array, Json, Object};
use crate::lifecycle::input_messages;

mod activities;
mod fields;
mod messages;
mod snapshots;

use fields::{append, apply_patch, merge_metadata, object, set_subagent, without_null_subagent};
use messages::{Author, Messages};

/// The messages and state after the events pushed so far.
#[derive(Debug)]
pub struct Fold {
    messages: Messages,
    state: Json,
    has_state: bool,
    lost_reasoning: Vec<String>,
    /// By how many bytes patches have made the state and the activities grow.
    grown_bytes: usize,
}

impl Default for Fold {
    fn default() -> Self {
        let state = Json::Object(Object::new());
        Self { messages: Messages::default(), state, has_state: false, lost_reasoning: Vec::new(), grown_bytes: 0 }
    }
}

impl Fold {
    /// Create a fold without messages, with `{}` as its state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Push the next event.
    ///
    /// An event the reference skips with a warning is skipped here too. `*_CHUNK` events must be expanded before.
    pub fn push(&mut self, event: &Event<'_>) {
        match event.role() {
            Role::Stream(family, part) => match (family, part) {
                (Family::Text, Part::Start) => self.start_message(event, "assistant"),
                (Family::Reasoning, Part::Start) => self.start_message(event, "reasoning"),
                (Family::Text | Family::Reasoning, Part::Delta) => self.append_content(event),
                (Family::Text | Family::Reasoning, Part::End) => {
                    if let Some(message) = self.text_message(event) {
                        merge_metadata(message, event);
                    }
                }
                (Family::ToolCall, Part::Start) => self.start_call(event),
                (Family::ToolCall, Part::Delta | Part::End) => self.continue_call(event, part),
            },
            Role::ToolResult => self.add_result(event),
            Role::StateSnapshot => {
                if let Some(snapshot) = event.get("snapshot") {
                    self.state = Json::parse(snapshot);
                    self.has_state = true;
                }
            }
            Role::StateDelta => {
                if let Some(delta) = event.get("delta") {
                    // A patch that fails is skipped as a whole.
                    self.has_state |= apply_patch(&mut self.state, delta, &mut self.grown_bytes);
                }
            }
            Role::MessagesSnapshot => self.apply_messages_snapshot(event),
            Role::ActivitySnapshot => self.apply_activity_snapshot(event),
            Role::ActivityDelta => self.patch_activity(event),
            Role::RunStarted => self.add_input(event),
            Role::EncryptedValue => self.set_encrypted_value(event),
            Role::RunFinished
            | Role::RunError
            | Role::Chunk(_)
            | Role::Span(_)
            | Role::Step(_)
            | Role::Subagent(_)
            | Role::Raw
            | Role::Custom
            | Role::Unknown => {}
        }
    }

    /// Return the messages as a JSON array.
    pub fn messages(&self) -> String {
        let mut out = String::from("[");
        for message in self.messages.iter() {
            if out.len() > 1 {
                out.push(',');
            }
            message.write(&mut out);
        }
        out.push(']');
        out
    }

    /// Return the state as JSON.
    pub fn state(&self) -> String {
        let mut out = String::new();
        self.state.write(&mut out);
        out
    }

    /// Return whether an event set or changed the state.
    pub fn has_state(&self) -> bool {
        self.has_state
    }

    /// Return whether every message was added at the end, under a new id.
    ///
    /// The messages at any earlier time are then the first of the messages now.
    pub fn only_grew(&self) -> bool {
        !self.messages.is_reordered
    }

    /// Return the (escaped) ids of reasoning messages that were dropped or replaced by another kind of message.
    pub fn lost_reasoning(&self) -> &[String] {
        &self.lost_reasoning
    }

    /// Find the message of an event's `messageId`, unless it is an activity.
    fn text_message(&mut self, event: &Event<'_>) -> Option<&mut Json> {
        let slot = self.messages.find(event.escaped_text("messageId")?)?;
        (self.messages.author(slot) != Author::Activity).then(|| self.messages.get_mut(slot))
    }

    fn start_message(&mut self, event: &Event<'_>, role: &str) {
        let Some(id) = event.escaped_text("messageId") else { return };
        // A START whose message exists changes only its metadata, which lets a snapshot open streams again.
        let slot = self.messages.find(id).unwrap_or_else(|| {
            let mut message = object(&[("id", id)]);
            // The reference ignores the role and name in a reasoning message's event.
            let field = |name| event.escaped_text(name).filter(|_| role == "assistant");
            message.set("role", Json::from_escaped(field("role").unwrap_or(role)));
            message.set("content", Json::from_escaped(""));
            if let Some(name) = field("name") {
                message.set("name", Json::from_escaped(name));
            }
            set_subagent(&mut message, event);
            self.messages.push(message)
        });
        if self.messages.author(slot) != Author::Activity {
            merge_metadata(self.messages.get_mut(slot), event);
        }
    }

    fn append_content(&mut self, event: &Event<'_>) {
        let Some(delta) = event.escaped_text("delta") else { return };
        if let Some(message) = self.text_message(event) {
            append(message, "content", delta);
            merge_metadata(message, event);
        }
    }

    fn start_call(&mut self, event: &Event<'_>) {
        let Some(id) = event.escaped_text("toolCallId") else { return };
        let name = event.escaped_text("toolCallName");
        if let Some(call) = self.messages.call(id) {
            if let (Some(function), Some(name)) = (call.get_mut("function"), name) {
                function.set("name", Json::from_escaped(name));
            }
            merge_metadata(call, event);
            return;
        }
        let parent = event.escaped_text("parentMessageId").filter(|parent| !parent.is_empty());
        let existing = parent.and_then(|parent| self.messages.find(parent));
        let slot = match existing {
            Some(slot) if self.messages.author(slot) == Author::Assistant => slot,
            // A call whose parent is not an assistant's message gets a message of its own, with the call's id.
            _ => {
                let message_id = parent.filter(|_| existing.is_none()).unwrap_or(id);
                let is_new = self.messages.find(message_id).is_none();
                let mut message = object(&[("id", message_id), ("role", "assistant")]);
                message.set("toolCalls", Json::Array(Array::new()));
                if is_new {
                    set_subagent(&mut message, event);
                }
                self.messages.push(message)
            }
        };
        let mut call = object(&[("id", id), ("type", "function")]);
        call.set("function", object(&[("name", name.unwrap_or_default()), ("arguments", "")]));
        if let Some(call) = self.messages.push_call(slot, id, call) {
            merge_metadata(call, event);
        }
    }

    fn continue_call(&mut self, event: &Event<'_>, part: Part) {
        let Some(call) = event.escaped_text("toolCallId").and_then(|id| self.messages.call(id)) else { return };
        if part == Part::Delta {
            let Some(delta) = event.escaped_text("delta") else { return };
            if let Some(function) = call.get_mut("function") {
                append(function, "arguments", delta);
            }
        }
        merge_metadata(call, event);
    }

    fn add_result(&mut self, event: &Event<'_>) {
        let (Some(id), Some(call)) = (event.escaped_text("messageId"), event.escaped_text("toolCallId")) else {
            return;
        };
        let role = event.escaped_text("role").filter(|role| !role.is_empty()).unwrap_or("tool");
        let mut message = object(&[("id", id), ("toolCallId", call), ("role", role)]);
        message.set("content", Json::parse(event.get("content").unwrap_or("\"\"")));
        set_subagent(&mut message, event);
        merge_metadata(&mut message, event);
        self.messages.push_result(call, message);
    }

    /// Add the messages of a run's input that are new.
    fn add_input(&mut self, event: &Event<'_>) {
        for message in input_messages(event).filter_map(|(json, _)| without_null_subagent(json)) {
            let id = message.get("id").and_then(Json::as_escaped);
            if id.is_none_or(|id| self.messages.find(id).is_none()) {
                self.messages.push(message);
            }
        }
    }

    fn set_encrypted_value(&mut self, event: &Event<'_>) {
        let (Some(id), Some(value)) = (event.escaped_text("entityId"), event.get("encryptedValue")) else { return };
        let target = if event.string("subtype").as_deref() == Some("tool-call") {
            self.messages.assistant_call(id)
        } else {
            let slot = self.messages.find(id).filter(|&slot| self.messages.author(slot) != Author::Activity);
            slot.map(|slot| self.messages.get_mut(slot))
        };
        if let Some(target) = target {
            target.set("encryptedValue", Json::parse(value));
        }
    }
}
