//! Failures of requests counted against a peer, and the passive verdict that they make.
//!
//! A window starts at a peer's first failure and lasts `fail_timeout`. At `max_fails` failures within it the peer is temporarily
//! down: an outage begins. These are nginx's parameters, with a window that does not slide. The outage lasts `fail_timeout` from the
//! last failure, and then until a request shows that it is over: the peer is on trial. Where no request comes for another
//! `fail_timeout` nobody knows, and the outage is over, too; one that is under way is waited for, a minute at most. A script that counts failures counts them without requests, and such an
//! outage ends by the clock alone.
//!
//! The clock may jump. Ahead, and peers come back early. Back, and times lie further ahead than they can:
//! such an entry is void, so that no peer stays down for the length of the jump.

use std::time::Duration;

use crate::time::Timestamp;

/// How long a trial is waited for. A request that goes on for longer has begun to be answered, or its worker is gone.
const LONGEST_TRIAL: Duration = Duration::from_secs(60);

/// So long after the last failure an answered request shows that a peer is well that is kept in use. One that fails now and then is not
/// called well between any two failures.
const CALM: Duration = Duration::from_secs(1);

/// How far the clocks of two workers may differ: nginx's workers cache the time.
const SKEW: Duration = Duration::from_secs(1);

/// The failures counted against one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    /// Failures in the window, or in the outage; 0 for a peer that is back and starts slowly.
    pub(crate) count: u32,
    /// There were so many that an outage began.
    pub(crate) is_outage: bool,
    /// Some of them are of requests. Then a request has to show that the outage is over.
    pub(crate) of_requests: bool,
    /// When the window started, or the outage, or the slow start.
    pub(crate) since: Timestamp,
    /// When the last failure was.
    pub(crate) last: Timestamp,
    /// When the first request went there on trial; the epoch if none did.
    pub(crate) tried: Timestamp,
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
    /// Temporarily down until a request is answered.
    OnTrial {
        /// Until then at the latest.
        until: Timestamp,
    },
}

/// Whether what ends then, after so long, has not ended yet. What would end later than that was begun by another clock.
#[must_use]
pub(crate) fn lasts(end: Timestamp, length: Duration, now: Timestamp) -> bool {
    now < end && end <= now.after(length).after(SKEW)
}

impl Failures {
    /// What these failures mean now.
    #[must_use]
    pub(crate) fn verdict(&self, now: Timestamp, fail_timeout: Duration) -> PassiveVerdict {
        if !self.is_outage {
            let is_failing = self.count > 0 && lasts(self.since.after(fail_timeout), fail_timeout, now);
            return if is_failing { PassiveVerdict::Failing } else { PassiveVerdict::Good };
        }
        let end = self.last.after(fail_timeout);
        let forgotten = self.forgotten(fail_timeout);
        if lasts(end, fail_timeout, now) {
            PassiveVerdict::Down { until: end }
        } else if self.of_requests && end <= now && now < forgotten {
            PassiveVerdict::OnTrial { until: forgotten }
        } else {
            PassiveVerdict::Good
        }
    }

    /// Whether a request went there on trial since the last failure.
    #[must_use]
    pub(crate) fn is_tried(&self, fail_timeout: Duration) -> bool {
        self.tried >= self.last.after(fail_timeout)
    }

    /// When an outage is over of which no request shows that.
    fn forgotten(&self, fail_timeout: Duration) -> Timestamp {
        let end = self.last.after(fail_timeout);
        let untried = end.after(fail_timeout);
        if self.is_tried(fail_timeout) {
            untried.max(self.tried.after(LONGEST_TRIAL))
        } else {
            untried
        }
    }

    /// Since when the peer is back, as far as these failures tell: the time at which a slow start begins.
    #[must_use]
    pub(crate) fn back_since(&self, now: Timestamp, fail_timeout: Duration) -> Option<Timestamp> {
        let back = match (self.is_outage, self.of_requests) {
            (false, _) if self.count == 0 => self.since,
            (false, _) => return None,
            (true, false) => self.last.after(fail_timeout),
            (true, true) => self.forgotten(fail_timeout),
        };
        (back != Timestamp::default() && back <= now).then_some(back)
    }

    /// Whether a request that is answered now shows that the outage is over, where the peer is in use in spite of it.
    #[must_use]
    pub(crate) fn is_calm(&self, now: Timestamp, fail_timeout: Duration) -> bool {
        let is_out = !matches!(self.verdict(now, fail_timeout), PassiveVerdict::Good | PassiveVerdict::Failing);
        is_out && self.of_requests && self.last.after(CALM.min(fail_timeout)) <= now
    }

    /// Whether anything of this still matters.
    #[must_use]
    pub(crate) fn counts(&self, now: Timestamp, fail_timeout: Duration, slow_start: Duration) -> bool {
        self.verdict(now, fail_timeout) != PassiveVerdict::Good
            || (self.count == 0 && self.back_since(now, fail_timeout).is_some_and(|back| now < back.after(slow_start)))
    }

    /// These failures and one more, of a request or of what a script saw.
    #[must_use]
    pub(crate) fn and_one(&self, now: Timestamp, max_fails: u32, fail_timeout: Duration, of_request: bool) -> Self {
        let mut failures = match self.verdict(now, fail_timeout) {
            PassiveVerdict::Good => Self { since: now, ..Self::default() },
            PassiveVerdict::Failing | PassiveVerdict::Down { .. } | PassiveVerdict::OnTrial { .. } => *self,
        };
        failures.count = failures.count.saturating_add(1);
        failures.of_requests |= of_request;
        failures.last = now;
        if !failures.is_outage && max_fails > 0 && failures.count >= max_fails && !fail_timeout.is_zero() {
            (failures.is_outage, failures.since) = (true, now);
        }
        failures
    }

    /// Nothing against the peer any more since that time: it starts slowly, if its `slow_start` says so.
    #[must_use]
    pub(crate) fn over(since: Timestamp) -> Self {
        Self { since, ..Self::default() }
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

    fn requests(times: &[u64], max_fails: u32) -> Failures {
        times
            .iter()
            .fold(Failures::default(), |failures, second| failures.and_one(at(*second), max_fails, TIMEOUT, true))
    }

    #[test]
    fn max_fails_within_the_window_take_a_peer_down() {
        let one = requests(&[0], 3);
        assert_eq!(one.verdict(at(0), TIMEOUT), PassiveVerdict::Failing);
        let two = requests(&[0, 9], 3);
        assert_eq!(two.verdict(at(9), TIMEOUT), PassiveVerdict::Failing);
        assert_eq!(two.verdict(at(10), TIMEOUT), PassiveVerdict::Good, "the window started at the first failure");
        assert_eq!(requests(&[0, 9, 10], 3).count, 1, "a failure after the window starts a new one");
        let three = requests(&[0, 9, 9], 3);
        assert_eq!(three.verdict(at(9), TIMEOUT), PassiveVerdict::Down { until: at(19) });
    }

    #[test]
    fn a_failure_while_down_renews_it() {
        let renewed = requests(&[0, 7], 1);
        assert_eq!(renewed.verdict(at(16), TIMEOUT), PassiveVerdict::Down { until: at(17) });
        assert_eq!(renewed.since, at(0));
    }

    #[test]
    fn an_outage_goes_on_until_a_request_is_answered_or_none_came_for_long_enough() {
        let down = requests(&[0], 1);
        assert_eq!(down.verdict(at(10), TIMEOUT), PassiveVerdict::OnTrial { until: at(20) });
        let failed = requests(&[0, 15], 1);
        assert_eq!((failed.count, failed.since), (2, at(0)), "the same outage");
        assert_eq!(failed.verdict(at(24), TIMEOUT), PassiveVerdict::Down { until: at(25) });
        assert_eq!(down.verdict(at(20), TIMEOUT), PassiveVerdict::Good);
        assert_eq!(requests(&[0, 20], 1).since, at(20), "back means back as if nothing had been");
    }

    #[test]
    fn an_outage_is_not_forgotten_while_a_trial_is_under_way() {
        let tried = Failures { tried: at(19), ..requests(&[0], 1) };
        assert_eq!(tried.verdict(at(78), TIMEOUT), PassiveVerdict::OnTrial { until: at(79) });
        let failed = tried.and_one(at(30), 1, TIMEOUT, true);
        assert_eq!(failed.verdict(at(45), TIMEOUT), PassiveVerdict::OnTrial { until: at(50) }, "that one is over");
    }

    #[test]
    fn what_a_script_counted_ends_by_the_clock() {
        let down = Failures::default().and_one(at(0), 1, TIMEOUT, false);
        assert_eq!(down.verdict(at(9), TIMEOUT), PassiveVerdict::Down { until: at(10) });
        assert_eq!(down.verdict(at(10), TIMEOUT), PassiveVerdict::Good);
        assert_eq!(down.back_since(at(10), TIMEOUT), Some(at(10)));
    }

    #[test]
    fn max_fails_0_never_takes_a_peer_down() {
        assert_eq!(requests(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 0).verdict(at(9), TIMEOUT), PassiveVerdict::Failing);
    }

    #[test]
    fn a_clock_that_jumps_back_frees_the_peer() {
        let down = requests(&[3600], 1);
        assert_eq!(down.verdict(at(0), TIMEOUT), PassiveVerdict::Good);
        let renewed = down.and_one(at(0), 1, TIMEOUT, true);
        assert_eq!(renewed.verdict(at(0), TIMEOUT), PassiveVerdict::Down { until: at(10) }, "by the new clock");
        let failing = requests(&[3600], 2);
        assert_eq!(failing.and_one(at(0), 2, TIMEOUT, true).count, 1);
        assert!(
            matches!(down.verdict(at(3599), TIMEOUT), PassiveVerdict::Down { .. }),
            "workers' clocks differ a little"
        );
    }

    #[test]
    fn no_fail_timeout_means_never_down() {
        let failures = Failures::default().and_one(at(0), 1, Duration::ZERO, true);
        assert_eq!(failures.verdict(at(0), Duration::ZERO), PassiveVerdict::Good);
    }
}
