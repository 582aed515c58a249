//! What active checks cost: the CPU of an Envoy that checks 1,000 peers, and what requests feel of it.
//!
//! Two Envoys beside each other, one with a monitor and one without, in front of the same servers. `make bench BENCH=checks`.

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
const WATCHED: Duration = Duration::from_secs(20);

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("this is a benchmark: `make bench` runs it");
        return;
    }
    let servers: Vec<Server> = (0..PEERS).map(|n| Server::start(&format!("s{n}"))).collect();
    let names: Vec<String> = servers.iter().map(|server| server.addr().to_string()).collect();
    println!("{:44} {:>12} {:>14} {:>14}", "", "CPU", "latency, median", "99 %");
    for monitor in ["none", "http", "tcp"] {
        let mut filter = json!({ "upstreams": { "web": { "servers": names } }, "upstream": "web" });
        if monitor != "none" {
            let monitor = json!({ "name": monitor, "interval": "5s", "schedule": "all" });
            filter["upstreams"]["web"]["monitors"] = json!([monitor]);
        }
        let envoy = Setup::new(Config::reference(&filter)).workers(2).start();
        std::thread::sleep(Duration::from_secs(6));
        let seen: Vec<usize> = servers.iter().map(Server::connections).collect();
        let (cpu, start) = (envoy.cpu(), Instant::now());
        std::thread::sleep(WATCHED);
        let share = (envoy.cpu() - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
        let checks: Vec<usize> = servers.iter().zip(seen).map(|(server, seen)| server.connections() - seen).collect();
        let (median, p99) = latency(&envoy);
        println!(
            "{PEERS} peers, interval 5s, monitor {monitor:20} {:>11.2}% {:>11.0} µs {:>11.0} µs   checks of each in {} s: {} to {}",
            share * 100.0,
            median * 1e6,
            p99 * 1e6,
            WATCHED.as_secs(),
            checks.iter().min().unwrap(),
            checks.iter().max().unwrap(),
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
