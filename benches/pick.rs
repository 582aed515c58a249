//! Nanoseconds per pick of each balancer, natively, by number of peers.
//!
//! A pick is what a request costs: three candidates, the first choice and two retries. Weights are of four kinds,
//! because round robin's cost depends on how many different ones there are. Every figure is the median of many
//! short rounds, in which the cases take turns, so that a noisy moment of the machine hits all alike.
//!
//! `cargo bench --bench pick`
#![allow(missing_docs, clippy::disallowed_methods, clippy::unwrap_used, clippy::indexing_slicing)]

use std::hint::black_box;
use std::rc::Rc;
use std::time::Instant;

use durpina::balancer::{self, Balancer, Candidates, Entry, BALANCERS};

const ROUNDS: usize = 201;
const PICKS: usize = 2_000;

struct Case {
    balancer: &'static str,
    peers: usize,
    weights: &'static str,
    picker: Box<dyn Balancer>,
    pick: Vec<f64>,
    build: Vec<f64>,
}

fn entries(peers: usize, weights: &str) -> Vec<Entry> {
    let weight = |n: usize| match weights {
        "all 1" => 1,
        "1 to 10" => 1 + (n * 7 % 10) as u32,
        "1 to 100" => 1 + (n * 37 % 100) as u32,
        _ => 1 + (n as u32).wrapping_mul(2_654_435_761) % 65_535,
    };
    let name = |n: usize| Rc::from(format!("10.0.{}.{}:80", n / 250, n % 250));
    (0..peers).map(|n| Entry { name: name(n), weight: weight(n) }).collect()
}

fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn main() {
    let mut cases = Vec::new();
    for kind in BALANCERS {
        for peers in [10, 100, 1_000] {
            for weights in ["all 1", "1 to 10", "1 to 100", "1 to 65535"] {
                if kind.name.starts_with("unweighted") && weights != "all 1" {
                    continue;
                }
                let picker = balancer::named(kind.name).unwrap();
                cases.push(Case { balancer: kind.name, peers, weights, picker, pick: Vec::new(), build: Vec::new() });
            }
        }
    }
    for round in 0..ROUNDS {
        for case in &mut cases {
            if round % 20 == 0 {
                let entries = entries(case.peers, case.weights);
                let start = Instant::now();
                case.picker.set_entries(&entries);
                case.build.push(start.elapsed().as_nanos() as f64 / 1_000.0);
            }
            let start = Instant::now();
            for n in 0..PICKS {
                let mut candidates = Candidates::with_room_for(3);
                case.picker.pick(black_box(&n.to_le_bytes()), &mut candidates);
                black_box(candidates);
            }
            case.pick.push(start.elapsed().as_nanos() as f64 / PICKS as f64);
        }
    }
    println!("\nPicks of three candidates, native, median of {ROUNDS} rounds of {PICKS}\n");
    println!("| balancer | peers | weights | ns per pick | µs to build |");
    println!("| --- | ---: | --- | ---: | ---: |");
    for case in &mut cases {
        let (pick, build) = (median(&mut case.pick), median(&mut case.build));
        println!("| {} | {} | {} | {pick:.0} | {build:.0} |", case.balancer, case.peers, case.weights);
    }
}
