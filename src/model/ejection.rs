//! How many peers of an upstream may be out of use because of failures.

use crate::model::admin_state::AdminState;
use crate::model::failure_table::FailureTable;
use crate::model::failures::PassiveVerdict;
use crate::model::id::PeerId;
use crate::model::peer_status::PeerStatus;
use crate::model::status::Status;
use crate::model::upstream::Record;
use crate::time::Timestamp;

/// Whether failures, of requests or of checks, may take this peer out of use: not if they have done that to as many
/// others as `max_ejected_percent` allows. Whom an operator or an agent took out of use, or who has no address, does not matter
/// here; but if failures are against such a one as well, it would still be out if its agent gave it back, and counts.
pub(crate) fn may_eject(record: &Record, table: &FailureTable, status: &Status, peer: PeerId, now: Timestamp) -> bool {
    // In play now, and in play now or later, with how many others of each failures have taken out.
    let (mut in_play, mut out) = (0, 0);
    let (mut in_play_later, mut out_later) = (0, 0);
    for one in record.peers.iter().filter(|one| one.admin_state(now).0 == AdminState::Up) {
        let said = status.of(one.id);
        let verdict = table.of(one).verdict(now, one.fail_timeout());
        let is_out = one.id != peer
            && (matches!(verdict, PassiveVerdict::Down { .. }) || said.and_then(PeerStatus::down_by).is_some());
        let is_in_play = said.is_none_or(|said| {
            said.name.as_ref().is_none_or(|name| name.gone.is_none() && !name.addresses.is_empty())
                && !said.agent.as_ref().is_some_and(|agent| agent.is_down() || agent.is_draining())
        });
        in_play += usize::from(is_in_play);
        out += usize::from(is_in_play && is_out);
        in_play_later += usize::from(is_in_play || is_out);
        out_later += usize::from(is_out);
    }
    let most = |peers| most_ejected(peers, record.spec.max_ejected_percent);
    out < most(in_play) && out_later < most(in_play_later)
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
pub(crate) fn most_ejected(peers: usize, percent: u8) -> usize {
    (peers * usize::from(percent) / 100).max(1).min(peers.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::agent::Agent;
    use crate::model::failures::Failures;
    use crate::model::peer::PeerRecord;
    use crate::model::report::AgentAdmin;
    use crate::model::server::Server;
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

    #[test]
    fn those_whom_an_agent_may_give_back_count() {
        const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
        let mut record = Record::new("u");
        let server = |n| Server { name: format!("10.0.0.{n}:80"), ..Server::default() };
        let peers: Vec<PeerRecord> = (1..=4).map(|n| record.add(server(n)).unwrap()).collect();
        let (mut table, mut status) = (FailureTable::default(), Status::default());
        for peer in &peers[..2] {
            table.set(peer, Failures::default().and_one(NOW, 1, Duration::from_secs(10), false));
        }
        let may = |status: &Status, table: &FailureTable| may_eject(&record, table, status, peers[2].id, NOW);
        assert!(!may(&status, &table), "two of four are out");
        let agent = Agent { admin: Some(AgentAdmin::Maint), ..Agent::default() };
        for peer in &peers[..2] {
            status.change(peer.id, |peer| peer.agent = Some(agent.clone()));
        }
        assert!(!may(&status, &table), "the agents may give them back at any time, and they would still be out");
        assert!(may(&status, &FailureTable::default()), "one of the two that are in play");
    }
}
