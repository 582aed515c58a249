//! Sets of HTTP status codes, written `101 102 2xx 3xx`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A set of status codes from 100 to 599.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StatusCodes {
    /// Whole classes: the first digits of `2xx`.
    classes: Vec<u16>,
    codes: Vec<u16>,
}

impl StatusCodes {
    /// Whether no code is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty() && self.codes.is_empty()
    }

    /// Whether the set holds this code.
    #[must_use]
    pub fn contains(&self, code: u16) -> bool {
        self.codes.contains(&code) || self.classes.contains(&(code / 100))
    }
}

impl FromStr for StatusCodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut set = Self::default();
        for word in text.split_ascii_whitespace() {
            let digits = word.strip_suffix("xx").or_else(|| word.strip_suffix("XX"));
            let (digits, list, range) = match digits {
                Some(digits) => (digits, &mut set.classes, 1..=5),
                None => (word, &mut set.codes, 100..=599),
            };
            match digits.parse() {
                Ok(number) if range.contains(&number) && digits.bytes().all(|b| b.is_ascii_digit()) => {
                    list.push(number)
                }
                _ => return Err(word.to_owned()),
            }
        }
        Ok(set)
    }
}

impl fmt::Display for StatusCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = self.codes.iter().map(u16::to_string).chain(self.classes.iter().map(|class| format!("{class}xx")));
        f.write_str(&words.collect::<Vec<_>>().join(" "))
    }
}

impl TryFrom<String> for StatusCodes {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<StatusCodes> for String {
    fn from(codes: StatusCodes) -> Self {
        codes.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn codes_and_classes_are_members() {
        let codes: StatusCodes = " 101 2xx  5XX".parse().unwrap();
        assert!(codes.contains(101) && codes.contains(204) && codes.contains(599));
        assert!(!codes.contains(100) && !codes.contains(301));
        assert_eq!(codes.to_string().parse(), Ok(codes));
        assert!(StatusCodes::default().is_empty());
    }

    #[test]
    fn the_word_at_fault_is_named() {
        for word in ["99", "600", "2x", "xx", "6xx", "+200", "2xxx", "ok"] {
            assert_eq!(format!("200 {word}").parse::<StatusCodes>(), Err(word.to_owned()));
        }
    }
}
