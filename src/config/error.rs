//! What is wrong with a configuration, and where.
//!
//! Reading goes on after an error, so that whoever mends a configuration sees all of them at once.
//! A [`Place`] is the path to the value at fault, `upstreams.foo.servers[2].weight`; it is a chain on
//! the stack that costs nothing until an error is written.

use std::fmt;

pub(crate) use crate::json::quoted;

/// Errors beyond this many are counted, not listed.
const MOST: usize = 100;

/// Where a value stands in the configuration.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Key(&'a str),
    Index(usize),
    /// More than one step, as it is written.
    Path(&'a str),
}

impl<'a> Place<'a> {
    pub(crate) const ROOT: Place<'static> = Place { parent: None, step: Step::Root };

    pub(crate) fn key(&'a self, key: &'a str) -> Place<'a> {
        Place { parent: Some(self), step: Step::Key(key) }
    }

    /// What is at this path below, as in `limits[2].least`.
    pub(crate) fn path(&'a self, path: &'a str) -> Place<'a> {
        Place { parent: Some(self), step: Step::Path(path) }
    }

    pub(crate) fn index(&'a self, index: usize) -> Place<'a> {
        Place { parent: Some(self), step: Step::Index(index) }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        let first = self.parent.is_none_or(|p| matches!(p.step, Step::Root));
        match self.step {
            Step::Root => Ok(()),
            Step::Index(index) => write!(f, "[{index}]"),
            Step::Path(path) => write!(f, "{}{path}", if first { "" } else { "." }),
            Step::Key(key) if is_plain(key) => write!(f, "{}{key}", if first { "" } else { "." }),
            Step::Key(key) => write!(f, "[{}]", quoted(key)),
        }
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.len() <= 128 && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// One error: its place, and a sentence for the person who must mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The path to the value, empty for the configuration as a whole.
    pub place: String,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            write!(f, "configuration: {}", self.message)
        } else {
            write!(f, "{}: {}", self.place, self.message)
        }
    }
}

/// All errors of a configuration, in the order in which they were found, and what is only doubtful.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    unlisted: usize,
    warnings: Vec<ConfigError>,
}

impl ConfigErrors {
    /// Whether there is no error.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.errors.is_empty()
    }

    /// The errors.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    /// What is allowed, but probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[ConfigError] {
        &self.warnings
    }

    /// How many errors there are, the unlisted ones included.
    #[must_use]
    pub fn count(&self) -> usize {
        self.errors.len().saturating_add(self.unlisted)
    }

    pub(crate) fn say(&mut self, place: &Place<'_>, message: impl Into<String>) {
        if self.errors.len() < MOST {
            self.errors.push(ConfigError { place: place.to_string(), message: message.into() });
        } else {
            self.unlisted = self.unlisted.saturating_add(1);
        }
    }

    pub(crate) fn warn(&mut self, place: &Place<'_>, message: impl Into<String>) {
        if self.warnings.len() < MOST {
            self.warnings.push(ConfigError { place: place.to_string(), message: message.into() });
        }
    }

    pub(crate) fn expected(&mut self, place: &Place<'_>, what: impl fmt::Display, found: impl fmt::Display) {
        self.say(place, format!("expected {what}, found {found}"));
    }

    pub(crate) fn unsupported(&mut self, place: &Place<'_>, what: &str) {
        self.say(place, format!("{what} is not supported yet"));
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.errors.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        if self.unlisted > 0 {
            write!(f, "\nand {} more errors", self.unlisted)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
