//! A text that needs no allocation while it is short.
use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use crate::text;

/// The longest text that is stored inline; with this length a value takes 32 bytes.
const PLACE_BYTES: usize = 22;

/// A text. Without inline storage, an array of a million small numbers would need a million allocations.
#[derive(Clone)]
pub struct SmallText(Place);

// A boxed `String`, because a `String` itself is as large as the inline storage.
#[allow(clippy::box_collection, reason = "see above")]
#[derive(Clone)]
enum Place {
    Here { length: u8, bytes: [u8; PLACE_BYTES] },
    Away(Box<String>),
}

impl SmallText {
    /// Return the text's bytes. Unlike the text itself they need no check, so keys are compared and hashed by them.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Place::Here { length, bytes } => &bytes[..usize::from(*length)],
            Place::Away(text) => text.as_bytes(),
        }
    }

    /// Return the text's length in bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// Return whether the text is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Return whether this, as a member's key, means the same as another key.
    #[inline]
    pub(super) fn is_key(&self, key: &str) -> bool {
        let has_escape = |text: &[u8]| memchr::memchr(b'\\', text).is_some();
        // Without an escape, only equal texts mean the same.
        self.as_bytes() == key.as_bytes()
            || ((has_escape(self.as_bytes()) || has_escape(key.as_bytes())) && text::is_same(self, key))
    }

    /// Append to the text, in time proportional to what is appended.
    pub fn push_str(&mut self, more: &str) {
        match &mut self.0 {
            Place::Away(text) => text.push_str(more),
            Place::Here { .. } => *self = [&**self, more].concat().into(),
        }
    }
}

impl Deref for SmallText {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        match &self.0 {
            Place::Here { .. } => std::str::from_utf8(self.as_bytes()).expect("it was copied from a str"),
            Place::Away(text) => text,
        }
    }
}

impl From<&str> for SmallText {
    #[inline]
    fn from(text: &str) -> Self {
        if text.len() > PLACE_BYTES {
            return text.to_owned().into();
        }
        let mut bytes = [0; PLACE_BYTES];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Self(Place::Here { length: text.len() as u8, bytes })
    }
}

impl From<String> for SmallText {
    fn from(text: String) -> Self {
        if text.len() > PLACE_BYTES { Self(Place::Away(Box::new(text))) } else { text.as_str().into() }
    }
}

/// Finds a text by its bytes in a map.
impl Borrow<[u8]> for SmallText {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for SmallText {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for SmallText {}

impl Hash for SmallText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for SmallText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
