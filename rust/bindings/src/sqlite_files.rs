//! Functions on SQLite files that need no open store. They block, so they are called in a thread.
use std::path::PathBuf;

use agentrunner_core::sqlite as core;
use pyo3::prelude::*;

use crate::errors::to_py;

/// Copy a database into one file; return its threads, runs, records and bytes, and when it lost its log, if it did.
///
/// `report` is called with the bytes written and expected, and returns whether to go on.
#[pyfunction]
#[pyo3(signature = (path, target, *, overwrite, report))]
pub fn back_up_sqlite(
    py: Python<'_>,
    path: PathBuf,
    target: PathBuf,
    overwrite: bool,
    report: Py<PyAny>,
) -> PyResult<(i64, i64, i64, u64, Option<i64>)> {
    // An exception in `report` stops the copy, because no other answer would tell the caller of it.
    let report = move |written: u64, total: u64| {
        Python::attach(|py| report.call1(py, (written, total)).and_then(|goes_on| goes_on.extract(py)).unwrap_or(false))
    };
    let backup = py.detach(|| core::back_up(&path, &target, overwrite, report)).map_err(to_py)?;
    Ok((backup.threads, backup.runs, backup.records, backup.bytes, backup.missing_log))
}

/// Rewrite a database without its free pages; return its size before and after, in bytes.
#[pyfunction]
pub fn vacuum_sqlite(py: Python<'_>, path: PathBuf) -> PyResult<(u64, u64)> {
    py.detach(|| core::vacuum(&path)).map_err(to_py)
}
