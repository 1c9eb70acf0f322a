//! What a peer of the older generation can read.
//!
//! A peer that names no `protocolVersion` is `@ag-ui/client` up to 0.0.59: its schema (`schema`) refuses an event as a
//! whole, and CopilotKit's client ends the stream there without a word. So what it refuses is mended, and what cannot
//! be mended is left out; everything it reads stays byte for byte.
use crate::event::Event;
use crate::{scan, text};

mod repair;
mod schema;

use repair::Fit;

/// The same frames as 0.0.59 reads them, each with its cursor; `None` where nothing is to be changed.
pub fn rewrite_frames(frames: &[u8]) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let mut copied = 0;
    let mut head = Head::default();
    let mut at = 0;
    while at < frames.len() {
        let (start, end) = match data(frames, at, &head) {
            Data::Known(end) | Data::None(end) => {
                at = end;
                continue;
            }
            Data::Json(start, end) => (start, end),
        };
        let next = end + 2;
        match mended(&frames[start..end], &mut head) {
            Fit::Fits => {}
            Fit::Mended(json) => {
                let out = out.get_or_insert_with(|| Vec::with_capacity(frames.len() + 64));
                out.extend_from_slice(&frames[copied..start]);
                out.extend_from_slice(json.as_bytes());
                copied = end;
            }
            Fit::Refused => {
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

/// What stands at the beginning of a frame.
enum Data {
    /// The event before over again but for its text; up to the frame's end.
    Known(usize),
    /// An event, from where to where.
    Json(usize, usize),
    /// No event, such as a comment; up to its end.
    None(usize),
}

#[inline]
fn data(frames: &[u8], at: usize, head: &Head) -> Data {
    let mut json = at;
    if frames[at..].starts_with(b"id: ") {
        json = memchr::memchr(b'\n', &frames[at..]).map_or(frames.len(), |end| at + end + 1);
    }
    if frames[json..].starts_with(b"data: ") {
        json += b"data: ".len();
        if let Some(end) = head.fits(frames, json) {
            return Data::Known(end);
        }
        if let Some(length) = memchr::memchr(b'\n', &frames[json..])
            && frames.get(json + length + 1) == Some(&b'\n')
        {
            return Data::Json(json, json + length);
        }
    }
    Data::None(memchr::memmem::find(&frames[at..], b"\n\n").map_or(frames.len(), |end| at + end + 2))
}

/// The last event that was fine, up to its text: most of a run are deltas that differ in nothing else.
#[derive(Default)]
struct Head(String);

impl Head {
    /// Past the frame whose event begins at `json`, if it is the event before with another text.
    #[inline]
    fn fits(&self, frames: &[u8], json: usize) -> Option<usize> {
        if self.0.is_empty() || !frames[json..].starts_with(self.0.as_bytes()) {
            return None;
        }
        let end = scan::string(frames, json + self.0.len()).ok()?;
        frames[end..].starts_with(b"}\n\n").then_some(end + 3)
    }

    fn set(&mut self, event: &Event<'_>) {
        self.0.clear();
        // Any string will do as a `delta`, whatever the kind.
        if let Some(("delta", value)) = event.members().last()
            && let Some(text) = text::inner(value)
            && let Some(head) = event.json().strip_suffix("\"}").and_then(|json| json.strip_suffix(text))
        {
            self.0.push_str(head);
        }
    }
}

fn mended(json: &[u8], head: &mut Head) -> Fit {
    let Ok(event) = Event::parse(json) else { return Fit::Refused };
    let Some(shape) = event.string("type").and_then(|name| schema::event(&name)) else { return Fit::Refused };
    let members: repair::Members<'_> = event.members().collect();
    let fit = repair::object(&shape, &members);
    if matches!(fit, Fit::Fits) {
        head.set(&event);
    }
    fit
}
