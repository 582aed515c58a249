//! Random with two choices: the less busy of two peers that are drawn by weight.
//!
//! **Algorithm.** Draw a peer with the probability of its weight, and a second one from the others in the same way. Take the one
//! with fewer requests in flight for its weight, the first draw if they are equal (Mitzenmacher, "The power of two choices in randomized load balancing", 2001). Drawing takes
//! constant time with Walker's alias method (Vose, "A linear algorithm for generating random numbers with a given
//! distribution", 1991).
//!
//! **Bound.** With n requests on n peers the busiest has about `ln ln n` more than the average, where one choice gives
//! `ln n / ln ln n`. Idle peers are used in proportion to their weights, exactly: the first draw counts. Of two peers that are
//! both open, the busier one for its weight is never taken, whatever its weight.
//!
//! **Cost.** The same for any number of peers: two draws, two loads. Only where one peer has nearly all of the weight, finding
//! another one takes a look at all.
//!
//! **Choose it** when many workers or proxies share the same servers: those that always take the least busy peer all
//! take the same one.

use fastrand::Rng;

use super::{Balancer, Candidates, Entry, Options, Pick};

/// Draws positions by weight, in constant time.
#[derive(Debug, Default)]
pub(super) struct Alias {
    /// For each column, the chance to stay in it, of 2³², and where to go otherwise.
    columns: Vec<(u32, u32)>,
}

impl Alias {
    pub(super) fn new(weights: &[u32]) -> Self {
        let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
        if total == 0 {
            return Self::default();
        }
        // In units in which every column holds `total`.
        let mut rest: Vec<u128> = weights.iter().map(|weight| u128::from(*weight) * weights.len() as u128).collect();
        let mut columns: Vec<(u32, u32)> = (0..weights.len() as u32).map(|at| (u32::MAX, at)).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) =
            (0..weights.len()).partition(|at| rest.get(*at).is_some_and(|r| *r < total));
        while let (Some(low), Some(high)) = (small.pop(), large.pop()) {
            let have = rest.get(low).copied().unwrap_or(0);
            if let Some(column) = columns.get_mut(low) {
                *column = (u32::try_from((have << 32) / total).unwrap_or(u32::MAX), high as u32);
            }
            let Some(left) = rest.get_mut(high) else { break };
            *left = (*left + have).saturating_sub(total);
            if *left < total {
                small.push(high)
            } else {
                large.push(high)
            }
        }
        Self { columns }
    }

    pub(super) fn draw(&self, random: &mut Rng) -> Option<u32> {
        let bits = random.u64(..);
        let at = ((bits >> 32) * self.columns.len() as u64) >> 32;
        let (chance, alias) = self.columns.get(at as usize)?;
        Some(if (bits as u32) < *chance { at as u32 } else { *alias })
    }
}

/// Draws by weight, two at a time, and takes the one with the lower cost.
#[derive(Debug)]
pub(super) struct TwoChoices {
    random: Rng,
    alias: Alias,
    pub(super) entries: Vec<Entry>,
}

impl TwoChoices {
    pub(super) fn new(options: &Options) -> Self {
        Self { random: Rng::with_seed(options.seed), alias: Alias::default(), entries: Vec::new() }
    }

    pub(super) fn set_entries(&mut self, entries: &[Entry]) {
        let weights: Vec<u32> = entries.iter().map(Entry::effective).collect();
        self.alias = Alias::new(&weights);
        self.entries = entries.to_vec();
    }

    /// An open peer that is no candidate and not `other`, with the probability of its weight among those.
    fn draw(&mut self, candidates: &Candidates, other: Option<u32>) -> Option<u32> {
        if self.alias.columns.is_empty() {
            return None;
        }
        // A few draws find somebody else unless nearly all of the weight is one peer's.
        for _ in 0..4 {
            let position = self.alias.draw(&mut self.random)?;
            if Some(position) != other && !candidates.contains(position) && self.is_open(position) {
                return Some(position);
            }
        }
        let weight = |position: u32| match self.entries.get(position as usize) {
            Some(entry) if Some(position) != other && !candidates.contains(position) && entry.is_open() => {
                u64::from(entry.effective())
            }
            _ => 0,
        };
        let positions = 0..self.entries.len() as u32;
        let mut left = self.random.u64(..positions.clone().map(weight).sum::<u64>().max(1));
        for position in positions {
            match left.checked_sub(weight(position)) {
                Some(rest) => left = rest,
                None => return Some(position),
            }
        }
        None
    }

    fn is_open(&self, position: u32) -> bool {
        self.entries.get(position as usize).is_some_and(Entry::is_open)
    }

    /// The first candidate is the better of two: the second of them where `is_better` says so of it and the first. Retries go to
    /// whoever is drawn.
    pub(super) fn pick(&mut self, candidates: &mut Candidates, is_better: impl Fn(&Entry, &Entry) -> bool) {
        if candidates.is_full() {
            return;
        }
        let Some(one) = self.draw(candidates, None) else { return };
        let two = self.draw(candidates, Some(one));
        let entry = |at: u32| self.entries.get(at as usize);
        let better = two.filter(|two| entry(*two).zip(entry(one)).is_some_and(|(two, one)| is_better(two, one)));
        candidates.push(better.unwrap_or(one));
        while !candidates.is_full() {
            let Some(next) = self.draw(candidates, None) else { return };
            candidates.push(next);
        }
    }
}

/// Random with two choices.
#[derive(Debug)]
pub struct Random {
    choices: TwoChoices,
}

impl Random {
    /// A balancer without entries.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self { choices: TwoChoices::new(options) }
    }
}

impl Balancer for Random {
    fn set_entries(&mut self, entries: &[Entry]) {
        self.choices.set_entries(entries);
    }

    fn pick(&mut self, _request: &Pick<'_>, candidates: &mut Candidates) {
        // Fewer for the weight, without a division. Between equals the first draw counts, which is by weight.
        let busy =
            |entry: &Entry, for_other: &Entry| u64::from(entry.load.in_flight()) * u64::from(for_other.effective());
        self.choices.pick(candidates, |two, one| busy(two, one) < busy(one, two));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::load::InFlight;
    use crate::testing::test;
    use crate::time::Timestamp;
    use std::rc::Rc;

    #[test]
    fn draws_are_as_the_weights() {
        let weights = [5, 0, 1, 1, 93];
        let alias = Alias::new(&weights);
        let mut random = Rng::with_seed(1);
        let mut counts = [0_u32; 5];
        (0..100_000).for_each(|_| counts[alias.draw(&mut random).unwrap() as usize] += 1);
        for (count, weight) in counts.iter().zip(weights) {
            assert!(count.abs_diff(weight * 1_000) <= 5 * f64::from(weight * 1_000).sqrt() as u32, "{counts:?}");
        }
    }

    #[test]
    fn the_less_busy_of_two_is_picked() {
        let entries: Vec<Entry> = (0..10).map(|n| Entry::new(&format!("h{n}:1"), 1)).collect();
        let mut balancer = Random::new(&Options { seed: 9, ..Options::default() });
        balancer.set_entries(&entries);
        let mut under_way = Vec::new();
        for _ in 0..1_000 {
            let mut candidates = Candidates::with_room_for(3);
            balancer.pick(&Pick::default(), &mut candidates);
            let picked = candidates.as_slice();
            assert!(picked.len() == 3 && picked[0] != picked[1] && picked[1] != picked[2] && picked[0] != picked[2]);
            under_way.push(InFlight::begin(Rc::clone(&entries[picked[0] as usize].load), Timestamp::default()));
        }
        let busiest = entries.iter().map(|entry| entry.load.in_flight()).max().unwrap();
        assert!(busiest <= 104, "one choice would give about 120, two gave {busiest}");
    }

    fn entries(weights: &[u32]) -> Vec<Entry> {
        weights.iter().zip(0..).map(|(weight, n)| Entry::new(&format!("h{n}:1"), *weight)).collect()
    }

    fn pick(balancer: &mut Random, wanted: usize) -> Vec<u32> {
        let mut candidates = Candidates::with_room_for(wanted);
        balancer.pick(&Pick::default(), &mut candidates);
        candidates.as_slice().to_vec()
    }

    #[test]
    fn the_busier_of_two_is_never_picked() {
        for weights in [[1, 1], [9, 1], [1, 60_000]] {
            let entries = entries(&weights);
            let mut balancer = Random::new(&Options { seed: 3, ..Options::default() });
            balancer.set_entries(&entries);
            for busy in 0..2 {
                let _request = InFlight::begin(Rc::clone(&entries[busy as usize].load), Timestamp::default());
                assert!((0..1_000).all(|_| pick(&mut balancer, 1) == [1 - busy]));
            }
        }
    }

    #[test]
    fn idle_peers_are_used_as_their_weights_say() {
        for weights in [vec![9, 1], vec![5, 1, 1], vec![1, 2, 3, 4], vec![1_000, 1, 1]] {
            let mut balancer = Random::new(&Options { seed: 4, ..Options::default() });
            balancer.set_entries(&entries(&weights));
            let (mut firsts, mut seconds) = (vec![0_u32; weights.len()], vec![0_u32; weights.len()]);
            for _ in 0..100_000 {
                let picked = pick(&mut balancer, 2);
                firsts[picked[0] as usize] += 1;
                seconds[picked[1] as usize] += 1;
            }
            let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
            for (at, weight) in weights.iter().map(|weight| f64::from(*weight)).enumerate() {
                let of_others = |other: usize| weight / (total - f64::from(weights[other]));
                let others = (0..weights.len()).filter(|other| *other != at);
                let second: f64 = others.map(|other| f64::from(weights[other]) / total * of_others(other)).sum();
                for (count, due) in [(firsts[at], weight / total), (seconds[at], second)] {
                    let due = due * 100_000.0;
                    assert!((f64::from(count) - due).abs() < 5.0 * due.sqrt() + 1.0, "{firsts:?} {seconds:?}");
                }
            }
        }
    }

    #[test]
    fn who_is_full_or_out_of_use_is_not_picked() {
        let mut entries: Vec<Entry> = (0..3).map(|n| Entry::new(&format!("h{n}:1"), 1)).collect();
        entries[0].slow_start_factor = 0;
        entries[1].load.set_limit(1);
        let mut balancer = Random::new(&Options::default());
        balancer.set_entries(&entries);
        let _request = InFlight::begin(Rc::clone(&entries[1].load), Timestamp::default());
        let mut candidates = Candidates::with_room_for(3);
        balancer.pick(&Pick::default(), &mut candidates);
        assert_eq!(candidates.as_slice(), [2]);
    }
}
