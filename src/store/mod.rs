//! The state that all workers share.
//!
//! Shared data knows values under keys, compare-and-swap, and nothing else: no deletion, no listing, no
//! expiry. So an upstream is a few values of bounded size. Its record is what was declared and ordered, and changes seldom; its status is
//! what monitors, agents and name servers say; its failure table is the failures counted, in a few bytes, and changes at any time; its
//! counters are what happened, its obstacles what keeps checks from being made, and its state what the log was told of it last: these are
//! for people. What there is at all stands in the index. Their format is `model::codec`'s.
//!
//! Every change reads, has `model` decide, and writes under compare-and-swap, and does so again if somebody else was
//! faster: no update is lost with any number of workers. What cannot be written has changed nothing, so a change is a change of one value.
//! After the write the change is announced, and a worker that sees [`Host::version`] differ reads what it uses again. Nothing
//! depends on the announcement: a worker also reads again after each tick.

pub(crate) mod change;
pub(crate) mod index;
pub(crate) mod journal;
mod keys;
mod obstacles;
pub(crate) mod runs;
mod script;
pub(crate) mod upstream_state;

use crate::host::{Expect, Host, HostError, Stored};
use crate::model::codec;
use crate::model::counters::Counters;
use crate::model::error::Error;
use crate::model::failure_table::FailureTable;
use crate::model::status::Status;
use crate::model::upstream::Record;
use crate::time::Timestamp;

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

/// What a read found, compared with what was known.
pub(crate) enum Read<T> {
    /// Nothing.
    Missing,
    /// What was known.
    Unchanged,
    /// Something else, and its compare-and-swap number.
    Changed(T, u32),
}

/// How a value is read from its bytes, and written to them.
type Codec<T> = (fn(&[u8]) -> Option<T>, fn(&mut T) -> Vec<u8>);

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
        let key = keys::record(upstream);
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
        match self.host.read(&keys::failures(upstream))? {
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
        let stored = self.host.read(&keys::status(&record.name))?;
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

    /// The number of what is said of an upstream's peers, if that is what was `written`; otherwise `known`, with which nothing can
    /// be written any more.
    pub(crate) fn status_number(&self, upstream: &str, written: &[u8], known: u32) -> Result<u32, Error> {
        let stored = self.host.read(&keys::status(upstream))?;
        Ok(stored.filter(|stored| stored.value == written).map_or(known, |stored| stored.cas))
    }

    /// What happened at an upstream's peers.
    pub(crate) fn counters(&self, upstream: &str) -> Result<Counters, Error> {
        let stored = self.host.read(&keys::counters(upstream))?;
        Ok(stored.and_then(|stored| codec::decode(&stored.value)).unwrap_or_default())
    }

    /// Changes a value, or the one that there would be if there is none. What `change` leaves as it was is not written. What was
    /// written is announced if `announce` says so.
    fn update<T: Clone + Default + PartialEq, R>(
        &self,
        key: &str,
        (decode, encode): Codec<T>,
        announce: fn(&R) -> bool,
        mut change: impl FnMut(&mut T) -> R,
    ) -> Result<R, Error> {
        let mut result = None;
        self.swap(key, (decode, encode), &mut |value| {
            let changed = change(value);
            let is_for_all = announce(&changed);
            result = Some(changed);
            is_for_all
        })?;
        // There is one: a swap without a change does not succeed.
        result.ok_or(Error::Host(HostError::Conflict))
    }

    /// The same for changes that say whether to announce them. Apart, so that there is one of it for a type and not for a change.
    fn swap<T: Clone + Default + PartialEq>(
        &self,
        key: &str,
        (decode, encode): Codec<T>,
        change: &mut dyn FnMut(&mut T) -> bool,
    ) -> Result<(), Error> {
        self.retry(&mut || {
            let stored = self.host.read(key)?;
            let expect = stored.as_ref().map_or(Expect::Nothing, |stored| Expect::Cas(stored.cas));
            let before = stored.and_then(|stored| decode(&stored.value)).unwrap_or_default();
            let mut after = before.clone();
            let is_for_all = change(&mut after);
            if after != before {
                self.host.write(key, &encode(&mut after), expect)?;
                if is_for_all {
                    self.host.announce();
                }
            }
            Ok(())
        })
    }

    fn retry(&self, attempt: &mut dyn FnMut() -> Result<(), Error>) -> Result<(), Error> {
        for _ in 1..TRIES {
            match attempt() {
                Err(Error::Host(HostError::Conflict)) => {}
                result => return result,
            }
        }
        attempt()
    }
}
