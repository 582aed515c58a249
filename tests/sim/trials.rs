//! One peer of four fails slowly and no monitor looks: it gets one request at a time of each worker, until one is answered.

use std::time::Duration;

use proxy_wasm_sim::{Behaviour, Faults, Outcome, Process, Request, RequestId};
use serde_json::json;

use crate::scenario::{self, Broken, PEERS};
use crate::{api, counts, module, reference, told};

/// After an outage began, every worker knows of it by then: one request, and what a host call may have to wait.
const KNOWN: Duration = Duration::from_millis(50);

/// How a peer fails that takes a connection first.
const EVILS: [Behaviour; 3] = [Behaviour::Resets, Behaviour::Garbage, Behaviour::Refuses];

/// An attempt at the bad peer.
struct Tried {
    worker: usize,
    began: Duration,
    /// It was under way until then, or for longer.
    ended: Duration,
}

/// The attempts of a request at the bad peer.
fn tried(outcome: &Outcome) -> impl Iterator<Item = Tried> + '_ {
    let next = |at: usize| outcome.attempts.get(at + 1).map_or(outcome.ended, |next| next.began);
    let all = outcome.attempts.iter().enumerate().filter(|(_, attempt)| attempt.address == PEERS[0]);
    all.map(move |(at, attempt)| Tried { worker: outcome.worker, began: attempt.began, ended: next(at) })
}

/// The run of a seed.
pub(crate) fn run(seed: u64, is_traced: bool) -> Result<(), Broken> {
    scenario::traced(reference::envoy(module(), seed), is_traced, run_in)
}

fn run_in(process: &mut Process) -> Result<(), Broken> {
    for peer in PEERS {
        process.world().peer(peer);
    }
    let evil = process.rng().choose(&EVILS).copied().unwrap_or_default();
    process.world().peer(PEERS[0]).behaviour = evil;
    // It takes up to so long for everything.
    process.world().peer(PEERS[0]).latency.1 = Duration::from_millis(150);
    let servers: Vec<String> = PEERS.iter().map(|peer| format!("{peer} fail_timeout=300ms")).collect();
    let filter = json!({
        "upstreams": { "web": { "servers": servers, "balancer": "round-robin" } },
        "upstream": "web",
        "admin": api::admin(),
        "envoy": { "access_log": true },
    });
    process.start(&reference::plugins(&filter)).map_err(|refused| refused.to_string())?;
    process.set_faults(Faults { preempt: 8, longest_wait: Duration::from_millis(3), trap: 0 });
    let mut sent: Vec<RequestId> = Vec::new();
    let steps = 200;
    let mut is_well_at = Duration::MAX;
    for step in 0..steps {
        if step == steps * 3 / 4 {
            process.world().peer(PEERS[0]).behaviour = Behaviour::Answers;
            is_well_at = process.now();
        }
        for _ in 0..2 {
            let mut request = Request::get("/");
            if process.rng().one_in(12) {
                let patience = process.rng().between(Duration::ZERO, Duration::from_millis(200));
                request = request.aborts_after(patience);
            }
            sent.push(process.send(request));
        }
        let wait = process.rng().between(Duration::ZERO, Duration::from_millis(20));
        process.run_for(wait).map_err(|crash| crash.to_string())?;
    }
    process.set_faults(Faults::default());
    // The last trial may have been given up by its client: the next request is another.
    for _ in 0..20 {
        sent.push(process.send(Request::get("/")));
        process.run_for(Duration::from_millis(100)).map_err(|crash| crash.to_string())?;
    }

    let outcomes: Vec<Outcome> = sent.iter().filter_map(|id| process.outcome(*id)).collect();
    if let Some(error) = outcomes.iter().find(|outcome| outcome.status.is_some_and(|status| status != 200)) {
        return Err(format!("a client got {error:?}"));
    }
    // Nobody is told of an attempt whose client left after it, so the outage does not begin with that (seed 207650).
    let failed = |outcome: &&Outcome| counts::failed(outcome, PEERS[0]).next().is_some();
    let begun = outcomes.iter().filter(failed).map(|outcome| outcome.ended).min();
    let Some(begun) = begun else { return Err("the bad peer was never tried".to_owned()) };
    let all: Vec<Tried> = outcomes.iter().flat_map(tried).collect();
    let on_trial: Vec<&Tried> =
        all.iter().filter(|tried| tried.began > begun + KNOWN && tried.began < is_well_at).collect();
    for (at, one) in on_trial.iter().enumerate() {
        let is_beside =
            |other: &&&Tried| other.worker == one.worker && other.began < one.ended && one.began < other.ended;
        if let Some(other) = on_trial[at + 1..].iter().find(is_beside) {
            return Err(format!(
                "worker {} sent two requests at once to a peer on trial: {:?} to {:?} and {:?} to {:?}",
                one.worker, one.began, one.ended, other.began, other.ended
            ));
        }
    }
    // It fails for about two seconds: so often its time is over, and somebody tries.
    if on_trial.is_empty() {
        return Err("nobody tried whether the bad peer is well again".to_owned());
    }
    // A few requests until it is known, and those that have a peer on trial for their turn.
    let most = 12 + 2 * 8;
    if on_trial.len() > most {
        return Err(format!("{} requests went to a peer that is out of use", on_trial.len()));
    }
    let document = api::upstream(process, 0);
    if document["peers"][0]["state"] != "up" {
        return Err(format!("it answers, and that is said of it: {document}"));
    }
    told::ends_in(process, &document, false)
}
