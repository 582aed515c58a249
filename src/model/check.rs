//! What a monitor found at a peer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{millis, Timestamp};

/// What a monitor found at a peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// The monitor's id.
    pub(crate) monitor: String,
    /// Tells the monitor from an earlier one of the same id.
    pub(crate) number: u32,
    /// The verdict.
    pub(crate) is_down: bool,
    /// Since when that is the verdict; the epoch if it never was another one.
    pub(crate) since: Timestamp,
    /// What was wrong when the verdict became `down`.
    pub(crate) verdict_why: String,
    /// What is wrong by the last check; empty if nothing is.
    pub(crate) why: String,
    /// How many checks in a row ended like the last one.
    pub(crate) streak: u32,
    /// When the last check ended; the epoch before the first.
    pub(crate) at: Timestamp,
    /// How long it took, in milliseconds.
    pub(crate) took: u32,
    /// How many checks were good so far.
    pub(crate) passed: u64,
    /// How many checks failed so far.
    pub(crate) failed: u64,
    /// How often the verdict became `down`.
    pub(crate) ejections: u64,
}

/// What a verdict of a monitor becomes by a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flip {
    /// It is good again.
    Up,
    /// It is `down` from now on.
    Down,
}

impl Check {
    /// Nothing found yet.
    pub(crate) fn new(monitor: &str, number: u32) -> Self {
        Self { monitor: monitor.to_owned(), number, ..Self::default() }
    }

    /// Whether the last check was good, or there was none.
    #[must_use]
    pub(crate) fn is_good(&self) -> bool {
        self.why.is_empty()
    }

    /// Takes in a finding. Returns what that would make of the verdict, which stays as it is: see [`set_verdict`](Self::set_verdict).
    ///
    /// `fall` failed checks in a row make it `down`, `rise` good ones lift it (HAProxy, server options of these names).
    pub(crate) fn observe(&mut self, why: Option<&str>, rise: u32, fall: u32) -> Option<Flip> {
        self.streak = if why.is_none() == self.is_good() { self.streak.saturating_add(1) } else { 1 };
        let count = if why.is_none() { &mut self.passed } else { &mut self.failed };
        *count = count.saturating_add(1);
        self.why.clear();
        self.why.push_str(why.unwrap_or_default());
        match (why.is_none(), self.is_down) {
            (true, true) if self.streak >= rise => Some(Flip::Up),
            (false, false) if self.streak >= fall => Some(Flip::Down),
            _ => None,
        }
    }

    /// Changes the verdict.
    pub(crate) fn set_verdict(&mut self, flip: Flip, now: Timestamp) {
        self.is_down = flip == Flip::Down;
        self.ejections = self.ejections.saturating_add(u64::from(self.is_down));
        self.since = now;
        self.verdict_why = self.why.clone();
    }
}

/// A length of time for a [`Check`].
pub(crate) fn took(length: Duration) -> u32 {
    u32::try_from(millis(length)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn a_verdict_takes_so_many_in_a_row() {
        let now = Timestamp::from_millis(5);
        let mut check = Check::new("http", 1);
        let mut observe = |good: bool| {
            let flip = check.observe((!good).then_some("status 503"), 2, 3);
            flip.into_iter().for_each(|flip| check.set_verdict(flip, now));
            check.is_down
        };
        let results = [false, false, true, false, false, false, true, false, true, true];
        let verdicts: Vec<bool> = results.into_iter().map(&mut observe).collect();
        assert_eq!(verdicts, [false, false, false, false, false, true, true, true, true, false]);
        assert_eq!(check.since, now);
    }
}
