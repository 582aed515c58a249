//! An upstream at one moment, and what follows from that.

use crate::model::counters::Counters;
use crate::model::ejection::{Assessment, Usage};
use crate::model::error::Error;
use crate::model::failure_table::FailureTable;
use crate::model::index::Index;
use crate::model::obstacle::Obstacles;
use crate::model::peer::PeerRecord;
use crate::model::server::Endpoint;
use crate::model::slow_start::{self, FULL_FACTOR};
use crate::model::status::Status;
use crate::model::upstream::Record;
use crate::model::upstream_state::{Tally, ToldState};
use crate::model::verdict::EffectiveState;
use crate::store::Store;
use crate::time::Timestamp;

/// An upstream with all that is known of it at one moment.
pub(super) struct Snapshot {
    pub(super) record: Record,
    pub(super) health: FailureTable,
    pub(super) status: Status,
    pub(super) counters: Counters,
    /// The state that was told last.
    pub(super) told: Option<ToldState>,
    /// What keeps checks from being made.
    pub(super) obstacles: Obstacles,
    pub(super) now: Timestamp,
}

/// What follows from a snapshot: the states of the peers, and the upstream's.
pub(super) struct Assessed<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) assessment: Assessment<'s>,
    pub(super) tally: Tally,
}

/// A peer, its state and its use.
pub(super) struct AssessedPeer<'s> {
    pub(super) record: &'s PeerRecord,
    pub(super) effective: EffectiveState<'s>,
    pub(super) usage: Usage,
}

impl Snapshot {
    /// The upstream of that name as it is now.
    pub(super) fn read(store: &Store<'_>, name: &str) -> Result<Self, Error> {
        let absent = || Error::NoSuchUpstream(name.to_owned());
        let (record, _) = store.record(name)?.ok_or_else(absent)?;
        let (health, status, counters) = (store.health(name)?, store.status(&record)?, store.counters(name)?);
        let (told, obstacles) = (store.told_state(name)?, store.obstacles(name)?);
        Ok(Self { record, health, status, counters, told, obstacles, now: store.now() })
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
        let normal = || Endpoint::parse(name, self.record.spec.default_port).ok();
        let found = named(name).or_else(|| named(&normal()?.to_string()));
        found.ok_or_else(|| Error::NoSuchPeer(name.to_owned()))
    }

    /// What follows from it.
    pub(super) fn assess(&self) -> Assessed<'_> {
        let assessment = Assessment::of(&self.record, &self.health, &self.status, self.now);
        let tally = Tally::of(&self.record, &assessment, self.now);
        Assessed { snapshot: self, assessment, tally }
    }

    /// The header that names the upstream's revision.
    pub(super) fn etag(&self) -> (&'static str, String) {
        ("etag", format!("\"{}\"", self.record.revision))
    }
}

impl<'s> Assessed<'s> {
    /// The peers, each with its state and its use.
    pub(super) fn peers(&self) -> impl Iterator<Item = AssessedPeer<'s>> + use<'_, 's> {
        let assessed = self.snapshot.record.peers.iter().zip(&self.assessment.peers);
        assessed.map(|(record, (effective, usage))| AssessedPeer { record, effective: *effective, usage: *usage })
    }

    /// The weight with slow start and the agent's word; 0 for a peer that gets no requests.
    pub(super) fn effective_weight(&self, AssessedPeer { record: peer, usage, .. }: &AssessedPeer<'s>) -> f64 {
        let Snapshot { health, status, now, .. } = self.snapshot;
        if !usage.is_in_use() {
            return 0.0;
        }
        let said = status.of(peer.id);
        let (part, _) = slow_start::factor(peer, &health.of(peer), said, *now);
        let hundredths = peer.hundredths(said.and_then(|said| said.agent.as_ref()));
        f64::from(hundredths) / 100.0 * f64::from(part) / f64::from(FULL_FACTOR)
    }
}
