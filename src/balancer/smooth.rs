//! Smooth weighted round robin in O(log n).
//!
//! nginx's algorithm (Igor Sysoev's smooth weighted balancing, commit 52327e0627f4 of 2012) adds to every
//! peer its weight at each step, takes the peer with the most, and subtracts the total from it: weights
//! 5, 1, 1 give `a a b a c a a`. Every peer gets exactly its weight in each cycle of the total, and
//! its turns are spread as evenly as whole numbers allow. But each step looks at every peer.
//!
//! This gives the same sequence without looking at every peer. After `t` steps, a peer of weight `w` that was
//! taken `s` times holds `w·t − total·s`: a line in `t` that falls only when its peer is taken. So:
//!
//! - Peers of one weight differ only in `s`, and the first of the least taken ones is ahead. They take turns:
//!   a *class* of equal weights is a queue, and only its head competes.
//! - The heads compete in a *kinetic tournament* (Basch, Guibas, Hershberger, "Data structures for mobile
//!   data", 1999): a binary tree in which a node knows the winner below it and until which step
//!   that is certain, the step at which the loser's steeper line would cross. A step replays the path of the
//!   peer just taken, and those matches whose certainty ran out.
//!
//! With k different weights a step costs O(log k) plus the crossings, whatever the number of peers. With one
//! weight it costs nothing but a turn.

/// The infinite sequence of picks for a set of weights.
#[derive(Clone, Debug, Default)]
pub(crate) struct Smooth {
    classes: Vec<Class>,
    /// A heap-ordered tree: node `i` has the children `2i` and `2i + 1`, the root is 1, the leaves are the
    /// classes.
    tree: Vec<Node>,
    leaves: usize,
    total: i64,
    step: i64,
    /// The class that is taken next, whatever the tournament says.
    first: Option<usize>,
}

/// Peers of one weight, which take turns.
#[derive(Clone, Debug)]
struct Class {
    weight: i64,
    /// Positions, in their order.
    members: Vec<u32>,
    /// Whose turn it is.
    turn: usize,
    /// How often the one whose turn it is was taken in this cycle.
    taken: i64,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    /// The class that wins below this node, with its line: `weight·step − debt`.
    class: u32,
    weight: i64,
    debt: i64,
    /// The position of the class's head, which decides between equals: the first one wins, as in nginx.
    head: u32,
    /// The first step at which somebody else might win.
    until: i64,
}

const NOBODY: Node = Node { class: u32::MAX, weight: 0, debt: i64::MAX, head: u32::MAX, until: i64::MAX };

impl Node {
    fn at(&self, step: i64) -> i64 {
        if self.class == u32::MAX {
            return i64::MIN;
        }
        self.weight * step - self.debt
    }
}

impl Smooth {
    /// A sequence for these weights, each up to 2³²−1; positions with weight 0 never come up.
    pub(crate) fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().fold(0, |divisor, weight| gcd(divisor, u64::from(*weight))).max(1);
        let mut order: Vec<(u64, u32)> = (0..).zip(weights).map(|(at, w)| (u64::from(*w) / divisor, at)).collect();
        order.retain(|(weight, _)| *weight > 0);
        order.sort_unstable();

        let mut classes: Vec<Class> = Vec::new();
        for (weight, at) in order {
            // Weights shrink only if their sum would no longer leave room for its products: see `total`.
            let weight = i64::try_from(weight).unwrap_or(i64::MAX);
            match classes.last_mut() {
                Some(class) if class.weight == weight => class.members.push(at),
                _ => classes.push(Class { weight, members: vec![at], turn: 0, taken: 0 }),
            }
        }
        let mut smooth = Self { leaves: classes.len().next_power_of_two(), classes, ..Self::default() };
        smooth.fit();
        smooth.restart();
        smooth
    }

    /// A sequence that begins with this position, and goes on as if it had come up by itself.
    pub(crate) fn beginning_with(mut self, position: u32) -> Self {
        let place = |class: &Class| class.members.iter().position(|member| *member == position);
        let found = self.classes.iter().enumerate().find_map(|(at, class)| Some((at, place(class)?)));
        if let Some((at, place)) = found {
            if let Some(class) = self.classes.get_mut(at) {
                class.members.rotate_left(place);
            }
            self.seat(at);
            self.first = Some(at);
            self.play_all();
        }
        self
    }

    /// Sets the total, and scales the weights down where `weight · total` would not fit.
    fn fit(&mut self) {
        let total = |classes: &[Class]| -> i128 {
            classes.iter().map(|class| i128::from(class.weight) * class.members.len() as i128).sum()
        };
        let heaviest = self.classes.last().map_or(1, |class| i128::from(class.weight));
        while total(&self.classes).saturating_mul(heaviest) > i128::from(i64::MAX / 4) {
            for class in &mut self.classes {
                class.weight = (class.weight / 2).max(1);
            }
            if self.classes.iter().all(|class| class.weight == 1) {
                break;
            }
        }
        self.total = i64::try_from(total(&self.classes)).unwrap_or(i64::MAX);
    }

    fn restart(&mut self) {
        self.step = 0;
        self.tree = vec![NOBODY; self.leaves * 2];
        for at in 0..self.classes.len() {
            if let Some(class) = self.classes.get_mut(at) {
                class.turn = 0;
                class.taken = 0;
            }
            self.seat(at);
        }
        self.play_all();
    }

    fn play_all(&mut self) {
        for node in (1..self.leaves).rev() {
            self.play(node);
        }
    }

    /// Puts a class's head on its leaf.
    fn seat(&mut self, at: usize) {
        let Some(class) = self.classes.get(at) else { return };
        let head = class.members.get(class.turn).copied().unwrap_or(u32::MAX);
        let node =
            Node { class: at as u32, weight: class.weight, debt: class.taken * self.total, head, until: i64::MAX };
        if let Some(leaf) = self.tree.get_mut(self.leaves + at) {
            *leaf = node;
        }
    }

    /// Lets a node's children compete.
    fn play(&mut self, node: usize) {
        let (Some(left), Some(right)) = (self.tree.get(2 * node), self.tree.get(2 * node + 1)) else { return };
        let (a, b) = (left.at(self.step), right.at(self.step));
        let right_wins = b > a || (b == a && right.head < left.head);
        let (winner, loser, lead) = if right_wins { (right, left, b.saturating_sub(a)) } else { (left, right, a.saturating_sub(b)) };
        let mut until = left.until.min(right.until);
        if loser.class != u32::MAX && loser.weight > winner.weight {
            // A lower bound is enough: a match that is replayed too early changes nothing. So a division
            // of floating point numbers, rounded down, does.
            let steps = (lead as f64 / (loser.weight - winner.weight) as f64 * (1.0 - 1e-9)) as i64;
            until = until.min(self.step.saturating_add(steps.max(1)));
        }
        let winner = Node { until, ..*winner };
        if let Some(node) = self.tree.get_mut(node) {
            *node = winner;
        }
    }

    /// Replays the matches below a node whose outcome is no longer certain.
    fn refresh(&mut self, node: usize) {
        let due = self.tree.get(node).is_some_and(|n| n.until <= self.step);
        if due && node < self.leaves {
            self.refresh(2 * node);
            self.refresh(2 * node + 1);
            self.play(node);
        }
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
        if self.step >= self.total {
            self.restart();
        }
        self.step += 1;
        self.refresh(1);
        let winner = self.tree.get(1)?.class as usize;
        let at = self.first.take().unwrap_or(winner);
        let class = self.classes.get_mut(at)?;
        let head = class.members.get(class.turn).copied();
        class.turn += 1;
        if class.turn == class.members.len() {
            class.turn = 0;
            class.taken += 1;
        }
        self.seat(at);
        let mut node = (self.leaves + at) / 2;
        while node > 0 {
            self.play(node);
            node /= 2;
        }
        head
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
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
    fn the_sequence_is_that_of_nginx_for_any_weights() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..300 {
            let peers = random.usize(1..40);
            let heaviest = [1, 2, 10, 1000, 65535][round % 5];
            let weights: Vec<u32> = (0..peers).map(|_| random.u32(0..=heaviest)).collect();
            if weights.iter().all(|w| *w == 0) {
                continue;
            }
            let total: u32 = weights.iter().sum();
            let steps = (2 * total as usize + 3).min(3_000);
            assert_eq!(taken(&weights, steps), naive(&weights, steps), "weights {weights:?}");
        }
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
                let picks: Vec<u32> = Smooth::new(&weights).beginning_with(first as u32).take(total as usize).collect();
                assert_eq!(picks[0] as usize, first);
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
        let weights = vec![u32::MAX - 1; 10_000];
        assert_eq!(taken(&weights, 3), [0, 1, 2]);
        let weights: Vec<u32> = (0..10_000).map(|n| u32::MAX - n * 7).collect();
        let mut seen: Vec<u32> = taken(&weights, 10_000);
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 9_000, "nearly equal weights take turns, {} of 10,000 did", seen.len());
    }
}
