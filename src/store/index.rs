//! Which instances of the filter and which upstreams there are: shared data cannot be listed.

use crate::model::codec;
use crate::model::effect::{Declared, Effect};
use crate::model::error::Error;
use crate::model::index::{Comeback, Index};
use crate::store::{keys, Codec, Read, Store};

const CODEC: Codec<Index> = (codec::decode, |index| codec::encode(index));

impl Store<'_> {
    /// The instances and upstreams that there are.
    pub(crate) fn index(&self) -> Result<Index, Error> {
        match self.index_since(None)? {
            Read::Changed(index, _) => Ok(index),
            Read::Missing | Read::Unchanged => Ok(Index::default()),
        }
    }

    /// The same, if its number is not `known` any more.
    pub(crate) fn index_since(&self, known: Option<u32>) -> Result<Read<Index>, Error> {
        match self.host().read(&keys::index())? {
            None => Ok(Read::Missing),
            Some(stored) if Some(stored.cas) == known => Ok(Read::Unchanged),
            Some(stored) => Ok(codec::decode(&stored.value).map_or(Read::Missing, |i| Read::Changed(i, stored.cas))),
        }
    }

    /// Says which upstreams an instance of the filter has, by a configuration of its. Returns what that changed, if the
    /// configuration came into force by that: then no other worker is told so. See [`Index::register`].
    pub(crate) fn register(
        &self,
        instance: &str,
        configuration: u64,
        upstreams: Declared<'_>,
    ) -> Result<Option<Effect>, Error> {
        let mut effect = Effect::default();
        let register = |index: &mut Index| {
            effect = index.effect(instance, upstreams);
            index.register(instance, configuration, upstreams, self.now())
        };
        let is_in_force = self.update(&keys::index(), CODEC, |is_new| *is_new, register)?;
        Ok(is_in_force.then_some(effect))
    }

    /// Says that filters of a replaced configuration are there still. Nobody has to know at once.
    pub(crate) fn hear(&self, instance: &str, configuration: u64, upstreams: &[&str]) -> Result<(), Error> {
        let hear = |index: &mut Index| index.hear(instance, configuration, upstreams, self.now());
        self.update(&keys::index(), CODEC, |()| false, hear)
    }

    /// Notes that a configuration serves a connection. Nobody has to know at once.
    pub(crate) fn note_connection(&self, instance: &str, configuration: u64, connection: u64) -> Result<(), Error> {
        let note = |index: &mut Index| index.note_connection(instance, configuration, connection);
        self.update(&keys::index(), CODEC, |()| false, note)
    }

    /// Finds out whether a configuration is in force again, and what that changed if so. See [`Index::come_back`].
    pub(crate) fn come_back(
        &self,
        instance: &str,
        configuration: u64,
        connection: u64,
        is_new: bool,
        upstreams: Declared<'_>,
    ) -> Result<(Comeback, Effect), Error> {
        let mut effect = Effect::default();
        let come_back = |index: &mut Index| {
            effect = index.effect(instance, upstreams);
            index.come_back(instance, configuration, connection, is_new, upstreams, self.now())
        };
        let comeback = self.update(&keys::index(), CODEC, |comeback| *comeback != Comeback::No, come_back)?;
        Ok((comeback, effect))
    }
}
