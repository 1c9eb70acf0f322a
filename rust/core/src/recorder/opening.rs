//! What a run starts from: the thread's messages as they are, or those that its client has sent.
use std::borrow::Cow;

use super::Recorder;
use crate::error::Result;
use crate::event::Event;
use crate::links::RunLinks;
use crate::schema;

/// The size in bytes up to which a run's messages are linked; a longer run is compared as a whole when it is sent again.
const MAX_LINKED_BYTES: usize = 16 << 20;

impl Recorder {
    /// Continue the thread's messages, the last of which has the hash `previous`; add entries of earlier messages.
    pub fn continue_from(&mut self, previous: Option<u64>, entries: Vec<String>) {
        self.lineage.previous = previous;
        self.lineage.entries = entries;
    }

    /// Record these events behind the run's start: the messages, and the state, that it starts from.
    pub fn start_from(&mut self, events: Vec<String>) {
        self.lineage.opening = events;
    }

    pub(super) fn record_opening(&mut self) -> Result<()> {
        let opening = std::mem::take(&mut self.lineage.opening);
        let outcome = opening.iter().try_for_each(|json| {
            let event = Event::parse_str(json)?;
            match schema::conform(&event)? {
                Cow::Borrowed(_) => self.record(&event),
                Cow::Owned(json) => self.record(&Event::parse_str(&json)?),
            }
        });
        // A run that ends as it starts must end, even if its client's state is too large.
        if self.is_ending { Ok(()) } else { outcome }
    }

    /// Return the entries this run adds to the thread's table of message ids.
    pub fn message_ids(&self) -> Vec<String> {
        let mut entries = self.message_ids.clone();
        entries.extend(self.lineage.entries.iter().cloned());
        if self.compactor.bytes() <= MAX_LINKED_BYTES {
            let mut links = RunLinks::default();
            self.compactor.emit(|json| {
                if let Ok(event) = Event::parse_str(json) {
                    links.push(&event);
                }
            });
            entries.extend(links.entries(self.lineage.previous));
        }
        entries.into_iter().collect()
    }
}
