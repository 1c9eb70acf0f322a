//! A JSON value and a rule of the schema: whether it fits, and what fits in its place.
use std::borrow::Cow;

use smallvec::{SmallVec, smallvec};

use super::schema::{self, Need, Rule, Shape};
use crate::event::object_of;
use crate::lifecycle::{field, field_in, string, string_in};
use crate::{scan, text};

/// How a value stands to a rule.
pub(super) enum Fit {
    Fits,
    /// It does not fit, this JSON in its place does.
    Mended(String),
    Refused,
}

/// An object's members, keys without quotes and still escaped.
pub(super) type Members<'j> = SmallVec<[(&'j str, &'j str); 8]>;

/// Fields that do not fit are mended, put in or left out, as their need says.
pub(super) fn object(shape: &Shape, members: &[(&str, &str)]) -> Fit {
    // Of a repeated key the last value counts.
    let mut values: SmallVec<[Option<&str>; 12]> = smallvec![None; shape.fields().count()];
    let mut unknown = false;
    for &(key, value) in members {
        match shape.place(key) {
            Some(at) => values[at] = Some(value),
            None => unknown = true,
        }
    }
    let mut changes: SmallVec<[(usize, Option<Cow<'_, str>>); 4]> = SmallVec::new();
    for (at, (field, value)) in shape.fields().zip(values).enumerate() {
        let fit = match (value, field.need) {
            (None, Need::Optional | Need::Nullable) | (Some("null"), Need::Nullable) => Fit::Fits,
            (None, _) => Fit::Refused,
            (Some(value), _) => fit(field.rule, value),
        };
        match (fit, field.need) {
            (Fit::Fits, _) => {}
            (Fit::Mended(json), _) => changes.push((at, Some(json.into()))),
            (Fit::Refused, Need::Optional | Need::Nullable) => changes.push((at, None)),
            (Fit::Refused, Need::Filled(json)) => changes.push((at, Some(json.into()))),
            (Fit::Refused, Need::Required) => return Fit::Refused,
        }
    }
    if changes.is_empty() && !(unknown && shape.strict) {
        return Fit::Fits;
    }
    let mut kept: Members<'_> = SmallVec::new();
    for &(key, value) in members {
        match shape.place(key) {
            Some(at) if changes.iter().any(|(changed, _)| *changed == at) => {}
            None if shape.strict => {}
            _ => kept.push((key, value)),
        }
    }
    for (at, json) in &changes {
        let name = shape.fields().nth(*at).map(|field| field.name);
        kept.extend(name.zip(json.as_deref()));
    }
    Fit::Mended(object_of(kept.into_iter()))
}

fn fit(rule: Rule, json: &str) -> Fit {
    let fits = match rule {
        Rule::Text => json.starts_with('"'),
        Rule::OneOf(names) => text::inner(json).and_then(text::decoded).is_some_and(|text| names.contains(&&*text)),
        Rule::Number => json.starts_with(|c: char| c == '-' || c.is_ascii_digit()),
        Rule::Count => {
            json.parse().is_ok_and(|number: f64| number >= 0.0 && number.is_finite() && number.fract() == 0.0)
        }
        Rule::Bool => matches!(json, "true" | "false"),
        Rule::Map => json.starts_with('{'),
        Rule::List => json.starts_with('['),
        Rule::ListOf { item, least } => return list(*item, least, json),
        Rule::Object(shape) => return object_at(shape, json),
        Rule::Tagged(tag, shapes) => return tagged(tag, shapes, json),
        Rule::Words => return words(json),
        Rule::Content if json.starts_with('"') => true,
        Rule::Content => return list(Rule::Part, 0, json),
        Rule::Part => return part(json),
    };
    if fits { Fit::Fits } else { Fit::Refused }
}

fn object_at(shape: &Shape, json: &str) -> Fit {
    if json.starts_with('{') { object(shape, &scan::members(json)) } else { Fit::Refused }
}

fn tagged(tag: &str, shapes: &[(&str, Shape)], json: &str) -> Fit {
    let members = scan::members(json);
    let name = string_in(&members, tag);
    match name.and_then(|name| shapes.iter().find(|(known, _)| *known == name)) {
        Some((_, shape)) => object(shape, &members),
        None => Fit::Refused,
    }
}

/// Items that cannot be mended are left out.
fn list(item: Rule, least: usize, json: &str) -> Fit {
    if !json.starts_with('[') {
        return Fit::Refused;
    }
    let mut changed = false;
    let mut kept: Vec<Cow<'_, str>> = Vec::new();
    for element in scan::elements(json) {
        match fit(item, element) {
            Fit::Fits => kept.push(element.into()),
            Fit::Mended(json) => {
                kept.push(json.into());
                changed = true;
            }
            Fit::Refused => changed = true,
        }
    }
    match (kept.len() < least, changed) {
        (true, _) => Fit::Refused,
        (false, false) => Fit::Fits,
        (false, true) => Fit::Mended(format!("[{}]", kept.join(","))),
    }
}

/// Parts that are all text become their texts, one behind the other; any other value its own JSON as text.
fn words(json: &str) -> Fit {
    if json.starts_with('"') {
        return Fit::Fits;
    }
    if json == "null" {
        return Fit::Refused;
    }
    let texts: Option<Vec<&str>> = scan::elements(json).into_iter().map(text_of_part).collect();
    match texts {
        Some(texts) if json.starts_with('[') => Fit::Mended(format!("\"{}\"", texts.concat())),
        _ => Fit::Mended(text::quoted(json)),
    }
}

fn text_of_part(part: &str) -> Option<&str> {
    let members = scan::members(part);
    let is_text = string_in(&members, "type").is_some_and(|name| name == "text");
    field_in(&members, "text").filter(|_| is_text).and_then(text::inner)
}

/// A part of a user's message; one that 0.0.59 does not know (a `file` source) becomes a text part that holds its JSON.
/// Not a `binary` part with the file's id: the client sends its messages back, and 1.0 knows no such part.
fn part(json: &str) -> Fit {
    let fit = tagged("type", schema::PARTS, json);
    let known = match &fit {
        Fit::Fits => !hollow(json),
        Fit::Mended(json) => !hollow(json),
        Fit::Refused => false,
    };
    if known { fit } else { Fit::Mended(format!("{{\"type\":\"text\",\"text\":{}}}", text::quoted(json))) }
}

/// Whether this is a `binary` part without anything in it.
fn hollow(part: &str) -> bool {
    let empty = |name| matches!(field(part, name), None | Some("\"\""));
    string(part, "type").is_some_and(|name| name == "binary") && ["id", "url", "data"].into_iter().all(empty)
}
