//! The handle of a peer, with the predecessor's methods.

use crate::registry::Registry;
use std::net::{IpAddr, SocketAddr};

use crate::handle::upstream::Upstream;
use crate::model::admin_state::AdminState;
use crate::model::error::Error;
use crate::model::failures::{Failures, PassiveVerdict};
use crate::model::overrides::Overrides;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::selector::Selector;
use crate::model::state::PeerState;
use crate::model::verdict::{self, EffectiveState};
use crate::store::Store;
use crate::time::Timestamp;

/// What kind of down [`Peer::is_down`] asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DownKind {
    /// Either.
    #[default]
    Any,
    /// Until somebody says otherwise.
    Permanent,
    /// Back by itself.
    Temporary,
}

/// A peer of an upstream, as it was when it was asked for, and the means to change it.
///
/// The changes are made in shared data, for all workers, and show in this handle too.
pub struct Peer<'h> {
    pub(crate) store: Store<'h>,
    pub(crate) registry: Registry,
    pub(crate) upstream: String,
    pub(crate) record: PeerRecord,
    pub(crate) failures: Failures,
    pub(crate) status: Option<PeerStatus>,
}

impl<'h> Peer<'h> {
    /// The name, `host:port`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.server.name
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.record.server.endpoint().map_or(0, |endpoint| endpoint.port)
    }

    /// The weight with which it was declared, whatever [`set_weight`](Self::set_weight) did since.
    #[must_use]
    pub fn initial_weight(&self) -> u16 {
        self.record.server.weight
    }

    /// The peer's IP address; the first one if its name has several.
    ///
    /// # Errors
    ///
    /// [`Error::Unresolved`] while its name is not resolved.
    pub fn get_address(&self) -> Result<String, Error> {
        let address = self.addresses().first().map(IpAddr::to_string);
        address.ok_or_else(|| Error::Unresolved(self.name().to_owned()))
    }

    /// The peer's IP addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let addresses = self.record.addresses(self.status.as_ref());
        addresses.iter().map(SocketAddr::ip).collect()
    }

    /// The weight in force; what an agent made a fraction is rounded up.
    #[must_use]
    pub fn get_weight(&self) -> u16 {
        let agent = self.status.as_ref().and_then(|status| status.agent.as_ref());
        self.record.whole_weight(agent)
    }

    /// Overrides the weight, for all workers. It counts until a configuration or the peer's agent says otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for 0, and what stands in the way of the change. Then nothing has changed.
    pub fn set_weight(&mut self, weight: u16) -> Result<(), Error> {
        if weight == 0 {
            return Err(Error::Invalid("weight: expected an integer from 1 to 65535, found 0".to_owned()));
        }
        self.change(|overrides, _| overrides.weight = Some(weight))?;
        self.store.overrule_weight(&self.upstream, self.record.id)?;
        let agent = self.status.as_mut().and_then(|status| status.agent.as_mut());
        if let Some(agent) = agent.filter(|agent| !agent.is_weightless()) {
            agent.weight = None;
        }
        Ok(())
    }

    /// The upstream that the peer is of.
    ///
    /// # Errors
    ///
    /// As for [`Upstream::get`].
    pub fn get_upstream(&self) -> Result<Option<Upstream<'h>>, Error> {
        Upstream::get(self.store, &self.registry, &self.upstream)
    }

    /// Orders what becomes of the peer, for all workers. [`AdminState::Up`] also clears what others have against
    /// it.
    ///
    /// # Errors
    ///
    /// What stands in the way of the change. Then nothing has changed.
    pub fn set_state(&mut self, order: AdminState) -> Result<(), Error> {
        self.change(|overrides, now| overrides.admin_state = Some((order, now)))?;
        if order == AdminState::Up {
            self.failures = Failures::default();
            self.store.reset(&self.upstream, self.record.id)?;
            if let Some(status) = &mut self.status {
                status.reset();
            }
        }
        Ok(())
    }

    /// The state in which the peer is.
    #[must_use]
    pub fn state(&self) -> PeerState {
        self.effective_state().state
    }

    /// The state in which the peer is, with whose word that is.
    #[must_use]
    pub fn effective_state(&self) -> EffectiveState<'_> {
        verdict::effective_state(&self.record, &self.failures, self.status.as_ref(), self.store.now())
    }

    /// Whether the peer is out of use in this way.
    #[must_use]
    pub fn is_down(&self, kind: DownKind) -> bool {
        let selector = match kind {
            DownKind::Any => Selector::Down,
            DownKind::Permanent => Selector::PermanentDown,
            DownKind::Temporary => Selector::TemporaryDown,
        };
        selector.matches(self.state())
    }

    /// Whether at least one failure was counted within `fail_timeout`.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failures.verdict(self.store.now(), self.record.fail_timeout()) != PassiveVerdict::Good
    }

    /// Counts one failure against the peer.
    ///
    /// # Errors
    ///
    /// What stands in the way of the change. Then nothing has changed.
    pub fn add_fail(&mut self) -> Result<(), Error> {
        let record = self.store.record(&self.upstream)?;
        let (record, _) = record.ok_or_else(|| Error::NoSuchUpstream(self.upstream.clone()))?;
        let status = self.store.status(&record)?;
        let (_, after) = self.store.add_fail(&record, &self.record, &status, false)?;
        self.failures = after;
        Ok(())
    }

    /// Has the peer's name looked up, if it is one: when its address is not known, or anyway if `force`. Returns whether that
    /// is under way; the worker that makes the checks does it within a second.
    ///
    /// # Errors
    ///
    /// What stands in the way of the change. Then nothing has changed.
    pub fn resolve(&mut self, force: bool) -> Result<bool, Error> {
        if self.record.host_name().is_none() || self.store.host().capabilities().resolves_names {
            return Ok(false);
        }
        if !force && !self.addresses().is_empty() {
            return Ok(false);
        }
        let id = self.record.id;
        self.store.update_status(&self.upstream, |status| {
            status.change(id, |status| status.name.get_or_insert_default().expires = Timestamp::default());
        })?;
        Ok(true)
    }

    fn change(&mut self, mut change: impl FnMut(&mut Overrides, Timestamp)) -> Result<(), Error> {
        let (id, now) = (self.record.id, self.store.now());
        self.record = self.store.update_record(&self.upstream, |record| {
            let peer = record.peers.iter_mut().find(|peer| peer.id == id);
            let peer = peer.ok_or_else(|| Error::NoSuchPeer(self.record.server.name.clone()))?;
            change(&mut peer.overrides, now);
            Ok(peer.clone())
        })?;
        Ok(())
    }
}
