//! The state events between two run boundaries, merged into one snapshot.
use crate::event::Event;
use crate::json::{Json, MergedObject};
use crate::kind::Kind;
use crate::patch::{self, Budget, Failure};

/// The size of a state from which on reading, writing or dropping it takes too long for an event loop.
const LARGE_STATE_BYTES: usize = 128 << 10;
/// The work of a patch that an event loop has the time for.
const BRIEF_WORK: u64 = 1_000_000;

/// The bytes of a `STATE_SNAPSHOT` besides its state and metadata.
const FIELDS_BYTES: usize = 64;

/// The state events of one window, from which as few events as possible are written.
#[derive(Debug, Default, Clone)]
pub struct StateWindow {
    /// The events as they arrived, as long as none could be merged.
    events: Vec<String>,
    event_bytes: usize,
    /// The last snapshot with later patches applied.
    snapshot: Option<Snapshot>,
    metadata: Option<MergedObject>,
}

/// A snapshot. It stays text until a patch needs the tree, so one that is only written is never parsed.
#[derive(Debug, Clone)]
enum Snapshot {
    Text(String),
    /// The tree, and about how many bytes it has as JSON.
    Tree(Json, usize),
}

/// What an event may take.
#[derive(Debug, Clone, Copy)]
pub struct StateLimits {
    /// The most bytes of the state.
    pub state_bytes: usize,
    /// Whether an event that takes more than a few milliseconds is refused with [`Failure::OverBudget`].
    pub is_brief: bool,
}

impl Default for StateLimits {
    fn default() -> Self {
        Self { state_bytes: usize::MAX, is_brief: false }
    }
}

impl StateWindow {
    /// Push a `STATE_SNAPSHOT` or `STATE_DELTA`.
    ///
    /// Returns false for an event without a value, which the caller must keep in its place. A failure changes nothing.
    pub fn push(&mut self, event: &Event<'_>, limits: StateLimits) -> Result<bool, Failure> {
        let is_snapshot = event.kind() == Kind::StateSnapshot;
        let Some(value) = event.get(if is_snapshot { "snapshot" } else { "delta" }) else { return Ok(false) };
        if is_snapshot {
            if value.len() > limits.state_bytes {
                let (size, limit) = (value.len(), limits.state_bytes);
                return Err(Failure::TooLarge(format!("a state of {size} bytes is over the limit of {limit}")));
            }
            // Dropping a large tree takes its time, too.
            self.check_brief(limits, matches!(self.snapshot, Some(Snapshot::Tree(..))))?;
            // A window with only one event keeps that event's bytes.
            let is_alone = self.events.is_empty() && self.snapshot.is_none();
            self.drop_events();
            if is_alone {
                self.keep(event);
            }
            self.snapshot = Some(Snapshot::Text(value.into()));
        } else if self.snapshot.is_some() {
            self.check_brief(limits, matches!(self.snapshot, Some(Snapshot::Text(_))))?;
            match self.patch(value, limits) {
                // A patch that does not fit is skipped as a whole, as the client skips it.
                Ok(()) | Err(Failure::Refused(_)) => self.drop_events(),
                Err(failure) => return Err(failure),
            }
        } else {
            // Without a snapshot the patches apply to a state this window has never seen.
            self.keep(event);
        }
        if let Some(later) = event.get("metadata") {
            self.metadata.get_or_insert_default().merge(later);
        }
        Ok(true)
    }

    fn patch(&mut self, patch: &str, limits: StateLimits) -> Result<(), Failure> {
        if let Some(Snapshot::Text(text)) = &self.snapshot {
            let tree = Json::parse(text);
            // Measured like the changes, and not by its text, so that both can be added up.
            let bytes = patch::bytes_of(&tree);
            self.snapshot = Some(Snapshot::Tree(tree, bytes));
        }
        let Some(Snapshot::Tree(tree, bytes)) = &mut self.snapshot else { return Ok(()) };
        let mut budget = if limits.is_brief { Budget::of_work(BRIEF_WORK) } else { Budget::of_patch(patch.len()) };
        let max_growth = limits.state_bytes.saturating_sub(*bytes);
        let growth = patch::apply(tree, patch, &mut budget, max_growth)?;
        *bytes = bytes.saturating_add_signed(growth);
        Ok(())
    }

    fn check_brief(&self, limits: StateLimits, uses_all: bool) -> Result<(), Failure> {
        if limits.is_brief && uses_all && self.is_large() { Err(Failure::OverBudget) } else { Ok(()) }
    }

    fn keep(&mut self, event: &Event<'_>) {
        self.event_bytes += event.json().len() + 1;
        self.events.push(event.json().into());
    }

    fn drop_events(&mut self) {
        self.events.clear();
        self.event_bytes = 0;
    }

    /// Return about how many bytes [`StateWindow::finish`] writes.
    pub fn bytes(&self) -> usize {
        let snapshot_bytes = match &self.snapshot {
            Some(Snapshot::Text(text)) => text.len(),
            Some(Snapshot::Tree(_, bytes)) => *bytes,
            None => 0,
        };
        let metadata_bytes = self.metadata.as_ref().map_or(0, MergedObject::bytes);
        self.event_bytes.max(snapshot_bytes + metadata_bytes + FIELDS_BYTES)
    }

    /// Return whether writing the state takes too long for an event loop.
    pub fn is_large(&self) -> bool {
        self.bytes() > LARGE_STATE_BYTES
    }

    /// Call `each` with the events to write for the window.
    pub fn write(&self, mut each: impl FnMut(&str)) {
        let Some(snapshot) = self.snapshot.as_ref().filter(|_| self.events.is_empty()) else {
            return self.events.iter().for_each(|event| each(event));
        };
        let mut event = String::from("{\"type\":\"STATE_SNAPSHOT\",\"snapshot\":");
        match snapshot {
            Snapshot::Text(text) => event.push_str(text),
            Snapshot::Tree(tree, _) => tree.write(&mut event),
        }
        if let Some(metadata) = &self.metadata {
            event.push_str(",\"metadata\":");
            event.push_str(&metadata.write());
        }
        event.push('}');
        each(&event);
    }
}
