//! The owner of a lease, for stores written in Python.
use agentrunner_core::owner;
use pyo3::prelude::*;

/// The owner of one open store of this process, alive until it is dropped.
#[pyclass(frozen, module = "agentrunner")]
pub struct Owner(owner::Owner);

#[pymethods]
impl Owner {
    #[new]
    fn new() -> Self {
        Self(owner::Owner::new())
    }

    fn __str__(&self) -> &str {
        self.0.as_str()
    }

    #[staticmethod]
    fn is_gone(owner: &str) -> bool {
        owner::is_gone(owner)
    }
}
