//! The vocabulary of a schema's table: fields, rules for their values, and what happens to values that break them.
use std::borrow::Cow;

use crate::text;

/// The type that a value must have.
#[derive(Clone, Copy)]
pub(crate) enum Rule {
    /// Any value, including null.
    Any,
    /// A string.
    Text,
    /// One of these strings.
    OneOf(&'static [&'static str]),
    /// This string. It is the only possible value, so any other is replaced by it.
    Only(&'static str),
    /// Any number.
    Number,
    /// A whole number, not negative.
    Count,
    /// A whole number, not negative, that a JavaScript number holds exactly.
    SafeCount,
    /// A time: a whole number of milliseconds that a JavaScript number holds exactly. A fraction is cut off, and a text
    /// that means exactly one such number is converted.
    Timestamp,
    Bool,
    /// An object with any members.
    Map,
    /// An array with any items.
    List,
    /// An array with at least this many items.
    ListOf {
        item: &'static Rule,
        at_least: usize,
    },
    Object(&'static Shape),
    /// An object of the shape its tag names.
    Tagged(&'static str, &'static [(&'static str, Shape)]),
    /// The same, but an unlisted tag is taken for one of a later version, and its object stays as it is.
    OpenTagged(&'static str, &'static [(&'static str, Shape)]),
    /// A string. Content parts that are all text become their joined texts, and any other value its JSON.
    PlainText,
    /// A string. Content parts that are all text become their joined texts.
    JoinedText,
    /// A string. A number, an array or an object becomes its JSON.
    JsonText,
    /// A string. A number becomes its digits.
    Code,
    /// A string with the JSON of arguments. An object or an array becomes its JSON.
    Arguments,
    /// A user's content: a string, or a list of such parts.
    ContentOf(&'static Rule),
    /// A tool's result: a string, or a list of such parts. Any other value becomes its JSON.
    ResultOf(&'static Rule),
    /// A content part of the shape its type names. Any other part becomes a text part that holds its JSON.
    PartAsText(&'static [(&'static str, Shape)]),
    /// A JSON Patch (RFC 6902).
    Patch,
}

impl Rule {
    /// Return what the rule expects, for an error message.
    pub(super) fn describe(self) -> Cow<'static, str> {
        let name = match self {
            Self::Any => "a value",
            Self::Text | Self::PlainText | Self::JsonText | Self::Only(_) => "a string",
            Self::OneOf(names) => return format!("one of '{}'", names.join("', '")).into(),
            Self::Number => "a number",
            Self::Count => "a whole number, not negative",
            Self::SafeCount => "a whole number from 0 to 2^53 - 1",
            Self::Timestamp => "a time in milliseconds, or an ISO 8601 time with its offset from UTC",
            Self::Bool => "true or false",
            Self::Map | Self::Object(_) | Self::Tagged(..) | Self::OpenTagged(..) => "an object",
            Self::List | Self::ListOf { at_least: 0, .. } => "a list",
            Self::ListOf { .. } => "a list that is not empty",
            Self::JoinedText => "a string, or a list of text parts",
            Self::Code => "a string or a number",
            Self::Arguments => "a string with JSON, or an object",
            Self::ContentOf(_) | Self::ResultOf(_) => "a string or a list of content parts",
            Self::PartAsText(_) => "a content part",
            Self::Patch => "a list of JSON Patch operations",
        };
        name.into()
    }
}

/// The treatment of a field that is missing, null or does not fit.
///
/// Where a mode is not named, it is the same in both (see [`Mode`](super::fit::Mode)).
#[derive(Clone, Copy)]
pub(crate) enum Need {
    /// The whole object is refused.
    Required,
    /// Like `Required`; a lenient reader sets the field to this JSON, because without the object later events would be
    /// refused too.
    RequiredOr(&'static str),
    /// A null field is left out. If a field does not fit, a strict reader refuses the object, and a lenient one leaves
    /// the field out.
    Optional,
    /// Like `Optional`, but null fits.
    Nullable,
    /// A field that is missing or null is set to this JSON. If a field does not fit, a strict reader refuses the
    /// object, and a lenient one sets the field to this JSON.
    Filled(&'static str),
    /// Like `Filled`, but a strict reader refuses the object if the field is missing.
    NullAs(&'static str),
}

pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) rule: Rule,
    pub(crate) need: Need,
}

/// An object's fields.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Two lists, so that shapes can share the fields that several of them have.
    groups: [&'static [Field]; 2],
    /// Whether every other field is refused.
    pub(crate) is_strict: bool,
}

impl Shape {
    pub(crate) const fn of(fields: &'static [Field]) -> Self {
        Self { groups: [fields, &[]], is_strict: false }
    }

    pub(crate) const fn with(groups: [&'static [Field]; 2]) -> Self {
        Self { groups, is_strict: false }
    }

    pub(crate) const fn strict(fields: &'static [Field]) -> Self {
        Self { groups: [fields, &[]], is_strict: true }
    }

    /// Return the number of fields.
    pub(crate) const fn len(&self) -> usize {
        self.groups[0].len() + self.groups[1].len()
    }

    pub(crate) fn fields(&self) -> impl Iterator<Item = &'static Field> + use<> {
        let [one, two] = self.groups;
        one.iter().chain(two)
    }

    /// Return the index of a field by its (escaped) key.
    pub(crate) fn index_of(&self, key: &str) -> Option<usize> {
        if key.contains('\\') {
            return self.fields().position(|field| text::is_same(field.name, key));
        }
        let [one, two] = self.groups;
        let find = |fields: &[Field]| fields.iter().position(|field| field.name == key);
        find(one).or_else(|| Some(one.len() + find(two)?))
    }
}

pub(crate) const fn field(name: &'static str, rule: Rule, need: Need) -> Field {
    Field { name, rule, need }
}

pub(crate) const fn required(name: &'static str, rule: Rule) -> Field {
    field(name, rule, Need::Required)
}

pub(crate) const fn optional(name: &'static str, rule: Rule) -> Field {
    field(name, rule, Need::Optional)
}

pub(crate) const fn filled(name: &'static str, rule: Rule, json: &'static str) -> Field {
    field(name, rule, Need::Filled(json))
}
