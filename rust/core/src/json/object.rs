//! A JSON object that keeps the order of its members and looks them up by hash once it is wide.
use std::collections::{BTreeMap, HashMap};

use super::small_text::SmallText;
use crate::text::{self, canonicalize};

/// The number of members up to which keys are compared one by one.
const NARROW_MEMBERS: usize = 16;

/// An object: keys without quotes and still escaped, in order, none twice.
///
/// A position is a member's index in a narrow object. In a wide one it stays the same when other members are removed.
#[derive(Debug, Clone)]
pub struct Object<T>(Members<T>);

type Member<T> = (SmallText, T);

#[derive(Debug, Clone)]
enum Members<T> {
    Narrow(Vec<Member<T>>),
    Wide(Box<Wide<T>>),
}

#[derive(Debug, Clone)]
struct Wide<T> {
    members: BTreeMap<usize, Member<T>>,
    /// The position of each key, in canonical escapes.
    positions: HashMap<SmallText, usize>,
}

impl<T> Object<T> {
    /// Create an object without members.
    pub fn new() -> Self {
        Self(Members::Narrow(Vec::new()))
    }

    /// Create an object that will have at least one member.
    pub(super) fn with_first(key: &str, value: T) -> Self {
        // Most objects of a large document are small, and `push` would reserve space for four members.
        Self(Members::Narrow(vec![(key.into(), value)]))
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
    pub fn at(&self, position: usize) -> Option<&T> {
        match &self.0 {
            Members::Narrow(members) => members.get(position).map(|(_, value)| value),
            Members::Wide(wide) => wide.members.get(&position).map(|(_, value)| value),
        }
    }

    /// Return the value at a position, to be changed.
    pub fn at_mut(&mut self, position: usize) -> Option<&mut T> {
        match &mut self.0 {
            Members::Narrow(members) => members.get_mut(position).map(|(_, value)| value),
            Members::Wide(wide) => wide.members.get_mut(&position).map(|(_, value)| value),
        }
    }

    /// Iterate over the members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        let (narrow, wide) = match &self.0 {
            Members::Narrow(members) => (&members[..], None),
            Members::Wide(wide) => (&[][..], Some(wide.members.values())),
        };
        narrow.iter().chain(wide.into_iter().flatten()).map(|(key, value)| (&**key, value))
    }

    /// Set a member in its place, or add it at the end; return the old value.
    pub fn set(&mut self, key: &str, value: T) -> Option<T> {
        if let Some(position) = self.position(key) {
            return Some(std::mem::replace(self.at_mut(position)?, value));
        }
        self.insert(self.end(), key.into(), value);
        None
    }

    /// Insert a member of a new key at a position: the end, or the one that it was removed from.
    pub fn insert(&mut self, position: usize, key: SmallText, value: T) {
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
    pub fn remove(&mut self, position: usize) -> (SmallText, T) {
        match &mut self.0 {
            Members::Narrow(members) => members.remove(position),
            Members::Wide(wide) => wide.remove(position),
        }
    }

    /// Keep only the members for which `is_kept` is true.
    pub fn retain(&mut self, is_kept: impl Fn(&str, &T) -> bool) {
        let dropped = self.iter().filter(|(key, value)| !is_kept(key, value));
        let removed: Vec<_> = dropped.map(|(key, _)| key.to_owned()).collect();
        for key in removed {
            if let Some(position) = self.position(&key) {
                self.remove(position);
            }
        }
    }

    /// Iterate over the members, taking them out.
    pub fn into_members(self) -> impl Iterator<Item = (SmallText, T)> {
        let (narrow, wide) = match self.0 {
            Members::Narrow(members) => (members, None),
            Members::Wide(wide) => (Vec::new(), Some(wide.members.into_values())),
        };
        narrow.into_iter().chain(wide.into_iter().flatten())
    }
}

impl<T> Default for Object<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> FromIterator<(SmallText, T)> for Object<T> {
    fn from_iter<I: IntoIterator<Item = (SmallText, T)>>(members: I) -> Self {
        let mut object = Self::new();
        for (key, value) in members {
            object.set(&key, value);
        }
        object
    }
}

/// Compares the members in any order.
impl<T: PartialEq> PartialEq for Object<T> {
    fn eq(&self, other: &Self) -> bool {
        let has_equal = |(key, value): (&str, &T)| {
            other.position(key).and_then(|position| other.at(position)).is_some_and(|it| it == value)
        };
        self.len() == other.len() && self.iter().all(has_equal)
    }
}

impl<T> FromIterator<Member<T>> for Wide<T> {
    fn from_iter<I: IntoIterator<Item = Member<T>>>(members: I) -> Self {
        let mut wide = Self { members: BTreeMap::new(), positions: HashMap::new() };
        for (position, member) in members.into_iter().enumerate() {
            wide.insert(position, member);
        }
        wide
    }
}

impl<T> Wide<T> {
    fn insert(&mut self, position: usize, member: Member<T>) {
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

    fn remove(&mut self, position: usize) -> Member<T> {
        let member = self.members.remove(&position).expect("the position is that of a member");
        self.positions.remove(&*canonicalize(&member.0));
        member
    }
}
