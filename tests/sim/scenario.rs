//! A run of the filter in which things go wrong, and what must hold in the end. All of it follows from the seed.
//!
//! A run has three parts: a start with everything well; seconds full of faults and changes; and time without any, after which
//! the properties are asked for.

use std::collections::BTreeMap;
use std::time::Duration;

use proxy_wasm_sim::{Behaviour, Faults, Process, Request, RequestId};
use serde_json::{json, Value};

use crate::{api, reference, told};

pub(crate) const PEERS: [&str; 4] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"];

/// How a peer may misbehave.
const EVILS: [Behaviour; 7] = [
    Behaviour::Refuses,
    Behaviour::BlackHole,
    Behaviour::Hangs,
    Behaviour::Resets,
    Behaviour::CutsOff,
    Behaviour::Stalls,
    Behaviour::Garbage,
];

/// The monitor's, in the configuration below.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long an old configuration goes on after a new one.
pub(crate) const DRAIN: Duration = Duration::from_secs(3);

/// How many workers a process has; the main thread's VM comes on top.
pub(crate) const WORKERS: usize = 2;

/// What an upstream of this size needs in shared data, and as much again.
const MOST_SHARED: usize = 2_000;

/// A change of a weight that was sent.
struct Change {
    request: RequestId,
    peer: usize,
    weight: u64,
}

/// A time in which an operator wanted a peer out of use.
struct Down {
    request: RequestId,
    peer: usize,
    /// From when on it must get no request: when the change was acknowledged.
    since: Option<Duration>,
    /// When the change back was sent, and its request.
    until: Option<(Duration, RequestId)>,
}

/// A run under way.
pub(crate) struct Scenario {
    pub(crate) process: Process,
    /// Whether a peer ever misbehaved.
    pub(crate) misbehaved: [bool; PEERS.len()],
    /// Weights that were asked for and whose answer is not there yet, at most one for each peer.
    open: Vec<Change>,
    /// What each weight must be: the last one that was acknowledged. None after a change whose fate nobody knows.
    weights: BTreeMap<usize, Option<u64>>,
    downs: Vec<Down>,
    /// Requests for the upstream, with the time at which they were sent.
    pub(crate) sent: Vec<(RequestId, Duration)>,
    /// Whether chance ends VMs in this run.
    pub(crate) with_traps: bool,
    /// Whether the clock steps in this run, and whether the configuration changes. Without, checks can be counted.
    pub(crate) with_steps: bool,
    pub(crate) with_updates: bool,
    pub(crate) monitor: &'static str,
    interval: u64,
}

/// Which monitor checks, by the run.
const MONITORS: [&str; 2] = ["http", "tcp"];

fn filter(monitor: &str, interval: u64) -> Value {
    let servers: Vec<String> = PEERS.iter().map(|peer| format!("{peer} max_fails=2 fail_timeout=1s")).collect();
    json!({
        "upstreams": { "web": {
            "servers": servers,
            "monitors": [{ "name": monitor, "interval": format!("{interval}ms"), "schedule": "all", "fall": 2, "rise": 1, "timeout": "800ms" }],
            "balancer": "round-robin",
        } },
        "upstream": "web",
        "admin": api::admin(),
        "envoy": { "access_log": true },
    })
}

/// What did not hold, as a sentence.
pub(crate) type Broken = String;

/// Runs something in this process, and prints the trace if there is to be one.
pub(crate) fn traced(
    mut process: Process,
    is_traced: bool,
    run: impl FnOnce(&mut Process) -> Result<(), Broken>,
) -> Result<(), Broken> {
    if !is_traced {
        process = process.untraced();
    }
    let result = run(&mut process);
    for line in process.trace() {
        println!("{line}");
    }
    result
}

impl Scenario {
    pub(crate) fn start(seed: u64, is_traced: bool) -> Self {
        let mut process = reference::envoy(crate::module(), seed);
        if !is_traced {
            process = process.untraced();
        }
        for peer in PEERS {
            process.world().peer(peer);
        }
        let interval = u64::try_from(INTERVAL.as_millis()).unwrap();
        process.set_drain(DRAIN);
        let monitor = process.rng().choose(&MONITORS).copied().unwrap_or_default();
        process.start(&reference::plugins(&filter(monitor, interval))).unwrap_or_else(|error| panic!("{error}"));
        let [with_traps, with_steps, with_updates] = [3, 2, 2].map(|n| process.rng().one_in(n));
        let weights = (0..PEERS.len()).map(|peer| (peer, Some(1))).collect();
        Self {
            process,
            misbehaved: [false; PEERS.len()],
            open: Vec::new(),
            weights,
            downs: Vec::new(),
            sent: Vec::new(),
            with_traps,
            with_steps,
            with_updates,
            monitor,
            interval,
        }
    }

    /// The whole of it.
    pub(crate) fn run(&mut self) -> Result<(), Broken> {
        self.faults()?;
        if self.process.rng().one_in(2) {
            self.calm()?;
        }
        self.quiet()?;
        self.properties()
    }

    /// Seconds in which anything may happen.
    fn faults(&mut self) -> Result<(), Broken> {
        let trap = if self.with_traps { 2_000 } else { 0 };
        self.process.set_faults(Faults { preempt: 6, longest_wait: Duration::from_millis(3), trap });
        let steps = 60 + self.process.rng().below(60);
        for _ in 0..steps {
            let chance = self.process.rng().below(100);
            match chance {
                0..=69 => self.traffic(),
                70..=79 => self.change_weights(),
                80..=87 => self.change_a_peer(),
                88..=90 => self.pause_a_worker(),
                91..=92 if self.with_steps => self.step_the_clock(),
                93..=94 if self.with_updates => self.reconfigure()?,
                95 if self.with_traps => self.kill_a_worker(),
                _ => self.take_a_peer_down_or_up(),
            }
            let (least, most) = (Duration::ZERO, Duration::from_millis(100));
            let wait = self.process.rng().between(least, most);
            self.pass(wait)?;
            self.hear();
        }
        Ok(())
    }

    pub(crate) fn pass(&mut self, time: Duration) -> Result<(), Broken> {
        self.process.run_for(time).map_err(|crash| format!("the host crashed: {crash}"))
    }

    /// Some requests at once.
    fn traffic(&mut self) {
        let count = 1 + self.process.rng().below(4);
        for _ in 0..count {
            let post = self.process.rng().one_in(4);
            let mut request = if post { Request::post("/order", b"one") } else { Request::get(self.path()) };
            if self.process.rng().one_in(15) {
                let patience = self.process.rng().between(Duration::ZERO, Duration::from_millis(300));
                request = request.aborts_after(patience);
            }
            self.send(request);
        }
    }

    /// Mostly the upstream's.
    fn path(&mut self) -> &'static str {
        if self.process.rng().one_in(12) {
            reference::ELSEWHERE
        } else {
            "/"
        }
    }

    pub(crate) fn send(&mut self, request: Request) {
        let now = self.process.now();
        let id = self.process.send(request);
        self.sent.push((id, now));
    }

    fn take_a_peer_down_or_up(&mut self) {
        let now = self.process.now();
        let order = |process: &mut Process, peer: usize, state: &str| {
            let path = format!("/upstreams/web/peers/{}", PEERS[peer]);
            process.send(api::request("PATCH", &path, &json!({ "state": state })))
        };
        match self.downs.last_mut() {
            // Two orders at once have no order.
            Some(down) if self.process.outcome(down.request).is_none() => {}
            Some(down) if down.until.is_none() => {
                down.until = Some((now, order(&mut self.process, down.peer, "up")));
            }
            Some(Down { until: Some((_, request)), .. }) if self.process.outcome(*request).is_none() => {}
            _ => {
                let peer = usize::try_from(self.process.rng().below(4)).unwrap();
                let request = order(&mut self.process, peer, "down");
                self.downs.push(Down { request, peer, since: None, until: None });
            }
        }
    }

    /// Peers that are still down because of an operator are so no more.
    fn lift_orders(&mut self) -> Result<(), Broken> {
        for at in 0..self.downs.len() {
            let down = &self.downs[at];
            let up =
                down.until.and_then(|(_, request)| self.process.outcome(request)).and_then(|outcome| outcome.status);
            if up == Some(200) {
                continue;
            }
            let path = format!("/upstreams/web/peers/{}", PEERS[down.peer]);
            let outcome = self.process.request(api::request("PATCH", &path, &json!({ "state": "up" })));
            match outcome.map_err(|crash| crash.to_string())?.status {
                Some(200) => {}
                other => return Err(format!("an order was answered with {other:?}")),
            }
        }
        Ok(())
    }

    /// Weights of some peers at once, at whatever workers; but of none whose change is under way: two of one have no order.
    fn change_weights(&mut self) {
        for (peer, name) in PEERS.iter().enumerate() {
            if self.process.rng().one_in(2) || self.open.iter().any(|change| change.peer == peer) {
                continue;
            }
            let weight = 1 + self.process.rng().below(9);
            let path = format!("/upstreams/web/peers/{name}");
            let request = self.process.send(api::request("PATCH", &path, &json!({ "weight": weight })));
            self.open.push(Change { request, peer, weight });
        }
    }

    /// Hears of changes that were answered.
    pub(crate) fn hear(&mut self) {
        for change in std::mem::take(&mut self.open) {
            match self.process.outcome(change.request).map(|outcome| outcome.status) {
                None => self.open.push(change),
                Some(Some(200)) => drop(self.weights.insert(change.peer, Some(change.weight))),
                // A VM ended over it: it happened or it did not.
                Some(_) => drop(self.weights.insert(change.peer, None)),
            }
        }
        let now = self.process.now();
        for down in self.downs.iter_mut().filter(|down| down.since.is_none()) {
            if self.process.outcome(down.request).is_some_and(|outcome| outcome.status == Some(200)) {
                down.since = Some(now);
            }
        }
    }

    fn change_a_peer(&mut self) {
        // One of the four is always well.
        let peer = usize::try_from(self.process.rng().below(3)).unwrap();
        let is_well = self.process.rng().one_in(2);
        let evil = self.process.rng().choose(&EVILS).copied().unwrap_or_default();
        let behaviour = if is_well { Behaviour::Answers } else { evil };
        self.misbehaved[peer] |= !is_well;
        self.process.world().peer(PEERS[peer]).behaviour = behaviour;
        self.process.note(format_args!("{} {behaviour:?}", PEERS[peer]));
    }

    fn pause_a_worker(&mut self) {
        let worker = usize::try_from(self.process.rng().below(3)).unwrap();
        let time = self.process.rng().between(Duration::from_millis(1), Duration::from_millis(600));
        self.process.pause(worker, time);
    }

    fn step_the_clock(&mut self) {
        let step = i128::from(self.process.rng().below(2_000_000_000)) - 1_000_000_000;
        self.process.step_clock(step);
    }

    fn reconfigure(&mut self) -> Result<(), Broken> {
        self.interval = if self.interval == 1_000 { 900 } else { 1_000 };
        let plugins = reference::plugins(&filter(self.monitor, self.interval));
        match self.process.update(&plugins) {
            // A trial that chance ended.
            Ok(()) => Ok(()),
            Err(error) => Err(format!("a good configuration was refused: {error}")),
        }
    }

    fn kill_a_worker(&mut self) {
        let worker = usize::try_from(self.process.rng().below(2)).unwrap();
        self.process.kill(worker);
    }

    /// The faults stop, everybody is well, nobody waits any more, and two intervals pass.
    fn quiet(&mut self) -> Result<(), Broken> {
        self.process.set_faults(Faults::default());
        for peer in PEERS {
            self.process.world().peer(peer).behaviour = Behaviour::Answers;
        }
        self.process.note(format_args!("faults stop"));
        for request in self.process.under_way() {
            self.process.abort(request);
        }
        // A paused worker goes on, and one without a VM gets one at a request.
        self.pass(Duration::from_millis(700))?;
        for _ in 0..4 {
            for worker in 0..WORKERS {
                self.send(Request::get("/").at(worker));
            }
            self.pass(Duration::from_millis(50))?;
        }
        self.hear();
        self.lift_orders()?;
        // Checks that began before end by their timeout, and the lease of a worker that died by its term.
        let lease = if self.with_traps { Duration::from_secs(2) } else { Duration::ZERO };
        self.pass(Duration::from_millis(100) + lease)?;
        self.pass(2 * INTERVAL)?;
        Ok(())
    }

    /// What must hold now.
    fn properties(&mut self) -> Result<(), Broken> {
        if let Some(trap) = self.process.traps().first() {
            return Err(format!("the filter trapped: {trap}"));
        }
        if let Some(request) = self.process.under_way().first() {
            return Err(format!("{request:?} never ended"));
        }
        self.no_request_went_to_a_peer_that_was_down()?;
        self.checks_come_once_in_an_interval()?;
        if self.process.shared_bytes() > MOST_SHARED {
            return Err(format!("there are {} bytes in shared data", self.process.shared_bytes()));
        }
        let document = self.documents_agree()?;
        told::ends_in(&self.process, &document, self.with_traps)?;
        for (at, name) in PEERS.iter().enumerate() {
            let peer = &document["peers"][at];
            if peer["state"] != "up" {
                return Err(format!("{name} is {} though nothing was wrong with it for long: {peer}", peer["state"]));
            }
            if let Some(weight) = self.weights[&at].filter(|weight| peer["weight"] != *weight) {
                return Err(format!("{name} has weight {}, and {weight} was acknowledged last", peer["weight"]));
            }
        }
        self.failures_are_those_that_happened()?;
        self.orders_have_no_last_resort()?;
        self.changes_are_seen_at_once()?;
        self.a_verdict_is_seen_at_once()
    }

    fn no_request_went_to_a_peer_that_was_down(&self) -> Result<(), Broken> {
        for (request, sent) in &self.sent {
            let Some(outcome) = self.process.outcome(*request) else { continue };
            for down in &self.downs {
                let is_during = down.since.is_some_and(|since| *sent > since)
                    && down.until.is_none_or(|(until, _)| outcome.ended < until);
                if is_during && outcome.attempts.iter().any(|attempt| attempt.address == PEERS[down.peer]) {
                    return Err(format!("{request:?}, sent at {sent:?}, went to {}, which was down", PEERS[down.peer]));
                }
            }
        }
        Ok(())
    }

    /// Of a peer that is always well, so that no check of it is made again.
    fn checks_come_once_in_an_interval(&self) -> Result<(), Broken> {
        if self.with_steps || self.with_updates {
            return Ok(());
        }
        let intervals = self.process.now().as_secs_f64() / INTERVAL.as_secs_f64();
        let checks =
            self.process.world().peer(PEERS[3]).received.iter().filter(|received| received.is_call).count() as f64;
        // Who holds the lease may pause or die, and then some are left out.
        let least = if self.with_traps { 0.0 } else { intervals - 4.0 };
        if checks > intervals + 1.0 || checks < least {
            return Err(format!("{checks} checks of {} in {intervals:.1} intervals", PEERS[3]));
        }
        Ok(())
    }
}
