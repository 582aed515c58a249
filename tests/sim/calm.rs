//! A time in which nothing changes any more and peers are as they are: what the documents say then follows from the peers alone,
//! and requests go where the documents say.

use std::time::Duration;

use proxy_wasm_sim::{Behaviour, Faults, Request};
use serde_json::{json, Value};

use crate::scenario::{Broken, Scenario, PEERS, WORKERS};
use crate::{api, told};

/// So long a client waits for an answer here.
const PATIENCE: Duration = Duration::from_millis(200);

/// So many failed checks take a peer out of use, in the scenario's configuration.
const FALL: f64 = 2.0;

/// `max_ejected_percent`, as it is by default.
const MOST_EJECTED: usize = 50;

impl Scenario {
    /// Whether the monitor fails at a peer that behaves like this.
    fn is_found_out(&self, behaviour: Behaviour) -> bool {
        match self.monitor {
            "tcp" => matches!(behaviour, Behaviour::Refuses | Behaviour::BlackHole),
            _ => behaviour != Behaviour::Answers,
        }
    }

    /// Nothing goes wrong by chance any more, and nobody changes anything.
    pub(crate) fn calm(&mut self) -> Result<(), Broken> {
        self.process.set_faults(Faults::default());
        self.process.note(format_args!("calm"));
        for request in self.process.under_way() {
            self.process.abort(request);
        }
        // A paused worker goes on, and one without a VM gets one at a request.
        self.pass(Duration::from_millis(700))?;
        for _ in 0..4 {
            for worker in 0..WORKERS {
                self.send(Request::get("/").at(worker).aborts_after(PATIENCE));
            }
            self.pass(Duration::from_millis(50))?;
        }
        // The lease of a worker that died ends after two seconds. Then two checks in a row, of which each may take its time.
        self.pass(Duration::from_secs(2) + Duration::from_millis(3_500))?;
        self.hear();
        let document = self.documents_agree()?;
        self.document_is_true(&document)?;
        told::ends_in(&self.process, &document, self.with_traps)?;
        self.requests_go_where_the_document_says()
    }

    /// Who is down by an operator's order gets no request though nobody else is left.
    pub(crate) fn orders_have_no_last_resort(&mut self) -> Result<(), Broken> {
        for (state, status) in [("down", 503), ("up", 200)] {
            for (turn, name) in PEERS.iter().enumerate() {
                let path = format!("/upstreams/web/peers/{name}");
                let order = api::request("PATCH", &path, &json!({ "state": state })).at(turn % WORKERS);
                let outcome = self.process.request(order).map_err(|crash| crash.to_string())?;
                if outcome.status != Some(200) {
                    return Err(format!("an order was refused: {outcome:?}"));
                }
            }
            for worker in 0..WORKERS {
                let outcome = self.process.request(Request::get("/").at(worker)).map_err(|crash| crash.to_string())?;
                if outcome.status != Some(status) || outcome.attempts.is_empty() != (state == "down") {
                    return Err(format!("all peers are {state} by order, and a client got {outcome:?}"));
                }
            }
        }
        Ok(())
    }

    /// A change at one worker is there at the next request of the other.
    pub(crate) fn changes_are_seen_at_once(&mut self) -> Result<(), Broken> {
        for (worker, other) in [(0, 1), (1, 0)] {
            let weight = 20 + worker;
            let change =
                api::request("PATCH", "/upstreams/web/peers/10.0.0.4:80", &json!({ "weight": weight })).at(worker);
            let outcome = self.process.request(change).map_err(|crash| crash.to_string())?;
            if outcome.status != Some(200) {
                return Err(format!("a change was refused: {outcome:?}"));
            }
            let seen = &api::upstream(&mut self.process, other)["peers"][3]["weight"];
            if *seen != weight {
                return Err(format!("worker {worker} set weight {weight}, and worker {other} sees {seen}"));
            }
        }
        Ok(())
    }

    /// All is well, and then a peer is not: who is told of the verdict by the log finds every worker going by it.
    pub(crate) fn a_verdict_is_seen_at_once(&mut self) -> Result<(), Broken> {
        let name = PEERS[2];
        self.process.world().peer(name).behaviour = Behaviour::Refuses;
        let line = format!("peer state: upstream=web peer={name} from=");
        let count = |scenario: &Self| scenario.process.logs().iter().filter(|log| log.text.starts_with(&line)).count();
        let before = count(self);
        let failed = api::failures(&mut self.process, 0).of(name, true);
        // Two checks, of which the second is made soon.
        for _ in 0..1_000 {
            self.pass(Duration::from_millis(3))?;
            if count(self) > before {
                break;
            }
        }
        if count(self) == before {
            return Err(format!("{name} refuses for three seconds, and the log does not say so"));
        }
        let more = api::failures(&mut self.process, 0).of(name, true) - failed;
        if (more - FALL).abs() > 0.1 {
            return Err(format!("{name} is down after {more} failed checks"));
        }
        let requests: Vec<_> = (0..8).map(|turn| self.process.send(Request::get("/").at(turn % WORKERS))).collect();
        self.pass(PATIENCE)?;
        for id in requests {
            let attempts = self.process.outcome(id).map(|outcome| outcome.attempts).unwrap_or_default();
            if attempts.is_empty() || attempts.iter().any(|attempt| attempt.address == name) {
                return Err(format!("{name} is down, the log says so, and {id:?} went to {attempts:?}"));
            }
        }
        Ok(())
    }

    /// What all workers say of the upstream.
    pub(crate) fn documents_agree(&mut self) -> Result<Value, Broken> {
        let documents: Vec<Value> = (0..WORKERS).map(|worker| api::upstream(&mut self.process, worker)).collect();
        let settled = |document: &Value| -> Vec<Value> {
            let peers = document["peers"].as_array().expect("peers").iter();
            let of_peers = peers.map(|peer| json!([peer["name"], peer["weight"], peer["state"], peer["in_use"]]));
            of_peers.chain([json!([document["state"], document["since"]])]).collect()
        };
        let (one, other) = (settled(&documents[0]), settled(&documents[1]));
        if one != other {
            return Err(format!("workers disagree: {} and {}", json!(one), json!(other)));
        }
        Ok(documents[0].clone())
    }

    fn document_is_true(&mut self, document: &Value) -> Result<(), Broken> {
        let (mut up, mut out, mut in_play, mut bad, mut ejected) = (0, 0, 0, 0, 0);
        for (at, name) in PEERS.iter().enumerate() {
            let peer = &document["peers"][at];
            let is_usable = peer["state"] == "up" || peer["state"] == "failing";
            if peer["by"] == "operator" {
                if peer["in_use"] == true {
                    return Err(format!("{name} is in use, and an operator took it out: {peer}"));
                }
                out += 1;
                continue;
            }
            let behaviour = self.process.world().peer(name).behaviour;
            let found = (peer["state"] == "down", peer["by"] == format!("monitor {}", self.monitor));
            let is_true = if self.is_found_out(behaviour) { found == (true, true) } else { is_usable };
            if !is_true {
                return Err(format!("{name} {behaviour:?} for long, and that is said of it: {peer}"));
            }
            in_play += 1;
            up += usize::from(is_usable);
            bad += usize::from(!is_usable);
            ejected += usize::from(peer["in_use"] == false);
            if is_usable && peer["in_use"] == false {
                return Err(format!("{name} is well, and not in use: {peer}"));
            }
        }
        let most = (in_play * MOST_EJECTED / 100).max(1).min(usize::saturating_sub(in_play, 1));
        if ejected != bad.min(most) {
            return Err(format!("{ejected} of {in_play} peers are out of use, where {bad} are bad: {document}"));
        }
        let state = match up {
            0 => "down",
            _ if up == in_play => "up",
            _ => "degraded",
        };
        if document["state"] != state || document["peers_up"] != up || document["peers_out"] != out {
            return Err(format!("the upstream is {state}, with {up} peers up and {out} out: {document}"));
        }
        Ok(())
    }

    /// An attempt goes to a peer that is in use; to one that is down for a time when those are used up.
    fn requests_go_where_the_document_says(&mut self) -> Result<(), Broken> {
        for turn in 0..6 {
            let worker = turn % WORKERS;
            let before = api::upstream(&mut self.process, worker);
            let now = self.process.now();
            let id = self.process.send(Request::get("/").at(worker).aborts_after(PATIENCE));
            self.sent.push((id, now));
            self.pass(Duration::from_millis(1))?;
            let after = api::upstream(&mut self.process, worker);
            self.pass(2 * PATIENCE)?;
            let Some(outcome) = self.process.outcome(id) else { return Err(format!("{id:?} never ended")) };
            let is = |name: &str, key: &str, value: Value| {
                let at = PEERS.iter().position(|known| *known == name).unwrap();
                before["peers"][at][key] == value || after["peers"][at][key] == value
            };
            let tried: Vec<&str> = outcome.attempts.iter().map(|attempt| attempt.address.as_str()).collect();
            for (number, name) in tried.iter().enumerate() {
                let others = PEERS.iter().filter(|other| is(other, "in_use", json!(true)));
                let are_used_up = || others.clone().all(|other| tried[..number].contains(other));
                let is_last_resort = || is(name, "state", json!("temporary_down")) && are_used_up();
                if !is(name, "in_use", json!(true)) && !is_last_resort() {
                    return Err(format!("{id:?} went to {tried:?}, of which {name} is not in use: {before}"));
                }
            }
        }
        Ok(())
    }
}
