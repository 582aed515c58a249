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
//! **Cost.** A binary search, and 8 bytes for each point: weights count, so use small ones. Beyond
//! [`MOST_POINTS`] in all, servers get fewer points than in nginx, in proportion.
//!
//! **Choose it** to come from nginx without losing caches. Write the servers there with their ports: `server a;` and
//! `server a:80;` are different servers to nginx's hash, and here every server has a port. Golden data in the tests were
//! made with a real nginx.

use crc::{Crc, Table, CRC_32_ISO_HDLC};

use super::{is_within_bound, Balancer, Candidates, Entry, Options, Pick};
use crate::bits::mix;
use crate::model::slow_start::FULL_FACTOR;

/// nginx's CRC. With one table: the sixteen of faster implementations would be a twentieth of the whole filter.
const CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// Points for each unit of weight.
const POINTS: usize = 160;
/// The most points of one ring: 16 MiB.
const MOST_POINTS: usize = 2_000_000;
/// How many points are tried before all entries are.
const TRIES: usize = 10_000;

/// nginx's consistent hash.
#[derive(Debug, Default)]
pub struct Ketama {
    bound: Option<f64>,
    entries: Vec<Entry>,
    weights: f64,
    /// Hashes and positions, by hash.
    ring: Vec<(u32, u32)>,
}

impl Ketama {
    /// A balancer without entries.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self { bound: options.bound, ..Self::default() }
    }

    fn pick_within(&self, hash: u32, bound: Option<f64>, candidates: &mut Candidates) {
        let start = self.ring.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.ring.split_at_checked(start).unwrap_or_default();
        for (point, position) in after.iter().chain(before).take(TRIES) {
            if candidates.is_full() {
                return;
            }
            let Some(entry) = self.entries.get(*position as usize) else { continue };
            // Who starts slowly turns away some of its points, fewer and fewer.
            let takes =
                mix(u64::from(*point), 0) >> 58 < u64::from(entry.slow_start_factor) * 64 / u64::from(FULL_FACTOR);
            if takes && entry.is_open() && is_within_bound(entry, bound, self.weights) {
                candidates.push(*position);
            }
        }
        for (entry, position) in self.entries.iter().zip(0..) {
            if entry.is_open() && is_within_bound(entry, bound, self.weights) {
                candidates.push(position);
            }
        }
    }
}

impl Balancer for Ketama {
    fn set_entries(&mut self, entries: &[Entry]) {
        let same = self.entries.len() == entries.len()
            && self
                .entries
                .iter()
                .zip(entries)
                .all(|(a, b)| a.name == b.name && (a.weight, a.weight_scale) == (b.weight, b.weight_scale));
        self.entries = entries.to_vec();
        self.weights = entries.iter().map(|entry| f64::from(entry.effective())).sum();
        if same {
            // Who is up and who is down does not change the ring.
            return;
        }
        let points = |entry: &Entry| entry.weight as usize * POINTS / (entry.weight_scale as usize).max(1);
        let wanted: usize = entries.iter().map(points).sum();
        let scale = (MOST_POINTS as f64 / wanted.max(1) as f64).min(1.0);
        self.ring = Vec::with_capacity(wanted.min(MOST_POINTS));
        for (entry, position) in entries.iter().zip(0..) {
            let (host, port) = entry.name.rsplit_once(':').unwrap_or((&entry.name, ""));
            let mut base = CRC.digest();
            base.update(host.as_bytes());
            base.update(&[0]);
            base.update(port.as_bytes());
            let points = (points(entry) as f64 * scale) as usize;
            let mut previous = 0_u32;
            for _ in 0..points.max(1) {
                let mut hasher = base.clone();
                hasher.update(&previous.to_le_bytes());
                previous = hasher.finalize();
                self.ring.push((previous, position));
            }
        }
        sort(&mut self.ring);
        self.ring.dedup_by_key(|(hash, _)| *hash);
    }

    fn pick(&mut self, request: &Pick<'_>, candidates: &mut Candidates) {
        let hash = CRC.checksum(request.key);
        self.pick_within(hash, self.bound, candidates);
        if self.bound.is_some() && !candidates.is_full() {
            self.pick_within(hash, None, candidates);
        }
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

    #[test]
    fn candidates_are_distinct_and_heavy_weights_do_not_eat_the_memory() {
        let mut balancer = Ketama::default();
        balancer.set_entries(&entries("65535 65535 65535"));
        assert!(balancer.ring.len() <= MOST_POINTS);
        let mut picked = picks(&mut balancer, 1);
        picked.sort_unstable();
        assert_eq!(picked, [0, 1, 2]);
        balancer.set_entries(&[]);
        assert!(picks(&mut balancer, 1).is_empty());
    }
}
