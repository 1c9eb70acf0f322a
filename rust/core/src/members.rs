//! Members of JSON objects, looked up in their text and written back as text.
use std::borrow::Cow;

use crate::{scan, text};

/// An object's members: keys without quotes and still escaped, values as JSON.
pub(crate) type Members<'j> = [(&'j str, &'j str)];

/// Return a member's value as JSON.
pub(crate) fn value_of<'j>(json: &'j str, name: &str) -> Option<&'j str> {
    find(&scan::members(json), name)
}

/// Return a member's value if it is a string.
pub(crate) fn string_of<'j>(json: &'j str, name: &str) -> Option<Cow<'j, str>> {
    find_string(&scan::members(json), name)
}

/// Find a member's value; of a repeated key the last value counts, as in every JSON reader.
pub(crate) fn find<'j>(members: &Members<'j>, name: &str) -> Option<&'j str> {
    members.iter().rev().find_map(|(key, value)| text::is_same(key, name).then_some(*value))
}

/// Find a member's value if it is a string.
pub(crate) fn find_string<'j>(members: &Members<'j>, name: &str) -> Option<Cow<'j, str>> {
    text::decode(text::unquote(find(members, name)?)?)
}

/// Write an object from its members.
pub(crate) fn write_object<'j>(members: impl Iterator<Item = (&'j str, &'j str)>) -> String {
    let mut json = String::from("{");
    for (key, value) in members {
        if json.len() > 1 {
            json.push(',');
        }
        json.push('"');
        json.push_str(key);
        json.push_str("\":");
        json.push_str(value);
    }
    json.push('}');
    json
}
