//! The Python class of a claim.
use agentrunner_core::sqlite as core;
use pyo3::prelude::*;

/// The right to write a thread's run.
#[pyclass(frozen, get_all, eq, module = "agentrunner")]
#[derive(Clone, PartialEq, Eq)]
pub struct Claim {
    thread_id: String,
    run_id: String,
    token: i64,
    first_seq: u64,
    input: String,
    agent_id: Option<String>,
    incarnation: i64,
}

#[pymethods]
impl Claim {
    // Stores written in Python make their claims themselves.
    #[new]
    #[pyo3(signature = (thread_id, run_id, token, first_seq, input, agent_id=None, incarnation=0))]
    fn new(
        thread_id: String,
        run_id: String,
        token: i64,
        first_seq: u64,
        input: String,
        agent_id: Option<String>,
        incarnation: i64,
    ) -> Self {
        Self { thread_id, run_id, token, first_seq, input, agent_id, incarnation }
    }
}

impl From<core::Claim> for Claim {
    fn from(claim: core::Claim) -> Self {
        let core::Claim { thread_id, run_id, token, first_seq, input, agent_id, incarnation } = claim;
        Self { thread_id, run_id, token, first_seq, input, agent_id, incarnation }
    }
}

impl Claim {
    /// Return the core's claim.
    pub fn core(&self) -> core::Claim {
        let Self { thread_id, run_id, token, first_seq, input, agent_id, incarnation } = self.clone();
        core::Claim { thread_id, run_id, token, first_seq, input, agent_id, incarnation }
    }
}
