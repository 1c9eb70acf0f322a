//! The Python class that compacts a run again from its journal.
use std::sync::Mutex;

use agentrunner_core::recompact::Recompactor as CoreRecompactor;
use pyo3::prelude::*;

use crate::errors::to_py;
use crate::event::Frames;

const UNPOISONED: &str = "no thread panics while it holds this lock";

/// Recomputes the frames of a run compacted up to a sequence number.
#[pyclass(frozen, module = "agentrunner")]
pub struct Recompactor(Mutex<CoreRecompactor>);

#[pymethods]
impl Recompactor {
    #[new]
    fn new(seq: u64) -> Self {
        Self(Mutex::new(CoreRecompactor::new(seq)))
    }

    fn push(&self, py: Python<'_>, frames: &Frames) -> PyResult<()> {
        let bytes = frames.shared();
        py.detach(|| self.0.lock().expect(UNPOISONED).push(&bytes)).map_err(to_py)
    }

    fn frames(&self, py: Python<'_>) -> Frames {
        py.detach(|| self.0.lock().expect(UNPOISONED).frames()).into()
    }
}
