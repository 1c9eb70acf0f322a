//! Convert times that mean exactly one number of milliseconds.
use crate::text;

/// The largest integer up to which a JavaScript number holds every integer exactly.
const MAX_SAFE: i64 = 9_007_199_254_740_991;
const MAX_SAFE_FLOAT: f64 = 9_007_199_254_740_991.0;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Return whether a JSON value is plain digits, few enough to be safe, as most times are.
pub(super) fn is_short_integer(json: &str) -> bool {
    json.len() <= 15 && json.bytes().all(|byte| byte.is_ascii_digit())
}

/// Return whether a JSON value is a whole number that a JavaScript number holds exactly, in any spelling.
pub(super) fn is_safe_integer(json: &str) -> bool {
    if is_short_integer(json) {
        return true;
    }
    let is_number = json.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    is_number && json.parse().is_ok_and(|number: f64| number.fract() == 0.0 && number.abs() <= MAX_SAFE_FLOAT)
}

/// Return the milliseconds that a value means, if it means exactly one number.
///
/// Accepted are a number, whose fraction is cut off, digits in a text (as protobuf's JSON writes a 64-bit number), and
/// an ISO 8601 time with its offset from UTC. A time without an offset could be in any zone.
pub(super) fn milliseconds(json: &str) -> Option<i64> {
    let Some(escaped) = text::unquote(json) else {
        let number: f64 = json.parse().ok()?;
        return (number.trunc().abs() <= MAX_SAFE_FLOAT).then_some(number as i64);
    };
    let text = text::decode(escaped)?;
    match text.parse::<i64>() {
        Ok(number) => (-MAX_SAFE..=MAX_SAFE).contains(&number).then_some(number),
        Err(_) => parse_iso(&text),
    }
}

/// Parse `YYYY-MM-DD`, `T` or a space, `HH:MM[:SS[.fraction]]`, then `Z` or `±HH[:]MM`.
fn parse_iso(text: &str) -> Option<i64> {
    let digits = |from: usize, count: usize| {
        let digits = text.get(from..from + count)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<i64>().ok())?
    };
    let is_at = |at: usize, wanted: &[u8]| text.as_bytes().get(at).is_some_and(|byte| wanted.contains(byte));
    let (year, month, day) = (digits(0, 4)?, digits(5, 2)?, digits(8, 2)?);
    let (hour, minute) = (digits(11, 2)?, digits(14, 2)?);
    let has_separators = is_at(4, b"-") && is_at(7, b"-") && is_at(10, b"Tt ") && is_at(13, b":");
    let (mut at, mut second, mut fraction) = (16, 0, 0);
    if is_at(at, b":") {
        second = digits(17, 2)?;
        at = 19;
        if is_at(at, b".,") {
            let count = text[at + 1..].bytes().take_while(u8::is_ascii_digit).count();
            let shown: String = text[at + 1..].chars().take(count.min(3)).collect();
            fraction = format!("{shown:0<3}").parse().ok().filter(|_| count > 0)?;
            at += 1 + count;
        }
    }
    let offset = match text.get(at..)? {
        "Z" | "z" => 0,
        zone => {
            let sign = if zone.starts_with('+') { 1 } else { -1 };
            let colon = usize::from(is_at(at + 3, b":"));
            let (hours, minutes) = (digits(at + 1, 2)?, digits(at + 3 + colon, 2)?);
            let is_zone = zone.starts_with(['+', '-']) && zone.len() == 5 + colon && hours < 24 && minutes < 60;
            is_zone.then_some(sign * (hours * 60 + minutes))?
        }
    };
    let is_date = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    let is_time = hour < 24 && minute < 60 && second < 60;
    (has_separators && is_date && is_time).then(|| {
        let minutes = hour * 60 + minute - offset;
        days_since_1970(year, month, day) * DAY_MS + (minutes * 60 + second) * 1000 + fraction
    })
}

fn days_in(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Return the days from 1970-01-01 to a date of the Gregorian calendar.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    // Count in years that begin in March, so that a leap day comes last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}
