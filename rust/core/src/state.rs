//! The state events between two run boundaries, merged into one snapshot.
use crate::event::Event;
use crate::json::{self, Json};
use crate::kind::Kind;
use crate::patch;

/// The state events of one window, from which as few events as possible are written.
#[derive(Debug, Default, Clone)]
pub struct StateWindow {
    /// The events as they arrived, as long as none could be merged.
    events: Vec<String>,
    /// The last snapshot with later patches applied.
    snapshot: Option<Snapshot>,
    metadata: Option<String>,
}

/// A snapshot. It stays text until a patch needs the tree, so one that is only written is never parsed.
#[derive(Debug, Clone)]
enum Snapshot {
    Text(String),
    Tree(Json),
}

impl StateWindow {
    /// Push a `STATE_SNAPSHOT` or `STATE_DELTA`.
    ///
    /// Returns false for an event without a value, which the caller must keep in its place.
    pub fn push(&mut self, event: &Event<'_>) -> bool {
        let is_snapshot = event.kind() == Kind::StateSnapshot;
        let Some(value) = event.get(if is_snapshot { "snapshot" } else { "delta" }) else { return false };
        if let Some(later) = event.get("metadata") {
            self.metadata = Some(json::merge_objects(self.metadata.as_deref().unwrap_or("{}"), later));
        }
        if is_snapshot {
            // A window with only one event keeps that event's bytes.
            let is_alone = self.events.is_empty() && self.snapshot.is_none();
            self.events.clear();
            if is_alone {
                self.events.push(event.json().into());
            }
            self.snapshot = Some(Snapshot::Text(value.into()));
        } else if let Some(snapshot) = &mut self.snapshot {
            self.events.clear();
            if let Snapshot::Text(text) = snapshot {
                *snapshot = Snapshot::Tree(Json::parse(text));
            }
            if let Snapshot::Tree(tree) = snapshot {
                // A patch that fails is skipped as a whole, as the client skips it.
                let _ = patch::apply(tree, &Json::parse(value));
            }
        } else {
            // Without a snapshot the patches apply to a state this window has never seen.
            self.events.push(event.json().into());
        }
        true
    }

    /// Return the events to write for the window.
    pub fn finish(self) -> Vec<String> {
        let Some(snapshot) = self.snapshot else { return self.events };
        if !self.events.is_empty() {
            return self.events;
        }
        let mut event = String::from("{\"type\":\"STATE_SNAPSHOT\",\"snapshot\":");
        match snapshot {
            Snapshot::Text(text) => event.push_str(&text),
            Snapshot::Tree(tree) => tree.write(&mut event),
        }
        if let Some(metadata) = self.metadata {
            event.push_str(",\"metadata\":");
            event.push_str(&metadata);
        }
        event.push('}');
        vec![event]
    }
}
