//! What happened, line by line.

use std::fmt;
use std::time::Duration;

/// A line that a module logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Virtual time since the start.
    pub at: Duration,
    /// The worker; `None` for a VM that only tries a configuration.
    pub worker: Option<usize>,
    /// Trace 0, debug 1, info 2, warn 3, error 4, critical 5.
    pub level: u32,
    /// The text.
    pub text: String,
}

/// The lines of a run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    lines: Vec<String>,
    pub(crate) is_off: bool,
}

impl Trace {
    pub(crate) fn add(&mut self, at: Duration, who: Who, what: fmt::Arguments<'_>) {
        if !self.is_off {
            self.lines.push(format!("{:>11.6} {who} {what}", at.as_secs_f64()));
        }
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }
}

/// Who a line is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    World,
    Worker(usize),
    Canary,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::World => f.write_str("world "),
            Self::Worker(index) => write!(f, "wrk {index:<2}"),
            Self::Canary => f.write_str("canary"),
        }
    }
}
