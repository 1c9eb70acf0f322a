//! The shape of a JSON Patch (RFC 6902), as AG-UI 1.0 checks it. Whether it can be applied is not checked here.
use super::fit::Misfit;
use crate::members::Members;
use crate::text::canonicalize;
use crate::{members, scan, text};

const POINTER: &str = "a JSON Pointer: empty, or tokens that each begin with `/`, with `~` only as `~0` or `~1`";

/// Return the reason why a patch's shape is invalid; `None` if it is valid.
pub(super) fn find_misfit(patch: &str) -> Option<Misfit> {
    if !patch.starts_with('[') {
        return Some(Misfit::of("a list of JSON Patch operations", patch));
    }
    scan::objects(patch).enumerate().find_map(|(index, (operation, members))| {
        Some(find_in_operation(operation, &members)?.inside(&format!("[{index}]")))
    })
}

fn find_in_operation(operation: &str, members: &Members<'_>) -> Option<Misfit> {
    if !operation.starts_with('{') {
        return Some(Misfit::of("an object", operation));
    }
    let value_of = |name: &str| members::find(members, name);
    let find_in_pointer = |name: &str| {
        let pointer = value_of(name);
        let is_valid = pointer.and_then(text::unquote).is_some_and(is_pointer);
        (!is_valid).then(|| Misfit::at(name.into(), POINTER, pointer))
    };
    let other = match members::find_string(members, "op").as_deref() {
        Some("remove") => None,
        // Its value may be null, but not missing.
        Some("add" | "replace" | "test") if value_of("value").is_some() => None,
        Some("add" | "replace" | "test") => Some(Misfit::at("value".into(), "a value", None)),
        Some("move" | "copy") => find_in_pointer("from"),
        _ => {
            let expected = "one of 'add', 'remove', 'replace', 'move', 'copy', 'test'";
            Some(Misfit::at("op".into(), expected, value_of("op")))
        }
    };
    other.or_else(|| find_in_pointer("path"))
}

/// Return whether an escaped text is a JSON Pointer (RFC 6901).
fn is_pointer(escaped: &str) -> bool {
    // In its canonical spelling `/` and `~` are never written as JSON escapes.
    let pointer = canonicalize(escaped);
    let mut rest = pointer.as_bytes();
    if !rest.is_empty() && rest[0] != b'/' {
        return false;
    }
    while let Some(at) = memchr::memchr(b'~', rest) {
        if !matches!(rest.get(at + 1), Some(b'0' | b'1')) {
            return false;
        }
        rest = &rest[at + 2..];
    }
    true
}
