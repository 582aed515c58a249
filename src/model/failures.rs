//! Failures counted against a peer, and the passive verdict that they make.
//!
//! A window starts at a peer's first failure and lasts `fail_timeout`. At `max_fails` failures within
//! it the peer is temporarily down for `fail_timeout`; a failure in that time renews it. Afterwards it is
//! back as if nothing had been. These are nginx's parameters, with a window that does not slide.
//!
//! The clock may jump. Ahead, and peers come back early. Back, and times lie further ahead than they can:
//! such an entry is void, so that no peer stays down for the length of the jump.

use std::time::Duration;

use crate::time::Timestamp;

/// How far the clocks of two workers may differ: nginx's workers cache the time.
const SKEW: Duration = Duration::from_secs(1);

/// The failures counted against one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// Failures in the window; 0 for a peer that is back and starts slowly.
    pub(crate) count: u32,
    /// How many of them were checks by monitors, which take them back when the peer is well again.
    pub(crate) checks: u32,
    /// When the window started, or the slow start.
    pub(crate) since: Timestamp,
    /// Until when the peer is temporarily down; the epoch if it is not.
    pub(crate) until: Timestamp,
}

/// What failures mean for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PassiveVerdict {
    /// No failure counts any more.
    Good,
    /// Failures, but fewer than `max_fails` within the window.
    Failing,
    /// Temporarily down.
    Down {
        /// Until then.
        until: Timestamp,
    },
}

impl Failures {
    /// What these failures mean now.
    #[must_use]
    pub(crate) fn verdict(&self, now: Timestamp, fail_timeout: Duration) -> PassiveVerdict {
        let possible = |end: Timestamp| now < end && end <= now.after(fail_timeout).after(SKEW);
        if possible(self.until) {
            PassiveVerdict::Down { until: self.until }
        } else if self.until == Timestamp::default() && self.count > 0 && possible(self.since.after(fail_timeout)) {
            PassiveVerdict::Failing
        } else {
            PassiveVerdict::Good
        }
    }

    /// Since when the peer is back, as far as these failures tell: the time at which a slow start begins.
    #[must_use]
    pub(crate) fn back_since(&self, now: Timestamp) -> Option<Timestamp> {
        let back = if self.count == 0 { self.since } else { self.until };
        (back != Timestamp::default() && back <= now).then_some(back)
    }

    /// Whether anything of this still matters.
    #[must_use]
    pub(crate) fn counts(&self, now: Timestamp, fail_timeout: Duration, slow_start: Duration) -> bool {
        self.verdict(now, fail_timeout) != PassiveVerdict::Good
            || (self.count == 0 && self.back_since(now).is_some_and(|back| now < back.after(slow_start)))
    }

    /// These failures and one more, of a request or of a check.
    #[must_use]
    pub(crate) fn and_one(&self, now: Timestamp, max_fails: u32, fail_timeout: Duration, is_check: bool) -> Self {
        let mut failures = match self.verdict(now, fail_timeout) {
            PassiveVerdict::Good => Self { since: now, ..Self::default() },
            PassiveVerdict::Failing | PassiveVerdict::Down { .. } => *self,
        };
        failures.count = failures.count.saturating_add(1);
        failures.checks = failures.checks.saturating_add(u32::from(is_check));
        if max_fails > 0 && failures.count >= max_fails && !fail_timeout.is_zero() {
            failures.until = now.after(fail_timeout);
        }
        failures
    }

    /// These failures without those of checks: monitors find the peer well again. What requests alone imposed stays.
    #[must_use]
    pub(crate) fn without_checks(&self, now: Timestamp, max_fails: u32, fail_timeout: Duration) -> Self {
        let count = self.count.saturating_sub(self.checks);
        if self.checks == 0 || (max_fails > 0 && count >= max_fails) {
            return Self { checks: 0, ..*self };
        }
        let was_down = matches!(self.verdict(now, fail_timeout), PassiveVerdict::Down { .. });
        match count {
            // Back, and slowly if its `slow_start` says so.
            0 if was_down => Self { since: now, ..Self::default() },
            0 => Self::default(),
            count => Self { count, checks: 0, since: self.since, until: Timestamp::default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1_000)
    }

    #[test]
    fn max_fails_within_the_window_take_a_peer_down() {
        let one = Failures::default().and_one(at(0), 3, TIMEOUT, false);
        assert_eq!(one.verdict(at(0), TIMEOUT), PassiveVerdict::Failing);
        let two = one.and_one(at(9), 3, TIMEOUT, false);
        assert_eq!(two.verdict(at(9), TIMEOUT), PassiveVerdict::Failing);
        assert_eq!(two.verdict(at(10), TIMEOUT), PassiveVerdict::Good, "the window started at the first failure");
        let late = two.and_one(at(10), 3, TIMEOUT, false);
        assert_eq!(late.count, 1, "a failure after the window starts a new one");
        let three = two.and_one(at(9), 3, TIMEOUT, false);
        assert_eq!(three.verdict(at(9), TIMEOUT), PassiveVerdict::Down { until: at(19) });
        assert_eq!(three.verdict(at(19), TIMEOUT), PassiveVerdict::Good);
    }

    #[test]
    fn a_failure_while_down_renews_it() {
        let down = Failures::default().and_one(at(0), 1, TIMEOUT, false);
        let renewed = down.and_one(at(7), 1, TIMEOUT, false);
        assert_eq!(renewed.verdict(at(16), TIMEOUT), PassiveVerdict::Down { until: at(17) });
        assert_eq!(renewed.and_one(at(17), 1, TIMEOUT, false).count, 1, "back means back as if nothing had been");
    }

    #[test]
    fn good_checks_take_back_what_failed_checks_imposed_and_nothing_else() {
        let count = |requests, checks| {
            let failures = (0..requests).fold(Failures::default(), |f, _| f.and_one(at(0), 2, TIMEOUT, false));
            (0..checks).fold(failures, |f, _| f.and_one(at(0), 2, TIMEOUT, true))
        };
        let after =
            |requests, checks| count(requests, checks).without_checks(at(1), 2, TIMEOUT).verdict(at(1), TIMEOUT);
        assert_eq!(after(0, 2), PassiveVerdict::Good);
        assert_eq!(after(1, 1), PassiveVerdict::Failing);
        assert_eq!(after(2, 5), PassiveVerdict::Down { until: at(10) });
        assert_eq!(count(0, 2).without_checks(at(1), 2, TIMEOUT).back_since(at(1)), Some(at(1)), "a slow start begins");
    }

    #[test]
    fn max_fails_0_never_takes_a_peer_down() {
        let failures =
            (0..9).fold(Failures::default(), |failures, second| failures.and_one(at(second), 0, TIMEOUT, false));
        assert_eq!(failures.verdict(at(9), TIMEOUT), PassiveVerdict::Failing);
    }

    #[test]
    fn a_clock_that_jumps_back_frees_the_peer() {
        let down = Failures::default().and_one(at(3600), 1, TIMEOUT, false);
        assert_eq!(down.verdict(at(0), TIMEOUT), PassiveVerdict::Good);
        assert_eq!(down.and_one(at(0), 1, TIMEOUT, false).until, at(10), "and a failure counts by the new clock");
        let failing = Failures::default().and_one(at(3600), 2, TIMEOUT, false);
        assert_eq!(failing.and_one(at(0), 2, TIMEOUT, false).count, 1);
        assert!(
            matches!(down.verdict(at(3599), TIMEOUT), PassiveVerdict::Down { .. }),
            "workers' clocks differ a little"
        );
    }

    #[test]
    fn no_fail_timeout_means_never_down() {
        let failures = Failures::default().and_one(at(0), 1, Duration::ZERO, false);
        assert_eq!(failures.verdict(at(0), Duration::ZERO), PassiveVerdict::Good);
    }
}
