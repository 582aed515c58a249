//! What keeps checks and lookups from being made, for people: no worker acts on it, so it is not announced.

use crate::host::Expect;
use crate::model::error::Error;
use crate::model::obstacle::Obstacles;
use crate::model::spec::MonitorSpec;
use crate::store::{keys, Store};

impl Store<'_> {
    /// What keeps an upstream's monitors and the resolver from asking.
    pub(crate) fn obstacles(&self, upstream: &str) -> Result<Obstacles, Error> {
        let stored = self.host().read(&keys::obstacles(upstream))?;
        Ok(stored.map(|stored| Obstacles::decode(stored.value)).unwrap_or_default())
    }

    /// Says what keeps a monitor, or without one the resolver, from asking, or that nothing does. Where that is known, or where nothing
    /// ever did, nothing is written. Returns whether nothing keeps any of the upstream's from asking.
    pub(crate) fn set_obstacle(
        &self,
        upstream: &str,
        monitor: Option<&MonitorSpec>,
        why: Option<&str>,
    ) -> Result<bool, Error> {
        let key = keys::obstacles(upstream);
        let mut is_free = false;
        self.retry(&mut || {
            let stored = self.host().read(&key)?;
            let expect = stored.as_ref().map_or(Expect::Nothing, |stored| Expect::Cas(stored.cas));
            let mut obstacles = stored.map(|stored| Obstacles::decode(stored.value)).unwrap_or_default();
            if obstacles.of(monitor) != why {
                obstacles.set(monitor, why);
                self.host().write(&key, obstacles.encode(), expect)?;
            }
            is_free = obstacles.encode().is_empty();
            Ok(())
        })?;
        Ok(is_free)
    }
}
