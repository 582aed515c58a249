//! The changes of what is stored: each of one value, by a decision of `model`, under compare-and-swap.

use std::fmt;

use crate::host::{Expect, HostError};
use crate::model::codec;
use crate::model::counters::{Counters, Counts};
use crate::model::ejection::{Assessment, Kept};
use crate::model::error::Error;
use crate::model::failure_table::FailureTable;
use crate::model::failures::Failures;
use crate::model::id::PeerId;
use crate::model::log_budget::LogBudget;
use crate::model::operator;
use crate::model::overrides::Overrides;
use crate::model::passive::{self, Recovery};
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::positions::Positions;
use crate::model::state::PeerState;
use crate::model::status::Status;
use crate::model::upstream::{Declaration, Record};
use crate::model::verdict::effective_state;
use crate::store::upstream_state::Cause;
use crate::store::{journal, keys, Codec, Store, NOTHING};
use crate::time::{format_duration, Timestamp};

/// A peer after a change, with what counts of others' words on it.
pub(crate) struct Changed {
    /// Its state before.
    pub(crate) from: PeerState,
    pub(crate) peer: PeerRecord,
    pub(crate) failures: Failures,
    pub(crate) status: Option<PeerStatus>,
}

impl Store<'_> {
    /// Changes an upstream's record. What `change` leaves as it was is not written.
    pub(crate) fn update_record<R>(
        &self,
        upstream: &str,
        mut change: impl FnMut(&mut Record) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut result = None;
        self.swap_record(upstream, &mut |record| {
            result = Some(change(record)?);
            Ok(())
        })?;
        // There is one: a swap without a change does not succeed.
        result.ok_or(Error::Host(HostError::Conflict))
    }

    /// The same for changes without a result. Apart, so that there is one of it and not one for each change.
    fn swap_record(
        &self,
        upstream: &str,
        change: &mut dyn FnMut(&mut Record) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.retry(&mut || {
            let stored = self.record(upstream)?;
            let (before, cas) = stored.ok_or_else(|| Error::NoSuchUpstream(upstream.to_owned()))?;
            self.expect_revision(before.revision)?;
            let mut record = before.clone();
            change(&mut record)?;
            if record != before {
                record.revision = before.revision.wrapping_add(1);
                self.host.write(&keys::record(upstream), &record.encode(), Expect::Cas(cas))?;
                self.host.announce();
            }
            Ok(())
        })
    }

    /// Makes an operator's changes to a peer: all of them, or none.
    pub(crate) fn change_peer(&self, upstream: &str, peer: &PeerRecord, changes: &Overrides) -> Result<Changed, Error> {
        self.update_record(upstream, |record| {
            let now = self.now();
            let mut status = self.status(record)?;
            let table = self.health(upstream)?;
            let found = record.peers.iter_mut().find(|known| known.id == peer.id);
            let found = found.ok_or_else(|| Error::NoSuchPeer(peer.server.name.clone()))?;
            let (failures, said) = (table.of(found), status.of(found.id));
            let from = effective_state(found, &failures, said, now).state;
            operator::change(found, changes, &failures, said, now);
            status.enter_era_of(found);
            let (failures, status) = (table.of(found), status.of(found.id).cloned());
            Ok(Changed { from, peer: found.clone(), failures, status })
        })
    }

    /// Makes a declaration count, unless it did already: an upstream that is not there is made, one that is
    /// there is changed where the declaration changed.
    pub(crate) fn declare(&self, upstream: &str, declaration: &Declaration<'_>) -> Result<(), Error> {
        let key = keys::record(upstream);
        let (mut rival, mut is_written) = (None, false);
        self.retry(&mut || {
            let (before, expect) = match self.host.read(&key)? {
                None => (None, Expect::Nothing),
                Some(stored) => (Record::decode(&stored.value), Expect::Cas(stored.cas)),
            };
            let before = before.filter(|record| record.name == upstream);
            if before.is_none() && expect != Expect::Nothing {
                let error = Error::Corrupt(key.clone());
                log::error!("{error}; upstream {upstream:?} starts from its configuration");
            }
            let mut record = match before {
                Some(record) => record,
                None => Record::beginning_at(upstream, self.first_id(upstream)?),
            };
            if record.is_declared(declaration) {
                rival = None;
                return Ok(());
            }
            rival = record.declare(declaration);
            record.revision = record.revision.wrapping_add(1);
            self.host.write(&key, &record.encode(), expect)?;
            self.host.announce();
            is_written = true;
            Ok(())
        })?;
        if is_written {
            self.reconcile_state(upstream, None);
        }
        if let Some(rival) = rival {
            log::warn!(
                "upstream {upstream:?} is defined differently by {rival:?} and by {:?}: the definition of the latter \
                     counts from now on",
                declaration.instance
            );
        }
        Ok(())
    }

    /// The first id of a record that is made anew: what is said and counted of peers of an earlier one may still be there.
    fn first_id(&self, upstream: &str) -> Result<PeerId, Error> {
        let status = self.host.read(&keys::status(upstream))?.and_then(|stored| Status::decode(&stored.value));
        let seen =
            [self.health(upstream)?.last(), self.counters(upstream)?.last(), status.and_then(|status| status.last())];
        Ok(PeerId::first(seen.into_iter().flatten().max(), self.host.random()))
    }

    /// Changes what is said of an upstream's peers, and announces that.
    pub(crate) fn update_status<R>(&self, upstream: &str, change: impl FnMut(&mut Status) -> R) -> Result<R, Error> {
        let encode = |status: &mut Status| {
            status.advance();
            status.encode()
        };
        self.update(&keys::status(upstream), (Status::decode, encode), |_| true, change)
    }

    /// Writes what is said of an upstream's peers, unless somebody else did since the value of that number was read.
    /// Returns what was written.
    pub(crate) fn write_status(&self, upstream: &str, status: &Status, known: u32) -> Result<Vec<u8>, Error> {
        let expect = if known == NOTHING { Expect::Nothing } else { Expect::Cas(known) };
        let bytes = status.encode();
        self.host.write(&keys::status(upstream), &bytes, expect)?;
        Ok(bytes)
    }

    /// Changes what is counted against an upstream's peers. Everybody has to know.
    fn update_failures<R>(&self, upstream: &str, change: impl FnMut(&mut FailureTable) -> R) -> Result<R, Error> {
        self.update(&keys::failures(upstream), (FailureTable::decode, |table| table.encode()), |_| true, change)
    }

    /// Counts a failure against a peer, of a request or of what a script saw, and logs it. Returns what is counted now, and whether
    /// that took the peer out of use. `status` is what is said of the upstream's peers.
    pub(crate) fn add_fail(
        &self,
        record: &Record,
        peer: &PeerRecord,
        status: &Status,
        why: &dyn fmt::Display,
        of_request: bool,
    ) -> Result<(Failures, bool), Error> {
        let now = self.now();
        let (begun, [before, after]) = self.update_failures(&record.name, |table| {
            let [before, after] = passive::add(table, peer, of_request, now);
            let begins = after.is_outage && (!before.is_outage || before.since != after.since);
            (begins.then(|| table.clone()), [before, after])
        })?;
        let Some(table) = begun else {
            log::debug!("upstream={} peer={} failed: {why}; {} counted", record.name, peer.server.name, after.count);
            return Ok((after, false));
        };
        // The request was under way for a while, and others had their say meanwhile. An outage that they know of is not told again, nor
        // one that does not count any more.
        let latest = self.latest(&record.name);
        let (record, status) = latest.as_ref().map_or((record, status), |(record, status)| (record, status));
        let Some(peer) = record.peers.iter().find(|known| known.id == peer.id) else { return Ok((after, false)) };
        let state = |failures| effective_state(peer, failures, status.of(peer.id), now).state;
        let change = [state(&before), state(&table.of(peer))];
        let within = format_duration(peer.fail_timeout());
        let why = format!("{why}; failure {} within {within}", after.count);
        let kept = usage(record, &table, status, peer.id, now);
        let is_outage = change[0].is_usable() && !change[1].is_usable();
        if is_outage {
            journal::observe(self, &record.name, &peer.server.name, change, "passive", &why, kept);
        }
        let cause = Cause { by: "passive", peer: &peer.server.name, why: &why };
        self.reconcile_state(&record.name, Some(cause));
        let is_ejected = is_outage && kept.is_none();
        Ok((after, is_ejected))
    }

    /// What is stored of an upstream and said of its peers now, where that can be read.
    pub(crate) fn latest(&self, upstream: &str) -> Option<(Record, Status)> {
        let (record, _) = self.record(upstream).ok()??;
        let status = self.status(&record).ok()?;
        Some((record, status))
    }

    /// Notes that a request goes to a peer on trial. Nobody has to know at once.
    pub(crate) fn begin_trial(&self, upstream: &str, peer: &PeerRecord) -> Result<(), Error> {
        let codec: Codec<FailureTable> = (FailureTable::decode, |table| table.encode());
        let now = self.now();
        self.update(&keys::failures(upstream), codec, |()| false, |table| passive::begin_trial(table, peer, now))
    }

    /// Ends an outage of a peer, if this shows that it is over, and logs that. `status` is what is said of the upstream's peers.
    pub(crate) fn recover(
        &self,
        record: &Record,
        peer: &PeerRecord,
        status: &Status,
        recovery: Recovery,
        (by, why): (&str, &str),
    ) -> Result<(), Error> {
        let now = self.now();
        let before = self.update_failures(&record.name, |table| passive::recover(table, peer, recovery, now))?;
        let Some(before) = before else { return Ok(()) };
        let name = &peer.server.name;
        let state = |failures| effective_state(peer, failures, status.of(peer.id), now).state;
        let change = [state(&before), state(&Failures::default())];
        journal::observe(self, &record.name, name, change, by, why, None);
        self.reconcile_state(&record.name, Some(Cause { by, peer: name, why }));
        Ok(())
    }

    /// Clears away what no longer counts in an upstream, failures and orders that end by themselves, and logs which peers are back
    /// by that: once, by the worker that wrote it.
    pub(crate) fn expire(&self, record: &Record, status: &Status) -> Result<(), Error> {
        let now = self.now();
        let back = self.update_failures(&record.name, |table| passive::expire(table, record, now))?;
        let mut is_changed = !back.is_empty();
        for (id, failures) in back {
            let Some(peer) = record.peers.iter().find(|peer| peer.id == id) else { continue };
            let state = |failures, at| effective_state(peer, failures, status.of(id), at).state;
            // As it was until a moment ago, by what was counted until then.
            let end = failures.back_since(now, peer.fail_timeout()).unwrap_or(now);
            let change = [state(&failures, just_before(end)), state(&Failures::default(), now)];
            let why = match failures.of_requests {
                true if failures.is_tried(peer.fail_timeout()) => "a request on trial goes on",
                true => "no request came to try it",
                false => "fail_timeout passed",
            };
            journal::observe(self, &record.name, &peer.server.name, change, "passive", why, None);
        }
        if record.peers.iter().any(|peer| operator::ended(peer, now).is_some()) {
            let ended = self.update_record(&record.name, |record| {
                let mut ended = Vec::new();
                for peer in &mut record.peers {
                    let before = peer.clone();
                    if operator::end(peer, now) {
                        ended.push((before, peer.clone()));
                    }
                }
                Ok(ended)
            })?;
            let table = self.health(&record.name)?;
            for (before, after) in ended {
                let at = operator::ended(&before, now).map_or(now, just_before);
                let state = |peer, at| effective_state(peer, &table.of(peer), status.of(peer.id), at).state;
                let change = [state(&before, at), state(&after, now)];
                let why = "the order was for fail_timeout";
                journal::report(&record.name, &after.server.name, change, "operator", why, None);
                is_changed = true;
            }
        }
        if is_changed {
            self.reconcile_state(&record.name, None);
        }
        Ok(())
    }

    /// Changes the budget for lines about the states of peers, or of upstreams. What stays as it was is not written.
    pub(crate) fn change_log_budget(&self, subject: &str, change: &mut dyn FnMut(&mut LogBudget)) -> Result<(), Error> {
        let key = keys::log_budget(subject);
        self.retry(&mut || {
            let stored = self.host.read(&key)?;
            let expect = stored.as_ref().map_or(Expect::Nothing, |stored| Expect::Cas(stored.cas));
            let before = stored.map(|stored| LogBudget::decode(&stored.value)).unwrap_or_default();
            let mut after = before;
            change(&mut after);
            if after != before {
                self.host.write(&key, &after.encode(), expect)?;
            }
            Ok(())
        })
    }

    /// Adds what a worker counted. Nobody has to know at once, so that is not announced.
    pub(crate) fn add_counters(
        &self,
        record: &Record,
        worker: u64,
        counted: &[(PeerId, Counts, u32)],
    ) -> Result<(), Error> {
        let peers = Positions::of(&record.peers);
        let key = keys::counters(&record.name);
        let codec = (codec::decode::<Counters> as fn(&[u8]) -> _, |counters: &mut Counters| codec::encode(counters));
        self.update(
            &key,
            (codec.0, codec.1),
            |()| false,
            |counters| {
                counters.add(worker, self.now(), counted);
                // A younger peer than any in this record was added after it was read.
                counters.retain(|peer| peers.get(peer).is_some() || peer >= record.next_id);
            },
        )
    }
}

fn just_before(at: Timestamp) -> Timestamp {
    Timestamp::from_nanos(at.as_nanos().saturating_sub(1))
}

/// What keeps a peer in use in spite of a verdict, if anything does.
fn usage(record: &Record, table: &FailureTable, status: &Status, peer: PeerId, now: Timestamp) -> Option<Kept> {
    let assessment = Assessment::of(record, table, status, now);
    let at = record.peers.iter().position(|known| known.id == peer)?;
    assessment.get(at)?.1.note()
}
