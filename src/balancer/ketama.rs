//! Ketama: the same pick as nginx's `hash KEY consistent`, for the same servers and weights.
//!
//! **Algorithm.** Every server has 160 points for each unit of weight on a ring of 2³², each the CRC-32 of its host, a zero
//! byte, its port and the point before it. A key belongs to the first point at or behind its own CRC-32 (nginx,
//! `ngx_http_upstream_hash_module.c`, after "libketama", Richard Jones, 2007). When that point's server is out of
//! use, the next points follow.
//!
//! **Bound.** With 160 points shares are off by some 8 %. [`Rendezvous`](super::Rendezvous) has exact ones. A server
//! that goes moves only its own keys.
//!
//! **Cost.** A binary search, and 8 bytes for each point: weights count, so use small ones. A ring has two million points at
//! most, and the rings of a configuration have a budget ([`TableKind`]): beyond that servers get fewer points than in nginx,
//! in proportion, and picks differ from nginx's. 160 points for each server are always there.
//!
//! **Choose it** to come from nginx without losing caches. Write the servers there with their ports: `server a;` and
//! `server a:80;` are different servers to nginx's hash, and here every server has a port. Golden data in the tests were
//! made with a real nginx.

use std::rc::Rc;

use crc32fast::Hasher;

use super::bound::Bound;
use super::table::{Recipe, TableKind, Tables};
use super::{Balancer, Candidates, Entry, Options, Pick};
use crate::bits::mix;

/// Points for each unit of weight.
const POINTS: u64 = 160;
/// The most points of one ring: 16 MB.
const MOST_POINTS: u64 = 2_000_000;
/// How many points are tried before all entries are.
const TRIES: usize = 10_000;

thread_local! {
    static RINGS: Tables<Ring> = const { Tables::new() };
}

/// nginx's consistent hash.
#[derive(Debug, Default)]
pub struct Ketama {
    bound: Bound,
    reduction: u8,
    entries: Vec<Entry>,
    ring: Rc<Ring>,
    recipe: Recipe,
}

impl Ketama {
    /// Its rings.
    pub const RING: TableKind = TableKind {
        budget: 48 << 20,
        consequence: "their picks may differ from nginx's; smaller weights need less",
        bytes: |weights, reduction| {
            let points: u64 = weights.iter().map(|weight| u64::from(*weight) * POINTS).sum();
            points.min(most_points(weights.len(), reduction)) * size_of::<(u32, u32)>() as u64
        },
    };

    /// A balancer without entries.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self { bound: Bound::new(options.bound), reduction: options.reduction, ..Self::default() }
    }

    fn pick_within(&self, hash: u32, bound: Bound, candidates: &mut Candidates) {
        for (point, position) in self.ring.from(hash).take(TRIES) {
            if candidates.is_full() {
                return;
            }
            let Some(entry) = self.entries.get(position as usize) else { continue };
            if entry.takes(mix(u64::from(point), 0)) && bound.admits(entry) {
                candidates.push(position);
            }
        }
        for (entry, position) in self.entries.iter().zip(0..) {
            if bound.admits(entry) {
                candidates.push(position);
            }
        }
    }
}

impl Balancer for Ketama {
    fn set_entries(&mut self, entries: &[Entry]) {
        self.entries = entries.to_vec();
        self.bound.set_entries(entries);
        // Who is up and who is down does not change the ring.
        let recipe = Recipe::of(entries, self.reduction);
        if recipe != self.recipe {
            self.recipe = recipe;
            self.ring = RINGS.with(|rings| rings.get(recipe, || Ring::new(entries, self.reduction)));
        }
    }

    fn pick(&mut self, request: &Pick<'_>, candidates: &mut Candidates) {
        let hash = crc32fast::hash(request.key);
        for bound in self.bound.passes() {
            if !candidates.is_full() {
                self.pick_within(hash, bound, candidates);
            }
        }
    }
}

/// The most points of a ring. For 160 of each server there is always room: weights of 1 are what nginx has them for.
fn most_points(servers: usize, reduction: u8) -> u64 {
    let most = MOST_POINTS.checked_shr(2 * u32::from(reduction)).unwrap_or_default();
    most.max(servers as u64 * POINTS).min(MOST_POINTS)
}

/// How many points each entry has.
fn points(entries: &[Entry], most: u64) -> impl Iterator<Item = u64> + '_ {
    // In 64 bits, which hold this for more entries than there can be.
    let wanted = |entry: &Entry| (u64::from(entry.weight) * POINTS / u64::from(entry.weight_scale).max(1)).max(1);
    let total: u64 = entries.iter().map(wanted).sum();
    let room = most.saturating_sub(entries.len() as u64);
    entries.iter().map(move |entry| match wanted(entry) {
        points if total <= most => points,
        // One for each, and the rest in proportion.
        points => (points.saturating_mul(room) / total).saturating_add(1),
    })
}

/// Points by their hashes, with the positions of their entries.
#[derive(Debug, Default)]
struct Ring(Vec<(u32, u32)>);

impl Ring {
    fn new(entries: &[Entry], reduction: u8) -> Self {
        let points: Vec<u64> = points(entries, most_points(entries.len(), reduction)).collect();
        let mut ring = Vec::with_capacity(points.iter().sum::<u64>() as usize);
        for ((entry, position), points) in entries.iter().zip(0..).zip(points) {
            let (host, port) = entry.name.rsplit_once(':').unwrap_or((&entry.name, ""));
            let mut base = Hasher::new();
            base.update(host.as_bytes());
            base.update(&[0]);
            base.update(port.as_bytes());
            let mut previous = 0_u32;
            for _ in 0..points {
                let mut hasher = base.clone();
                hasher.update(&previous.to_le_bytes());
                previous = hasher.finalize();
                ring.push((previous, position));
            }
        }
        sort(&mut ring);
        ring.dedup_by_key(|(hash, _)| *hash);
        Self(ring)
    }

    /// The points from a hash on, once around.
    fn from(&self, hash: u32) -> impl Iterator<Item = (u32, u32)> + '_ {
        let start = self.0.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.0.split_at_checked(start).unwrap_or_default();
        after.iter().chain(before).copied()
    }
}

/// Sorts points by their hashes: by two of three digits, which leaves little to do, because they are many and spread evenly.
fn sort(points: &mut Vec<(u32, u32)>) {
    const DIGIT: usize = 1 << 11;
    let mut sorted = vec![(0, 0); points.len()];
    for shift in [10, 21] {
        let digit = |(hash, _): &(u32, u32)| (hash >> shift) as usize % DIGIT;
        let mut starts = vec![0_usize; DIGIT + 1];
        for point in points.iter() {
            if let Some(count) = starts.get_mut(digit(point) + 1) {
                *count += 1;
            }
        }
        let mut before = 0;
        for start in &mut starts {
            before += *start;
            *start = before;
        }
        for point in points.iter() {
            if let Some(start) = starts.get_mut(digit(point)) {
                if let Some(place) = sorted.get_mut(*start) {
                    *place = *point;
                }
                *start += 1;
            }
        }
        std::mem::swap(points, &mut sorted);
    }
    // What is left differs in the last digit alone, and stands next to its place. A point that is equal to another one stays
    // behind it: the first of them counts.
    for at in 1..points.len() {
        let mut at = at;
        while at > 0 && points.get(at - 1).map(|(hash, _)| hash) > points.get(at).map(|(hash, _)| hash) {
            points.swap(at - 1, at);
            at -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    fn picks(balancer: &mut Ketama, key: usize) -> Vec<u32> {
        let mut candidates = Candidates::with_room_for(3);
        balancer.pick(&Pick { key: format!("key-{key}").as_bytes(), ..Pick::default() }, &mut candidates);
        candidates.as_slice().to_vec()
    }

    fn entries(weights: &str) -> Vec<Entry> {
        let weights = weights.split(' ').map(|weight| weight.parse().unwrap());
        (1..).zip(weights).map(|(n, weight)| Entry::new(&format!("127.0.0.{n}:18100"), weight)).collect()
    }

    /// Made with a real nginx, see `golden/ketama.sh`.
    #[test]
    fn every_pick_is_nginx_s() {
        let mut lines = include_str!("golden/ketama.txt").lines().filter(|line| !line.starts_with('#'));
        let mut sets = 0;
        while let (Some(weights), Some(expected)) = (lines.next(), lines.next()) {
            let mut balancer = Ketama::default();
            balancer.set_entries(&entries(weights));
            let found: String = (0..10_000).map(|key| picks(&mut balancer, key)[0].to_string()).collect();
            assert_eq!(expected.len(), 10_000);
            assert!(found == expected, "weights {weights}");
            sets += 1;
        }
        assert_eq!(sets, 3);
    }

    #[test]
    fn who_is_down_leaves_the_other_keys_where_they_are() {
        let mut all = entries("1 2 3 4 5");
        let (mut before, mut after) = (Ketama::default(), Ketama::default());
        before.set_entries(&all);
        after.set_entries(&all);
        all[2].slow_start_factor = 0;
        after.set_entries(&all);
        for key in 0..5_000 {
            let was = picks(&mut before, key);
            let expected = if was[0] == 2 { was[1] } else { was[0] };
            assert_eq!(picks(&mut after, key)[0], expected);
        }
    }

    /// More points than 32 bits count, which is what `usize` has in the filter; and weights in hundredths.
    #[test]
    fn no_weights_are_too_many_points() {
        for (servers, weight, weight_scale) in [(410, 65_535, 1), (500, 65_535, 1), (410, 6_553_500, 100)] {
            let entry = |n| Entry { weight_scale, ..Entry::new(&format!("10.0.{}.{}:80", n / 250, n % 250), weight) };
            let entries: Vec<Entry> = (0..servers).map(entry).collect();
            let mut balancer = Ketama::default();
            balancer.set_entries(&entries);
            assert!(balancer.ring.0.len() as u64 <= MOST_POINTS);
            let mut counts = vec![0; servers];
            (0..servers * 100).for_each(|key| counts[picks(&mut balancer, key)[0] as usize] += 1);
            assert!(counts.iter().all(|count| (50..170).contains(count)), "{counts:?}");
        }
    }

    #[test]
    fn candidates_are_distinct_and_heavy_weights_do_not_eat_the_memory() {
        let mut balancer = Ketama::default();
        balancer.set_entries(&entries("65535 65535 65535"));
        assert!(balancer.ring.0.len() as u64 <= MOST_POINTS);
        let mut picked = picks(&mut balancer, 1);
        picked.sort_unstable();
        assert_eq!(picked, [0, 1, 2]);
        balancer.set_entries(&[]);
        assert!(picks(&mut balancer, 1).is_empty());
    }
}
