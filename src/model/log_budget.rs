//! How many lines about peers' states may be logged: an outage of many peers at once must not fill the disk, nor hide what matters.
//!
//! A bucket of tokens (a leaky bucket as a meter, ITU-T I.371): [`BURST`] lines at once, and one more for each [`PACE`] that passes. It
//! is one for all workers, so the figures are those of the whole proxy. What finds the bucket empty is counted, and told of in one line
//! a minute. A hundred peers that all die and come back fit into the burst; whatever happens, a minute has no more than
//! `BURST` and 60 s / `PACE` lines, and the minutes after that no more than the latter.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::time::{format_duration, Timestamp};

/// How many lines there may be at once.
const BURST: u32 = 200;
/// The time for which one more may be logged.
const PACE: Duration = Duration::from_secs(1);
/// How often it is told what was not logged.
const PAUSE: Duration = Duration::from_secs(60);
/// How many upstreams are named then.
const MOST_NAMES: usize = 5;

/// What there is left, and what was not logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogBudget {
    /// When the bucket is full again.
    full: Timestamp,
    silence: Option<Silence>,
}

/// What was not logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Silence {
    since: Timestamp,
    lines: u64,
    /// The upstreams that they were about, the first few.
    upstreams: Vec<String>,
    /// There were others.
    has_others: bool,
    /// When that was told.
    until: Timestamp,
}

impl LogBudget {
    /// Takes a line about a peer of this upstream out of the budget. Returns whether it may be logged; if not, it is counted.
    pub(crate) fn take(&mut self, upstream: &str, now: Timestamp) -> bool {
        let empty = now.after(PACE * BURST);
        // No further ahead than that, if the clock was turned back: what comes in at the pace is there.
        self.full = self.full.clamp(now, empty);
        if self.full.after(PACE) <= empty {
            self.full = self.full.after(PACE);
            return true;
        }
        let silence = self.silence.get_or_insert_with(|| Silence {
            since: now,
            lines: 0,
            upstreams: Vec::new(),
            has_others: false,
            until: now,
        });
        silence.lines = silence.lines.saturating_add(1);
        if !silence.upstreams.iter().any(|known| known == upstream) {
            if silence.upstreams.len() < MOST_NAMES {
                silence.upstreams.push(upstream.to_owned());
            } else {
                silence.has_others = true;
            }
        }
        false
    }

    /// What was not logged, if it is time to tell; it is forgotten then.
    pub(crate) fn tell(&mut self, now: Timestamp) -> Option<Silence> {
        let silence = self.silence.take_if(|silence| now < silence.since || now.since(silence.since) >= PAUSE)?;
        Some(Silence { until: now, ..silence })
    }

    /// Whether there is something to tell.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        self.clone().tell(now).is_some()
    }
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = Duration::from_secs(self.until.since(self.since).as_secs());
        let (names, others) = (self.upstreams.join(", "), if self.has_others { " and others" } else { "" });
        write!(
            f,
            "{} more changes were not logged in {}, of upstreams {names}{others}: the status page and GET /upstreams have the states",
            self.lines,
            format_duration(time),
        )
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
            minutes[(change / 3_000) as usize] +=
                u32::from(budget.take("web", now)) + u32::from(budget.tell(now).is_some());
        }
        assert_eq!(minutes[0], BURST + 59);
        assert!(minutes[1..].iter().all(|lines| (60..=62).contains(lines)), "{minutes:?}");
    }

    #[test]
    fn what_was_not_logged_is_told_of_in_one_line() {
        let mut budget = LogBudget::default();
        (0..BURST).for_each(|_| assert!(budget.take("web", NOW)));
        for upstream in ["web", "web", "api", "a", "b", "c", "d"] {
            assert!(!budget.take(upstream, NOW));
        }
        assert!(!budget.is_due(at(59_000)) && budget.tell(at(59_000)).is_none());
        assert!(budget.is_due(at(61_500)));
        assert_eq!(
            budget.tell(at(61_500)).unwrap().to_string(),
            "7 more changes were not logged in 1m 1s, of upstreams web, api, a, b, c and others: the status page and GET /upstreams have \
             the states"
        );
        assert!(budget.tell(at(200_000)).is_none());
    }

    #[test]
    fn a_clock_that_jumps_stops_nothing() {
        let mut budget = LogBudget::default();
        (0..1_000).for_each(|_| _ = budget.take("web", at(100_000_000)));
        let lines = (0..100).filter(|second| budget.take("web", at(second * 1_000))).count();
        assert!(lines >= 99, "{lines} lines after it was turned back");
        let lines = (0..1_000).filter(|_| budget.take("web", at(200_000_000))).count();
        assert_eq!(lines, BURST as usize);
    }
}
