//! Rewriting of frames for legacy clients.
//!
//! A client that names no `protocolVersion` is `@ag-ui/client` up to 0.0.59. Its schema ([`schema`]) refuses an event as
//! a whole, and CopilotKit's client then ends the stream silently. An event the schema refuses is therefore repaired, or
//! left out where that is not possible. Every other event stays byte for byte.
use crate::event::Event;
use crate::schema::fit::{Fit, Misfit, Mode};
use crate::schema::repair;
use crate::{scan, text};

mod schema;

/// Return the frames as 0.0.59 reads them, each with its cursor; `None` if nothing has to change.
pub fn rewrite_frames(frames: &[u8]) -> Option<Vec<u8>> {
    // Allocated at the first change, because a page without one is sent as it is.
    let mut out: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut head = DeltaHead::default();
    let mut at = 0;
    while at < frames.len() {
        let (start, end) = match read_frame(frames, at, &head) {
            Frame::SameDelta(end) | Frame::NoEvent(end) => {
                at = end;
                continue;
            }
            Frame::Event(start, end) => (start, end),
        };
        let next = end + 2;
        match repair_event(&frames[start..end], &mut head) {
            Fit::Fits => {}
            Fit::Repaired(json) => {
                let out = out.get_or_insert_with(|| Vec::with_capacity(frames.len() + 64));
                out.extend_from_slice(&frames[copied..start]);
                out.extend_from_slice(json.as_bytes());
                copied = end;
            }
            Fit::Refused(_) => {
                out.get_or_insert_with(|| Vec::with_capacity(frames.len())).extend_from_slice(&frames[copied..at]);
                copied = next;
            }
        }
        at = next;
    }
    let mut out = out?;
    out.extend_from_slice(&frames[copied..]);
    Some(out)
}

/// The contents of a frame.
enum Frame {
    /// The last delta with another text; the frame's end.
    SameDelta(usize),
    /// An event; its begin and end.
    Event(usize, usize),
    /// No event, but for example a comment; the frame's end.
    NoEvent(usize),
}

#[inline]
fn read_frame(frames: &[u8], at: usize, head: &DeltaHead) -> Frame {
    // The id may be missing: a reader cannot resume after frames that a snapshot adds.
    let mut json = at;
    if frames[at..].starts_with(b"id: ") {
        json = memchr::memchr(b'\n', &frames[at..]).map_or(frames.len(), |end| at + end + 1);
    }
    if frames[json..].starts_with(b"data: ") {
        json += b"data: ".len();
        if let Some(end) = head.match_frame(frames, json) {
            return Frame::SameDelta(end);
        }
        if let Some(length) = memchr::memchr(b'\n', &frames[json..])
            && frames.get(json + length + 1) == Some(&b'\n')
        {
            return Frame::Event(json, json + length);
        }
    }
    // A page may end in the middle of a frame, and what it has of that frame stays as it is.
    Frame::NoEvent(memchr::memmem::find(&frames[at..], b"\n\n").map_or(frames.len(), |end| at + end + 2))
}

/// The last event that fitted the schema, up to its text. Most events of a run are deltas that differ only in their
/// text, so they need no parsing.
#[derive(Default)]
struct DeltaHead(String);

impl DeltaHead {
    /// Return the end of the frame whose event begins at `json`, if only its text differs from the last event's.
    #[inline]
    fn match_frame(&self, frames: &[u8], json: usize) -> Option<usize> {
        if self.0.is_empty() || !frames[json..].starts_with(self.0.as_bytes()) {
            return None;
        }
        let end = scan::skip_string(frames, json + self.0.len()).ok()?;
        frames[end..].starts_with(b"}\n\n").then_some(end + 3)
    }

    fn set(&mut self, event: &Event<'_>) {
        self.0.clear();
        // A `delta` may be any string in every kind of event, so another text fits as well.
        if let Some(("delta", value)) = event.members().last()
            && let Some(text) = text::unquote(value)
            && let Some(head) = event.json().strip_suffix("\"}").and_then(|json| json.strip_suffix(text))
        {
            self.0.push_str(head);
        }
    }
}

fn repair_event(json: &[u8], head: &mut DeltaHead) -> Fit {
    let Ok(event) = Event::parse(json) else { return Fit::Refused(Misfit::default()) };
    let Some(shape) = schema::shape_of(&event) else { return Fit::Refused(Misfit::default()) };
    let members: scan::MemberVec<'_> = event.members().collect();
    let fit = repair::repair_object(&shape, &members, Mode::Lenient);
    // A delta that begins like a repaired event needs the same repair, so only one that fits is remembered.
    if matches!(fit, Fit::Fits) {
        head.set(&event);
    }
    fit
}
