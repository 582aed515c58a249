//! The filter in a simulated nginx: the variables of the candidates, and a named location to which failed requests go.

use std::sync::OnceLock;
use std::time::Duration;

use proxy_wasm_sim::{
    Behaviour, Decision, Destination, Faults, Outgoing, Personality, Plugin, Process, Request, Route, Routed, Rule,
    Situation, Variable, Wiring, NGINX,
};
use serde_json::json;

use crate::scenario::{self, Broken, PEERS};
use crate::{api, nginx_module};

/// `proxy_pass http://$durpina_peer` with `error_page 502 504 = @again`, in the worker processes' own addresses.
struct Reference;

impl Wiring for Reference {
    fn route(&self, request: &Routed<'_>) -> Decision {
        let peer = request.variable("ngx.durpina_peer").filter(|peer| !peer.is_empty());
        let Some(peer) = peer else { return Decision::Status(503) };
        Decision::To(Route { retries: 2, ..Route::to(vec![peer]) })
    }

    fn call(&self, call: &Outgoing<'_>) -> Destination {
        match call.to.parse::<std::net::SocketAddr>() {
            Ok(address) => Destination::Http(address.to_string()),
            Err(_) => Destination::Unknown,
        }
    }

    fn variable(&self, name: &str) -> Variable {
        match name {
            "durpina_peer" => Variable::Writable,
            _ => Variable::Undeclared,
        }
    }
}

/// nginx as it was measured, but that a value in shared data may grow: the filter has them grow seldom, to the next power of two.
fn growing() -> &'static Personality {
    static GROWING: OnceLock<Personality> = OnceLock::new();
    GROWING.get_or_init(|| {
        let rules: Vec<Rule> =
            NGINX.rules.iter().filter(|rule| rule.situation != Situation::LengthChanges).copied().collect();
        Personality { rules: Box::leak(rules.into_boxed_slice()), ..NGINX }
    })
}

/// An nginx with the filter's variables; it is not started yet.
pub(crate) fn process(seed: u64) -> Process {
    Process::of(growing(), nginx_module(), seed).wiring(Reference)
}

/// The run of a seed: a peer fails, recovers, and workers pause.
pub(crate) fn run(seed: u64, is_traced: bool) -> Result<(), Broken> {
    scenario::traced(process(seed), is_traced, run_in)
}

fn run_in(process: &mut Process) -> Result<(), Broken> {
    for peer in PEERS {
        process.world().peer(peer);
    }
    let servers: Vec<String> = PEERS.iter().map(|peer| format!("{peer} fail_timeout=1s")).collect();
    let monitors =
        json!([{ "name": "http", "interval": "1s", "schedule": "all", "fall": 2, "rise": 1, "timeout": "800ms" }]);
    let filter = json!({ "upstreams": { "web": { "servers": servers, "monitors": monitors } }, "upstream": "web", "admin": api::admin() });
    process.start(&[Plugin::filter("durpina", &filter.to_string())]).map_err(|refused| refused.to_string())?;
    // nginx has the timers that are due run before it reads a first request.
    process.run_for(Duration::from_millis(2)).map_err(|crash| crash.to_string())?;
    process.set_faults(Faults { preempt: 8, longest_wait: Duration::from_millis(3), trap: 0 });
    let mut sent = Vec::new();
    let evils = [Behaviour::Refuses, Behaviour::Resets, Behaviour::BlackHole];
    let evil = process.rng().choose(&evils).copied().unwrap_or_default();
    // A process takes its requests with it, and another takes its place.
    let kills = process.rng().one_in(2);
    // A VM that ends takes the requests with it whose headers it has just seen; those under way go on in contexts of the next one.
    let traps = process.rng().one_in(2);
    for step in 0..80 {
        let behaviour = if (20..50).contains(&step) { evil } else { Behaviour::Answers };
        process.world().peer(PEERS[0]).behaviour = behaviour;
        for _ in 0..3 {
            sent.push(process.send(Request::get("/")));
        }
        if kills && step == 35 {
            process.kill(0);
        }
        if traps && step % 16 == 4 {
            process.trap(1);
        }
        let wait = process.rng().between(Duration::ZERO, Duration::from_millis(100));
        process.run_for(wait).map_err(|crash| crash.to_string())?;
    }
    process.set_faults(Faults::default());
    process.run_for(Duration::from_secs(6)).map_err(|crash| crash.to_string())?;
    if let Some(trap) = process.traps().first() {
        return Err(format!("the filter trapped: {trap}"));
    }
    for id in sent {
        let Some(outcome) = process.outcome(id) else { return Err(format!("{id:?} never ended")) };
        let is_lost = kills && outcome.status.is_none() || traps && outcome.details == "wasm_fail_stream";
        if outcome.status != Some(200) && !is_lost {
            return Err(format!("a client got {outcome:?}"));
        }
    }
    let documents: Vec<_> = (0..2).map(|worker| api::upstream(process, worker)).collect();
    for document in documents {
        for peer in document["peers"].as_array().expect("peers") {
            if peer["state"] != "up" {
                return Err(format!("all is well for long, and that is said: {peer}"));
            }
        }
    }
    Ok(())
}
