//! What the filter's callbacks cost: instructions, as the interpreter counts them, the same on every machine.
//!
//! `fuel.txt` holds what they cost when somebody last looked. What grows by more than 5 % fails the test, so that it does not grow
//! unseen: `make bench BENCH=fuel ARGS=record` writes the file anew. Another compiler makes another module; by how much one may
//! differ is not the filter's doing, so beside the one with which the file was recorded a quarter is allowed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use proxy_wasm_sim::{Behaviour, Fuel, Process, Request};
use serde_json::{json, Value};

use crate::{api, module, reference};

/// How many peers, where nothing else is said.
const PEERS: usize = 10;
/// Requests that are measured, after as many that are not.
const REQUESTS: u64 = 50;

/// The balancers with their options.
const BALANCERS: [(&str, &str); 8] = [
    ("round-robin", ""),
    ("unweighted-round-robin", ""),
    ("ip-hash", ""),
    ("consistent-hash", "{path}"),
    ("ketama", "{path}"),
    ("random", ""),
    ("least-conn", ""),
    ("least-time", ""),
];

/// What callbacks cost in each case: the mean of a call.
pub(crate) type Costs = BTreeMap<(String, String), u64>;

fn peers(count: usize) -> Vec<String> {
    (0..count).map(|at| format!("10.0.{}.{}:80", at / 200, at % 200 + 1)).collect()
}

/// A process with one worker, the main thread's besides, and such an upstream.
fn started(count: usize, parameters: &str, upstream: &Value) -> Process {
    let mut process = reference::envoy(module(), 1).untraced().workers(1);
    for peer in peers(count) {
        process.world().peer(&peer);
    }
    let servers: Vec<String> = peers(count).iter().map(|peer| format!("{peer}{parameters}")).collect();
    let mut upstream = upstream.clone();
    upstream["servers"] = json!(servers);
    let filter = json!({
        "upstreams": { "web": upstream },
        "upstream": "web",
        "admin": api::admin(),
        "envoy": { "access_log": true },
    });
    process.start(&reference::plugins(&filter)).expect("a good configuration");
    process
}

/// What was used between two moments.
fn between(costs: &mut Costs, case: &str, before: &BTreeMap<&'static str, Fuel>, after: &BTreeMap<&'static str, Fuel>) {
    for (callback, fuel) in after {
        let known = before.get(callback).copied().unwrap_or_default();
        let calls = fuel.calls - known.calls;
        if let Some(mean) = (fuel.total - known.total).checked_div(calls) {
            costs.insert((case.to_owned(), (*callback).to_owned()), mean);
        }
    }
}

/// Requests of a kind, one after the other.
fn requests(costs: &mut Costs, case: &str, process: &mut Process, make: impl Fn(u64) -> Request) {
    let send = |process: &mut Process| {
        for number in 0..REQUESTS {
            process.request(make(number)).expect("the process lives");
        }
    };
    send(process);
    let before = process.fuel();
    send(process);
    between(costs, case, &before, &process.fuel());
}

/// Measures all cases.
pub(crate) fn measure() -> Costs {
    let mut costs = Costs::new();
    for (name, key) in BALANCERS {
        let balancer = if key.is_empty() { json!(name) } else { json!({ "name": name, "key": key }) };
        let mut process = started(PEERS, "", &json!({ "balancer": balancer }));
        requests(&mut costs, name, &mut process, |number| Request::get(&format!("/{number}")));
    }
    let mut many = started(1_000, "", &json!({}));
    between(&mut costs, "1000 peers", &BTreeMap::new(), &many.fuel());
    requests(&mut costs, "1000 peers", &mut many, |_| Request::get("/"));

    // All but one refuse, and all are on trial when the next request comes: its attempts fail, and are written.
    let mut failing = started(PEERS, " fail_timeout=400ms", &json!({ "max_ejected_percent": 100 }));
    for peer in peers(PEERS - 1) {
        failing.world().peer(&peer).behaviour = Behaviour::Refuses;
    }
    let before = failing.fuel();
    for _ in 0..REQUESTS {
        failing.request(Request::get("/")).expect("the process lives");
        failing.run_for(Duration::from_millis(500)).expect("the process lives");
    }
    between(&mut costs, "failures", &before, &failing.fuel());

    for monitor in ["http", "tcp"] {
        let monitors = json!([{ "name": monitor, "interval": "1s", "schedule": "all" }]);
        let mut checking = started(100, "", &json!({ "monitors": monitors }));
        checking.run_for(Duration::from_secs(5)).expect("the process lives");
        let before = checking.fuel();
        checking.run_for(Duration::from_secs(20)).expect("the process lives");
        between(&mut costs, &format!("100 peers checked by {monitor}"), &before, &checking.fuel());
    }

    for (case, path) in [("GET upstream", "/upstreams/web"), ("GET metrics", "/metrics"), ("GET page", "/")] {
        let mut asked = started(PEERS, "", &json!({}));
        requests(&mut costs, case, &mut asked, |_| api::request("GET", path, &Value::Null));
    }
    let mut changed = started(PEERS, "", &json!({}));
    let path = "/upstreams/web/peers/10.0.0.1:80";
    let change = |number: u64| api::request("PATCH", path, &json!({ "weight": 1 + number % 2 }));
    requests(&mut costs, "PATCH peer", &mut changed, change);
    costs
}

/// Where the recorded costs are.
fn recorded() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("sim/fuel.txt")
}

/// What the module is made with.
fn tools() -> String {
    let version = |program: &str, option: &str| {
        let output = Command::new(program).arg(option).output().ok().filter(|output| output.status.success());
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.unwrap_or_else(|| format!("no {program}"))
    };
    format!("{}, {}", version("rustc", "-V"), version("wasm-opt", "--version"))
}

/// Writes the file.
#[allow(dead_code)] // The benchmark's.
pub(crate) fn record(costs: &Costs) {
    let lines = costs.iter().map(|((case, callback), mean)| format!("{case}\t{callback}\t{mean}\n"));
    let text = format!("{}\n{}", tools(), lines.collect::<String>());
    std::fs::write(recorded(), text).expect("the file can be written");
}

/// What is recorded: what it was made with, and the costs.
pub(crate) fn read() -> (String, Costs) {
    let text = std::fs::read_to_string(recorded()).unwrap_or_default();
    let (tools, rest) = text.split_once('\n').unwrap_or_default();
    let line = |line: &str| {
        let mut parts = line.split('\t').map(str::to_owned);
        let key = (parts.next()?, parts.next()?);
        Some((key, parts.next()?.parse().ok()?))
    };
    (tools.to_owned(), rest.lines().filter_map(line).collect())
}

/// What grew beyond what is allowed, or has no record, a line each.
fn grown(costs: &Costs, recorded: &Costs, percent: u64) -> Vec<String> {
    let is_over = |mean: u64, was: u64| mean * 100 > was * (100 + percent);
    let line = |((case, callback), mean): (&(String, String), &u64)| match recorded
        .get(&(case.clone(), callback.clone()))
    {
        None => Some(format!("{case}: {callback} costs {mean}, and nothing is recorded of it")),
        Some(was) if is_over(*mean, *was) => Some(format!("{case}: {callback} costs {mean}, and {was} is recorded")),
        Some(_) => None,
    };
    costs.iter().filter_map(line).collect()
}

#[test]
fn no_callback_costs_more_than_is_recorded() {
    let (made_with, recorded) = read();
    let tools = tools();
    let percent = if made_with == tools { 5 } else { 25 };
    let grown = grown(&measure(), &recorded, percent);
    assert!(
        grown.is_empty(),
        "more than {percent} % (recorded with {made_with}, here {tools}):\n{}\n`make bench BENCH=fuel ARGS=record` \
         records what is; say why in the commit",
        grown.join("\n")
    );
}

#[test]
fn what_grows_is_found() {
    let costs = |mean| Costs::from([(("a".to_owned(), "b".to_owned()), mean)]);
    assert_eq!(grown(&costs(105), &costs(100), 5), Vec::<String>::new());
    assert_eq!(grown(&costs(106), &costs(100), 5), ["a: b costs 106, and 100 is recorded"]);
    assert_eq!(grown(&costs(1), &Costs::new(), 5), ["a: b costs 1, and nothing is recorded of it"]);
}
