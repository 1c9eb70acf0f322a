//! The members of a wide object: found by hash, linked in order, each at a position that never changes.
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::small_text::SmallText;
use crate::text::canonicalize;

/// The end of the list, as a position.
const NONE: u32 = u32::MAX;

/// The members of a wide object.
///
/// A removed member's slot is used again, so that an object takes no more space than its most members needed.
#[derive(Debug, Clone)]
pub(super) struct Wide<T> {
    slots: Vec<Slot<T>>,
    first: u32,
    last: u32,
    /// The last slot that became free; the others are linked by `next`.
    free: u32,
    /// The positions of the members with the hashes of their keys in canonical escapes, by those hashes.
    positions: HashTable<(u64, u32)>,
    hasher: RandomState,
}

#[derive(Debug, Clone)]
struct Slot<T> {
    /// `None` while the slot is free.
    member: Option<(SmallText, T)>,
    previous: u32,
    next: u32,
}

impl<T> Wide<T> {
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    pub(super) fn position(&self, key: &str) -> Option<usize> {
        let hash = self.hash(key);
        let is_it = |entry: &(u64, u32)| {
            entry.0 == hash && self.slots[entry.1 as usize].member.as_ref().is_some_and(|(name, _)| name.is_key(key))
        };
        self.positions.find(hash, is_it).map(|(_, position)| *position as usize)
    }

    pub(super) fn at(&self, position: usize) -> Option<&T> {
        self.slots.get(position)?.member.as_ref().map(|(_, value)| value)
    }

    pub(super) fn at_mut(&mut self, position: usize) -> Option<&mut T> {
        self.slots.get_mut(position)?.member.as_mut().map(|(_, value)| value)
    }

    /// Iterate over the members in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(SmallText, T)> {
        let next = |slot: &&Slot<T>| self.slots.get(slot.next as usize);
        std::iter::successors(self.slots.get(self.first as usize), next).filter_map(|slot| slot.member.as_ref())
    }

    /// Iterate over the members in order, taking them out.
    pub(super) fn into_members(mut self) -> impl Iterator<Item = (SmallText, T)> {
        let mut next = self.first;
        std::iter::from_fn(move || {
            let slot = self.slots.get_mut(next as usize)?;
            next = slot.next;
            slot.member.take()
        })
    }

    /// Add a member of a new key at the end; return its position.
    pub(super) fn push(&mut self, key: SmallText, value: T) -> usize {
        let position = if self.free == NONE { self.slots.len() as u32 } else { self.free };
        self.fill(position, self.last, key, value);
        position as usize
    }

    /// Remove the member at a position; return it, with the position of the one before it.
    pub(super) fn remove(&mut self, position: usize) -> (SmallText, T, Option<usize>) {
        let slot = &mut self.slots[position];
        let (key, value) = slot.member.take().expect("the position is that of a member");
        let (previous, next) = (slot.previous, slot.next);
        slot.next = std::mem::replace(&mut self.free, position as u32);
        *self.next_of(previous) = next;
        *self.previous_of(next) = previous;
        let entry = self.positions.find_entry(self.hash(&key), |entry| entry.1 as usize == position);
        entry.expect("each member has an entry").remove();
        (key, value, (previous != NONE).then_some(previous as usize))
    }

    /// Put a member back in its place, with all that came after its removal undone.
    pub(super) fn put_back(&mut self, position: usize, before: Option<usize>, key: SmallText, value: T) {
        if self.free as usize != position {
            // The member was removed while the object was narrow, so the position is its index.
            let mut members: Vec<_> = std::mem::take(self).into_members().collect();
            members.insert(position, (key, value));
            *self = members.into_iter().collect();
            return;
        }
        self.fill(position as u32, before.map_or(NONE, |before| before as u32), key, value);
    }

    /// Fill the slot that is to be filled next, after another member or else at the front.
    fn fill(&mut self, position: u32, previous: u32, key: SmallText, value: T) {
        let hash = self.hash(&key);
        let next = std::mem::replace(self.next_of(previous), position);
        *self.previous_of(next) = position;
        let slot = Slot { member: Some((key, value)), previous, next };
        match self.slots.get_mut(position as usize) {
            Some(free) => self.free = std::mem::replace(free, slot).next,
            None => self.slots.push(slot),
        }
        self.positions.insert_unique(hash, (hash, position), |(hash, _)| *hash);
    }

    fn next_of(&mut self, position: u32) -> &mut u32 {
        match self.slots.get_mut(position as usize) {
            Some(slot) => &mut slot.next,
            None => &mut self.first,
        }
    }

    fn previous_of(&mut self, position: u32) -> &mut u32 {
        match self.slots.get_mut(position as usize) {
            Some(slot) => &mut slot.previous,
            None => &mut self.last,
        }
    }

    fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(canonicalize(key).as_bytes())
    }
}

impl<T> Default for Wide<T> {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            first: NONE,
            last: NONE,
            free: NONE,
            positions: HashTable::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<T> FromIterator<(SmallText, T)> for Wide<T> {
    fn from_iter<I: IntoIterator<Item = (SmallText, T)>>(members: I) -> Self {
        let mut wide = Self::default();
        for (key, value) in members {
            wide.push(key, value);
        }
        wide
    }
}
