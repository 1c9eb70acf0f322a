//! How a run is joined to its thread: the message that it follows, or the list that it starts from.

/// How a run is joined to its thread.
#[derive(Debug, Default)]
pub(super) struct Lineage {
    /// The events behind the run's start, which say what the thread has from now on.
    pub(super) opening: Vec<String>,
    /// The hash of the thread's last message.
    pub(super) previous: Option<u64>,
    /// Entries of messages that the thread had before, for it to be compared faster from now on.
    pub(super) entries: Vec<String>,
}

impl Lineage {
    /// Return the size of the opening events in bytes.
    pub(super) fn opening_bytes(&self) -> usize {
        self.opening.iter().map(String::len).sum()
    }
}
