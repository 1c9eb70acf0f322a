//! JSON strings in their escaped form, decoded only when necessary.
use std::borrow::Cow;
use std::fmt::Write;

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
    let mut all = Vec::with_capacity(escaped.len());
    all.extend(units(escaped));
    all
}

/// Iterate over the UTF-16 units of an escaped text.
fn units(escaped: &str) -> impl Iterator<Item = u16> {
    let mut chars = escaped.chars();
    // The second half of a character outside the basic plane.
    let mut low_half = None;
    std::iter::from_fn(move || {
        if let Some(half) = low_half.take() {
            return Some(half);
        }
        let plain = match chars.next()? {
            '\\' => match chars.next()? {
                'b' => return Some(8),
                't' => return Some(9),
                'n' => return Some(10),
                'f' => return Some(12),
                'r' => return Some(13),
                'u' => {
                    let hex = chars.as_str().get(..4).expect("the scanner has checked the escape");
                    let unit = u16::from_str_radix(hex, 16).expect("the scanner has checked the digits");
                    chars.nth(3);
                    return Some(unit);
                }
                // A quote, a backslash or a slash, which stand for themselves.
                plain => plain,
            },
            plain => plain,
        };
        let mut buffer = [0; 2];
        let encoded = plain.encode_utf16(&mut buffer);
        low_half = encoded.get(1).copied();
        Some(encoded[0])
    })
}

/// Return whether two escaped texts mean the same string.
///
/// The comparison ends at the first difference, so a short text is never compared with the whole of a long one.
pub fn is_same(one: &str, other: &str) -> bool {
    if one == other {
        return true;
    }
    // Most keys differ in their first letter, and without an escape there they mean different strings.
    if let (Some(first), Some(other)) = (one.bytes().next(), other.bytes().next())
        && first != other
        && first != b'\\'
        && other != b'\\'
    {
        return false;
    }
    let common = one.bytes().zip(other.bytes()).take_while(|(byte, other)| byte == other).count();
    let is_plain = |text: &str| memchr::memchr(b'\\', &text.as_bytes()[..text.len().min(common + 1)]).is_none();
    // Without an escape up to the first difference, the texts differ there.
    !(is_plain(one) && is_plain(other)) && units(one).eq(units(other))
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
    extend_hash(0xcbf2_9ce4_8422_2325, text)
}

/// Return the number of a longer text, whose beginning has the number `hash`.
pub(crate) fn extend_hash(hash: u64, text: &str) -> u64 {
    text.bytes().fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Return an escaped text in the one spelling that all texts of its meaning share.
pub fn canonicalize(escaped: &str) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'\\', escaped.as_bytes()) else { return Cow::Borrowed(escaped) };
    let mut out = String::with_capacity(escaped.len());
    out.push_str(&escaped[..first]);
    let mut rest = &escaped[first..];
    while !rest.is_empty() {
        // Only escapes write halves of surrogates, so only units of neighbouring escapes can make a character.
        let plain = after_escapes(rest);
        for unit in char::decode_utf16(units(&rest[..rest.len() - plain.len()])) {
            push_canonical(&mut out, unit);
        }
        let end = memchr::memchr(b'\\', plain.as_bytes()).unwrap_or(plain.len());
        out.push_str(&plain[..end]);
        rest = &plain[end..];
    }
    Cow::Owned(out)
}

/// Return what follows the escapes that a text begins with.
fn after_escapes(mut text: &str) -> &str {
    while let [b'\\', kind, ..] = text.as_bytes() {
        text = &text[if *kind == b'u' { 6 } else { 2 }..];
    }
    text
}

fn push_canonical(out: &mut String, unit: std::result::Result<char, std::char::DecodeUtf16Error>) {
    let unit = match unit {
        // JSON requires an escape for control characters, and a lone surrogate can only be written as one.
        Ok(c @ ..='\x1f') => u16::try_from(c).expect("a control character"),
        Ok(c) => {
            out.extend(matches!(c, '"' | '\\').then_some('\\'));
            out.push(c);
            return;
        }
        Err(half) => half.unpaired_surrogate(),
    };
    write!(out, "\\u{unit:04x}").expect("a String takes everything");
}
