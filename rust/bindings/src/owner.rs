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

    fn hold(&self, token: i64) {
        self.0.hold(token);
    }

    fn release(&self, token: i64) {
        self.0.release(token);
    }

    #[staticmethod]
    fn liveness(owner: &str) -> &'static str {
        match owner::liveness(owner) {
            owner::Liveness::Gone => "gone",
            owner::Liveness::Here => "here",
            owner::Liveness::Running => "running",
            owner::Liveness::Unknown => "unknown",
        }
    }

    #[staticmethod]
    fn held_tokens(owner: &str) -> Vec<i64> {
        owner::held_tokens(owner)
    }

    #[staticmethod]
    fn is_gone(owner: &str) -> bool {
        owner::is_gone(owner)
    }
}
