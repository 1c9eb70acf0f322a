//! `*_CHUNK` events written out as START, CONTENT or ARGS, and END (docs/spec/agui.md §6.6).
//!
//! A lane is a subagent, or the parent agent; each assembles at most one stream. Values are carried as JSON text.
use smallvec::{SmallVec, smallvec};

use crate::error::{Error, Result};
use crate::event::{Event, Kind, object_of};
use crate::json::merged;
use crate::lifecycle::shown;
use crate::text;

/// One kind of stream: how its events are called, and what its chunks hold.
#[derive(Debug)]
struct Form {
    chunk: &'static str,
    /// The types of the events it becomes, as JSON.
    start: &'static str,
    content: &'static str,
    end: &'static str,
    noun: &'static str,
    id: &'static str,
    /// The fields a chunk of this kind has besides those every chunk has.
    own: &'static [&'static str],
    /// The opener's fields that later chunks may only repeat.
    fixed: &'static [&'static str],
}

static TEXT: Form = Form {
    chunk: "TEXT_MESSAGE_CHUNK",
    start: r#""TEXT_MESSAGE_START""#,
    content: r#""TEXT_MESSAGE_CONTENT""#,
    end: r#""TEXT_MESSAGE_END""#,
    noun: "text message",
    id: "messageId",
    own: &["messageId", "role", "name"],
    fixed: &["role", "name"],
};

static TOOL: Form = Form {
    chunk: "TOOL_CALL_CHUNK",
    start: r#""TOOL_CALL_START""#,
    content: r#""TOOL_CALL_ARGS""#,
    end: r#""TOOL_CALL_END""#,
    noun: "tool call",
    id: "toolCallId",
    own: &["toolCallId", "toolCallName", "parentMessageId"],
    fixed: &["toolCallName", "parentMessageId"],
};

static REASONING: Form = Form {
    chunk: "REASONING_MESSAGE_CHUNK",
    start: r#""REASONING_MESSAGE_START""#,
    content: r#""REASONING_MESSAGE_CONTENT""#,
    end: r#""REASONING_MESSAGE_END""#,
    noun: "reasoning message",
    id: "messageId",
    own: &["messageId"],
    fixed: &[],
};

const SHARED: &[&str] = &["type", "timestamp", "rawEvent", "metadata", "subagentRunId", "delta"];

/// A stream being assembled; its values are JSON.
#[derive(Debug, Clone)]
struct Pending {
    form: &'static Form,
    lane: Option<String>,
    id: String,
    /// The opener's own tag: the lane, but for an opener whose tag is null.
    tag: Option<String>,
    /// The values of `form.fixed`.
    fixed: [Option<String>; 2],
}

/// Writes chunks out as whole streams.
#[derive(Debug, Clone, Default)]
pub struct Expander {
    /// In the order they were opened.
    pending: Vec<Pending>,
}

impl Expander {
    /// Without anything begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds to `out` the events to record instead of this one, possibly none. `false`, with `out` untouched, if the
    /// event stays as it is. On an error nothing is changed.
    pub fn push(&mut self, event: &Event<'_>, out: &mut Vec<String>) -> Result<bool> {
        let form = match event.kind() {
            Kind::TextMessageChunk => &TEXT,
            Kind::ToolCallChunk => &TOOL,
            Kind::ReasoningMessageChunk => &REASONING,
            _ => return Ok(!self.pending.is_empty() && self.pass(event, out)),
        };
        self.expand(form, event, out)?;
        Ok(true)
    }

    /// An event that is no chunk ends what its lane, or the whole run, has begun.
    fn pass(&mut self, event: &Event<'_>, out: &mut Vec<String>) -> bool {
        let before = out.len();
        match event.kind() {
            Kind::RunStarted | Kind::RunFinished | Kind::RunError | Kind::MessagesSnapshot => {
                out.extend(self.pending.drain(..).map(|pending| pending.end()));
            }
            Kind::Raw
            | Kind::ActivitySnapshot
            | Kind::ActivityDelta
            | Kind::ReasoningEncryptedValue
            | Kind::SubagentStarted
            | Kind::Unknown => {}
            // Without an id it is malformed, and must not end the parent's stream.
            Kind::SubagentFinished | Kind::SubagentError if lane_of(event).is_none() => {}
            _ => self.close(lane_of(event), out),
        }
        if out.len() == before {
            return false;
        }
        out.push(event.json().into());
        true
    }

    fn close(&mut self, lane: Option<&str>, out: &mut Vec<String>) {
        if let Some(at) = self.position(lane) {
            out.push(self.pending.remove(at).end());
        }
    }

    fn position(&self, lane: Option<&str>) -> Option<usize> {
        self.pending.iter().position(|pending| same(pending.lane.as_deref(), lane))
    }

    /// The lane a chunk belongs to: where its id is open, else where its tag says, else the only one it can mean.
    fn lane<'s>(&'s self, form: &Form, event: &Event<'s>) -> Result<Option<&'s str>> {
        let tag = lane_of(event);
        let mut alike = self.pending.iter().filter(|pending| pending.form.chunk == form.chunk);
        if let Some(id) = event.get(form.id) {
            let Some(holder) = alike.find(|pending| same(Some(&pending.id), Some(id))) else { return Ok(tag) };
            return match tag {
                Some(tag) if !same(Some(tag), holder.lane.as_deref()) => refuse(format!(
                    "Cannot continue {} '{}': chunk subagentRunId '{}' does not match the open stream's subagent \
                     '{}'.",
                    form.noun,
                    shown(id),
                    shown(tag),
                    holder.lane.as_deref().map_or("(the parent agent)".into(), shown)
                )),
                _ => Ok(holder.lane.as_deref()),
            };
        }
        if tag.is_some() {
            return Ok(tag);
        }
        let lanes: Vec<_> = alike.map(|pending| pending.lane.as_deref()).collect();
        match lanes[..] {
            _ if lanes.contains(&None) => Ok(None),
            [] => Ok(None),
            [only] => Ok(only),
            _ => refuse(format!(
                "Ambiguous {}: it carries neither a {} nor a subagentRunId, but {} lanes have an open {}. Attribute \
                 the chunk to the subagent it belongs to.",
                form.chunk,
                form.id,
                lanes.len(),
                form.noun
            )),
        }
    }

    fn expand(&mut self, form: &'static Form, event: &Event<'_>, out: &mut Vec<String>) -> Result<()> {
        let lane = self.lane(form, event)?;
        let id = event.get(form.id);
        let at = self.position(lane);
        let open = at
            .map(|at| &self.pending[at])
            .filter(|open| open.form.chunk == form.chunk && id.is_none_or(|id| same(Some(&open.id), Some(id))));
        let tag = event.get("subagentRunId");
        let (delta, raw) = (event.get("delta"), event.get("rawEvent"));
        let rest = unknown_fields(form, event);
        if let Some(open) = open {
            open.agrees(event)?;
            let alone = event.get("metadata").is_some() || tag == Some("null") || !rest.is_empty();
            if delta.is_some() || raw.is_some() || alone {
                out.push(content(form, event, &rest, &open.id, tag.or(open.tag.as_deref())));
            }
            return Ok(());
        }
        let missing = |name: &str| refuse(format!("First {} must have a {name}", form.chunk));
        let Some(id) = id else { return missing(form.id) };
        if form.chunk == TOOL.chunk && event.get("toolCallName").is_none() {
            return missing("toolCallName");
        }
        let pending = Pending::new(form, lane, id, event);
        if let Some(at) = at {
            out.push(self.pending.remove(at).end());
        }
        if delta.is_some() || raw.is_some() {
            out.push(pending.start(event, ""));
            out.push(content(form, event, &rest, id, tag));
        } else {
            out.push(pending.start(event, &rest));
        }
        self.pending.push(pending);
        Ok(())
    }
}

impl Pending {
    fn new(form: &'static Form, lane: Option<&str>, id: &str, event: &Event<'_>) -> Self {
        let mut fixed = [None, None];
        for (slot, name) in fixed.iter_mut().zip(form.fixed) {
            let default = (*name == "role").then_some("\"assistant\"");
            *slot = event.get(name).or(default).map(String::from);
        }
        let tag = event.get("subagentRunId").map(String::from);
        Self { form, lane: lane.map(String::from), id: id.into(), tag, fixed }
    }

    /// A chunk may repeat what the opener said, and only that.
    fn agrees(&self, event: &Event<'_>) -> Result<()> {
        for (name, established) in self.form.fixed.iter().zip(&self.fixed) {
            if let Some(given) = event.get(name)
                && !same(Some(given), established.as_deref())
            {
                let established = established.as_deref().map_or("(absent)".into(), |it| format!("'{}'", shown(it)));
                return refuse(format!(
                    "Cannot continue {} '{}': chunk {name} '{}' does not match the open stream's {name} \
                     {established}.",
                    self.form.noun,
                    shown(&self.id),
                    shown(given)
                ));
            }
        }
        Ok(())
    }

    fn start(&self, event: &Event<'_>, rest: &str) -> String {
        let mut fields = Fields::of(self.form.start);
        fields.add(self.form.id, Some(&self.id));
        for (name, value) in self.form.fixed.iter().zip(&self.fixed) {
            fields.add(name, value.as_deref());
        }
        if self.form.chunk == REASONING.chunk {
            fields.add("role", Some("\"reasoning\""));
        }
        fields.add("subagentRunId", self.tag.as_deref());
        fields.add("metadata", event.get("metadata"));
        fields.json(rest)
    }

    fn end(&self) -> String {
        let mut fields = Fields::of(self.form.end);
        fields.add(self.form.id, Some(&self.id));
        fields.add("subagentRunId", self.tag.as_deref());
        fields.json("")
    }
}

fn content(form: &Form, event: &Event<'_>, rest: &str, id: &str, tag: Option<&str>) -> String {
    let delta = event.get("delta");
    let bare = delta.is_none() && event.get("rawEvent").is_none();
    let mut fields = Fields::of(form.content);
    fields.add(form.id, Some(id));
    fields.add("delta", delta.or(Some("\"\"")));
    // The tag's place is the reference's: last where the content was made for the metadata alone.
    if !bare {
        fields.add("subagentRunId", tag);
    }
    fields.add("metadata", event.get("metadata"));
    fields.add("rawEvent", event.get("rawEvent"));
    if bare {
        fields.add("subagentRunId", tag);
    }
    fields.json(rest)
}

/// What a chunk holds that no chunk of its kind is known to hold, as an object; empty for nothing.
fn unknown_fields(form: &Form, event: &Event<'_>) -> String {
    let known = |key: &str| SHARED.iter().chain(form.own).any(|name| text::same(key, name));
    if event.members().all(|(key, _)| known(key)) {
        return String::new();
    }
    object_of(event.members().filter(|(key, _)| !known(key)))
}

/// The fields of an event being written.
struct Fields<'f>(SmallVec<[(&'f str, &'f str); 8]>);

impl<'f> Fields<'f> {
    fn of(kind: &'f str) -> Self {
        Self(smallvec![("type", kind)])
    }

    fn add(&mut self, name: &'f str, value: Option<&'f str>) {
        self.0.extend(value.map(|value| (name, value)));
    }

    /// The unknown fields come first, and give way to the event's own.
    fn json(self, rest: &str) -> String {
        let own = object_of(self.0.into_iter());
        if rest.is_empty() { own } else { merged(rest, &own) }
    }
}

fn lane_of<'a>(event: &Event<'a>) -> Option<&'a str> {
    event.get("subagentRunId").filter(|tag| *tag != "null")
}

/// Whether two JSON values, strings or plain, are the same.
fn same(one: Option<&str>, other: Option<&str>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one == other || (one.starts_with('"') && text::same(one, other)),
        (None, None) => true,
        _ => false,
    }
}

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::InvalidSequence(message))
}
