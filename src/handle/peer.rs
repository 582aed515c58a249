//! The handle of a peer, with the predecessor's methods.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::model::admin_state::AdminState;
use crate::model::error::Error;
use crate::model::failures::{Failures, PassiveVerdict};
use crate::model::overrides::Overrides;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::selector::Selector;
use crate::model::state::PeerState;
use crate::model::verdict::{effective_state, EffectiveState};
use crate::registry::Registry;
use crate::store::journal::{self, Author};
use crate::store::upstream_state::Cause;
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
    pub(super) store: Store<'h>,
    pub(super) registry: Registry,
    pub(super) author: Author,
    pub(super) upstream: String,
    pub(super) record: PeerRecord,
    pub(super) failures: Failures,
    pub(super) status: Option<PeerStatus>,
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
        self.change(&Overrides { weight: Some(weight), ..Overrides::default() })
    }

    /// Orders what becomes of the peer, for all workers. [`AdminState::Up`] also clears what others have against
    /// it; said of a peer that is up it changes nothing.
    ///
    /// # Errors
    ///
    /// What stands in the way of the change. Then nothing has changed.
    pub fn set_state(&mut self, order: AdminState) -> Result<(), Error> {
        let order = Some((order, self.store.now()));
        self.change(&Overrides { admin_state: order, ..Overrides::default() })
    }

    /// Makes changes: all of them, or none.
    pub(crate) fn change(&mut self, changes: &Overrides) -> Result<(), Error> {
        let changed = self.store.change_peer(&self.upstream, &self.record, changes)?;
        let name = &changed.peer.server.name;
        journal::order(self.author, &self.upstream, &format_args!("peer={name} {}", changes.summary()));
        let effective = effective_state(&changed.peer, &changed.failures, changed.status.as_ref(), self.store.now());
        let by = self.author.name();
        // Whatever else ends by other values, an outage by a shorter fail_timeout, is told by who clears it away.
        let is_order = changes.admin_state.is_some();
        let why = if is_order { effective.why().unwrap_or_else(|| "ordered up".to_owned()) } else { changes.summary() };
        if is_order {
            journal::report(&self.upstream, name, [changed.from, effective.state], by, &why, None);
        }
        self.store.reconcile_state(&self.upstream, Some(Cause { by, peer: name, why: &why }));
        (self.record, self.failures, self.status) = (changed.peer, changed.failures, changed.status);
        Ok(())
    }

    /// The state in which the peer is.
    #[must_use]
    pub fn state(&self) -> PeerState {
        self.effective_state().state
    }

    /// The state in which the peer is, with whose word that is.
    fn effective_state(&self) -> EffectiveState<'_> {
        effective_state(&self.record, &self.failures, self.status.as_ref(), self.store.now())
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

    /// Whether at least one failure was counted within `fail_timeout`, of a request or of a check.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        let (now, window) = (self.store.now(), self.record.fail_timeout());
        self.failures.verdict(now, window) != PassiveVerdict::Good
            || self.status.as_ref().is_some_and(|status| status.failing_by(now, window).is_some())
    }

    /// Counts one failure against the peer.
    ///
    /// # Errors
    ///
    /// What stands in the way of the change. Then nothing has changed.
    pub fn add_fail(&mut self) -> Result<(), Error> {
        self.fail(&"reported by a script")
    }

    /// Counts one failure against the peer, for this reason.
    pub(crate) fn fail(&mut self, why: &dyn fmt::Display) -> Result<(), Error> {
        let record = self.store.record(&self.upstream)?;
        let (record, _) = record.ok_or_else(|| Error::NoSuchUpstream(self.upstream.clone()))?;
        self.store.expect_revision(record.revision)?;
        let status = self.store.status(&record)?;
        let peer = record.peers.iter().find(|peer| peer.id == self.record.id);
        let peer = peer.ok_or_else(|| Error::NoSuchPeer(self.name().to_owned()))?;
        let (after, _) = self.store.add_fail(&record, peer, &status, why, false)?;
        journal::change(self.author, &self.upstream, &format_args!("peer={} failed", self.name()));
        (self.failures, self.status) = (after, status.of(peer.id).cloned());
        self.record = peer.clone();
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
        journal::change(self.author, &self.upstream, &format_args!("peer={} is resolved again", self.name()));
        Ok(true)
    }
}
