//! The stored content of a run: its compacted events, or only the fact that it was too large.
use super::Recorder;
use crate::compact::Compactor;
use crate::entries;
use crate::event::Event;
use crate::text;

impl Recorder {
    /// Return the run's compacted events as a JSON array.
    pub fn compacted(&self) -> String {
        let mut json = String::with_capacity(self.compacted_bytes());
        self.write_compacted(|slice| json.push_str(slice));
        json
    }

    /// Return the length of that array in bytes.
    pub fn compacted_bytes(&self) -> usize {
        let mut bytes = 0;
        self.write_compacted(|slice| bytes += slice.len());
        bytes
    }

    /// Write that array in slices, so that a long run is never in memory a second time.
    pub fn write_compacted(&self, mut write: impl FnMut(&str)) {
        let mut separator = Some("[");
        let mut is_empty = true;
        self.compactor.emit_slices(|slice| match slice {
            Some(slice) => {
                if let Some(separator) = separator.take() {
                    write(separator);
                }
                write(slice);
                is_empty = false;
            }
            None => separator = Some(","),
        });
        write(if is_empty { "[]" } else { "]" });
    }

    /// Drop the run's content: only its `RUN_STARTED` and a `RUN_ERROR` with this message are stored.
    ///
    /// Use this for a run that the store cannot keep. Its sequence numbers stay, and its raw frames can still be read.
    pub fn drop_content(&mut self, message: &str, code: &str) {
        const MOST_INPUT_BYTES: usize = 1 << 20;
        let (thread, run) = (text::quote(&self.thread_id), text::quote(&self.run_id));
        let bare = || format!("{{\"type\":\"RUN_STARTED\",\"threadId\":{thread},\"runId\":{run}}}");
        let started = self.compactor.first_event().filter(|json| json.len() <= MOST_INPUT_BYTES);
        let started = started.map_or_else(bare, str::to_owned);
        let (message, code) = (text::quote(message), text::quote(code));
        let error = format!("{{\"type\":\"RUN_ERROR\",\"message\":{message},\"code\":{code}}}");
        self.compactor = Compactor::new();
        self.message_ids.clear();
        for json in [started, error] {
            let event = Event::parse_str(&json).expect("the recorder wrote it");
            self.compactor.push(&event);
            entries::each_entry(&event, |entry| {
                self.message_ids.insert(entry);
            });
        }
        self.is_content_dropped = true;
        self.report_progress();
    }
}
