//! A stored run's events: a JSON array as this package and the TypeScript runner write it.
use crate::error::{Error, Result};
use crate::event::Event;
use crate::frames::{self, Cursor};
use crate::{scan, schema, text};

/// Append a stored run's events as frames; `ids` as in [`fill_run_ids`].
///
/// Each event is mended as [`schema::mend`] does it. One that cannot be mended is left out, and its index with it.
pub fn write_frames(out: &mut Vec<u8>, events: &[u8], seq: u64, skip: u64, ids: Option<(&str, &str)>) -> Result<()> {
    let mut index = 0;
    each_event(events, ids, |_, _, json| {
        if index >= skip {
            let cursor = Cursor { seq, index: Some(index) };
            // What is no event makes the whole run unreadable below.
            match Event::parse_str(json).map(|event| schema::mend(&event)) {
                Ok(Some(json)) => frames::write(out, cursor, &json),
                Ok(None) | Err(_) => {}
            }
        }
        index += 1;
    })
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

/// Call `each` with the begin and end of every event of a stored run, and its JSON as readers see it.
fn each_event(events: &[u8], ids: Option<(&str, &str)>, mut each: impl FnMut(usize, usize, &str)) -> Result<()> {
    let json = std::str::from_utf8(events).map_err(|error| Error::StoreCorrupt(error.to_string()))?;
    if !json.starts_with('[') {
        return Err(Error::StoreCorrupt("a run's events are not a JSON array".into()));
    }
    let mut are_all_events = true;
    let end = scan::scan_array(events, 0, 0, |(from, to)| match (&json[from..to], ids) {
        ("{\"type\":\"RUN_FINISHED\"}", Some((thread_id, run_id))) => {
            let (thread, run) = (text::quote(thread_id), text::quote(run_id));
            let full = format!("{{\"type\":\"RUN_FINISHED\",\"threadId\":{thread},\"runId\":{run}}}");
            each(from, to, &full);
        }
        (event, _) => {
            // Nearly all events start with their type; only the others are parsed, because a history can be long.
            are_all_events &= event.starts_with("{\"type\":\"") || Event::parse_str(event).is_ok();
            each(from, to, event);
        }
    })?;
    if end != json.len() {
        return Err(Error::StoreCorrupt("a run's events are followed by other text".into()));
    }
    if are_all_events {
        Ok(())
    } else {
        Err(Error::StoreCorrupt("a run's events contain a value that is not one".into()))
    }
}
