//! Least time: the faster and less busy of two peers that are drawn by weight.
//!
//! **Algorithm.** Draw a peer with the probability of its weight, and a second one from the others in the same way. Take the one
//! where the average response time times the requests in flight is lower: about how long a new request would wait. Requests
//! in flight count in relation to the weight, and response times that differ by less than a quarter count as the same. Between equals the
//! first draw counts. The average is a peak-sensitive one with a decay of 10 s
//! ([`Load`](crate::balancer::load::Load)): it rises at once with a slow response and falls with time, so a peer that became slow is
//! avoided from its first slow response on, and tried again after a while. A failure counts as a second at least. A
//! peer without a response yet starts at the mean of the others. (Peak EWMA with two choices: Finagle, linkerd2-proxy,
//! `tower::balance::p2c`; the analysis of the two choices is in [`Random`](super::Random).)
//!
//! **Bound.** Idle peers that answer about equally fast are used in proportion to their weights. Otherwise there is none: it
//! follows measurements. Of two peers the slower one gets a request when the average of its last response has decayed to that of the other:
//! after 10 s for each factor of 2.7 between them.
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
    /// The mean of the weights that entries have now, without those that have none.
    mean_weight: f64,
}

/// Response times count as the same if neither is so many times the other.
const ALIKE: f64 = 1.25;

impl LeastTime {
    /// A balancer without entries.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self { choices: TwoChoices::new(options), newcomers: false, picks: 0, mean_weight: 1.0 }
    }
}

impl Balancer for LeastTime {
    fn set_entries(&mut self, entries: &[Entry]) {
        self.choices.set_entries(entries);
        self.newcomers = entries.iter().any(|entry| !entry.load.has_latency());
        self.picks = 0;
        let weights = entries.iter().map(Entry::effective).filter(|weight| *weight > 0).map(f64::from);
        let (sum, count) = weights.fold((0.0, 0.0), |(sum, count), weight| (sum + weight, count + 1.0));
        self.mean_weight = sum / f64::max(count, 1.0);
    }

    fn pick(&mut self, request: &Pick<'_>, candidates: &mut Candidates) {
        let now = request.now;
        // While nobody has answered yet there is no mean, and looking for one at every pick would cost.
        self.picks = self.picks.wrapping_add(1);
        if self.newcomers && self.picks % 32 == 1 {
            self.newcomers = !assume_mean(&self.choices.entries, now);
        }
        let mean = self.mean_weight;
        self.choices.pick(candidates, |two, one| {
            let latency = |entry: &Entry| entry.load.latency(now).unwrap_or_default().max(1.0);
            let (mut second, mut first) = (latency(two), latency(one));
            if second < first * ALIKE && first < second * ALIKE {
                (second, first) = (1.0, 1.0);
            }
            // `latency × (1 + in flight × mean / weight)` without the divisions.
            let weight = |entry: &Entry| f64::from(entry.effective());
            let busy = |entry: &Entry| weight(entry) + f64::from(entry.load.in_flight()) * mean;
            second * busy(two) * weight(one) < first * busy(one) * weight(two)
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

    /// How many of 100,000 requests each of these peers gets, one at a time and a millisecond apart.
    fn served(weights: &[u32], took: &[Duration]) -> Vec<f64> {
        let entries: Vec<Entry> = weights.iter().zip(0..).map(|(w, n)| Entry::new(&format!("h{n}:1"), *w)).collect();
        let mut balancer = LeastTime::new(&Options { seed: 5, ..Options::default() });
        balancer.set_entries(&entries);
        let mut counts = vec![0.0; weights.len()];
        for millis in 0..100_000 {
            let now = Timestamp::from_millis(1_700_000_000_000 + millis);
            let mut candidates = Candidates::with_room_for(1);
            balancer.pick(&Pick { now, ..Pick::default() }, &mut candidates);
            let at = candidates.as_slice()[0] as usize;
            entries[at].load.responded(took[at], now);
            counts[at] += 1.0;
        }
        counts
    }

    #[test]
    fn of_two_peers_the_slow_one_is_hardly_used() {
        let counts = served(&[1, 1], &[Duration::from_millis(1), Duration::from_secs(6)]);
        assert!(counts[1] <= 3.0, "{counts:?}");
    }

    #[test]
    fn idle_peers_of_one_speed_are_used_as_their_weights_say() {
        for weights in [vec![9, 1], vec![5, 1, 1]] {
            let total: u32 = weights.iter().sum();
            let counts = served(&weights, &vec![Duration::from_millis(10); weights.len()]);
            for (count, weight) in counts.iter().zip(&weights) {
                let due = 100_000.0 * f64::from(*weight) / f64::from(total);
                assert!((count - due).abs() < 0.1 * due, "{counts:?} for {weights:?}");
            }
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
            assert_eq!(candidates.as_slice(), [1]);
            entries[1].load.responded(Duration::from_millis(50), now);
        }
    }
}
