//! Smooth weighted round robin whose cost does not grow with the peers.
//!
//! nginx's algorithm (smooth weighted balancing, commit 52327e0627f4 of 2012) adds to every peer its weight at each
//! step, takes the peer with the most, and subtracts the total from it: weights 5, 1, 1 give `a a b a c a a`.
//! Every peer gets exactly its weight in each cycle of the total, and its turns are spread as evenly as whole
//! numbers allow. But each step looks at every peer.
//!
//! Two observations save most of the looks:
//!
//! - Peers of one weight differ only in how often they were taken, and the first of the least taken ones is ahead.
//!   So they take turns: a *class* of equal weights is a queue, and only its head competes. That changes nothing
//!   in the sequence.
//! - Where there are more than [`WIDTH`] classes, they compete in groups of that many, neighbours in weight, and the
//!   groups compete among themselves in the same way. A group gets exactly its weight in each cycle, and
//!   its members theirs, so shares stay exact; a turn comes at most one place earlier or later for each level.
//!
//! A step looks at [`WIDTH`] numbers on each of log₁₆ k levels, for k different weights: one level up to 16 different
//! weights, whatever the number of peers, and three for a thousand.

use crate::bits::sorted;

/// How many compete with each other.
const WIDTH: usize = 16;

/// The infinite sequence of picks for a set of weights.
#[derive(Clone, Debug, Default)]
pub(crate) struct Smooth {
    classes: Vec<Class>,
    /// From those whose members are classes up to the one that chooses among all. Member `m` of group `g` is
    /// number `g · WIDTH + m` of the classes or of the groups below.
    levels: Vec<Vec<Group>>,
}

/// Peers of one weight, which take turns.
#[derive(Clone, Debug)]
struct Class {
    /// Positions, in their order.
    members: Vec<u32>,
    /// Whose turn it is.
    turn: usize,
}

/// Those who compete with each other.
#[derive(Clone, Debug)]
struct Group {
    members: Vec<Member>,
    total: i64,
}

#[derive(Clone, Copy, Debug)]
struct Member {
    /// What is added at each step: the weight of a class's head, or the sum of a group's weights.
    weight: i64,
    current: i64,
    /// The position of the one whose turn it is, which decides between equals: the first one wins, as in nginx.
    head: u32,
}

impl Group {
    /// The member that is ahead after this step. `forced` is taken to be.
    fn step(&mut self, forced: Option<usize>) -> usize {
        let (mut best, mut most, mut head) = (0, i64::MIN, u32::MAX);
        for (at, member) in self.members.iter_mut().enumerate() {
            member.current += member.weight;
            // Who wins cannot be foreseen, by the processor neither: this is selected, not branched to.
            let ahead = (member.current > most) | ((member.current == most) & (member.head < head));
            (best, most, head) = if ahead { (at, member.current, member.head) } else { (best, most, head) };
        }
        forced.unwrap_or(best)
    }
}

impl Smooth {
    /// A sequence for these weights, each up to 2³²−1; positions with weight 0 never come up.
    pub(crate) fn new(weights: &[u32]) -> Self {
        let weighted = weights.iter().zip(0_u32..).filter(|(weight, _)| **weight > 0);
        let order = sorted(weighted.map(|(weight, position)| u128::from(*weight) << 32 | u128::from(position)));
        let mut classes: Vec<Class> = Vec::new();
        let mut members: Vec<(Member, i64)> = Vec::new();
        for packed in order {
            let (weight, position) = ((packed >> 32) as i64, packed as u32);
            match (classes.last_mut(), members.last_mut()) {
                (Some(class), Some((member, sum))) if member.weight == weight => {
                    class.members.push(position);
                    *sum += weight;
                }
                _ => {
                    classes.push(Class { members: vec![position], turn: 0 });
                    members.push((Member { weight, current: 0, head: position }, weight));
                }
            }
        }
        let mut levels = Vec::new();
        while !members.is_empty() {
            let group = |of: &[(Member, i64)]| Group {
                members: of.iter().map(|(member, _)| *member).collect(),
                total: of.iter().map(|(_, sum)| sum).sum(),
            };
            let groups: Vec<Group> = members.chunks(WIDTH).map(group).collect();
            members = groups
                .iter()
                .zip(0..)
                .map(|(g, at)| (Member { weight: g.total, current: 0, head: at }, g.total))
                .collect();
            if groups.len() == 1 {
                members.clear();
            }
            levels.push(groups);
        }
        Self { classes, levels }
    }

    /// The sequence as it goes on when this position was taken first.
    pub(crate) fn having_taken(mut self, position: u32) -> Self {
        let place = |class: &Class| class.members.iter().position(|member| *member == position);
        let found = self.classes.iter().enumerate().find_map(|(at, class)| Some((at, place(class)?)));
        if let Some((at, place)) = found {
            if let Some(class) = self.classes.get_mut(at) {
                class.members.rotate_left(place);
            }
            self.take_class(Some(at));
        }
        self
    }

    /// Takes the next class, or a certain one.
    fn take_class(&mut self, class: Option<usize>) -> Option<u32> {
        let mut at = 0;
        for (height, level) in self.levels.iter_mut().enumerate().rev() {
            let group = level.get_mut(at)?;
            let forced = class.map(|class| class / WIDTH.pow(height as u32) % WIDTH);
            let best = group.step(forced);
            let member = group.members.get_mut(best)?;
            at = at * WIDTH + best;
            if height > 0 {
                member.current -= group.total;
                continue;
            }
            let class = self.classes.get_mut(at)?;
            let position = class.members.get(class.turn).copied();
            class.turn += 1;
            if class.turn == class.members.len() {
                class.turn = 0;
                member.current -= group.total;
            }
            member.head = class.members.get(class.turn).copied()?;
            return position;
        }
        None
    }
}

impl Iterator for Smooth {
    type Item = u32;

    /// The next position; `None` only when no weight is positive.
    fn next(&mut self) -> Option<u32> {
        if let [class] = self.classes.as_mut_slice() {
            let position = class.members.get(class.turn).copied();
            class.turn = if class.turn + 1 == class.members.len() { 0 } else { class.turn + 1 };
            return position;
        }
        self.take_class(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    /// nginx's own way: every peer, every step.
    fn naive(weights: &[u32], steps: usize) -> Vec<u32> {
        let total: i64 = weights.iter().map(|w| i64::from(*w)).sum();
        let mut current = vec![0_i64; weights.len()];
        let mut step = || {
            let mut best: Option<usize> = None;
            for (at, weight) in weights.iter().enumerate().filter(|(_, w)| **w > 0) {
                current[at] += i64::from(*weight);
                if best.is_none_or(|best| current[at] > current[best]) {
                    best = Some(at);
                }
            }
            let best = best.unwrap();
            current[best] -= total;
            best as u32
        };
        (0..steps).map(|_| step()).collect()
    }

    fn taken(weights: &[u32], steps: usize) -> Vec<u32> {
        Smooth::new(weights).take(steps).collect()
    }

    #[test]
    fn five_one_one_is_as_in_nginx() {
        assert_eq!(taken(&[5, 1, 1], 14), [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn the_sequence_is_that_of_nginx_up_to_16_different_weights() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..300 {
            let peers = random.usize(1..40);
            let heaviest = [1, 2, 15, 1000, 65535][round % 5];
            let choice: Vec<u32> = (0..16).map(|_| random.u32(0..=heaviest)).collect();
            let weights: Vec<u32> = (0..peers).map(|_| *random.choice(&choice).unwrap()).collect();
            if weights.iter().all(|w| *w == 0) {
                continue;
            }
            let total: u32 = weights.iter().sum();
            let steps = (2 * total as usize + 3).min(3_000);
            assert_eq!(taken(&weights, steps), naive(&weights, steps), "weights {weights:?}");
        }
    }

    #[test]
    fn many_different_weights_are_spread_evenly_too() {
        let weights: Vec<u32> = (1..=600).collect();
        let total: u32 = weights.iter().sum();
        let mut served = vec![0_i64; weights.len()];
        let mut worst = 0.0_f64;
        for (step, at) in taken(&weights, total as usize).into_iter().enumerate() {
            served[at as usize] += 1;
            let due = f64::from(weights[at as usize]) * (step + 1) as f64 / f64::from(total);
            worst = worst.max((served[at as usize] as f64 - due).abs());
        }
        assert!(served.iter().zip(&weights).all(|(served, weight)| *served == i64::from(*weight)));
        assert!(worst < 3.0, "a peer was {worst} turns off its share");
    }

    #[test]
    fn a_cycle_gives_everybody_their_weight() {
        let weights = [65535, 1, 300, 300, 7, 0];
        let total: u32 = weights.iter().sum();
        let mut counts = [0; 6];
        for at in Smooth::new(&weights).take(total as usize) {
            counts[at as usize] += 1;
        }
        assert_eq!(counts, weights);
    }

    #[test]
    fn whoever_begins_shares_are_as_the_weights() {
        for weights in [vec![5, 1, 1], vec![1; 10], vec![60_000, 2, 700, 700]] {
            let total: u32 = weights.iter().sum();
            for first in 0..weights.len() {
                let rest = Smooth::new(&weights).having_taken(first as u32);
                let picks: Vec<u32> = std::iter::once(first as u32).chain(rest).take(total as usize).collect();
                let count = |at: usize| picks.iter().filter(|pick| **pick as usize == at).count() as u32;
                assert!((0..weights.len()).all(|at| count(at) == weights[at]), "{first} first of {weights:?}");
            }
        }
    }

    #[test]
    fn nobody_to_pick_ends_at_once() {
        assert!(taken(&[], 5).is_empty());
        assert!(taken(&[0, 0], 5).is_empty());
    }

    #[test]
    fn sums_beyond_32_bits_do_not_overflow() {
        assert_eq!(taken(&vec![u32::MAX; 10_000], 3), [0, 1, 2]);
        let weights: Vec<u32> = (0..10_000).map(|n| u32::MAX - n).collect();
        let mut seen: Vec<u32> = taken(&weights, 10_000);
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 9_000, "nearly equal weights take turns, {} of 10,000 did", seen.len());
    }
}
