//! JSON pointers (RFC 6901).
use std::borrow::Cow;

use smallvec::SmallVec;

use super::failure::Outcome;

/// Properties of every JavaScript object, which the reference replaces and removes even if the document lacks them.
pub(super) const INHERITED: &[&str] = &[
    "constructor",
    "__defineGetter__",
    "__defineSetter__",
    "hasOwnProperty",
    "__lookupGetter__",
    "__lookupSetter__",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "toString",
    "valueOf",
    "toLocaleString",
];

/// Split a JSON pointer into its tokens. In its canonical spelling `/` and `~` are never written as JSON escapes.
pub(super) fn parse_pointer(path: &str) -> Outcome<SmallVec<[Cow<'_, str>; 8]>> {
    if path.is_empty() {
        return Ok(SmallVec::new());
    }
    let path = path.strip_prefix('/').ok_or("a pointer must be empty or start with `/`")?;
    let has_escapes = path.contains('~');
    let decode = |token| {
        if !has_escapes {
            return Cow::Borrowed(token);
        }
        // In this order, so that `~01` becomes `~1` and not `/` (RFC 6901, section 4).
        Cow::Owned(str::replace(token, "~1", "/").replace("~0", "~"))
    };
    let tokens: SmallVec<[_; 8]> = path.split('/').map(decode).collect();
    // A JavaScript client that applied such a path would change its own prototypes.
    let is_prototype = tokens.windows(2).any(|pair| pair[0] == "constructor" && pair[1] == "prototype");
    if is_prototype || tokens.iter().any(|token| token == "__proto__") {
        return Err("`__proto__` and `constructor/prototype` are refused".into());
    }
    Ok(tokens)
}

/// Return whether an array's index has its one spelling: a number without leading zeros.
pub(super) fn is_index(token: &str) -> bool {
    token == "0" || token.starts_with(|digit: char| digit.is_ascii_digit() && digit != '0')
}

/// Parse an array's index, which has digits only. The empty token is zero, as in the reference.
pub(super) fn parse_index(token: &str) -> Option<usize> {
    match token {
        "" => Some(0),
        _ if token.bytes().all(|byte| byte.is_ascii_digit()) => token.parse().ok(),
        _ => None,
    }
}
