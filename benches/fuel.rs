//! What each callback of the filter costs, in instructions: the same on every machine, and in every run.
//!
//! The module runs in the simulated Envoy. `make bench BENCH=fuel` prints the table, with what is recorded in `tests/sim/fuel.txt`; with
//! `ARGS=record` it records what it found. `make test` fails when a callback costs 5 % more than that.
#![cfg_attr(target_arch = "wasm32", no_main)]
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(missing_docs, dead_code)]

#[path = "../tests/sim/api.rs"]
mod api;
#[path = "../tests/sim/costs.rs"]
mod costs;
#[path = "../tests/sim/filter.rs"]
mod filter;
#[path = "../tests/sim/reference.rs"]
mod reference;

use filter::module;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("this is a benchmark: `make bench BENCH=fuel` runs it");
        return;
    }
    let (found, (tools, recorded)) = (costs::measure(), costs::read());
    println!("Instructions of a callback, the mean of its calls; recorded with {tools}");
    println!("| case | callback | instructions | recorded |");
    println!("| --- | --- | ---: | ---: |");
    for ((case, callback), mean) in &found {
        let was = recorded.get(&(case.clone(), callback.clone())).map(u64::to_string).unwrap_or_default();
        println!("| {case} | {callback} | {mean} | {was} |");
    }
    if std::env::args().any(|argument| argument == "record") {
        costs::record(&found);
        println!("recorded");
    }
}
