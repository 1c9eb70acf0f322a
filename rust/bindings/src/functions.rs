//! Functions over events, and helpers for stores written in Python.
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use agentrunner_core::chunks::Expander;
use agentrunner_core::compact::Compactor;
use agentrunner_core::error::Error;
use agentrunner_core::event::Event as CoreEvent;
use agentrunner_core::finalize::Ending;
use agentrunner_core::fold::Fold;
use agentrunner_core::frames::Cursor;
use agentrunner_core::lifecycle::Lifecycle;
use agentrunner_core::links::{self, Comparison};
use agentrunner_core::superseded::Superseded as CoreSuperseded;
use agentrunner_core::thinking::Thinking;
use agentrunner_core::{dedup, entries, recompact as recompaction, scan, schema, snapshot as snapshots, stored_run};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use crate::errors::{InvalidEvent, to_py};
use crate::event::{Event, Frames};

/// Call `each` with the JSON of every event of an iterable; anything but `bytes` is encoded by Python.
fn each_json(events: &Bound<'_, PyAny>, mut each: impl FnMut(&[u8]) -> PyResult<()>) -> PyResult<()> {
    // These can be iterated too, but over integers, characters or keys.
    if events.is_instance_of::<PyBytes>() || events.is_instance_of::<PyString>() || events.is_instance_of::<PyDict>() {
        return Err(InvalidEvent::new_err("expected an iterable of events, not one event"));
    }
    for item in events.try_iter()? {
        let item = item?;
        if let Ok(json) = item.cast::<PyBytes>() {
            each(json.as_bytes())?;
        } else {
            let json = events.py().import("agentrunner._codec")?.getattr("encode")?.call1((item,))?;
            each(json.cast::<PyBytes>()?.as_bytes())?;
        }
    }
    Ok(())
}

/// Call `each` with every event of an iterable, mended as far as it can be.
fn each_event(events: &Bound<'_, PyAny>, mut each: impl FnMut(&CoreEvent<'_>) -> Result<(), Error>) -> PyResult<()> {
    each_json(events, |json| with_mended(json, &mut each))
}

fn with_mended(json: &[u8], each: &mut impl FnMut(&CoreEvent<'_>) -> Result<(), Error>) -> PyResult<()> {
    let event = CoreEvent::parse(json).map_err(to_py)?;
    match schema::mend(&event) {
        Some(Cow::Owned(mended)) => CoreEvent::parse_str(&mended).and_then(|event| each(&event)).map_err(to_py),
        // The step skips an event that cannot be mended, or keeps it unchanged.
        Some(Cow::Borrowed(_)) | None => each(&event).map_err(to_py),
    }
}

/// Return an event as a recorder keeps it.
#[pyfunction]
pub fn conform<'py>(py: Python<'py>, event: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    let event = CoreEvent::parse(event).map_err(to_py)?;
    schema::conform(&event).map(|json| PyBytes::new(py, json.as_bytes())).map_err(to_py)
}

#[pyfunction]
pub fn compact(events: &Bound<'_, PyAny>) -> PyResult<Vec<Event>> {
    let mut compactor = Compactor::new();
    each_json(events, |json| {
        // Most events are deltas, and those need no parsing.
        if compactor.push_delta(json) {
            return Ok(());
        }
        with_mended(json, &mut |event| {
            compactor.push(event);
            Ok(())
        })
    })?;
    let mut compacted = Vec::new();
    compactor.emit(|json| compacted.push(Event::without_cursor(json)));
    Ok(compacted)
}

#[pyfunction]
pub fn expand(events: &Bound<'_, PyAny>) -> PyResult<Vec<Event>> {
    let (mut expander, mut all, mut out) = (Expander::new(), Vec::new(), Vec::new());
    each_event(events, |event| {
        if expander.push(event, &mut out)? {
            all.extend(out.drain(..).map(|json| Event::without_cursor(&json)));
        } else {
            all.push(Event::without_cursor(event.json()));
        }
        Ok(())
    })?;
    Ok(all)
}

#[pyfunction]
pub fn verify(events: &Bound<'_, PyAny>) -> PyResult<()> {
    let mut lifecycle = Lifecycle::new();
    // The events are not mended, because one of the rules is about optional fields that are null.
    each_json(events, |json| CoreEvent::parse(json).and_then(|event| lifecycle.check(&event)).map_err(to_py))
}

#[pyfunction]
#[pyo3(signature = (events, stop_requested, interruption_message))]
pub fn finalize(
    events: &Bound<'_, PyAny>,
    stop_requested: bool,
    interruption_message: Option<&str>,
) -> PyResult<Vec<Event>> {
    let mut lifecycle = Lifecycle::new();
    each_event(events, |event| {
        // Not verified, as in the reference's finalizer: a run whose events are out of order must end too.
        lifecycle.note(event);
        Ok(())
    })?;
    let ending = Ending { stop_requested, interruption_message, ..Ending::default() };
    Ok(lifecycle.finalize(&ending).iter().map(|json| Event::without_cursor(json)).collect())
}

#[pyfunction]
pub fn fold<'py>(py: Python<'py>, events: &Bound<'py, PyAny>) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let (mut fold, mut expander, mut out) = (Fold::new(), Expander::new(), Vec::new());
    let (mut thinking, mut translated) = (Thinking::new(""), Vec::new());
    each_event(events, |event| {
        // Runs recorded by 0.1.0 contain THINKING_* events.
        if thinking.push(event, &mut translated) {
            for json in translated.drain(..) {
                fold.push(&CoreEvent::parse_str(&json)?);
            }
        } else if expander.push(event, &mut out)? {
            for json in out.drain(..) {
                fold.push(&CoreEvent::parse_str(&json)?);
            }
        } else {
            fold.push(event);
        }
        Ok(())
    })?;
    Ok((PyBytes::new(py, fold.messages().as_bytes()), PyBytes::new(py, fold.state().as_bytes())))
}

/// Return the input minified, its thread id, its run id and its messages' ids, each id once.
/// A run's input minified, its thread id, its run id, its message ids, and the entries it is compared by.
type CheckedInput = (String, String, String, Vec<String>, Vec<String>);

#[pyfunction]
pub fn check_input(py: Python<'_>, input: &[u8], id_bytes: usize) -> PyResult<CheckedInput> {
    // Large inputs are checked in a worker thread, and must not hold up the event loop's thread from there.
    py.detach(|| check_detached(input, id_bytes)).map_err(to_py)
}

fn check_detached(input: &[u8], id_bytes: usize) -> Result<CheckedInput, Error> {
    let (input, thread_id, run_id) = dedup::check_input(input, id_bytes)?;
    let ids = dedup::message_ids(&input);
    let asked = links::asked_entries(&input);
    let unique: HashSet<&String> = ids.iter().collect();
    // Most inputs repeat no id, and then the list is returned without a copy.
    if unique.len() < ids.len() {
        let mut seen = HashSet::new();
        let unique = ids.iter().filter(|id| seen.insert(*id)).cloned().collect();
        return Ok((input, thread_id, run_id, unique, asked));
    }
    Ok((input, thread_id, run_id, ids, asked))
}

#[pyfunction]
pub fn count_values(py: Python<'_>, json: &[u8], max_depth: usize) -> usize {
    py.detach(|| scan::count_values(json, max_depth))
}

/// Return those of `ids` that are a string somewhere in the frames.
#[pyfunction]
pub fn find_ids(py: Python<'_>, frames: Vec<PyRef<'_, Frames>>, ids: HashSet<String>) -> HashSet<String> {
    let pages: Vec<_> = frames.iter().map(|frames| frames.shared()).collect();
    drop(frames);
    py.detach(|| dedup::find_ids(pages.iter().map(|page| page.as_slice()), ids))
}

#[pyfunction]
pub fn parse_cursor(text: &str) -> PyResult<(u64, Option<u64>)> {
    let cursor = Cursor::parse(text).map_err(to_py)?;
    Ok((cursor.seq, cursor.index))
}

#[pyfunction]
pub fn recompact(frames: Vec<PyRef<'_, Frames>>, seq: u64, skip: u64) -> PyResult<Frames> {
    let bytes = frames.iter().map(|frames| frames.as_slice());
    recompaction::recompact(bytes, seq, skip).map(Frames::from).map_err(to_py)
}

#[pyfunction]
pub fn run_frames(events: &[u8], seq: u64, skip: u64) -> PyResult<Frames> {
    let mut out = Vec::new();
    stored_run::write_frames(&mut out, events, seq, skip, None).map_err(to_py)?;
    Ok(out.into())
}

#[pyfunction]
pub fn run_message_ids(events: &[u8]) -> Vec<String> {
    dedup::summarize_run(events).1
}

#[pyfunction]
pub fn input_for_agent(py: Python<'_>, input: &str) -> Option<String> {
    py.detach(|| entries::input_for_agent(input))
}

#[pyfunction]
pub fn entries_of_input(py: Python<'_>, input: &str) -> Vec<String> {
    py.detach(|| links::entries_of_input(input))
}

#[pyfunction]
pub fn compare_messages(py: Python<'_>, input: &str, known: HashMap<String, u64>) -> (&'static str, Option<u64>) {
    match py.detach(|| links::compare(input, &known)) {
        Comparison::OnlyNew => ("new", None),
        Comparison::Same(previous) => ("same", previous),
        Comparison::Different => ("different", None),
    }
}

#[pyfunction]
pub fn agents_call_id(id: &str) -> &str {
    entries::split_own_id(id).0
}

/// The snapshots that a replay leaves out.
#[pyclass(module = "agentrunner")]
pub struct Superseded(CoreSuperseded);

#[pymethods]
impl Superseded {
    #[classattr]
    const ENTRY: &'static str = entries::SNAPSHOT;

    #[new]
    fn new() -> Self {
        Self(CoreSuperseded::new())
    }

    fn push(&mut self, py: Python<'_>, frames: &Frames) -> PyResult<()> {
        let bytes = frames.shared();
        py.detach(|| self.0.push(&bytes)).map_err(to_py)
    }

    fn finish(&mut self) -> bool {
        self.0.finish();
        !self.0.is_empty()
    }

    fn leave_out(&self, frames: &Frames) -> PyResult<Frames> {
        self.0.leave_out(frames.as_slice()).map(Frames::from).map_err(to_py)
    }
}

/// A snapshot's `RUN_STARTED`, the events before the messages, the messages, the state, and the events that follow.
type Snapshot<'py> = (
    Bound<'py, PyBytes>,
    Vec<Bound<'py, PyBytes>>,
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyBytes>>,
    Vec<Bound<'py, PyBytes>>,
);

#[pyfunction]
pub fn snapshot<'py>(py: Python<'py>, frames: Vec<PyRef<'_, Frames>>) -> PyResult<Option<Snapshot<'py>>> {
    // The bytes are shared, so that the snapshot is computed without a reference to Python objects.
    let pages: Vec<_> = frames.iter().map(|frames| frames.shared()).collect();
    drop(frames);
    let snapshot = py.detach(|| snapshots::snapshot(pages.iter().map(|page| page.as_slice()))).map_err(to_py)?;
    let bytes = |json: &String| PyBytes::new(py, json.as_bytes());
    let all = |events: &[String]| events.iter().map(bytes).collect();
    Ok(snapshot.map(|snapshot| {
        let state = snapshot.state.as_ref().map(bytes);
        (bytes(&snapshot.started), all(&snapshot.before), bytes(&snapshot.messages), state, all(&snapshot.events))
    }))
}
