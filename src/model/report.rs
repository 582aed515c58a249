//! What an agent says of its peer: one line of HAProxy's agent-check.
//!
//! The agent answers with one line, up to a carriage return, a line feed or the end. Its words are separated by spaces, tabs or
//! commas; case does not matter; of each category the last one counts; what is not mentioned stays as it was.
//!
//! | words | category | meaning |
//! | --- | --- | --- |
//! | `up`, `down`, `stopped`, `fail`, `failed` | health | whether the peer may be used; `stopped` and `fail` differ from `down` in the reason only |
//! | `ready`, `drain`, `maint` | administration | use it, give it nothing new, take it out of use |
//! | `50%`, `weight:50%` | weight | a share of the initial weight, 0 to 1000 %; at 0 the peer gets nothing new |
//! | `weight:7` | weight | the weight |
//! | `maxconn:30` | limit | `max_conns` |
//! | `# back at noon` | description | shown to people |
//!
//! A word that is none of these is reported, and the rest of the line counts. No line, or an empty one, is a failure but no
//! verdict: the last one stays.
//!
//! Source: HAProxy, configuration manual, `agent-check`.

use serde::{Deserialize, Serialize};

/// No more of a line is looked at.
const LONGEST_LINE: usize = 1_024;
/// No more of a description or an unknown word is kept.
const LONGEST_TEXT: usize = 200;

/// What an agent says of its health.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentHealth {
    /// Well.
    Up,
    /// Not well.
    Down,
    /// Stopped by a person.
    Stopped,
    /// Broken.
    Fail,
}

/// What an agent wants done with its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentAdmin {
    /// Use it.
    Ready,
    /// Give it nothing new.
    Drain,
    /// Take it out of use.
    Maint,
}

/// The weight that an agent asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Weight {
    /// Of a hundred parts of the initial weight.
    Percent(u16),
    /// That weight.
    Exactly(u16),
}

/// A line of an agent. What is `None` was not mentioned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The health.
    pub health: Option<AgentHealth>,
    /// What is wanted.
    pub admin: Option<AgentAdmin>,
    /// The weight.
    pub weight: Option<Weight>,
    /// The most requests in flight; 0 for no limit.
    pub max_conns: Option<u32>,
    /// What is said to people.
    pub description: Option<String>,
    /// The words that mean nothing.
    pub unknown: Vec<String>,
}

impl Report {
    /// Reads the first line of what an agent sent, whatever bytes that is.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let bytes = bytes.get(..LONGEST_LINE).unwrap_or(bytes);
        let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let (words, description) = match line.split_once('#') {
            Some((words, description)) => (words, Some(description)),
            None => (&*line, None),
        };
        let mut report = Self::default();
        for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
            if !report.parse_word(&word.to_ascii_lowercase()) {
                report.unknown.push(shortened(word));
            }
        }
        report.description = description.map(|text| shortened(text.trim()));
        report
    }

    /// Shortens what is for people, in a report that was not read from a line.
    pub(crate) fn shorten(&mut self) {
        self.description.iter_mut().chain(&mut self.unknown).for_each(|text| *text = shortened(text));
    }

    /// Takes in a word, if it means something.
    fn parse_word(&mut self, word: &str) -> bool {
        let health = |health| Some(health);
        match word {
            "up" => self.health = health(AgentHealth::Up),
            "down" => self.health = health(AgentHealth::Down),
            "stopped" => self.health = health(AgentHealth::Stopped),
            "fail" | "failed" => self.health = health(AgentHealth::Fail),
            "ready" => self.admin = Some(AgentAdmin::Ready),
            "drain" => self.admin = Some(AgentAdmin::Drain),
            "maint" => self.admin = Some(AgentAdmin::Maint),
            _ => return self.parse_number(word),
        }
        true
    }

    fn parse_number(&mut self, word: &str) -> bool {
        if let Some(number) = word.strip_prefix("maxconn:") {
            let limit = digits(number).filter(|limit| *limit <= 1_000_000);
            self.max_conns = limit.or(self.max_conns);
            return limit.is_some();
        }
        let text = word.strip_prefix("weight:").unwrap_or(word);
        let weight = match text.strip_suffix('%') {
            Some(percent) => digits(percent).filter(|percent| *percent <= 1_000).map(|n| Weight::Percent(n as u16)),
            None if text == word => None,
            None => digits(text).and_then(|n| u16::try_from(n).ok()).map(Weight::Exactly),
        };
        self.weight = weight.or(self.weight);
        weight.is_some()
    }
}

/// A decimal number, digits only (`str::parse` would take `+5`).
fn digits(text: &str) -> Option<u32> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// What of a text goes into logs and documents: one line of it, not too long.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(LONGEST_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    /// A report in short: health, administration, weight, limit, description, unknown words.
    fn short(line: &[u8]) -> String {
        let report = Report::parse(line);
        let mut out = Vec::new();
        out.extend(report.health.map(|health| format!("{health:?}")));
        out.extend(report.admin.map(|admin| format!("{admin:?}")));
        out.extend(report.weight.map(|weight| format!("{weight:?}")));
        out.extend(report.max_conns.map(|limit| format!("max {limit}")));
        out.extend(report.description.map(|text| format!("# {text}")));
        out.extend(report.unknown.iter().map(|word| format!("? {word}")));
        out.join(", ")
    }

    #[test]
    fn the_grammar_of_lines() {
        for (line, expected) in [
            ("up", "Up"),
            ("UP\n", "Up"),
            ("up 50%\r\ndown", "Up, Percent(50)"),
            ("down # back up soon", "Down, # back up soon"),
            ("fail", "Fail"),
            ("failed", "Fail"),
            ("stopped # by hand", "Stopped, # by hand"),
            ("ready,up,\t75%", "Up, Ready, Percent(75)"),
            ("drain", "Drain"),
            ("maint up", "Up, Maint"),
            ("up down", "Down"),
            ("drain ready drain", "Drain"),
            ("weight:7", "Exactly(7)"),
            ("weight:50%", "Percent(50)"),
            ("10% 20% weight:3", "Exactly(3)"),
            ("weight:3 20%", "Percent(20)"),
            ("0%", "Percent(0)"),
            ("maxconn:30", "max 30"),
            ("up maxconn:0", "Up, max 0"),
            ("updown", "? updown"),
            ("up sideways 50%", "Up, Percent(50), ? sideways"),
            ("up 50", "Up, ? 50"),
            ("up 5000%", "Up, ? 5000%"),
            ("up -5% +5% %", "Up, ? -5%, ? +5%, ? %"),
            ("weight:70000", "? weight:70000"),
            ("maxconn:x", "? maxconn:x"),
            ("#up", "# up"),
            ("# a # b", "# a # b"),
            ("", ""),
            ("\nup", ""),
            (" , \t", ""),
        ] {
            assert_eq!(short(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn any_bytes_are_read() {
        let mut random = fastrand::Rng::with_seed(4);
        let words = ["up", "down", "50%", "weight:", "maxconn:", "#", ",", "\r", "\n", "\0", "é", "9", "%", ":"];
        for _ in 0..20_000 {
            let mut line = Vec::new();
            for _ in 0..random.usize(0..12) {
                if random.bool() {
                    line.extend_from_slice(words[random.usize(..words.len())].as_bytes());
                } else {
                    line.push(random.u8(..));
                }
            }
            let report = Report::parse(&line);
            // Reading what a report says of a line does not change it, and nothing that could break a log line is kept.
            let kept = report.unknown.iter().chain(&report.description);
            assert!(kept.clone().all(|text| !text.contains(char::is_control) && text.chars().count() <= LONGEST_TEXT));
        }
        assert_eq!(Report::parse(&vec![b'a'; 10_000_000]).unknown[0].len(), LONGEST_TEXT);
    }
}
