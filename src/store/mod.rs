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

pub(crate) mod index;
pub(crate) mod journal;

use crate::model::error::Error;
use crate::model::verdict;
use crate::store::index::Index;
use std::fmt;

use crate::host::{Expect, Host, HostError, Stored};
use crate::model::counters::{Counters, Counts};
use crate::model::ejection::may_eject;
use crate::model::failures::{FailureTable, Failures, PassiveVerdict};
use crate::model::id::PeerId;
use crate::model::peer::{PeerRecord, Positions};
use crate::model::status::{PeerStatus, Status};
use crate::model::upstream::{Declaration, Record};
use crate::model::verdict::EffectiveState;
use crate::time::Timestamp;

/// The layout of what is stored. Another number means other keys.
pub const FORMAT: u32 = 4;

/// The number of a value that is not there: hosts number values from 1.
pub(crate) const NOTHING: u32 = 0;

/// How often a change is tried against others' changes. Each lost try is another's success, so reaching
/// this takes a thousand changes to one upstream within microseconds.
const TRIES: usize = 1_000;

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
    pub(crate) fn expect_revision(&self, revision: u64) -> Result<(), Error> {
        let tag = format!("\"{revision}\"");
        let names =
            |condition: &str| condition.split(',').any(|one| matches!(one.trim(), one if one == "*" || one == tag));
        match self.only_if {
            Some(condition) if !names(condition) => Err(Error::Revision(revision)),
            _ => Ok(()),
        }
    }

    /// Removes a monitor, and what it found.
    pub(crate) fn remove_monitor(&self, upstream: &str, id: &str) -> Result<Record, Error> {
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
    pub(crate) fn overrule_weight(&self, upstream: &str, peer: PeerId) -> Result<(), Error> {
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
    pub(crate) fn reset(&self, upstream: &str, peer: PeerId) -> Result<(), Error> {
        self.update_health(upstream, |health| health.set(peer, Failures::default()))?;
        self.update_status(upstream, |status| status.reset(peer))
    }

    pub(crate) fn host(&self) -> &'h dyn Host {
        self.host
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.host.now()
    }

    /// An upstream's record, with its compare-and-swap number.
    pub(crate) fn record(&self, upstream: &str) -> Result<Option<(Record, u32)>, Error> {
        match self.record_since(upstream, None)? {
            Read::Changed(record, cas) => Ok(Some((record, cas))),
            Read::Missing | Read::Unchanged => Ok(None),
        }
    }

    /// An upstream's record, if its number is not `known` any more.
    pub(crate) fn record_since(&self, upstream: &str, known: Option<u32>) -> Result<Read<Record>, Error> {
        let key = record_key(upstream);
        match self.host.read(&key)? {
            None => Ok(Read::Missing),
            Some(stored) if Some(stored.cas) == known => Ok(Read::Unchanged),
            Some(stored) => match Record::decode(&stored.value).filter(|record| record.name == upstream) {
                Some(record) => Ok(Read::Changed(record, stored.cas)),
                None => Err(Error::Corrupt(key)),
            },
        }
    }

    /// The failures counted in an upstream, if their number is not `known` any more.
    pub(crate) fn health_since(&self, upstream: &str, known: Option<u32>) -> Result<Read<FailureTable>, Error> {
        match self.host.read(&health_key(upstream))? {
            None => Ok(Read::Missing),
            Some(stored) if Some(stored.cas) == known => Ok(Read::Unchanged),
            // Counters that cannot be read are no reason to fail a request. The next failure writes new ones.
            Some(stored) => Ok(Read::Changed(FailureTable::decode(&stored.value).unwrap_or_default(), stored.cas)),
        }
    }

    /// The failures counted in an upstream.
    pub(crate) fn health(&self, upstream: &str) -> Result<FailureTable, Error> {
        match self.health_since(upstream, None)? {
            Read::Changed(health, _) => Ok(health),
            Read::Missing | Read::Unchanged => Ok(FailureTable::default()),
        }
    }

    /// Overrides an upstream's record. What `change` leaves as it was is not written.
    pub(crate) fn update_record<R>(
        &self,
        upstream: &str,
        mut change: impl FnMut(&mut Record) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.retry(|| {
            let stored = self.record(upstream)?;
            let (before, cas) = stored.ok_or_else(|| Error::NoSuchUpstream(upstream.to_owned()))?;
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
    pub(crate) fn declare(&self, upstream: &str, declaration: &Declaration<'_>) -> Result<(), Error> {
        let key = record_key(upstream);
        let rival = self.retry(|| {
            let (before, expect) = match self.host.read(&key)? {
                None => (None, Expect::Nothing),
                Some(stored) => (Record::decode(&stored.value), Expect::Cas(stored.cas)),
            };
            let before = match before.filter(|record| record.name == upstream) {
                None if expect != Expect::Nothing => {
                    let error = Error::Corrupt(key.clone());
                    log::error!("{error}; upstream {upstream:?} starts from its configuration");
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
            log::warn!(
                "upstream {upstream:?} is defined differently by {rival:?} and by {:?}: the definition of the latter \
                     counts from now on",
                declaration.instance
            );
        }
        Ok(())
    }

    /// Overrides the failures counted in an upstream.
    pub(crate) fn update_health<R>(
        &self,
        upstream: &str,
        change: impl FnMut(&mut FailureTable) -> R,
    ) -> Result<R, Error> {
        self.update(&health_key(upstream), FailureTable::decode, |health| health.encode(), true, change)
    }

    /// What is said of an upstream's peers, as it concerns those in `record`, if its number is not `known` any more. The
    /// number is [`NOTHING`] while nothing is said.
    pub(crate) fn status_since(&self, record: &Record, known: Option<u32>) -> Result<Read<Status>, Error> {
        self.status_unless(record, |stored| known == Some(stored.map_or(NOTHING, |stored| stored.cas)))
    }

    /// The same, if anything that matters for the use of peers differs from what is `known` under that number.
    pub(crate) fn status_unless_current(
        &self,
        record: &Record,
        known: &Status,
        number: Option<u32>,
    ) -> Result<Read<Status>, Error> {
        self.status_unless(record, |stored| match (stored, number) {
            (_, None) => false,
            (None, Some(number)) => number == NOTHING,
            (Some(stored), Some(number)) => {
                stored.cas == number || (number != NOTHING && !known.is_outdated_by(&stored.value))
            }
        })
    }

    fn status_unless(&self, record: &Record, is_same: impl Fn(Option<&Stored>) -> bool) -> Result<Read<Status>, Error> {
        let stored = self.host.read(&status_key(&record.name))?;
        if is_same(stored.as_ref()) {
            return Ok(Read::Unchanged);
        }
        let cas = stored.as_ref().map_or(NOTHING, |stored| stored.cas);
        let mut status = stored.and_then(|stored| Status::decode(&stored.value)).unwrap_or_default();
        status.restrict(record);
        Ok(Read::Changed(status, cas))
    }

    /// What is said of an upstream's peers.
    pub(crate) fn status(&self, record: &Record) -> Result<Status, Error> {
        match self.status_since(record, None)? {
            Read::Changed(status, _) => Ok(status),
            Read::Missing | Read::Unchanged => Ok(Status::default()),
        }
    }

    /// Overrides what is said of an upstream's peers, and announces that.
    pub(crate) fn update_status<R>(&self, upstream: &str, change: impl FnMut(&mut Status) -> R) -> Result<R, Error> {
        let encode = |status: &mut Status| {
            status.advance();
            status.encode()
        };
        self.update(&status_key(upstream), Status::decode, encode, true, change)
    }

    /// Writes what is said of an upstream's peers, unless somebody else did since the value of that number was read.
    pub(crate) fn write_status(&self, upstream: &str, status: &Status, known: u32) -> Result<(), Error> {
        let expect = if known == NOTHING { Expect::Nothing } else { Expect::Cas(known) };
        Ok(self.host.write(&status_key(upstream), &status.encode(), expect)?)
    }

    /// The number of what is said of an upstream's peers, if that is `status`; otherwise `known`, with which nothing can be
    /// written any more.
    pub(crate) fn status_number(&self, upstream: &str, status: &Status, known: u32) -> Result<u32, Error> {
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
    ) -> Result<(Failures, Failures), Error> {
        self.update_health(&record.name, |health| {
            let now = self.now();
            let before = health.of(peer.id);
            let mut after = before.and_one(now, peer.max_fails(), peer.fail_timeout(), is_check);
            let is_down =
                |failures: &Failures| matches!(failures.verdict(now, peer.fail_timeout()), PassiveVerdict::Down { .. });
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
    pub(crate) fn forgive_checks(&self, record: &Record, peer: &PeerRecord) -> Result<(Failures, Failures), Error> {
        self.update_health(&record.name, |health| {
            let before = health.of(peer.id);
            let after = before.without_checks(self.now(), peer.max_fails(), peer.fail_timeout());
            health.set(peer.id, after);
            (before, after)
        })
    }

    /// Forgets failures that no longer count, and those of peers that are gone. Returns the peers that are back
    /// through this call, and through no other worker's, with what was counted against them.
    pub(crate) fn expire_failures(&self, record: &Record) -> Result<Vec<(PeerId, Failures)>, Error> {
        let positions = Positions::of(&record.peers);
        self.update_health(&record.name, |health| {
            let now = self.now();
            let mut back = Vec::new();
            health.retain(|id, failures| {
                let Some(peer) = positions.get(id).and_then(|at| record.peers.get(at)) else {
                    // A younger peer than any in this record was added after it was read.
                    return id.0 >= record.next_id;
                };
                if failures.verdict(now, peer.fail_timeout()) == PassiveVerdict::Good {
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
    pub(crate) fn counters(&self, upstream: &str) -> Result<Counters, Error> {
        let stored = self.host.read(&counters_key(upstream))?;
        Ok(stored.and_then(|stored| postcard::from_bytes(&stored.value).ok()).unwrap_or_default())
    }

    /// Adds what a worker counted. Nobody has to know at once, so that is not announced.
    pub(crate) fn add_counters(
        &self,
        record: &Record,
        worker: u64,
        counted: &[(PeerId, Counts, u32)],
    ) -> Result<(), Error> {
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
    ) -> Result<(), Error> {
        self.update_index(|index| index.register(instance, configuration, connection, names))
    }

    /// Notes that this configuration serves a connection, unless it is known to have served one.
    pub(crate) fn note_connection(&self, instance: &str, configuration: u64, id: u64) -> Result<(), Error> {
        self.update_index(|index| {
            let entry = index.instances.iter_mut().find(|entry| entry.name == instance);
            let is_ours =
                |entry: &&mut index::Instance| entry.configuration == configuration && entry.connection.is_none();
            if let Some(entry) = entry.filter(is_ours) {
                entry.connection = Some(id);
            }
        })
    }

    /// The upstreams that there are.
    pub(crate) fn index(&self) -> Result<Index, Error> {
        let stored = self.host.read(&index_key())?;
        Ok(stored.and_then(|stored| Index::decode(&stored.value)).unwrap_or_default())
    }

    fn update_index(&self, change: impl FnMut(&mut Index)) -> Result<(), Error> {
        let encode = |index: &mut Index| postcard::to_allocvec(index).unwrap_or_default();
        self.update(&index_key(), Index::decode, encode, false, change)
    }

    /// Overrides a value, or the one that there would be if there is none. What `change` leaves as it was is not written.
    fn update<T: Clone + Default + PartialEq, R>(
        &self,
        key: &str,
        decode: impl Fn(&[u8]) -> Option<T>,
        encode: impl Fn(&mut T) -> Vec<u8>,
        announce: bool,
        mut change: impl FnMut(&mut T) -> R,
    ) -> Result<R, Error> {
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

    fn retry<R>(&self, mut attempt: impl FnMut() -> Result<R, Error>) -> Result<R, Error> {
        for _ in 1..TRIES {
            match attempt() {
                Err(Error::Host(HostError::Conflict)) => {}
                result => return result,
            }
        }
        attempt()
    }

    /// Counts a failure, logs it, and returns whether it took the peer out of use. `status` is what is said of the upstream's peers.
    pub(crate) fn fail(
        &self,
        record: &Record,
        peer: &PeerRecord,
        status: &Status,
        why: &dyn fmt::Display,
        is_check: bool,
    ) -> Result<bool, Error> {
        let (before, after) = self.add_fail(record, peer, status, is_check)?;
        let upstream = &record.name;
        let now = self.now();
        let said = status.of(peer.id);
        let state = |failures: &Failures| -> EffectiveState<'_> { verdict::effective_state(peer, failures, said, now) };
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
                log::warn!("{line}; {why}");
            } else {
                log::debug!("{line}");
            }
        } else {
            let why = format!("{why}; failure {count} within {within}");
            journal::report(upstream, name, [from, to], "passive", &why);
        }
        Ok(from.is_usable() && !to.is_usable())
    }
}

/// What a read found, compared with what was known.
pub(crate) enum Read<T> {
    /// Nothing.
    Missing,
    /// What was known.
    Unchanged,
    /// Something else, and its compare-and-swap number.
    Changed(T, u32),
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
