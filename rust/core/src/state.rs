//! The state events between two run boundaries, held and written as one snapshot.
use crate::event::{Event, Kind};
use crate::json::{self, Json};
use crate::patch;

/// What a window of state events comes to.
#[derive(Debug, Default, Clone)]
pub struct StateWindow {
    /// The events as they came, while nothing could be merged.
    events: Vec<String>,
    /// The last snapshot with later patches applied; held as text until a patch needs the tree.
    snapshot: Option<Snapshot>,
    metadata: Option<String>,
}

#[derive(Debug, Clone)]
enum Snapshot {
    Text(String),
    Tree(Json),
}

impl StateWindow {
    /// Takes in a `STATE_SNAPSHOT` or `STATE_DELTA`; false if it has no value and is to be kept where it stands.
    pub fn push(&mut self, event: &Event<'_>) -> bool {
        let is_snapshot = event.kind() == Kind::StateSnapshot;
        let Some(value) = event.get(if is_snapshot { "snapshot" } else { "delta" }) else { return false };
        if let Some(later) = event.get("metadata") {
            self.metadata = Some(json::merged(self.metadata.as_deref().unwrap_or("{}"), later));
        }
        if is_snapshot {
            // The window's only event so far keeps its bytes; any other is merged away.
            let alone = self.events.is_empty() && self.snapshot.is_none();
            self.events.clear();
            if alone {
                self.events.push(event.json().into());
            }
            self.snapshot = Some(Snapshot::Text(value.into()));
        } else if let Some(snapshot) = &mut self.snapshot {
            self.events.clear();
            if let Snapshot::Text(text) = snapshot {
                *snapshot = Snapshot::Tree(Json::parse(text));
            }
            if let Snapshot::Tree(tree) = snapshot {
                // A patch that fails is skipped whole, as the client does.
                let _ = patch::apply(tree, &Json::parse(value));
            }
        } else {
            // Without a snapshot the patches are relative to a state this window never saw.
            self.events.push(event.json().into());
        }
        true
    }

    /// The events to write for the window.
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
