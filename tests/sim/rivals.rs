//! Two workers that write at once. The lease of the checks sees to it that one makes them; but who holds it may stop in the middle of a
//! write for longer than the lease lasts, and goes on as if nothing had been. What both found has to stand then, and is told once.
//!
//! Chance seldom stops a worker there. Here it is held before its next write of one value, on either host, and the other goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use proxy_wasm_sim::{Behaviour, Faults, Hold, Plugin, Process, RequestId};
use serde_json::{json, Value};

use crate::scenario::{self, Broken, PEERS, WORKERS};
use crate::{api, module, nginx, reference, told};

/// Whoever is held stands still for longer than a lease lasts, and for less than an interval of the checks: each peer is checked by one of
/// the two.
const HELD: (Duration, Duration) = (Duration::from_millis(1_300), Duration::from_millis(1_800));

/// What is found is written, told and known everywhere by then: a tick, and what is waited for in it.
const KNOWN: Duration = Duration::from_millis(300);

/// What two may write at once: what is said of peers, the state that was told, the record, the budget of the log.
const VALUES: [&str; 4] = ["/status/web", "/state/web", "/upstream/web", "/log/"];

fn filter() -> Value {
    let servers: Vec<String> = PEERS.iter().map(|peer| format!("{peer} max_fails=0")).collect();
    let monitor =
        json!({ "name": "http", "interval": "2s", "schedule": "all", "fall": 1, "rise": 1, "timeout": "800ms" });
    json!({
        "upstreams": { "web": { "servers": servers, "monitors": [monitor] } },
        "upstream": "web",
        "admin": api::admin(),
    })
}

/// The run of a seed in a simulated Envoy.
pub(crate) fn on_envoy(seed: u64, is_traced: bool) -> Result<(), Broken> {
    let plugins = reference::plugins(&filter());
    scenario::traced(reference::envoy(module(), seed), is_traced, |process| Rivals::run(process, &plugins))
}

/// The same in a simulated nginx.
pub(crate) fn on_nginx(seed: u64, is_traced: bool) -> Result<(), Broken> {
    let plugins = [Plugin::filter("durpina", &filter().to_string())];
    scenario::traced(nginx::process(seed), is_traced, |process| Rivals::run(process, &plugins))
}

struct Rivals<'p> {
    process: &'p mut Process,
    /// Since when each peer behaves as it does.
    since: [Duration; PEERS.len()],
    weights: BTreeMap<usize, u64>,
}

impl Rivals<'_> {
    fn run(process: &mut Process, plugins: &[Plugin]) -> Result<(), Broken> {
        for peer in PEERS {
            process.world().peer(peer);
        }
        process.start(plugins).map_err(|refused| refused.to_string())?;
        process.set_faults(Faults { preempt: 8, longest_wait: Duration::from_millis(3), trap: 0 });
        let mut rivals = Rivals { process, since: [Duration::ZERO; PEERS.len()], weights: BTreeMap::new() };
        // Each peer is known.
        rivals.pass(Duration::from_millis(2_300))?;
        for _ in 0..3 {
            rivals.round()?;
        }
        if let Some(trap) = rivals.process.traps().first() {
            return Err(format!("the filter trapped: {trap}"));
        }
        Ok(())
    }

    fn pass(&mut self, time: Duration) -> Result<(), Broken> {
        self.process.run_for(time).map_err(|crash| format!("the host crashed: {crash}"))
    }

    /// Peers change, somebody is held in the middle of a write, others go on; then all that was found stands.
    fn round(&mut self) -> Result<(), Broken> {
        let value = self.process.rng().choose(&VALUES).copied().unwrap_or_default();
        let time = self.process.rng().between(HELD.0, HELD.1);
        self.change_peers();
        self.process.hold(Hold::before("proxy_set_shared_data", value, time));
        let changes = self.change_weights();
        for _ in 0..20 {
            self.pass(Duration::from_millis(100))?;
            if self.process.held_until().is_some() {
                break;
            }
        }
        self.process.hold_nobody();
        if self.process.rng().one_in(2) {
            self.change_peers();
        }
        let end = self.process.held_until().unwrap_or_default().saturating_sub(self.process.now());
        self.pass(end + KNOWN)?;
        for (request, peer, weight) in changes {
            match self.process.outcome(request).map(|outcome| outcome.status) {
                Some(Some(200)) => drop(self.weights.insert(peer, weight)),
                other => return Err(format!("a change of a weight was answered with {other:?}")),
            }
        }
        self.properties()
    }

    /// Some fail from now on, some do not.
    fn change_peers(&mut self) {
        for (at, name) in PEERS.iter().enumerate() {
            if self.process.rng().one_in(2) {
                continue;
            }
            let mut world = self.process.world();
            let peer = world.peer(name);
            // What resets a connection has received something: so a test knows of each check.
            let other = if peer.behaviour == Behaviour::Answers { Behaviour::Resets } else { Behaviour::Answers };
            peer.behaviour = other;
            drop(world);
            self.since[at] = self.process.now();
            self.process.note(format_args!("{name} {other:?}"));
        }
    }

    /// A weight at each worker at once.
    fn change_weights(&mut self) -> Vec<(RequestId, usize, u64)> {
        let change = |worker: usize| {
            let weight = 1 + self.process.rng().below(9);
            let peer = worker * 2 + usize::from(self.process.rng().one_in(2));
            let path = format!("/upstreams/web/peers/{}", PEERS[peer]);
            let request = api::request("PATCH", &path, &json!({ "weight": weight })).at(worker);
            (self.process.send(request), peer, weight)
        };
        (0..WORKERS).map(change).collect()
    }

    fn properties(&mut self) -> Result<(), Broken> {
        let now = self.process.now();
        let documents: Vec<Value> = (0..WORKERS).map(|worker| api::upstream(self.process, worker)).collect();
        for document in &documents {
            self.what_was_found_stands(now, document)?;
            told::of_peers(self.process, document)?;
            told::ends_in(self.process, document, false)?;
            for (peer, weight) in &self.weights {
                if document["peers"][peer]["weight"] != *weight {
                    return Err(format!("{} was acknowledged to have weight {weight}: {document}", PEERS[*peer]));
                }
            }
        }
        Ok(())
    }

    /// What the last check of a peer found is what is said of it.
    fn what_was_found_stands(&self, now: Duration, document: &Value) -> Result<(), Broken> {
        for (at, name) in PEERS.iter().enumerate() {
            let mut world = self.process.world();
            let peer = world.peer(name);
            let is_known = |check: Duration| check > self.since[at] && check + KNOWN < now;
            let last = peer.received.iter().rev().find(|received| received.is_call).map(|received| received.at);
            let Some(last) = last.filter(|last| is_known(*last)) else { continue };
            let is_good = peer.behaviour == Behaviour::Answers;
            if (document["peers"][at]["state"] == "down") == is_good {
                let found = if is_good { "well" } else { "failing" };
                return Err(format!("a check at {last:?} found {name} {found}, and that is said of it: {document}"));
            }
        }
        Ok(())
    }
}
