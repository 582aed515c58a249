//! What a monitor found at a peer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::failures::lasts;
use crate::model::spec::MonitorSpec;
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
    /// How many failed in the window of the peer's `fail_timeout`, which starts at the first of them; `rise` good ones in a row
    /// close it.
    fails: u32,
    fails_since: Timestamp,
    /// How many good ones began after the last failed request, and when that was.
    recovered: u32,
    recovering_from: Timestamp,
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

    /// Takes in a finding: what is wrong, if anything is. Returns what that makes of the verdict, which stays as it is: see
    /// [`set_verdict`](Self::set_verdict).
    ///
    /// `fall` failed checks in a row make it `down`, `rise` good ones lift it (HAProxy, server options of these names).
    pub(crate) fn observe(&mut self, why: Option<&str>, monitor: &MonitorSpec, window: Duration) -> Option<Flip> {
        self.streak = if why.is_none() == self.is_good() { self.streak.saturating_add(1) } else { 1 };
        let count = if why.is_none() { &mut self.passed } else { &mut self.failed };
        *count = count.saturating_add(1);
        self.why.clear();
        self.why.push_str(why.unwrap_or_default());
        if why.is_some() {
            if !self.is_failing(self.at, window) {
                (self.fails, self.fails_since) = (0, self.at);
            }
            self.fails = self.fails.saturating_add(1);
        } else if self.streak >= monitor.rise {
            self.fails = 0;
        }
        match (why.is_none(), self.is_down) {
            (true, true) if self.streak >= monitor.rise => Some(Flip::Up),
            (false, false) if self.streak >= monitor.fall => Some(Flip::Down),
            _ => None,
        }
    }

    /// Counts a good check of a peer whose last failed request was at that time, if it began after that. A failed one, or another
    /// failure, has the counting begin anew.
    pub(crate) fn count_recovery(&mut self, failed: Timestamp) {
        if self.recovering_from != failed || !self.is_good() {
            (self.recovering_from, self.recovered) = (failed, 0);
        }
        let length = Duration::from_millis(u64::from(self.took));
        if self.is_good() && failed.after(length) < self.at {
            self.recovered = self.recovered.saturating_add(1);
        }
    }

    /// How many good checks in a row began after the failed request of that time.
    #[must_use]
    pub(crate) fn recovered(&self, failed: Timestamp) -> u32 {
        if self.recovering_from == failed {
            self.recovered
        } else {
            0
        }
    }

    /// Whether a failed check counts still.
    #[must_use]
    pub(crate) fn is_failing(&self, now: Timestamp, window: Duration) -> bool {
        self.fails > 0 && lasts(self.fails_since.after(window), window, now)
    }

    /// How many failed checks count, and since when; none outside the window.
    #[must_use]
    pub(crate) fn fails(&self, now: Timestamp, window: Duration) -> (u32, Timestamp) {
        if self.is_failing(now, window) {
            (self.fails, self.fails_since)
        } else {
            (0, Timestamp::default())
        }
    }

    /// Forgets what it has against the peer.
    pub(crate) fn clear(&mut self) {
        (self.is_down, self.streak, self.fails) = (false, 0, 0);
        self.why.clear();
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

    const WINDOW: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1_000)
    }

    fn observe(check: &mut Check, good: bool, seconds: u64) {
        let monitor = MonitorSpec { rise: 2, fall: 3, ..MonitorSpec::default() };
        check.at = at(seconds);
        let flip = check.observe((!good).then_some("status 503"), &monitor, WINDOW);
        flip.into_iter().for_each(|flip| check.set_verdict(flip, at(seconds)));
    }

    #[test]
    fn a_verdict_takes_so_many_in_a_row() {
        let mut check = Check::new("http", 1);
        let results = [false, false, true, false, false, false, true, false, true, true];
        let mut verdicts = Vec::new();
        for (seconds, good) in (0..).zip(results) {
            observe(&mut check, good, seconds);
            verdicts.push(check.is_down);
        }
        assert_eq!(verdicts, [false, false, false, false, false, true, true, true, true, false]);
        assert_eq!(check.since, at(9));
    }

    #[test]
    fn a_failed_check_counts_for_the_window_or_until_enough_are_good() {
        let mut check = Check::new("http", 1);
        observe(&mut check, false, 0);
        observe(&mut check, false, 4);
        assert_eq!(check.fails(at(4), WINDOW), (2, at(0)));
        assert!(!check.is_failing(at(10), WINDOW), "the window started at the first one");
        observe(&mut check, true, 5);
        assert!(check.is_failing(at(5), WINDOW));
        observe(&mut check, true, 6);
        assert!(!check.is_failing(at(6), WINDOW));
        observe(&mut check, false, 20);
        assert_eq!(check.fails(at(20), WINDOW), (1, at(20)));
    }

    #[test]
    fn good_checks_show_that_an_outage_is_over_when_they_began_after_its_last_failure() {
        let mut check = Check::new("http", 1);
        let mut good = |seconds, took, failed| {
            observe(&mut check, true, seconds);
            check.took = took;
            check.count_recovery(at(failed));
            check.recovered(at(failed))
        };
        assert_eq!(good(2, 1_500, 1), 0, "begun before");
        assert_eq!([good(3, 10, 1), good(4, 10, 1)], [1, 2]);
        assert_eq!(good(6, 10, 5), 1, "another failure");
        observe(&mut check, false, 7);
        check.count_recovery(at(5));
        assert_eq!(check.recovered(at(5)), 0, "a failed one between");
    }
}
