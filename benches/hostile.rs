//! What peers can do to an Envoy that checks them: a hundred that send without an end, or begin an answer and keep it.
//!
//! For each kind: how much more memory the process takes, how much CPU, what the peers got rid of (much of that stays in the
//! kernel's buffers), and how long other peers, checked every second, waited for a check at the most.
//!
//! `make bench BENCH=hostile`. The variable `KIND` picks the kinds whose names contain it, `CONFIG` names another file than the
//! reference configuration.

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
use support::eventually;
use support::hostile::{Crowd, Witness, Worst};

const PEERS: usize = 100;
const WITNESSES: usize = 10;
/// How long peers behave before they turn, and how long they are watched afterwards.
const QUIET: Duration = Duration::from_secs(4);
const WATCHED: Duration = Duration::from_secs(20);

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

struct Kind {
    name: &'static str,
    monitor: &'static str,
    good: &'static [u8],
    worst: Worst,
}

fn kinds() -> Vec<Kind> {
    let kind = |name, monitor, good, first: &[u8], again: &[u8]| {
        let listens = monitor == "http" || monitor == "name";
        Kind { name, monitor, good, worst: Worst { listens, first: first.to_vec(), again: again.to_vec() } }
    };
    let head = b"HTTP/1.1 200 OK\r\n\r\n";
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let kept = |bytes: usize| [&head[..], &vec![b'x'; bytes]].concat();
    vec![
        kind("http: a body without an end", "http", OK, head, b"x"),
        kind("http: chunks without an end", "http", OK, chunked, b"5\r\nnever\r\n"),
        kind("http: 100 KB, then silence", "http", OK, &kept(100_000), b""),
        kind("http: 250 KB, then silence", "http", OK, &kept(250_000), b""),
        kind("http: 500 KB, then silence", "http", OK, &kept(500_000), b""),
        kind("http: 1 MB, then silence", "http", OK, &kept(1_000_000), b""),
        kind("http: headers without an end", "http", OK, b"HTTP/1.1 200 OK\r\n", b"x-header: never\r\n"),
        kind("http: interim answers without an end", "http", OK, b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        kind(
            "http: trailers without an end",
            "http",
            OK,
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            b"x-trailer: never\r\n",
        ),
        kind("agent: a line without an end", "haproxy-agent-check", b"up\n", b"", b"up "),
        kind("agent: lines without an end", "haproxy-agent-check", b"up\n", b"", b"up\n"),
        kind("agent: 100 KB, then silence", "haproxy-agent-check", b"up\n", &[b'x'; 100_000], b""),
        kind("agent: 250 KB, then silence", "haproxy-agent-check", b"up\n", &[b'x'; 250_000], b""),
        kind("agent: 500 KB, then silence", "haproxy-agent-check", b"up\n", &[b'x'; 500_000], b""),
        kind("tcp: text without an end", "tcp", b"up\n", b"", b"x"),
        kind("tcp: zeros without an end", "tcp", b"up\n", b"", b"\0"),
        kind("tcp: a gRPC message without an end", "tcp", b"up\n", b"\0\xff\xff\xff\xff", b"x"),
        kind("name: bytes without an end", "name", b"", b"", b"x"),
    ]
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("this is a benchmark: `make bench` runs it");
        return;
    }
    let only = std::env::var("KIND").unwrap_or_default();
    println!("{PEERS} peers, watched for {} s; {WITNESSES} other peers, interval 1s", WATCHED.as_secs());
    println!(
        "{:40} {:>11} {:>11} {:>8} {:>12} {:>8} {:>14}",
        "", "MiB before", "MiB more", "CPU", "MB/s sent", "checks/s", "longest gap"
    );
    for kind in kinds().into_iter().filter(|kind| kind.name.contains(&only)) {
        measure(&kind);
    }
}

fn measure(kind: &Kind) {
    let crowd = Crowd::start(PEERS, kind.good, &kind.worst);
    let witness_monitor = if kind.monitor == "name" { "http" } else { kind.monitor };
    let witness_good = if kind.monitor == "name" { OK } else { kind.good };
    let witnesses: Vec<Witness> =
        (0..WITNESSES).map(|_| Witness::start(witness_good, witness_monitor == "http")).collect();
    let monitor = json!([{ "name": witness_monitor, "interval": "1s", "schedule": "all" }]);
    let names: Vec<String> = witnesses.iter().map(|witness| format!("{} max_fails=0", witness.addr())).collect();
    let mut filter = json!({ "upstreams": { "good": { "servers": names, "monitors": monitor } }, "upstream": "good" });
    let addrs: Vec<String> = crowd.addrs().iter().map(ToString::to_string).collect();
    if kind.monitor == "name" {
        // Each name is asked of all of them in turn.
        filter["resolver"] = json!(addrs);
        let servers: Vec<String> = (0..PEERS).map(|n| format!("name-{n}.example:80 max_fails=0")).collect();
        filter["upstreams"]["bad"] = json!({ "servers": servers });
    } else {
        let servers: Vec<String> = addrs.iter().map(|addr| format!("{addr} max_fails=0")).collect();
        filter["upstreams"]["bad"] = json!({ "servers": servers, "monitors": monitor });
    }
    filter["envoy"] = json!({ "access_log": true });
    let file = std::env::var("CONFIG").unwrap_or_else(|_| support::config::REFERENCE.to_owned());
    let envoy = Setup::new(Config::of(&file).filter(&filter)).workers(2).start();
    eventually("the first checks", Duration::from_secs(20), || {
        witnesses.iter().all(|witness| !witness.seen().is_empty()) && crowd.connections() >= PEERS
    });
    std::thread::sleep(QUIET);
    let (before, cpu, connections, start) = (envoy.rss(), envoy.cpu(), crowd.connections(), Instant::now());
    crowd.turn();
    let most = most_rss(&envoy, start);
    let seconds = start.elapsed().as_secs_f64();
    let gap = witnesses.iter().map(|witness| witness.longest_gap(start)).max().unwrap_or_default();
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    println!(
        "{:40} {:>11.0} {:>11.0} {:>7.0}% {:>12.0} {:>8.0} {:>11.0} ms",
        kind.name,
        mib(before),
        mib(most) - mib(before),
        (envoy.cpu() - cpu).as_secs_f64() / seconds * 100.0,
        crowd.sent() as f64 / 1e6 / seconds,
        (crowd.connections() - connections) as f64 / seconds,
        gap.as_secs_f64() * 1e3,
    );
}

fn most_rss(envoy: &Envoy, start: Instant) -> u64 {
    let mut most = 0;
    while start.elapsed() < WATCHED {
        most = most.max(envoy.rss());
        std::thread::sleep(Duration::from_millis(50));
    }
    most
}
