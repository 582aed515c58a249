//! How many lines about the states of peers, or of upstreams, may be logged: an outage of many at once must not fill the disk, nor hide
//! what matters.
//!
//! A bucket of tokens (a leaky bucket as a meter, ITU-T I.371): [`BURST`] lines at once, and one more for each [`PACE`] that passes. It
//! is one for all workers, so the figures are those of the whole proxy. What finds the bucket empty is counted, and told of in one line
//! a minute. A hundred peers that all die and come back fit into the burst; whatever happens, a minute has no more than
//! `BURST` and 60 s / `PACE` lines, and the minutes after that no more than the latter.

use std::time::Duration;

use crate::time::Timestamp;

/// How many lines there may be at once.
const BURST: u32 = 200;
/// The time for which one more may be logged.
const PACE: Duration = Duration::from_secs(1);
/// How often it is told what was not logged.
const PAUSE: Duration = Duration::from_secs(60);

/// What there is left, and what was not logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LogBudget {
    /// When the bucket is full again.
    full: Timestamp,
    /// When the first line was not logged of which nothing was told yet, and how many there were.
    since: Timestamp,
    silent: u64,
}

impl LogBudget {
    /// Three numbers of eight bytes.
    pub(crate) fn encode(self) -> Vec<u8> {
        [self.full.as_nanos(), self.since.as_nanos(), self.silent].map(u64::to_le_bytes).concat()
    }

    /// What the bytes say; a new one if they are none of these.
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let number =
            |at| bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self { full: Timestamp::from_nanos(number(0)), since: Timestamp::from_nanos(number(8)), silent: number(16) }
    }

    /// Takes a line out of the budget. Returns whether it may be logged; if not, it is counted.
    pub(crate) fn take(&mut self, now: Timestamp) -> bool {
        let empty = now.after(PACE * BURST);
        // No further ahead than that, if the clock was turned back: what comes in at the pace is there.
        self.full = self.full.clamp(now, empty);
        if self.full.after(PACE) <= empty {
            self.full = self.full.after(PACE);
            return true;
        }
        if self.silent == 0 {
            self.since = now;
        }
        self.silent = self.silent.saturating_add(1);
        false
    }

    /// How many lines were not logged, and in which time, if it is time to tell; that is forgotten then.
    pub(crate) fn tell(&mut self, now: Timestamp) -> Option<(u64, Duration)> {
        let time = now.since(self.since);
        if self.silent == 0 || now >= self.since && time < PAUSE {
            return None;
        }
        Some((std::mem::take(&mut self.silent), time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn at(millis: u64) -> Timestamp {
        NOW.after(Duration::from_millis(millis))
    }

    #[test]
    fn no_minute_has_more_than_the_burst_and_the_pace_and_later_ones_have_the_pace() {
        let mut budget = LogBudget::default();
        // 50 changes a second for five minutes.
        let mut minutes = [0; 5];
        for change in 0..15_000 {
            let now = at(change * 20);
            minutes[(change / 3_000) as usize] += u32::from(budget.take(now)) + u32::from(budget.tell(now).is_some());
        }
        assert_eq!(minutes[0], BURST + 59);
        assert!(minutes[1..].iter().all(|lines| (60..=62).contains(lines)), "{minutes:?}");
    }

    #[test]
    fn what_was_not_logged_is_told_of_in_one_line() {
        let mut budget = LogBudget::default();
        (0..BURST).for_each(|_| assert!(budget.take(NOW)));
        (0..7).for_each(|_| assert!(!budget.take(NOW)));
        budget = LogBudget::decode(&budget.encode());
        assert_eq!(budget.tell(at(59_000)), None);
        assert_eq!(budget.tell(at(61_500)), Some((7, Duration::from_millis(61_500))));
        assert_eq!(budget.tell(at(200_000)), None);
        assert_eq!(LogBudget::decode(b"foreign"), LogBudget::default());
    }

    #[test]
    fn a_clock_that_jumps_stops_nothing() {
        let mut budget = LogBudget::default();
        (0..1_000).for_each(|_| _ = budget.take(at(100_000_000)));
        let lines = (0..100).filter(|second| budget.take(at(second * 1_000))).count();
        assert!(lines >= 99, "{lines} lines after it was turned back");
        let lines = (0..1_000).filter(|_| budget.take(at(200_000_000))).count();
        assert_eq!(lines, BURST as usize);
    }
}
