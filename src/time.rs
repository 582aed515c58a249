//! Lengths of time, and the points in time of the host.
//!
//! Lengths of time are written as in nginx: `250ms`, `10s`, `1h 30m`, `1.5h`, or a bare number of
//! seconds ("Configuration file measurement units" in nginx's documentation).

use std::fmt;
use std::time::Duration;

pub use durpina_host::{millis, Timestamp};

/// The longest time that a configuration may hold: a hundred years of 365 days.
///
/// nginx has no such limit and overflows; every sum of a timestamp and a time below this one fits.
pub const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Why a text is not a length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeError {
    /// Not in the grammar.
    Malformed,
    /// Finer than a millisecond.
    TooFine,
    /// Beyond [`LONGEST`].
    TooLong,
}

impl fmt::Display for TimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "a time such as 10, \"250ms\", \"10s\", \"5m\" or \"1h 30m\"",
            Self::TooFine => "a time in whole milliseconds",
            Self::TooLong => "a time of at most 100 years",
        })
    }
}

/// Units in the order in which they may appear, with their milliseconds.
const UNITS: [(&str, u128); 8] = [
    ("y", 365 * 24 * 3_600_000),
    ("M", 30 * 24 * 3_600_000),
    ("w", 7 * 24 * 3_600_000),
    ("d", 24 * 3_600_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Reads a length of time in nginx's grammar.
///
/// Units go from the longest to the shortest, each at most once; a number without a unit counts
/// seconds and comes last.
///
/// # Errors
///
/// [`TimeError`], whose text says what was expected.
pub fn parse_duration(text: &str) -> Result<Duration, TimeError> {
    let mut total: u128 = 0;
    let mut rest = text.trim();
    let mut allowed = UNITS.as_slice();
    if rest.is_empty() {
        return Err(TimeError::Malformed);
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        rest = tail.trim_start();

        let unit = if unit.is_empty() && rest.is_empty() { "s" } else { unit };
        let position = allowed.iter().position(|(name, _)| *name == unit);
        let (unit, later) = position.and_then(|at| allowed.get(at..)?.split_first()).ok_or(TimeError::Malformed)?;
        allowed = later;
        total = total.saturating_add(scale(number, unit.1)?);
    }
    let longest = LONGEST.as_millis();
    if total > longest {
        return Err(TimeError::TooLong);
    }
    u64::try_from(total).map(Duration::from_millis).map_err(|_| TimeError::TooLong)
}

/// A decimal number of units, in milliseconds.
fn scale(number: &str, unit: u128) -> Result<u128, TimeError> {
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(w, f)| (w, Some(f)));
    if whole.is_empty() || fraction.is_some_and(str::is_empty) {
        return Err(TimeError::Malformed);
    }
    if whole.len() > 20 {
        return Err(TimeError::TooLong);
    }
    let whole: u128 = whole.parse().map_err(|_| TimeError::Malformed)?;
    let mut total = whole.saturating_mul(unit);
    if let Some(fraction) = fraction.map(|f| f.trim_end_matches('0')).filter(|f| !f.is_empty()) {
        if fraction.contains('.') {
            return Err(TimeError::Malformed);
        }
        if fraction.len() > 12 {
            return Err(TimeError::TooFine);
        }
        let numerator: u128 = fraction.parse().map_err(|_| TimeError::Malformed)?;
        let denominator = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or(12));
        let scaled = numerator.saturating_mul(unit);
        if scaled % denominator != 0 {
            return Err(TimeError::TooFine);
        }
        total = total.saturating_add(scaled / denominator);
    }
    Ok(total)
}

/// Writes a length of time so that [`parse_duration`] reads it back: `10s`, `1m 30s`, `250ms`.
#[must_use]
pub fn format_duration(length: Duration) -> String {
    let mut rest = length.as_millis();
    let mut words = Vec::new();
    // Months and years are left out: "30d" is clearer than "1M".
    for (unit, size) in UNITS.iter().skip(3) {
        if rest >= *size {
            words.push(format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if words.is_empty() {
        return "0s".to_owned();
    }
    words.join(" ")
}

/// Serde for lengths of time as milliseconds, for shared data.
pub(crate) mod as_millis {
    use super::{millis, Duration};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<S: Serializer>(length: &Duration, to: S) -> Result<S::Ok, S::Error> {
        millis(*length).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn nginx_times_are_read() {
        for (text, millis) in [
            ("0", 0),
            ("10", 10_000),
            ("1.5", 1_500),
            ("250ms", 250),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("1m 30", 90_000),
            ("1d 2h 3m 4s 5ms", 93_784_005),
            (" 7s ", 7_000),
            ("1w", 604_800_000),
            ("1M", 2_592_000_000),
            ("1y", 31_536_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "", " ", "s", "-1", "+1", "1x", "1 2", "10 s", "1s 1h", "1s 1s", "1..5s", ".5s", "5.s", "1.2.3", "ten",
            "1e3", "١s",
        ] {
            assert_eq!(parse_duration(text), Err(TimeError::Malformed), "{text:?}");
        }
        assert_eq!(parse_duration("0.5ms"), Err(TimeError::TooFine));
        assert_eq!(parse_duration("0.0000000000001s"), Err(TimeError::TooFine));
        assert_eq!(parse_duration("101y"), Err(TimeError::TooLong));
        assert_eq!(parse_duration("99999999999999999999999999999999999999999y"), Err(TimeError::TooLong));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for millis in [0, 1, 999, 1_000, 90_000, 93_784_005, 31_536_000_000] {
            let length = Duration::from_millis(millis);
            assert_eq!(parse_duration(&format_duration(length)), Ok(length));
        }
        assert_eq!(format_duration(Duration::from_millis(93_784_005)), "1d 2h 3m 4s 5ms");
    }
}
