//! Options of one's own: what stands in the JSON object of a monitor or a balancer besides the keys that durpina knows.
//!
//! A monitor or a balancer of one's own asks for its keys when it is made. That happens when a configuration is read, where each
//! mistake is reported with its place, and later in each worker that needs it, with what was read then.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::json::Json;
use crate::model::template::Template;
use crate::time;

/// The options of one monitor or balancer.
///
/// ```
/// use durpina::settings::Settings;
/// let mut settings = Settings::parse(r#"{"field": "load", "floor": 150}"#).unwrap();
/// assert_eq!(settings.text("field").as_deref(), Some("load"));
/// assert_eq!(settings.number("floor", 0.0..=100.0), None);
/// assert_eq!(settings.errors(), [("floor".to_owned(), "expected a number from 0 to 100, found 150".to_owned())]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Settings {
    entries: Vec<(String, Json)>,
    known: Vec<&'static str>,
    errors: Vec<(String, String)>,
    /// The variables that the configuration defines itself; `None` where all names are good, because they were checked before.
    names: Option<Vec<String>>,
}

impl Settings {
    /// Options as they stand in a JSON object. For tests of one's own monitors and balancers.
    ///
    /// # Errors
    ///
    /// That it is no JSON object.
    pub fn parse(text: &str) -> Result<Self, String> {
        match Json::parse(text.as_bytes())? {
            Json::Object(entries) => Ok(Self { entries, ..Self::default() }),
            other => Err(format!("expected a JSON object, found {other}")),
        }
    }

    /// Options that a configuration is read with.
    pub(crate) fn new(entries: Vec<(String, Json)>, names: &[String]) -> Self {
        Self { entries, names: Some(names.to_vec()), ..Self::default() }
    }

    /// Options that were read before; an empty text for none.
    pub(crate) fn stored(text: &str) -> Self {
        Self::parse(text).unwrap_or_default()
    }

    /// The options as they are stored.
    pub(crate) fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.entries.is_empty() {
            Json::Object(self.entries.clone()).write(&mut text);
        }
        text
    }

    /// The keys that were asked for.
    pub(crate) fn known(&self) -> &[&'static str] {
        &self.known
    }

    /// What was wrong so far: the path of each value below the object, and a sentence.
    #[must_use]
    pub fn errors(&self) -> &[(String, String)] {
        &self.errors
    }

    /// Says that a value is wrong. `path` is where it is below the object, such as `field` or `limits[2].least`; the sentence says
    /// what was expected and what was found.
    pub fn error(&mut self, path: &str, message: impl Into<String>) {
        self.errors.push((path.to_owned(), message.into()));
    }

    /// The value of a key, which is known from here on.
    pub fn get(&mut self, key: &'static str) -> Option<Json> {
        self.known.push(key);
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone())
    }

    /// A text.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        match self.get(key)? {
            Json::String(text) => Some(text),
            other => self.refuse(key, "a text", &other),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str) -> Option<bool> {
        match self.get(key)? {
            Json::Bool(value) => Some(value),
            other => self.refuse(key, "true or false", &other),
        }
    }

    /// A number within this range.
    pub fn number(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        let value = self.get(key)?;
        let number = value.as_f64().filter(|number| range.contains(number));
        number.or_else(|| self.refuse(key, &format!("a number from {} to {}", range.start(), range.end()), &value))
    }

    /// A time as everywhere in the configuration; a bare number is seconds.
    pub fn time(&mut self, key: &'static str) -> Option<Duration> {
        let value = self.get(key)?;
        let text = match &value {
            Json::String(text) => text.clone(),
            Json::Number(number) => number.to_string(),
            _ => String::new(),
        };
        match time::parse_duration(&text) {
            Ok(length) => Some(length),
            Err(error) => self.refuse(key, &error.to_string(), &value),
        }
    }

    /// A text with variables.
    pub fn template(&mut self, key: &'static str) -> Option<Template> {
        let text = self.text(key)?;
        let names = self.names.clone();
        let is_known = |name: &str| names.as_ref().is_none_or(|names| names.iter().any(|known| known == name));
        Template::parse_with(&text, &is_known).map_err(|error| self.error(key, error)).ok()
    }

    fn refuse<T>(&mut self, key: &str, expected: &str, found: &Json) -> Option<T> {
        self.error(key, format!("expected {expected}, found {found}"));
        None
    }
}
