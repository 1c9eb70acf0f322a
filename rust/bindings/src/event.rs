//! The Python classes of events and frames.
use std::sync::Arc;

use agentrunner_core::event::Event as CoreEvent;
use agentrunner_core::frames::{self, Cursor};
use agentrunner_core::legacy;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyList};

use crate::errors::to_py;

/// One event: its JSON and its cursor.
#[pyclass(frozen, eq, hash, module = "agentrunner")]
#[derive(PartialEq, Eq, Hash)]
pub struct Event {
    json: Box<str>,
    /// Its numbers, because the core's `Cursor` cannot be hashed.
    cursor: Option<(u64, Option<u64>)>,
}

impl Event {
    /// Create an event outside any thread.
    pub fn without_cursor(json: &str) -> Self {
        Self { json: json.into(), cursor: None }
    }

    /// Call a function of Python's codec with the event's JSON.
    fn call_codec<'py>(&self, py: Python<'py>, function: &str) -> PyResult<Bound<'py, PyAny>> {
        // Imported here and not once for the module, because `_codec` itself imports this module.
        py.import("agentrunner._codec")?.getattr(function)?.call1((PyBytes::new(py, self.json.as_bytes()),))
    }
}

#[pymethods]
impl Event {
    #[getter]
    fn r#type(&self) -> PyResult<String> {
        let event = CoreEvent::parse_str(&self.json).map_err(to_py)?;
        // A type with half a surrogate pair cannot be decoded, so it is returned as it is spelled.
        Ok(event.string("type").map_or_else(|| event.type_name().to_owned(), std::borrow::Cow::into_owned))
    }

    #[getter]
    fn seq(&self) -> Option<u64> {
        self.cursor.map(|(seq, _)| seq)
    }

    #[getter]
    fn cursor(&self) -> Option<String> {
        self.cursor.map(|(seq, index)| Cursor { seq, index }.to_string())
    }

    fn __bytes__<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.json.as_bytes())
    }

    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.call_codec(py, "to_dict")
    }

    fn model<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.call_codec(py, "to_model")
    }

    fn __repr__(&self) -> String {
        match self.cursor() {
            Some(cursor) => format!("Event({}, cursor={cursor:?})", self.json),
            None => format!("Event({})", self.json),
        }
    }
}

/// Frames ready for SSE, shared by all readers at the same cursor.
#[pyclass(frozen, module = "agentrunner")]
pub struct Frames {
    bytes: Arc<Vec<u8>>,
    /// The values below are computed once and shared by all readers.
    python: PyOnceLock<Py<PyBytes>>,
    legacy: PyOnceLock<Py<PyBytes>>,
    events: PyOnceLock<Py<PyList>>,
}

impl From<Arc<Vec<u8>>> for Frames {
    fn from(bytes: Arc<Vec<u8>>) -> Self {
        Self { bytes, python: PyOnceLock::new(), legacy: PyOnceLock::new(), events: PyOnceLock::new() }
    }
}

impl From<Vec<u8>> for Frames {
    fn from(bytes: Vec<u8>) -> Self {
        Arc::new(bytes).into()
    }
}

#[pymethods]
impl Frames {
    #[new]
    fn new(data: &[u8]) -> Self {
        data.to_vec().into()
    }

    fn __len__(&self) -> usize {
        self.bytes.len()
    }

    fn __bytes__(&self, py: Python<'_>) -> Py<PyBytes> {
        self.python.get_or_init(py, || PyBytes::new(py, &self.bytes).unbind()).clone_ref(py)
    }

    fn for_legacy_clients(&self, py: Python<'_>) -> Py<PyBytes> {
        // Rewriting needs no Python object, so other Python threads run meanwhile.
        let bytes = self.legacy.get_or_init(py, || match py.detach(|| legacy::rewrite_frames(&self.bytes)) {
            None => self.__bytes__(py),
            Some(bytes) => PyBytes::new(py, &bytes).unbind(),
        });
        bytes.clone_ref(py)
    }

    #[getter]
    fn last_seq(&self) -> Option<u64> {
        frames::last_cursor(&self.bytes).map(|cursor| cursor.seq)
    }

    fn offset(&self, py: Python<'_>, count: u64) -> usize {
        py.detach(|| frames::length_of(&self.bytes, count))
    }

    fn page(&self, offset: usize, limit: usize) -> (Self, usize) {
        let rest = &self.bytes[offset..];
        let end = offset + frames::cut(rest, limit).unwrap_or(rest.len());
        (self.bytes[offset..end].to_vec().into(), end)
    }

    fn events(&self, py: Python<'_>) -> PyResult<Py<PyList>> {
        let events = self.events.get_or_try_init(py, || {
            let mut events = Vec::new();
            for frame in frames::iter_any(&self.bytes) {
                let (cursor, json) = frame.map_err(to_py)?;
                events.push(Event { json: json.into(), cursor: cursor.map(|cursor| (cursor.seq, cursor.index)) });
            }
            PyList::new(py, events).map(Bound::unbind)
        });
        events.map(|events| events.clone_ref(py))
    }
}

impl Frames {
    /// Return the frames' bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Return a shared reference to the frames' bytes.
    pub fn shared(&self) -> Arc<Vec<u8>> {
        self.bytes.clone()
    }
}
