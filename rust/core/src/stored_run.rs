//! A stored run's events: a JSON array as this package and the TypeScript runner write it.
use crate::error::{Error, Result};
use crate::event::Event;
use crate::frames::{self, Cursor};
use crate::{scan, schema, text};

/// Append a stored run's events as frames; `ids` as in [`fill_run_ids`].
///
/// Each event is mended as [`schema::mend`] does it. One that cannot be mended is left out, and its index with it.
pub fn write_frames(out: &mut Vec<u8>, events: &[u8], seq: u64, skip: u64, ids: Option<(&str, &str)>) -> Result<()> {
    let json = read_array(events)?;
    let mut at = scan::skip_space(events, 1);
    let mut index = 0;
    while events.get(at) != Some(&b']') || index > 0 {
        if events.get(at) != Some(&b'{') {
            return Err(Error::StoreCorrupt("a run's events contain a value that is not one".into()));
        }
        // One pass finds the event's end and its fields, because a history can be long.
        let (event, length) = Event::parse_first(&json[at..])?;
        if index >= skip {
            let cursor = Cursor { seq, index: Some(index) };
            match fill_ids(event.json(), ids) {
                Some(json) => frames::write(out, cursor, &json),
                None => schema::mend(&event).iter().for_each(|json| frames::write(out, cursor, json)),
            }
        }
        index += 1;
        at = scan::skip_space(events, at + length);
        match events.get(at) {
            Some(b',') => at = scan::skip_space(events, at + 1),
            Some(b']') => break,
            _ => return Err(Error::StoreCorrupt("a run's events are not a JSON array".into())),
        }
    }
    check_end(json, at + 1)
}

/// Return a stored run's events with `ids`, the thread's and the run's, in a `RUN_FINISHED` that has none.
///
/// The TypeScript runner writes such an event after a stop, and clients refuse it (docs/spec/reference-runners.md §2).
pub fn fill_run_ids(events: &[u8], ids: Option<(&str, &str)>) -> Result<Vec<u8>> {
    let (mut out, mut at) = (Vec::with_capacity(events.len()), 0);
    each_event(events, ids, |from, to, json| {
        out.extend_from_slice(&events[at..from]);
        out.extend_from_slice(json.as_bytes());
        at = to;
    })?;
    out.extend_from_slice(&events[at..]);
    Ok(out)
}

/// Return whether a stored run's events can be read.
pub fn is_readable(events: &[u8]) -> bool {
    each_event(events, None, |_, _, _| {}).is_ok()
}

/// Return the JSON of a stored run's events, of which only the begin is checked.
fn read_array(events: &[u8]) -> Result<&str> {
    let json = std::str::from_utf8(events).map_err(|error| Error::StoreCorrupt(error.to_string()))?;
    if json.starts_with('[') {
        Ok(json)
    } else {
        Err(Error::StoreCorrupt("a run's events are not a JSON array".into()))
    }
}

fn check_end(json: &str, end: usize) -> Result<()> {
    if end == json.len() {
        Ok(())
    } else {
        Err(Error::StoreCorrupt("a run's events are followed by other text".into()))
    }
}

/// Return the event with `ids` if it is a `RUN_FINISHED` without any field.
fn fill_ids(event: &str, ids: Option<(&str, &str)>) -> Option<String> {
    let (thread_id, run_id) = ids.filter(|_| event == "{\"type\":\"RUN_FINISHED\"}")?;
    let (thread, run) = (text::quote(thread_id), text::quote(run_id));
    Some(format!("{{\"type\":\"RUN_FINISHED\",\"threadId\":{thread},\"runId\":{run}}}"))
}

/// Call `each` with the begin and end of every event of a stored run, and its JSON with `ids`.
fn each_event(events: &[u8], ids: Option<(&str, &str)>, mut each: impl FnMut(usize, usize, &str)) -> Result<()> {
    let json = read_array(events)?;
    let mut are_all_events = true;
    let end = scan::scan_array(events, 0, 0, |(from, to)| {
        let event = &json[from..to];
        if let Some(full) = fill_ids(event, ids) {
            return each(from, to, &full);
        }
        // Nearly all events start with their type; only the others are parsed, because a history can be long.
        are_all_events &= event.starts_with("{\"type\":\"") || Event::parse_str(event).is_ok();
        each(from, to, event);
    })?;
    check_end(json, end)?;
    if are_all_events {
        Ok(())
    } else {
        Err(Error::StoreCorrupt("a run's events contain a value that is not one".into()))
    }
}
