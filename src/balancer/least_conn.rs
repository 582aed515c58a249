//! Least connections: the peer with the fewest requests in flight for its weight.
//!
//! **Algorithm.** A request goes where `in flight / weight` is lowest. Between equals, as always when there is little
//! traffic, the one that was given the least so far for its weight is next, which is a weighted round robin.
//! (nginx, `least_conn`; "Weighted least-connection scheduling", Linux Virtual Server.) The peers are the leaves
//! of a tree of matches: its root is the pick.
//!
//! **Bound.** Never more than one request above what any other peer has for its weight, as this worker sees it.
//!
//! **Cost.** O(log n) for each request that begins or ends.
//!
//! **Choose it** when requests differ much in length, and few workers share the servers. Every worker counts its
//! own requests, so with many of them [`Random`](super::Random) is as good.

use std::cell::RefCell;
use std::rc::Rc;

use super::{Balancer, Candidates, Entry, Pick};
use crate::balancer::load::Changed;

/// Fewest requests in flight for the weight.
#[derive(Debug, Default)]
pub struct LeastConn {
    entries: Vec<Entry>,
    /// What each entry was given so far, for its weight.
    given: Vec<f64>,
    /// What is compared, see [`rank`].
    ranks: Vec<u128>,
    /// Positions of winners: node `i` has the children `2i` and `2i + 1`, the root is 1, the leaves are the entries.
    tree: Vec<u32>,
    leaves: usize,
    changed: Changed,
}

const NOBODY: u32 = u32::MAX;

/// The rank of who must not be picked.
const LAST: u128 = u128::MAX;

/// A rank: the lower comes first. Two numbers that are not negative in one that compares like them, because nobody could
/// predict the branches of comparing them one after the other.
fn rank(busy: f64, given: f64) -> u128 {
    u128::from(busy.to_bits()) << 64 | u128::from(given.to_bits())
}

impl LeastConn {
    /// What is compared: lower comes first. Kept, because it changes for one entry at a time.
    fn rank(&mut self, position: u32) {
        let rank = match self.entries.get(position as usize) {
            Some(entry) if entry.is_open() => {
                let given = self.given.get(position as usize).copied().unwrap_or_default();
                rank(f64::from(entry.load.in_flight()) / f64::from(entry.effective()), given)
            }
            _ => LAST,
        };
        if let Some(slot) = self.ranks.get_mut(position as usize) {
            *slot = rank;
        }
    }

    fn rank_of(&self, position: u32) -> u128 {
        self.ranks.get(position as usize).copied().unwrap_or(LAST)
    }

    fn play(&mut self, node: usize) {
        let child = |at: usize| self.tree.get(at).copied().unwrap_or(NOBODY);
        let (left, right) = (child(2 * node), child(2 * node + 1));
        let winner = if self.rank_of(right) < self.rank_of(left) { right } else { left };
        if let Some(node) = self.tree.get_mut(node) {
            *node = winner;
        }
    }

    fn replay(&mut self, position: u32) {
        self.rank(position);
        let mut node = (self.leaves + position as usize) / 2;
        while node > 0 {
            self.play(node);
            node /= 2;
        }
    }

    fn root(&self) -> Option<u32> {
        self.tree.get(1).copied().filter(|at| self.rank_of(*at) < LAST)
    }

    /// The best of those that are no candidates yet: what is next to the candidates' paths to the root.
    fn runner_up(&self, candidates: &Candidates) -> Option<u32> {
        let (mut best, mut lowest) = (NOBODY, LAST);
        for position in candidates.as_slice() {
            let mut node = self.leaves + *position as usize;
            while node > 1 {
                let rival = self.tree.get(node ^ 1).copied().unwrap_or(NOBODY);
                let rank = if candidates.contains(rival) { LAST } else { self.rank_of(rival) };
                (best, lowest) = if rank < lowest { (rival, rank) } else { (best, lowest) };
                node /= 2;
            }
        }
        (best != NOBODY).then_some(best)
    }
}

impl Balancer for LeastConn {
    fn set_entries(&mut self, entries: &[Entry]) {
        self.entries = entries.to_vec();
        self.leaves = entries.len().next_power_of_two().max(2);
        // Everybody starts level, whoever came or was away.
        self.given = vec![0.0; entries.len()];
        self.ranks = vec![LAST; entries.len()];
        self.tree = vec![NOBODY; self.leaves * 2];
        self.changed = Rc::new(RefCell::new(Vec::new()));
        for (entry, position) in entries.iter().zip(0_u32..) {
            entry.load.watch(&self.changed, position);
            if let Some(leaf) = self.tree.get_mut(self.leaves + position as usize) {
                *leaf = position;
            }
            self.rank(position);
        }
        for node in (1..self.leaves).rev() {
            self.play(node);
        }
    }

    fn pick(&mut self, _request: &Pick<'_>, candidates: &mut Candidates) {
        let changed =
            self.changed.try_borrow_mut().map(|mut changed| std::mem::take(&mut *changed)).unwrap_or_default();
        for position in changed {
            self.replay(position);
        }
        if candidates.is_full() {
            return;
        }
        let Some(first) = self.root() else { return };
        candidates.push(first);
        while !candidates.is_full() {
            let Some(next) = self.runner_up(candidates) else { break };
            candidates.push(next);
        }
        let weight = self.entries.get(first as usize).map_or(1.0, |entry| f64::from(entry.effective().max(1)));
        if let Some(given) = self.given.get_mut(first as usize) {
            *given += 1.0 / weight;
        }
        self.replay(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::load::InFlight;
    use crate::testing::test;
    use crate::time::Timestamp;

    fn balancer(weights: &[u32]) -> (LeastConn, Vec<Entry>) {
        let entries: Vec<Entry> = weights.iter().zip(0..).map(|(w, n)| Entry::new(&format!("h{n}:1"), *w)).collect();
        let mut balancer = LeastConn::default();
        balancer.set_entries(&entries);
        (balancer, entries)
    }

    fn pick(balancer: &mut LeastConn, wanted: usize) -> Vec<u32> {
        let mut candidates = Candidates::with_room_for(wanted);
        balancer.pick(&Pick::default(), &mut candidates);
        candidates.as_slice().to_vec()
    }

    #[test]
    fn the_least_busy_for_its_weight_is_picked() {
        let mut random = fastrand::Rng::with_seed(5);
        for peers in [1, 2, 3, 7, 40] {
            let weights: Vec<u32> = (0..peers).map(|_| random.u32(1..9)).collect();
            let (mut balancer, entries) = balancer(&weights);
            let mut under_way: Vec<InFlight> = Vec::new();
            for _ in 0..500 {
                if random.bool() && !under_way.is_empty() {
                    under_way.swap_remove(random.usize(..under_way.len()));
                    continue;
                }
                let picked = pick(&mut balancer, 3);
                assert_eq!(picked.len(), peers.min(3));
                let busy = |at: usize| f64::from(entries[at].load.in_flight()) / f64::from(weights[at]);
                for (rank, at) in picked.iter().enumerate() {
                    let better = (0..peers).filter(|other| busy(*other) < busy(*at as usize)).count();
                    assert!(better <= rank, "{better} are less busy than candidate {rank}");
                }
                under_way.push(InFlight::begin(Rc::clone(&entries[picked[0] as usize].load), Timestamp::default()));
            }
        }
    }

    #[test]
    fn loads_do_not_keep_the_queue_of_a_balancer_that_is_gone() {
        let (mut balancer, entries) = balancer(&[1, 1]);
        let before = Rc::downgrade(&balancer.changed);
        balancer.set_entries(&entries[..1]);
        assert!(before.upgrade().is_none(), "the load of a peer that was removed holds it");
        let last = Rc::downgrade(&balancer.changed);
        drop(balancer);
        let _request = InFlight::begin(Rc::clone(&entries[0].load), Timestamp::default());
        assert!(last.upgrade().is_none());
    }

    #[test]
    fn idle_peers_take_turns_by_weight() {
        let (mut balancer, _) = balancer(&[5, 1, 1]);
        let mut counts = [0; 3];
        (0..700).for_each(|_| counts[pick(&mut balancer, 1)[0] as usize] += 1);
        assert_eq!(counts, [500, 100, 100]);
    }
}
