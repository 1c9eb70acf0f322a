//! One AG-UI event: its JSON, and the header fields that are read from it once.
use std::borrow::Cow;

use smallvec::SmallVec;

use crate::error::{Error, Result};
use crate::family::Role;
use crate::kind::Kind;
use crate::members::write_object;
use crate::scan::{self, Span};
use crate::text;

/// Every field that holds an id.
const ID_FIELDS: &[&str] = &[
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

/// How many characters of a value an error message shows.
const SHOWN_CHARS: usize = 60;

/// JSON's white space. `str::trim` would also remove white space that JSON does not allow.
const WHITE_SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

/// An event, borrowed from its JSON text.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    json: &'a str,
    kind: Kind,
    type_name: &'a str,
    /// Up to six are held without an allocation.
    members: SmallVec<[Member; 6]>,
    /// Whether a key has escapes; keys are then compared decoded.
    has_escaped_keys: bool,
}

/// The offsets of a key, without its quotes, and of its value. They are 32 bits wide to keep events small on the stack.
#[derive(Debug, Clone, Copy)]
struct Member {
    key: (u32, u32),
    value: (u32, u32),
}

fn narrow(span: Span) -> (u32, u32) {
    (span.0 as u32, span.1 as u32)
}

impl<'a> Event<'a> {
    /// Parse an event.
    ///
    /// Returns [`Error::InvalidEvent`] for bytes that are not UTF-8, text that is not a JSON object or nests deeper
    /// than 128 levels, and objects whose `type` is missing or not a string.
    pub fn parse(json: &'a [u8]) -> Result<Self> {
        let json = std::str::from_utf8(json)
            .map_err(|error| Error::InvalidEvent(format!("an event must be UTF-8: {error}")))?;
        Self::parse_str(json)
    }

    /// Parse an event from text; see [`Event::parse`].
    pub fn parse_str(json: &'a str) -> Result<Self> {
        let json = if json.starts_with('{') && json.ends_with('}') { json } else { json.trim_matches(WHITE_SPACE) };
        let bytes = json.as_bytes();
        // `Member` holds offsets of 32 bits.
        if u32::try_from(bytes.len()).is_err() {
            return Err(Error::InvalidEvent("an event must be smaller than 4 GiB".into()));
        }
        if bytes.first() != Some(&b'{') {
            // Scanned first, so that broken JSON is refused with the byte where it breaks.
            let end = scan::skip_value(bytes, 0, 0)?;
            check_end(json, end)?;
            return Err(Error::InvalidEvent("an event must be a JSON object".into()));
        }
        let (event, end) = Self::parse_first(json)?;
        check_end(json, end)?;
        Ok(event)
    }

    /// Parse the event that `json` begins with; return it and its length. Any text may follow it.
    pub(crate) fn parse_first(json: &'a str) -> Result<(Self, usize)> {
        let bytes = json.as_bytes();
        let mut members: SmallVec<[Member; 6]> = SmallVec::new();
        let end = scan::scan_object(bytes, 0, 0, |key, value| {
            members.push(Member { key: narrow(key), value: narrow(value) });
        })?;
        let json = &json[..end];
        // Most events have no backslash at all; one search for it saves a search in every key.
        let has_escapes = memchr::memchr(b'\\', json.as_bytes()).is_some();
        let is_escaped = |member: &Member| bytes[member.key.0 as usize..member.key.1 as usize].contains(&b'\\');
        let has_escaped_keys = has_escapes && members.iter().any(is_escaped);
        let mut event = Self { json, kind: Kind::Unknown, type_name: "", members, has_escaped_keys };
        let type_json = event.get("type").ok_or_else(|| Error::InvalidEvent("an event must have a `type`".into()))?;
        event.type_name = text::unquote(type_json)
            .ok_or_else(|| Error::InvalidEvent(format!("`type` must be a string, not {}", truncate(type_json))))?;
        event.kind = Kind::from_name(event.type_name);
        // The name of a known kind may be spelled with escapes.
        if has_escapes && event.kind == Kind::Unknown {
            event.kind = text::decode(event.type_name).map_or(Kind::Unknown, |name| Kind::from_name(&name));
        }
        Ok((event, end))
    }

    /// Return the event's JSON exactly as it was given, without white space around it.
    pub fn json(&self) -> &'a str {
        self.json
    }

    /// Return the event's kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Return what the event does in its run.
    #[inline]
    pub fn role(&self) -> Role {
        self.kind.role()
    }

    /// Return the value of `type`, still escaped.
    pub fn type_name(&self) -> &'a str {
        self.type_name
    }

    /// Return a field's JSON; of a repeated field the last value counts, as in every JSON reader.
    #[inline]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        // Searched from the end, which finds the last of a repeated field first.
        self.members.iter().rev().find_map(|member| {
            let key = self.slice(member.key);
            let is_match = key == name || (self.has_escaped_keys && text::is_same(key, name));
            is_match.then(|| self.slice(member.value))
        })
    }

    /// Iterate over the fields in order; keys have no quotes and are still escaped.
    pub fn members(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        self.members.iter().map(|member| (self.slice(member.key), self.slice(member.value)))
    }

    #[inline]
    fn slice(&self, span: (u32, u32)) -> &'a str {
        &self.json[span.0 as usize..span.1 as usize]
    }

    /// Return a string field's text, still escaped; `None` if the field is missing or not a string.
    #[inline]
    pub fn escaped_text(&self, name: &str) -> Option<&'a str> {
        text::unquote(self.get(name)?)
    }

    /// Return a string field, decoded.
    ///
    /// `None` if the field is missing, is not a string or holds half a surrogate pair.
    #[inline]
    pub fn string(&self, name: &str) -> Option<Cow<'a, str>> {
        text::decode(self.escaped_text(name)?)
    }

    /// Return whether the field is present and null.
    pub fn is_null(&self, name: &str) -> bool {
        self.get(name) == Some("null")
    }

    /// Return the subagent the event is attributed to, as JSON; `None` is the parent agent.
    #[inline]
    pub(crate) fn subagent_json(&self) -> Option<&'a str> {
        self.get("subagentRunId").filter(|id| *id != "null")
    }

    /// Return the id of the subagent the event is attributed to; `None` is the parent agent.
    #[inline]
    pub(crate) fn subagent(&self) -> Option<Cow<'a, str>> {
        self.subagent_json().map(text::display)
    }

    /// Return the event's JSON with a field replaced in its place, or added at the end.
    pub(crate) fn with_field(&self, name: &str, value: &str) -> String {
        let mut members: Vec<(&str, &str)> = self.members().collect();
        // Of a repeated field the last one counts, so that is the one to replace.
        match members.iter_mut().rev().find(|(key, _)| text::is_same(key, name)) {
            Some(member) => member.1 = value,
            None => members.push((name, value)),
        }
        write_object(members.into_iter())
    }

    /// Return the event's JSON without a field.
    pub(crate) fn without_field(&self, name: &str) -> String {
        write_object(self.members().filter(|(key, _)| !text::is_same(key, name)))
    }

    /// Refuse ids that are missing, empty, not strings, not Unicode or longer than `max_bytes`.
    pub fn check_ids(&self, max_bytes: usize) -> Result<()> {
        // What the fields of an unknown kind mean is not known, and such an event is kept as it is.
        if self.kind == Kind::Unknown {
            return Ok(());
        }
        for name in self.role().required_ids() {
            match self.get(name) {
                None | Some("null") => return Err(self.refusal(&format!("`{name}` is missing"))),
                Some("\"\"") => return Err(self.refusal(&format!("`{name}` is empty"))),
                Some(_) => {}
            }
        }
        for (key, value) in self.members() {
            // The suffix is checked first because it rules out most fields with one comparison.
            if (key.ends_with("Id") && ID_FIELDS.contains(&key)) || key == "stepName" {
                self.check_id(key, value, max_bytes)?;
            }
        }
        Ok(())
    }

    fn check_id(&self, key: &str, value: &str, max_bytes: usize) -> Result<()> {
        if value == "null" {
            return Ok(());
        }
        let Some(id) = text::unquote(value) else {
            return Err(self.refusal(&format!("`{key}` must be a string, not {}", truncate(value))));
        };
        match text::decode(id) {
            // Such an id cannot be decoded, so later steps would take it for a missing one.
            None => Err(self.refusal(&format!("`{key}` holds half a surrogate pair"))),
            Some(id) if id.len() > max_bytes => {
                Err(self.refusal(&format!("`{key}` is {} bytes long, over the limit of {max_bytes}", id.len())))
            }
            Some(_) => Ok(()),
        }
    }

    fn refusal(&self, reason: &str) -> Error {
        Error::InvalidEvent(format!("{}: {reason}", self.type_name))
    }
}

fn check_end(json: &str, end: usize) -> Result<()> {
    if end == json.len() {
        Ok(())
    } else {
        Err(Error::InvalidEvent(format!("not JSON: unexpected text after the value at byte {end}")))
    }
}

/// Shorten a value for an error message.
pub(crate) fn truncate(json: &str) -> String {
    let mut text: String = json.chars().take(SHOWN_CHARS).collect();
    if text.len() < json.len() {
        text.push('…');
    }
    text
}
