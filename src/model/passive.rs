//! What becomes of the failures counted in an upstream: one more, an outage that is over, those that no longer count.
//!
//! Decisions only. They are applied to shared data by whoever swaps the table.

use crate::model::failure_table::FailureTable;
use crate::model::failures::{Failures, PassiveVerdict};
use crate::model::id::PeerId;
use crate::model::peer::PeerRecord;
use crate::model::positions::Positions;
use crate::model::upstream::Record;
use crate::time::Timestamp;

/// Counts one failure against a peer, of a request or of what a script saw. Returns what was counted before and after it.
pub(crate) fn add(table: &mut FailureTable, peer: &PeerRecord, of_request: bool, now: Timestamp) -> [Failures; 2] {
    let before = table.of(peer);
    let after = before.and_one(now, peer.max_fails(), peer.fail_timeout(), of_request);
    table.set(peer, after);
    [before, after]
}

/// Notes that a request goes to a peer on trial. The first one is what is waited for: streams that never end must not keep an outage
/// alive by following each other.
pub(crate) fn begin_trial(table: &mut FailureTable, peer: &PeerRecord, now: Timestamp) {
    let failures = table.of(peer);
    let is_on_trial = matches!(failures.verdict(now, peer.fail_timeout()), PassiveVerdict::OnTrial { .. });
    if is_on_trial && !failures.is_tried(peer.fail_timeout()) {
        table.set(peer, Failures { tried: now, ..failures });
    }
}

/// What shows that an outage is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// A peer on trial answered a request.
    Answered,
    /// A peer that is kept in use answered a request.
    AnsweredInUse,
    /// Good checks, begun after the failure of that time.
    Checked(Timestamp),
}

/// Ends a peer's outage, if this shows that it is over. Returns what was counted until then; `None` if nothing ended.
pub(crate) fn recover(
    table: &mut FailureTable,
    peer: &PeerRecord,
    recovery: Recovery,
    now: Timestamp,
) -> Option<Failures> {
    let before = table.of(peer);
    let verdict = before.verdict(now, peer.fail_timeout());
    let is_over = match recovery {
        Recovery::Answered => matches!(verdict, PassiveVerdict::OnTrial { .. }),
        Recovery::AnsweredInUse => before.is_calm(now, peer.fail_timeout()),
        Recovery::Checked(last) => {
            before.last == last && matches!(verdict, PassiveVerdict::OnTrial { .. } | PassiveVerdict::Down { .. })
        }
    };
    if is_over {
        let is_slow = !peer.slow_start().is_zero();
        table.set(peer, if is_slow { Failures::over(now) } else { Failures::default() });
    }
    is_over.then_some(before)
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
        if failures.is_outage {
            back.push((peer.id, failures));
            // Back, and slowly: since when is all that matters of it from now on.
            left = Failures::over(failures.back_since(now, peer.fail_timeout()).unwrap_or(now));
        }
        let is_slow = left.count == 0 && left.counts(now, peer.fail_timeout(), peer.slow_start());
        table.set(peer, if is_slow { left } else { Failures::default() });
    }
    back
}
