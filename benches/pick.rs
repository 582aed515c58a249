//! Nanoseconds per pick of each balancer, natively, by number of peers.
//!
//! A pick is what a request costs: three candidates, the first choice and two retries. Weights are of four kinds,
//! because round robin's cost depends on how many different ones there are. Every figure is the median of many
//! short rounds, in which the cases take turns, so that a noisy moment of the machine hits all alike.
//!
//! `cargo bench --bench pick`
#![allow(missing_docs, clippy::disallowed_methods, clippy::unwrap_used, clippy::indexing_slicing)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::time::Instant;

use durpina::balancer::{Balancer, BalancerKind, Candidates, Entry, KeySource, Options, Pick};
use durpina::time::Timestamp;
use durpina::Registry;

const ROUNDS: usize = 201;
const PICKS: usize = 2_000;

struct Case<'r> {
    kind: &'r BalancerKind,
    peers: usize,
    weights: &'static str,
    picker: Box<dyn Balancer>,
    pick: Vec<f64>,
    /// The same for one candidate.
    first: Vec<f64>,
    build: Vec<f64>,
    bytes: isize,
}

/// Each case has another port, because balancers of the same peers share a table.
fn entries(peers: usize, weights: &str, port: usize) -> Vec<Entry> {
    let weight = |n: usize| match weights {
        "all 1" => 1,
        "1 to 10" => 1 + (n * 7 % 10) as u32,
        "1 to 100" => 1 + (n * 37 % 100) as u32,
        _ => 1 + (n as u32).wrapping_mul(2_654_435_761) % 65_535,
    };
    (0..peers).map(|n| Entry::new(&format!("10.0.{}.{}:{port}", n / 250, n % 250), weight(n))).collect()
}

/// Which part of 100,000 keys moves when one of the entries goes, and how far the busiest entry is above the mean, of a
/// million keys; for balancers that hash keys.
fn keys(kind: &BalancerKind, peers: usize) -> Option<(f64, f64)> {
    if kind.key == KeySource::Nothing {
        return None;
    }
    let pick = |balancer: &mut Box<dyn Balancer>, key: u32| {
        let mut candidates = Candidates::with_room_for(1);
        balancer.pick(&Pick { key: &key.to_le_bytes(), ..Pick::default() }, &mut candidates);
        candidates.as_slice()[0] as usize
    };
    let all = entries(peers, "all 1", 80);
    let rest: Vec<Entry> = all[1..].to_vec();
    let (mut before, mut after) = (kind.make(&Options::default(), ""), kind.make(&Options::default(), ""));
    before.set_entries(&all);
    after.set_entries(&rest);
    let moved = (0..100_000).filter(|key| {
        let was = pick(&mut before, *key);
        was == 0 || was - 1 != pick(&mut after, *key)
    });
    let moved = moved.count() as f64 / 100_000.0;
    let mut counts = vec![0_u32; peers];
    (0..1_000_000).for_each(|key| counts[pick(&mut before, key)] += 1);
    let balance = f64::from(*counts.iter().max().unwrap()) * peers as f64 / 1_000_000.0;
    Some((moved, balance))
}

/// The bytes that this program has allocated.
struct Counting;

static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

#[allow(unsafe_code)]
// SAFETY: everything is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as isize, Relaxed);
        System.alloc(layout)
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as isize, Relaxed);
        System.dealloc(at, layout);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn main() {
    let registry = Registry::default();
    let mut cases = Vec::new();
    for kind in registry.balancers() {
        for peers in [10, 100, 1_000] {
            for weights in ["all 1", "1 to 10", "1 to 100", "1 to 65535"] {
                // nginx's ring has 160 points for each unit of weight; others ignore weights.
                if matches!(kind.name, "unweighted-round-robin" | "ip-hash" | "ketama") && weights != "all 1" {
                    continue;
                }
                let picker = kind.make(&Options { seed: 1, ..Options::default() }, "");
                cases.push(Case {
                    kind,
                    peers,
                    weights,
                    picker,
                    pick: Vec::new(),
                    first: Vec::new(),
                    build: Vec::new(),
                    bytes: 0,
                });
            }
        }
    }
    for round in 0..ROUNDS {
        for (case, port) in cases.iter_mut().zip(81..) {
            if round % 20 == 0 {
                let entries = entries(case.peers, case.weights, port);
                case.picker = case.kind.make(&Options { seed: 1, ..Options::default() }, "");
                let (start, before) = (Instant::now(), ALLOCATED.load(Relaxed));
                case.picker.set_entries(&entries);
                case.build.push(start.elapsed().as_nanos() as f64 / 1_000.0);
                case.bytes = ALLOCATED.load(Relaxed) - before;
            }
            for (wanted, samples) in [(3, &mut case.pick), (1, &mut case.first)] {
                let start = Instant::now();
                for n in 0..PICKS {
                    let mut candidates = Candidates::with_room_for(wanted);
                    let now = Timestamp::from_nanos(1_700_000_000_000_000_000 + n as u64 * 1_000);
                    case.picker.pick(&Pick { key: black_box(&n.to_le_bytes()), now, request: None }, &mut candidates);
                    black_box(candidates);
                }
                samples.push(start.elapsed().as_nanos() as f64 / PICKS as f64);
            }
        }
    }
    println!("\nPicks of three candidates and of one, native, median of {ROUNDS} rounds of {PICKS}\n");
    println!("| balancer | peers | weights | ns per pick | one candidate | µs to build | bytes per peer | max / mean | keys moved by one removal |");
    println!("| --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |");
    for case in &mut cases {
        let (pick, first, build) = (median(&mut case.pick), median(&mut case.first), median(&mut case.build));
        let bytes = case.bytes / case.peers as isize;
        let hashed = (case.weights == "all 1").then(|| keys(case.kind, case.peers)).flatten();
        let (balance, moved) = hashed.map_or_else(Default::default, |(moved, balance)| {
            (format!("{balance:.3}"), format!("{:.2} %", moved * 100.0))
        });
        let (name, peers, weights) = (case.kind.name, case.peers, case.weights);
        println!(
            "| {name} | {peers} | {weights} | {pick:.0} | {first:.0} | {build:.0} | {bytes} | {balance} | {moved} |"
        );
    }
}
