//! Instructions per request: Envoy alone, Envoy with a filter that does nothing, Envoy with durpina.
//!
//! They repeat within two thousandths where time differs by some percent, so this tells whether a change made requests
//! dearer. `BASELINE_WASM` names the module from before the change; each variant with durpina is then counted with
//! that module, too, in turn with the one under test.
//!
//! Each header of a request costs Envoy some thousand instructions, with and without durpina. So the differences can
//! be compared with those of other requests, the ratios less so.

use std::path::Path;

use serde_json::{json, Value};

use super::{progress, Modules};
use crate::support::callgrind::{self, Counted, Unavailable};
use crate::support::client::Request;
use crate::support::config::{Config, MINIMAL};
use crate::support::envoy::Setup;
use crate::support::server::Server;

/// Counts of each variant for a median, and the requests of one.
const COUNTS: usize = 5;
const REQUESTS: usize = 1_000;

/// What this module may cost of what the baseline costs, and how far two counts of the same module were apart.
const BASELINE_RATIO: f64 = 1.0;
const REPEATS_WITHIN: f64 = 0.002;

/// One way to run Envoy.
struct Variant {
    name: &'static str,
    setup: Setup,
    /// Runs durpina, and so can run the baseline.
    durpina: bool,
}

/// Instructions per request.
struct Counts {
    this: f64,
    baseline: Option<f64>,
}

/// Counts, and prints the table; or says in one line why nothing can be counted here.
pub(crate) fn table(servers: &[Server; 3], modules: &Modules) {
    match lines(servers, modules) {
        Ok(lines) => println!("\n{}", lines.join("\n")),
        Err(unavailable) => println!("\ninstructions per request were not counted: {unavailable}"),
    }
}

fn lines(servers: &[Server; 3], modules: &Modules) -> Result<Vec<String>, Unavailable> {
    let valgrind = callgrind::version()?;
    let [alone, noop, durpina @ ..] = variants(servers, modules);
    // What stands in the command line after `instructions`: parts of the names of those that are wanted.
    let wanted: Vec<String> = std::env::args().skip_while(|argument| argument != "instructions").skip(1).collect();
    let is_wanted = |variant: &Variant| wanted.is_empty() || wanted.iter().any(|part| variant.name.contains(&**part));
    let durpina: Vec<Variant> = durpina.into_iter().filter(is_wanted).collect();
    let number = 2 + durpina.len();
    let count = |done: usize, variant: &Variant| {
        progress("instructions per request, variants", done, number);
        variant.count(modules.baseline.as_deref())
    };
    let base = count(0, &noop)?.this;
    let mut counted = vec![(alone.name, count(1, &alone)?), (noop.name, Counts { this: base, baseline: None })];
    for (place, variant) in durpina.iter().enumerate() {
        counted.push((variant.name, count(2 + place, variant)?));
    }

    let mut head = format!("{:48} {:>12} {:>9} {:>8}", "", "instructions", "to noop", "ratio");
    if modules.baseline.is_some() {
        head += &format!(" {:>12} {:>15}", "baseline", "this / baseline");
    }
    let mut lines = vec![
        format!("instructions per request in user space, of the one worker of Envoy, counted by {valgrind}"),
        format!("median of {COUNTS} times {REQUESTS} requests over one connection"),
        String::new(),
        head,
    ];
    lines.extend(counted.into_iter().map(|(name, Counts { this, baseline })| {
        let mut line = format!("{name:48} {this:>12.0} {:>+9.0} {:>8.3}", this - base, this / base);
        if let Some(baseline) = baseline {
            let ratio = this / baseline;
            let verdict = if ratio <= BASELINE_RATIO + REPEATS_WITHIN { "reached" } else { "MISSED" };
            line += &format!(" {baseline:>12.0} {ratio:>15.3}  at most {BASELINE_RATIO:.2}: {verdict}");
        }
        line
    }));
    Ok(lines)
}

/// Envoy alone, Envoy with the filter that does nothing, and then all with durpina.
fn variants(servers: &[Server; 3], modules: &Modules) -> [Variant; 9] {
    let addrs = servers.each_ref().map(Server::addr);
    let filter = |retries: u32, envoy: Value| {
        json!({
            "upstreams": { "web": { "servers": addrs.map(|addr| addr.to_string()), "retries": retries } },
            "upstream": "web",
            "envoy": envoy,
        })
    };
    let reference = |retries| Config::reference(&filter(retries, json!({ "access_log": true })));
    let without_log = Config::reference(&filter(2, json!({}))).without_access_log();
    // Envoy sends what the filter's routes do not match to a cluster of its own.
    let elsewhere = |config: Config| {
        let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": "elsewhere" } });
        config.cluster_of("elsewhere", &addrs).route(&route)
    };
    let unmatched = |envoy: Value| {
        let upstreams = json!({ "web": { "servers": addrs.map(|addr| addr.to_string()) } });
        json!({ "upstreams": upstreams, "routes": [{ "prefix": "/none", "upstream": "web" }], "envoy": envoy })
    };
    let reported = elsewhere(Config::reference(&unmatched(json!({ "access_log": true }))));
    let unreported = elsewhere(Config::reference(&unmatched(json!({})))).without_access_log();
    let minimal = Config::of(MINIMAL).filter(&filter(0, json!({})));
    let round_robin = reference(2).without_durpina(&addrs);

    let other = |name, setup| Variant { name, setup, durpina: false };
    let durpina = |name, config| Variant { name, setup: Setup::new(config), durpina: true };
    [
        other("no wasm filter, Envoy's round robin", Setup::new(round_robin.clone().without_filter())),
        other("filter that does nothing, Envoy's round robin", Setup::new(round_robin).module(modules.noop.clone())),
        durpina("durpina, reference configuration, retries 2", reference(2)),
        durpina("durpina, reference configuration, retries 1", reference(1)),
        durpina("durpina, reference configuration, retries 0", reference(0)),
        durpina("durpina, retries 2, without the access log", without_log),
        durpina("durpina, minimal configuration", minimal),
        durpina("durpina, no route matches", reported),
        durpina("durpina, no route matches, without the access log", unreported),
    ]
}

impl Variant {
    /// Counts both modules in turn, so that what else the machine does falls on both: what Envoy and the filter do
    /// from time to time is counted too, and the more of it the longer the requests take.
    fn count(&self, baseline: Option<&Path>) -> Result<Counts, Unavailable> {
        // What curl sends.
        let request = Request::get("/").header("user-agent", "curl/8.5.0").header("accept", "*/*");
        let mut this = Counted::start(self.setup.clone(), request.clone())?;
        let mut baseline = baseline
            .filter(|_| self.durpina)
            .map(|module| Counted::start(self.setup.clone().module(module.to_owned()), request))
            .transpose()?;
        let mut counts = [Vec::new(), Vec::new()];
        for _ in 0..COUNTS {
            counts[0].push(this.per_request(REQUESTS)?);
            if let Some(baseline) = &mut baseline {
                counts[1].push(baseline.per_request(REQUESTS)?);
            }
        }
        let [this, baseline] = counts.map(|mut counts| {
            counts.sort_by(f64::total_cmp);
            counts.get(COUNTS / 2).copied()
        });
        Ok(Counts { this: this.expect("as many counts as asked for"), baseline })
    }
}
