//! Many seeds, and one again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Mutex;
use std::time::Instant;

use crate::scenario::Scenario;
use crate::{names, nginx, rivals, trials};

/// How many seeds `make test` runs, and of what is decided within a few of them half as many: all of one host in a minute.
const SEEDS: u64 = 1_000;
const HALVED: [&str; 2] = ["names", "trials"];

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Runs a seed. What it breaks, as a sentence.
fn run(seed: u64, is_traced: bool) -> Result<(), String> {
    let attempt = std::panic::catch_unwind(|| {
        let mut scenario = Scenario::start(seed, is_traced);
        let result = scenario.run();
        if is_traced {
            for line in scenario.process.trace() {
                println!("{line}");
            }
        }
        result
    });
    attempt.unwrap_or_else(|_| Err("the test itself panicked".to_owned()))
}

#[test]
fn a_run_full_of_faults_is_its_seed_too() {
    let run = |seed| {
        let mut scenario = Scenario::start(seed, true);
        assert_eq!(scenario.run(), Ok(()));
        (scenario.process.trace(), scenario.process.fuel())
    };
    for seed in 0..6 {
        assert!(run(seed) == run(seed), "seed {seed}");
    }
}

#[test]
fn what_must_hold_holds_for_every_seed() {
    every_seed("sim", run);
}

#[test]
fn a_peer_on_trial_gets_one_request_at_a_time_whatever_the_seed() {
    every_seed("trials", |seed, is_traced| {
        let attempt = std::panic::catch_unwind(|| trials::run(seed, is_traced));
        attempt.unwrap_or_else(|_| Err("the test itself panicked".to_owned()))
    });
}

#[test]
fn what_agents_and_name_servers_say_is_obeyed_whatever_the_seed() {
    every_seed("names", |seed, is_traced| {
        let attempt = std::panic::catch_unwind(|| names::run(seed, is_traced));
        attempt.unwrap_or_else(|_| Err("the test itself panicked".to_owned()))
    });
}

#[test]
fn nginx_serves_whatever_the_seed() {
    every_seed("nginx", |seed, is_traced| {
        let attempt = std::panic::catch_unwind(|| nginx::run(seed, is_traced));
        attempt.unwrap_or_else(|_| Err("the test itself panicked".to_owned()))
    });
}

#[test]
fn what_two_write_at_once_stands_whatever_the_seed() {
    every_seed("rivals", |seed, is_traced| {
        let attempt = std::panic::catch_unwind(|| {
            if seed % 2 == 0 {
                rivals::on_envoy(seed, is_traced).map_err(|broken| format!("envoy: {broken}"))
            } else {
                rivals::on_nginx(seed, is_traced).map_err(|broken| format!("nginx: {broken}"))
            }
        });
        attempt.unwrap_or_else(|_| Err("the test itself panicked".to_owned()))
    });
}

/// Runs as many seeds as the environment says, on all processors; or the one that it names, with its trace.
fn every_seed(what: &str, run: impl Fn(u64, bool) -> Result<(), String> + Sync) {
    if let Some(seed) = number("SEED") {
        assert_eq!(run(seed, true), Ok(()), "{what}: seed {seed}");
        return;
    }
    let seeds = if HALVED.contains(&what) { SEEDS / 2 } else { SEEDS };
    let (first, count) = (number("FIRST_SEED").unwrap_or_default(), number("SEEDS").unwrap_or(seeds));
    let next = AtomicU64::new(first);
    let broken = Mutex::new(Vec::new());
    let start = Instant::now();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= first + count {
                    break;
                }
                if let Err(why) = run(seed, false) {
                    println!("{what}: SEED={seed}: {why}");
                    broken.lock().unwrap().push(seed);
                }
            });
        }
    });
    let took = start.elapsed().as_secs_f64();
    println!("{what}: {count} seeds in {took:.1} s, {:.0} in a second", (count as f64) / took);
    let broken = broken.into_inner().unwrap();
    assert!(broken.is_empty(), "{what}: {} of {count} seeds; `make sim SEED={}` shows one", broken.len(), broken[0]);
}
