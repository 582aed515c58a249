//! Readers for the scalar values of a configuration: each returns the value, or reports what was
//! expected and what was found.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::error::{quoted, ConfigErrors, Place};
use super::json::Json;
use crate::model::codes::StatusCodes;
use crate::model::server::ServerHost;
use crate::time::{self, TimeError};

pub(crate) fn integer<T>(
    at: &Place<'_>,
    value: &Json,
    range: RangeInclusive<u64>,
    errors: &mut ConfigErrors,
) -> Option<T>
where
    T: TryFrom<u64>,
{
    let number = match value {
        Json::Number(number) => number.as_u64().or_else(|| {
            // 5.0 is an integer too, as JSON Schema has it: hosts hand on numbers as floating point.
            let float = number.as_f64().filter(|f| f.fract() == 0.0 && (0.0..9e15).contains(f))?;
            Some(float as u64)
        }),
        _ => None,
    };
    let read = number.filter(|n| range.contains(n)).and_then(|n| T::try_from(n).ok());
    if read.is_none() {
        errors.expected(at, format_args!("an integer from {} to {}", range.start(), range.end()), value);
    }
    read
}

pub(crate) fn boolean(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Option<bool> {
    if let Json::Bool(value) = value {
        return Some(*value);
    }
    errors.expected(at, "true or false", value);
    None
}

pub(crate) fn string<'a>(at: &Place<'_>, value: &'a Json, what: &str, errors: &mut ConfigErrors) -> Option<&'a str> {
    if let Json::String(value) = value {
        return Some(value);
    }
    errors.expected(at, what, value);
    None
}

/// A text of so many bytes.
pub(crate) fn sized<'v>(
    at: &Place<'_>,
    value: &'v Json,
    what: &str,
    length: RangeInclusive<usize>,
    errors: &mut ConfigErrors,
) -> Option<&'v str> {
    let text = string(at, value, what, errors)?;
    if !length.contains(&text.len()) {
        errors.expected(at, format_args!("{what} of {} to {} bytes", length.start(), length.end()), value);
    }
    Some(text)
}

/// The name or address of a host as requests name it: in lower case, an IPv6 address in brackets or not, without a port.
pub(crate) fn host(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Option<String> {
    let host = string(at, value, "a host name", errors)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match ServerHost::parse(bare) {
        Ok(_) => Some(host.to_ascii_lowercase()),
        Err(error) => {
            errors.say(at, format!("{error} without a port, found {}", quoted(host)));
            None
        }
    }
}

/// What a bare JSON number of time counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bare {
    Seconds,
    Milliseconds,
}

pub(crate) fn duration(at: &Place<'_>, value: &Json, bare: Bare, errors: &mut ConfigErrors) -> Option<Duration> {
    let text = match value {
        Json::String(text) => text.clone(),
        Json::Number(number) => number.to_string(),
        _ => String::new(),
    };
    let is_bare = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let read = if is_bare && bare == Bare::Milliseconds {
        time::parse_duration(&format!("{text}ms"))
    } else {
        time::parse_duration(&text)
    };
    match read {
        Ok(length) => Some(length),
        Err(error) => {
            errors.expected(at, error, value);
            None
        }
    }
}

/// A length of time that something is done at: zero would mean without end.
pub(crate) fn positive_duration(
    at: &Place<'_>,
    value: &Json,
    bare: Bare,
    errors: &mut ConfigErrors,
) -> Option<Duration> {
    let length = duration(at, value, bare, errors)?;
    if length.is_zero() {
        errors.expected(at, format_args!("{} above 0", TimeError::Malformed), value);
        return None;
    }
    Some(length)
}

pub(crate) fn codes(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Option<StatusCodes> {
    const WHAT: &str = "status codes such as \"101 102 2xx 3xx\"";
    let text = match value {
        Json::Number(number) => number.to_string(),
        other => string(at, other, WHAT, errors)?.to_owned(),
    };
    match text.parse() {
        Ok(codes) => Some(codes),
        Err(word) => {
            errors.expected(at, WHAT, quoted(&word));
            None
        }
    }
}

/// One of a few words.
pub(crate) fn word<'a, T: Copy>(
    at: &Place<'_>,
    value: &'a Json,
    words: &'a [(&'a str, T)],
    errors: &mut ConfigErrors,
) -> Option<T> {
    let found = match value {
        Json::String(text) => words.iter().find(|(word, _)| word == text).map(|(_, meaning)| *meaning),
        _ => None,
    };
    if found.is_none() {
        errors.expected(at, one_of(words.iter().map(|(word, _)| *word)), value);
    }
    found
}

/// `one of "a", "b"`.
pub(crate) fn one_of<'a>(words: impl Iterator<Item = &'a str>) -> String {
    format!("one of {}", words.map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "))
}
