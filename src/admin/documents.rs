//! Upstreams, peers and monitors as JSON.

use serde::{Serialize, Serializer};

use super::paths::Resource;
use super::refusal::Refusal;
use super::request::{json, to_json, ApiRequest};
use super::snapshot::{Assessed, AssessedPeer, Snapshot};
use crate::host::Response;
use crate::model::error::Error;
use crate::model::failures::PassiveVerdict;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::selector::Selector;
use crate::model::spec::{MonitorSpec, Schedule};
use crate::model::upstream_state::UpstreamState;
use crate::registry::Registry;
use crate::time::format_duration;

#[derive(Serialize)]
struct Upstream<'s> {
    name: &'s str,
    revision: u64,
    peers: Vec<Peer<'s>>,
    monitors: Vec<Monitor<'s>>,
    state: &'static str,
    since: Option<String>,
    by: Option<String>,
    why: Option<String>,
    peers_up: usize,
    peers_out: usize,
    balancer: &'s str,
    retries: u8,
    max_ejected_percent: u8,
    /// What keeps names from being looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'s str>,
}

/// A peer's document. The members of the predecessor's `info()` come first.
#[derive(Serialize)]
struct Peer<'s> {
    name: &'s str,
    address: Option<String>,
    weight: u16,
    state: &'static str,
    in_use: bool,
    host: String,
    port: u16,
    addresses: Vec<String>,
    initial_weight: u16,
    effective_weight: f64,
    by: Option<String>,
    why: Option<String>,
    since: Option<String>,
    until: Option<String>,
    fails: u32,
    max_fails: u32,
    fail_timeout: String,
    max_conns: u32,
    slow_start: String,
    backup: bool,
    configured: bool,
    in_flight: u32,
    picks: u64,
    failures: u64,
    checks: Vec<Check<'s>>,
    description: Option<&'s str>,
    unknown_words: &'s [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "labels")]
    labels: &'s [(String, String)],
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn labels<S: Serializer>(labels: &&[(String, String)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())))
}

#[derive(Serialize)]
struct Check<'s> {
    monitor: &'s str,
    state: &'static str,
    result: &'static str,
    why: Option<&'s str>,
    at: String,
    duration_ms: u32,
}

/// A monitor's document. What it sends to servers may hold a secret: of headers only the names are told, of bodies nothing.
#[derive(Serialize)]
struct Monitor<'s> {
    id: &'s str,
    name: &'s str,
    interval: String,
    timeout: String,
    schedule: &'static str,
    rise: u32,
    fall: u32,
    peers: &'static str,
    port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keepalive: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ok_codes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expect_body: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'s str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<&'s str>,
    /// What keeps it from checking anybody.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'s str>,
}

impl Snapshot {
    /// A monitor's document.
    fn monitor<'s>(&'s self, config: &'s MonitorSpec, registry: &Registry) -> Monitor<'s> {
        let some = |text: &'s str| Some(text).filter(|text| !text.is_empty());
        let grammar = registry.monitor(&config.name).map(|kind| kind.grammar).unwrap_or_default();
        let schedule = Schedule::NAMES.iter().find(|(_, schedule)| *schedule == config.schedule);
        let peers = Selector::NAMES.iter().find(|(_, selector)| *selector == config.peers);
        Monitor {
            id: &config.id,
            name: &config.name,
            interval: format_duration(config.interval),
            timeout: format_duration(config.timeout),
            schedule: schedule.map_or("", |(name, _)| name),
            rise: config.rise,
            fall: config.fall,
            peers: peers.map_or("", |(name, _)| name),
            port: config.port,
            cluster: some(&config.cluster),
            keepalive: config.keepalive.then_some(true),
            url: grammar.http.then_some(&*config.url),
            ok_codes: grammar.http.then(|| config.ok_codes.to_string()),
            method: grammar.request.then_some(&*config.method),
            expect_body: some(&config.expect_body),
            service: grammar.grpc.then_some(&*config.service),
            headers: config.headers.iter().map(|(name, _)| name.as_str()).collect(),
            problem: self.obstacles.of(Some(config)),
        }
    }
}

impl<'s> Assessed<'s> {
    fn peer(&self, assessed: &AssessedPeer<'s>) -> Peer<'s> {
        let AssessedPeer { record: peer, effective, usage } = assessed;
        let Snapshot { health, status, counters, now, .. } = self.snapshot;
        let (failures, said) = (health.of(peer), status.of(peer.id));
        let agent = said.and_then(|said| said.agent.as_ref());
        let counts = counters.of(peer.id);
        let addresses: Vec<String> = peer.addresses(said).iter().map(|address| address.ip().to_string()).collect();
        let endpoint = peer.server.endpoint();
        let (name, port) = peer.server.name.rsplit_once(':').unwrap_or((&peer.server.name, ""));
        let host = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let window = peer.fail_timeout();
        let counted = if failures.verdict(*now, window) == PassiveVerdict::Good { 0 } else { failures.count };
        let failed_checks = said.map_or(0, |said| said.checks.iter().map(|check| check.fails(*now, window).0).sum());
        let kept = usage.note().map(|kept| kept.to_string());
        Peer {
            name: &peer.server.name,
            address: addresses.first().cloned(),
            weight: peer.whole_weight(agent),
            state: effective.state.name(),
            in_use: usage.is_in_use(),
            host: host.to_owned(),
            port: endpoint.map_or_else(|| port.parse().unwrap_or_default(), |endpoint| endpoint.port),
            addresses,
            initial_weight: peer.server.weight,
            effective_weight: self.effective_weight(assessed),
            by: effective.by(),
            why: effective.why().into_iter().chain(kept).reduce(|why, kept| format!("{why}; {kept}")),
            since: effective.since.map(|at| at.to_string()),
            until: effective.until.map(|at| at.to_string()),
            fails: counted.saturating_add(failed_checks),
            max_fails: peer.max_fails(),
            fail_timeout: format_duration(peer.fail_timeout()),
            max_conns: agent.and_then(|agent| agent.max_conns).unwrap_or_else(|| peer.max_conns()),
            slow_start: format_duration(peer.slow_start()),
            backup: peer.server.backup,
            configured: peer.configured,
            in_flight: counters.in_flight(peer.id, *now),
            picks: counts.picks,
            failures: counts.failures.iter().sum::<u64>() + said.map_or(0, PeerStatus::failed_checks),
            checks: checks(said),
            description: agent.map(|agent| agent.description.as_str()).filter(|text| !text.is_empty()),
            unknown_words: agent.map(|agent| agent.unknown.as_slice()).unwrap_or_default(),
            labels: &peer.server.labels,
        }
    }

    /// The upstream's document.
    fn upstream(&self, registry: &Registry) -> Vec<u8> {
        let Snapshot { record, told, .. } = self.snapshot;
        let spec = &record.spec;
        // What was not told yet is told in a moment.
        let told = told.as_ref().filter(|told| told.state == self.tally.state);
        let (by, why) = match told {
            Some(told) => (told.by.clone(), told.why.clone()),
            None => self.tally.reason(record, &self.assessment),
        };
        let is_reason = self.tally.state != UpstreamState::Up;
        to_json(&Upstream {
            name: &record.name,
            revision: record.revision,
            peers: self.peers().map(|peer| self.peer(&peer)).collect(),
            monitors: record.monitors.iter().map(|spec| self.snapshot.monitor(spec, registry)).collect(),
            state: self.tally.state.name(),
            since: told.map(|told| told.since.to_string()),
            by: Some(by).filter(|_| is_reason),
            why: Some(why).filter(|_| is_reason),
            peers_up: self.tally.up,
            peers_out: self.tally.out,
            balancer: &spec.balancer.name,
            retries: spec.retries,
            max_ejected_percent: spec.max_ejected_percent,
            problem: self.snapshot.obstacles.of(None).filter(|_| !spec.resolver.is_empty()),
        })
    }

    /// A peer's document.
    pub(super) fn peer_json(&self, peer: &PeerRecord) -> Vec<u8> {
        let found = self.peers().find(|known| known.record.id == peer.id);
        found.map(|found| to_json(&self.peer(&found))).unwrap_or_default()
    }
}

fn checks(said: Option<&PeerStatus>) -> Vec<Check<'_>> {
    let checks = said.into_iter().flat_map(|said| &said.checks);
    let document = |check: &'_ crate::model::check::Check| -> (&'static str, &'static str) {
        (if check.is_down { "down" } else { "up" }, if check.is_good() { "ok" } else { "failed" })
    };
    let mut documents = Vec::new();
    for check in checks {
        let (state, result) = document(check);
        documents.push(Check {
            monitor: &check.monitor,
            state,
            result,
            why: Some(check.why.as_str()).filter(|why| !why.is_empty()),
            at: check.at.to_string(),
            duration_ms: check.took,
        });
    }
    documents
}

/// Answers a request that only looks.
pub(super) fn get(request: &ApiRequest<'_>) -> Result<Response, Refusal> {
    let registry = request.registry;
    let snapshot = |name: &str| known(request, name);
    match &request.target.resource {
        Resource::Upstreams => {
            let snapshots = Snapshot::all(&request.store, &request.store.index()?)?;
            Ok(json(200, array(snapshots.iter().map(|snapshot| snapshot.assess().upstream(registry)))))
        }
        Resource::Upstream(name) => {
            let snapshot = snapshot(name)?;
            let mut response = json(200, snapshot.assess().upstream(registry));
            response.headers.push(snapshot.etag());
            Ok(response)
        }
        Resource::Peers(name) => {
            let snapshot = snapshot(name)?;
            let selector = match request.target.parameter("selector") {
                None => Selector::All,
                Some(text) => match Selector::NAMES.iter().find(|(name, _)| *name == text) {
                    Some((_, selector)) => *selector,
                    None => {
                        let names = Selector::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
                        return Err(Refusal::new(400, format!("selector: expected one of {names}")));
                    }
                },
            };
            let assessed = snapshot.assess();
            let peers = assessed.peers().filter(|peer| selector.matches(peer.effective.state));
            Ok(json(200, array(peers.map(|peer| to_json(&assessed.peer(&peer))))))
        }
        Resource::Peer(upstream, name) => {
            let snapshot = snapshot(upstream)?;
            Ok(json(200, snapshot.assess().peer_json(snapshot.find(name)?)))
        }
        Resource::Monitors(name) => Ok(json(
            200,
            snapshot(name).map(|snapshot| {
                array(snapshot.record.monitors.iter().map(|config| to_json(&snapshot.monitor(config, registry))))
            })?,
        )),
        Resource::Monitor(upstream, id) => Ok(json(200, monitor_json(&snapshot(upstream)?, registry, id)?)),
        _ => Err(Refusal::new(404, "there is nothing at this address")),
    }
}

/// The document of a monitor.
pub(super) fn monitor_json(snapshot: &Snapshot, registry: &Registry, id: &str) -> Result<Vec<u8>, Error> {
    let found = snapshot.record.monitors.iter().find(|monitor| monitor.id == id);
    found.map(|config| to_json(&snapshot.monitor(config, registry))).ok_or_else(|| Error::NoSuchMonitor(id.to_owned()))
}

/// An array of documents. Put together here, because every further type that is serialized adds some kilobytes to the filter.
fn array(documents: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut text = vec![b'['];
    for document in documents {
        if text.len() > 1 {
            text.push(b',');
        }
        text.extend_from_slice(&document);
    }
    text.push(b']');
    text
}

/// The upstream of that name, if a configuration still has it.
pub(super) fn known(request: &ApiRequest<'_>, name: &str) -> Result<Snapshot, Refusal> {
    if !request.store.index()?.names().contains(&name) {
        return Err(Error::NoSuchUpstream(name.to_owned()).into());
    }
    Ok(Snapshot::read(&request.store, name)?)
}
