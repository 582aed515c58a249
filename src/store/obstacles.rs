//! What keeps checks and lookups from being made, for people: no worker acts on it, so it is not announced.

use crate::model::codec;
use crate::model::error::Error;
use crate::model::obstacle::Obstacles;
use crate::model::spec::MonitorSpec;
use crate::model::upstream::Record;
use crate::store::{keys, Codec, Store};

const CODEC: Codec<Obstacles> = (codec::decode, |obstacles| codec::encode(obstacles));

impl Store<'_> {
    /// What keeps an upstream's monitors and the resolver from asking.
    pub(crate) fn obstacles(&self, upstream: &str) -> Result<Obstacles, Error> {
        let stored = self.host().read(&keys::obstacles(upstream))?;
        Ok(stored.and_then(|stored| codec::decode(&stored.value)).unwrap_or_default())
    }

    /// Says what keeps a monitor, or without one the resolver, from asking, or that nothing does. Returns what there is now.
    pub(crate) fn set_obstacle(
        &self,
        record: &Record,
        monitor: Option<&MonitorSpec>,
        why: Option<&str>,
    ) -> Result<Obstacles, Error> {
        self.update(
            &keys::obstacles(&record.name),
            CODEC,
            |_| false,
            |obstacles| {
                obstacles.set(record, monitor, why);
                obstacles.clone()
            },
        )
    }
}
