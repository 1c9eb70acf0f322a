//! `agentrunner._core`: a table of contents. What the verbs do is said in `agentrunner-core`; what they are in Python, in
//! `_core.pyi`.
#![allow(clippy::needless_pass_by_value, reason = "arguments come from Python by value")]
use pyo3::prelude::*;

mod errors;
mod event;
mod functions;
mod owner;
mod recorder;
mod sqlite;

#[pymodule]
mod _core {
    #[pymodule_export]
    use crate::event::{Event, Frames};
    #[pymodule_export]
    use crate::functions::{
        check_input, compact, expand, finalize, fold, parse_cursor, recompact, run_frames, run_message_ids, snapshot,
        verify,
    };
    #[pymodule_export]
    use crate::owner::Owner;
    #[pymodule_export]
    use crate::recorder::{Batch, Recorder};
    #[pymodule_export]
    use crate::sqlite::{Claim, SqliteStore};

    use super::{Bound, PyModule, PyModuleMethods, PyResult};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("SQLITE_VERSION", agentrunner_core::sqlite::SqliteStore::sqlite_version())
    }
}
