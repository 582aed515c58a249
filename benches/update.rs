//! What clients notice of a change of configuration: an Envoy whose listener comes from a file (LDS) gets a filter JSON with one
//! weight changed, again and again, while a few connections send a request every few milliseconds.
//!
//! For each balancer: how long Envoy took to be ready, the memory of the process before the first change, the most and the last
//! of it afterwards; the longest time that a request took, while nothing happened, and from a change to the next; the longest time without
//! any answer, over all connections; requests that failed, and Envoy's CPU for one change.
//!
//! `make bench BENCH=update`. Variables change what is measured: `UPSTREAMS`, `SERVERS` (of each), `USED` (upstreams that get requests),
//! `UPDATES`, `DRAIN` (seconds for which the old listener lives on), `PAUSE` (seconds between changes), `WORKERS`, and `BALANCERS`,
//! with spaces between them.

#![cfg_attr(target_arch = "wasm32", no_main)]
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The core is not allowed to read a clock; a benchmark lives by one.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use durpina_e2e as support;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{json, Map, Value};

use support::client::Client;
use support::config::Config;
use support::envoy::{Envoy, Setup};
use support::eventually;
use support::ports::Port;
use support::proxy::Proxy as _;
use support::server::Server;

/// Connections that are kept alive, and the pause of each between an answer and its next request.
const CONNECTIONS: usize = 8;
const PACE: Duration = Duration::from_millis(2);
/// How long nothing happens before the first change.
const QUIET: Duration = Duration::from_secs(5);
/// Calm is when no request took long for so long; that it must be so after a change within so long.
const CALM: Duration = Duration::from_secs(1);
const CALM_WITHIN: Duration = Duration::from_secs(120);
/// The process gets no more memory than that: the machine is not the benchmark's alone.
const MOST_MEMORY: u64 = 12 << 30;

/// What is to be reached with 1,000 upstreams of 20 servers.
const STALL: Duration = Duration::from_millis(60);
const MORE_THAN_ROUND_ROBIN: u64 = 100 << 20;

fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("this is a benchmark: `make bench` runs it");
        return;
    }
    let plan = Plan::new();
    println!(
        "{} upstreams of {} servers, {} of them used over {CONNECTIONS} connections; {} changes, one in {} s, drained for {} s",
        plan.upstreams, plan.servers, plan.used, plan.updates, plan.pause.as_secs(), plan.drain
    );
    println!(
        "{:18} {:>7} {:>7} | {:>8} {:>8} {:>8} | {:>9} {:>22} {:>10} | {:>6} {:>9}",
        "",
        "workers",
        "ready",
        "before",
        "most",
        "last",
        "quiet",
        "longest, changes 1 to n",
        "no answer",
        "failed",
        "CPU/change"
    );
    let balancers = std::env::var("BALANCERS").unwrap_or_else(|_| "round-robin consistent-hash".to_owned());
    let workers = std::env::var_os("WORKERS").map_or_else(|| vec![1, 2], |_| vec![number("WORKERS", 1)]);
    for workers in workers {
        let mut least = None;
        for balancer in balancers.split_whitespace() {
            let found = measure(&plan, balancer, u32::try_from(workers).expect("a few workers"));
            let most = *least.get_or_insert(found.most);
            found.print(balancer, workers, most);
        }
    }
}

/// What is measured.
struct Plan {
    upstreams: usize,
    servers: usize,
    used: usize,
    updates: usize,
    drain: u32,
    pause: Duration,
    /// The servers of the upstreams that are used, in order.
    real: Vec<Server>,
}

impl Plan {
    fn new() -> Plan {
        let (upstreams, servers) = (number("UPSTREAMS", 1_000), number("SERVERS", 20));
        let used = number("USED", CONNECTIONS).min(upstreams);
        let real = (0..used * servers).map(|at| {
            let port = Port::free_on(address(at / servers, at % servers)).expect("a free port");
            Server::start_at(&format!("s{at}"), port)
        });
        let drain = u32::try_from(number("DRAIN", 5)).expect("a time");
        let pause = Duration::from_secs(number("PAUSE", 4) as u64);
        Plan { upstreams, servers, used, updates: number("UPDATES", 4), drain, pause, real: real.collect() }
    }

    /// The configuration after so many changes. Only the upstreams that come first are used.
    fn filter(&self, balancer: &str, changes: usize) -> Value {
        let balancer =
            if balancer == "round-robin" { json!(balancer) } else { json!({ "name": balancer, "key": "$arg_k" }) };
        let upstream = |number: usize| {
            let server = |at: usize| {
                let real = self.real.get(number * self.servers + at).filter(|_| number < self.used);
                let addr = real.map_or_else(|| SocketAddr::new(address(number, at), 80), Server::addr);
                let weight = if (number, at) == (0, 0) { 1 + changes } else { 1 };
                format!("{addr} weight={weight}")
            };
            let servers: Vec<String> = (0..self.servers).map(server).collect();
            (format!("u{number}"), json!({ "servers": servers, "balancer": balancer }))
        };
        let upstreams: Map<String, Value> = (0..self.upstreams).map(upstream).collect();
        json!({ "upstreams": upstreams, "routes": [{ "regex": "^/(u[0-9]+)", "upstream": "$1" }] })
    }
}

/// On the loopback network, another one for each server.
fn address(upstream: usize, server: usize) -> IpAddr {
    let part = |number: usize| u8::try_from(number).expect("a part of an address");
    IpAddr::V4(Ipv4Addr::new(127, part(1 + upstream / 250), part(upstream % 250), part(1 + server)))
}

/// What was found.
struct Found {
    ready: Duration,
    /// Memory.
    before: u64,
    most: u64,
    last: u64,
    quiet: Duration,
    /// The longest request from each change to the next.
    longest: Vec<Duration>,
    silence: Duration,
    failed: Vec<String>,
    requests: usize,
    cpu: Duration,
    /// Why there were no more changes.
    stopped: Option<String>,
}

impl Found {
    fn print(&self, balancer: &str, workers: usize, least: u64) {
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        let ms = |time: &Duration| format!("{}", time.as_millis());
        let longest: Vec<String> = self.longest.iter().map(ms).collect();
        println!(
            "{balancer:18} {workers:>7} {:>5.2} s | {:>8} {:>8} {:>8} | {:>6} ms {:>19} ms {:>7} ms | {:>6} {:>6} ms",
            self.ready.as_secs_f64(),
            mib(self.before),
            mib(self.most),
            mib(self.last),
            ms(&self.quiet),
            longest.join(" "),
            ms(&self.silence),
            self.failed.len(),
            ms(&(self.cpu / u32::try_from(self.longest.len().max(1)).expect("a few changes"))),
        );
        let stall = self.longest.iter().max().copied().unwrap_or_default();
        let reached = |is_reached: bool| if is_reached { "reached" } else { "MISSED" };
        println!(
            "    longest stall at most {} ms: {}; no request of {} failed: {}; at most {} above the first: {}",
            STALL.as_millis(),
            reached(stall <= STALL),
            self.requests,
            reached(self.failed.is_empty()),
            mib(MORE_THAN_ROUND_ROBIN),
            reached(self.most <= least + MORE_THAN_ROUND_ROBIN),
        );
        for why in self.failed.iter().take(3).chain(&self.stopped) {
            println!("    {why}");
        }
    }
}

fn measure(plan: &Plan, balancer: &str, workers: u32) -> Found {
    let config = |changes: usize| Config::reference(&plan.filter(balancer, changes));
    let setup = Setup::new(config(0)).workers(workers).drain(plan.drain).updatable();
    let mut envoy = setup.start();
    let load = Load::start(&envoy, plan.used);
    let is_ready = || load.take().iter().any(|sent| sent.error.is_none());
    eventually("requests are answered", Duration::from_secs(60), is_ready);
    // What is built at the start and at the first requests does not count.
    load.wait_for_calm();
    std::thread::sleep(QUIET);
    let sent = load.take();
    let (before, cpu) = (envoy.rss(), envoy.cpu());
    let mut found = Found {
        ready: envoy.ready_after(),
        before,
        most: before,
        last: before,
        quiet: longest(&sent),
        longest: Vec::new(),
        silence: Duration::ZERO,
        failed: Vec::new(),
        requests: sent.len(),
        cpu: Duration::ZERO,
        stopped: None,
    };
    for change in 1..=plan.updates {
        let start = Instant::now();
        let next = config(change);
        let watch = Watch::start(envoy.pid());
        if !envoy.update(next) {
            found.stopped = Some(format!("change {change} was refused"));
            break;
        }
        std::thread::sleep(plan.pause.saturating_sub(start.elapsed()));
        let sent = load.wait_for_calm();
        found.most = found.most.max(watch.end());
        found.requests += sent.len();
        found.longest.push(longest(&sent));
        found.silence = found.silence.max(silence(&sent));
        found.failed.extend(sent.into_iter().filter_map(|sent| sent.error));
        if found.most > MOST_MEMORY {
            found.stopped = Some(format!("stopped at {} MiB after {change} changes", found.most >> 20));
            break;
        }
    }
    found.cpu = envoy.cpu() - cpu;
    found.last = envoy.rss();
    drop(load);
    // It asserts that no filter crashed; what was measured is worth printing all the same.
    if catch_unwind(AssertUnwindSafe(|| drop(envoy))).is_err() {
        found.stopped = Some("a filter crashed".to_owned());
    }
    found
}

fn longest(sent: &[Sent]) -> Duration {
    sent.iter().map(|sent| sent.took).max().unwrap_or_default()
}

/// The longest time without an answer.
fn silence(sent: &[Sent]) -> Duration {
    let mut answered: Vec<Instant> = sent.iter().map(|sent| sent.answered).collect();
    answered.sort();
    answered.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}

/// A request that was answered, or failed.
struct Sent {
    connection: usize,
    answered: Instant,
    took: Duration,
    error: Option<String>,
}

/// Requests at a steady pace, each connection with keys of its own.
struct Load {
    sent: Arc<Mutex<Vec<Sent>>>,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(envoy: &Envoy, used: usize) -> Load {
        let (sent, stopped) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let thread = |connection: usize| {
            let (sent, stopped, addr) = (Arc::clone(&sent), Arc::clone(&stopped), envoy.addr());
            std::thread::spawn(move || {
                let mut client = Client::new(addr);
                let mut turn = connection;
                while !stopped.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    let answer = client.get(&format!("/u{}?k={turn}", turn % used));
                    turn += CONNECTIONS;
                    let answered = Instant::now();
                    let error = match answer {
                        Ok(answer) if answer.status == 200 => None,
                        Ok(answer) => Some(format!("status {}: {}", answer.status, answer.text())),
                        Err(error) => Some(error.to_string()),
                    };
                    sent.lock().unwrap().push(Sent { connection, answered, took: answered - start, error });
                    std::thread::sleep(PACE);
                }
            })
        };
        let threads = (0..CONNECTIONS).map(thread).collect();
        Load { sent, stopped, threads }
    }

    /// Waits until no request took long for a second, so that none is under way that did. What was sent since the last call.
    fn wait_for_calm(&self) -> Vec<Sent> {
        let mut all = Vec::new();
        eventually("Envoy is calm", CALM_WITHIN, || {
            std::thread::sleep(CALM);
            let sent = self.take();
            // A connection whose request is under way for longer has not sent anything lately.
            let is_recent = |sent: &&Sent| sent.answered.elapsed() <= STALL * 4;
            let connections: BTreeSet<usize> = sent.iter().filter(is_recent).map(|sent| sent.connection).collect();
            let is_calm = connections.len() == CONNECTIONS && longest(&sent) <= STALL * 4;
            all.extend(sent);
            is_calm
        });
        all
    }

    /// What was sent since the last call.
    fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Looks at the memory of a process all the time.
struct Watch {
    stopped: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Watch {
    fn start(pid: u32) -> Watch {
        let stopped = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopped);
        let thread = std::thread::spawn(move || {
            let mut most = 0;
            while !stop.load(Ordering::Relaxed) {
                most = most.max(support::envoy::rss(pid));
                std::thread::sleep(Duration::from_millis(20));
            }
            most
        });
        Watch { stopped, thread }
    }

    /// The most there was.
    fn end(self) -> u64 {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().expect("a watching thread does not panic")
    }
}
