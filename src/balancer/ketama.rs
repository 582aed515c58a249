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

use super::rendezvous::mix;
use super::{is_within_bound, Balancer, Candidates, Entry, Options, Pick, FULL};

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
            let takes = mix(u64::from(*point), 0) >> 58 < u64::from(entry.part) * 64 / u64::from(FULL);
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
            && self.entries.iter().zip(entries).all(|(a, b)| a.name == b.name && a.weight == b.weight);
        self.entries = entries.to_vec();
        self.weights = entries.iter().map(|entry| f64::from(entry.effective())).sum();
        if same {
            // Who is up and who is down does not change the ring.
            return;
        }
        let wanted: usize = entries.iter().map(|entry| entry.weight as usize * POINTS).sum();
        let scale = (MOST_POINTS as f64 / wanted.max(1) as f64).min(1.0);
        self.ring = Vec::with_capacity(wanted.min(MOST_POINTS));
        for (entry, position) in entries.iter().zip(0..) {
            let (host, port) = entry.name.rsplit_once(':').unwrap_or((&entry.name, ""));
            let mut base = crc32fast::Hasher::new();
            base.update(host.as_bytes());
            base.update(&[0]);
            base.update(port.as_bytes());
            let points = ((entry.weight as usize * POINTS) as f64 * scale) as usize;
            let mut previous = 0_u32;
            for _ in 0..points.max(1) {
                let mut hasher = base.clone();
                hasher.update(&previous.to_le_bytes());
                previous = hasher.finalize();
                self.ring.push((previous, position));
            }
        }
        self.ring.sort_unstable();
        self.ring.dedup_by_key(|(hash, _)| *hash);
    }

    fn pick(&mut self, request: &Pick<'_>, candidates: &mut Candidates) {
        let hash = crc32fast::hash(request.key);
        self.pick_within(hash, self.bound, candidates);
        if self.bound.is_some() && !candidates.is_full() {
            self.pick_within(hash, None, candidates);
        }
    }
}
