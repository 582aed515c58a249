//! Points in time and lengths of time.
//!
//! The core never asks what time it is: `now` is a parameter, and only a [`Host`](crate::host::Host)
//! has a clock. A [`Timestamp`] counts milliseconds since the Unix epoch, which is what both hosts give
//! and what shared data can hold. That clock is the machine's: it may jump, in both directions, so
//! whoever stores a timestamp says what happens when it turns out to lie far ahead.
//!
//! Lengths of time are written as in nginx: `250ms`, `10s`, `1h 30m`, `1.5h`, or a bare number of
//! seconds ("Configuration file measurement units" in nginx's documentation).

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest time that a configuration may hold: a hundred years of 365 days.
///
/// nginx has no such limit and overflows; every sum of a timestamp and a time below this one fits.
pub const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A point in time, in nanoseconds since the Unix epoch: until the year 2554.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// A point in time that many milliseconds after the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// A point in time that many nanoseconds after the Unix epoch.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Nanoseconds since the Unix epoch.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The point in time `length` later; the end of time when that would overflow.
    #[must_use]
    pub fn after(self, length: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long ago `earlier` was; zero when it lies ahead.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// In UTC, to the millisecond, as RFC 3339 has it: `2026-11-22T10:45:31.250Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.as_millis();
        let (days, time) = (millis / 86_400_000, millis % 86_400_000);
        // Days since 1 March of the year 0, in eras of 400 years (Howard Hinnant, "chrono-Compatible Low-Level Date
        // Algorithms", civil_from_days).
        let days = days + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + u64::from(month <= 2);
        let (hours, minutes, seconds) = (time / 3_600_000, time / 60_000 % 60, time / 1_000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{:03}Z", time % 1_000)
    }
}

/// A length of time in whole milliseconds.
#[must_use]
pub fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

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

    #[test]
    fn points_in_time_are_written_as_rfc_3339_has_them() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59.000Z"),
            (1_795_344_331_250, "2026-11-22T10:45:31.250Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(Timestamp::from_millis(millis).to_string(), text);
        }
        assert!(Timestamp::from_nanos(u64::MAX).to_string().starts_with("2554-07-21T"));
    }
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

    #[test]
    fn a_timestamp_never_wraps() {
        let end = Timestamp::from_nanos(u64::MAX);
        assert_eq!(end.after(LONGEST), end);
        assert_eq!(Timestamp::from_millis(5).since(end), Duration::ZERO);
    }
}
