//! A JSON object that keeps the order of its members and looks them up by hash once it is wide.
use std::collections::{BTreeMap, HashMap};

use super::{Json, SmallText, canonicalize};
use crate::text;

/// The number of members up to which keys are compared one by one.
const NARROW_MEMBERS: usize = 16;

/// An object: keys without quotes and still escaped, in order, none twice.
///
/// A position is a member's index in a narrow object. In a wide one it stays the same when other members are removed.
#[derive(Debug, Clone)]
pub struct Object(Members);

type Member = (SmallText, Json);

#[derive(Debug, Clone)]
enum Members {
    Narrow(Vec<Member>),
    Wide(Box<Wide>),
}

#[derive(Debug, Clone, Default)]
struct Wide {
    members: BTreeMap<usize, Member>,
    /// The position of each key, in canonical escapes.
    positions: HashMap<SmallText, usize>,
}

impl Object {
    /// Create an object without members.
    pub fn new() -> Self {
        Self(Members::Narrow(Vec::new()))
    }

    /// Create an object that will have at least one member.
    pub(super) fn with_first(key: &str, value: Json) -> Self {
        // Most objects of a large document are small, and `push` alone would reserve space for four members.
        let mut members = Vec::with_capacity(1);
        members.push((key.into(), value));
        Self(Members::Narrow(members))
    }

    /// Return the number of members.
    pub fn len(&self) -> usize {
        match &self.0 {
            Members::Narrow(members) => members.len(),
            Members::Wide(wide) => wide.members.len(),
        }
    }

    /// Return whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Return the position after the last member.
    pub fn end(&self) -> usize {
        match &self.0 {
            Members::Narrow(members) => members.len(),
            Members::Wide(wide) => wide.members.last_key_value().map_or(0, |(last, _)| last + 1),
        }
    }

    /// Return the position of a key, which may be escaped.
    pub fn position(&self, key: &str) -> Option<usize> {
        match &self.0 {
            Members::Narrow(members) => members.iter().position(|(name, _)| text::is_same(name, key)),
            Members::Wide(wide) => wide.positions.get(&*canonicalize(key)).copied(),
        }
    }

    /// Return the value at a position.
    pub fn at(&self, position: usize) -> Option<&Json> {
        match &self.0 {
            Members::Narrow(members) => members.get(position).map(|(_, value)| value),
            Members::Wide(wide) => wide.members.get(&position).map(|(_, value)| value),
        }
    }

    /// Return the value at a position, to be changed.
    pub fn at_mut(&mut self, position: usize) -> Option<&mut Json> {
        match &mut self.0 {
            Members::Narrow(members) => members.get_mut(position).map(|(_, value)| value),
            Members::Wide(wide) => wide.members.get_mut(&position).map(|(_, value)| value),
        }
    }

    /// Iterate over the members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        let (narrow, wide) = match &self.0 {
            Members::Narrow(members) => (&members[..], None),
            Members::Wide(wide) => (&[][..], Some(wide.members.values())),
        };
        narrow.iter().chain(wide.into_iter().flatten()).map(|(key, value)| (&**key, value))
    }

    /// Set a member in its place, or add it at the end; return the old value.
    pub fn set(&mut self, key: &str, value: Json) -> Option<Json> {
        match self.position(key) {
            Some(position) => Some(std::mem::replace(self.at_mut(position)?, value)),
            None => {
                self.insert(self.end(), key.into(), value);
                None
            }
        }
    }

    /// Insert a member of a new key at a position: the end, or the one that it was removed from.
    pub fn insert(&mut self, position: usize, key: SmallText, value: Json) {
        if let Members::Narrow(members) = &mut self.0 {
            if members.len() < NARROW_MEMBERS {
                return members.insert(position, (key, value));
            }
            self.0 = Members::Wide(Box::new(std::mem::take(members).into_iter().collect()));
        }
        if let Members::Wide(wide) = &mut self.0 {
            wide.insert(position, (key, value));
        }
    }

    /// Remove the member at a position.
    pub fn remove(&mut self, position: usize) -> (SmallText, Json) {
        match &mut self.0 {
            Members::Narrow(members) => members.remove(position),
            Members::Wide(wide) => wide.remove(position),
        }
    }

    /// Keep only the members for which `is_kept` is true.
    pub fn retain(&mut self, is_kept: impl Fn(&str, &Json) -> bool) {
        let dropped = self.iter().filter(|(key, value)| !is_kept(key, value));
        let removed: Vec<_> = dropped.map(|(key, _)| key.to_owned()).collect();
        for key in removed {
            if let Some(position) = self.position(&key) {
                self.remove(position);
            }
        }
    }

    /// Iterate over the members, taking them out.
    pub fn into_members(self) -> impl Iterator<Item = (SmallText, Json)> {
        let (narrow, wide) = match self.0 {
            Members::Narrow(members) => (members, None),
            Members::Wide(wide) => (Vec::new(), Some(wide.members.into_values())),
        };
        narrow.into_iter().chain(wide.into_iter().flatten())
    }
}

impl Default for Object {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<(SmallText, Json)> for Object {
    fn from_iter<I: IntoIterator<Item = (SmallText, Json)>>(members: I) -> Self {
        let mut object = Self::new();
        for (key, value) in members {
            object.set(&key, value);
        }
        object
    }
}

/// Compares the members in any order.
impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        let has_equal = |(key, value): (&str, &Json)| {
            other.position(key).and_then(|position| other.at(position)).is_some_and(|it| it == value)
        };
        self.len() == other.len() && self.iter().all(has_equal)
    }
}

impl FromIterator<Member> for Wide {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        let mut wide = Self::default();
        for (position, member) in members.into_iter().enumerate() {
            wide.insert(position, member);
        }
        wide
    }
}

impl Wide {
    fn insert(&mut self, position: usize, member: Member) {
        if self.members.contains_key(&position) {
            // Only a patch that is undone gets here: the member was removed while the object was narrow.
            let mut members: Vec<_> = std::mem::take(&mut self.members).into_values().collect();
            members.insert(position, member);
            *self = members.into_iter().collect();
            return;
        }
        self.positions.insert((&*canonicalize(&member.0)).into(), position);
        self.members.insert(position, member);
    }

    fn remove(&mut self, position: usize) -> Member {
        let member = self.members.remove(&position).expect("the position is that of a member");
        self.positions.remove(&*canonicalize(&member.0));
        member
    }
}
