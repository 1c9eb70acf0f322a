//! `*_CHUNK` events expanded into START, CONTENT or ARGS, and END events (docs/spec/agui.md §6.6).
//!
//! A lane is a subagent, or the parent agent; each lane assembles at most one stream. Values are carried as JSON text.
use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::family::{Edge, Family, Role};
use crate::json::merge_objects;
use crate::members::write_object;
use crate::text;

mod lanes;

use lanes::{Lanes, OpenStream};

/// The fields that every chunk may have; all others are a family's own, or unknown.
const SHARED_FIELDS: &[&str] = &["type", "timestamp", "rawEvent", "metadata", "subagentRunId", "delta"];

/// The space for a written event, which is enough for most.
const WRITTEN_BYTES: usize = 192;

/// Expands chunks into whole streams.
#[derive(Debug, Clone, Default)]
pub struct Expander {
    open: Lanes,
    /// Whether several lanes may use one id at a time. The reference refuses that.
    shares_ids: bool,
}

impl Expander {
    /// Create an expander without open streams.
    pub fn new() -> Self {
        Self::default()
    }

    /// Create an expander for events whose ids are made unique later, so that several lanes may use one id at a time.
    pub(crate) fn of_shared_ids() -> Self {
        Self { shares_ids: true, ..Self::default() }
    }

    /// Add the events that are recorded in place of this one to `out`.
    ///
    /// Returns false, and leaves `out` alone, if the event stays as it is. An error changes nothing.
    pub fn push(&mut self, event: &Event<'_>, out: &mut Vec<String>) -> Result<bool> {
        let before = out.len();
        match event.role() {
            Role::Chunk(family) => {
                self.expand(family, event, out)?;
                return Ok(true);
            }
            // Almost every event of a run without chunks ends here.
            _ if self.open.is_empty() => {}
            // No stream continues across a run boundary or a snapshot of messages.
            Role::RunStarted | Role::RunFinished | Role::RunError | Role::MessagesSnapshot => {
                out.extend(self.open.take().map(|stream| stream.end()));
            }
            // These do not belong to a lane, so its stream stays open.
            Role::Raw
            | Role::ActivitySnapshot
            | Role::ActivityDelta
            | Role::EncryptedValue
            | Role::Subagent(Edge::Open)
            | Role::Unknown => {}
            // Without an id this event is malformed, and must not end the parent agent's stream.
            Role::Subagent(Edge::Close) if event.subagent_json().is_none() => {}
            Role::Subagent(Edge::Close)
            | Role::Stream(..)
            | Role::Span(_)
            | Role::Step(_)
            | Role::ToolResult
            | Role::StateSnapshot
            | Role::StateDelta
            | Role::Custom => {
                if let Some(stream) = self.open.remove(event.subagent_json()) {
                    out.push(stream.end());
                }
            }
        }
        if out.len() == before {
            return Ok(false);
        }
        out.push(event.json().into());
        Ok(true)
    }

    /// Close the tool call that a chunk would continue, if the chunk begins another call of the same id.
    ///
    /// It does if it names another tool, or if it names the tool again after whole arguments: nothing can follow those.
    pub(crate) fn end_call(
        &mut self,
        event: &Event<'_>,
        is_whole: impl FnOnce(&str, Option<&str>) -> bool,
    ) -> Option<String> {
        let (id, name) = (event.get("toolCallId")?, event.get("toolCallName")?);
        let lane = self.lane(Family::ToolCall, event).ok()?.map(str::to_owned);
        let call = self.open.get(lane.as_deref()).filter(|stream| stream.is_of(Family::ToolCall, id))?;
        let is_other = !is_same(call.fixed_values[0].as_deref(), Some(name));
        let has_text = event.get("delta").is_some_and(|delta| delta != "\"\"");
        if !is_other && (!has_text || !is_whole(&text::display(id), call.owner().as_deref())) {
            return None;
        }
        self.open.remove(lane.as_deref()).map(|call| call.end())
    }

    /// Forget the tool calls for which `is_half` is true, and write no END for them.
    pub(crate) fn forget_calls(&mut self, is_half: impl Fn(&str, Option<&str>) -> bool) {
        let calls = self.open.of_family(Family::ToolCall);
        let half = calls.filter(|call| is_half(&text::display(&call.id), call.owner().as_deref()));
        for lane in half.map(|call| call.lane.clone()).collect::<Vec<_>>() {
            self.open.remove(lane.as_deref());
        }
    }

    /// Find the lane of a chunk: by its id, else by its subagent, else the only lane it can mean.
    fn lane<'s>(&'s self, family: Family, event: &Event<'s>) -> Result<Option<&'s str>> {
        let row = family.row();
        let subagent = event.subagent_json();
        if let Some(id) = event.get(row.id) {
            // An id that no open stream has begins a stream, in the lane that the chunk itself names.
            let (Some(stream), count) = self.open.find(family, id) else {
                return Ok(subagent);
            };
            if self.open.get(subagent).is_some_and(|stream| stream.is_of(family, id)) {
                return Ok(subagent);
            }
            return match subagent {
                Some(subagent) if !self.shares_ids => refuse(format!(
                    "Cannot continue {} '{}': chunk subagentRunId '{}' does not match the open stream's subagent \
                     '{}'.",
                    row.noun,
                    text::display(id),
                    text::display(subagent),
                    stream.owner().unwrap_or("(the parent agent)".into())
                )),
                Some(_) => Ok(subagent),
                None if count > 1 => refuse(format!(
                    "Ambiguous {}: it carries no subagentRunId, but {count} lanes have the open {} '{}'. Attribute the \
                     chunk to the subagent it belongs to.",
                    row.chunk,
                    row.noun,
                    text::display(id)
                )),
                None => Ok(stream.lane.as_deref()),
            };
        }
        if subagent.is_some() {
            return Ok(subagent);
        }
        // A chunk without a subagent means the parent agent, if that has a stream of this family open.
        if self.open.get(None).is_some_and(|stream| stream.family == family) {
            return Ok(None);
        }
        match (self.open.count(family), self.open.first(family)) {
            (1, Some(only)) => Ok(only.lane.as_deref()),
            (0, _) => Ok(None),
            (count, _) => refuse(format!(
                "Ambiguous {}: it carries neither a {} nor a subagentRunId, but {} lanes have an open {}. Attribute \
                 the chunk to the subagent it belongs to.",
                row.chunk, row.id, count, row.noun
            )),
        }
    }

    fn expand(&mut self, family: Family, event: &Event<'_>, out: &mut Vec<String>) -> Result<()> {
        let row = family.row();
        let lane = self.lane(family, event)?;
        let id = event.get(row.id);
        let continued = self
            .open
            .get(lane)
            .filter(|open| open.family == family && id.is_none_or(|id| is_same(Some(&open.id), Some(id))));
        let subagent = event.get("subagentRunId");
        let has_content = event.get("delta").is_some() || event.get("rawEvent").is_some();
        let unknown = unknown_fields(family, event);
        if let Some(stream) = continued {
            stream.check_repeated(event)?;
            if has_content || event.get("metadata").is_some() || subagent == Some("null") || !unknown.is_empty() {
                let subagent = subagent.or(stream.subagent.as_deref());
                out.push(write_delta(family, event, &unknown, &stream.id, subagent));
            }
            return Ok(());
        }
        let missing = |name: &str| refuse(format!("First {} must have a {name}", row.chunk));
        let Some(id) = id else { return missing(row.id) };
        if let Some(name) = row.required_field.filter(|name| event.get(name).is_none()) {
            return missing(name);
        }
        // All checks come before this line, because an error must change nothing.
        let stream = OpenStream::new(family, lane, id, event);
        // A lane assembles one stream at a time, so the one before ends here.
        if let Some(stream) = self.open.remove(stream.lane.as_deref()) {
            out.push(stream.end());
        }
        // Unknown fields are written once: in the CONTENT if there is one, else in the START.
        if has_content {
            out.push(stream.start(event, ""));
            out.push(write_delta(family, event, &unknown, id, subagent));
        } else {
            out.push(stream.start(event, &unknown));
        }
        self.open.insert(stream);
        Ok(())
    }
}

impl OpenStream {
    fn new(family: Family, lane: Option<&str>, id: &str, event: &Event<'_>) -> Self {
        let mut fixed_values = [None, None];
        for (value, name) in fixed_values.iter_mut().zip(family.row().fixed_fields) {
            // The reference opens a text message without a role as the assistant's, and a later chunk may repeat that.
            let default = (*name == "role").then_some("\"assistant\"");
            *value = event.get(name).or(default).map(Into::into);
        }
        let subagent = event.get("subagentRunId").map(Into::into);
        Self { family, lane: lane.map(Into::into), id: id.into(), subagent, fixed_values }
    }

    /// Return whether the stream has this id.
    fn is_of(&self, family: Family, id: &str) -> bool {
        self.family == family && is_same(Some(&self.id), Some(id))
    }

    /// Return the subagent of the stream's lane.
    fn owner(&self) -> Option<Cow<'_, str>> {
        self.lane.as_deref().map(text::display)
    }

    /// Refuse a chunk that contradicts the stream's opener.
    fn check_repeated(&self, event: &Event<'_>) -> Result<()> {
        let row = self.family.row();
        for (name, expected) in row.fixed_fields.iter().zip(&self.fixed_values) {
            if let Some(value) = event.get(name)
                && !is_same(Some(value), expected.as_deref())
            {
                let expected = expected.as_deref().map_or("(absent)".into(), |it| format!("'{}'", text::display(it)));
                return refuse(format!(
                    "Cannot continue {} '{}': chunk {name} '{}' does not match the open stream's {name} {expected}.",
                    row.noun,
                    text::display(&self.id),
                    text::display(value)
                ));
            }
        }
        Ok(())
    }

    fn start(&self, event: &Event<'_>, unknown: &str) -> String {
        let row = self.family.row();
        let mut out = EventWriter::new(row.start);
        out.add(row.id, Some(&self.id));
        for (name, value) in row.fixed_fields.iter().zip(&self.fixed_values) {
            out.add(name, value.as_deref());
        }
        out.add("role", row.start_role.map(text::quote).as_deref());
        out.add("subagentRunId", self.subagent.as_deref());
        // Metadata goes to both the START and the CONTENT, `rawEvent` to the CONTENT only (docs/spec/agui.md §6.6).
        out.add("metadata", event.get("metadata"));
        out.finish(unknown)
    }

    fn end(&self) -> String {
        let row = self.family.row();
        let mut out = EventWriter::new(row.end);
        out.add(row.id, Some(&self.id));
        out.add("subagentRunId", self.subagent.as_deref());
        out.finish("")
    }
}

fn write_delta(family: Family, event: &Event<'_>, unknown: &str, id: &str, subagent: Option<&str>) -> String {
    let (delta, raw) = (event.get("delta"), event.get("rawEvent"));
    // The reference writes the subagent last where the content exists for its metadata alone.
    let is_subagent_last = delta.is_none() && raw.is_none();
    let mut out = EventWriter::new(family.row().delta);
    out.add(family.id_field(), Some(id));
    // A CONTENT must have a `delta`, so one that exists for its metadata or `rawEvent` has an empty one.
    out.add("delta", delta.or(Some("\"\"")));
    if !is_subagent_last {
        out.add("subagentRunId", subagent);
    }
    out.add("metadata", event.get("metadata"));
    out.add("rawEvent", raw);
    if is_subagent_last {
        out.add("subagentRunId", subagent);
    }
    out.finish(unknown)
}

/// Return a chunk's fields that its family does not define, as an object; empty if there are none.
fn unknown_fields(family: Family, event: &Event<'_>) -> String {
    let own_fields = family.row().chunk_fields;
    let is_known = |key: &str| SHARED_FIELDS.iter().chain(own_fields).any(|name| text::is_same(key, name));
    if event.members().all(|(key, _)| is_known(key)) {
        return String::new();
    }
    write_object(event.members().filter(|(key, _)| !is_known(key)))
}

/// Writes the JSON of one event, field by field.
struct EventWriter(String);

impl EventWriter {
    fn new(type_name: &str) -> Self {
        let mut json = String::with_capacity(WRITTEN_BYTES);
        json.extend(["{\"type\":\"", type_name, "\""]);
        Self(json)
    }

    fn add(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.0.extend([",\"", name, "\":", value]);
        }
    }

    /// Close the object. Unknown fields come first, so that the event's own fields override them.
    fn finish(mut self, unknown: &str) -> String {
        self.0.push('}');
        if unknown.is_empty() { self.0 } else { merge_objects(unknown, &self.0) }
    }
}

/// Return whether two JSON values are the same; strings are compared by meaning.
fn is_same(one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other || (one.starts_with('"') && text::is_same(one, other)),
        (None, None) => true,
        _ => false,
    }
}

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::InvalidSequence(message))
}
