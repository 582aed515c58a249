//! How many peers of an upstream may be out of use because of failures.

use crate::model::admin_state::AdminState;
use crate::model::failure_table::FailureTable;
use crate::model::failures::PassiveVerdict;
use crate::model::id::PeerId;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::status::Status;
use crate::model::upstream::Record;
use crate::time::Timestamp;

/// Whether failures, of requests or of checks, may take this peer out of use: not if they have done that to as many
/// others as `max_ejected_percent` allows. Whom an operator or an agent took out of use does not matter here.
pub(crate) fn may_eject(record: &Record, health: &FailureTable, status: &Status, peer: PeerId, now: Timestamp) -> bool {
    let is_in_play = |peer: &&PeerRecord| {
        let agent = status.of(peer.id).and_then(|status| status.agent.as_ref());
        let name = status.of(peer.id).and_then(|status| status.name.as_ref());
        let is_known = name.is_none_or(|name| name.gone.is_none() && !name.addresses.is_empty());
        is_known
            && peer.admin_state(now).0 == AdminState::Up
            && !agent.is_some_and(|agent| agent.is_down() || agent.is_draining())
    };
    let is_out = |other: &&PeerRecord| {
        let verdict = health.of(other.id).verdict(now, other.fail_timeout());
        matches!(verdict, PassiveVerdict::Down { .. }) || status.of(other.id).and_then(PeerStatus::down_by).is_some()
    };
    let in_play = || record.peers.iter().filter(is_in_play);
    let others = in_play().filter(|other| other.id != peer).filter(is_out).count();
    others < most_ejected(in_play().count(), record.spec.max_ejected_percent)
}

/// How many of so many peers may be out of use because of failures at the same time: `percent` of them, rounded down, but
/// one at least; and one at least always stays. Of a single peer none may go, as in nginx.
///
/// | peers | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 |
/// | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
/// | at 10 % | 0 | 1 | 1 | 1 | 1 | 1 | 1 | 1 | 1 | 1 |
/// | at 50 %, the default | 0 | 1 | 1 | 2 | 2 | 3 | 3 | 4 | 4 | 5 |
/// | at 100 % | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 |
#[must_use]
pub fn most_ejected(peers: usize, percent: u8) -> usize {
    (peers * usize::from(percent) / 100).max(1).min(peers.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn one_may_always_go_and_one_always_stays() {
        let table = |percent| (1..=10).map(|peers| most_ejected(peers, percent)).collect::<Vec<_>>();
        assert_eq!(table(0), [0, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(table(10), [0, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        assert_eq!(table(50), [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]);
        assert_eq!(table(100), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(most_ejected(0, 50), 0);
    }
}
