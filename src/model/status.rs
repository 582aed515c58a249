//! What monitors, agents and name servers say about peers, and how that is kept in shared data.
//!
//! Each monitor has a verdict of its own on each peer, each agent has one, and so has the resolver on each name. They
//! are facts here; what they mean together with what an operator says and with the failures counted is decided in
//! `verdict`.
//!
//! All of an upstream's is one value in shared data. It is written by the worker that makes the checks: at once when a
//! verdict changes, and otherwise once in a while, so that people see when the last check was and whoever
//! takes over the checks goes on counting where this worker stopped.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::model::codec;
use crate::model::id::PeerId;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::positions::Positions;
use crate::model::resolution::Resolution;
use crate::model::upstream::Record;
use crate::time::Timestamp;

/// What is said of an upstream's peers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Counts the changes that matter for the use of peers. It comes first, so that a worker that picks peers need not read the
    /// rest when all that changed is when they were last checked.
    generation: u64,
    /// Ordered by id; nothing is kept of a peer of which nothing is said.
    peers: Vec<(PeerId, PeerStatus)>,
}

impl Status {
    /// Says that something changed that matters for the use of peers.
    pub(crate) fn advance(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Whether stored bytes differ from this in something that matters for the use of peers.
    pub(crate) fn is_outdated_by(&self, stored: &[u8]) -> bool {
        !postcard::take_from_bytes(stored).is_ok_and(|(generation, _): (u64, _)| generation == self.generation)
    }

    /// What is said of a peer.
    #[must_use]
    pub(crate) fn of(&self, peer: PeerId) -> Option<&PeerStatus> {
        let found = self.peers.binary_search_by_key(&peer, |(id, _)| *id).ok()?;
        self.peers.get(found).map(|(_, status)| status)
    }

    /// The highest id of a peer of which something is said.
    pub(crate) fn last(&self) -> Option<PeerId> {
        self.peers.last().map(|(id, _)| *id)
    }

    /// Changes what is said of a peer.
    pub(crate) fn change<R>(&mut self, peer: PeerId, change: impl FnOnce(&mut PeerStatus) -> R) -> R {
        let found = self.peers.binary_search_by_key(&peer, |(id, _)| *id);
        if let Some((_, status)) = found.ok().and_then(|at| self.peers.get_mut(at)) {
            return change(status);
        }
        let mut status = PeerStatus::default();
        let result = change(&mut status);
        self.peers.insert(found.unwrap_or_else(|at| at), (peer, status));
        result
    }

    /// When the last check ended, of any peer by any monitor; the epoch before the first.
    #[must_use]
    pub(crate) fn last_check(&self) -> Timestamp {
        self.peers.iter().flat_map(|(_, status)| &status.checks).map(|check| check.at).max().unwrap_or_default()
    }

    /// Leaves out what was said of a peer in an earlier era, and has what is said next be of this one.
    pub(crate) fn enter_era_of(&mut self, peer: &PeerRecord) {
        if peer.era != self.of(peer.id).map(|status| status.era).unwrap_or_default() {
            self.change(peer.id, |status| status.enter(peer.era));
        }
    }

    /// Leaves out what does not count: what concerns peers and monitors that are gone, addresses that are not wanted any more, and what was said in earlier
    /// eras of peers.
    /// Says of names that nobody has resolved that it is so.
    pub(crate) fn restrict(&mut self, record: &Record) {
        let is_there = |id: &str, number| record.monitors.iter().any(|m| m.id == id && m.number == number);
        let peers = Positions::of(&record.peers);
        self.peers.retain_mut(|(peer, status)| {
            status.checks.retain(|check| is_there(&check.monitor, check.number));
            status.agent = status.agent.take().filter(|agent| is_there(&agent.monitor, agent.number));
            peers.get(*peer).is_some()
        });
        for peer in &record.peers {
            self.enter_era_of(peer);
        }
        if record.spec.resolver.is_empty() {
            return;
        }
        for peer in record.peers.iter().filter(|peer| peer.host_name().is_some()) {
            self.change(peer.id, |status| {
                let name = status.name.get_or_insert_with(Resolution::pending);
                if !record.spec.resolve_ipv6 && name.addresses.iter().any(IpAddr::is_ipv6) {
                    name.addresses.retain(IpAddr::is_ipv4);
                    if name.addresses.is_empty() {
                        *name = Resolution::pending();
                    }
                }
            });
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let status: Self = codec::decode(bytes)?;
        status.peers.is_sorted_by(|(a, _), (b, _)| a < b).then_some(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::spec::MonitorSpec;
    use crate::testing::test;

    #[test]
    fn it_reads_back_and_foreign_bytes_are_refused() {
        let mut status = Status::default();
        status.change(PeerId(7), |peer| {
            peer.change_check(&MonitorSpec::default(), |check| check.why = "reset".to_owned())
        });
        status.change(PeerId(2), |peer| peer.name = Some(Resolution::default()));
        let bytes = status.encode();
        assert_eq!(Status::decode(&bytes), Some(status));
        assert!((0..bytes.len()).all(|cut| Status::decode(&bytes[..cut]).is_none()));
    }
}
