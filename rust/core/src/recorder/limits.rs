//! The limits of a recorder.

/// The limits of a recorder; each but `commit_bytes` is an option of the runner.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The largest event, in bytes of JSON.
    pub event_bytes: usize,
    /// The longest id, in bytes.
    pub id_bytes: usize,
    /// Bytes of a live run's newest frames that stay in memory.
    pub window_bytes: usize,
    /// Pending bytes that start a commit.
    pub commit_bytes: usize,
    /// Pending bytes that make the agent wait.
    pub pending_bytes: usize,
    /// The largest state, in bytes of JSON.
    pub state_bytes: usize,
    /// The most bytes of the run's compacted events.
    pub run_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            event_bytes: 4 << 20,
            id_bytes: 1 << 10,
            window_bytes: 4 << 20,
            commit_bytes: 64 << 10,
            pending_bytes: 1 << 20,
            state_bytes: 16 << 20,
            run_bytes: 256 << 20,
        }
    }
}
