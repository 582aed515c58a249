//! Maglev's table: which of many peers a key belongs to, in one step.
//!
//! **Algorithm.** A table whose size is a prime number has a peer in each slot, and a key's hash is a slot. Every peer would like to have
//! the slots in an order of its own, made from its name, and in turn each takes the next one on its list that is
//! free, the heavier ones more often (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI
//! 2016, section 3.4; the weights as in Envoy's `maglev_lb`: a peer takes its turn at every `heaviest / weight`th round).
//!
//! **Bound.** Shares are right to one slot of some thousand, see [`size`]. When one peer goes, its slots go to all others; of the other slots few change hands, fewer
//! than one in a hundred with up to 1,000 peers in the tests.
//!
//! **Cost.** A multiplication and a look into 128 KiB for a key; some milliseconds to build. Where a configuration has many
//! upstreams, less of both.

use crate::bits::mix;

/// The sizes that tables can have, prime, each about four times the one before.
const SIZES: [usize; 5] = [4_099, 16_411, 65_537, 262_147, 655_373];

/// Slots for each peer that no reduction takes away: a share is off by 3 % at most.
const LEAST_SLOTS: usize = 30;

/// The slots for so many peers, reduced to a quarter so many times.
///
/// A hundred for each is what the paper recommends; 65,537 are that for more peers than most upstreams have.
fn size(peers: usize, reduction: u8) -> usize {
    let full = if peers <= 2_000 { 65_537 } else { 655_373 };
    let least = SIZES.iter().copied().find(|size| *size >= peers * LEAST_SLOTS).unwrap_or(full).min(full);
    let larger = SIZES.iter().rev().copied().skip_while(|size| *size > full);
    let reduced = larger.take_while(|size| *size >= least).take(usize::from(reduction) + 1);
    reduced.last().unwrap_or(full)
}

/// The bytes of a table for so many peers.
pub(super) fn bytes(peers: usize, reduction: u8) -> u64 {
    size(peers, reduction) as u64 * size_of::<u16>() as u64
}

const NOBODY: u16 = u16::MAX;

/// A table of positions.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<u16>,
}

impl Table {
    /// The table for peers by the hashes of their names, with their weights. Their order does not matter.
    pub(super) fn new(peers: &[(u64, u32)], reduction: u8) -> Self {
        let size = size(peers.len(), reduction);
        let heaviest = peers.iter().map(|(_, weight)| u64::from(*weight)).max().unwrap_or_default();
        if heaviest == 0 || peers.len() > usize::from(NOBODY) {
            return Self::default();
        }
        let order = crate::bits::sorted(peers.iter().zip(0_u128..).map(|((seed, _), at)| u128::from(*seed) << 64 | at));
        let mut claims: Vec<Claim> = order
            .into_iter()
            .filter_map(|packed| {
                let position = packed as u16;
                let (seed, weight) = peers.get(usize::from(position))?;
                Some(Claim {
                    position,
                    next: (seed % size as u64) as u32,
                    skip: (mix(*seed, 1) % (size as u64 - 1) + 1) as u32,
                    weight: u64::from(*weight).max(1),
                    turns: 0,
                    after: u32::MAX,
                })
            })
            .collect();
        // By rounds, who takes a slot in it: lists through the claims, so that a round costs no more than it gives away. The
        // heaviest peer takes one in each round, so there are no more rounds than slots.
        let mut rounds = vec![u32::MAX; size + 1];
        for at in (0..claims.len()).rev() {
            enlist(&mut claims, &mut rounds, at, heaviest);
        }
        let mut slots = vec![NOBODY; size];
        let mut left = size;
        let mut round = 0;
        while left > 0 && round < rounds.len() {
            let mut at = rounds.get(round).copied().unwrap_or(u32::MAX);
            while at != u32::MAX && left > 0 {
                let Some(claim) = claims.get_mut(at as usize) else { break };
                let after = claim.after;
                claim.take(&mut slots);
                left -= 1;
                enlist(&mut claims, &mut rounds, at as usize, heaviest);
                at = after;
            }
            round += 1;
        }
        Self { slots }
    }

    /// Whose the hash is.
    #[inline]
    pub(super) fn get(&self, hash: u64) -> Option<u32> {
        // The high half of the product: a slot for each part of the range of hashes.
        let slot = (u128::from(hash) * self.slots.len() as u128) >> 64;
        self.slots.get(slot as usize).map(|position| u32::from(*position))
    }
}

/// What a peer would like to have next.
struct Claim {
    position: u16,
    next: u32,
    skip: u32,
    weight: u64,
    /// How many slots it has.
    turns: u64,
    /// Who is next in the same round.
    after: u32,
}

impl Claim {
    /// Takes the next slot on its list that is free. There is one: the skip and the size have no common divisor, so the list
    /// holds all slots.
    fn take(&mut self, slots: &mut [u16]) {
        let size = slots.len() as u32;
        for _ in 0..size {
            let slot = slots.get_mut(self.next as usize);
            self.next += self.skip;
            if self.next >= size {
                self.next -= size;
            }
            if let Some(slot) = slot.filter(|slot| **slot == NOBODY) {
                *slot = self.position;
                return;
            }
        }
    }
}

/// Puts a claim into the round of its next turn.
fn enlist(claims: &mut [Claim], rounds: &mut [u32], at: usize, heaviest: u64) {
    let Some(claim) = claims.get_mut(at) else { return };
    claim.turns += 1;
    let round = (claim.turns * heaviest).div_ceil(claim.weight).saturating_sub(1);
    if let Some(head) = rounds.get_mut(usize::try_from(round).unwrap_or(usize::MAX)) {
        claim.after = *head;
        *head = at as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    fn peers(count: usize, weight: impl Fn(usize) -> u32) -> Vec<(u64, u32)> {
        (0..count).map(|n| (mix(n as u64, 77), weight(n))).collect()
    }

    fn shares(peers: &[(u64, u32)]) -> Vec<usize> {
        let mut counts = vec![0; peers.len()];
        Table::new(peers, 0).slots.iter().for_each(|position| counts[usize::from(*position)] += 1);
        counts
    }

    #[test]
    fn shares_are_right_to_a_slot_or_two() {
        for (count, weight) in [(17, 1), (100, 5), (1_000, 65_535)] {
            let counts = shares(&peers(count, |_| weight));
            assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
        }
        let weighted = peers(200, |n| 1 + (n % 10) as u32);
        let sum: u32 = weighted.iter().map(|(_, weight)| weight).sum();
        for ((_, weight), count) in weighted.iter().zip(shares(&weighted)) {
            let fair = 65_537.0 * f64::from(*weight) / f64::from(sum);
            assert!((count as f64 - fair).abs() <= 2.0, "{count} slots instead of {fair}");
        }
    }

    #[test]
    fn few_slots_of_others_change_hands() {
        for count in [17, 100, 1_000] {
            let all = peers(count, |n| 1 + (n % 3) as u32);
            let (before, after) = (Table::new(&all, 0), Table::new(&all[1..], 0));
            let moved = before.slots.iter().zip(&after.slots).filter(|(was, is)| **was != 0 && **was != **is + 1);
            let moved = moved.count();
            assert!(moved < 655, "{moved} of 65,537 slots of {count} peers");
        }
    }

    #[test]
    fn a_reduced_table_still_has_thirty_slots_for_each_peer() {
        let sizes = |peers| [0, 1, 2, 9].map(|reduction| size(peers, reduction));
        assert_eq!(sizes(40), [65_537, 16_411, 4_099, 4_099]);
        assert_eq!(sizes(300), [65_537, 16_411, 16_411, 16_411]);
        assert_eq!(sizes(2_000), [65_537, 65_537, 65_537, 65_537]);
        assert_eq!(sizes(2_001), [655_373, 262_147, 65_537, 65_537]);
        assert_eq!(sizes(10_000), [655_373, 655_373, 655_373, 655_373]);
        for (count, reduction) in [(40, 2), (136, 2), (500, 1)] {
            let all = peers(count, |n| 1 + (n % 3) as u32);
            let (before, after) = (Table::new(&all, reduction), Table::new(&all[1..], reduction));
            let moved = before.slots.iter().zip(&after.slots).filter(|(was, is)| **was != 0 && **was != **is + 1);
            let (moved, slots) = (moved.count(), before.slots.len());
            assert!(moved * 100 < slots * 3, "{moved} of {slots} slots of {count} peers");
        }
    }

    #[test]
    fn one_heavy_peer_among_many_light_ones_is_no_trouble() {
        let counts = shares(&peers(1_000, |n| if n == 7 { 65_535 } else { 1 }));
        assert!(counts[7] > 64_000);
        assert_eq!(counts.iter().sum::<usize>(), 65_537);
        assert!(Table::new(&[], 0).slots.is_empty());
        assert!(Table::new(&[(5, 0)], 0).slots.is_empty());
    }

    #[test]
    fn the_order_of_peers_does_not_matter() {
        let forwards = peers(60, |n| 1 + (n % 4) as u32);
        let backwards: Vec<(u64, u32)> = forwards.iter().rev().copied().collect();
        let (one, two) = (Table::new(&forwards, 0), Table::new(&backwards, 0));
        assert!(one.slots.iter().zip(&two.slots).all(|(a, b)| *a == 59 - *b));
    }
}
