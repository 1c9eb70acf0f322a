//! A lossless JSON tree.
//!
//! Numbers and strings keep their text, so big integers, lone surrogates and the order of keys survive.

use crate::scan::{self, VALID};
use crate::text;

mod array;
mod merged;
mod object;
mod small_text;
mod wide;

pub use merged::MergedObject;
pub use small_text::SmallText;

/// An array of JSON values.
pub type Array = array::Array<Json>;
/// An object of JSON values.
pub type Object = object::Object<Json>;

/// A JSON value.
#[derive(Debug, Clone)]
pub enum Json {
    /// `null`, `true`, `false`, or a number in its own spelling.
    Scalar(SmallText),
    /// A string's text between its quotes, still escaped.
    String(SmallText),
    /// An array.
    Array(Array),
    /// An object.
    Object(Object),
}

impl Json {
    /// Build the tree of a valid JSON text. If a key is repeated, the last value counts, at the place of the first.
    pub fn parse(json: &str) -> Self {
        build(json, scan::skip_space(json.as_bytes(), 0)).0
    }

    /// Return `null`.
    pub fn null() -> Self {
        Self::Scalar("null".into())
    }

    /// Build a string from its escaped text.
    pub fn from_escaped(text: &str) -> Self {
        Self::String(text.into())
    }

    /// Write the value as JSON, without white space outside its strings.
    pub fn write(&self, out: &mut String) {
        match self {
            Self::Scalar(text) => out.push_str(text),
            Self::String(text) => {
                out.push('"');
                out.push_str(text);
                out.push('"');
            }
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (key, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push('"');
                    out.push_str(key);
                    out.push_str("\":");
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// Return the index of an object's member by its key, which may be escaped.
    pub fn position(&self, key: &str) -> Option<usize> {
        match self {
            Self::Object(members) => members.position(key),
            _ => None,
        }
    }

    /// Return an object's member by its key, which may be escaped.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.at(members.position(key)?),
            _ => None,
        }
    }

    /// Return an object's member by its key, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match self {
            Self::Object(members) => members.at_mut(members.position(key)?),
            _ => None,
        }
    }

    /// Set an object's member in its place, or add it at the end; return the old value.
    pub fn set(&mut self, key: &str, value: Self) -> Option<Self> {
        match self {
            Self::Object(members) => members.set(key, value),
            _ => None,
        }
    }

    /// Compute `{...self, ...other}` of two objects; any other value adds nothing.
    pub fn merge(&mut self, other: Self) {
        let (Self::Object(members), Self::Object(others)) = (self, other) else { return };
        for (key, value) in others.into_members() {
            members.set(&key, value);
        }
    }

    /// Return a string's escaped text; `None` for any other value.
    pub fn as_escaped(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

/// Compares as JSON values: numbers by value, strings by meaning, objects in any order.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(one), Self::Scalar(two)) => {
                let number = |text: &str| text.parse::<f64>().ok();
                // As JavaScript compares them: integers that differ only beyond 2^53 are equal.
                one == two || number(one).zip(number(two)).is_some_and(|(one, two)| (one - two).abs() == 0.0)
            }
            (Self::String(one), Self::String(two)) => text::is_same(one, two),
            (Self::Array(one), Self::Array(two)) => one == two,
            (Self::Object(one), Self::Object(two)) => one == two,
            _ => false,
        }
    }
}

/// Compute `{...one, ...two}` of two JSON texts; anything but an object adds nothing.
///
/// The merge is shallow: the last value of a key replaces earlier ones as a whole.
pub fn merge_objects(one: &str, two: &str) -> String {
    let mut merged = MergedObject::default();
    merged.merge(one);
    merged.merge(two);
    merged.write()
}

/// Build the value that begins at `at`; return it and the offset after it.
///
/// The recursion is bounded, because text that was validated nests at most [`scan::MAX_DEPTH`] levels.
fn build(json: &str, at: usize) -> (Json, usize) {
    let bytes = json.as_bytes();
    match bytes.get(at) {
        Some(b'"') => {
            let end = scan::skip_string(bytes, at + 1).expect(VALID);
            (Json::from_escaped(&json[at + 1..end - 1]), end)
        }
        Some(b'[') => {
            let mut items = Array::new();
            let mut at = scan::skip_space(bytes, at + 1);
            while bytes[at] != b']' {
                let (item, end) = build(json, at);
                items.push(item);
                at = scan::skip_comma(bytes, end);
            }
            (Json::Array(items), at + 1)
        }
        Some(b'{') => {
            let mut members = Object::new();
            let mut at = scan::skip_space(bytes, at + 1);
            while bytes[at] != b'}' {
                let key_end = scan::skip_string(bytes, at + 1).expect(VALID);
                let key = &json[at + 1..key_end - 1];
                let colon = scan::skip_space(bytes, key_end);
                let (value, end) = build(json, scan::skip_space(bytes, colon + 1));
                if members.is_empty() {
                    members = Object::with_first(key, value);
                } else {
                    members.set(key, value);
                }
                at = scan::skip_comma(bytes, end);
            }
            (Json::Object(members), at + 1)
        }
        _ => {
            let end = scan::skip_value(bytes, at, 0).expect(VALID);
            (Json::Scalar(json[at..end].into()), end)
        }
    }
}
