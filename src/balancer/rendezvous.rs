//! Weighted rendezvous hashing: a key goes to the same peer each time, for `ip-hash` and `consistent-hash`.
//!
//! **Algorithm.** Every peer gets a number for the key, a hash of both, and the highest wins (Thaler, Ravishankar, "Using
//! name-based mappings to increase hit rates", 1998). With weights: the hash is taken as a uniform `u` in (0, 1), and the
//! lowest `−ln(u) / weight` wins, which gives each peer exactly its share (Schindelhauer, Schomaker, "Weighted
//! distributed hash tables", 2005). The retries are the next ones in that order: where a key's requests go when its
//! peer is out of use is where its retries go already.
//!
//! More than [`FEW`] peers would take too long to be looked at for each key. They share a table that gives a peer for
//! each hash of a key in one step, [`Maglev`](super::maglev)'s. Where a configuration has more upstreams of that size than there is
//! room for tables ([`TableKind`]), up to [`FEW_WITHOUT_ROOM`] peers are looked at after all, and the tables of the
//! others are smaller.
//!
//! **Bound.** Few peers get exactly their shares, and nothing moves but what must: when a peer goes, its keys go to all others by their
//! weights, and no other key moves; when one comes, or gets heavier, it takes its keys from all others. With a
//! table, shares are right to one slot of 65,537 (655,373 above 2,000 peers), and fewer than 1 % of the others' keys move
//! as well. With a reduced table, to one slot of 4,099 at least and 30 for each peer at least, so that a share is off by 3 % at
//! most; and fewer than 3 % of the others' keys move. A peer that is down moves none but its own, however many there are: it
//! keeps its place, and its keys are hashed anew. Growing past few peers moves most keys, once. The pick does not depend on
//! the order of servers, and is the same in every worker and on every host, for ever: it uses names, 64-bit integers,
//! and floating-point operations that IEEE 754 defines to the last bit. Golden vectors in the tests hold it.
//!
//! **Cost.** A hash for each of few peers; the logarithm is only taken of the best of those of equal weight, because among them
//! the highest hash wins. Of many, a look into the table for each candidate. `docs/balancers.md` has the figures.
//!
//! **Choose it** where servers keep something for a key. Coming from nginx's `hash … consistent`, see
//! [`Ketama`](super::Ketama).

use std::rc::Rc;

use crate::bits::mix;
use xxhash_rust::xxh64::xxh64;

use super::bound::Bound;
use super::maglev::{self, Table};
use super::table::{Recipe, TableKind, Tables};
use super::{Balancer, Candidates, Entry, Options, Pick};
use crate::bits::sorted;
use crate::host::MOST_CANDIDATES;
use crate::model::slow_start::FULL_FACTOR;

/// Up to so many peers, all are looked at.
const FEW: usize = 16;
/// The same where a configuration has more upstreams with more peers than there is room for tables.
const FEW_WITHOUT_ROOM: usize = 32;
/// How often a key is hashed anew to get around peers that are out of use, before all are looked at.
const ATTEMPTS: u64 = 32;

thread_local! {
    static TABLES: Tables<Table> = const { Tables::new() };
}

/// Weighted rendezvous hashing.
#[derive(Debug, Default)]
pub struct Rendezvous {
    bound: Bound,
    reduction: u8,
    /// Whether an entry can be full.
    limited: bool,
    entries: Vec<Entry>,
    /// The entries' slow-start factors.
    factors: Vec<u8>,
    /// Those that may be picked, with the weights that they have now.
    open: Field,
    /// All of them, with their full weights; none if they are [`few`].
    table: Option<Rc<Table>>,
    recipe: Recipe,
}

impl Rendezvous {
    /// Its tables. Four million slots are 63 full tables, and a tenth of a second to build them all.
    pub const TABLE: TableKind = TableKind {
        budget: 8 << 20,
        consequence: "shares of traffic are less exact, and a peer that goes moves more keys of others",
        bytes: |weights, reduction| match weights.len() {
            peers if peers <= few(reduction) => 0,
            peers => maglev::bytes(peers, reduction),
        },
    };

    /// A balancer without entries.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Self { bound: Bound::new(options.bound), reduction: options.reduction, ..Self::default() }
    }

    fn pick_within(&self, key: u64, bound: Bound, candidates: &mut Candidates) {
        let limited = self.limited || bound.is_set();
        let admits = |position: u32| self.entries.get(position as usize).is_some_and(|entry| bound.admits(entry));
        if let Some(table) = &self.table {
            for attempt in 0..ATTEMPTS {
                if candidates.is_full() {
                    return;
                }
                let key = if attempt == 0 { key } else { mix(key, attempt) };
                let Some(position) = table.get(key) else { break };
                // Beside the entries, because those are many and far apart in memory.
                let factor = self.factors.get(position as usize).copied().unwrap_or_default();
                let takes = factor >= FULL_FACTOR as u8 || (factor > 0 && self.takes(position, key));
                if takes && (!limited || admits(position)) {
                    candidates.push(position);
                }
            }
        }
        if limited || !candidates.as_slice().is_empty() {
            let taken = *candidates;
            let free = |position| !taken.contains(position) && admits(position);
            self.open.best(key, candidates, Some(&free));
        } else {
            self.open.best(key, candidates, None);
        }
    }

    /// Whether an entry that starts slowly takes a key.
    fn takes(&self, position: u32, key: u64) -> bool {
        let entry = self.entries.get(position as usize);
        entry.is_some_and(|entry| entry.takes(mix(key, xxh64(entry.name.as_bytes(), GOLDEN))))
    }
}

/// How many peers are no more than a few.
const fn few(reduction: u8) -> usize {
    if reduction == 0 {
        FEW
    } else {
        FEW_WITHOUT_ROOM
    }
}

/// 2⁶⁴ divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Balancer for Rendezvous {
    fn set_entries(&mut self, entries: &[Entry]) {
        self.entries = entries.to_vec();
        self.factors = entries.iter().map(|entry| u8::try_from(entry.slow_start_factor).unwrap_or(u8::MAX)).collect();
        self.limited = entries.iter().any(|entry| entry.load.has_limit());
        self.bound.set_entries(entries);
        let seeded: Vec<(u64, u32)> = entries.iter().map(|entry| xxh64(entry.name.as_bytes(), 0)).zip(0..).collect();
        let effective = |position: u32| entries.get(position as usize).map_or(0, Entry::effective);
        self.open = Field::new(&seeded, effective);
        if entries.len() <= few(self.reduction) {
            (self.table, self.recipe) = (None, Recipe::default());
            return;
        }
        // Who is up and who is down does not change the table.
        let recipe = Recipe::of(entries, self.reduction);
        if recipe != self.recipe {
            let make = || {
                let weighted = seeded.iter().zip(entries).map(|((seed, _), entry)| (*seed, entry.weight));
                Table::new(&weighted.collect::<Vec<_>>(), self.reduction)
            };
            (self.table, self.recipe) = (Some(TABLES.with(|tables| tables.get(recipe, make))), recipe);
        }
    }

    fn pick(&mut self, request: &Pick<'_>, candidates: &mut Candidates) {
        let key = xxh64(request.key, 0);
        for bound in self.bound.passes() {
            if !candidates.is_full() {
                self.pick_within(key, bound, candidates);
            }
        }
    }
}

/// Peers that compete for keys.
#[derive(Debug, Default)]
struct Field {
    /// Hashes of the names, with positions; those of one weight together.
    members: Vec<(u64, u32)>,
    /// Weights, and where in `members` those of this weight begin and end.
    classes: Vec<(f64, usize, usize)>,
}

impl Field {
    fn new(members: &[(u64, u32)], weight: impl Fn(u32) -> u32) -> Self {
        let weighted = members.iter().map(|(seed, at)| (weight(*at), seed, at)).filter(|(weight, ..)| *weight > 0);
        let weighted = sorted(
            weighted.map(|(weight, seed, at)| u128::from(weight) << 96 | u128::from(*seed) << 32 | u128::from(*at)),
        );
        let weight_of = |packed: &u128| f64::from((packed >> 96) as u32);
        let mut classes: Vec<(f64, usize, usize)> = Vec::new();
        for (end, packed) in (1..).zip(&weighted) {
            let weight = weight_of(packed);
            match classes.last_mut() {
                Some(class) if class.0 == weight => class.2 = end,
                _ => classes.push((weight, end - 1, end)),
            }
        }
        Self { members: weighted.iter().map(|packed| ((packed >> 32) as u64, *packed as u32)).collect(), classes }
    }

    /// Adds the positions that win the key, best first, of those whom `admits` lets in, as far as there is room.
    fn best(&self, key: u64, candidates: &mut Candidates, admits: Option<&dyn Fn(u32) -> bool>) {
        let wanted = candidates.room();
        let named = |packed: u64, members: &[(u64, u32)]| members.get((packed & INDEX) as usize).map(|(_, at)| *at);
        if self.classes.len() == 1 && wanted == 1 && admits.is_none() {
            let hashes = self.members.iter().zip(0_u64..);
            let best = hashes.fold(0, |best, ((seed, _), index)| best.max((mix(key, *seed) & !INDEX) | index));
            named(best, &self.members).into_iter().for_each(|position| candidates.push(position));
            return;
        }
        if self.classes.len() == 1 {
            // Among equal weights the highest hash has the lowest score.
            for packed in highest(key, &self.members, admits).into_iter().take(wanted).filter(|packed| *packed > 0) {
                named(packed, &self.members).into_iter().for_each(|position| candidates.push(position));
            }
            return;
        }
        let mut best = Best::new(wanted);
        // The heaviest first: the lower the scores so far, the fewer of the others have to be worked out.
        for (weight, start, end) in self.classes.iter().rev() {
            let members = self.members.get(*start..*end).unwrap_or_default();
            for packed in highest(key, members, admits).into_iter().take(wanted).filter(|packed| *packed > 0) {
                // Most are out of the question by a lower bound that needs no logarithm.
                if least_score(packed) >= best.highest() * weight {
                    break;
                }
                if let Some(position) = named(packed, members) {
                    best.enter(score(packed, *weight), position);
                }
            }
        }
        best.into_positions().for_each(|position| candidates.push(position));
    }
}

/// The part of a packed hash that is the member's index: enough for all peers that an upstream can have.
const INDEX: u64 = 0xffff;

/// The three highest hashes, each with its member's index in place of its last digits; 0 where there are fewer.
///
/// Minima and maxima of single numbers need no branches, which nobody could predict here.
fn highest(key: u64, members: &[(u64, u32)], admits: Option<&dyn Fn(u32) -> bool>) -> [u64; MOST_CANDIDATES] {
    let (mut first, mut second, mut third) = (0, 0, 0);
    if let [(seed, position)] = members {
        let is_in = admits.is_none_or(|admits| admits(*position));
        return [if is_in { mix(key, *seed) & !INDEX } else { 0 }, 0, 0];
    }
    for ((seed, position), index) in members.iter().zip(0_u64..) {
        if admits.is_some_and(|admits| !admits(*position)) {
            continue;
        }
        let packed = (mix(key, *seed) & !INDEX) | index;
        let lower = first.min(packed);
        first = first.max(packed);
        third = third.max(second.min(lower));
        second = second.max(lower);
    }
    [first, second, third]
}

/// The lowest scores, in order.
struct Best {
    scores: [(f64, u32); MOST_CANDIDATES],
    wanted: usize,
}

impl Best {
    fn new(wanted: usize) -> Self {
        Self { scores: [(f64::INFINITY, u32::MAX); MOST_CANDIDATES], wanted: wanted.min(MOST_CANDIDATES) }
    }

    fn enter(&mut self, score: f64, position: u32) {
        let mut new = (score, position);
        for slot in self.scores.iter_mut().take(self.wanted) {
            if new.0 < slot.0 {
                std::mem::swap(slot, &mut new);
            }
        }
    }

    fn highest(&self) -> f64 {
        self.scores.get(self.wanted.wrapping_sub(1)).map_or(0.0, |(score, _)| *score)
    }

    fn into_positions(self) -> impl Iterator<Item = u32> {
        let positions = self.scores.into_iter().take(self.wanted).map(|(_, position)| position);
        positions.filter(|position| *position != u32::MAX)
    }
}

/// `−log₂(u) / weight` for the `u` that a hash stands for.
fn score(hash: u64, weight: f64) -> f64 {
    // At 0 the logarithm must stay finite.
    -log2((hash as f64 / RANGE).max(1.0 / RANGE)) / weight
}

/// A lower bound of `−log₂(u)`: on a logarithmic scale, the line between two powers of two lies below the logarithm by
/// 0.0861 at most.
fn least_score(hash: u64) -> f64 {
    let zeros = hash.leading_zeros();
    let fraction = (hash.checked_shl(zeros + 1).unwrap_or(0) >> 32) as u32;
    f64::from(zeros + 1) - f64::from(fraction) * (1.0 / 4_294_967_296.0) - 0.0862
}

const RANGE: f64 = 18_446_744_073_709_551_616.0;

/// The logarithm to base 2 of a positive normal number, to 9 digits.
///
/// Not the one of the standard library: that is the platform's, and may differ in the last bit from the next one. This
/// is the series of the inverse hyperbolic tangent (Abramowitz, Stegun, 4.1.27) in operations whose results IEEE
/// 754 defines.
fn log2(x: f64) -> f64 {
    const MANTISSA: u64 = (1 << 52) - 1;
    let bits = x.to_bits();
    let mut exponent = ((bits >> 52) & 0x7ff) as f64 - 1023.0;
    let mut mantissa = f64::from_bits((bits & MANTISSA) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1.0;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let q = s * s;
    let series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0))));
    exponent + s * series * (2.0 * std::f64::consts::LOG2_E)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    fn peers(count: usize) -> Vec<Entry> {
        (0..count).map(|n| Entry::new(&format!("10.0.{}.{}:80", n / 250, n % 250), 1)).collect()
    }

    fn balancer(entries: &[Entry]) -> Rendezvous {
        let mut balancer = Rendezvous::default();
        balancer.set_entries(entries);
        balancer
    }

    fn pick(balancer: &mut Rendezvous, key: usize) -> u32 {
        candidates(balancer, key)[0]
    }

    fn candidates(balancer: &mut Rendezvous, key: usize) -> Vec<u32> {
        let mut candidates = Candidates::with_room_for(3);
        balancer.pick(&Pick { key: format!("key-{key}").as_bytes(), ..Pick::default() }, &mut candidates);
        candidates.as_slice().to_vec()
    }

    fn name(entries: &[Entry], position: u32) -> &str {
        &entries[position as usize].name
    }

    #[test]
    fn the_logarithm_is_right() {
        for x in [1.0, 0.5, 0.75, 1e-19, 0.999_999_9, 0.1, std::f64::consts::FRAC_1_SQRT_2] {
            assert!((log2(x) - x.log2()).abs() < 1e-8, "{x}");
        }
    }

    #[test]
    fn one_removed_of_ten_moves_only_its_keys() {
        let before = peers(10);
        let after: Vec<Entry> = before.iter().filter(|e| &*e.name != "10.0.0.3:80").cloned().collect();
        let (mut old, mut new) = (balancer(&before), balancer(&after));
        let mut moved = 0;
        let mut to = std::collections::HashMap::new();
        for key in 0..100_000 {
            let (from, now) = (name(&before, pick(&mut old, key)), name(&after, pick(&mut new, key)));
            if from == "10.0.0.3:80" {
                moved += 1;
                *to.entry(now).or_insert(0) += 1;
            } else {
                assert_eq!(from, now, "key {key}");
            }
        }
        assert!(moved <= 10_500, "{moved} keys moved");
        let even = moved as f64 / 9.0;
        assert!(to.len() == 9 && to.values().all(|n| (f64::from(*n) / even - 1.0).abs() < 0.2), "{to:?}");
    }

    #[test]
    fn shares_are_as_the_weights() {
        for weights in [vec![1; 10], vec![1, 5, 7], vec![1, 2, 3, 4, 5, 6, 7, 8, 9, 100]] {
            let entries: Vec<Entry> =
                weights.iter().zip(0..).map(|(w, n)| Entry::new(&format!("h{n}:1"), *w)).collect();
            let mut balancer = balancer(&entries);
            let mut counts = vec![0_u32; weights.len()];
            (0..100_000).for_each(|key| counts[pick(&mut balancer, key) as usize] += 1);
            let total: u32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let due = 100_000.0 * f64::from(*weight) / f64::from(total);
                assert!((f64::from(*count) - due).abs() < 5.0 * due.sqrt(), "{counts:?} for {weights:?}");
            }
        }
    }

    #[test]
    fn the_order_of_servers_does_not_matter() {
        for count in [7, 300] {
            let entries = peers(count);
            let reversed: Vec<Entry> = entries.iter().rev().cloned().collect();
            let (mut one, mut two) = (balancer(&entries), balancer(&reversed));
            for key in 0..2_000 {
                let names = |entries: &[Entry], picks: Vec<u32>| -> Vec<String> {
                    picks.into_iter().map(|at| name(entries, at).to_owned()).collect()
                };
                assert_eq!(names(&entries, candidates(&mut one, key)), names(&reversed, candidates(&mut two, key)));
            }
        }
    }

    #[test]
    fn what_follows_a_peer_is_where_its_keys_go_when_it_is_down() {
        for count in [5, 200] {
            let entries = peers(count);
            let mut all = balancer(&entries);
            for down in [0, 3] {
                let mut without = entries.clone();
                without[down].slow_start_factor = 0;
                let mut rest = balancer(&without);
                for key in 0..3_000 {
                    let before = candidates(&mut all, key);
                    let after = pick(&mut rest, key);
                    let expected = if before[0] as usize == down { before[1] } else { before[0] };
                    assert_eq!(after, expected, "key {key} of {count} peers");
                }
            }
        }
    }

    #[test]
    fn many_peers_hold_their_keys_too() {
        let before = peers(1_000);
        let after: Vec<Entry> = before.iter().skip(1).cloned().collect();
        let (mut old, mut new) = (balancer(&before), balancer(&after));
        let (mut counts, mut moved) = (vec![0_u32; 1_000], 0);
        for key in 0..200_000 {
            let position = pick(&mut old, key);
            counts[position as usize] += 1;
            moved += u32::from(position != 0 && name(&before, position) != name(&after, pick(&mut new, key)));
        }
        assert!(moved < 2_000, "{moved} of 200,000 keys of remaining peers moved: more than 1 %");
        assert!(counts.iter().all(|count| (120..290).contains(count)), "shares are even");
    }

    #[test]
    fn without_room_for_tables_there_are_none_up_to_32_peers() {
        let reduced = |entries: &[Entry]| {
            let mut balancer = Rendezvous::new(&Options { reduction: 1, ..Options::default() });
            balancer.set_entries(entries);
            balancer
        };
        let all = peers(32);
        let (mut before, mut after) = (reduced(&all), reduced(&all[1..]));
        for key in 0..20_000 {
            let was = pick(&mut before, key);
            assert!(was == 0 || was == pick(&mut after, key) + 1, "key {key} of another peer moved");
        }
        assert!(before.table.is_none() && reduced(&peers(33)).table.is_some());
        let few = [(16, 0), (32, 1)].map(|(peers, reduction)| (Rendezvous::TABLE.bytes)(&vec![1; peers], reduction));
        assert_eq!(few, [0, 0]);
    }

    #[test]
    fn balancers_of_the_same_peers_share_a_table() {
        let entries = peers(40);
        let mut down = entries.clone();
        down[3].slow_start_factor = 0;
        let (one, two) = (balancer(&entries), balancer(&down));
        let tables = [&one, &two].map(|balancer| balancer.table.clone().unwrap());
        assert!(Rc::ptr_eq(&tables[0], &tables[1]));
        assert!(!Rc::ptr_eq(&tables[0], &balancer(&entries[1..]).table.unwrap()));
        let table = Rc::downgrade(&tables[0]);
        drop((one, two, tables));
        assert!(table.upgrade().is_none(), "nobody has it, and it is still there");
    }

    #[test]
    fn a_slow_start_takes_keys_from_nobody_but_its_own() {
        for count in [10, 200] {
            let full = peers(count);
            let mut before = balancer(&full);
            let mut last = 0;
            for factor in [1, 16, 48, FULL_FACTOR] {
                let mut entries = full.clone();
                entries[4].slow_start_factor = factor;
                let mut now = balancer(&entries);
                let mut own = 0;
                for key in 0..20_000 {
                    let (was, is) = (pick(&mut before, key), pick(&mut now, key));
                    assert!(was == is || was == 4, "key {key} of another peer moved at factor {factor}");
                    own += u32::from(is == 4);
                }
                assert!(own > last, "{own} keys at factor {factor}");
                last = own;
            }
        }
    }

    #[test]
    fn no_peer_takes_more_than_its_bound() {
        for count in [10, 200] {
            let entries = peers(count);
            let total = std::rc::Rc::new(std::cell::Cell::new(0));
            let load = |entry: &Entry| Entry {
                load: std::rc::Rc::new(crate::balancer::load::Load::new(total.clone())),
                ..entry.clone()
            };
            let entries: Vec<Entry> = entries.iter().map(load).collect();
            let mut balancer = Rendezvous::new(&Options { bound: Some(1.25), ..Options::default() });
            balancer.set_entries(&entries);
            let mut under_way = Vec::new();
            for _ in 0..count * 8 {
                let position = pick(&mut balancer, 7);
                let load = std::rc::Rc::clone(&entries[position as usize].load);
                under_way.push(crate::balancer::load::InFlight::begin(load, Pick::default().now));
            }
            let most = entries.iter().map(|entry| entry.load.in_flight()).max().unwrap();
            assert!(most <= 10, "one key, and at most 1.25 times 8 each: {most}");
        }
    }

    #[test]
    fn empty_keys_hash_like_any_other() {
        let mut balancer = balancer(&peers(10));
        let mut candidates = Candidates::with_room_for(3);
        balancer.pick(&Pick::default(), &mut candidates);
        assert_eq!(candidates.as_slice().len(), 3);
    }

    /// The pick must never change: whoever upgrades would lose all caches. Should this fail, the code is wrong.
    #[test]
    fn golden_vectors() {
        let weighted: Vec<Entry> = (0..9).map(|n| Entry::new(&format!("cache-{n}.example:11211"), 1 + n % 3)).collect();
        let many = peers(500);
        let digest = |entries: &[Entry]| {
            let mut balancer = balancer(entries);
            let picks: Vec<u8> = (0..10_000)
                .flat_map(|key| candidates(&mut balancer, key))
                .flat_map(|at| name(entries, at).as_bytes().to_vec())
                .collect();
            xxh64(&picks, 0)
        };
        let found = [digest(&peers(10)), digest(&weighted), digest(&many)];
        assert_eq!(found, GOLDEN_DIGESTS, "{found:#x?}");
        let first: Vec<u32> = (0..8).map(|key| pick(&mut balancer(&weighted), key)).collect();
        assert_eq!(first, GOLDEN_PICKS);
    }

    const GOLDEN_DIGESTS: [u64; 3] = [0x5e97_7a59_0dca_b92d, 0x3176_d374_dbf1_2ecb, 0x5aeb_94f2_cf17_1536];
    const GOLDEN_PICKS: [u32; 8] = [0, 6, 4, 2, 2, 5, 5, 5];
}
