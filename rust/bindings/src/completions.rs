//! Results of a store's operations on their way to Python's event loop.
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;

use pyo3::prelude::*;

/// A ticket, and the value or the error of its operation.
pub type Outcome = (u64, Option<Py<PyAny>>, Option<Py<PyAny>>);

/// Converts a result to Python. It runs on the event loop, because the store's thread must not wait for the GIL.
pub type Value = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// The results that Python has not taken yet, and a socket pair that wakes the event loop.
pub struct Completions {
    ready: Mutex<Vec<(u64, Value)>>,
    wake: UnixStream,
    woken: UnixStream,
}

impl Completions {
    /// Create completions without results.
    pub fn new() -> std::io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        // Neither end may block: not the store's thread on a full socket, nor the event loop on an empty one.
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok(Self { ready: Mutex::default(), wake, woken })
    }

    /// Return the descriptor that is readable while results wait.
    pub fn fileno(&self) -> i32 {
        self.woken.as_raw_fd()
    }

    /// Add an operation's result.
    pub fn push(&self, ticket: u64, value: Value) {
        let mut ready = self.ready.lock().expect("no thread panics while it holds this lock");
        ready.push((ticket, value));
        // Only the first result wakes the loop, because `take` takes all that wait.
        if ready.len() == 1 {
            // A full socket means that the loop was woken already.
            let _ = (&self.wake).write(&[0]);
        }
    }

    /// Take all results.
    pub fn take(&self, py: Python<'_>) -> Vec<Outcome> {
        // The socket is drained before the results are taken: a later result then wakes the loop again.
        while matches!((&self.woken).read(&mut [0; 64]), Ok(64)) {}
        let ready = std::mem::take(&mut *self.ready.lock().expect("no thread panics while it holds this lock"));
        let outcome = |(ticket, value): (u64, Value)| match value(py) {
            Ok(value) => (ticket, Some(value), None),
            Err(error) => (ticket, None, Some(error.into_value(py).into_any())),
        };
        ready.into_iter().map(outcome).collect()
    }
}
