//! JSON strings without decoding what need not be decoded.
use std::borrow::Cow;

/// The text of a JSON string given as it stands between its quotes; `None` where it holds half a surrogate pair.
pub fn decoded(escaped: &str) -> Option<Cow<'_, str>> {
    if !escaped.contains('\\') {
        return Some(Cow::Borrowed(escaped));
    }
    String::from_utf16(&utf16(escaped)).ok().map(Cow::Owned)
}

/// The UTF-16 units of an escaped text: lone surrogates included, so that any two texts can be compared.
pub fn utf16(escaped: &str) -> Vec<u16> {
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
                let hex = chars.as_str().get(..4).expect("checked before");
                units.push(u16::from_str_radix(hex, 16).expect("checked before"));
                chars.nth(3);
            }
            Some(plain) => units.extend_from_slice(plain.encode_utf16(&mut [0; 2])),
            None => break,
        }
    }
    units
}

/// Whether two escaped texts mean the same.
pub fn same(one: &str, other: &str) -> bool {
    one == other || ((one.contains('\\') || other.contains('\\')) && utf16(one) == utf16(other))
}

/// The JSON string, quotes included, that means `text`.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a str is always JSON")
}

/// What stands between the quotes of a JSON string; `None` for any other value.
pub fn inner(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"')
}
