//! Upstreams, peers and monitors as JSON.

use crate::model::slow_start;
use crate::model::verdict;
use serde::Serialize;

use super::paths::Resource;
use super::refusal::Refusal;
use super::request::{json, to_json, ApiRequest};
use crate::host::Response;
use crate::model::counters::Counters;
use crate::model::error::Error;
use crate::model::failure_table::FailureTable;
use crate::model::index::Index;
use crate::model::obstacle::Obstacles;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::selector::Selector;
use crate::model::slow_start::FULL_FACTOR;
use crate::model::spec::{MonitorSpec, Schedule};
use crate::model::status::Status;
use crate::model::upstream::Record;
use crate::registry::Registry;
use crate::store::Store;
use crate::time::{format_duration, Timestamp};

/// An upstream with all that is known of it at one moment.
pub(super) struct Snapshot {
    pub(super) record: Record,
    pub(super) health: FailureTable,
    pub(super) status: Status,
    pub(super) counters: Counters,
    obstacles: Obstacles,
    pub(super) now: Timestamp,
}

#[derive(Serialize)]
struct Upstream<'s> {
    name: &'s str,
    revision: u64,
    peers: Vec<Peer<'s>>,
    monitors: Vec<Monitor<'s>>,
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
    /// The upstream of that name as it is now.
    pub(super) fn read(store: &Store<'_>, name: &str) -> Result<Self, Error> {
        let absent = || Error::NoSuchUpstream(name.to_owned());
        let (record, _) = store.record(name)?.ok_or_else(absent)?;
        let (health, status, counters) = (store.health(name)?, store.status(&record)?, store.counters(name)?);
        let obstacles = store.obstacles(name)?;
        Ok(Self { record, health, status, counters, obstacles, now: store.now() })
    }

    /// All upstreams that are listed.
    pub(super) fn all(store: &Store<'_>, index: &Index) -> Result<Vec<Self>, Error> {
        let mut snapshots = Vec::new();
        for name in index.names() {
            match Self::read(store, name) {
                Ok(snapshot) => snapshots.push(snapshot),
                // Listed, and not there any more: shared data was lost in between.
                Err(Error::NoSuchUpstream(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(snapshots)
    }

    /// The peer of that name.
    pub(super) fn find(&self, name: &str) -> Result<&PeerRecord, Error> {
        let named = |name: &str| self.record.peers.iter().find(|peer| peer.server.name == name);
        // Written in another way than the normal one, it is the same peer.
        let normal = || crate::model::server::Endpoint::parse(name, self.record.spec.default_port).ok();
        let found = named(name).or_else(|| named(&normal()?.to_string()));
        found.ok_or_else(|| Error::NoSuchPeer(name.to_owned()))
    }

    pub(super) fn effective_state<'s>(&'s self, peer: &PeerRecord) -> verdict::EffectiveState<'s> {
        verdict::effective_state(peer, &self.health.of(peer), self.status.of(peer.id), self.now)
    }

    /// The weight with slow start and the agent's word; 0 for a peer that gets no requests.
    pub(super) fn effective_weight(&self, peer: &PeerRecord) -> f64 {
        if !self.effective_state(peer).state.is_usable() {
            return 0.0;
        }
        let said = self.status.of(peer.id);
        let (part, _) = slow_start::factor(peer, &self.health.of(peer), said, self.now);
        let hundredths = peer.hundredths(said.and_then(|said| said.agent.as_ref()));
        f64::from(hundredths) / 100.0 * f64::from(part) / f64::from(FULL_FACTOR)
    }

    fn peer<'s>(&'s self, peer: &'s PeerRecord) -> Peer<'s> {
        let (failures, said) = (self.health.of(peer), self.status.of(peer.id));
        let agent = said.and_then(|said| said.agent.as_ref());
        let effective = self.effective_state(peer);
        let counts = self.counters.of(peer.id);
        let addresses: Vec<String> = peer.addresses(said).iter().map(|address| address.ip().to_string()).collect();
        let endpoint = peer.server.endpoint();
        let (name, port) = peer.server.name.rsplit_once(':').unwrap_or((&peer.server.name, ""));
        let host = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let counting = failures.verdict(self.now, peer.fail_timeout()) != crate::model::failures::PassiveVerdict::Good;
        Peer {
            name: &peer.server.name,
            address: addresses.first().cloned(),
            weight: peer.whole_weight(agent),
            state: effective.state.name(),
            host: host.to_owned(),
            port: endpoint.map_or_else(|| port.parse().unwrap_or_default(), |endpoint| endpoint.port),
            addresses,
            initial_weight: peer.server.weight,
            effective_weight: self.effective_weight(peer),
            by: effective.by(),
            why: effective.why(),
            since: effective.since.map(|at| at.to_string()),
            until: effective.until.map(|at| at.to_string()),
            fails: if counting { failures.count } else { 0 },
            max_fails: peer.max_fails(),
            fail_timeout: format_duration(peer.fail_timeout()),
            max_conns: agent.and_then(|agent| agent.max_conns).unwrap_or_else(|| peer.max_conns()),
            slow_start: format_duration(peer.slow_start()),
            backup: peer.server.backup,
            configured: peer.configured,
            in_flight: self.counters.in_flight(peer.id, self.now),
            picks: counts.picks,
            failures: counts.failures.iter().sum::<u64>() + said.map_or(0, PeerStatus::failed_checks),
            checks: checks(said),
            description: agent.map(|agent| agent.description.as_str()).filter(|text| !text.is_empty()),
            unknown_words: agent.map(|agent| agent.unknown.as_slice()).unwrap_or_default(),
        }
    }

    /// The upstream's document.
    fn upstream(&self, registry: &Registry) -> Vec<u8> {
        let spec = &self.record.spec;
        to_json(&Upstream {
            name: &self.record.name,
            revision: self.record.revision,
            peers: self.record.peers.iter().map(|peer| self.peer(peer)).collect(),
            monitors: self.record.monitors.iter().map(|spec| self.monitor(spec, registry)).collect(),
            balancer: &spec.balancer.name,
            retries: spec.retries,
            max_ejected_percent: spec.max_ejected_percent,
            problem: self.obstacles.of(None).filter(|_| !spec.resolver.is_empty()),
        })
    }

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
            url: grammar.http.then_some(&*config.url),
            ok_codes: grammar.http.then(|| config.ok_codes.to_string()),
            method: grammar.request.then_some(&*config.method),
            expect_body: some(&config.expect_body),
            service: grammar.grpc.then_some(&*config.service),
            headers: config.headers.iter().map(|(name, _)| name.as_str()).collect(),
            problem: self.obstacles.of(Some(config)),
        }
    }

    /// A peer's document.
    pub(super) fn peer_json(&self, peer: &PeerRecord) -> Vec<u8> {
        to_json(&self.peer(peer))
    }

    /// The header that names the upstream's revision.
    pub(super) fn etag(&self) -> (&'static str, String) {
        ("etag", format!("\"{}\"", self.record.revision))
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
            Ok(json(200, array(snapshots.iter().map(|snapshot| snapshot.upstream(registry)))))
        }
        Resource::Upstream(name) => {
            let snapshot = snapshot(name)?;
            let mut response = json(200, snapshot.upstream(registry));
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
            let peers = snapshot.record.peers.iter();
            let peers = peers.filter(|peer| selector.matches(snapshot.effective_state(peer).state));
            Ok(json(200, array(peers.map(|peer| snapshot.peer_json(peer)))))
        }
        Resource::Peer(upstream, name) => {
            let snapshot = snapshot(upstream)?;
            Ok(json(200, snapshot.peer_json(snapshot.find(name)?)))
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
