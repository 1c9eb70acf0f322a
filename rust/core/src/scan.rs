//! One validating pass over JSON text (RFC 8259), eight bytes at a time inside strings.
//!
//! The pass decodes and builds nothing; it finds where values begin and end. `tests/scan.rs` compares its verdicts with
//! those of `serde_json`.
use smallvec::SmallVec;

use crate::error::{Error, Result};

/// How many levels arrays and objects may nest. The scanner recurses, so without a limit a text could exhaust the stack.
pub const MAX_DEPTH: u32 = 128;

/// Why scanning a text again cannot fail.
pub(crate) const VALID: &str = "the text was validated before";

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

/// Set the high bit of each zero byte. Only the lowest set bit is exact, because a borrow can pass through the others.
const fn mark_zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

fn syntax_error(what: &str, at: usize) -> Error {
    Error::InvalidEvent(format!("not JSON: {what} at byte {at}"))
}

/// Skip white space; return the offset after it.
#[inline]
pub fn skip_space(json: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = json.get(at) {
        at += 1;
    }
    at
}

/// Skip the string whose text begins at `at`; return the offset after its closing quote.
#[inline]
pub fn skip_string(json: &[u8], mut at: usize) -> Result<usize> {
    loop {
        // Skips eight bytes at a time until one of them is a quote, a backslash or a control character.
        while let Some(chunk) = json.get(at..at + 8) {
            // Little-endian, so that the lowest bits are the first byte.
            let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
            // `!word` leaves out the bytes of non-ASCII characters, whose high bit is set.
            let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
            let quote = mark_zero_bytes(word ^ (ONES * 0x22));
            let backslash = mark_zero_bytes(word ^ (ONES * 0x5c));
            let special = quote | backslash | control;
            if special != 0 {
                at += special.trailing_zeros() as usize / 8;
                break;
            }
            at += 8;
        }
        match json.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') => {
                at = skip_escape(json, at + 1)?;
                // Escapes often follow one another, and searching eight bytes for each takes several times as long.
                while json.get(at) == Some(&b'\\') {
                    at = skip_escape(json, at + 1)?;
                }
            }
            Some(0..=0x1f) => return Err(syntax_error("a control character in a string", at)),
            Some(_) => at += 1,
            None => return Err(syntax_error("an unfinished string", at)),
        }
    }
}

fn skip_escape(json: &[u8], at: usize) -> Result<usize> {
    match json.get(at) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(at + 1),
        Some(b'u') => match json.get(at + 1..at + 5) {
            Some(hex) if hex.iter().all(u8::is_ascii_hexdigit) => Ok(at + 5),
            _ => Err(syntax_error("a bad \\u escape", at)),
        },
        _ => Err(syntax_error("a bad escape", at)),
    }
}

fn skip_number(json: &[u8], mut at: usize) -> Result<usize> {
    let digits = |mut at: usize| {
        let from = at;
        while json.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        if at == from { Err(syntax_error("a bad number", at)) } else { Ok(at) }
    };
    if json.get(at) == Some(&b'-') {
        at += 1;
    }
    // JSON has no leading zeros: after a `0` only a fraction or an exponent may follow.
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

/// Skip the value that begins at `at`, without white space before it; return the offset after it.
///
/// `depth` is the number of arrays and objects around the value.
pub fn skip_value(json: &[u8], at: usize, depth: u32) -> Result<usize> {
    match json.get(at) {
        Some(b'"') => skip_string(json, at + 1),
        Some(b'{') => scan_object(json, at, depth, |_, _| ()),
        Some(b'[') => scan_array(json, at, depth, |_| ()),
        Some(b'-' | b'0'..=b'9') => skip_number(json, at),
        Some(b't') => skip_word(json, at, b"true"),
        Some(b'f') => skip_word(json, at, b"false"),
        Some(b'n') => skip_word(json, at, b"null"),
        Some(_) => Err(syntax_error("an unexpected character", at)),
        None => Err(syntax_error("an unexpected end", at)),
    }
}

fn skip_word(json: &[u8], at: usize, word: &[u8]) -> Result<usize> {
    if json[at..].starts_with(word) { Ok(at + word.len()) } else { Err(syntax_error("an unexpected word", at)) }
}

fn descend(depth: u32, at: usize) -> Result<u32> {
    if depth < MAX_DEPTH {
        Ok(depth + 1)
    } else {
        Err(Error::InvalidEvent(format!("nested deeper than {MAX_DEPTH} levels at byte {at}")))
    }
}

/// A range of the scanned text, as two byte offsets.
pub type Span = (usize, usize);

/// Scan the object that begins at `at`; return the offset after it.
///
/// Calls `member` with each key, without its quotes, and each value.
#[inline]
pub fn scan_object(json: &[u8], at: usize, depth: u32, mut member: impl FnMut(Span, Span)) -> Result<usize> {
    let depth = descend(depth, at)?;
    let mut at = skip_space(json, at + 1);
    if json.get(at) == Some(&b'}') {
        return Ok(at + 1);
    }
    loop {
        if json.get(at) != Some(&b'"') {
            return Err(syntax_error("expected a key", at));
        }
        let key_end = skip_string(json, at + 1)?;
        let key = (at + 1, key_end - 1);
        at = skip_space(json, key_end);
        if json.get(at) != Some(&b':') {
            return Err(syntax_error("expected a colon", at));
        }
        at = skip_space(json, at + 1);
        let end = skip_value(json, at, depth)?;
        member(key, (at, end));
        at = skip_space(json, end);
        match json.get(at) {
            Some(b',') => at = skip_space(json, at + 1),
            Some(b'}') => return Ok(at + 1),
            _ => return Err(syntax_error("expected a comma or a closing brace", at)),
        }
    }
}

/// Scan the array that begins at `at`; return the offset after it.
///
/// Calls `element` with each value.
#[inline]
pub fn scan_array(json: &[u8], at: usize, depth: u32, mut element: impl FnMut(Span)) -> Result<usize> {
    let depth = descend(depth, at)?;
    let mut at = skip_space(json, at + 1);
    if json.get(at) == Some(&b']') {
        return Ok(at + 1);
    }
    loop {
        let end = skip_value(json, at, depth)?;
        element((at, end));
        at = skip_space(json, end);
        match json.get(at) {
            Some(b',') => at = skip_space(json, at + 1),
            Some(b']') => return Ok(at + 1),
            _ => return Err(syntax_error("expected a comma or a closing bracket", at)),
        }
    }
}

/// Check that `json` is UTF-8 and one JSON value; return its text without white space around it.
pub fn validate(json: &[u8]) -> Result<&str> {
    validate_within(json, 0)
}

/// [`validate`] a value that will be nested `depth` levels deep in another one.
pub fn validate_within(json: &[u8], depth: u32) -> Result<&str> {
    let text = std::str::from_utf8(json).map_err(|error| Error::InvalidEvent(format!("not UTF-8: {error}")))?;
    let text = text.trim_matches([' ', '\t', '\n', '\r']);
    let end = skip_value(text.as_bytes(), 0, depth)?;
    if end == text.len() { Ok(text) } else { Err(syntax_error("unexpected text after the value", end)) }
}

/// Return at least as many as a JSON parser builds values from `json`, keys included.
///
/// The text is not checked. Where it is not JSON, or nested over `max_depth`, a parser stops no later than the count.
pub fn count_values(json: &[u8], max_depth: usize) -> usize {
    let (mut count, mut depth, mut at) = (1, 0, 0);
    while let Some(byte) = json.get(at) {
        at += 1;
        match byte {
            b'"' => match skip_string(json, at) {
                Ok(end) => at = end,
                Err(_) => break,
            },
            b',' | b':' => count += 1,
            b'[' | b'{' if depth > max_depth => break,
            b'[' | b'{' => (count, depth) = (count + 1, depth + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    count
}

/// Call `each` with the text of every string in `json`, still escaped and without its quotes; `json` is not checked.
pub fn each_string<'j>(json: &'j [u8], mut each: impl FnMut(&'j [u8])) {
    let mut at = 0;
    while let Some(byte) = json.get(at) {
        at += 1;
        if *byte == b'"' {
            let Ok(end) = skip_string(json, at) else { return };
            each(&json[at..end - 1]);
            at = end;
        }
    }
}

/// Return the members of a valid JSON object, keys without quotes and still escaped; none for another value.
pub fn members(json: &str) -> Vec<(&str, &str)> {
    let mut members = Vec::new();
    if json.starts_with('{') {
        let add = |key: Span, value: Span| members.push((&json[key.0..key.1], &json[value.0..value.1]));
        scan_object(json.as_bytes(), 0, 0, add).expect(VALID);
    }
    members
}

/// Return the elements of a valid JSON array; none for another value.
pub fn elements(json: &str) -> Vec<&str> {
    let mut elements = Vec::new();
    if json.starts_with('[') {
        let add = |value: Span| elements.push(&json[value.0..value.1]);
        scan_array(json.as_bytes(), 0, 0, add).expect(VALID);
    }
    elements
}

/// An object's members: keys without quotes and still escaped, values as JSON.
pub type MemberVec<'j> = SmallVec<[(&'j str, &'j str); 8]>;

/// Iterate over the elements of a valid JSON array, each with its members; one that is not an object has none.
///
/// Each element is scanned once. [`elements`], and [`members`] of each, would scan them twice.
pub fn objects(json: &str) -> impl Iterator<Item = (&str, MemberVec<'_>)> {
    let bytes = json.as_bytes();
    let mut at = if json.starts_with('[') { skip_space(bytes, 1) } else { bytes.len() };
    std::iter::from_fn(move || {
        if let None | Some(b']') = bytes.get(at) {
            return None;
        }
        let mut members = MemberVec::new();
        let end = if bytes[at] == b'{' {
            let add = |key: Span, value: Span| members.push((&json[key.0..key.1], &json[value.0..value.1]));
            scan_object(bytes, at, 0, add)
        } else {
            skip_value(bytes, at, 0)
        };
        let element = &json[at..end.expect(VALID)];
        at = skip_comma(bytes, at + element.len());
        Some((element, members))
    })
}

/// Skip white space, and a comma if there is one, between the elements or members of valid JSON.
pub(crate) fn skip_comma(json: &[u8], at: usize) -> usize {
    let at = skip_space(json, at);
    if json[at] == b',' { skip_space(json, at + 1) } else { at }
}

/// Return valid JSON without white space outside its strings.
pub fn minify(json: &str) -> String {
    let bytes = json.as_bytes();
    let mut out = String::with_capacity(json.len());
    let mut at = 0;
    while at < bytes.len() {
        let from = at;
        if bytes[at] == b'"' {
            at = skip_string(bytes, at + 1).expect(VALID);
        } else {
            at = skip_space(bytes, at);
            if at > from {
                continue;
            }
            at += 1;
        }
        out.push_str(&json[from..at]);
    }
    out
}
