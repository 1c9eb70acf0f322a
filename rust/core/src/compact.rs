//! Online compaction, grouped at START (docs/spec/compaction.md): one pass, O(1) an event, no look-ahead.
//!
//! The output is a list of slots. A stream (a text message, a tool call, a reasoning message) has its START, its one
//! merged delta and its END in the slot its first event opened, so nothing is moved behind something it preceded.
use std::collections::HashMap;

use crate::event::{Event, Kind, object_of};
use crate::json;
use crate::scan;
use crate::state::StateWindow;
use crate::text;

/// Compacts the events pushed into it; [`Compactor::emit`] gives, at any moment, the compacted form of all so far.
#[derive(Debug, Default)]
pub struct Compactor {
    slots: Vec<Slot>,
    /// Open streams by id, one map a family.
    open: [HashMap<String, usize>; 3],
    /// The stream of the last delta, since the next is most often its continuation.
    last: Option<Last>,
    /// Whether the last event pushed is the chunk in the last slot.
    chunk_open: bool,
    state: StateWindow,
}

#[derive(Debug)]
struct Last {
    family: Family,
    /// The stream's id, escaped.
    id: String,
    slot: usize,
    /// The delta event up to its text, if nothing but the closing brace stood behind that.
    head: String,
}

#[derive(Debug)]
enum Slot {
    Event(Box<str>),
    Stream(Box<Stream>),
    Chunk(Box<Delta>),
}

#[derive(Debug, Default)]
struct Stream {
    start: Option<String>,
    delta: Option<Delta>,
    end: Option<Box<str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Text,
    Tool,
    Reasoning,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Start,
    Delta,
    End,
}

impl Compactor {
    /// A compactor that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in an event's JSON if it is the last delta over again but for its text; else false, and it is to be read
    /// and pushed. Most of a run is such deltas, and all of one that is new is a string.
    #[inline]
    pub fn push_delta(&mut self, json: &[u8]) -> bool {
        let Some(last) = &self.last else { return false };
        let head = last.head.len();
        if head == 0
            || !json.starts_with(last.head.as_bytes())
            || !matches!(scan::string(json, head), Ok(end) if json[end..] == *b"}")
        {
            return false;
        }
        let Ok(delta) = std::str::from_utf8(&json[head..json.len() - 2]) else { return false };
        let Slot::Stream(stream) = &mut self.slots[last.slot] else { return false };
        let Some(merged) = &mut stream.delta else { return false };
        // Its metadata, if any, is that of the delta before, merged already.
        merged.text().push_str(delta);
        self.chunk_open = false;
        true
    }

    /// Takes in the next event.
    #[inline]
    pub fn push(&mut self, event: &Event<'_>) {
        let chunk_open = std::mem::take(&mut self.chunk_open);
        match event.kind() {
            Kind::TextMessageContent => self.stream(Family::Text, Part::Delta, "messageId", event),
            Kind::ToolCallArgs => self.stream(Family::Tool, Part::Delta, "toolCallId", event),
            Kind::ReasoningMessageContent => self.stream(Family::Reasoning, Part::Delta, "messageId", event),
            Kind::TextMessageStart => self.stream(Family::Text, Part::Start, "messageId", event),
            Kind::TextMessageEnd => self.stream(Family::Text, Part::End, "messageId", event),
            Kind::ToolCallStart => self.stream(Family::Tool, Part::Start, "toolCallId", event),
            Kind::ToolCallEnd => self.stream(Family::Tool, Part::End, "toolCallId", event),
            Kind::ReasoningMessageStart => self.stream(Family::Reasoning, Part::Start, "messageId", event),
            Kind::ReasoningMessageEnd => self.stream(Family::Reasoning, Part::End, "messageId", event),
            Kind::StateSnapshot | Kind::StateDelta => {
                if !self.state.push(event) {
                    self.keep(event);
                }
            }
            Kind::RunStarted | Kind::RunFinished | Kind::RunError => {
                for held in std::mem::take(&mut self.state).finish() {
                    self.slots.push(Slot::Event(held.into()));
                }
                self.barrier(event);
            }
            Kind::MessagesSnapshot => self.barrier(event),
            Kind::TextMessageChunk | Kind::ToolCallChunk | Kind::ReasoningMessageChunk => {
                self.chunk(event, chunk_open);
            }
            _ => self.keep(event),
        }
    }

    /// Gives the compacted events, in order, as JSON.
    pub fn emit(&self, mut each: impl FnMut(&str)) {
        let mut json = String::new();
        self.parts(|part| {
            if let Some(part) = part {
                json.push_str(part);
            } else {
                each(&json);
                json.clear();
            }
        });
    }

    /// The same in parts, with `None` behind each event: a long message is not copied to be given.
    pub fn parts(&self, mut part: impl FnMut(Option<&str>)) {
        let whole = |json: &str, part: &mut dyn FnMut(Option<&str>)| {
            part(Some(json));
            part(None);
        };
        for slot in &self.slots {
            match slot {
                Slot::Event(event) => whole(event, &mut part),
                Slot::Chunk(delta) => delta.parts(&mut part),
                Slot::Stream(stream) => {
                    if let Some(start) = &stream.start {
                        whole(start, &mut part);
                    }
                    if let Some(delta) = &stream.delta {
                        delta.parts(&mut part);
                    }
                    if let Some(end) = &stream.end {
                        whole(end, &mut part);
                    }
                }
            }
        }
        for held in self.state.clone().finish() {
            whole(&held, &mut part);
        }
    }

    fn keep(&mut self, event: &Event<'_>) {
        self.slots.push(Slot::Event(event.json().into()));
        // A message made by other means under the id of an open stream: what follows of the stream stays behind it.
        if let Some(id) = event.string("messageId") {
            self.forget(Family::Text, &id);
            self.forget(Family::Reasoning, &id);
        }
    }

    fn forget(&mut self, family: Family, id: &str) {
        if self.open[family as usize].remove(id).is_some() {
            self.last = None;
        }
    }

    /// An event that replaces or ends things: nothing moves across it.
    fn barrier(&mut self, event: &Event<'_>) {
        self.keep(event);
        self.open.iter_mut().for_each(HashMap::clear);
        self.last = None;
    }

    #[inline]
    fn stream(&mut self, family: Family, part: Part, id_field: &str, event: &Event<'_>) {
        let Some(escaped) = event.escaped(id_field) else { return self.keep(event) };
        if part == Part::Delta {
            let Some(delta) = event.escaped("delta") else { return self.keep(event) };
            if let Some(last) = &mut self.last
                && last.family == family
                && last.id == escaped
                && let Slot::Stream(stream) = &mut self.slots[last.slot]
            {
                stream.append(event, delta);
                return last.set_head(event, delta);
            }
        }
        let Some(id) = text::decoded(escaped) else { return self.keep(event) };
        let open = self.open[family as usize].get(id.as_ref()).copied();
        let slot = match open {
            Some(slot) if part != Part::Start || self.without_delta(slot) => slot,
            _ => {
                let slot = self.slots.len();
                self.slots.push(Slot::Stream(Box::default()));
                self.open[family as usize].insert(id.clone().into_owned(), slot);
                slot
            }
        };
        let Slot::Stream(stream) = &mut self.slots[slot] else { unreachable!("only streams are open") };
        match part {
            Part::Start => stream.start(event),
            Part::Delta => {
                let delta = event.escaped("delta").expect("looked at above");
                stream.append(event, delta);
                let mut last = Last { family, id: escaped.to_owned(), slot, head: String::new() };
                last.set_head(event, delta);
                self.last = Some(last);
                return;
            }
            Part::End => {
                stream.end = Some(event.json().into());
                self.open[family as usize].remove(id.as_ref());
            }
        }
        self.last = None;
    }

    fn without_delta(&self, slot: usize) -> bool {
        matches!(&self.slots[slot], Slot::Stream(stream) if stream.delta.is_none())
    }

    /// A chunk joins the one before it when that is the same stream's and says nothing else of it.
    fn chunk(&mut self, event: &Event<'_>, follows: bool) {
        const MERGED: &[&str] =
            &["type", "messageId", "toolCallId", "subagentRunId", "delta", "metadata", "timestamp", "rawEvent"];
        let id_field = if event.kind() == Kind::ToolCallChunk { "toolCallId" } else { "messageId" };
        self.chunk_open = true;
        if follows
            && let Some(delta) = event.escaped("delta")
            && let Some(Slot::Chunk(open)) = self.slots.last_mut()
            && event.members().all(|(key, _)| MERGED.contains(&key))
        {
            let first = Event::parse_str(&open.first).expect("parsed before");
            let same = |field| first.get(field) == event.get(field);
            let known = first.get(id_field).is_some();
            let text = matches!(first.get("delta"), None | Some("\"\"")) || first.escaped("delta").is_some();
            if known && text && first.kind() == event.kind() && same(id_field) && same("subagentRunId") {
                drop(first);
                return open.append(event, delta);
            }
        }
        self.slots.push(Slot::Chunk(Box::new(Delta::new(event))));
    }
}

impl Last {
    fn set_head(&mut self, event: &Event<'_>, delta: &str) {
        self.head.clear();
        let json = event.json();
        if let Some(head) = json.strip_suffix("\"}").and_then(|json| json.strip_suffix(delta))
            && event.members().last().is_some_and(|(key, _)| key == "delta")
        {
            self.head.push_str(head);
        }
    }
}

impl Stream {
    fn start(&mut self, event: &Event<'_>) {
        let metadata = self
            .start
            .as_deref()
            .and_then(|start| Event::parse_str(start).expect("parsed before").get("metadata").map(str::to_owned));
        self.start = Some(match metadata {
            None => event.json().to_owned(),
            Some(earlier) => {
                let merged = match event.get("metadata") {
                    Some(later) => json::merged(&earlier, later),
                    None => earlier,
                };
                with_field(event, "metadata", &merged)
            }
        });
    }

    #[inline]
    fn append(&mut self, event: &Event<'_>, delta: &str) {
        match &mut self.delta {
            Some(merged) => merged.append(event, delta),
            None => self.delta = Some(Delta::new(event)),
        }
    }
}

/// The one delta event of a stream: the first as it came, and what was merged into it.
#[derive(Debug)]
struct Delta {
    first: Box<str>,
    /// The joined text in its escaped form, and the merged metadata, once there is a second.
    merged: Option<(String, Option<String>)>,
}

impl Delta {
    fn new(event: &Event<'_>) -> Self {
        Self { first: event.json().into(), merged: None }
    }

    /// The joined text, to be added to.
    #[inline]
    fn text(&mut self) -> &mut String {
        let first = &self.first;
        let (text, _) = self.merged.get_or_insert_with(|| {
            let first = Event::parse_str(first).expect("parsed before");
            (first.escaped("delta").unwrap_or_default().to_owned(), first.get("metadata").map(str::to_owned))
        });
        text
    }

    #[inline]
    fn append(&mut self, event: &Event<'_>, delta: &str) {
        self.text().push_str(delta);
        if let (Some(later), Some((_, metadata))) = (event.get("metadata"), &mut self.merged) {
            *metadata = Some(json::merged(metadata.as_deref().unwrap_or("{}"), later));
        }
    }

    fn parts(&self, part: &mut impl FnMut(Option<&str>)) {
        let Some((text, metadata)) = &self.merged else {
            part(Some(&self.first));
            return part(None);
        };
        let first = Event::parse_str(&self.first).expect("parsed before");
        let mut separator = "{\"";
        let mut put = |key: &str, value: &[&str]| {
            part(Some(std::mem::replace(&mut separator, ",\"")));
            part(Some(key));
            part(Some("\":"));
            for piece in value {
                part(Some(piece));
            }
        };
        let (mut with_delta, mut with_metadata) = (false, metadata.is_none());
        for (key, value) in first.members() {
            match text::decoded(key).as_deref() {
                // They belong to one delta.
                Some("timestamp" | "rawEvent") => {}
                // Of a repeated key the last counts, here as everywhere; once is enough.
                Some("delta") if with_delta => {}
                Some("delta") => {
                    put(key, &["\"", text, "\""]);
                    with_delta = true;
                }
                Some("metadata") => {
                    if let Some(metadata) = metadata.as_deref().filter(|_| !with_metadata) {
                        put(key, &[metadata]);
                        with_metadata = true;
                    }
                }
                _ => put(key, &[value]),
            }
        }
        if !with_delta {
            put("delta", &["\"", text, "\""]);
        }
        if let Some(metadata) = metadata.as_deref().filter(|_| !with_metadata) {
            put("metadata", &[metadata]);
        }
        part(Some("}"));
        part(None);
    }
}

/// The event's JSON with a field set in its place, a new one at the end.
pub(crate) fn with_field(event: &Event<'_>, name: &str, value: &str) -> String {
    let mut members: Vec<(&str, &str)> = event.members().collect();
    match members.iter_mut().rev().find(|(key, _)| text::same(key, name)) {
        Some(member) => member.1 = value,
        None => members.push((name, value)),
    }
    object_of(members.into_iter())
}
