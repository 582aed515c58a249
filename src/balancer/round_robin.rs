//! Round robin: peers take turns, in proportion to their weights.
//!
//! The turns are those of [`Smooth`], so that a heavy peer's are spread out. `unweighted-round-robin` is
//! the same with all weights alike.
//!
//! A request's first candidate is the next turn. Its further ones, for retries, are those whose turns come
//! after it; they keep their turns, so what is offered for retries does not disturb the order of the first choices.
//! To look ahead, a few turns are worked out in advance.
//!
//! Every worker has its own order and starts at its beginning. After a change, the new order starts with a
//! peer drawn by weight: were it always the heaviest one, a pool that changes often would favour that. What is
//! drawn from are steps of the golden ratio, which leave nobody out for long (Knuth, "The Art of Computer
//! Programming", volume 3, section 6.4).
//!
//! Choose it when requests cost about the same. It is exact, in no need of measurements, and needs no luck.

use std::collections::VecDeque;

use super::smooth::Smooth;
use super::{Balancer, Candidates, Entry, Pick};

/// How many turns are worked out at a time. More find the next peers behind a heavy one more often, at
/// four bytes each.
const AHEAD: usize = 32;

/// Weighted and unweighted round robin.
#[derive(Debug, Default)]
pub struct RoundRobin {
    weighted: bool,
    entries: Vec<Entry>,
    /// Whether an entry can be full.
    limited: bool,
    turns: Smooth,
    ahead: VecDeque<u32>,
    /// What the first peer of the next order is drawn by, as a part of 2³²; none for the very first one.
    draw: Option<u32>,
    /// Where the search for a fallback starts when those ahead are all one peer.
    spare: u32,
}

/// 2³² divided by the golden ratio.
const GOLDEN: u32 = 0x9e37_79b9;

/// The position that a part of 2³² falls on, each position being as wide as its weight.
fn drawn(weights: &[u32], draw: u32) -> Option<u32> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let mut left = (u128::from(total) * u128::from(draw)) >> 32;
    let over = |weight: &u32| match left.checked_sub(u128::from(*weight)) {
        Some(rest) => {
            left = rest;
            false
        }
        None => true,
    };
    weights.iter().position(over).and_then(|at| u32::try_from(at).ok())
}

impl RoundRobin {
    /// Peers take turns in proportion to their weights.
    #[must_use]
    pub fn weighted() -> Self {
        Self { weighted: true, ..Self::default() }
    }

    /// Peers take turns.
    #[must_use]
    pub fn unweighted() -> Self {
        Self::default()
    }

    fn is_open(&self, position: u32) -> bool {
        // Whoever is out of use has no turns, but is looked at as a fallback. Limits are looked at where there are any.
        let entry = self.entries.get(position as usize);
        entry.is_some_and(|entry| entry.slow_start_factor > 0 && !(self.limited && entry.load.is_full()))
    }
}

impl Balancer for RoundRobin {
    fn set_entries(&mut self, entries: &[Entry]) {
        let weights: Vec<u32> = entries
            .iter()
            .map(|entry| if self.weighted { entry.effective() } else { entry.slow_start_factor })
            .collect();
        self.entries = entries.to_vec();
        self.limited = entries.iter().any(|entry| entry.load.has_limit());
        self.turns = Smooth::new(&weights);
        self.ahead.clear();
        if let Some(first) = self.draw.and_then(|draw| drawn(&weights, draw)) {
            self.turns = std::mem::take(&mut self.turns).having_taken(first);
            self.ahead.push_back(first);
        }
        self.draw = Some(self.draw.unwrap_or(0).wrapping_add(GOLDEN));
    }

    fn pick(&mut self, _request: &Pick<'_>, candidates: &mut Candidates) {
        if candidates.is_full() {
            return;
        }
        // Who has a turn and no room for a request loses that turn.
        for _ in 0..AHEAD {
            if self.ahead.len() < AHEAD / 2 {
                self.ahead.extend(self.turns.by_ref().take(AHEAD / 2));
            }
            let Some(position) = self.ahead.pop_front() else { return };
            if self.is_open(position) {
                candidates.push(position);
                break;
            }
        }
        for next in &self.ahead {
            if candidates.is_full() {
                return;
            }
            if self.is_open(*next) {
                candidates.push(*next);
            }
        }
        // One peer is so heavy that nobody else's turn is near. The others share its retries.
        let count = self.entries.len() as u32;
        for _ in 0..count {
            if candidates.is_full() {
                return;
            }
            self.spare = (self.spare + 1).checked_rem(count).unwrap_or(0);
            if self.is_open(self.spare) {
                candidates.push(self.spare);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    fn entries(weights: &[(&str, u32)]) -> Vec<Entry> {
        weights.iter().map(|(name, weight)| Entry::new(name, *weight)).collect()
    }

    fn pick(balancer: &mut RoundRobin, wanted: usize) -> Vec<u32> {
        let mut candidates = Candidates::with_room_for(wanted);
        balancer.pick(&Pick::default(), &mut candidates);
        candidates.as_slice().to_vec()
    }

    fn firsts(balancer: &mut RoundRobin, count: usize) -> Vec<u32> {
        (0..count).map(|_| pick(balancer, 3)[0]).collect()
    }

    #[test]
    fn offering_retries_does_not_disturb_the_order() {
        let mut balancer = RoundRobin::weighted();
        balancer.set_entries(&entries(&[("a", 5), ("b", 1), ("c", 1)]));
        assert_eq!(firsts(&mut balancer, 14), [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn unweighted_ignores_weights() {
        let mut balancer = RoundRobin::unweighted();
        balancer.set_entries(&entries(&[("a", 5), ("b", 1), ("c", 9)]));
        assert_eq!(firsts(&mut balancer, 6), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn candidates_never_repeat_and_are_as_many_as_there_are() {
        for peers in 0..6_usize {
            let all: Vec<(String, u32)> = (0..peers).map(|n| (n.to_string(), [1, 60_000, 7][n % 3])).collect();
            let all: Vec<(&str, u32)> = all.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
            for wanted in 0..=3 {
                let mut balancer = RoundRobin::weighted();
                balancer.set_entries(&entries(&all));
                for _ in 0..100 {
                    let picked = pick(&mut balancer, wanted);
                    assert_eq!(picked.len(), wanted.min(peers));
                    assert!((1..picked.len()).all(|at| !picked[..at].contains(&picked[at])));
                }
            }
        }
    }

    #[test]
    fn the_retries_of_a_heavy_peer_are_shared_by_the_others() {
        let mut balancer = RoundRobin::weighted();
        balancer.set_entries(&entries(&[("a", 60_000), ("b", 1), ("c", 1), ("d", 1)]));
        let mut seconds = [0; 4];
        for _ in 0..300 {
            seconds[pick(&mut balancer, 2)[1] as usize] += 1;
        }
        assert_eq!(seconds[0], 0);
        assert!(seconds[1..].iter().all(|count| (80..=120).contains(count)), "{seconds:?}");
    }

    #[test]
    fn who_is_full_loses_its_turns_to_the_others() {
        let all = entries(&[("a", 60_000), ("b", 1), ("c", 1)]);
        all[0].load.set_limit(1);
        let mut balancer = RoundRobin::weighted();
        balancer.set_entries(&all);
        let request = crate::balancer::load::InFlight::begin(std::rc::Rc::clone(&all[0].load), Pick::default().now);
        for _ in 0..10 {
            let mut picked = pick(&mut balancer, 3);
            picked.sort_unstable();
            assert_eq!(picked, [1, 2]);
        }
        drop(request);
        assert_eq!(pick(&mut balancer, 1), [0]);
    }

    #[test]
    fn an_emptied_pool_gives_nobody() {
        let mut balancer = RoundRobin::weighted();
        balancer.set_entries(&entries(&[("a", 1)]));
        balancer.set_entries(&[]);
        assert!(pick(&mut balancer, 3).is_empty());
    }

    #[test]
    fn a_pool_that_changes_at_every_request_favours_nobody() {
        let mut balancer = RoundRobin::weighted();
        let mut counts = [0; 3];
        for weight in 0..300 {
            balancer.set_entries(&entries(&[("a", 1), ("b", 1 + weight % 2), ("c", 1)]));
            counts[pick(&mut balancer, 1)[0] as usize] += 1;
        }
        assert!((75..=100).contains(&counts[0]) && (115..=140).contains(&counts[1]), "{counts:?}");
    }
}
