//! What becomes of the failures counted in an upstream: one more, those of checks taken back, those that no longer count.
//!
//! Decisions only. They are applied to shared data by whoever swaps the table.

use crate::model::ejection::may_eject;
use crate::model::failure_table::FailureTable;
use crate::model::failures::{Failures, PassiveVerdict};
use crate::model::id::PeerId;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::positions::Positions;
use crate::model::status::Status;
use crate::model::upstream::Record;
use crate::time::Timestamp;

/// Counts one failure against a peer, of a request or of a check. Returns what was counted before and after it.
///
/// No more peers go out of use by this than `max_ejected_percent` allows; one that would be too many is counted and stays. Those
/// that an operator or an agent took out of use do not matter here.
pub(crate) fn add(
    table: &mut FailureTable,
    record: &Record,
    peer: &PeerRecord,
    status: &Status,
    is_check: bool,
    now: Timestamp,
) -> [Failures; 2] {
    let before = table.of(peer);
    let mut after = before.and_one(now, peer.max_fails(), peer.fail_timeout(), is_check);
    let is_down =
        |failures: &Failures| matches!(failures.verdict(now, peer.fail_timeout()), PassiveVerdict::Down { .. });
    if is_down(&after) && !is_down(&before) {
        let is_ejected = status.of(peer.id).and_then(PeerStatus::down_by).is_some();
        if !is_ejected && !may_eject(record, table, status, peer.id, now) {
            after.until = Timestamp::default();
        }
    }
    table.set(peer, after);
    [before, after]
}

/// Takes back the failures that checks counted against a peer, because its monitors find it well. Returns what was counted before
/// and after that.
pub(crate) fn forgive_checks(table: &mut FailureTable, peer: &PeerRecord, now: Timestamp) -> [Failures; 2] {
    let before = table.of(peer);
    let after = before.without_checks(now, peer.max_fails(), peer.fail_timeout());
    table.set(peer, after);
    [before, after]
}

/// Forgets failures that no longer count, and those of peers that are gone. Returns the peers that are back, with what was counted
/// against them.
pub(crate) fn expire(table: &mut FailureTable, record: &Record, now: Timestamp) -> Vec<(PeerId, Failures)> {
    let positions = Positions::of(&record.peers);
    let find = |id| positions.get(id).and_then(|at| record.peers.get(at));
    // A younger peer than any in this record was added after it was read.
    table.retain(|id| find(id).is_some() || id >= record.next_id);
    let mut back = Vec::new();
    let peers: Vec<&PeerRecord> = table.peers().filter_map(find).collect();
    for peer in peers {
        let failures = table.of(peer);
        if failures.verdict(now, peer.fail_timeout()) != PassiveVerdict::Good {
            continue;
        }
        let mut left = failures;
        if failures.count > 0 && failures.until != Timestamp::default() {
            back.push((peer.id, failures));
            // Back, and slowly: since when is all that matters of it from now on.
            left = Failures { since: failures.back_since(now).unwrap_or(now), ..Failures::default() };
        }
        let is_slow = left.count == 0 && left.counts(now, peer.fail_timeout(), peer.slow_start());
        table.set(peer, if is_slow { left } else { Failures::default() });
    }
    back
}
