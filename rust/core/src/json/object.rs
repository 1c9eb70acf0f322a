//! A JSON object that keeps the order of its members and looks them up by hash once it is wide.
use super::small_text::SmallText;
use super::wide::Wide;

/// The number of members up to which keys are compared one by one.
const NARROW_MEMBERS: usize = 16;

/// An object: keys without quotes and still escaped, in order, none twice.
///
/// A position is a member's index in a narrow object. In a wide one it stays the same when other members are removed.
#[derive(Debug, Clone)]
pub struct Object<T>(Members<T>);

#[derive(Debug, Clone)]
enum Members<T> {
    Narrow(Vec<(SmallText, T)>),
    Wide(Box<Wide<T>>),
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
            Members::Wide(wide) => wide.len(),
        }
    }

    /// Return whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Return the position of a key, which may be escaped.
    pub fn position(&self, key: &str) -> Option<usize> {
        match &self.0 {
            Members::Narrow(members) => members.iter().position(|(name, _)| name.is_key(key)),
            Members::Wide(wide) => wide.position(key),
        }
    }

    /// Return the value at a position.
    pub fn at(&self, position: usize) -> Option<&T> {
        match &self.0 {
            Members::Narrow(members) => members.get(position).map(|(_, value)| value),
            Members::Wide(wide) => wide.at(position),
        }
    }

    /// Return the value at a position, to be changed.
    pub fn at_mut(&mut self, position: usize) -> Option<&mut T> {
        match &mut self.0 {
            Members::Narrow(members) => members.get_mut(position).map(|(_, value)| value),
            Members::Wide(wide) => wide.at_mut(position),
        }
    }

    /// Iterate over the members in order.
    pub fn iter(&self) -> impl Iterator<Item = (&SmallText, &T)> {
        let (narrow, wide) = match &self.0 {
            Members::Narrow(members) => (&members[..], None),
            Members::Wide(wide) => (&[][..], Some(wide.iter())),
        };
        narrow.iter().chain(wide.into_iter().flatten()).map(|(key, value)| (key, value))
    }

    /// Set a member in its place, or add it at the end; return the old value.
    pub fn set(&mut self, key: &str, value: T) -> Option<T> {
        if let Some(position) = self.position(key) {
            return Some(std::mem::replace(self.at_mut(position)?, value));
        }
        self.push(key.into(), value);
        None
    }

    /// Add a member of a new key at the end; return its position.
    pub fn push(&mut self, key: SmallText, value: T) -> usize {
        if let Members::Narrow(members) = &mut self.0
            && members.len() < NARROW_MEMBERS
        {
            members.push((key, value));
            return members.len() - 1;
        }
        self.widen().push(key, value)
    }

    fn widen(&mut self) -> &mut Wide<T> {
        if let Members::Narrow(members) = &mut self.0 {
            self.0 = Members::Wide(Box::new(std::mem::take(members).into_iter().collect()));
        }
        match &mut self.0 {
            Members::Wide(wide) => wide,
            Members::Narrow(_) => unreachable!("the object is wide now"),
        }
    }

    /// Remove the member at a position; return it, with the position of the one before it.
    pub fn remove(&mut self, position: usize) -> (SmallText, T, Option<usize>) {
        match &mut self.0 {
            Members::Narrow(members) => {
                let (key, value) = members.remove(position);
                (key, value, position.checked_sub(1))
            }
            Members::Wide(wide) => wide.remove(position),
        }
    }

    /// Put a member back in its place, with all that came after its removal undone.
    pub fn put_back(&mut self, position: usize, before: Option<usize>, key: SmallText, value: T) {
        match &mut self.0 {
            Members::Narrow(members) => members.insert(position, (key, value)),
            Members::Wide(wide) => wide.put_back(position, before, key, value),
        }
    }

    /// Keep only the members for which `is_kept` is true.
    pub fn retain(&mut self, is_kept: impl Fn(&str, &T) -> bool) {
        let dropped = self.iter().filter(|(key, value)| !is_kept(key, value));
        let removed: Vec<_> = dropped.map(|(key, _)| key.clone()).collect();
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
            Members::Wide(wide) => (Vec::new(), Some(wide.into_members())),
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
        let has_equal = |(key, value): (&SmallText, &T)| {
            other.position(key).and_then(|position| other.at(position)).is_some_and(|it| it == value)
        };
        self.len() == other.len() && self.iter().all(has_equal)
    }
}
