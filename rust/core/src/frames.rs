//! Frames: events ready for SSE, each with its cursor.
//!
//! A frame is `id: <cursor>\ndata: <json>\n\n`. A raw event's cursor is its sequence number. The i-th frame of a run
//! compacted up to sequence number P has the cursor `P.i` (docs/spec/durability.md, "Cursor").
use std::collections::HashMap;
use std::fmt;

use crate::error::{Error, Result};

/// How many characters of a bad cursor an error message shows.
const SHOWN_CHARS: usize = 40;

/// A position in a thread's stream, right after one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The sequence number of a raw event, or the one a compacted run goes up to.
    pub seq: u64,
    /// The frame's index in the compacted run; `None` for a raw event.
    pub index: Option<u64>,
}

impl Cursor {
    /// Parse a cursor: digits, with at most one dot between them.
    pub fn parse(text: &str) -> Result<Self> {
        let number = |digits: &str| {
            // `parse` would also accept a leading `+`.
            let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            // SQLite stores 63 bits; a larger number would wrap around there.
            digits.parse::<u64>().ok().filter(|number| is_plain && i64::try_from(*number).is_ok())
        };
        let refusal = || {
            let shown: String = text.chars().take(SHOWN_CHARS).collect();
            Error::InvalidCursor(format!("a cursor is `<seq>` or `<seq>.<index>`, not {shown:?}"))
        };
        let (seq, index) = match text.split_once('.') {
            None => (text, None),
            Some((seq, index)) => (seq, Some(number(index).ok_or_else(refusal)?)),
        };
        Ok(Self { seq: number(seq).ok_or_else(refusal)?, index })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            None => write!(f, "{}", self.seq),
            Some(index) => write!(f, "{}.{index}", self.seq),
        }
    }
}

/// Append an event's frame.
#[inline]
pub fn write(out: &mut Vec<u8>, cursor: Cursor, json: &str) {
    out.extend_from_slice(b"id: ");
    write_digits(out, cursor.seq);
    if let Some(index) = cursor.index {
        out.push(b'.');
        write_digits(out, index);
    }
    out.push(b'\n');
    write_event(out, json);
}

/// Append the frame of an event without a cursor.
#[inline]
pub(crate) fn write_event(out: &mut Vec<u8>, json: &str) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(json.as_bytes());
    out.extend_from_slice(b"\n\n");
}

/// Write a number in decimal, without the formatting machinery: this runs for every event.
fn write_digits(out: &mut Vec<u8>, mut number: u64) {
    // A `u64` has at most 20 digits.
    let mut buffer = [0; 20];
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&buffer[at..]);
}

/// Iterate over the frames in `bytes`, each as its cursor and its event's JSON.
pub fn iter(bytes: &[u8]) -> impl Iterator<Item = Result<(Cursor, &str)>> {
    iter_any(bytes).map(|frame| frame.and_then(|(cursor, json)| Ok((cursor.ok_or_else(damaged)?, json))))
}

/// Iterate over frames, some of which may have no cursor; a reader cannot resume after those.
pub fn iter_any(bytes: &[u8]) -> impl Iterator<Item = Result<(Option<Cursor>, &str)>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = parse_first(rest);
        // After a damaged frame nothing says where the next one begins, so the iteration ends.
        rest = parsed.as_ref().map_or(&[], |(_, _, rest)| rest);
        Some(parsed.map(|(cursor, json, _)| (cursor, json)))
    })
}

fn damaged() -> Error {
    Error::StoreCorrupt("a frame cannot be read: it is not `id: <cursor>`, `data: <json>` and an empty line".into())
}

fn parse_first(bytes: &[u8]) -> Result<(Option<Cursor>, &str, &[u8])> {
    let (mut cursor, mut rest) = (None, bytes);
    if let Some(id) = bytes.strip_prefix(b"id: ") {
        let end = memchr::memchr(b'\n', id).ok_or_else(damaged)?;
        let text = std::str::from_utf8(&id[..end]).map_err(|_| damaged())?;
        cursor = Some(Cursor::parse(text).map_err(|_| damaged())?);
        rest = &id[end + 1..];
    }
    let rest = rest.strip_prefix(b"data: ").ok_or_else(damaged)?;
    let end = memchr::memchr(b'\n', rest).ok_or_else(damaged)?;
    let json = std::str::from_utf8(&rest[..end]).map_err(|_| damaged())?;
    let rest = rest[end + 1..].strip_prefix(b"\n").ok_or_else(damaged)?;
    Ok((cursor, json, rest))
}

/// Return frames with other events at some sequence numbers.
pub fn replace(bytes: &[u8], events: &HashMap<u64, String>) -> Vec<u8> {
    if events.is_empty() {
        return bytes.to_vec();
    }
    let mut out = Vec::with_capacity(bytes.len());
    for (cursor, json) in iter(bytes).map_while(Result::ok) {
        write(&mut out, cursor, events.get(&cursor.seq).map_or(json, String::as_str));
    }
    out
}

/// Return the cursor of the last frame; `None` without a frame, or if it has none that can be read.
pub fn last_cursor(bytes: &[u8]) -> Option<Cursor> {
    // A line end inside a frame is never followed by another one.
    let before = bytes.len().checked_sub(2)?;
    let from = memchr::memmem::rfind(&bytes[..before], b"\n\n").map_or(0, |end| end + 2);
    let id = bytes[from..].strip_prefix(b"id: ")?;
    let end = memchr::memchr(b'\n', id)?;
    Cursor::parse(std::str::from_utf8(&id[..end]).ok()?).ok()
}

/// Return the length in bytes of the first `count` frames.
pub fn length_of(bytes: &[u8], count: u64) -> usize {
    let mut at = 0;
    // A frame has exactly three line ends, because a recorder removes those between an event's fields.
    for _ in 0..count * 3 {
        match memchr::memchr(b'\n', &bytes[at..]) {
            Some(end) => at += end + 1,
            None => break,
        }
    }
    at
}

/// Return the end of the frame that reaches `limit` bytes; `None` if no other frame follows it.
pub fn cut(bytes: &[u8], limit: usize) -> Option<usize> {
    // A frame that ends exactly at the limit reaches it, so the search starts at its two line ends.
    let from = limit.saturating_sub(2);
    let end = from + memchr::memmem::find(bytes.get(from..)?, b"\n\n")? + 2;
    (end < bytes.len()).then_some(end)
}

/// Count the frames.
pub fn count(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64 / 3
}
