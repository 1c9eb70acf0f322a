//! A JSON tree that loses nothing: numbers and strings keep their text, so big integers, lone surrogates and the
//! order of keys survive reading and writing.
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write;

use crate::scan;
use crate::text;

/// A JSON value.
#[derive(Debug, Clone)]
pub enum Json {
    /// `null`, `true`, `false`, or a number in its own spelling.
    Scalar(String),
    /// A string as it stands between its quotes.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object: keys as they stand between their quotes, in order, none twice.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// The tree of a text known to be valid JSON. Of a repeated key the last value counts, in the first one's place.
    pub fn parse(json: &str) -> Self {
        build(json, scan::space(json.as_bytes(), 0)).0
    }

    /// `null`.
    pub fn null() -> Self {
        Self::Scalar("null".into())
    }

    /// A string value from its escaped text.
    pub fn escaped(text: &str) -> Self {
        Self::String(text.into())
    }

    /// The JSON text, without white space but what was there inside numbers and strings.
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

    /// Where the member of this (escaped) key stands in an object.
    pub fn position(&self, key: &str) -> Option<usize> {
        match self {
            Self::Object(members) => members.iter().position(|(name, _)| text::same(name, key)),
            _ => None,
        }
    }

    /// The member of this (escaped) key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(members) => members.iter().find(|(name, _)| text::same(name, key)).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The member of this (escaped) key, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        match self {
            Self::Object(members) => members.iter_mut().find(|(name, _)| text::same(name, key)).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Sets a member of an object in its place, a new one at the end; gives the old value.
    pub fn set(&mut self, key: &str, value: Self) -> Option<Self> {
        let at = self.position(key);
        let Self::Object(members) = self else { return None };
        if let Some(at) = at {
            return Some(std::mem::replace(&mut members[at].1, value));
        }
        members.push((key.into(), value));
        None
    }

    /// `{...self, ...other}` of two objects; what is no object adds nothing.
    pub fn merge(&mut self, other: Self) {
        let (Self::Object(members), Self::Object(others)) = (self, other) else { return };
        let places: Vec<_> = {
            let mut keys = Keys::default();
            for (key, _) in members.iter() {
                keys.place(key);
            }
            others.iter().map(|(key, _)| keys.place(key)).collect()
        };
        for (place, (key, value)) in places.into_iter().zip(others) {
            match place {
                Some(at) => members[at].1 = value,
                None => members.push((key, value)),
            }
        }
    }

    /// A string's escaped text.
    pub fn as_escaped(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }
}

/// Equal as JSON values: numbers by value, strings by what they mean, objects whatever their order.
impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(one), Self::Scalar(two)) => {
                let number = |text: &str| text.parse::<f64>().ok();
                one == two || number(one).zip(number(two)).is_some_and(|(one, two)| (one - two).abs() == 0.0)
            }
            (Self::String(one), Self::String(two)) => text::same(one, two),
            (Self::Array(one), Self::Array(two)) => one == two,
            (Self::Object(one), Self::Object(two)) if one.len() == two.len() => {
                let mut keys = Keys::default();
                for (key, _) in two {
                    keys.place(key);
                }
                one.iter().all(|(key, value)| keys.find(key).is_some_and(|at| two[at].1 == *value))
            }
            _ => false,
        }
    }
}

/// `{...one, ...two}` of two JSON texts; what is no object adds nothing. Shallow: a key's last value wins whole.
pub fn merged(one: &str, two: &str) -> String {
    let mut members = Vec::new();
    let mut keys = Keys::default();
    for (key, value) in scan::members(one).into_iter().chain(scan::members(two)) {
        match keys.place(key) {
            Some(at) => members[at] = (key, value),
            None => members.push((key, value)),
        }
    }
    crate::event::object_of(members.into_iter())
}

/// An escaped text in the one spelling all texts of its meaning share.
pub(crate) fn canonical(escaped: &str) -> Cow<'_, str> {
    if !escaped.contains('\\') {
        return Cow::Borrowed(escaped);
    }
    let mut out = String::with_capacity(escaped.len());
    for unit in char::decode_utf16(text::utf16(escaped)) {
        let unit = match unit {
            Ok(c @ ..='\x1f') => u16::try_from(c).expect("a control character"),
            Ok(c) => {
                out.extend(matches!(c, '"' | '\\').then_some('\\'));
                out.push(c);
                continue;
            }
            Err(half) => half.unpaired_surrogate(),
        };
        write!(out, "\\u{unit:04x}").expect("a String takes everything");
    }
    Cow::Owned(out)
}

/// From how many members on an object's keys are looked up by hash.
const WIDE: usize = 16;

/// The keys of an object and their places, in linear time however many there are.
#[derive(Default)]
struct Keys<'k> {
    few: Vec<&'k str>,
    many: HashMap<Cow<'k, str>, usize>,
    count: usize,
}

impl<'k> Keys<'k> {
    fn find(&self, key: &str) -> Option<usize> {
        if self.many.is_empty() {
            self.few.iter().position(|name| text::same(name, key))
        } else {
            self.many.get(&*canonical(key)).copied()
        }
    }

    /// Where the key is already; a new one gets the next place.
    fn place(&mut self, key: &'k str) -> Option<usize> {
        if let Some(at) = self.find(key) {
            return Some(at);
        }
        if self.many.is_empty() && self.few.len() < WIDE {
            self.few.push(key);
        } else {
            let few = std::mem::take(&mut self.few).into_iter().enumerate();
            self.many.extend(few.map(|(at, name)| (canonical(name), at)));
            self.many.insert(canonical(key), self.count);
        }
        self.count += 1;
        None
    }
}

/// The value that begins at `at`, and where it ends.
fn build(json: &str, at: usize) -> (Json, usize) {
    const VALID: &str = "checked before";
    let bytes = json.as_bytes();
    match bytes.get(at) {
        Some(b'"') => {
            let end = scan::string(bytes, at + 1).expect(VALID);
            (Json::escaped(&json[at + 1..end - 1]), end)
        }
        Some(b'[') => {
            let mut items = Vec::new();
            let mut at = scan::space(bytes, at + 1);
            while bytes[at] != b']' {
                let (item, end) = build(json, at);
                items.push(item);
                at = after_comma(bytes, end);
            }
            (Json::Array(items), at + 1)
        }
        Some(b'{') => {
            let mut members: Vec<(String, Json)> = Vec::new();
            let mut keys = Keys::default();
            let mut at = scan::space(bytes, at + 1);
            while bytes[at] != b'}' {
                let key_end = scan::string(bytes, at + 1).expect(VALID);
                let key = &json[at + 1..key_end - 1];
                let colon = scan::space(bytes, key_end);
                let (value, end) = build(json, scan::space(bytes, colon + 1));
                match keys.place(key) {
                    Some(first) => members[first].1 = value,
                    None => members.push((key.into(), value)),
                }
                at = after_comma(bytes, end);
            }
            (Json::Object(members), at + 1)
        }
        _ => {
            let end = scan::value(bytes, at, 0).expect(VALID);
            (Json::Scalar(json[at..end].into()), end)
        }
    }
}

/// Past white space, and past a comma if there is one.
fn after_comma(bytes: &[u8], at: usize) -> usize {
    let at = scan::space(bytes, at);
    if bytes[at] == b',' { scan::space(bytes, at + 1) } else { at }
}
