//! JSON strings in their escaped form, decoded only when necessary.
use std::borrow::Cow;

/// Decode a string from its escaped text; `None` if it holds half a surrogate pair.
pub fn decode(escaped: &str) -> Option<Cow<'_, str>> {
    if !escaped.contains('\\') {
        return Some(Cow::Borrowed(escaped));
    }
    String::from_utf16(&to_utf16(escaped)).ok().map(Cow::Owned)
}

/// Decode an escaped text into UTF-16 units.
///
/// Lone surrogates survive in this form, so any two JSON strings can be compared.
pub fn to_utf16(escaped: &str) -> Vec<u16> {
    let mut units = Vec::with_capacity(escaped.len());
    let mut chars = escaped.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            continue;
        }
        match chars.next() {
            Some('b') => units.push(8),
            Some('t') => units.push(9),
            Some('n') => units.push(10),
            Some('f') => units.push(12),
            Some('r') => units.push(13),
            Some('u') => {
                let hex = chars.as_str().get(..4).expect("the scanner has checked the escape");
                units.push(u16::from_str_radix(hex, 16).expect("the scanner has checked the digits"));
                chars.nth(3);
            }
            // A quote, a backslash or a slash, which stand for themselves.
            Some(plain) => units.extend_from_slice(plain.encode_utf16(&mut [0; 2])),
            None => break,
        }
    }
    units
}

/// Return whether two escaped texts mean the same string.
pub fn is_same(one: &str, other: &str) -> bool {
    one == other || ((one.contains('\\') || other.contains('\\')) && to_utf16(one) == to_utf16(other))
}

/// Write `text` as a JSON string, quotes included.
pub fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("every str can be written as JSON")
}

/// Return the text between a JSON string's quotes, still escaped; `None` for any other value.
pub fn unquote(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"')
}

/// Return a JSON value as an error message shows it: a string's text, otherwise the JSON itself.
pub fn display(json: &str) -> Cow<'_, str> {
    unquote(json).and_then(decode).unwrap_or(Cow::Borrowed(json))
}

/// Return a number that depends on nothing but the text (FNV-1a), for ids that every replay must give again.
pub(crate) fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
