//! Complete a truncated JSON text, such as a tool call's half-written arguments.
use std::str::Chars;

use crate::text;

/// What may follow at the end of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    /// A value, or the end of an array.
    FirstItem,
    /// A key, or the end of an object.
    FirstKey,
    Key,
    Colon,
    /// A comma, or the end of the open array or object.
    Comma,
}

/// The missing end of a truncated token; `None` if it cannot become JSON.
type Lack = Option<String>;

/// Return the shortest text that completes an escaped text to JSON; `None` if there is none.
///
/// An empty text becomes an empty object, because it stands for arguments.
pub(crate) fn complete(escaped: &str) -> Option<String> {
    // A lone surrogate counts as one character here, which does not affect what is missing.
    let json = String::from_utf16_lossy(&text::to_utf16(escaped));
    let json = json.trim_matches([' ', '\t', '\n', '\r']);
    if json.is_empty() {
        return Some("{}".into());
    }
    let mut open: Vec<char> = Vec::new();
    let mut next = Next::Value;
    let mut rest = String::new();
    let mut chars = json.chars();
    while let Some(c) = chars.next() {
        if matches!(c, ' ' | '\t' | '\n' | '\r') {
            continue;
        }
        if open.is_empty() && next == Next::Comma {
            return None;
        }
        let lack = match (next, c) {
            (Next::Value | Next::FirstItem, '{') => {
                open.push('}');
                next = Next::FirstKey;
                continue;
            }
            (Next::Value | Next::FirstItem, '[') => {
                open.push(']');
                next = Next::FirstItem;
                continue;
            }
            (Next::FirstKey | Next::Comma, '}') | (Next::FirstItem | Next::Comma, ']') if open.last() == Some(&c) => {
                open.pop();
                next = Next::Comma;
                continue;
            }
            (Next::Comma, ',') => {
                next = if open.last() == Some(&'}') { Next::Key } else { Next::Value };
                continue;
            }
            (Next::Colon, ':') => {
                next = Next::Value;
                continue;
            }
            (Next::FirstKey | Next::Key, '"') => {
                next = Next::Colon;
                read_string(&mut chars)?
            }
            (Next::Value | Next::FirstItem, _) => {
                next = Next::Comma;
                if c == '"' { read_string(&mut chars)? } else { read_scalar(c, &mut chars)? }
            }
            _ => return None,
        };
        rest = lack;
        if !rest.is_empty() && !chars.as_str().is_empty() {
            return None;
        }
    }
    rest.push_str(match next {
        Next::Value => "null",
        Next::Key => "\"\":null",
        Next::Colon => ":null",
        Next::FirstItem | Next::FirstKey | Next::Comma => "",
    });
    rest.extend(open.into_iter().rev());
    Some(rest)
}

/// Read the rest of a string.
fn read_string(chars: &mut Chars<'_>) -> Lack {
    while let Some(c) = chars.next() {
        match c {
            '"' => return Some(String::new()),
            '\\' => match chars.next() {
                Some('u') => {
                    for missing in (1..=4).rev() {
                        match chars.next() {
                            Some(digit) if digit.is_ascii_hexdigit() => {}
                            Some(_) => return None,
                            None => return Some(format!("{}\"", "0".repeat(missing))),
                        }
                    }
                }
                Some('"' | '\\' | '/' | 'b' | 'f' | 'n' | 'r' | 't') => {}
                Some(_) => return None,
                None => return Some("\\\"".into()),
            },
            ..='\x1f' => return None,
            _ => {}
        }
    }
    Some("\"".into())
}

/// Read the rest of a number or word that starts with a character.
fn read_scalar(first: char, chars: &mut Chars<'_>) -> Lack {
    let mut token = String::from(first);
    loop {
        let ahead = chars.clone().next();
        let Some(c) = ahead.filter(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')) else { break };
        token.push(c);
        chars.next();
    }
    for word in ["true", "false", "null"] {
        if let Some(missing) = word.strip_prefix(token.as_str()) {
            return Some(missing.into());
        }
    }
    // A number lacks at most one digit: after its sign, its point or its exponent.
    ["", "0"].into_iter().find(|missing| is_number(&format!("{token}{missing}"))).map(String::from)
}

fn is_number(token: &str) -> bool {
    token.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && serde_json::from_str::<serde_json::Number>(token).is_ok()
}
