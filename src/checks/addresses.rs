//! The addresses at which peers are checked: which one is next, and which ones cannot be connected to.

use std::net::SocketAddr;

use super::check_key::{ByCheck, CheckKey};
use crate::model::id::PeerId;
use crate::model::peer::PeerRecord;
use crate::model::reachability::Reachability;
use crate::model::spec::MonitorSpec;
use crate::model::status::Status;
use crate::time::Timestamp;
use crate::worker::view::View;

/// What is known of the addresses of peers, by upstream and peer: of those that have several, and as far as something is wrong.
#[derive(Default)]
pub(super) struct Addresses(ByCheck<Reachability<SocketAddr>>);

/// Where a peer is checked by a monitor.
pub(super) fn of(peer: &PeerRecord, monitor: &MonitorSpec, status: Option<&Status>) -> Vec<SocketAddr> {
    let mut addresses = peer.addresses(status.and_then(|status| status.of(peer.id)));
    for address in &mut addresses {
        address.set_port(monitor.port.unwrap_or(address.port()));
    }
    addresses
}

impl Addresses {
    /// One of a peer's addresses, in turn by a number that is counted on, without those that cannot be connected to.
    pub(super) fn choose(
        &self,
        position: usize,
        peer: PeerId,
        addresses: &[SocketAddr],
        number: u64,
        now: Timestamp,
    ) -> Option<SocketAddr> {
        let nothing = Reachability::default();
        self.0.get(CheckKey::of_peer(position, peer)).unwrap_or(&nothing).choose(addresses, number, now).copied()
    }

    /// An address could be connected to.
    pub(super) fn connected(&mut self, position: usize, view: &View, peer: &PeerRecord, to: SocketAddr) {
        let key = CheckKey::of_peer(position, peer.id);
        let Some(known) = self.0.get_mut(key) else { return };
        if known.connected(&to) {
            log_change(view, peer, to, "can be connected to again");
        }
        if known.is_empty() {
            self.0.remove(key);
        }
    }

    /// One of these addresses could not be connected to. Returns whether another one is to be tried.
    pub(super) fn failed(
        &mut self,
        position: usize,
        view: &View,
        peer: &PeerRecord,
        to: SocketAddr,
        addresses: &[SocketAddr],
        now: Timestamp,
    ) -> bool {
        if addresses.len() < 2 {
            return false;
        }
        let key = CheckKey::of_peer(position, peer.id);
        if self.0.get(key).is_none() {
            self.0.set(key, Reachability::default());
        }
        let Some(known) = self.0.get_mut(key) else { return false };
        if known.failed(to, now) == 1 {
            log_change(view, peer, to, "cannot be connected to, others are tried instead");
        }
        addresses.iter().any(|address| !known.is_passed_over(address, now))
    }

    /// Forgets the peers of an upstream that are gone.
    pub(super) fn restrict(&mut self, position: usize, view: &View) {
        self.0.retain(|key, _| key.upstream() != position || view.find(key.peer()).is_some());
    }
}

fn log_change(view: &View, peer: &PeerRecord, address: SocketAddr, what: &str) {
    let (upstream, peer) = (view.name(), &peer.server.name);
    log::info!("peer addresses: upstream={upstream} peer={peer} {address} {what}");
}
