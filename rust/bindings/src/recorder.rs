//! The Python class of a recorder.
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};

use agentrunner_core::error::Error;
use agentrunner_core::finalize::Ending;
use agentrunner_core::frames;
use agentrunner_core::log::{Batch as CoreBatch, Read, RunLog};
use agentrunner_core::recorder::{Limits, Pressure, Progress, Recorder as CoreRecorder};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::to_py;
use crate::event::Frames;

const UNPOISONED: &str = "no thread panics while it holds this lock";

/// Frames that are committed together.
#[pyclass(frozen, module = "agentrunner")]
pub struct Batch(pub Arc<CoreBatch>);

#[pymethods]
impl Batch {
    #[new]
    fn new(data: &[u8], first_seq: u64, count: u64) -> Self {
        Self(Arc::new(CoreBatch { first_seq, count, bytes: data.to_vec() }))
    }

    #[getter]
    fn first_seq(&self) -> u64 {
        self.0.first_seq
    }

    #[getter]
    fn last_seq(&self) -> u64 {
        self.0.last_seq()
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.bytes)
    }

    fn __len__(&self) -> usize {
        self.0.bytes.len()
    }

    fn after(&self, seq: u64, limit: usize) -> Vec<u8> {
        // A reader may have a part of the batch already.
        let skipped_bytes = frames::length_of(&self.0.bytes, (seq + 1).saturating_sub(self.0.first_seq));
        let rest = &self.0.bytes[skipped_bytes..];
        rest[..frames::cut(rest, limit).unwrap_or(rest.len())].to_vec()
    }
}

/// Records one run.
#[pyclass(frozen, module = "agentrunner")]
pub struct Recorder {
    core: Arc<Mutex<CoreRecorder>>,
    /// The core's log, with a lock of its own: readers do not wait while the store's thread writes the run.
    log: Arc<Mutex<RunLog>>,
    /// Read without the recorder's lock, which another thread may hold for long.
    progress: Arc<Progress>,
    /// The last read and its cursor, because most readers are at the same cursor.
    last_read: Mutex<Option<(u64, u64, Py<Frames>)>>,
}

impl Recorder {
    fn core(&self) -> MutexGuard<'_, CoreRecorder> {
        self.core.lock().expect(UNPOISONED)
    }

    fn log(&self) -> MutexGuard<'_, RunLog> {
        self.log.lock().expect(UNPOISONED)
    }

    /// Return the core's recorder, for the store's thread.
    pub fn shared(&self) -> Arc<Mutex<CoreRecorder>> {
        self.core.clone()
    }
}

#[pymethods]
impl Recorder {
    #[new]
    #[pyo3(signature = (thread_id, run_id, input, known, first_seq, *, event_bytes, id_bytes, window_bytes, pending_bytes, state_bytes=16 << 20, run_bytes=256 << 20, looks_up=false, keep_raw_events=false))]
    #[allow(clippy::too_many_arguments, reason = "each is an option of the runner")]
    fn new(
        py: Python<'_>,
        thread_id: &str,
        run_id: &str,
        input: &str,
        known: HashSet<String>,
        first_seq: u64,
        event_bytes: usize,
        id_bytes: usize,
        window_bytes: usize,
        pending_bytes: usize,
        state_bytes: usize,
        run_bytes: usize,
        looks_up: bool,
        keep_raw_events: bool,
    ) -> Self {
        // `commit_bytes` is not an option of the runner, so it keeps its default.
        let limits =
            Limits { event_bytes, id_bytes, window_bytes, pending_bytes, state_bytes, run_bytes, ..Limits::default() };
        // A large input takes long to look through; its recorder is made in a worker thread.
        let mut core = py.detach(|| CoreRecorder::new(thread_id, run_id, input, &known, first_seq, limits));
        if looks_up {
            core = core.with_history();
        }
        if keep_raw_events {
            core = core.with_raw_events();
        }
        Self {
            log: core.log(),
            progress: core.progress(),
            core: Arc::new(Mutex::new(core)),
            last_read: Mutex::new(None),
        }
    }

    #[pyo3(signature = (calls=None))]
    fn resume(&self, calls: Option<Vec<String>>) {
        self.core().resume(calls);
    }

    fn accept(&self, py: Python<'_>, event: &[u8]) -> PyResult<u8> {
        py.detach(|| self.core().accept(event)).map(number_of).map_err(to_py)
    }

    fn accept_briefly(&self, event: &[u8]) -> PyResult<u8> {
        match self.core().accept_briefly(event) {
            // `_core.pyi` documents this number, and the agent's reader compares with it.
            Err(Error::TakesLong) => Ok(4),
            outcome => outcome.map(number_of).map_err(to_py),
        }
    }

    #[getter]
    fn wanted(&self) -> Vec<String> {
        self.core().wanted().to_vec()
    }

    fn learn(&self, known: HashSet<String>) {
        self.core().learn(&known);
    }

    fn prepare_end(&self) {
        self.core().prepare_end();
    }

    #[pyo3(signature = (id, owner=None, skip=0))]
    fn newest_call(&self, id: &str, owner: Option<&str>, skip: usize) -> String {
        self.core().newest_call(id, owner, skip)
    }

    #[pyo3(signature = (*, stop_requested=false, message=None, code=None))]
    fn finalize(&self, py: Python<'_>, stop_requested: bool, message: Option<&str>, code: Option<&str>) {
        // The core's recorder fills in the ids of the run.
        py.detach(|| {
            let ending = Ending { stop_requested, interruption_message: message, code, ..Ending::default() };
            self.core().finalize(ending);
        });
    }

    fn drop_content(&self, message: &str, code: &str) {
        self.core().drop_content(message, code);
    }

    fn take(&self) -> Option<(Batch, bool)> {
        self.core().take().map(|(batch, barrier)| (Batch(batch), barrier))
    }

    fn publish(&self) {
        self.core().publish();
    }

    fn replay(&self, py: Python<'_>, frames: &Frames) -> PyResult<()> {
        let bytes = frames.shared();
        py.detach(|| self.core().replay(&bytes)).map_err(to_py)
    }

    fn read(&self, py: Python<'_>, after: u64, limit: usize) -> PyResult<(Option<Py<Frames>>, Option<u64>)> {
        // A page from the same cursor is still right if nothing was published since, or if it was cut at the limit.
        if let Some((from, to, frames)) = &*self.last_read.lock().expect(UNPOISONED)
            && *from == after
            && (*to == self.log().published() || frames.get().as_slice().len() >= limit)
        {
            return Ok((Some(frames.clone_ref(py)), Some(*to)));
        }
        // The lock is released before Python creates an object, because that can run any code.
        let read = self.log().read(after, limit);
        match read {
            Read::Nothing => Ok((None, Some(after))),
            Read::Stored => Ok((None, None)),
            Read::Frames(bytes, last) => {
                let frames = Py::new(py, Frames::from(bytes))?;
                let cached = Some((after, last, frames.clone_ref(py)));
                let replaced = std::mem::replace(&mut *self.last_read.lock().expect(UNPOISONED), cached);
                // Dropped after the lock is released, because dropping a Python object can run any code too.
                drop(replaced);
                Ok((Some(frames), Some(last)))
            }
        }
    }

    fn prefix(&self, py: Python<'_>, skip: u64) -> (Frames, u64) {
        let (bytes, seq) = py.detach(|| self.core().prefix(skip));
        (bytes.into(), seq)
    }

    fn compacted<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        // A long run takes a while to write, so other Python threads run meanwhile.
        let json = py.detach(|| self.core().compacted());
        PyBytes::new(py, json.as_bytes())
    }

    #[getter]
    fn message_ids(&self, py: Python<'_>) -> Vec<String> {
        py.detach(|| self.core().message_ids())
    }

    fn continue_from(&self, previous: Option<u64>, entries: Vec<String>) {
        self.core().continue_from(previous, entries);
    }

    fn start_from(&self, events: Vec<String>) {
        self.core().start_from(events);
    }

    #[getter]
    fn recorded(&self) -> u64 {
        self.progress.event_count()
    }

    #[getter]
    fn compacted_bytes(&self) -> u64 {
        self.progress.compacted_bytes()
    }

    #[getter]
    fn last_seq(&self) -> u64 {
        self.progress.last_seq()
    }

    #[getter]
    fn published(&self) -> u64 {
        self.log().published()
    }

    #[getter]
    fn ended(&self) -> bool {
        self.progress.has_ended()
    }

    #[getter]
    fn failed(&self) -> bool {
        self.progress.has_failed()
    }
}

/// Return the number for a pressure, as `_core.pyi` documents it.
fn number_of(pressure: Pressure) -> u8 {
    match pressure {
        Pressure::None => 0,
        Pressure::Commit => 1,
        Pressure::Wait => 2,
        Pressure::LookUp => 3,
    }
}
