//! What keeps checks and lookups from being made: that a cluster is missing, or the gateway behind it. Nobody's failure, and told in
//! the log and by the API.

use super::by_position::ByPosition;
use super::complaints::{Cause, Complaints};
use crate::model::error::Error;
use crate::model::id::PeerId;
use crate::model::obstacle;
use crate::model::spec::MonitorSpec;
use crate::model::upstream::Record;
use crate::store::Store;
use crate::worker::view::View;

/// A copy of what is written of each upstream, so that a check that could be made costs no look at shared data.
#[derive(Default)]
pub(super) struct Obstacles(ByPosition<obstacle::Obstacles>);

/// A call that was to be made.
pub(super) struct Asked<'a> {
    /// The upstream's position.
    pub(super) position: usize,
    pub(super) peer: PeerId,
    /// Who asks; `None` for the resolver.
    pub(super) monitor: Option<&'a MonitorSpec>,
    pub(super) cluster: &'a str,
}

impl Obstacles {
    /// Notes why a call did not get as far as the server, and has the log tell it; or that it did. Returns a sentence for people.
    pub(super) fn note(
        &mut self,
        store: &Store<'_>,
        complaints: &mut Complaints,
        view: &View,
        asked: &Asked<'_>,
        why: Option<&str>,
    ) -> Option<String> {
        let why = why.map(|why| format!("calls go through the cluster {:?}: {why}", asked.cluster));
        if let Some(why) = &why {
            let upstream = view.name();
            let peer = view.find(asked.peer).map_or("", |peer| &peer.server.name);
            let what = match asked.monitor {
                Some(monitor) => format!("cannot be checked by monitor {:?}", monitor.id),
                None => "cannot be looked up".to_owned(),
            };
            let line = format!("upstream={upstream} peer={peer} {what}: {why}");
            complaints.say(store.now(), Cause::call(asked.cluster), &line);
        }
        if let Err(error) = self.set(store, view.record(), asked, why.as_deref()) {
            let line = format!("what keeps checks from being made cannot be written: {error}");
            complaints.say(store.now(), Cause::Write, &line);
        }
        why
    }

    fn set(&mut self, store: &Store<'_>, record: &Record, asked: &Asked<'_>, why: Option<&str>) -> Result<(), Error> {
        let position = asked.position;
        if self.0.get(position).is_none() {
            // Another worker may have written, which made the checks before.
            self.0.set(position, store.obstacles(&record.name)?);
        }
        if self.0.get(position).is_some_and(|known| known.of(asked.monitor) != why) {
            self.0.set(position, store.set_obstacle(record, asked.monitor, why)?);
        }
        Ok(())
    }

    /// Forgets what is known of an upstream.
    pub(super) fn remove(&mut self, position: usize) {
        self.0.remove(position);
    }

    /// Forgets what is known: another worker makes the checks now.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
