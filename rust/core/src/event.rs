//! One AG-UI event: its bytes, and the few header fields read out of them once.
//!
//! Kinds are an open set: a kind that is not known is kept byte for byte.
use std::borrow::Cow;

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::scan::{self, Span};
use crate::text;

macro_rules! kinds {
    ($($variant:ident $name:literal,)*) => {
        /// The kinds of AG-UI 1.0 (docs/spec/agui.md §6.2), and `Unknown` for every other.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind {
            $(#[doc = $name] $variant,)*
            /// A kind this version does not know.
            Unknown,
        }

        impl Kind {
            /// Every known kind with its name on the wire.
            pub const ALL: &'static [(Kind, &'static str)] = &[$((Kind::$variant, $name),)*];

            fn of(name: &str) -> Kind {
                match name {
                    $($name => Kind::$variant,)*
                    _ => Kind::Unknown,
                }
            }
        }
    };
}

kinds! {
    RunStarted "RUN_STARTED",
    RunFinished "RUN_FINISHED",
    RunError "RUN_ERROR",
    StepStarted "STEP_STARTED",
    StepFinished "STEP_FINISHED",
    TextMessageStart "TEXT_MESSAGE_START",
    TextMessageContent "TEXT_MESSAGE_CONTENT",
    TextMessageEnd "TEXT_MESSAGE_END",
    TextMessageChunk "TEXT_MESSAGE_CHUNK",
    ToolCallStart "TOOL_CALL_START",
    ToolCallArgs "TOOL_CALL_ARGS",
    ToolCallEnd "TOOL_CALL_END",
    ToolCallChunk "TOOL_CALL_CHUNK",
    ToolCallResult "TOOL_CALL_RESULT",
    StateSnapshot "STATE_SNAPSHOT",
    StateDelta "STATE_DELTA",
    MessagesSnapshot "MESSAGES_SNAPSHOT",
    ActivitySnapshot "ACTIVITY_SNAPSHOT",
    ActivityDelta "ACTIVITY_DELTA",
    ReasoningStart "REASONING_START",
    ReasoningEnd "REASONING_END",
    ReasoningMessageStart "REASONING_MESSAGE_START",
    ReasoningMessageContent "REASONING_MESSAGE_CONTENT",
    ReasoningMessageEnd "REASONING_MESSAGE_END",
    ReasoningMessageChunk "REASONING_MESSAGE_CHUNK",
    ReasoningEncryptedValue "REASONING_ENCRYPTED_VALUE",
    Raw "RAW",
    Custom "CUSTOM",
    SubagentStarted "SUBAGENT_STARTED",
    SubagentFinished "SUBAGENT_FINISHED",
    SubagentError "SUBAGENT_ERROR",
}

impl Kind {
    /// The id fields this kind must have (docs/spec/agui.md §6.2), none of them empty.
    pub fn required_ids(self) -> &'static [&'static str] {
        match self {
            Self::RunStarted | Self::RunFinished => &["threadId", "runId"],
            Self::TextMessageStart
            | Self::TextMessageContent
            | Self::TextMessageEnd
            | Self::ActivitySnapshot
            | Self::ActivityDelta
            | Self::ReasoningStart
            | Self::ReasoningEnd
            | Self::ReasoningMessageStart
            | Self::ReasoningMessageContent
            | Self::ReasoningMessageEnd => &["messageId"],
            Self::ToolCallStart | Self::ToolCallArgs | Self::ToolCallEnd => &["toolCallId"],
            Self::ToolCallResult => &["messageId", "toolCallId"],
            Self::StepStarted | Self::StepFinished => &["stepName"],
            Self::ReasoningEncryptedValue => &["entityId"],
            Self::SubagentStarted | Self::SubagentFinished | Self::SubagentError => &["subagentRunId"],
            _ => &[],
        }
    }
}

/// The optional fields that must be left out rather than null; `null` elsewhere is a value like any other.
const NEVER_NULL: &[&str] = &[
    "timestamp",
    "metadata",
    "subagentRunId",
    "protocolVersion",
    "parentRunId",
    "input",
    "outcome",
    "usage",
    "code",
    "role",
    "name",
    "parentMessageId",
    "messageId",
    "toolCallId",
    "toolCallName",
    "delta",
    "replace",
    "source",
    "description",
    "parentSubagentRunId",
    "parentToolCallId",
];

/// Every field that holds an id.
const IDS: &[&str] = &[
    "threadId",
    "runId",
    "messageId",
    "toolCallId",
    "entityId",
    "parentRunId",
    "parentMessageId",
    "parentToolCallId",
    "subagentRunId",
    "parentSubagentRunId",
];

/// An event, borrowed from its JSON text.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    json: &'a str,
    kind: Kind,
    type_name: &'a str,
    members: SmallVec<[Member; 6]>,
    /// Whether a key has escapes in it: then keys are compared decoded.
    escaped_keys: bool,
}

/// Where a key (without quotes) and its value stand.
#[derive(Debug, Clone, Copy)]
struct Member {
    key: (u32, u32),
    value: (u32, u32),
}

const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

fn short(span: Span) -> (u32, u32) {
    (span.0 as u32, span.1 as u32)
}

impl<'a> Event<'a> {
    /// Reads an event. Refused with [`Error::InvalidEvent`]: not UTF-8, not JSON, not an object, nested over 128
    /// levels, no `type`, a `type` that is no string.
    pub fn parse(json: &'a [u8]) -> Result<Self> {
        let json = std::str::from_utf8(json)
            .map_err(|error| Error::InvalidEvent(format!("an event must be UTF-8: {error}")))?;
        Self::parse_str(json)
    }

    /// [`Event::parse`] for text known to be UTF-8.
    pub fn parse_str(json: &'a str) -> Result<Self> {
        let json = if json.starts_with('{') && json.ends_with('}') { json } else { json.trim_matches(SPACE) };
        let bytes = json.as_bytes();
        if u32::try_from(bytes.len()).is_err() {
            return Err(Error::InvalidEvent("an event must be under 4 GiB".into()));
        }
        if bytes.first() != Some(&b'{') {
            let end = scan::value(bytes, 0, 0)?;
            scan_end(json, end)?;
            return Err(Error::InvalidEvent("an event must be a JSON object".into()));
        }
        // Looked for once: most events have none.
        let escapes = memchr::memchr(b'\\', bytes).is_some();
        let mut event =
            Self { json, kind: Kind::Unknown, type_name: "", members: SmallVec::new(), escaped_keys: false };
        let end = scan::object(bytes, 0, 0, |key, value| {
            event.escaped_keys |= escapes && bytes[key.0..key.1].contains(&b'\\');
            event.members.push(Member { key: short(key), value: short(value) });
        })?;
        scan_end(json, end)?;
        let type_json = event.get("type").ok_or_else(|| Error::InvalidEvent("an event must have a `type`".into()))?;
        event.type_name = text::inner(type_json)
            .ok_or_else(|| Error::InvalidEvent(format!("`type` must be a string, not {}", shortened(type_json))))?;
        event.kind = Kind::of(event.type_name);
        if escapes && event.kind == Kind::Unknown {
            event.kind = text::decoded(event.type_name).map_or(Kind::Unknown, |name| Kind::of(&name));
        }
        Ok(event)
    }

    /// The event's JSON, white space around it aside exactly as it was given.
    pub fn json(&self) -> &'a str {
        self.json
    }

    /// The event's kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The value of `type`, as it stands between its quotes.
    pub fn type_name(&self) -> &'a str {
        self.type_name
    }

    /// The JSON of a field; of a repeated one the last, as every reader of JSON has it.
    #[inline]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.members.iter().rev().find_map(|member| {
            let key = self.text(member.key);
            let hit = key == name || (self.escaped_keys && text::same(key, name));
            hit.then(|| self.text(member.value))
        })
    }

    /// The fields in order, keys without quotes and still escaped.
    pub fn members(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        self.members.iter().map(|member| (self.text(member.key), self.text(member.value)))
    }

    #[inline]
    fn text(&self, span: (u32, u32)) -> &'a str {
        &self.json[span.0 as usize..span.1 as usize]
    }

    /// A string field's text as it stands between its quotes, still escaped; `None` if absent or no string.
    #[inline]
    pub fn escaped(&self, name: &str) -> Option<&'a str> {
        text::inner(self.get(name)?)
    }

    /// A string field, decoded; `None` if absent, no string, or holding half a surrogate pair.
    #[inline]
    pub fn string(&self, name: &str) -> Option<Cow<'a, str>> {
        text::decoded(self.escaped(name)?)
    }

    /// Whether the field is there and `null`.
    pub fn is_null(&self, name: &str) -> bool {
        self.get(name) == Some("null")
    }

    /// The event with `type`, ids and white space as a recorder keeps it: optional fields that are null left out,
    /// no line break between its parts (SSE frames end at one). Borrowed where nothing is to be done.
    pub fn normalized(&self) -> Cow<'a, str> {
        let drop = |key: &str, value: &str| value == "null" && NEVER_NULL.contains(&key);
        if self.kind != Kind::Unknown && self.members().any(|(key, value)| drop(key, value)) {
            let kept = self.members().filter(|(key, value)| !drop(key, value));
            return Cow::Owned(scan::minified(&object_of(kept)));
        }
        if memchr::memchr2(b'\n', b'\r', self.json.as_bytes()).is_some() {
            return Cow::Owned(scan::minified(self.json));
        }
        Cow::Borrowed(self.json)
    }

    /// Refuses an event whose ids are missing, empty, no strings, not Unicode or over `max_id` bytes long.
    pub fn check_ids(&self, max_id: usize) -> Result<()> {
        if self.kind == Kind::Unknown {
            return Ok(());
        }
        for name in self.kind.required_ids() {
            match self.get(name) {
                None | Some("null") => return Err(self.refused(&format!("`{name}` is missing"))),
                Some("\"\"") => return Err(self.refused(&format!("`{name}` is empty"))),
                Some(_) => {}
            }
        }
        for (key, value) in self.members() {
            if (key.ends_with("Id") && IDS.contains(&key)) || key == "stepName" {
                self.check_id(key, value, max_id)?;
            }
        }
        Ok(())
    }

    fn check_id(&self, key: &str, value: &str, max_id: usize) -> Result<()> {
        if value == "null" {
            return Ok(());
        }
        let Some(id) = text::inner(value) else {
            return Err(self.refused(&format!("`{key}` must be a string, not {}", shortened(value))));
        };
        match text::decoded(id) {
            None => Err(self.refused(&format!("`{key}` holds half a surrogate pair"))),
            Some(id) if id.len() > max_id => {
                Err(self.refused(&format!("`{key}` is {} bytes long, over the limit of {max_id}", id.len())))
            }
            Some(_) => Ok(()),
        }
    }

    fn refused(&self, why: &str) -> Error {
        Error::InvalidEvent(format!("{}: {why}", self.type_name))
    }
}

fn scan_end(json: &str, end: usize) -> Result<()> {
    if end == json.len() {
        Ok(())
    } else {
        Err(Error::InvalidEvent(format!("not JSON: something after the value at byte {end}")))
    }
}

/// The JSON object of these members, keys given escaped and without quotes.
pub(crate) fn object_of<'m>(members: impl Iterator<Item = (&'m str, &'m str)>) -> String {
    let mut json = String::from("{");
    for (key, value) in members {
        if json.len() > 1 {
            json.push(',');
        }
        json.push('"');
        json.push_str(key);
        json.push_str("\":");
        json.push_str(value);
    }
    json.push('}');
    json
}

/// A value as an error message shows it.
pub(crate) fn shortened(json: &str) -> String {
    let mut text: String = json.chars().take(60).collect();
    if text.len() < json.len() {
        text.push('…');
    }
    text
}
