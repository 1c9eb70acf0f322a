//! Online compaction, grouped at START (docs/spec/compaction.md): one pass, O(1) for each event, no look-ahead.
//!
//! The output is a list of slots. A stream has its START, its one merged delta and its END in the slot its first event
//! opened. No event moves past one that came after it, so a late reader sees what an early one saw.
use std::collections::HashMap;

use crate::event::Event;
use crate::family::{Family, Part, PerFamily, Role};
use crate::json;
use crate::patch::Failure;
use crate::scan;
use crate::state::{StateLimits, StateWindow};
use crate::text;

mod delta;

use delta::Delta;

/// Compacts the events pushed into it.
///
/// [`Compactor::emit`] can be called at any time and writes the compacted form of all events so far.
#[derive(Debug, Default)]
pub struct Compactor {
    slots: Vec<Slot>,
    /// The slots of open streams, by id.
    open: PerFamily<HashMap<String, usize>>,
    /// The stream of the last delta, because the next event most often continues it.
    last: Option<LastDelta>,
    /// Whether the last event pushed is the chunk in the last slot.
    is_chunk_last: bool,
    state: StateWindow,
    /// About how many bytes the slots have.
    slot_bytes: usize,
}

#[derive(Debug)]
struct LastDelta {
    family: Family,
    /// The stream's id, escaped.
    id: String,
    slot: usize,
    /// The delta event up to its text; empty unless its text ends the event.
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

impl Compactor {
    /// Create a compactor without events.
    pub fn new() -> Self {
        Self::default()
    }

    /// Push an event that repeats the last delta except for its text.
    ///
    /// Returns false for any other event, which the caller must parse and pass to [`Compactor::push`]. Most events of a
    /// run are such deltas, and only their text has to be checked.
    #[inline]
    pub fn push_delta(&mut self, json: &[u8]) -> bool {
        let Some(last) = &self.last else { return false };
        let head = last.head.len();
        if head == 0
            || !json.starts_with(last.head.as_bytes())
            // Only the closing brace may follow the text: another field could change what the event means.
            || !matches!(scan::skip_string(json, head), Ok(end) if json[end..] == *b"}")
        {
            return false;
        }
        let Ok(delta) = std::str::from_utf8(&json[head..json.len() - 2]) else { return false };
        let Slot::Stream(stream) = &mut self.slots[last.slot] else { return false };
        let Some(merged) = &mut stream.delta else { return false };
        // Its metadata, if any, equals the last delta's, which is merged already.
        merged.text().push_str(delta);
        self.slot_bytes += delta.len();
        self.is_chunk_last = false;
        true
    }

    /// Push the next event. A patch of the state that is over a limit is skipped.
    pub fn push(&mut self, event: &Event<'_>) {
        let _ = self.push_within(event, StateLimits::default());
    }

    /// Push the next event within limits. A failure, which only a state event can have, changes nothing.
    #[inline]
    pub fn push_within(&mut self, event: &Event<'_>, limits: StateLimits) -> Result<(), Failure> {
        // Any other event in between ends the merging, because only adjacent chunks are merged.
        let follows_chunk = std::mem::take(&mut self.is_chunk_last);
        match event.role() {
            Role::Stream(family, part) => self.push_stream(family, part, event),
            Role::Chunk(family) => self.push_chunk(family, event, follows_chunk),
            Role::StateSnapshot | Role::StateDelta => {
                // State events wait in the window until the next boundary, where they are written as one.
                if !self.state.push(event, limits)? {
                    self.keep(event);
                }
            }
            Role::RunStarted | Role::RunFinished | Role::RunError => {
                // The window ends here: state events of the next run must not be merged into this one's.
                let (slots, slot_bytes) = (&mut self.slots, &mut self.slot_bytes);
                std::mem::take(&mut self.state).write(|json| {
                    *slot_bytes += json.len() + 1;
                    slots.push(Slot::Event(json.into()));
                });
                self.keep_barrier(event);
            }
            Role::MessagesSnapshot => self.keep_barrier(event),
            Role::Span(_)
            | Role::Step(_)
            | Role::Subagent(_)
            | Role::ToolResult
            | Role::ActivitySnapshot
            | Role::ActivityDelta
            | Role::EncryptedValue
            | Role::Raw
            | Role::Custom
            | Role::Unknown => self.keep(event),
        }
        Ok(())
    }

    /// Return whether an event writes a state into its slot that is too large for an event loop.
    pub fn ends_large_state(&self, event: &Event<'_>) -> bool {
        event.role().ends_state_window() && self.state.is_large()
    }

    /// Return the first event, if it is not one of a stream.
    pub fn first_event(&self) -> Option<&str> {
        match self.slots.first()? {
            Slot::Event(json) => Some(json),
            Slot::Stream(_) | Slot::Chunk(_) => None,
        }
    }

    /// Return about how many bytes the compacted events have, and never fewer.
    pub fn bytes(&self) -> usize {
        self.slot_bytes + self.state.bytes()
    }

    /// Call `each` with the JSON of every compacted event, in order.
    pub fn emit(&self, mut each: impl FnMut(&str)) {
        let mut json = String::new();
        self.emit_slices(|slice| {
            if let Some(slice) = slice {
                json.push_str(slice);
            } else {
                each(&json);
                json.clear();
            }
        });
    }

    /// Call `each` with the compacted events in slices, and with `None` after each event.
    ///
    /// Unlike [`Compactor::emit`] this never copies a long message.
    pub fn emit_slices(&self, mut each: impl FnMut(Option<&str>)) {
        let emit_whole = |json: &str, each: &mut dyn FnMut(Option<&str>)| {
            each(Some(json));
            each(None);
        };
        for slot in &self.slots {
            match slot {
                Slot::Event(event) => emit_whole(event, &mut each),
                Slot::Chunk(delta) => delta.emit_slices(&mut each),
                Slot::Stream(stream) => {
                    if let Some(start) = &stream.start {
                        emit_whole(start, &mut each);
                    }
                    if let Some(delta) = &stream.delta {
                        delta.emit_slices(&mut each);
                    }
                    if let Some(end) = &stream.end {
                        emit_whole(end, &mut each);
                    }
                }
            }
        }
        self.state.write(|json| emit_whole(json, &mut each));
    }

    fn keep(&mut self, event: &Event<'_>) {
        self.slot_bytes += event.json().len() + 1;
        self.slots.push(Slot::Event(event.json().into()));
        // This event makes a message under the id of an open stream. Later deltas must stay after it, so they get a
        // slot of their own.
        if let Some(id) = event.string("messageId") {
            let mut has_closed = false;
            self.open.for_each(|family, slots| {
                has_closed |= family.id_field() == "messageId" && slots.remove(&*id).is_some();
            });
            if has_closed {
                // The last delta may be of this stream, and another delta would be merged into its old slot.
                self.last = None;
            }
        }
    }

    /// Keep an event that replaces or ends things: nothing may move across it.
    fn keep_barrier(&mut self, event: &Event<'_>) {
        self.keep(event);
        self.open.for_each(|_, slots| slots.clear());
        self.last = None;
    }

    #[inline]
    fn push_stream(&mut self, family: Family, part: Part, event: &Event<'_>) {
        // A malformed event belongs to no stream, and is kept where it stands.
        let Some(escaped_id) = event.escaped_text(family.id_field()) else { return self.keep(event) };
        if part == Part::Delta {
            let Some(delta) = event.escaped_text("delta") else { return self.keep(event) };
            if let Some(last) = &mut self.last
                && last.family == family
                // Compared as it is spelled: another spelling of the same id is found below.
                && last.id == escaped_id
                && let Slot::Stream(stream) = &mut self.slots[last.slot]
            {
                self.slot_bytes += stream.append(event, delta);
                return last.set_head(event, delta);
            }
        }
        let Some(id) = text::decode(escaped_id) else { return self.keep(event) };
        let slot = match self.open[family].get(id.as_ref()).copied() {
            // A START repeated after text gets a slot of its own. In the first slot it would move before that text.
            Some(slot) if part != Part::Start || self.has_no_delta(slot) => slot,
            _ => {
                let slot = self.slots.len();
                self.slots.push(Slot::Stream(Box::default()));
                self.open[family].insert(id.clone().into_owned(), slot);
                slot
            }
        };
        // The slot stays in its place even if this event comes late, which groups the stream at its START.
        let Slot::Stream(stream) = &mut self.slots[slot] else { unreachable!("`open` only has slots of streams") };
        match part {
            Part::Start => self.slot_bytes += stream.set_start(event),
            Part::Delta => {
                let delta = event.escaped_text("delta").expect("its presence is checked above");
                self.slot_bytes += stream.append(event, delta);
                let mut last = LastDelta { family, id: escaped_id.to_owned(), slot, head: String::new() };
                last.set_head(event, delta);
                self.last = Some(last);
                return;
            }
            Part::End => {
                self.slot_bytes += event.json().len() + 1;
                stream.end = Some(event.json().into());
                self.open[family].remove(id.as_ref());
            }
        }
        // The next delta must look up its slot: a START may have opened another one, and an END has closed this one.
        self.last = None;
    }

    /// Return the text of an open stream so far, escaped; of one that a barrier has cut, only the text after it.
    pub(crate) fn text_of(&self, family: Family, id: &str) -> &str {
        let slot = self.open[family].get(id).map(|&slot| &self.slots[slot]);
        let Some(Slot::Stream(stream)) = slot else { return "" };
        stream.delta.as_ref().map(Delta::joined).unwrap_or_default()
    }

    fn has_no_delta(&self, slot: usize) -> bool {
        matches!(&self.slots[slot], Slot::Stream(stream) if stream.delta.is_none())
    }

    /// Merge a chunk into the one before it, if both are of one stream and it says nothing else about the stream.
    fn push_chunk(&mut self, family: Family, event: &Event<'_>, follows_chunk: bool) {
        const MERGEABLE: &[&str] =
            &["type", "messageId", "toolCallId", "subagentRunId", "delta", "metadata", "timestamp", "rawEvent"];
        let id_field = family.id_field();
        self.is_chunk_last = true;
        if follows_chunk
            && let Some(delta) = event.escaped_text("delta")
            && let Some(Slot::Chunk(open)) = self.slots.last_mut()
            && event.members().all(|(key, _)| MERGEABLE.contains(&key))
        {
            let first = open.first();
            let is_same = |field| first.get(field) == event.get(field);
            // Without an id in the first chunk, the two could be of different streams.
            let has_id = first.get(id_field).is_some();
            // A `delta` that is not a string has no text to append to.
            let has_text = matches!(first.get("delta"), None | Some("\"\"")) || first.escaped_text("delta").is_some();
            if has_id && has_text && first.kind() == event.kind() && is_same(id_field) && is_same("subagentRunId") {
                drop(first);
                self.slot_bytes += open.append(event, delta);
                return;
            }
        }
        self.slot_bytes += event.json().len() + 1;
        self.slots.push(Slot::Chunk(Box::new(Delta::new(event))));
    }
}

impl LastDelta {
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
    /// Set the stream's START; of a repeated START the metadata is merged. Returns by how many bytes the slot grows.
    fn set_start(&mut self, event: &Event<'_>) -> usize {
        let metadata = self.start.as_deref().and_then(|start| {
            let start = Event::parse_str(start).expect("it was parsed when it was pushed");
            start.get("metadata").map(str::to_owned)
        });
        let start = match metadata {
            None => event.json().to_owned(),
            Some(earlier) => {
                let merged = match event.get("metadata") {
                    Some(later) => json::merge_objects(&earlier, later),
                    None => earlier,
                };
                event.with_field("metadata", &merged)
            }
        };
        let earlier_bytes = self.start.as_ref().map_or(0, |start| start.len() + 1);
        let grown = (start.len() + 1).saturating_sub(earlier_bytes);
        self.start = Some(start);
        grown
    }

    /// Append a delta event; return by how many bytes the slot grows.
    #[inline]
    fn append(&mut self, event: &Event<'_>, delta: &str) -> usize {
        if let Some(merged) = &mut self.delta {
            return merged.append(event, delta);
        }
        self.delta = Some(Delta::new(event));
        event.json().len() + 1
    }
}
