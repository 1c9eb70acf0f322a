//! The streams that are being assembled, found by their lane and by their id.
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::family::{Family, PerFamily};
use crate::json::SmallText;
use crate::text::canonicalize;

/// A stream being assembled from chunks; its values are JSON.
#[derive(Debug, Clone)]
pub(super) struct OpenStream {
    pub(super) family: Family,
    pub(super) lane: Option<SmallText>,
    pub(super) id: SmallText,
    /// The opener's own `subagentRunId`. It differs from the lane where the opener says null.
    pub(super) subagent: Option<SmallText>,
    /// The values of the family's `fixed_fields`, of which no family has more than two.
    pub(super) fixed_values: [Option<SmallText>; 2],
}

/// Open streams in the order they were opened, which is the order they are closed in.
///
/// A run may have thousands of lanes, so no stream is searched for one by one.
#[derive(Debug, Clone, Default)]
pub(super) struct Lanes {
    streams: BTreeMap<u64, OpenStream>,
    /// By the lanes' keys; see [`lane_key`].
    by_lane: HashMap<SmallText, u64>,
    /// By the ids' keys; see [`key_of`]. Several lanes may have a stream of one id.
    by_id: PerFamily<HashMap<SmallText, BTreeSet<u64>>>,
    by_family: PerFamily<BTreeSet<u64>>,
    next: u64,
}

impl Lanes {
    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    /// Return the stream of a lane.
    pub(super) fn get(&self, lane: Option<&str>) -> Option<&OpenStream> {
        self.streams.get(self.by_lane.get(lane_key(lane).as_bytes())?)
    }

    /// Return the first stream of an id, and how many it has.
    pub(super) fn find(&self, family: Family, id: &str) -> (Option<&OpenStream>, usize) {
        let Some(numbers) = self.by_id[family].get(key_of(id).as_bytes()) else { return (None, 0) };
        (numbers.first().and_then(|number| self.streams.get(number)), numbers.len())
    }

    /// Return how many streams of a family are open.
    pub(super) fn count(&self, family: Family) -> usize {
        self.by_family[family].len()
    }

    /// Return the first stream of a family.
    pub(super) fn first(&self, family: Family) -> Option<&OpenStream> {
        self.streams.get(self.by_family[family].first()?)
    }

    pub(super) fn insert(&mut self, stream: OpenStream) {
        let number = self.next;
        self.next += 1;
        self.by_lane.insert((&*lane_key(stream.lane.as_deref())).into(), number);
        self.by_id[stream.family].entry((&*key_of(&stream.id)).into()).or_default().insert(number);
        self.by_family[stream.family].insert(number);
        self.streams.insert(number, stream);
    }

    /// Remove the stream of a lane.
    pub(super) fn remove(&mut self, lane: Option<&str>) -> Option<OpenStream> {
        let number = self.by_lane.remove(lane_key(lane).as_bytes())?;
        let stream = self.streams.remove(&number)?;
        let id = key_of(&stream.id);
        if let Some(numbers) = self.by_id[stream.family].get_mut(id.as_bytes()) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_id[stream.family].remove(id.as_bytes());
            }
        }
        self.by_family[stream.family].remove(&number);
        Some(stream)
    }

    /// Return the streams of a family, in order.
    pub(super) fn of_family(&self, family: Family) -> impl Iterator<Item = &OpenStream> {
        self.by_family[family].iter().filter_map(|number| self.streams.get(number))
    }

    /// Remove all streams, in order.
    pub(super) fn take(&mut self) -> impl Iterator<Item = OpenStream> {
        std::mem::take(self).streams.into_values()
    }
}

/// Return what two JSON values that mean the same id have in common. The quotes of a string stay as they are.
fn key_of(json: &str) -> Cow<'_, str> {
    canonicalize(json)
}

/// Return the key of a lane. No JSON text is empty, so that is the parent agent's.
fn lane_key(lane: Option<&str>) -> Cow<'_, str> {
    lane.map(key_of).unwrap_or_default()
}
