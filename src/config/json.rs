//! JSON that keeps what a configuration's author wrote.
//!
//! `serde_json::Value` drops the first of two equal keys without a word; here both are kept, in
//! order, so that the second can be reported.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::error::{quoted, ConfigErrors, Place};

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(serde_json::Number),
    String(String),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

impl Json {
    /// What sort of value this is, for errors.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }
}

/// The value as errors quote it: scalars as they are, the rest by its kind.
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => value.fmt(f),
            Self::Number(value) => value.fmt(f),
            Self::String(value) => f.write_str(&quoted(value)),
            other => f.write_str(other.kind()),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }
            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }
            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
                Ok(Json::Number(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
                Ok(Json::Number(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
                Ok(serde_json::Number::from_f64(value).map_or(Json::Null, Json::Number))
            }
            fn visit_str<E>(self, value: &str) -> Result<Json, E> {
                Ok(Json::String(value.to_owned()))
            }
            fn visit_string<E>(self, value: String) -> Result<Json, E> {
                Ok(Json::String(value))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
                let mut array = Vec::new();
                while let Some(item) = items.next_element()? {
                    array.push(item);
                }
                Ok(Json::Array(array))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
                let mut object = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    object.push(entry);
                }
                Ok(Json::Object(object))
            }
        }
        from.deserialize_any(Any)
    }
}

/// Reads a text that is JSON and nothing else.
pub(super) fn parse(at: &Place<'_>, text: &[u8], errors: &mut ConfigErrors) -> Option<Json> {
    let read = serde_json::from_slice(text);
    read.map_err(|error| errors.say(at, format!("not valid JSON: {error}"))).ok()
}

/// The same for a text that is no part of a configuration.
pub(crate) fn parse_json(text: &[u8]) -> Result<Json, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    parse(&Place::ROOT, text, &mut errors).ok_or(errors)
}

/// An object that is being read: every key is asked for once, and what was never asked for is an error.
pub(crate) struct Object<'p, 'j> {
    place: &'p Place<'p>,
    entries: &'j [(String, Json)],
    known: Vec<&'static str>,
}

impl<'p, 'j> Object<'p, 'j> {
    /// Begins reading; reports a value that is no object, and keys that appear twice.
    pub(crate) fn open(place: &'p Place<'p>, value: &'j Json, what: &str, errors: &mut ConfigErrors) -> Option<Self> {
        let Json::Object(entries) = value else {
            errors.expected(place, what, value);
            return None;
        };
        let mut seen = std::collections::HashSet::with_capacity(entries.len());
        for (key, _) in entries {
            if !seen.insert(key.as_str()) {
                errors.say(&place.key(key), "this key appears more than once");
            }
        }
        Some(Self { place, entries, known: Vec::new() })
    }

    pub(crate) fn entries(&self) -> &'j [(String, Json)] {
        self.entries
    }

    /// The value of a key.
    pub(crate) fn get(&mut self, key: &'static str) -> Option<&'j Json> {
        self.known.push(key);
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// All entries whose key starts with `prefix`, which is known from here on.
    pub(crate) fn starting_with(&self, prefix: &'static str) -> impl Iterator<Item = &'j (String, Json)> {
        self.entries.iter().filter(move |(key, _)| key.starts_with(prefix))
    }

    /// Reports the keys that nobody asked for.
    pub(crate) fn close(self, open_prefix: Option<&str>, errors: &mut ConfigErrors) {
        for (key, _) in self.entries {
            let open = open_prefix.is_some_and(|prefix| key.starts_with(prefix));
            if !open && !self.known.contains(&key.as_str()) {
                errors.say(&self.place.key(key), format!("unknown key, expected one of {}", self.known.join(", ")));
            }
        }
    }
}
