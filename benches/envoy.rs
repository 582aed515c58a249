//! What durpina costs in a real Envoy: instructions and CPU per request, and the time that a module and a large
//! configuration take.
//!
//! First come the instructions per request, see [`instructions`], and what a module costs before its first request,
//! see [`module`]. `BASELINE_WASM=/path/to/another/durpina.wasm` puts a second module beside the one under test. With
//! the argument `instructions` that is all, and takes two to four minutes; further arguments are parts of the names of the
//! variants that are wanted.
//!
//! CPU per request comes second. Two Envoys run side by side, with one worker each and the same servers behind
//! them. One has durpina and the reference configuration, with its retries and passive failure detection; the other
//! has the same configuration with a filter that does nothing (`examples/noop_filter.rs`) and Envoy's own round robin.
//! Rounds alternate (A B, B A, A B, …), so that whatever else the machine does falls on both; each round
//! gives one ratio, and the median of the ratios counts. A twin of the Envoy without durpina shows how
//! exact that is: its ratio should be 1. Only the Envoy process' own CPU time is measured: servers and
//! clients live in this process.
//!
//! `make bench` builds what is needed and runs this. By hand: `make build`, build the filter that does
//! nothing (see there; the variable `NOOP_WASM` names it if it is elsewhere), `cargo bench --bench envoy`.

#![cfg_attr(target_arch = "wasm32", no_main)]
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The core is not allowed to read a clock; a benchmark lives by one.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "envoy/instructions.rs"]
mod instructions;
#[path = "envoy/module.rs"]
mod module;

use durpina_e2e as support;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{json, Map, Value};

use support::config::{repository, Config};
use support::envoy::{filter_module, Envoy, Setup};
use support::load::Load;
use support::proxy::Proxy as _;
use support::server::Server;

/// Measurements of each Envoy for a median.
const ROUNDS: usize = 41;
/// Requests of one measurement, over so many connections. Short, so that what else the machine does
/// falls on all Envoys alike.
const REQUESTS: usize = 3_000;
const CONNECTIONS: usize = 4;
/// Starts of each Envoy for the time that a configuration takes to load.
const STARTS: usize = 5;

/// What is to be reached.
const CPU_RATIO: f64 = 1.15;
const LOAD_SECONDS: f64 = 2.0;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("this is a benchmark: `make bench` runs it");
        return;
    }
    let servers = ["a", "b", "c"].map(Server::start);
    let modules = Modules::find();
    instructions::table(&servers, &modules);
    module::table(&Config::reference(&web(&servers)), &modules);
    if std::env::args().any(|argument| argument == "instructions") {
        return;
    }
    let mut rows = Vec::new();
    cpu_per_request(&servers, &modules, &mut rows);
    thousand_upstreams(&servers, &mut rows);
    print(&rows);
}

/// durpina against a filter that does nothing.
fn cpu_per_request(servers: &[Server; 3], modules: &Modules, rows: &mut Vec<Row>) {
    let addrs = servers.each_ref().map(Server::addr);
    let filter = web(servers);
    let reference = Config::reference(&filter);
    let [baseline, twin] =
        [(); 2].map(|()| Setup::new(reference.clone().without_durpina(&addrs)).module(modules.noop.clone()).start());
    let durpina = Setup::new(reference).start();
    let mut with_api = filter.clone();
    with_api["admin"] = json!({ "prefix": "/durpina", "token": "change-me" });
    let with_api = Setup::new(Config::reference(&with_api)).start();
    let envoys = [&baseline, &durpina, &with_api, &twin];
    let rounds = measure_in_turn("durpina and a filter that does nothing", envoys);
    rows.push(Row::new(
        "filter that does nothing, Envoy's round robin",
        "µs CPU per request",
        rounds.each(|[a, ..]| a),
    ));
    rows.push(Row::new("durpina, reference configuration", "µs CPU per request", rounds.each(|[_, b, ..]| b)));
    rows.push(Row::new("ratio of the two", "", rounds.each(|[a, b, ..]| b / a)).at_most(CPU_RATIO));
    rows.push(Row::new("durpina with its management API: ratio to without", "", rounds.each(|[_, b, c, _]| c / b)));
    rows.push(Row::new("ratio of two without durpina: how exact this is", "", rounds.each(|[a, .., d]| d / a)));
}

/// One upstream of these servers.
fn web(servers: &[Server; 3]) -> Value {
    let servers = servers.each_ref().map(|server| server.addr().to_string());
    json!({ "upstreams": { "web": { "servers": servers, "retries": 2 } }, "upstream": "web" })
}

/// One upstream against a thousand of the same kind.
fn thousand_upstreams(servers: &[Server; 3], rows: &mut Vec<Row>) {
    let [one, thousand] = [1, 1_000].map(|count| Setup::new(Config::reference(&upstreams(servers, count))));
    let mut seconds = [Vec::new(), Vec::new()];
    for round in 0..STARTS {
        progress("starts with one upstream and with a thousand", round, STARTS);
        for (setup, seconds) in [&one, &thousand].into_iter().zip(&mut seconds) {
            seconds.push(setup.clone().start().ready_after().as_secs_f64());
        }
    }
    let [short, long] = seconds;
    rows.push(Row::new("Envoy is ready, 1 upstream of 10 peers", "s", short));
    rows.push(Row::new("Envoy is ready, 1,000 upstreams of 10 peers", "s", long).at_most(LOAD_SECONDS));

    let (one, thousand) = (one.start(), thousand.start());
    let rounds = measure_in_turn("one upstream and a thousand", [&one, &thousand]);
    rows.push(Row::new("durpina, 1 upstream of 10 peers", "µs CPU per request", rounds.each(|[a, _]| a)));
    rows.push(Row::new("durpina, 1,000 upstreams of 10 peers", "µs CPU per request", rounds.each(|[_, b]| b)));
    rows.push(Row::new("ratio of the two", "", rounds.each(|[a, b]| b / a)));
}

/// So many upstreams of ten peers, of which three are the servers; all requests are for one in the middle.
fn upstreams(servers: &[Server; 3], count: usize) -> Value {
    let upstream = |number: usize| {
        let mut peers: Vec<String> = servers.iter().map(|server| server.addr().to_string()).collect();
        peers.extend((0..7).map(|peer| format!("10.{}.{}.{peer}:80 backup", number / 250, number % 250)));
        (format!("upstream-{number}"), json!({ "servers": peers }))
    };
    let upstreams: Map<String, Value> = (0..count).map(upstream).collect();
    json!({ "upstreams": upstreams, "upstream": format!("upstream-{}", count / 2) })
}

/// What was measured in each round, in the order of the Envoys.
struct Rounds<const N: usize>(Vec<[f64; N]>);

impl<const N: usize> Rounds<N> {
    fn each(&self, quantity: impl Fn([f64; N]) -> f64) -> Vec<f64> {
        self.0.iter().copied().map(quantity).collect()
    }
}

/// CPU per request of all of them, round by round, in an order that alternates.
fn measure_in_turn<const N: usize>(what: &str, envoys: [&Envoy; N]) -> Rounds<N> {
    for envoy in envoys {
        measure(envoy);
    }
    let round = |round: usize| {
        progress(what, round, ROUNDS);
        let mut spent = [0.0; N];
        for turn in 0..N {
            let which = if round % 2 == 0 { turn } else { N - 1 - turn };
            spent[which] = measure(envoys[which]);
        }
        spent
    };
    Rounds((0..ROUNDS).map(round).collect())
}

/// Microseconds of CPU that Envoy spends on a request.
fn measure(envoy: &Envoy) -> f64 {
    let before = envoy.cpu();
    let report = Load::new(envoy.addr(), REQUESTS).connections(CONNECTIONS).run();
    let spent: Duration = envoy.cpu() - before;
    assert!(report.failures().is_empty(), "requests fail: {:?}", report.failures());
    spent.as_secs_f64() * 1e6 / REQUESTS as f64
}

/// The modules that are compared.
struct Modules {
    durpina: PathBuf,
    /// Does nothing.
    noop: PathBuf,
    /// Another durpina, if one is named.
    baseline: Option<PathBuf>,
}

impl Modules {
    fn find() -> Modules {
        let built = repository().join("target/wasm32-unknown-unknown/release/examples/noop_filter.wasm");
        let noop = std::env::var_os("NOOP_WASM").map_or(built, PathBuf::from);
        assert!(noop.is_file(), "{} is missing: `make bench` builds it, or NOOP_WASM names another", noop.display());
        let baseline = std::env::var_os("BASELINE_WASM").map(PathBuf::from);
        if let Some(baseline) = &baseline {
            assert!(baseline.is_file(), "BASELINE_WASM is {}, which is no file", baseline.display());
        }
        Modules { durpina: filter_module(), noop, baseline }
    }
}

/// A line of the table: the quartiles of a quantity.
struct Row {
    what: &'static str,
    unit: &'static str,
    /// In ascending order.
    values: Vec<f64>,
    at_most: Option<f64>,
}

impl Row {
    fn new(what: &'static str, unit: &'static str, mut values: Vec<f64>) -> Row {
        values.sort_by(f64::total_cmp);
        Row { what, unit, values, at_most: None }
    }

    fn at_most(mut self, figure: f64) -> Row {
        self.at_most = Some(figure);
        self
    }

    /// The value below which this part of the values lies.
    fn quantile(&self, part: f64) -> f64 {
        self.values[((self.values.len() - 1) as f64 * part).round() as usize]
    }
}

fn progress(what: &str, round: usize, rounds: usize) {
    eprintln!("{what}: {} of {rounds}", round + 1);
}

fn print(rows: &[Row]) {
    println!();
    println!("{ROUNDS} rounds of {REQUESTS} requests over {CONNECTIONS} connections, one worker, {STARTS} starts");
    println!();
    println!("{:48} {:>8} {:>8} {:>8}", "", "25 %", "median", "75 %");
    for row in rows {
        let [low, median, high] = [0.25, 0.5, 0.75].map(|part| row.quantile(part));
        let verdict = match row.at_most {
            Some(figure) if median <= figure => format!("at most {figure}: reached"),
            Some(figure) => format!("at most {figure}: MISSED"),
            None => String::new(),
        };
        let unit_and_verdict = format!("{} {verdict}", row.unit);
        println!("{:48} {low:>8.2} {median:>8.2} {high:>8.2}  {}", row.what, unit_and_verdict.trim());
    }
}
