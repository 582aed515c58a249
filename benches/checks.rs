//! What active checks cost: the CPU of an Envoy that checks 1,000 peers, and what requests feel of it.
//!
//! Envoys beside each other, one for each kind of monitor and one without, in front of the same servers and at the same time: what
//! else the machine does concerns them all. `make bench BENCH=checks`.

#![cfg_attr(target_arch = "wasm32", no_main)]
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The core is not allowed to read a clock; a benchmark lives by one.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use durpina_e2e as support;

use std::time::{Duration, Instant};

use serde_json::json;

use support::config::Config;
use support::envoy::{Envoy, Setup};
use support::proxy::Proxy as _;
use support::server::Server;

const PEERS: usize = 1_000;
/// A window is as long as an interval, so that each peer is checked once in it.
const WINDOW: Duration = Duration::from_secs(5);
const WINDOWS: usize = 12;

/// An Envoy and what it is measured by.
struct Watched {
    monitor: &'static str,
    envoy: Envoy,
    /// In per cent of a core, in each window.
    shares: Vec<f64>,
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("this is a benchmark: `make bench` runs it");
        return;
    }
    let servers: Vec<Server> = (0..PEERS).map(|n| Server::start(&format!("s{n}"))).collect();
    let names: Vec<String> = servers.iter().map(|server| server.addr().to_string()).collect();
    let start = |monitor: &'static str| {
        let mut filter = json!({ "upstreams": { "web": { "servers": names } }, "upstream": "web" });
        let (name, keepalive) = monitor.split_once(' ').map_or((monitor, false), |(name, _)| (name, true));
        if name != "none" {
            let mut monitor = json!({ "name": name, "interval": "5s", "schedule": "all" });
            if keepalive {
                monitor["keepalive"] = true.into();
            }
            filter["upstreams"]["web"]["monitors"] = json!([monitor]);
        }
        let envoy = Setup::new(Config::reference(&filter)).workers(2).start();
        Watched { monitor, envoy, shares: Vec::new() }
    };
    let mut all: Vec<Watched> = ["none", "http", "http keepalive", "tcp"].into_iter().map(start).collect();
    // V8 compiles meanwhile, and connections that are kept are made.
    std::thread::sleep(WINDOW * 2);
    for _ in 0..WINDOWS {
        let before: Vec<(Duration, Instant)> = all.iter().map(|one| (one.envoy.cpu(), Instant::now())).collect();
        std::thread::sleep(WINDOW);
        for (one, (cpu, start)) in all.iter_mut().zip(before) {
            one.shares.push((one.envoy.cpu() - cpu).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0);
        }
    }
    println!("{PEERS} peers, interval 5s; CPU in per cent of a core, {WINDOWS} windows of {} s", WINDOW.as_secs());
    println!("{:16} {:>7} {:>15} {:>17} {:>12}", "monitor", "median", "least to most", "latency, median", "99 %");
    for one in &mut all {
        one.shares.sort_by(f64::total_cmp);
        let (median, least, most) = (one.shares[WINDOWS / 2], one.shares[0], one.shares[WINDOWS - 1]);
        let (latency, p99) = latency(&one.envoy);
        println!(
            "{:16} {median:>6.2}% {:>15} {:>14.0} µs {:>9.0} µs",
            one.monitor,
            format!("{least:.2} to {most:.2}"),
            latency * 1e6,
            p99 * 1e6,
        );
    }
}

/// Request times over one connection, in seconds.
fn latency(envoy: &Envoy) -> (f64, f64) {
    let mut client = envoy.client();
    let mut times: Vec<f64> = (0..8_000)
        .map(|_| {
            let start = Instant::now();
            assert_eq!(client.get("/").unwrap().status, 200);
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[times.len() / 2], times[times.len() * 99 / 100])
}
