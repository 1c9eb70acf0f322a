//! One validating pass over JSON text, eight bytes at a time inside strings.
//!
//! Nothing is decoded or built: the pass tells where values begin and end, and that the whole is JSON (RFC 8259).
//! `tests/scan.rs` holds it against `serde_json`.
use crate::error::{Error, Result};

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: u32 = 128;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

const fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

fn refuse(what: &str, at: usize) -> Error {
    Error::InvalidEvent(format!("not JSON: {what} at byte {at}"))
}

/// Past white space, from `at`.
#[inline]
pub fn space(json: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = json.get(at) {
        at += 1;
    }
    at
}

/// Past the closing quote of the string whose text begins at `at`.
#[inline]
pub fn string(json: &[u8], mut at: usize) -> Result<usize> {
    loop {
        while let Some(chunk) = json.get(at..at + 8) {
            let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            // A quote, a backslash, or a byte under 0x20; the lowest set bit is exact.
            let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
            let found = zero_bytes(word ^ (ONES * 0x22)) | zero_bytes(word ^ (ONES * 0x5c)) | control;
            if found != 0 {
                at += found.trailing_zeros() as usize / 8;
                break;
            }
            at += 8;
        }
        match json.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => at = escape(json, at + 1)?,
            Some(0..=0x1f) => return Err(refuse("a control character in a string", at)),
            Some(_) => at += 1,
            None => return Err(refuse("an unfinished string", at)),
        }
    }
}

fn escape(json: &[u8], at: usize) -> Result<usize> {
    match json.get(at) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 1),
        Some(b'u') => match json.get(at + 1..at + 5) {
            Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => Ok(at + 5),
            _ => Err(refuse("a bad \\u escape", at)),
        },
        _ => Err(refuse("a bad escape", at)),
    }
}

fn number(json: &[u8], mut at: usize) -> Result<usize> {
    let digits = |mut at: usize| {
        let from = at;
        while json.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        if at == from { Err(refuse("a bad number", at)) } else { Ok(at) }
    };
    if json.get(at) == Some(&b'-') {
        at += 1;
    }
    at = if json.get(at) == Some(&b'0') { at + 1 } else { digits(at)? };
    if json.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if let Some(b'e' | b'E') = json.get(at) {
        at += 1;
        if let Some(b'+' | b'-') = json.get(at) {
            at += 1;
        }
        at = digits(at)?;
    }
    Ok(at)
}

/// Past the value that begins at `at` (no white space before it), `depth` levels down already.
pub fn value(json: &[u8], at: usize, depth: u32) -> Result<usize> {
    match json.get(at) {
        Some(b'"') => string(json, at + 1),
        Some(b'{') => object(json, at, depth, |_, _| ()),
        Some(b'[') => array(json, at, depth, |_| ()),
        Some(b'-' | b'0'..=b'9') => number(json, at),
        Some(b't') => word(json, at, b"true"),
        Some(b'f') => word(json, at, b"false"),
        Some(b'n') => word(json, at, b"null"),
        Some(_) => Err(refuse("an unexpected character", at)),
        None => Err(refuse("an unexpected end", at)),
    }
}

fn word(json: &[u8], at: usize, word: &[u8]) -> Result<usize> {
    if json[at..].starts_with(word) { Ok(at + word.len()) } else { Err(refuse("an unexpected word", at)) }
}

fn deeper(depth: u32, at: usize) -> Result<u32> {
    if depth < MAX_DEPTH {
        Ok(depth + 1)
    } else {
        Err(Error::InvalidEvent(format!("nested deeper than {MAX_DEPTH} levels at byte {at}")))
    }
}

/// A range of the scanned text, as byte offsets.
pub type Span = (usize, usize);

/// Past the object that begins at `at`; `member` is given each key (without quotes) and value.
#[inline]
pub fn object(json: &[u8], at: usize, depth: u32, mut member: impl FnMut(Span, Span)) -> Result<usize> {
    let depth = deeper(depth, at)?;
    let mut at = space(json, at + 1);
    if json.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        if json.get(at) != Some(&b'"') {
            return Err(refuse("a key is expected", at));
        }
        let key_end = string(json, at + 1)?;
        let key = (at + 1, key_end - 1);
        at = space(json, key_end);
        if json.get(at) != Some(&b':') {
            return Err(refuse("a colon is expected", at));
        }
        at = space(json, at + 1);
        let end = value(json, at, depth)?;
        member(key, (at, end));
        at = space(json, end);
        match json.get(at) {
            Some(b',') => at = space(json, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return Err(refuse("a comma or a closing brace is expected", at)),
        }
    }
}

/// Past the array that begins at `at`; `element` is given each value.
#[inline]
pub fn array(json: &[u8], at: usize, depth: u32, mut element: impl FnMut(Span)) -> Result<usize> {
    let depth = deeper(depth, at)?;
    let mut at = space(json, at + 1);
    if json.get(at) == Some(&b']') {
        return Ok(at + 1);
    }
    loop {
        let end = value(json, at, depth)?;
        element((at, end));
        at = space(json, end);
        match json.get(at) {
            Some(b',') => at = space(json, at + 1),
            Some(b']') => return Ok(at + 1),
            _ => return Err(refuse("a comma or a closing bracket is expected", at)),
        }
    }
}

/// The JSON text as `str`, checked to be UTF-8 and one JSON value without anything around it but white space.
pub fn text(json: &[u8]) -> Result<&str> {
    text_within(json, 0)
}

/// [`text`] that is to stand so many levels deep in another.
pub fn text_within(json: &[u8], depth: u32) -> Result<&str> {
    let text = std::str::from_utf8(json).map_err(|error| Error::InvalidEvent(format!("not UTF-8: {error}")))?;
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    let end = value(text.as_bytes(), 0, depth)?;
    if end == text.len() { Ok(text) } else { Err(refuse("something after the value", end)) }
}

/// The members of a JSON object known to be valid, keys without quotes and still escaped; nothing for another value.
pub fn members(json: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    if json.starts_with('{') {
        let each = |key: Span, value: Span| found.push((&json[key.0..key.1], &json[value.0..value.1]));
        object(json.as_bytes(), 0, 0, each).expect("checked before");
    }
    found
}

/// The elements of a JSON array known to be valid; nothing for another value.
pub fn elements(json: &str) -> Vec<&str> {
    let mut found = Vec::new();
    if json.starts_with('[') {
        array(json.as_bytes(), 0, 0, |value| found.push(&json[value.0..value.1])).expect("checked before");
    }
    found
}

/// JSON known to be valid, without the white space between its parts.
pub fn minified(json: &str) -> String {
    let bytes = json.as_bytes();
    let mut out = String::with_capacity(json.len());
    let mut at = 0;
    while at < bytes.len() {
        let from = at;
        if bytes[at] == b'"' {
            at = string(bytes, at + 1).expect("checked before");
        } else {
            at = space(bytes, at);
            if at > from {
                continue;
            }
            at += 1;
        }
        out.push_str(&json[from..at]);
    }
    out
}
