//! `agentrunner._core`: the core's operations for Python, without logic of its own.
//!
//! The crate `agentrunner-core` documents what they do, and `_core.pyi` documents them for Python.
#![allow(clippy::needless_pass_by_value, reason = "PyO3 passes arguments by value")]
use pyo3::prelude::*;

mod claim;
mod completions;
mod errors;
mod event;
mod functions;
mod owner;
mod recompactor;
mod recorder;
mod rows;
mod sqlite;
mod sqlite_files;

#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::claim::Claim;
    #[pymodule_export]
    use crate::event::{Event, Frames};
    #[pymodule_export]
    use crate::functions::{
        Superseded, agents_call_id, check_input, compact, compare_messages, conform, count_values, entries_of_input,
        expand, finalize, find_ids, fold, input_for_agent, parse_cursor, recompact, run_frames, run_message_ids,
        snapshot, verify,
    };
    #[pymodule_export]
    use crate::owner::Owner;
    #[pymodule_export]
    use crate::recompactor::Recompactor;
    #[pymodule_export]
    use crate::recorder::{Batch, Recorder};
    #[pymodule_export]
    use crate::sqlite::SqliteStore;
    #[pymodule_export]
    use crate::sqlite_files::{back_up_sqlite, vacuum_sqlite};

    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("CLAIMED_ENTRY", agentrunner_core::entries::CLAIMED)?;
        module.add("REPLACED_ENTRY", agentrunner_core::links::REPLACED)?;
        module.add("SQLITE_VERSION", agentrunner_core::sqlite::SqliteStore::sqlite_version())
    }
}
