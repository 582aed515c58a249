//! Least time: the faster and less busy of two peers that are drawn by weight.
//!
//! **Algorithm.** Of two peers drawn by weight, take the one where the average response time times the requests in flight
//! is lower: about how long a new request would wait. The average is a peak-sensitive one with a decay of 10 s
//! ([`Load`](crate::balancer::load::Load)): it rises at once with a slow response and falls with time, so a peer that became slow is
//! avoided from its first slow response on, and tried again after a while. A failure counts as a second at least. A
//! peer without a response yet starts at the mean of the others. (Peak EWMA with two choices: Finagle, linkerd2-proxy,
//! `tower::balance::p2c`; the analysis of the two choices is in [`Random`](super::Random).)
//!
//! **Bound.** None: it follows measurements.
//!
//! **Cost.** Constant: two draws, two exponentials.
//!
//! **Choose it** when servers differ in speed, or one of them may become slow without failing.

use super::random::TwoChoices;
use super::{Balancer, Candidates, Entry, Options, Pick};
use crate::time::Timestamp;

/// Peak EWMA of the response time, times requests in flight.
#[derive(Debug)]
pub struct LeastTime {
    choices: TwoChoices,
    /// Whether somebody has no latency yet, not even an assumed one.
    newcomers: bool,
    picks: u32,
}

impl LeastTime {
    /// A balancer without entries.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self { choices: TwoChoices::new(options), newcomers: false, picks: 0 }
    }
}

impl Balancer for LeastTime {
    fn set_entries(&mut self, entries: &[Entry]) {
        self.choices.set_entries(entries);
        self.newcomers = entries.iter().any(|entry| !entry.load.has_latency());
        self.picks = 0;
    }

    fn pick(&mut self, request: &Pick<'_>, candidates: &mut Candidates) {
        let now = request.now;
        // While nobody has answered yet there is no mean, and looking for one at every pick would cost.
        self.picks = self.picks.wrapping_add(1);
        if self.newcomers && self.picks % 32 == 1 {
            self.newcomers = !assume_mean(&self.choices.entries, now);
        }
        self.choices.pick(candidates, |entry| {
            let latency = entry.load.latency(now).unwrap_or_default().max(1.0);
            latency * (f64::from(entry.load.in_flight()) + 1.0) / f64::from(entry.effective().max(1))
        });
    }
}

/// Gives those who have no latency yet the mean of the others. Returns whether there were any others.
fn assume_mean(entries: &[Entry], now: Timestamp) -> bool {
    let measured = entries.iter().filter_map(|entry| entry.load.latency(now));
    let (sum, count) = measured.fold((0.0, 0.0), |(sum, count), latency| (sum + latency, count + 1.0));
    if count > 0.0 {
        let newcomers = entries.iter().filter(|entry| !entry.load.has_latency());
        newcomers.for_each(|entry| entry.load.assume_latency(sum / count, now));
    }
    count > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::load::InFlight;
    use crate::balancer::RoundRobin;
    use crate::testing::test;
    use std::collections::BinaryHeap;
    use std::rc::Rc;
    use std::time::Duration;

    /// The 99th percentile of the response time in ms: ten servers that work off one request after the other in 10 ms
    /// each on average, one of them in 200 ms, and Poisson arrivals at 70 % of what all can do together.
    fn p99(mut balancer: Box<dyn Balancer>, seed: u64) -> f64 {
        let mut random = fastrand::Rng::with_seed(seed);
        let entries: Vec<Entry> = (0..10).map(|n| Entry::new(&format!("h{n}:1"), 1)).collect();
        balancer.set_entries(&entries);
        let mean = |server: usize| if server == 0 { 200.0 } else { 10.0 };
        let capacity: f64 = (0..10).map(|server| 1.0 / mean(server)).sum();
        let (mut now, mut free) = (1e6, [0.0_f64; 10]);
        let mut ends: BinaryHeap<std::cmp::Reverse<(u64, usize)>> = BinaryHeap::new();
        let mut under_way: Vec<Option<InFlight>> = Vec::new();
        let mut times = Vec::new();
        let at = |ms: f64| Timestamp::from_nanos((ms * 1e6) as u64);
        for _ in 0..40_000 {
            now += -random.f64().max(1e-12).ln() / (0.7 * capacity);
            while let Some(std::cmp::Reverse((end, request))) =
                ends.peek().copied().filter(|e| e.0 .0 <= (now * 1e6) as u64)
            {
                ends.pop();
                let request = under_way[request].take().unwrap();
                let end = Timestamp::from_nanos(end);
                request.load().responded(end.since(request.since), end);
            }
            let mut candidates = Candidates::with_room_for(1);
            balancer.pick(&Pick { now: at(now), ..Pick::default() }, &mut candidates);
            let server = candidates.as_slice()[0] as usize;
            let work = -random.f64().max(1e-12).ln() * mean(server);
            free[server] = free[server].max(now) + work;
            ends.push(std::cmp::Reverse(((free[server] * 1e6) as u64, under_way.len())));
            under_way.push(Some(InFlight::begin(Rc::clone(&entries[server].load), at(now))));
            times.push(free[server] - now);
        }
        // Without the time in which queues fill and latencies are learned.
        let mut times = times.split_off(5_000);
        times.sort_by(f64::total_cmp);
        times[times.len() * 99 / 100]
    }

    #[test]
    fn a_slow_server_is_avoided() {
        for seed in 1..4 {
            let least_time = p99(Box::new(LeastTime::new(&Options { seed, ..Options::default() })), seed);
            let round_robin = p99(Box::new(RoundRobin::weighted()), seed);
            assert!(least_time * 3.0 <= round_robin, "{least_time:.0} ms, round robin {round_robin:.0} ms");
        }
    }

    #[test]
    fn who_fails_quickly_does_not_look_fast() {
        let entries: Vec<Entry> = (0..2).map(|n| Entry::new(&format!("h{n}:1"), 1)).collect();
        let mut balancer = LeastTime::new(&Options::default());
        balancer.set_entries(&entries);
        let now = Timestamp::from_millis(1_700_000_000_000);
        entries[0].load.failed(Duration::from_micros(10), now);
        entries[1].load.responded(Duration::from_millis(50), now);
        for _ in 0..50 {
            let mut candidates = Candidates::with_room_for(1);
            balancer.pick(&Pick { now, ..Pick::default() }, &mut candidates);
            // A draw may give the same peer twice; whenever there is a choice it is the other one.
            entries[candidates.as_slice()[0] as usize].load.responded(Duration::from_millis(50), now);
        }
        assert!(entries[1].load.latency(now) < entries[0].load.latency(now));
    }
}
