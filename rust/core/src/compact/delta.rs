//! The single delta event that a stream's deltas are merged into.
use crate::event::Event;
use crate::{json, text};

/// A stream's first delta event as it arrived, and the deltas merged into it.
#[derive(Debug)]
pub(super) struct Delta {
    first: Box<str>,
    /// The joined text in its escaped form, and the merged metadata; `None` while there is only one delta.
    merged: Option<(String, Option<String>)>,
}

impl Delta {
    pub(super) fn new(event: &Event<'_>) -> Self {
        Self { first: event.json().into(), merged: None }
    }

    /// Return the first delta event.
    pub(super) fn first(&self) -> Event<'_> {
        parse(&self.first)
    }

    /// Return the joined text so far.
    pub(super) fn joined(&self) -> &str {
        match &self.merged {
            Some((text, _)) => text,
            None => self.first().escaped_text("delta").unwrap_or_default(),
        }
    }

    /// Return the joined text, so that the caller can append to it.
    #[inline]
    pub(super) fn text(&mut self) -> &mut String {
        let first = &self.first;
        let (text, _) = self.merged.get_or_insert_with(|| {
            // The first chunk of a stream may have no `delta`.
            let first = parse(first);
            (first.escaped_text("delta").unwrap_or_default().to_owned(), first.get("metadata").map(str::to_owned))
        });
        text
    }

    #[inline]
    pub(super) fn append(&mut self, event: &Event<'_>, delta: &str) {
        // Joined while escaped: two halves of a surrogate pair, each in a delta of its own, become one character.
        self.text().push_str(delta);
        if let (Some(later), Some((_, metadata))) = (event.get("metadata"), &mut self.merged) {
            *metadata = Some(json::merge_objects(metadata.as_deref().unwrap_or("{}"), later));
        }
    }

    /// Call `each` with the event's JSON in slices, then with `None`.
    pub(super) fn emit_slices(&self, each: &mut impl FnMut(Option<&str>)) {
        // A single delta keeps its bytes, like every event that is not merged (docs/spec/compaction.md, "Bytes").
        let Some((text, metadata)) = &self.merged else {
            each(Some(&self.first));
            return each(None);
        };
        let mut separator = "{\"";
        let mut put = |key: &str, value: &[&str]| {
            each(Some(std::mem::replace(&mut separator, ",\"")));
            each(Some(key));
            each(Some("\":"));
            for slice in value {
                each(Some(slice));
            }
        };
        // The first event keeps its order of fields, so that one delta and many give the same form.
        let (mut has_delta, mut has_metadata) = (false, metadata.is_none());
        for (key, value) in self.first().members() {
            match text::decode(key).as_deref() {
                // These belong to one delta, not to the whole text.
                Some("timestamp" | "rawEvent") => {}
                // A repeated key is written once.
                Some("delta") if has_delta => {}
                Some("delta") => {
                    put(key, &["\"", text, "\""]);
                    has_delta = true;
                }
                Some("metadata") => {
                    if let Some(metadata) = metadata.as_deref().filter(|_| !has_metadata) {
                        put(key, &[metadata]);
                        has_metadata = true;
                    }
                }
                _ => put(key, &[value]),
            }
        }
        if !has_delta {
            put("delta", &["\"", text, "\""]);
        }
        if let Some(metadata) = metadata.as_deref().filter(|_| !has_metadata) {
            put("metadata", &[metadata]);
        }
        each(Some("}"));
        each(None);
    }
}

fn parse(json: &str) -> Event<'_> {
    Event::parse_str(json).expect("it was parsed when it was pushed")
}
