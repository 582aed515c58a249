//! Reading JSON with places: objects whose keys are asked for, one by one.

use super::error::{ConfigErrors, Place};
pub(crate) use crate::json::Json;
use crate::settings::Reading;

/// Reads a text that is JSON and nothing else.
pub(super) fn parse(at: &Place<'_>, text: &[u8], errors: &mut ConfigErrors) -> Option<Json> {
    Json::parse(text).map_err(|error| errors.say(at, error)).ok()
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

    /// One without any keys.
    pub(crate) fn none(place: &'p Place<'p>) -> Self {
        Self { place, entries: &[], known: Vec::new() }
    }

    /// Has what nobody asked for yet read as options of one's own, and returns them as they are stored. Variables in them may have
    /// these names besides those that every configuration has. Keys with this prefix are somebody else's.
    pub(crate) fn own(
        &mut self,
        open_prefix: Option<&'static str>,
        is_known: &dyn Fn(&str) -> bool,
        read: &dyn Fn(&mut Reading<'_>),
        errors: &mut ConfigErrors,
    ) -> String {
        let (entries, known) = (self.entries, &mut self.known);
        let at = self.place;
        let mut reading =
            Reading { at, entries, known, open_prefix, is_known, options: String::new(), errors: Vec::new() };
        read(&mut reading);
        for (path, message) in reading.errors {
            errors.say(&self.place.path(&path), message);
        }
        reading.options
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
