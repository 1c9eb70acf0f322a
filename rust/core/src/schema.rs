//! Event schemas as tables of fields, and their verdict on a value: it fits, it is corrected, or it is refused.
//!
//! There are two tables: AG-UI 1.0 ([`current`]), which decides what a recorder keeps, and 0.0.59
//! (`legacy::schema`), which decides what a legacy client gets. Fields that a table does not name hold any value.
use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::event::Event;
use crate::family::{Family, Part, Role};
use crate::kind::Kind;
use crate::scan;

mod current;
pub(crate) mod fit;
mod patches;
pub(crate) mod repair;
pub(crate) mod shape;
mod times;

use fit::{Fit, Misfit, Mode};

/// Return an event in the form that a recorder keeps: valid in the 1.0 schema, and without line breaks, which would end
/// an SSE frame.
///
/// A field with one obvious meaning is corrected. Returns [`Error::InvalidEvent`] for anything else, with the kind, the
/// path of the field and what was expected. An event of an unknown kind, and an unknown field, stays as it is.
pub fn conform<'e>(event: &Event<'e>) -> Result<Cow<'e, str>> {
    if is_plain_stream_event(event) {
        return Ok(without_line_breaks(Cow::Borrowed(event.json())));
    }
    if event.type_name().is_empty() {
        return Err(Error::InvalidEvent("an event's `type` must not be empty".into()));
    }
    match repair_event(event, Mode::Strict) {
        Fit::Fits => Ok(without_line_breaks(Cow::Borrowed(event.json()))),
        Fit::Repaired(json) => Ok(without_line_breaks(Cow::Owned(json))),
        Fit::Refused(misfit) => Err(Error::InvalidEvent(misfit.describe(event.type_name()))),
    }
}

/// Return a stored event in a form that a 1.0 client can read; `None` if it cannot be corrected.
///
/// A field that does not fit is corrected or left out. Events of other programs, and of versions that did not check
/// fields, may need this.
pub fn mend<'e>(event: &Event<'e>) -> Option<Cow<'e, str>> {
    if is_plain_stream_event(event) {
        return Some(without_line_breaks(Cow::Borrowed(event.json())));
    }
    match repair_event(event, Mode::Lenient) {
        Fit::Fits => Some(without_line_breaks(Cow::Borrowed(event.json()))),
        Fit::Repaired(json) => Some(without_line_breaks(Cow::Owned(json))),
        Fit::Refused(_) => None,
    }
}

/// Return a run's input for its `RUN_STARTED`: fields that do not fit the 1.0 schema are corrected or left out.
pub fn mend_input(input: &str) -> Cow<'_, str> {
    match repair::repair_object(&current::INPUT, &scan::members(input), Mode::Lenient) {
        Fit::Repaired(json) => Cow::Owned(json),
        Fit::Fits | Fit::Refused(_) => Cow::Borrowed(input),
    }
}

/// Return whether an event of a stream obviously fits its shape, as most events of a run do. No table is needed for
/// those.
///
/// Such an event has each required field, no field twice, and no optional field that only some kinds have.
#[inline]
fn is_plain_stream_event(event: &Event<'_>) -> bool {
    const TYPE: u8 = 1;
    const ID: u8 = 2;
    const OWN: u8 = 4;
    let Role::Stream(family, part) = event.role() else { return false };
    let id_field = family.id_field();
    // The required field besides those two, and its value if only one is possible.
    let (own_field, own_value) = match (family, part) {
        (_, Part::Delta) => ("delta", None),
        (Family::ToolCall, Part::Start) => ("toolCallName", None),
        (Family::Reasoning, Part::Start) => ("role", Some("\"reasoning\"")),
        // A text message may also have none, and then the table decides.
        (Family::Text, Part::Start) => ("role", Some("\"assistant\"")),
        (_, Part::End) => ("", None),
    };
    let mut seen = 0;
    let is_plain = event.members().all(|(key, value)| {
        let field = match key {
            "type" => TYPE,
            _ if key == id_field => ID,
            _ if key == own_field => OWN,
            "timestamp" => return times::is_short_integer(value),
            _ => return false,
        };
        let is_new = seen & field == 0;
        seen |= field;
        is_new && value.starts_with('"') && (field != OWN || own_value.is_none_or(|only| only == value))
    });
    is_plain && seen == if part == Part::End { TYPE | ID } else { TYPE | ID | OWN }
}

fn repair_event(event: &Event<'_>, mode: Mode) -> Fit {
    if event.kind() == Kind::Unknown {
        // Clients skip an event whose type they do not know, and refuse a stream with one whose type is empty.
        return if event.type_name().is_empty() { Fit::Refused(Misfit::default()) } else { Fit::Fits };
    }
    let members: scan::MemberVec<'_> = event.members().collect();
    repair::repair_object(&current::shape_of(event), &members, mode)
}

fn without_line_breaks(json: Cow<'_, str>) -> Cow<'_, str> {
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_some() { Cow::Owned(scan::minify(&json)) } else { json }
}
