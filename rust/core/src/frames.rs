//! Frames: events ready for SSE, each with its cursor.
//!
//! A frame is `id: <cursor>\ndata: <json>\n\n`. A raw event's cursor is its sequence number; the i-th frame of a run
//! compacted up to sequence number P has `P.i` (docs/spec/durability.md, "Cursor").
use std::fmt;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::scan;

/// A place in a thread: behind this frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    /// The sequence number of a raw event, or the one a compacted form goes up to.
    pub seq: u64,
    /// Which frame of the compacted form; `None` for a raw event.
    pub index: Option<u64>,
}

impl Cursor {
    /// Reads a cursor: digits, with at most one dot between them.
    pub fn parse(text: &str) -> Result<Self> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|number| plain && i64::try_from(*number).is_ok())
        };
        let refused =
            || Error::InvalidCursor(format!("a cursor is `<seq>` or `<seq>.<index>`, not {:?}", shortened(text)));
        let (seq, index) = match text.split_once('.') {
            None => (text, None),
            Some((seq, index)) => (seq, Some(number(index).ok_or_else(refused)?)),
        };
        Ok(Self { seq: number(seq).ok_or_else(refused)?, index })
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(40).collect()
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            None => write!(f, "{}", self.seq),
            Some(index) => write!(f, "{}.{index}", self.seq),
        }
    }
}

/// Appends the frame of an event.
#[inline]
pub fn write(out: &mut Vec<u8>, cursor: Cursor, json: &str) {
    out.extend_from_slice(b"id: ");
    digits(out, cursor.seq);
    if let Some(index) = cursor.index {
        out.push(b'.');
        digits(out, index);
    }
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(json.as_bytes());
    out.extend_from_slice(b"\n\n");
}

fn digits(out: &mut Vec<u8>, mut number: u64) {
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

/// The frames in `bytes`, each as its cursor and its event's JSON.
pub fn iter(bytes: &[u8]) -> impl Iterator<Item = Result<(Cursor, &str)>> {
    events(bytes).map(|frame| frame.and_then(|(cursor, json)| Ok((cursor.ok_or_else(damaged)?, json))))
}

/// The same where some have no cursor: those a reader cannot go on behind.
pub fn events(bytes: &[u8]) -> impl Iterator<Item = Result<(Option<Cursor>, &str)>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = parse_first(rest);
        rest = parsed.as_ref().map_or(&[], |(_, _, rest)| rest);
        Some(parsed.map(|(cursor, json, _)| (cursor, json)))
    })
}

fn damaged() -> Error {
    Error::StoreCorrupt("frames are damaged".into())
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

/// How many bytes the first `count` frames take.
pub fn length_of(bytes: &[u8], count: u64) -> usize {
    let mut at = 0;
    for _ in 0..count * 3 {
        match memchr::memchr(b'\n', &bytes[at..]) {
            Some(end) => at += end + 1,
            None => break,
        }
    }
    at
}

/// Where the frame ends that reaches the `limit`; `None` if no other follows it.
pub fn cut(bytes: &[u8], limit: usize) -> Option<usize> {
    let from = limit.saturating_sub(2);
    let end = from + memchr::memmem::find(bytes.get(from..)?, b"\n\n")? + 2;
    (end < bytes.len()).then_some(end)
}

/// How many frames there are.
pub fn count(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64 / 3
}

/// Appends a stored run's events as frames; for `ids` see [`completed`].
pub fn write_run(out: &mut Vec<u8>, events: &[u8], seq: u64, skip: u64, ids: Option<(&str, &str)>) -> Result<()> {
    let mut index = 0;
    each_of_run(events, ids, |_, _, json| {
        if index >= skip {
            write(out, Cursor { seq, index: Some(index) }, json);
        }
        index += 1;
    })
}

/// A stored run's events as they are shown. A `RUN_FINISHED` without ids, as the TypeScript runner writes after a
/// stop, is given `ids`, the thread's and the run's: clients refuse it bare.
pub fn completed(events: &[u8], ids: Option<(&str, &str)>) -> Result<Vec<u8>> {
    let (mut out, mut at) = (Vec::with_capacity(events.len()), 0);
    each_of_run(events, ids, |from, to, json| {
        out.extend_from_slice(&events[at..from]);
        out.extend_from_slice(json.as_bytes());
        at = to;
    })?;
    out.extend_from_slice(&events[at..]);
    Ok(out)
}

/// Calls `each` with where each event of a stored run begins and ends, and its JSON as it is shown.
fn each_of_run(events: &[u8], ids: Option<(&str, &str)>, mut each: impl FnMut(usize, usize, &str)) -> Result<()> {
    let text = std::str::from_utf8(events).map_err(|error| Error::StoreCorrupt(error.to_string()))?;
    if !text.starts_with('[') {
        return Err(Error::StoreCorrupt("a run's events are no array".into()));
    }
    let mut events_all = true;
    let end = scan::array(events, 0, 0, |(from, to)| match (&text[from..to], ids) {
        ("{\"type\":\"RUN_FINISHED\"}", Some((thread_id, run_id))) => {
            let (thread, run) = (crate::text::quoted(thread_id), crate::text::quoted(run_id));
            let full = format!("{{\"type\":\"RUN_FINISHED\",\"threadId\":{thread},\"runId\":{run}}}");
            each(from, to, &full);
        }
        (json, _) => {
            // Nearly all begin so, and need no second look.
            events_all &= json.starts_with("{\"type\":\"") || Event::parse_str(json).is_ok();
            each(from, to, json);
        }
    })?;
    if end != text.len() {
        return Err(Error::StoreCorrupt("something after a run's events".into()));
    }
    if events_all { Ok(()) } else { Err(Error::StoreCorrupt("a run's events are none".into())) }
}

/// Whether a stored run's events can be read.
pub fn is_run(events: &[u8]) -> bool {
    each_of_run(events, None, |_, _, _| {}).is_ok()
}
