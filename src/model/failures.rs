//! Failures counted against peers: the passive verdict, and how it is kept in shared data.
//!
//! A window starts at a peer's first failure and lasts `fail_timeout`. At `max_fails` failures within
//! it the peer is temporarily down for `fail_timeout`; a failure in that time renews it. Afterwards it is
//! back as if nothing had been. These are nginx's parameters, with a window that does not slide.
//!
//! All counters of an upstream are one value, apart from its [`Record`](crate::model::upstream::Record): failures
//! can come by the thousand per second, and must not cost a worker the parsing of all servers. Only peers
//! that have failed lately are in it. Layout, all integers little endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 4 | `DPH` and the format's number, 2 |
//! | 4 | how many entries follow |
//! | 28 each | peer's id (4), failures (4), those of them by checks (4), since (8), until (8): times in milliseconds since the epoch |
//!
//! A peer that was down and starts slowly stays in it, with no failures, from its return until it has all of its
//! weight.
//!
//! The clock may jump. Ahead, and peers come back early. Back, and times lie further ahead than they can:
//! such an entry is void, so that no peer stays down for the length of the jump.

use std::time::Duration;

use crate::model::id::PeerId;
use crate::time::Timestamp;

/// How far the clocks of two workers may differ: nginx's workers cache the time.
const SKEW: Duration = Duration::from_secs(1);

const MAGIC: [u8; 4] = *b"DPH\x02";
const ENTRY: usize = 28;

/// The failures counted against one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    /// Failures in the window; 0 for a peer that is back and starts slowly.
    pub count: u32,
    /// How many of them were checks by monitors, which take them back when the peer is well again.
    pub checks: u32,
    /// When the window started, or the slow start.
    pub since: Timestamp,
    /// Until when the peer is temporarily down; the epoch if it is not.
    pub until: Timestamp,
}

/// What failures mean for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassiveVerdict {
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
    pub fn verdict(&self, now: Timestamp, fail_timeout: Duration) -> PassiveVerdict {
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
    pub fn back_since(&self, now: Timestamp) -> Option<Timestamp> {
        let back = if self.count == 0 { self.since } else { self.until };
        (back != Timestamp::default() && back <= now).then_some(back)
    }

    /// Whether anything of this still matters.
    #[must_use]
    pub fn counts(&self, now: Timestamp, fail_timeout: Duration, slow_start: Duration) -> bool {
        self.verdict(now, fail_timeout) != PassiveVerdict::Good
            || (self.count == 0 && self.back_since(now).is_some_and(|back| now < back.after(slow_start)))
    }

    /// These failures and one more, of a request or of a check.
    #[must_use]
    pub fn and_one(&self, now: Timestamp, max_fails: u32, fail_timeout: Duration, is_check: bool) -> Self {
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
}

impl Failures {
    /// These failures without those of checks: monitors find the peer well again. What requests alone imposed stays.
    #[must_use]
    pub fn without_checks(&self, now: Timestamp, max_fails: u32, fail_timeout: Duration) -> Self {
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

/// The failures of an upstream's peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FailureTable {
    /// Ordered by id.
    entries: Vec<(PeerId, Failures)>,
}

impl FailureTable {
    /// The failures counted against a peer.
    #[must_use]
    pub fn of(&self, peer: PeerId) -> Failures {
        let found = self.entries.binary_search_by_key(&peer, |(id, _)| *id);
        found.ok().and_then(|at| self.entries.get(at)).map(|(_, failures)| *failures).unwrap_or_default()
    }

    /// Replaces what is counted against a peer; nothing is kept of a peer without failures.
    pub fn set(&mut self, peer: PeerId, failures: Failures) {
        match self.entries.binary_search_by_key(&peer, |(id, _)| *id) {
            Ok(at) if failures == Failures::default() => {
                self.entries.remove(at);
            }
            Ok(at) => {
                if let Some(entry) = self.entries.get_mut(at) {
                    entry.1 = failures;
                }
            }
            Err(_) if failures == Failures::default() => {}
            Err(at) => self.entries.insert(at, (peer, failures)),
        }
    }

    /// Keeps the entries for which `keep` says so; it may change them.
    pub fn retain(&mut self, mut keep: impl FnMut(PeerId, &mut Failures) -> bool) {
        self.entries.retain_mut(|(id, failures)| keep(*id, failures));
    }

    /// The peers that have failed lately, with their failures.
    pub fn iter(&self) -> impl Iterator<Item = (PeerId, &Failures)> {
        self.entries.iter().map(|(id, failures)| (*id, failures))
    }

    /// The value for shared data.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.entries.len() * ENTRY);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        for (id, failures) in &self.entries {
            bytes.extend_from_slice(&id.0.to_le_bytes());
            bytes.extend_from_slice(&failures.count.to_le_bytes());
            bytes.extend_from_slice(&failures.checks.to_le_bytes());
            bytes.extend_from_slice(&failures.since.as_millis().to_le_bytes());
            bytes.extend_from_slice(&failures.until.as_millis().to_le_bytes());
        }
        bytes
    }

    /// Reads a value of shared data; `None` if that is not one of ours.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let chunks = rest.chunks_exact(ENTRY);
        if *magic != MAGIC || chunks.len() != u32::from_le_bytes(*length) as usize || !chunks.remainder().is_empty() {
            return None;
        }
        let mut entries = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let (id, chunk) = chunk.split_first_chunk::<4>()?;
            let (count, chunk) = chunk.split_first_chunk::<4>()?;
            let (checks, chunk) = chunk.split_first_chunk::<4>()?;
            let (since, chunk) = chunk.split_first_chunk::<8>()?;
            let (until, _) = chunk.split_first_chunk::<8>()?;
            let failures = Failures {
                count: u32::from_le_bytes(*count),
                checks: u32::from_le_bytes(*checks),
                since: Timestamp::from_millis(u64::from_le_bytes(*since)),
                until: Timestamp::from_millis(u64::from_le_bytes(*until)),
            };
            entries.push((PeerId(u32::from_le_bytes(*id)), failures));
        }
        entries.is_sorted_by(|(a, _), (b, _)| a < b).then_some(Self { entries })
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

    #[test]
    fn health_survives_shared_data() {
        let mut health = FailureTable::default();
        for id in [7, 1, 300] {
            health.set(PeerId(id), Failures { count: id, checks: 1, since: at(1), until: at(2) });
        }
        assert_eq!(FailureTable::decode(&health.encode()), Some(health.clone()));
        health.set(PeerId(7), Failures::default());
        assert_eq!(health.iter().map(|(id, _)| id.0).collect::<Vec<_>>(), [1, 300]);
        assert_eq!(health.of(PeerId(7)), Failures::default());
    }

    #[test]
    fn foreign_bytes_are_refused() {
        let mut health = FailureTable::default();
        health.set(PeerId(1), Failures { count: 1, checks: 0, since: at(1), until: at(2) });
        let good = health.encode();
        for cut in 0..good.len() {
            assert_eq!(FailureTable::decode(&good[..cut]), None);
        }
        let mut long = good.clone();
        long.push(0);
        assert_eq!(FailureTable::decode(&long), None);
        let mut twice = good.clone();
        twice[4] = 2;
        twice.extend_from_slice(&good[8..]);
        assert_eq!(FailureTable::decode(&twice), None, "one id twice");
    }
}
