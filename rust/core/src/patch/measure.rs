//! The size of a value.
use crate::json::Json;

/// How many levels a value nests, about how many bytes it has as JSON, and how many values are in it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measure {
    pub(super) levels: usize,
    pub(super) bytes: usize,
    pub(super) values: usize,
}

/// Bytes of a member besides its key and value: quotes and a colon.
pub(super) const MEMBER_BYTES: usize = 3;

/// Return about how many bytes a value has as JSON, and never fewer.
pub fn bytes_of(value: &Json) -> usize {
    measure(value).bytes
}

/// Measure a value.
pub(super) fn measure(value: &Json) -> Measure {
    let mut size = Measure::default();
    size.add(value, 0, usize::MAX);
    size
}

impl Measure {
    /// Add a value, unless there are more than `max_values`. Returns whether all of it was added.
    pub(super) fn add(&mut self, value: &Json, depth: usize, max_values: usize) -> bool {
        self.values += 1;
        // Quotes or brackets, and a comma.
        self.bytes += 3;
        match value {
            Json::Scalar(text) | Json::String(text) => self.bytes += text.len(),
            Json::Array(items) => {
                self.levels = self.levels.max(depth + 1);
                return self.values <= max_values && items.iter().all(|item| self.add(item, depth + 1, max_values));
            }
            Json::Object(members) => {
                self.levels = self.levels.max(depth + 1);
                return self.values <= max_values
                    && members.iter().all(|(key, item)| {
                        self.bytes += key.len() + MEMBER_BYTES;
                        self.add(item, depth + 1, max_values)
                    });
            }
        }
        true
    }
}
