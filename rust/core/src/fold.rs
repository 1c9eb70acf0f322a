//! What a client holds after replaying events: messages and state, as `@ag-ui/client` 1.0.0 reduces them.
use std::collections::HashMap;

use crate::event::{Event, Kind};
use crate::json::Json;
use crate::{patch, scan, text};

mod fields;
mod messages;

use fields::{
    Owned, append, authoritative_types, fill_activity, is_null, merge_metadata, messages_in, object, set_subagent,
    value_of,
};
use messages::{Messages, Role, id_of};

/// Messages and state, after the events pushed so far.
#[derive(Debug)]
pub struct Fold {
    messages: Messages,
    state: Json,
    state_set: bool,
    gone_reasoning: Vec<String>,
}

impl Default for Fold {
    fn default() -> Self {
        let state = Json::Object(Vec::new());
        Self { messages: Messages::default(), state, state_set: false, gone_reasoning: Vec::new() }
    }
}

impl Fold {
    /// No messages, and `{}` for a state.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next event. What the reference warns about and skips is skipped; `*_CHUNK` events are to be
    /// expanded before, here they are nothing.
    pub fn push(&mut self, event: &Event<'_>) {
        match event.kind() {
            Kind::TextMessageStart => self.start(event, "assistant"),
            Kind::ReasoningMessageStart => self.start(event, "reasoning"),
            Kind::TextMessageContent | Kind::ReasoningMessageContent => self.content(event),
            Kind::TextMessageEnd | Kind::ReasoningMessageEnd => {
                if let Some(message) = self.text_message(event) {
                    merge_metadata(message, event);
                }
            }
            Kind::ToolCallStart => self.call_start(event),
            Kind::ToolCallArgs | Kind::ToolCallEnd => self.call_part(event),
            Kind::ToolCallResult => self.call_result(event),
            Kind::StateSnapshot => {
                if let Some(snapshot) = event.get("snapshot") {
                    self.state = Json::parse(snapshot);
                    self.state_set = true;
                }
            }
            Kind::StateDelta => {
                if let Some(delta) = event.get("delta") {
                    // A patch that fails is skipped whole.
                    self.state_set |= patch::apply(&mut self.state, &Json::parse(delta)).is_ok();
                }
            }
            Kind::MessagesSnapshot => self.messages_snapshot(event),
            Kind::ActivitySnapshot => self.activity_snapshot(event),
            Kind::ActivityDelta => self.activity_delta(event),
            Kind::RunStarted => self.run_started(event),
            Kind::ReasoningEncryptedValue => self.encrypted_value(event),
            _ => {}
        }
    }

    /// The messages, as a JSON array.
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

    /// The state, as JSON.
    pub fn state(&self) -> String {
        let mut out = String::new();
        self.state.write(&mut out);
        out
    }

    /// Whether an event set or changed the state.
    pub fn state_set(&self) -> bool {
        self.state_set
    }

    /// Whether messages were only ever added behind the others, each under an id of its own: then what was there at any
    /// time is the beginning of what is there now.
    pub fn only_grew(&self) -> bool {
        !self.messages.shuffled
    }

    /// The (escaped) ids of reasoning that went away or was made another kind of message.
    pub fn gone_reasoning(&self) -> &[String] {
        &self.gone_reasoning
    }

    /// The message an event's `messageId` names, unless that is an activity.
    fn text_message(&mut self, event: &Event<'_>) -> Option<&mut Json> {
        let slot = self.messages.find(event.escaped("messageId")?)?;
        (self.messages.role(slot) != Role::Activity).then(|| self.messages.get_mut(slot))
    }

    fn start(&mut self, event: &Event<'_>, role: &str) {
        let Some(id) = event.escaped("messageId") else { return };
        let slot = self.messages.find(id).unwrap_or_else(|| {
            let mut message = object(&[("id", id)]);
            // A reasoning message's role and name are not read from the event.
            let given = |name| event.escaped(name).filter(|_| role == "assistant");
            message.set("role", Json::escaped(given("role").unwrap_or(role)));
            message.set("content", Json::escaped(""));
            if let Some(name) = given("name") {
                message.set("name", Json::escaped(name));
            }
            set_subagent(&mut message, event);
            self.messages.push(message)
        });
        if self.messages.role(slot) != Role::Activity {
            merge_metadata(self.messages.get_mut(slot), event);
        }
    }

    fn content(&mut self, event: &Event<'_>) {
        let Some(delta) = event.escaped("delta") else { return };
        if let Some(message) = self.text_message(event) {
            append(message, "content", delta);
            merge_metadata(message, event);
        }
    }

    fn call_start(&mut self, event: &Event<'_>) {
        let Some(id) = event.escaped("toolCallId") else { return };
        let name = event.escaped("toolCallName");
        if let Some(call) = self.messages.call(id) {
            if let (Some(function), Some(name)) = (call.get_mut("function"), name) {
                function.set("name", Json::escaped(name));
            }
            merge_metadata(call, event);
            return;
        }
        let parent = event.escaped("parentMessageId").filter(|parent| !parent.is_empty());
        let existing = parent.and_then(|parent| self.messages.find(parent));
        let slot = match existing {
            Some(slot) if self.messages.role(slot) == Role::Assistant => slot,
            // A parent that is no assistant's is none: the message is named after the call.
            _ => {
                let owner = parent.filter(|_| existing.is_none()).unwrap_or(id);
                let is_new = self.messages.find(owner).is_none();
                let mut message = object(&[("id", owner), ("role", "assistant")]);
                message.set("toolCalls", Json::Array(Vec::new()));
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

    /// More arguments of a tool call, or its end.
    fn call_part(&mut self, event: &Event<'_>) {
        let Some(call) = event.escaped("toolCallId").and_then(|id| self.messages.call(id)) else { return };
        if event.kind() == Kind::ToolCallArgs {
            let Some(delta) = event.escaped("delta") else { return };
            if let Some(function) = call.get_mut("function") {
                append(function, "arguments", delta);
            }
        }
        merge_metadata(call, event);
    }

    fn call_result(&mut self, event: &Event<'_>) {
        let (Some(id), Some(call)) = (event.escaped("messageId"), event.escaped("toolCallId")) else { return };
        let role = event.escaped("role").filter(|role| !role.is_empty()).unwrap_or("tool");
        let mut message = object(&[("id", id), ("toolCallId", call), ("role", role)]);
        message.set("content", Json::parse(event.get("content").unwrap_or("\"\"")));
        set_subagent(&mut message, event);
        merge_metadata(&mut message, event);
        self.messages.push_result(call, message);
    }

    /// Replaces the messages but for what only the client has: activities and reasoning, if the snapshot brings none
    /// of their kind.
    fn messages_snapshot(&mut self, event: &Event<'_>) {
        let Some(all) = event.get("messages").filter(|all| all.starts_with('[')) else { return };
        let news: Vec<Json> = messages_in(all).collect();
        let owned = authoritative_types(event);
        let brings = |role| news.iter().any(|message| Role::of(message) == role);
        let (brings_activity, brings_reasoning) = (brings(Role::Activity), brings(Role::Reasoning));
        let stays = |message: &Json| match Role::of(message) {
            Role::Activity => match &owned {
                Owned::All => false,
                Owned::Types(types) => {
                    message.get("activityType").is_none_or(|name| !types.iter().any(|owned| owned == name))
                }
                Owned::Unsaid => !brings_activity,
            },
            Role::Reasoning => !brings_reasoning,
            _ => false,
        };
        // Of an id that comes twice the last one takes the place of the old message.
        let by_id: HashMap<_, _> =
            news.iter().enumerate().filter_map(|(at, message)| Some((id_of(message)?, at))).collect();
        let known: Vec<bool> = news
            .iter()
            .map(|message| {
                message.get("id").and_then(Json::as_escaped).is_some_and(|id| self.messages.find(id).is_some())
            })
            .collect();
        for message in self.messages.take() {
            let new = id_of(&message).and_then(|id| by_id.get(&id)).map(|&at| &news[at]);
            let remains = new.map_or_else(|| stays(&message), |new| Role::of(new) == Role::of(&message));
            if !remains {
                self.messages.shuffled = true;
                self.gone_reasoning.extend(id_of(&message).filter(|_| Role::of(&message) == Role::Reasoning));
            }
            match new {
                Some(new) => drop(self.messages.push(new.clone())),
                None if remains => drop(self.messages.push(message)),
                None => {}
            }
        }
        for (message, _) in news.into_iter().zip(known).filter(|(_, known)| !known) {
            self.messages.push(message);
        }
    }

    fn activity_snapshot(&mut self, event: &Event<'_>) {
        let Some(id) = event.escaped("messageId") else { return };
        let replace = event.get("replace") != Some("false");
        let existing = self.messages.find(id);
        let slot = match existing {
            Some(slot) if self.messages.role(slot) == Role::Activity => {
                if replace {
                    let message = self.messages.get_mut(slot);
                    fill_activity(message, event);
                }
                slot
            }
            Some(_) if !replace => return,
            _ => {
                let mut message = object(&[("id", id), ("role", "activity")]);
                fill_activity(&mut message, event);
                match existing {
                    Some(slot) => {
                        let reasoning = self.messages.role(slot) == Role::Reasoning;
                        self.gone_reasoning.extend(reasoning.then(|| id.to_owned()));
                        self.messages.replace(slot, message);
                    }
                    None => drop(self.messages.push(message)),
                }
                self.messages.find(id).expect("just put there")
            }
        };
        merge_metadata(self.messages.get_mut(slot), event);
    }

    fn activity_delta(&mut self, event: &Event<'_>) {
        let Some(slot) = event.escaped("messageId").and_then(|id| self.messages.find(id)) else { return };
        if self.messages.role(slot) != Role::Activity {
            return;
        }
        let message = self.messages.get_mut(slot);
        // Metadata counts even where the patch fails.
        merge_metadata(message, event);
        let patch = Json::parse(value_of(event, "patch").unwrap_or("[]"));
        let patched = match message.get_mut("content") {
            Some(content) if !is_null(content) => patch::apply(content, &patch).is_ok(),
            _ => {
                let mut content = Json::Object(Vec::new());
                let patched = patch::apply(&mut content, &patch).is_ok();
                if patched {
                    message.set("content", content);
                }
                patched
            }
        };
        if let Some(name) = event.get("activityType").filter(|_| patched) {
            message.set("activityType", Json::parse(name));
        }
    }

    fn run_started(&mut self, event: &Event<'_>) {
        let Some(input) = event.get("input") else { return };
        let messages = scan::members(input).into_iter().rev().find(|(key, _)| text::same(key, "messages"));
        for message in messages.into_iter().flat_map(|(_, all)| messages_in(all)) {
            let id = message.get("id").and_then(Json::as_escaped);
            if id.is_none_or(|id| self.messages.find(id).is_none()) {
                self.messages.push(message);
            }
        }
    }

    fn encrypted_value(&mut self, event: &Event<'_>) {
        let (Some(id), Some(value)) = (event.escaped("entityId"), event.get("encryptedValue")) else { return };
        let target = if event.string("subtype").as_deref() == Some("tool-call") {
            self.messages.assistant_call(id)
        } else {
            let slot = self.messages.find(id).filter(|&slot| self.messages.role(slot) != Role::Activity);
            slot.map(|slot| self.messages.get_mut(slot))
        };
        if let Some(target) = target {
            target.set("encryptedValue", Json::parse(value));
        }
    }
}
