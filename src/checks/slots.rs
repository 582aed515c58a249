//! When checks are due: points in time that everybody can work out.
//!
//! A check has one slot in each interval. Where in the interval that lies is drawn from a hash of what is checked and of a
//! number that the machine's workers share, so that checks are spread evenly, and two machines do not check the same
//! server at the same moment. A little jitter makes it differ from interval to interval.
//!
//! So there is nothing to remember of a schedule but the time up to which slots were taken, and whoever takes over the
//! checks goes on with the next slot: nothing is checked twice, however often and however badly that happens.

use std::time::Duration;

use xxhash_rust::xxh64::xxh64;

use crate::bits::mix;
use crate::time::Timestamp;

/// The part of an interval by which slots are jittered.
const JITTER: u64 = 20;

/// The slots of one check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots {
    /// Nanoseconds.
    interval: u64,
    seed: u64,
}

impl Slots {
    /// The slots of a check by what tells it from all others.
    pub(crate) fn new(interval: Duration, seed: u64, of: &[&str]) -> Self {
        let seed = of.iter().fold(seed, |seed, text| xxh64(text.as_bytes(), seed));
        Self { interval: u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX).max(1), seed }
    }

    /// The first slot after a point in time, and its number.
    pub(crate) fn next(&self, after: Timestamp) -> (Timestamp, u64) {
        let after = after.as_nanos();
        let phase = mix(self.seed, 1) % self.interval;
        let mut number = (after.saturating_sub(phase) / self.interval).saturating_sub(1);
        loop {
            let jitter = mix(self.seed, number) % (self.interval / JITTER).max(1);
            let slot = number.saturating_mul(self.interval).saturating_add(phase).saturating_add(jitter);
            // The end of time comes for slots too.
            if slot > after || slot == u64::MAX {
                return (Timestamp::from_nanos(slot), number);
            }
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn there_is_one_slot_in_each_interval() {
        let second = Duration::from_secs(1);
        for peer in ["a", "b", "c"] {
            let slots = Slots::new(second, 7, &["web", "http", peer]);
            let mut at = Timestamp::from_millis(1_700_000_000_123);
            let mut last = slots.next(at).1;
            for _ in 0..100 {
                let (slot, number) = slots.next(at);
                let gap = slot.since(at);
                assert!(gap <= second + second / 20, "{gap:?}");
                assert!(number == last || number == last + 1);
                (at, last) = (slot, number);
            }
        }
    }

    #[test]
    fn the_next_slot_does_not_depend_on_when_it_is_asked_for() {
        let slots = Slots::new(Duration::from_millis(700), 7, &["x"]);
        let start = Timestamp::from_millis(1_700_000_000_000);
        let (first, _) = slots.next(start);
        for offset in 0..first.since(start).as_millis() as u64 {
            assert_eq!(slots.next(start.after(Duration::from_millis(offset))).0, first);
        }
    }

    #[test]
    fn many_checks_are_spread_over_the_interval() {
        let start = Timestamp::from_millis(1_700_000_000_000);
        let mut tenths = [0; 10];
        for peer in 0..1_000 {
            let slots = Slots::new(Duration::from_secs(5), 7, &["web", "http", &peer.to_string()]);
            let wait = slots.next(start).0.since(start);
            tenths[(wait.as_millis() / 500).min(9) as usize] += 1;
        }
        assert!(tenths.iter().all(|count| (60..150).contains(count)), "{tenths:?}");
    }

    #[test]
    fn any_interval_has_slots() {
        for interval in [1, 999, u64::MAX] {
            let slots = Slots::new(Duration::from_nanos(interval), 7, &["x"]);
            for at in [0, 1, u64::MAX] {
                let _ = slots.next(Timestamp::from_nanos(at));
            }
        }
    }
}
