//! The state that all workers share.
//!
//! Shared data knows values under keys, compare-and-swap, and nothing else: no deletion, no listing, no
//! expiry. So an upstream is three values of bounded size. Its [`Record`] is what was declared and ordered, in
//! [postcard](https://postcard.jamesmunns.com)'s format, and changes seldom; its [`Status`] is what monitors, agents and
//! name servers say, in the same format; its [`Health`] is the failures counted, in a few bytes, and changes at any time.
//!
//! Every change reads, decides and writes under compare-and-swap, and does so again if somebody else was
//! faster: no update is lost with any number of workers. After the write the change is announced, and a worker
//! that sees [`Host::version`] differ reads what it uses again. Nothing depends on the announcement: a
//! worker also reads again after each tick.
//!
//! The keys hold the layout's number, [`FORMAT`]. A filter with another layout finds nothing and starts from its
//! configuration, beside the old one.

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::counters::{Counters, Counts};
use crate::health::{most_ejected, Failures, Health, PeerId, Verdict};
use crate::host::{Expect, Host, HostError, Level, Stored};
use crate::peer::{self, Order, PeerRecord, PeerState, Positions, Standing};
use crate::status::{Check, PeerStatus, Resolution, Status};
use crate::time::Timestamp;
use crate::upstream::{Declaration, Record};

/// The layout of what is stored. Another number means other keys.
pub const FORMAT: u32 = 3;

/// The number of a value that is not there: hosts number values from 1.
pub(crate) const NOTHING: u32 = 0;

/// How often a change is tried against others' changes. Each lost try is another's success, so reaching
/// this takes a thousand changes to one upstream within microseconds.
const TRIES: usize = 1_000;

/// Why shared state could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The host refused.
    Host(HostError),
    /// There is no upstream of that name.
    NoSuchUpstream(String),
    /// The upstream has no peer of that name.
    NoSuchPeer(String),
    /// The upstream has a peer of that name already.
    PeerExists(String),
    /// The upstream has as many peers as it can have.
    TooManyPeers(usize),
    /// The upstream has no monitor of that id.
    NoSuchMonitor(String),
    /// The upstream has a monitor of that id already.
    MonitorExists(String),
    /// The upstream has as many monitors as it can have.
    TooManyMonitors(usize),
    /// A value that cannot be; the sentence says why.
    Invalid(String),
    /// The peer's name has no address yet.
    Unresolved(String),
    /// What stands under the key is not ours.
    Corrupt(String),
    /// The upstream is of another revision than was expected: this one.
    Revision(u64),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(error) => error.fmt(f),
            Self::NoSuchUpstream(name) => write!(f, "there is no upstream {name:?}"),
            Self::NoSuchPeer(name) => write!(f, "the upstream has no peer {name:?}"),
            Self::PeerExists(name) => write!(f, "the upstream already has a peer {name:?}"),
            Self::TooManyPeers(most) => write!(f, "an upstream can have at most {most} peers"),
            Self::NoSuchMonitor(id) => write!(f, "the upstream has no monitor {id:?}"),
            Self::MonitorExists(id) => write!(f, "the upstream already has a monitor {id:?}"),
            Self::TooManyMonitors(most) => write!(f, "an upstream can have at most {most} monitors"),
            Self::Invalid(message) => f.write_str(message),
            Self::Unresolved(name) => write!(f, "{name:?} has no address yet"),
            Self::Revision(found) => write!(f, "the upstream is at revision {found} now"),
            Self::Corrupt(key) => write!(f, "the value of {key:?} in shared data is not one of this filter's"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<HostError> for StoreError {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}

/// The shared state, through one host.
#[derive(Clone, Copy)]
pub struct Store<'h> {
    host: &'h dyn Host,
    /// Changes of records happen only at these revisions, in the form of the header `If-Match`.
    only_if: Option<&'h str>,
}

impl<'h> Store<'h> {
    /// The state that `host` shares among its workers.
    #[must_use]
    pub fn new(host: &'h dyn Host) -> Self {
        Self { host, only_if: None }
    }

    /// The same, where records are changed only if they are at a revision that `condition` names: `*`, or `"7", "8"`
    /// (RFC 9110, section 13.1.1).
    pub(crate) fn only_if(self, condition: Option<&'h str>) -> Self {
        Self { only_if: condition, ..self }
    }

    /// Whether a change may be made to a record of this revision.
    pub(crate) fn expect_revision(&self, revision: u64) -> Result<(), StoreError> {
        let tag = format!("\"{revision}\"");
        let names =
            |condition: &str| condition.split(',').any(|one| matches!(one.trim(), one if one == "*" || one == tag));
        match self.only_if {
            Some(condition) if !names(condition) => Err(StoreError::Revision(revision)),
            _ => Ok(()),
        }
    }

    /// Removes a monitor, and what it found.
    pub(crate) fn remove_monitor(&self, upstream: &str, id: &str) -> Result<Record, StoreError> {
        let record = self.update_record(upstream, |record| {
            record.remove_monitor(id)?;
            Ok(record.clone())
        })?;
        self.update_status(upstream, |status| {
            status.retain(|_, status| {
                status.checks.retain(|check| check.monitor != id);
                status.agent = status.agent.take().filter(|agent| agent.monitor != id);
                true
            });
        })?;
        Ok(record)
    }

    /// Forgets the weight that a peer's agent asked for, because somebody set another one: the latest word counts, and the
    /// agent may have the next.
    pub(crate) fn overrule_weight(&self, upstream: &str, peer: PeerId) -> Result<(), StoreError> {
        self.update_status(upstream, |status| {
            if status.of(peer).is_some_and(|status| status.agent.is_some()) {
                status.change(peer, |status| {
                    // At 0 it is a verdict: the agent lets the peer drain.
                    if let Some(agent) = status.agent.as_mut().filter(|agent| !agent.is_weightless()) {
                        agent.weight = None;
                    }
                });
            }
        })
    }

    /// Forgets all that anybody but the operator has against a peer.
    pub(crate) fn pardon(&self, upstream: &str, peer: PeerId) -> Result<(), StoreError> {
        self.update_health(upstream, |health| health.set(peer, Failures::default()))?;
        self.update_status(upstream, |status| status.pardon(peer))
    }

    pub(crate) fn host(&self) -> &'h dyn Host {
        self.host
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.host.now()
    }

    /// An upstream's record, with its compare-and-swap number.
    pub(crate) fn record(&self, upstream: &str) -> Result<Option<(Record, u32)>, StoreError> {
        match self.record_since(upstream, None)? {
            Fresh::New(record, cas) => Ok(Some((record, cas))),
            Fresh::Absent | Fresh::Same => Ok(None),
        }
    }

    /// An upstream's record, if its number is not `known` any more.
    pub(crate) fn record_since(&self, upstream: &str, known: Option<u32>) -> Result<Fresh<Record>, StoreError> {
        let key = record_key(upstream);
        match self.host.read(&key)? {
            None => Ok(Fresh::Absent),
            Some(stored) if Some(stored.cas) == known => Ok(Fresh::Same),
            Some(stored) => match Record::decode(&stored.value).filter(|record| record.name == upstream) {
                Some(record) => Ok(Fresh::New(record, stored.cas)),
                None => Err(StoreError::Corrupt(key)),
            },
        }
    }

    /// The failures counted in an upstream, if their number is not `known` any more.
    pub(crate) fn health_since(&self, upstream: &str, known: Option<u32>) -> Result<Fresh<Health>, StoreError> {
        match self.host.read(&health_key(upstream))? {
            None => Ok(Fresh::Absent),
            Some(stored) if Some(stored.cas) == known => Ok(Fresh::Same),
            // Counters that cannot be read are no reason to fail a request. The next failure writes new ones.
            Some(stored) => Ok(Fresh::New(Health::decode(&stored.value).unwrap_or_default(), stored.cas)),
        }
    }

    /// The failures counted in an upstream.
    pub(crate) fn health(&self, upstream: &str) -> Result<Health, StoreError> {
        match self.health_since(upstream, None)? {
            Fresh::New(health, _) => Ok(health),
            Fresh::Absent | Fresh::Same => Ok(Health::default()),
        }
    }

    /// Changes an upstream's record. What `change` leaves as it was is not written.
    pub(crate) fn update_record<R>(
        &self,
        upstream: &str,
        mut change: impl FnMut(&mut Record) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.retry(|| {
            let stored = self.record(upstream)?;
            let (before, cas) = stored.ok_or_else(|| StoreError::NoSuchUpstream(upstream.to_owned()))?;
            self.expect_revision(before.revision)?;
            let mut record = before.clone();
            let result = change(&mut record)?;
            if record != before {
                record.revision = before.revision.wrapping_add(1);
                self.host.write(&record_key(upstream), &record.encode(), Expect::Cas(cas))?;
                self.host.announce();
            }
            Ok(result)
        })
    }

    /// Makes a declaration count, unless it did already: an upstream that is not there is made, one that is
    /// there is changed where the declaration changed.
    pub(crate) fn declare(&self, upstream: &str, declaration: &Declaration<'_>) -> Result<(), StoreError> {
        let key = record_key(upstream);
        let rival = self.retry(|| {
            let (before, expect) = match self.host.read(&key)? {
                None => (None, Expect::Nothing),
                Some(stored) => (Record::decode(&stored.value), Expect::Cas(stored.cas)),
            };
            let before = match before.filter(|record| record.name == upstream) {
                None if expect != Expect::Nothing => {
                    let error = StoreError::Corrupt(key.clone());
                    self.host
                        .log(Level::Error, &format!("{error}; upstream {upstream:?} starts from its configuration"));
                    None
                }
                before => before,
            };
            let mut record = before.unwrap_or_else(|| Record::new(upstream));
            if record.is_declared(declaration) {
                return Ok(None);
            }
            let rival = record.declare(declaration);
            record.revision = record.revision.wrapping_add(1);
            self.host.write(&key, &record.encode(), expect)?;
            self.host.announce();
            Ok(rival)
        })?;
        if let Some(rival) = rival {
            self.host.log(
                Level::Warn,
                &format!(
                    "upstream {upstream:?} is defined differently by {rival:?} and by {:?}: the definition of the latter \
                     counts from now on",
                    declaration.instance
                ),
            );
        }
        Ok(())
    }

    /// Changes the failures counted in an upstream.
    pub(crate) fn update_health<R>(
        &self,
        upstream: &str,
        change: impl FnMut(&mut Health) -> R,
    ) -> Result<R, StoreError> {
        self.update(&health_key(upstream), Health::decode, |health| health.encode(), true, change)
    }

    /// What is said of an upstream's peers, as it concerns those in `record`, if its number is not `known` any more. The
    /// number is [`NOTHING`] while nothing is said.
    pub(crate) fn status_since(&self, record: &Record, known: Option<u32>) -> Result<Fresh<Status>, StoreError> {
        self.status_unless(record, |stored| known == Some(stored.map_or(NOTHING, |stored| stored.cas)))
    }

    /// The same, if anything that matters for the use of peers differs from what is `known` under that number.
    pub(crate) fn status_turned(
        &self,
        record: &Record,
        known: &Status,
        number: Option<u32>,
    ) -> Result<Fresh<Status>, StoreError> {
        self.status_unless(record, |stored| match (stored, number) {
            (_, None) => false,
            (None, Some(number)) => number == NOTHING,
            (Some(stored), Some(number)) => {
                stored.cas == number || (number != NOTHING && !known.is_turned(&stored.value))
            }
        })
    }

    fn status_unless(
        &self,
        record: &Record,
        is_same: impl Fn(Option<&Stored>) -> bool,
    ) -> Result<Fresh<Status>, StoreError> {
        let stored = self.host.read(&status_key(&record.name))?;
        if is_same(stored.as_ref()) {
            return Ok(Fresh::Same);
        }
        let cas = stored.as_ref().map_or(NOTHING, |stored| stored.cas);
        let mut status = stored.and_then(|stored| Status::decode(&stored.value)).unwrap_or_default();
        status.restrict(record);
        Ok(Fresh::New(status, cas))
    }

    /// What is said of an upstream's peers.
    pub(crate) fn status(&self, record: &Record) -> Result<Status, StoreError> {
        match self.status_since(record, None)? {
            Fresh::New(status, _) => Ok(status),
            Fresh::Absent | Fresh::Same => Ok(Status::default()),
        }
    }

    /// Changes what is said of an upstream's peers, and announces that.
    pub(crate) fn update_status<R>(
        &self,
        upstream: &str,
        change: impl FnMut(&mut Status) -> R,
    ) -> Result<R, StoreError> {
        let encode = |status: &mut Status| {
            status.turn();
            status.encode()
        };
        self.update(&status_key(upstream), Status::decode, encode, true, change)
    }

    /// Writes what is said of an upstream's peers, unless somebody else did since the value of that number was read.
    pub(crate) fn write_status(&self, upstream: &str, status: &Status, known: u32) -> Result<(), StoreError> {
        let expect = if known == NOTHING { Expect::Nothing } else { Expect::Cas(known) };
        Ok(self.host.write(&status_key(upstream), &status.encode(), expect)?)
    }

    /// The number of what is said of an upstream's peers, if that is `status`; otherwise `known`, with which nothing can be
    /// written any more.
    pub(crate) fn status_number(&self, upstream: &str, status: &Status, known: u32) -> Result<u32, StoreError> {
        let stored = self.host.read(&status_key(upstream))?;
        Ok(stored.filter(|stored| stored.value == status.encode()).map_or(known, |stored| stored.cas))
    }

    /// Counts one failure against a peer of an upstream, of a request or of a check: what was counted before and after it.
    ///
    /// No more peers go out of use by this than `max_ejected_percent` allows; one that would be too many is counted and
    /// stays. Those that an operator or an agent took out of use do not matter here.
    pub(crate) fn add_fail(
        &self,
        record: &Record,
        peer: &PeerRecord,
        status: &Status,
        is_check: bool,
    ) -> Result<(Failures, Failures), StoreError> {
        self.update_health(&record.name, |health| {
            let now = self.now();
            let before = health.of(peer.id);
            let mut after = before.and_one(now, peer.max_fails(), peer.fail_timeout(), is_check);
            let is_down =
                |failures: &Failures| matches!(failures.verdict(now, peer.fail_timeout()), Verdict::Down { .. });
            if is_down(&after) && !is_down(&before) {
                let is_ejected = status.of(peer.id).and_then(PeerStatus::down_by).is_some();
                if !is_ejected && !may_eject(record, health, status, peer.id, now) {
                    after.until = Timestamp::default();
                }
            }
            health.set(peer.id, after);
            (before, after)
        })
    }

    /// Takes back the failures that checks counted against a peer, because its monitors find it well. Returns what was
    /// counted before and after that.
    pub(crate) fn forgive_checks(
        &self,
        record: &Record,
        peer: &PeerRecord,
    ) -> Result<(Failures, Failures), StoreError> {
        self.update_health(&record.name, |health| {
            let before = health.of(peer.id);
            let after = before.without_checks(self.now(), peer.max_fails(), peer.fail_timeout());
            health.set(peer.id, after);
            (before, after)
        })
    }

    /// Forgets failures that no longer count, and those of peers that are gone. Returns the peers that are back
    /// through this call, and through no other worker's, with what was counted against them.
    pub(crate) fn settle(&self, record: &Record) -> Result<Vec<(PeerId, Failures)>, StoreError> {
        let positions = Positions::of(&record.peers);
        self.update_health(&record.name, |health| {
            let now = self.now();
            let mut back = Vec::new();
            health.retain(|id, failures| {
                let Some(peer) = positions.get(id).and_then(|at| record.peers.get(at)) else {
                    // A younger peer than any in this record was added after it was read.
                    return id.0 >= record.next_id;
                };
                if failures.verdict(now, peer.fail_timeout()) == Verdict::Good {
                    if failures.count > 0 && failures.until != Timestamp::default() {
                        back.push((id, *failures));
                        // Back, and slowly: since when is all that matters of it from now on.
                        let since = failures.back_since(now).unwrap_or(now);
                        *failures = Failures { since, ..Failures::default() };
                    }
                    return failures.count == 0 && failures.counts(now, peer.fail_timeout(), peer.slow_start());
                }
                true
            });
            back
        })
    }

    /// What happened at an upstream's peers.
    pub(crate) fn counters(&self, upstream: &str) -> Result<Counters, StoreError> {
        let stored = self.host.read(&counters_key(upstream))?;
        Ok(stored.and_then(|stored| postcard::from_bytes(&stored.value).ok()).unwrap_or_default())
    }

    /// Adds what a worker counted. Nobody has to know at once, so that is not announced.
    pub(crate) fn add_counters(
        &self,
        record: &Record,
        worker: u64,
        counted: &[(PeerId, Counts, u32)],
    ) -> Result<(), StoreError> {
        let peers = Positions::of(&record.peers);
        let decode = |bytes: &[u8]| postcard::from_bytes(bytes).ok();
        let encode = |counters: &mut Counters| postcard::to_allocvec(counters).unwrap_or_default();
        self.update(&counters_key(&record.name), decode, encode, false, |counters| {
            counters.add(worker, self.now(), counted);
            // A younger peer than any in this record was added after it was read.
            counters.retain(|peer| peers.get(peer).is_some() || peer.0 >= record.next_id);
        })
    }

    /// Says which upstreams an instance of the filter has, by its latest configuration.
    pub(crate) fn register(
        &self,
        instance: &str,
        configuration: u64,
        connection: Option<u64>,
        names: &[&str],
    ) -> Result<(), StoreError> {
        self.update_index(|index| index.register(instance, configuration, connection, names))
    }

    /// Notes that this configuration serves a connection, unless it is known to have served one.
    pub(crate) fn note_connection(&self, instance: &str, configuration: u64, id: u64) -> Result<(), StoreError> {
        self.update_index(|index| {
            let entry = index.instances.iter_mut().find(|entry| entry.name == instance);
            let is_ours = |entry: &&mut Instance| entry.configuration == configuration && entry.connection.is_none();
            if let Some(entry) = entry.filter(is_ours) {
                entry.connection = Some(id);
            }
        })
    }

    /// The upstreams that there are.
    pub(crate) fn index(&self) -> Result<Index, StoreError> {
        let stored = self.host.read(&index_key())?;
        Ok(stored.and_then(|stored| Index::decode(&stored.value)).unwrap_or_default())
    }

    fn update_index(&self, change: impl FnMut(&mut Index)) -> Result<(), StoreError> {
        let encode = |index: &mut Index| postcard::to_allocvec(index).unwrap_or_default();
        self.update(&index_key(), Index::decode, encode, false, change)
    }

    /// Changes a value, or the one that there would be if there is none. What `change` leaves as it was is not written.
    fn update<T: Clone + Default + PartialEq, R>(
        &self,
        key: &str,
        decode: impl Fn(&[u8]) -> Option<T>,
        encode: impl Fn(&mut T) -> Vec<u8>,
        announce: bool,
        mut change: impl FnMut(&mut T) -> R,
    ) -> Result<R, StoreError> {
        self.retry(|| {
            let stored = self.host.read(key)?;
            let expect = stored.as_ref().map_or(Expect::Nothing, |stored| Expect::Cas(stored.cas));
            let before = stored.and_then(|stored| decode(&stored.value)).unwrap_or_default();
            let mut after = before.clone();
            let result = change(&mut after);
            if after != before {
                self.host.write(key, &encode(&mut after), expect)?;
                if announce {
                    self.host.announce();
                }
            }
            Ok(result)
        })
    }

    fn retry<R>(&self, mut attempt: impl FnMut() -> Result<R, StoreError>) -> Result<R, StoreError> {
        for _ in 1..TRIES {
            match attempt() {
                Err(StoreError::Host(HostError::Conflict)) => {}
                result => return result,
            }
        }
        attempt()
    }

    /// Writes the line that tells of a peer's new state, if it is one: by whose word, and why.
    pub(crate) fn report(&self, upstream: &str, peer: &str, change: [PeerState; 2], by: &str, why: &str) {
        let [from, to] = change;
        if from == to {
            return;
        }
        let level = if to.is_usable() { Level::Info } else { Level::Warn };
        let by = if by.contains(char::is_whitespace) { format!("{by:?}") } else { by.to_owned() };
        self.host.log(
            level,
            &format!("peer state: upstream={upstream} peer={peer} from={from} to={to} by={by} why={why:?}"),
        );
    }

    /// Counts a failure, logs it, and returns whether it took the peer out of use. `status` is what is said of the upstream's peers.
    pub(crate) fn fail(
        &self,
        record: &Record,
        peer: &PeerRecord,
        status: &Status,
        why: &dyn fmt::Display,
        is_check: bool,
    ) -> Result<bool, StoreError> {
        let (before, after) = self.add_fail(record, peer, status, is_check)?;
        let upstream = &record.name;
        let now = self.now();
        let said = status.of(peer.id);
        let state = |failures: &Failures| -> Standing<'_> { peer::standing(peer, failures, said, now) };
        let (from, to) = (state(&before).state, state(&after).state);
        let name = &peer.server.name;
        let within = crate::time::format_duration(peer.fail_timeout());
        let count = after.count;
        if to.is_usable() || from == to {
            let line = format!("upstream={upstream} peer={name} failed: {why}; failure {count} within {within}");
            // The failure that would have taken it out of use, had not too many been out of use already.
            let spared = count == peer.max_fails() && to.is_usable() && peer.max_fails() > 0;
            if spared {
                let why = "stays in use: max_ejected_percent of the upstream are out of use";
                self.host.log(Level::Warn, &format!("{line}; {why}"));
            } else {
                self.host.log(Level::Debug, &line);
            }
        } else {
            let why = format!("{why}; failure {count} within {within}");
            self.report(upstream, name, [from, to], "passive", &why);
        }
        Ok(from.is_usable() && !to.is_usable())
    }
}

/// Whether failures, of requests or of checks, may take this peer out of use: not if they have done that to as many
/// others as `max_ejected_percent` allows. Whom an operator or an agent took out of use does not matter here.
pub(crate) fn may_eject(record: &Record, health: &Health, status: &Status, peer: PeerId, now: Timestamp) -> bool {
    let is_in_play = |peer: &&PeerRecord| {
        let agent = status.of(peer.id).and_then(|status| status.agent.as_ref());
        let name = status.of(peer.id).and_then(|status| status.name.as_ref());
        let is_known = name.is_none_or(|name| name.gone.is_none() && !name.addresses.is_empty());
        is_known && peer.order(now).0 == Order::Up && !agent.is_some_and(|agent| agent.is_down() || agent.is_draining())
    };
    let is_out = |other: &&PeerRecord| {
        let verdict = health.of(other.id).verdict(now, other.fail_timeout());
        matches!(verdict, Verdict::Down { .. }) || status.of(other.id).and_then(PeerStatus::down_by).is_some()
    };
    let in_play = || record.peers.iter().filter(is_in_play);
    let others = in_play().filter(|other| other.id != peer).filter(is_out).count();
    others < most_ejected(in_play().count(), record.config.max_ejected_percent)
}

impl Status {
    /// Leaves out what concerns peers and monitors that are gone, and says of names that nobody has resolved that it is so.
    pub(crate) fn restrict(&mut self, record: &Record) {
        let is_there = |id: &str| record.monitors.iter().any(|monitor| monitor.id == id);
        let is_same = |check: &Check| record.monitors.iter().any(|m| m.id == check.monitor && m.name == check.kind);
        let peers = Positions::of(&record.peers);
        self.retain(|peer, status| {
            status.checks.retain(is_same);
            status.agent = status.agent.take().filter(|agent| is_there(&agent.monitor));
            peers.get(peer).is_some()
        });
        if record.config.resolver.is_empty() {
            return;
        }
        for peer in record.peers.iter().filter(|peer| peer.host_name().is_some()) {
            self.change(peer.id, |status| {
                let unresolved =
                    || Resolution { error: "the name is not resolved yet".to_owned(), ..Default::default() };
                status.name.get_or_insert_with(unresolved);
            });
        }
    }
}

/// The upstreams of all instances of the filter, because shared data cannot be listed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    instances: Vec<Instance>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Instance {
    name: String,
    configuration: u64,
    /// Counts its configurations.
    generation: u64,
    /// A connection that this configuration served: connections are numbered in the order in which they are accepted.
    connection: Option<u64>,
    upstreams: Vec<String>,
}

impl Index {
    fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    /// Takes in a configuration, if it is a new one.
    fn register(&mut self, name: &str, configuration: u64, connection: Option<u64>, upstreams: &[&str]) {
        let upstreams: Vec<String> = upstreams.iter().map(|name| (*name).to_owned()).collect();
        match self.instances.iter_mut().find(|instance| instance.name == name) {
            Some(known) if known.configuration == configuration => {}
            Some(known) => {
                (known.configuration, known.upstreams, known.connection) = (configuration, upstreams, connection);
                known.generation = known.generation.wrapping_add(1);
            }
            None => {
                let name = name.to_owned();
                self.instances.push(Instance { name, configuration, generation: 1, connection, upstreams });
            }
        }
    }

    /// The configuration that an instance has by now, with a connection that it is known to have served.
    pub(crate) fn configuration(&self, instance: &str) -> Option<(u64, Option<u64>)> {
        let entry = self.instances.iter().find(|entry| entry.name == instance)?;
        Some((entry.configuration, entry.connection))
    }

    /// Their names, none twice.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let names = self.instances.iter().flat_map(|instance| &instance.upstreams).map(String::as_str);
        names.filter(|name| seen.insert(*name)).collect()
    }

    /// How many configurations there were, of all instances together.
    pub(crate) fn generation(&self) -> u64 {
        self.instances.iter().map(|instance| instance.generation).sum()
    }
}

/// What a read found, compared with what was known.
pub(crate) enum Fresh<T> {
    /// Nothing.
    Absent,
    /// What was known.
    Same,
    /// Something else, and its compare-and-swap number.
    New(T, u32),
}

fn record_key(upstream: &str) -> String {
    format!("durpina/{FORMAT}/upstream/{upstream}")
}

fn counters_key(upstream: &str) -> String {
    format!("durpina/{FORMAT}/counters/{upstream}")
}

fn index_key() -> String {
    format!("durpina/{FORMAT}/index")
}

fn status_key(upstream: &str) -> String {
    format!("durpina/{FORMAT}/status/{upstream}")
}

fn health_key(upstream: &str) -> String {
    format!("durpina/{FORMAT}/health/{upstream}")
}
