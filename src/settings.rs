//! Options of one's own: what stands in the JSON object of a monitor or a balancer besides the keys that durpina knows.
//!
//! A monitor or a balancer of one's own asks for its keys when it is made. That happens when a configuration is read, where each
//! mistake is reported with its place, and later in each worker that needs it, with what was read then.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::json::Json;
use crate::model::template::Template;
use crate::time;

/// Options while a configuration is read: what is there goes in, and what came of it out.
pub(crate) struct Reading<'r> {
    /// Where the object stands, for lines of the log.
    pub(crate) at: &'r dyn fmt::Display,
    /// The object's entries.
    pub(crate) entries: &'r [(String, Json)],
    /// The keys that are durpina's own go in, those that were asked for come out in addition.
    pub(crate) known: &'r mut Vec<&'static str>,
    /// How others of durpina's keys begin.
    pub(crate) open_prefix: Option<&'static str>,
    /// The variables that the configuration names itself.
    pub(crate) is_known: &'r dyn Fn(&str) -> bool,
    /// The options as they are stored.
    pub(crate) options: String,
    /// What is wrong.
    pub(crate) errors: Vec<(String, String)>,
}

impl Reading<'_> {
    /// Has the options read by whom they belong to.
    pub(crate) fn read(&mut self, make: impl FnOnce(&mut Settings)) {
        let is_own = |(key, _): &&(String, Json)| {
            !self.known.contains(&key.as_str()) && !self.open_prefix.is_some_and(|prefix| key.starts_with(prefix))
        };
        let entries: Vec<(String, Json)> = self.entries.iter().filter(is_own).cloned().collect();
        if !entries.is_empty() {
            Json::Object(entries.clone()).write(&mut self.options);
        }
        let mut settings = Settings { entries, ..Settings::default() };
        make(&mut settings);
        for (key, text) in std::mem::take(&mut settings.templates) {
            if let Err(error) = Template::parse_with(&text, self.is_known) {
                settings.error(key, error);
            }
        }
        self.known.append(&mut settings.known);
        self.errors = settings.errors;
    }
}

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
    /// The texts with variables: which names there are says the configuration.
    templates: Vec<(&'static str, String)>,
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

    /// Options that were read before; an empty text for none.
    pub(crate) fn stored(text: &str) -> Self {
        Self::parse(text).unwrap_or_default()
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

    /// A text with variables. That all of them exist is looked at when this is done: the names of maps and groups are the configuration's.
    pub fn template(&mut self, key: &'static str) -> Option<Template> {
        let text = self.text(key)?;
        let template = Template::parse_with(&text, &|_| true).map_err(|error| self.error(key, error)).ok();
        if template.is_some() {
            self.templates.push((key, text));
        }
        template
    }

    /// A text with variables, or where there is none, this one.
    pub fn template_or(&mut self, key: &'static str, default: &str) -> Template {
        let before = self.errors.len();
        let found = self.template(key);
        match found {
            None if self.errors.len() == before => {
                Template::parse(default).map_err(|error| self.error(key, error)).unwrap_or_default()
            }
            found => found.unwrap_or_default(),
        }
    }

    /// Takes all keys as known, whatever they are. They are kept for as long as the program runs.
    pub(crate) fn accept_all(&mut self) {
        self.known.extend(self.entries.iter().map(|(key, _)| &*key.clone().leak()));
    }

    fn refuse<T>(&mut self, key: &str, expected: &str, found: &Json) -> Option<T> {
        self.error(key, format!("expected {expected}, found {found}"));
        None
    }
}
