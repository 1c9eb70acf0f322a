//! A text that needs no allocation while it is short.
use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// The longest text that is kept in place. With it a value of a document has 32 bytes.
const PLACE_BYTES: usize = 22;

/// A text. An array of a million small numbers would otherwise be a million allocations.
#[derive(Clone)]
pub struct SmallText(Place);

// A box of a `String`, because a `String` itself is as large as the whole place.
#[allow(clippy::box_collection, reason = "see above")]
#[derive(Clone)]
enum Place {
    Here { length: u8, bytes: [u8; PLACE_BYTES] },
    Away(Box<String>),
}

impl SmallText {
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
            Place::Here { length, bytes } => {
                std::str::from_utf8(&bytes[..usize::from(*length)]).expect("it was copied from a str")
            }
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

impl PartialEq for SmallText {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SmallText {}

/// Hashes as a `str`, so that a map can be searched with one.
impl Hash for SmallText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl Borrow<str> for SmallText {
    fn borrow(&self) -> &str {
        self
    }
}

impl fmt::Debug for SmallText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
