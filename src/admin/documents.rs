//! Upstreams, peers and monitors as JSON.

use serde::Serialize;

use super::paths::Resource;
use super::{json, to_json, Ask, Refusal};
use crate::balancer::FULL;
use crate::counters::Counters;
use crate::health::Health;
use crate::host::Response;
use crate::monitor::{kind_named, MonitorConfig, Schedule};
use crate::peer::{self, PeerRecord, Selector};
use crate::status::{PeerStatus, Status};
use crate::store::{Index, Store, StoreError};
use crate::time::{format_duration, Timestamp};
use crate::upstream::Record;

/// An upstream with all that is known of it at one moment.
pub(super) struct Snapshot {
    pub(super) record: Record,
    pub(super) health: Health,
    pub(super) status: Status,
    pub(super) counters: Counters,
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
    url: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ok_codes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'s str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<&'s str>,
}

impl Snapshot {
    /// The upstream of that name as it is now.
    pub(super) fn take(store: &Store<'_>, name: &str) -> Result<Self, StoreError> {
        let absent = || StoreError::NoSuchUpstream(name.to_owned());
        let (record, _) = store.record(name)?.ok_or_else(absent)?;
        let (health, status, counters) = (store.health(name)?, store.status(&record)?, store.counters(name)?);
        Ok(Self { record, health, status, counters, now: store.now() })
    }

    /// All upstreams that are listed.
    pub(super) fn all(store: &Store<'_>, index: &Index) -> Result<Vec<Self>, StoreError> {
        let mut snapshots = Vec::new();
        for name in index.names() {
            match Self::take(store, name) {
                Ok(snapshot) => snapshots.push(snapshot),
                // Listed, and not there any more: shared data was lost in between.
                Err(StoreError::NoSuchUpstream(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(snapshots)
    }

    /// The peer of that name.
    pub(super) fn find(&self, name: &str) -> Result<&PeerRecord, StoreError> {
        let named = |name: &str| self.record.peers.iter().find(|peer| peer.server.name == name);
        // Written in another way than the normal one, it is the same peer.
        let normal = || crate::server::Endpoint::parse(name, self.record.config.default_port).ok();
        let found = named(name).or_else(|| named(&normal()?.to_string()));
        found.ok_or_else(|| StoreError::NoSuchPeer(name.to_owned()))
    }

    pub(super) fn standing<'s>(&'s self, peer: &PeerRecord) -> peer::Standing<'s> {
        peer::standing(peer, &self.health.of(peer.id), self.status.of(peer.id), self.now)
    }

    /// The weight with slow start and the agent's word; 0 for a peer that gets no requests.
    pub(super) fn effective_weight(&self, peer: &PeerRecord) -> f64 {
        if !self.standing(peer).state.is_usable() {
            return 0.0;
        }
        let said = self.status.of(peer.id);
        let (part, _) = peer::part(peer, &self.health.of(peer.id), said, self.now);
        let hundredths = peer.hundredths(said.and_then(|said| said.agent.as_ref()));
        f64::from(hundredths) / 100.0 * f64::from(part) / f64::from(FULL)
    }

    fn peer<'s>(&'s self, peer: &'s PeerRecord) -> Peer<'s> {
        let (failures, said) = (self.health.of(peer.id), self.status.of(peer.id));
        let agent = said.and_then(|said| said.agent.as_ref());
        let standing = self.standing(peer);
        let counts = self.counters.of(peer.id);
        let addresses: Vec<String> = peer.addresses(said).iter().map(|address| address.ip().to_string()).collect();
        let endpoint = peer.server.endpoint();
        let (name, port) = peer.server.name.rsplit_once(':').unwrap_or((&peer.server.name, ""));
        let host = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let counting = failures.verdict(self.now, peer.fail_timeout()) != crate::health::Verdict::Good;
        Peer {
            name: &peer.server.name,
            address: addresses.first().cloned(),
            weight: peer.whole_weight(agent),
            state: standing.state.name(),
            host: host.to_owned(),
            port: endpoint.map_or_else(|| port.parse().unwrap_or_default(), |endpoint| endpoint.port),
            addresses,
            initial_weight: peer.server.weight,
            effective_weight: self.effective_weight(peer),
            by: standing.by(),
            why: standing.why(),
            since: standing.since.map(|at| at.to_string()),
            until: standing.until.map(|at| at.to_string()),
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
        }
    }

    /// The upstream's document.
    fn upstream(&self) -> Vec<u8> {
        let config = &self.record.config;
        to_json(&Upstream {
            name: &self.record.name,
            revision: self.record.revision,
            peers: self.record.peers.iter().map(|peer| self.peer(peer)).collect(),
            monitors: self.record.monitors.iter().map(monitor).collect(),
            balancer: &config.balancer.name,
            retries: config.retries,
            max_ejected_percent: config.max_ejected_percent,
        })
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
    let document = |check: &'_ crate::status::Check| -> (&'static str, &'static str) {
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

fn monitor(config: &MonitorConfig) -> Monitor<'_> {
    let grammar = kind_named(&config.name).map(|kind| kind.grammar).unwrap_or_default();
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
        url: grammar.http.then_some(&*config.url),
        ok_codes: grammar.http.then(|| config.ok_codes.to_string()),
        method: grammar.request.then_some(&*config.method),
        headers: config.headers.iter().map(|(name, _)| name.as_str()).collect(),
    }
}

/// Answers a request that only looks.
pub(super) fn get(ask: &Ask<'_>) -> Result<Response, Refusal> {
    let snapshot = |name: &str| known(ask, name);
    match &ask.target.resource {
        Resource::Upstreams => {
            let snapshots = Snapshot::all(&ask.store, &ask.store.index()?)?;
            Ok(json(200, array(snapshots.iter().map(Snapshot::upstream))))
        }
        Resource::Upstream(name) => {
            let snapshot = snapshot(name)?;
            let mut response = json(200, snapshot.upstream());
            response.headers.push(snapshot.etag());
            Ok(response)
        }
        Resource::Peers(name) => {
            let snapshot = snapshot(name)?;
            let selector = match ask.target.parameter("selector") {
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
            let peers = peers.filter(|peer| selector.matches(snapshot.standing(peer).state));
            Ok(json(200, array(peers.map(|peer| snapshot.peer_json(peer)))))
        }
        Resource::Peer(upstream, name) => {
            let snapshot = snapshot(upstream)?;
            Ok(json(200, snapshot.peer_json(snapshot.find(name)?)))
        }
        Resource::Monitors(name) => {
            Ok(json(200, array(snapshot(name)?.record.monitors.iter().map(|config| to_json(&monitor(config))))))
        }
        Resource::Monitor(upstream, id) => Ok(json(200, monitor_json(&snapshot(upstream)?, id)?)),
        _ => Err(Refusal::new(404, "there is nothing at this address")),
    }
}

/// The document of a monitor.
pub(super) fn monitor_json(snapshot: &Snapshot, id: &str) -> Result<Vec<u8>, StoreError> {
    let found = snapshot.record.monitors.iter().find(|monitor| monitor.id == id);
    found.map(|config| to_json(&monitor(config))).ok_or_else(|| StoreError::NoSuchMonitor(id.to_owned()))
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
pub(super) fn known(ask: &Ask<'_>, name: &str) -> Result<Snapshot, Refusal> {
    if !ask.store.index()?.names().contains(&name) {
        return Err(StoreError::NoSuchUpstream(name.to_owned()).into());
    }
    Ok(Snapshot::take(&ask.store, name)?)
}
