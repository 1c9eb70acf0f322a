//! The single delta event that a stream's deltas are merged into.
use crate::event::Event;
use crate::json::MergedObject;
use crate::text;

/// A stream's first delta event as it arrived, and the deltas merged into it.
#[derive(Debug)]
pub(super) struct Delta {
    first: Box<str>,
    /// The joined text in its escaped form; `None` while there is only one delta.
    text: Option<String>,
    /// The merged metadata; `None` while only the first delta may have some.
    metadata: Option<MergedObject>,
}

impl Delta {
    pub(super) fn new(event: &Event<'_>) -> Self {
        Self { first: event.json().into(), text: None, metadata: None }
    }

    /// Return the first delta event.
    pub(super) fn first(&self) -> Event<'_> {
        parse(&self.first)
    }

    /// Return the joined text so far.
    pub(super) fn joined(&self) -> &str {
        match &self.text {
            Some(text) => text,
            None => self.first().escaped_text("delta").unwrap_or_default(),
        }
    }

    /// Return the joined text, so that the caller can append to it.
    #[inline]
    pub(super) fn text(&mut self) -> &mut String {
        let first = &self.first;
        // The first chunk of a stream may have no `delta`.
        self.text.get_or_insert_with(|| parse(first).escaped_text("delta").unwrap_or_default().to_owned())
    }

    /// Append a delta event; return by how many bytes the merged event grows at most.
    #[inline]
    pub(super) fn append(&mut self, event: &Event<'_>, delta: &str) -> usize {
        // Joined while escaped: two halves of a surrogate pair, each in a delta of its own, become one character.
        self.text().push_str(delta);
        let mut grown = delta.len();
        if let Some(later) = event.get("metadata") {
            let first = &self.first;
            let metadata = self.metadata.get_or_insert_with(|| {
                let mut merged = MergedObject::default();
                merged.merge(parse(first).get("metadata").unwrap_or("{}"));
                merged
            });
            let before = metadata.bytes();
            metadata.merge(later);
            grown += metadata.bytes().saturating_sub(before);
        }
        grown
    }

    /// Call `each` with the event's JSON in slices, then with `None`.
    pub(super) fn emit_slices(&self, each: &mut impl FnMut(Option<&str>)) {
        // A single delta keeps its bytes, like every event that is not merged (docs/spec/compaction.md, "Bytes").
        let Some(text) = &self.text else {
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
        let metadata = self.metadata.as_ref().map(MergedObject::write);
        let metadata = metadata.as_deref().or_else(|| self.first().get("metadata"));
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
                    if let Some(metadata) = metadata.filter(|_| !has_metadata) {
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
        if let Some(metadata) = metadata.filter(|_| !has_metadata) {
            put("metadata", &[metadata]);
        }
        each(Some("}"));
        each(None);
    }
}

fn parse(json: &str) -> Event<'_> {
    Event::parse_str(json).expect("it was parsed when it was pushed")
}
