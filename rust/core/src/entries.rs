//! A run's entries in its thread's table of message ids: the messages' ids, and marks for other facts about the run.
//!
//! A message's entry is its id. A mark begins with a control character, which external ids hardly ever contain. At
//! worst, an id that does is treated as used.
use crate::event::Event;
use crate::family::{Family, Part, Role};
use crate::lifecycle::{input_messages, snapshot_messages};
use crate::members::{self, Members};
use crate::{scan, text};

/// The kind of a message. Messages of two kinds must not share an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// The assistant's text and tool calls.
    Text,
    /// A user's, system's or developer's text.
    Prompt,
    /// The result of a tool call.
    Tool,
    Activity,
    Reasoning,
}

impl Class {
    pub(crate) const ALL: [Self; 5] = [Self::Text, Self::Prompt, Self::Tool, Self::Activity, Self::Reasoning];
    /// The classes whose messages have marks.
    pub(crate) const MARKED: [Self; 4] = [Self::Prompt, Self::Tool, Self::Activity, Self::Reasoning];

    pub(crate) fn of_role(role: Option<&str>) -> Self {
        match role {
            Some("user" | "system" | "developer") => Self::Prompt,
            Some("tool") => Self::Tool,
            Some("activity") => Self::Activity,
            Some("reasoning") => Self::Reasoning,
            _ => Self::Text,
        }
    }

    /// Return the class of the message that a start or chunk of a family begins.
    pub(crate) fn of_family(family: Family, event: &Event<'_>) -> Self {
        match family {
            Family::Reasoning => Self::Reasoning,
            Family::Text | Family::ToolCall => Self::of_role(event.string("role").as_deref()),
        }
    }

    /// Return the class's name in the ids of its messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Prompt => "prompt",
            Self::Tool => "tool",
            Self::Activity => "activity",
            Self::Reasoning => "reasoning",
        }
    }

    /// Return the entry of a message of this class.
    ///
    /// Assistant messages need only their id, because most messages are the assistant's.
    pub(crate) fn mark(self, id: &str) -> Option<String> {
        // A snapshot of messages may need a hundred thousand of these, and `format` takes several times as long.
        (self != Self::Text).then(|| ["\u{1}", self.name(), " ", id].concat())
    }

    /// Return the class and the id of a message whose mark this is.
    pub(crate) fn of_mark(entry: &str) -> Option<(Self, &str)> {
        let (name, id) = entry.strip_prefix('\u{1}')?.split_once(' ')?;
        let class = Self::MARKED.into_iter().find(|class| class.name() == name)?;
        Some((class, id))
    }
}

/// Return the entry of a tool call.
pub(crate) fn call(id: &str) -> String {
    ["\u{1}call ", id].concat()
}

/// Return the entry of a tool call that has a result.
pub(crate) fn answered(id: &str) -> String {
    ["\u{1}answered ", id].concat()
}

/// The entry of a thread with a snapshot, which replays have to look for.
pub const SNAPSHOT: &str = "\u{1}snapshot";

/// The entry of a thread with a message that only a client claims exists; such a message has this metadata.
pub const CLAIMED: &str = "\u{1}claimed";
const SOURCE: &str = "agentrunner.source";

/// Call `each` with the entries that an event adds to its thread.
pub fn each_entry(event: &Event<'_>, mut each: impl FnMut(String)) {
    let id = |name| event.string(name);
    let mut add = |class: Class, id: &str| {
        class.mark(id).into_iter().for_each(&mut each);
        each(id.to_owned());
    };
    match event.role() {
        Role::RunStarted => {
            for (_, message) in input_messages(event) {
                each_entry_of_message(&message, &mut each);
            }
        }
        Role::MessagesSnapshot => {
            for (_, message) in snapshot_messages(event) {
                each_entry_of_message(&message, &mut each);
            }
            each(SNAPSHOT.into());
        }
        Role::StateSnapshot => each(SNAPSHOT.into()),
        Role::Stream(Family::ToolCall, Part::Start) => {
            let Some(call_id) = id("toolCallId") else { return };
            // The call creates an assistant message, unless its parent exists.
            add(Class::Text, &id("parentMessageId").unwrap_or_else(|| call_id.clone()));
            each(call(&call_id));
        }
        Role::Stream(family, Part::Start) => {
            let Some(id) = id("messageId") else { return };
            let class = match family {
                Family::Reasoning => Class::Reasoning,
                _ => Class::of_role(event.string("role").as_deref()),
            };
            add(class, &id);
        }
        Role::ToolResult => {
            if let Some(id) = id("messageId") {
                add(Class::Tool, &id);
            }
            if let Some(id) = id("toolCallId") {
                each(answered(&id));
            }
        }
        Role::ActivitySnapshot => {
            if let Some(id) = id("messageId") {
                add(Class::Activity, &id);
            }
        }
        // The message is known from its START, and most events of a run are deltas.
        Role::Stream(_, Part::Delta | Part::End) => {}
        Role::RunFinished
        | Role::RunError
        | Role::Chunk(_)
        | Role::Span(_)
        | Role::Step(_)
        | Role::Subagent(_)
        | Role::StateDelta
        | Role::ActivityDelta
        | Role::EncryptedValue
        | Role::Raw
        | Role::Custom
        | Role::Unknown => {
            if let Some(id) = id("messageId") {
                each(id.into_owned());
            }
        }
    }
}

fn each_entry_of_message(message: &Members<'_>, each: &mut impl FnMut(String)) {
    let Some(id) = members::find_string(message, "id") else { return };
    Class::of_role(members::find_string(message, "role").as_deref()).mark(&id).into_iter().for_each(&mut *each);
    for item in scan::elements(members::find(message, "toolCalls").unwrap_or_default()) {
        each_call(item, each);
    }
    if let Some(id) = members::find_string(message, "toolCallId") {
        each(answered(&id));
    }
    let metadata = members::find(message, "metadata").unwrap_or_default();
    if members::string_of(metadata, SOURCE).as_deref() == Some("client") {
        each(CLAIMED.into());
    }
    each(id.into_owned());
}

fn each_call(item: &str, each: &mut impl FnMut(String)) {
    if let Some(id) = members::string_of(item, "id") {
        each(call(&id));
    }
}

/// The beginning of the suffix of an id that the runner has assigned.
const OWN: &str = "--own";

/// Return the id that clients see for a message whose own id belongs to a message of another class.
pub(crate) fn own_message_id(id: &str, class: Class) -> String {
    format!("{id}{OWN}-{}", class.name())
}

/// Return the id that clients see for the message of the n-th owner of an id.
pub(crate) fn owned_message_id(id: &str, class: Class, number: u64) -> String {
    format!("{}{number}", own_message_id(id, class))
}

/// Return the id that clients see for the n-th call with an id.
pub(crate) fn own_call_id(id: &str, number: u64) -> String {
    if number > 1 { format!("{id}{OWN}{number}") } else { id.to_owned() }
}

/// Return the id that the agent used, and the call's number, for an id that clients see.
pub fn split_own_id(id: &str) -> (&str, u64) {
    let Some((agents, suffix)) = id.rsplit_once(OWN) else { return (id, 1) };
    if agents.is_empty() {
        return (id, 1);
    }
    if let Some(name) = suffix.strip_prefix('-') {
        let name_of_class = name.trim_end_matches(|digit: char| digit.is_ascii_digit());
        let number = &name[name_of_class.len()..];
        let is_class = Class::ALL.iter().any(|class| class.name() == name_of_class);
        let is_own = name == "result" || (is_class && (number.is_empty() || parse_number(number).is_some()));
        return if is_own { (agents, 1) } else { (id, 1) };
    }
    parse_number(suffix).map_or((id, 1), |number| (agents, number))
}

/// Return a number that the runner may have assigned.
fn parse_number(text: &str) -> Option<u64> {
    // The runner assigns no longer numbers.
    let is_number = text.len() < 10 && !text.starts_with('0') && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && *number > 1)
}

/// Return the id that clients see for a result's message whose own id belongs to another message.
pub(crate) fn own_result_id(call: &str) -> String {
    format!("{call}{OWN}-result")
}

/// Return a run's input for its agent: with the ids that the agent has used.
pub fn input_for_agent(input: &str) -> Option<String> {
    if !input.contains(OWN) {
        return None;
    }
    let restore = |json: &str| match text::unquote(json).and_then(text::decode) {
        Some(id) => text::quote(split_own_id(&id).0),
        None => json.to_owned(),
    };
    let messages = members::value_of(input, "messages")?;
    let messages: Vec<_> = scan::elements(messages).into_iter().map(|message| with_ids(message, &restore)).collect();
    let messages = format!("[{}]", messages.join(","));
    let replaced = |&(key, value)| (key, if text::is_same(key, "messages") { messages.as_str() } else { value });
    Some(members::write_object(scan::members(input).iter().map(replaced)))
}

/// Return a message with its ids replaced.
fn with_ids(message: &str, restore: &impl Fn(&str) -> String) -> String {
    replace_members(message, |key, value| match key {
        "id" | "toolCallId" => Some(restore(value)),
        "toolCalls" => Some(replace_elements(value, |call| {
            replace_members(call, |key, value| (key == "id").then(|| restore(value)))
        })),
        _ => None,
    })
}

/// Return an object with some members' values replaced, or the object itself if none is.
pub(crate) fn replace_members(json: &str, mut replace: impl FnMut(&str, &str) -> Option<String>) -> String {
    let members = scan::members(json);
    let values: Vec<_> = members.iter().map(|(key, value)| replace(key, value)).collect();
    if values.iter().all(Option::is_none) {
        return json.to_owned();
    }
    let pairs = members.iter().zip(&values).map(|((key, value), new)| (*key, new.as_deref().unwrap_or(value)));
    members::write_object(pairs)
}

/// Return an array with its elements replaced.
pub(crate) fn replace_elements(json: &str, replace: impl FnMut(&str) -> String) -> String {
    if !json.starts_with('[') {
        return json.to_owned();
    }
    format!("[{}]", scan::elements(json).into_iter().map(replace).collect::<Vec<_>>().join(","))
}
