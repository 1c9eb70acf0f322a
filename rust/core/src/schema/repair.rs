//! Check a JSON value against a rule of a schema, and correct a value that does not fit.
use std::borrow::Cow;

use smallvec::{SmallVec, smallvec};

use super::fit::{Fit, Misfit, Mode};
use super::shape::{Field, Need, Rule, Shape};
use super::{patches, times};
use crate::members::{self, Members};
use crate::scan::{self, MemberVec};
use crate::text;

/// The verdict on one field: it stays, gets this JSON, is left out, or refuses the object.
enum Verdict<'j> {
    Stays,
    Becomes(Cow<'j, str>),
    Goes,
    Refuses(Misfit),
}

/// Correct, fill in or leave out the fields that do not fit, depending on each field's `Need`.
pub(crate) fn repair_object(shape: &Shape, members: &[(&str, &str)], mode: Mode) -> Fit {
    // If a key is repeated, the last value counts.
    let mut values: SmallVec<[Option<&str>; 12]> = smallvec![None; shape.len()];
    let mut has_unknown = false;
    for &(key, value) in members {
        match shape.index_of(key) {
            Some(index) => values[index] = Some(value),
            None => has_unknown = true,
        }
    }
    let mut changes: SmallVec<[(usize, Option<Cow<'_, str>>); 4]> = SmallVec::new();
    for (index, (field, value)) in shape.fields().zip(values).enumerate() {
        // Most fields are texts, or optional and missing; checking for that here is faster than a full verdict.
        match (value, field.need, field.rule) {
            (None, Need::Optional | Need::Nullable, _) => continue,
            (Some(value), _, Rule::Text) if value.starts_with('"') => continue,
            _ => {}
        }
        match judge(field, value, mode) {
            Verdict::Stays => {}
            Verdict::Becomes(json) => changes.push((index, Some(json))),
            Verdict::Goes => changes.push((index, None)),
            Verdict::Refuses(misfit) => return Fit::Refused(misfit),
        }
    }
    if changes.is_empty() && !(has_unknown && shape.is_strict) {
        return Fit::Fits;
    }
    let mut kept = MemberVec::new();
    for &(key, value) in members {
        match shape.index_of(key) {
            // Remove every occurrence, or an earlier value of a repeated key would count again.
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

fn judge(field: &Field, value: Option<&str>, mode: Mode) -> Verdict<'static> {
    let is_null = value == Some("null");
    let fit = match (value, field.need) {
        (None, Need::Optional | Need::Nullable) | (Some("null"), Need::Nullable) => return Verdict::Stays,
        (Some("null"), Need::Optional) => return Verdict::Goes,
        (Some(value), _) => repair(field.rule, value, mode),
        (None, _) => Fit::Refused(Misfit::at(String::new(), field.rule.describe(), None)),
    };
    let misfit = match fit {
        Fit::Fits => return Verdict::Stays,
        Fit::Repaired(json) => return Verdict::Becomes(json.into()),
        Fit::Refused(misfit) => misfit,
    };
    let is_lenient = mode == Mode::Lenient;
    match field.need {
        Need::Optional | Need::Nullable if is_lenient => Verdict::Goes,
        Need::RequiredOr(json) if is_lenient => Verdict::Becomes(json.into()),
        Need::Filled(json) if is_lenient || is_null || value.is_none() => Verdict::Becomes(json.into()),
        Need::NullAs(json) if is_lenient || is_null => Verdict::Becomes(json.into()),
        _ => Verdict::Refuses(misfit.inside(field.name)),
    }
}

pub(super) fn repair(rule: Rule, json: &str, mode: Mode) -> Fit {
    let is_number = || json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    let is_count =
        || json.parse().is_ok_and(|number: f64| number >= 0.0 && number.is_finite() && number.fract() == 0.0);
    let fits = match rule {
        Rule::OneOf(names) => text::unquote(json).and_then(text::decode).is_some_and(|text| names.contains(&&*text)),
        Rule::Only(name) if text::unquote(json).is_none_or(|text| !text::is_same(text, name)) => {
            return Fit::Repaired(text::quote(name));
        }
        Rule::Any | Rule::Only(_) => true,
        Rule::Number => is_number(),
        Rule::Count => is_count(),
        Rule::SafeCount => is_count() && times::is_safe_integer(json),
        Rule::Timestamp if times::is_safe_integer(json) => true,
        Rule::Timestamp => match times::milliseconds(json) {
            Some(number) => return Fit::Repaired(number.to_string()),
            None => false,
        },
        Rule::Bool => matches!(json, "true" | "false"),
        Rule::Map => json.starts_with('{'),
        Rule::List => json.starts_with('['),
        Rule::ListOf { item, at_least } => return repair_list(rule, *item, at_least, json, mode),
        Rule::Object(_) | Rule::Tagged(..) | Rule::OpenTagged(..) => {
            return repair_members(rule, json, &scan::members(json), mode);
        }
        Rule::PlainText | Rule::JoinedText => return repair_plain_text(rule, json),
        Rule::JsonText if json.starts_with(['{', '[']) || is_number() => return Fit::Repaired(quote_json(json)),
        Rule::Arguments if json.starts_with(['{', '[']) => return Fit::Repaired(quote_json(json)),
        Rule::Code if is_number() => return Fit::Repaired(text::quote(json)),
        Rule::Text | Rule::JsonText | Rule::Arguments | Rule::Code => json.starts_with('"'),
        Rule::ContentOf(_) | Rule::ResultOf(_) if json.starts_with('"') => true,
        Rule::ContentOf(part) => return repair_list(rule, *part, 0, json, mode),
        Rule::ResultOf(part) => return repair_result(*part, json),
        Rule::PartAsText(shapes) => return repair_part(shapes, json, mode),
        Rule::Patch => match patches::find_misfit(json) {
            Some(misfit) => return Fit::Refused(misfit),
            None => true,
        },
    };
    if fits { Fit::Fits } else { Fit::Refused(Misfit::of(rule.describe(), json)) }
}

/// Repair a value whose members are known already, if the rule is one for objects.
fn repair_members(rule: Rule, json: &str, members: &Members<'_>, mode: Mode) -> Fit {
    match rule {
        Rule::Object(shape) if json.starts_with('{') => repair_object(shape, members, mode),
        Rule::Tagged(tag, shapes) | Rule::OpenTagged(tag, shapes) if json.starts_with('{') => {
            repair_tagged(rule, tag, shapes, members, mode)
        }
        Rule::Object(_) | Rule::Tagged(..) | Rule::OpenTagged(..) => Fit::Refused(Misfit::of(rule.describe(), json)),
        _ => repair(rule, json, mode),
    }
}

fn repair_tagged(rule: Rule, tag: &'static str, shapes: &[(&str, Shape)], members: &Members<'_>, mode: Mode) -> Fit {
    let name = members::find_string(members, tag);
    match name.as_deref().and_then(|name| shapes.iter().find(|(known, _)| *known == name)) {
        Some((_, shape)) => repair_object(shape, members, mode),
        None if name.is_some() && matches!(rule, Rule::OpenTagged(..)) => Fit::Fits,
        None => {
            let names: Vec<_> = shapes.iter().map(|(name, _)| *name).collect();
            let expected = format!("one of '{}'", names.join("', '"));
            Fit::Refused(Misfit::at(tag.into(), expected, members::find(members, tag)))
        }
    }
}

/// Repair a list. If an item cannot be repaired, a strict reader refuses the list; a lenient one leaves the item out.
fn repair_list(rule: Rule, item: Rule, at_least: usize, json: &str, mode: Mode) -> Fit {
    if !json.starts_with('[') {
        return Fit::Refused(Misfit::of(rule.describe(), json));
    }
    let mut is_changed = false;
    let mut kept: Vec<Cow<'_, str>> = Vec::new();
    for (index, (element, members)) in scan::objects(json).enumerate() {
        match repair_members(item, element, &members, mode) {
            Fit::Fits => kept.push(element.into()),
            Fit::Repaired(json) => {
                kept.push(json.into());
                is_changed = true;
            }
            Fit::Refused(_) if mode == Mode::Lenient => is_changed = true,
            Fit::Refused(misfit) => return Fit::Refused(misfit.inside(&format!("[{index}]"))),
        }
    }
    match (kept.len() < at_least, is_changed) {
        (true, _) => Fit::Refused(Misfit::of(rule.describe(), json)),
        (false, false) => Fit::Fits,
        (false, true) => Fit::Repaired(format!("[{}]", kept.join(","))),
    }
}

/// Turn a value into text. Parts that are all text become their joined texts, any other value its own JSON.
fn repair_plain_text(rule: Rule, json: &str) -> Fit {
    if json.starts_with('"') {
        return Fit::Fits;
    }
    let texts: Option<Vec<&str>> = scan::elements(json).into_iter().map(text_of_part).collect();
    match (texts, rule) {
        (Some(texts), _) if json.starts_with('[') => Fit::Repaired(format!("\"{}\"", texts.concat())),
        (_, Rule::PlainText) if json != "null" => Fit::Repaired(quote_json(json)),
        _ => Fit::Refused(Misfit::of(rule.describe(), json)),
    }
}

/// Return the text of a content part; `None` for any other value.
fn text_of_part(part: &str) -> Option<&str> {
    let members = scan::members(part);
    let is_text = members::find_string(&members, "type").is_some_and(|name| name == "text");
    members::find(&members, "text").filter(|_| is_text).and_then(text::unquote)
}

/// Repair a tool's result that is not a string. A list stays a list only if all its items are parts.
fn repair_result(part: Rule, json: &str) -> Fit {
    match repair_list(Rule::List, part, 0, json, Mode::Strict) {
        Fit::Refused(misfit) if json == "null" => Fit::Refused(misfit),
        Fit::Refused(_) => Fit::Repaired(quote_json(json)),
        fit => fit,
    }
}

/// Repair a part of a user's message. A part the schema does not know becomes a text part that holds its JSON.
///
/// For 0.0.59, a `file` source could become a `binary` part with the file's id. But the client sends its messages back,
/// and 1.0 has no such part.
fn repair_part(shapes: &'static [(&'static str, Shape)], json: &str, mode: Mode) -> Fit {
    let fit = repair_members(Rule::Tagged("type", shapes), json, &scan::members(json), mode);
    let is_usable = match &fit {
        Fit::Fits => !is_empty_binary(json),
        Fit::Repaired(json) => !is_empty_binary(json),
        Fit::Refused(_) => false,
    };
    if is_usable { fit } else { Fit::Repaired(format!("{{\"type\":\"text\",\"text\":{}}}", text::quote(json))) }
}

/// Return whether this is a `binary` part without content.
fn is_empty_binary(part: &str) -> bool {
    let is_empty = |name| matches!(members::value_of(part, name), None | Some("\"\""));
    members::string_of(part, "type").is_some_and(|name| name == "binary")
        && ["id", "url", "data"].into_iter().all(is_empty)
}

/// Write a value's JSON as a string, without the white space between its parts.
fn quote_json(json: &str) -> String {
    text::quote(&scan::minify(json))
}
