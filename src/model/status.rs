//! What monitors, agents and name servers say about peers, and how that is kept in shared data.
//!
//! Each monitor has a verdict of its own on each peer, each agent has one, and so has the resolver on each name. They
//! are facts here; what they mean together with what an operator says and with the failures counted is decided in
//! `verdict`.
//!
//! All of an upstream's is one value in shared data. It is written by the worker that makes the checks: at once when a
//! verdict changes, and otherwise once in a while, so that people see when the last check was and whoever
//! takes over the checks goes on counting where this worker stopped.

use serde::{Deserialize, Serialize};

use crate::model::check::Check;
use crate::model::id::PeerId;
use crate::model::peer_status::PeerStatus;
use crate::model::positions::Positions;
use crate::model::resolution::Resolution;
use crate::model::upstream::Record;

/// What is said of an upstream's peers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Counts the changes that matter for the use of peers. It comes first, so that a worker that picks peers need not read the
    /// rest when all that changed is when they were last checked.
    generation: u64,
    /// Ordered by id; nothing is kept of a peer of which nothing is said.
    peers: Vec<(PeerId, PeerStatus)>,
}

impl Status {
    /// Says that something changed that matters for the use of peers.
    pub fn advance(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Whether stored bytes differ from this in something that matters for the use of peers.
    pub(crate) fn is_outdated_by(&self, stored: &[u8]) -> bool {
        !postcard::take_from_bytes(stored).is_ok_and(|(generation, _): (u64, _)| generation == self.generation)
    }

    /// What is said of a peer.
    #[must_use]
    pub fn of(&self, peer: PeerId) -> Option<&PeerStatus> {
        let found = self.peers.binary_search_by_key(&peer, |(id, _)| *id).ok()?;
        self.peers.get(found).map(|(_, status)| status)
    }

    /// Overrides what is said of a peer.
    pub fn change<R>(&mut self, peer: PeerId, change: impl FnOnce(&mut PeerStatus) -> R) -> R {
        let found = self.peers.binary_search_by_key(&peer, |(id, _)| *id);
        if let Some((_, status)) = found.ok().and_then(|at| self.peers.get_mut(at)) {
            return change(status);
        }
        let mut status = PeerStatus::default();
        let result = change(&mut status);
        self.peers.insert(found.unwrap_or_else(|at| at), (peer, status));
        result
    }

    /// Keeps the peers for which `keep` says so; it may change what is said of them.
    pub fn retain(&mut self, mut keep: impl FnMut(PeerId, &mut PeerStatus) -> bool) {
        self.peers.retain_mut(|(id, status)| keep(*id, status));
    }

    /// Lifts all verdicts on a peer but the resolver's.
    pub fn reset(&mut self, peer: PeerId) {
        if let Some((_, status)) = self.peers.iter_mut().find(|(id, _)| *id == peer) {
            status.reset();
        }
    }

    /// Leaves out what concerns peers and monitors that are gone, and says of names that nobody has resolved that it is so.
    pub(crate) fn restrict(&mut self, record: &Record) {
        let is_there = |id: &str| record.monitors.iter().any(|monitor| monitor.id == id);
        let is_same = |check: &Check| record.monitors.iter().any(|m| m.id == check.monitor && m.name == check.kind);
        let peers = Positions::of(&record.peers);
        self.retain(|peer, status| {
            status.checks.retain(is_same);
            status.agent = status.agent.take().filter(|agent| is_there(&agent.monitor));
            peers.get(peer).is_some()
        });
        if record.spec.resolver.is_empty() {
            return;
        }
        for peer in record.peers.iter().filter(|peer| peer.host_name().is_some()) {
            self.change(peer.id, |status| {
                let unresolved =
                    || Resolution { error: "the name is not resolved yet".to_owned(), ..Default::default() };
                status.name.get_or_insert_with(unresolved);
            });
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let status: Self = postcard::from_bytes(bytes).ok()?;
        status.peers.is_sorted_by(|(a, _), (b, _)| a < b).then_some(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn it_reads_back_and_foreign_bytes_are_refused() {
        let mut status = Status::default();
        status.change(PeerId(7), |peer| peer.change_check("http", "http", |check| check.observe(Some("reset"), 2, 3)));
        status.change(PeerId(2), |peer| peer.name = Some(Resolution::default()));
        let bytes = status.encode();
        assert_eq!(Status::decode(&bytes), Some(status));
        assert!((0..bytes.len()).all(|cut| Status::decode(&bytes[..cut]).is_none()));
    }
}
