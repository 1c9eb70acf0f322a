//! Checks a JSON value against a rule of the schema, and repairs a value that does not fit.
use std::borrow::Cow;

use smallvec::{SmallVec, smallvec};

use super::schema::{self, Need, Rule, Shape};
use crate::{members, scan, text};

/// Whether a value fits a rule.
pub(super) enum Fit {
    Fits,
    /// The value does not fit, but this JSON in its place does.
    Repaired(String),
    Refused,
}

/// An object's members, keys without quotes and still escaped.
pub(super) type Members<'j> = SmallVec<[(&'j str, &'j str); 8]>;

/// Repair, fill in or leave out the fields that do not fit, as their need says.
pub(super) fn repair_object(shape: &Shape, members: &[(&str, &str)]) -> Fit {
    // Of a repeated key the last value counts.
    let mut values: SmallVec<[Option<&str>; 12]> = smallvec![None; shape.fields().count()];
    let mut has_unknown = false;
    for &(key, value) in members {
        match shape.index_of(key) {
            Some(index) => values[index] = Some(value),
            None => has_unknown = true,
        }
    }
    let mut changes: SmallVec<[(usize, Option<Cow<'_, str>>); 4]> = SmallVec::new();
    for (index, (field, value)) in shape.fields().zip(values).enumerate() {
        let fit = match (value, field.need) {
            (None, Need::Optional | Need::Nullable) | (Some("null"), Need::Nullable) => Fit::Fits,
            (None, _) => Fit::Refused,
            (Some(value), _) => repair(field.rule, value),
        };
        match (fit, field.need) {
            (Fit::Fits, _) => {}
            (Fit::Repaired(json), _) => changes.push((index, Some(json.into()))),
            (Fit::Refused, Need::Optional | Need::Nullable) => changes.push((index, None)),
            (Fit::Refused, Need::Filled(json)) => changes.push((index, Some(json.into()))),
            (Fit::Refused, Need::Required) => return Fit::Refused,
        }
    }
    if changes.is_empty() && !(has_unknown && shape.is_strict) {
        return Fit::Fits;
    }
    let mut kept: Members<'_> = SmallVec::new();
    for &(key, value) in members {
        match shape.index_of(key) {
            // Every occurrence goes, or an earlier value of a repeated key would count again.
            Some(index) if changes.iter().any(|(changed, _)| *changed == index) => {}
            // 0.0.59 refuses a strict object for any unknown field.
            None if shape.is_strict => {}
            _ => kept.push((key, value)),
        }
    }
    for (index, json) in &changes {
        let name = shape.fields().nth(*index).map(|field| field.name);
        kept.extend(name.zip(json.as_deref()));
    }
    Fit::Repaired(members::write_object(kept.into_iter()))
}

fn repair(rule: Rule, json: &str) -> Fit {
    let fits = match rule {
        Rule::Text => json.starts_with('"'),
        Rule::OneOf(names) => text::unquote(json).and_then(text::decode).is_some_and(|text| names.contains(&&*text)),
        Rule::Number => json.starts_with(|c: char| c == '-' || c.is_ascii_digit()),
        Rule::Count => {
            json.parse().is_ok_and(|number: f64| number >= 0.0 && number.is_finite() && number.fract() == 0.0)
        }
        Rule::Bool => matches!(json, "true" | "false"),
        Rule::Map => json.starts_with('{'),
        Rule::List => json.starts_with('['),
        Rule::ListOf { item, at_least } => return repair_list(*item, at_least, json),
        Rule::Object(shape) if json.starts_with('{') => return repair_object(shape, &scan::members(json)),
        Rule::Object(_) => false,
        Rule::Tagged(tag, shapes) => return repair_tagged(tag, shapes, json),
        Rule::PlainText => return repair_plain_text(json),
        Rule::UserContent if json.starts_with('"') => true,
        Rule::UserContent => return repair_list(Rule::ContentPart, 0, json),
        Rule::ContentPart => return repair_content_part(json),
    };
    if fits { Fit::Fits } else { Fit::Refused }
}

fn repair_tagged(tag: &str, shapes: &[(&str, Shape)], json: &str) -> Fit {
    let members = scan::members(json);
    let name = members::find_string(&members, tag);
    match name.and_then(|name| shapes.iter().find(|(known, _)| *known == name)) {
        Some((_, shape)) => repair_object(shape, &members),
        None => Fit::Refused,
    }
}

/// Repair a list; items that cannot be repaired are left out.
fn repair_list(item: Rule, at_least: usize, json: &str) -> Fit {
    if !json.starts_with('[') {
        return Fit::Refused;
    }
    let mut is_changed = false;
    let mut kept: Vec<Cow<'_, str>> = Vec::new();
    for element in scan::elements(json) {
        match repair(item, element) {
            Fit::Fits => kept.push(element.into()),
            Fit::Repaired(json) => {
                kept.push(json.into());
                is_changed = true;
            }
            Fit::Refused => is_changed = true,
        }
    }
    match (kept.len() < at_least, is_changed) {
        (true, _) => Fit::Refused,
        (false, false) => Fit::Fits,
        (false, true) => Fit::Repaired(format!("[{}]", kept.join(","))),
    }
}

/// Turn a value into text. Parts that are all text become their joined texts, any other value its own JSON.
fn repair_plain_text(json: &str) -> Fit {
    if json.starts_with('"') {
        return Fit::Fits;
    }
    if json == "null" {
        return Fit::Refused;
    }
    let texts: Option<Vec<&str>> = scan::elements(json).into_iter().map(text_of_part).collect();
    match texts {
        Some(texts) if json.starts_with('[') => Fit::Repaired(format!("\"{}\"", texts.concat())),
        _ => Fit::Repaired(text::quote(json)),
    }
}

fn text_of_part(part: &str) -> Option<&str> {
    let members = scan::members(part);
    let is_text = members::find_string(&members, "type").is_some_and(|name| name == "text");
    members::find(&members, "text").filter(|_| is_text).and_then(text::unquote)
}

/// Repair a part of a user's message. A part 0.0.59 does not know becomes a text part that holds its JSON.
///
/// A `file` source could become a `binary` part with the file's id. But the client sends its messages back, and 1.0 has
/// no such part.
fn repair_content_part(json: &str) -> Fit {
    let fit = repair_tagged("type", schema::CONTENT_PARTS, json);
    let is_usable = match &fit {
        Fit::Fits => !is_empty_binary(json),
        Fit::Repaired(json) => !is_empty_binary(json),
        Fit::Refused => false,
    };
    if is_usable { fit } else { Fit::Repaired(format!("{{\"type\":\"text\",\"text\":{}}}", text::quote(json))) }
}

/// Return whether this is a `binary` part without content.
fn is_empty_binary(part: &str) -> bool {
    let is_empty = |name| matches!(members::value_of(part, name), None | Some("\"\""));
    members::string_of(part, "type").is_some_and(|name| name == "binary")
        && ["id", "url", "data"].into_iter().all(is_empty)
}
