//! What an operator's word makes of a peer.
//!
//! Decisions only, all of them about one record, so that a change is one write or none.

use crate::model::admin_state::AdminState;
use crate::model::failures::Failures;
use crate::model::overrides::Overrides;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::state::PeerState;
use crate::model::verdict::effective_state;
use crate::time::Timestamp;

/// Makes changes to a peer, of which `failures` and `status` are what others say.
pub(crate) fn change(
    peer: &mut PeerRecord,
    changes: &Overrides,
    failures: &Failures,
    status: Option<&PeerStatus>,
    now: Timestamp,
) {
    let state = effective_state(peer, failures, status, now).state;
    let ours = &mut peer.overrides;
    ours.max_fails = changes.max_fails.or(ours.max_fails);
    ours.fail_timeout = changes.fail_timeout.or(ours.fail_timeout);
    ours.max_conns = changes.max_conns.or(ours.max_conns);
    ours.slow_start = changes.slow_start.or(ours.slow_start);
    if changes.weight.is_some() {
        ours.weight = changes.weight;
        // The latest word counts, and the agent may have the next. Its 0 is no weight but a verdict: it lets the peer drain.
        let agent = status.and_then(|status| status.agent.as_ref());
        let is_overruled = agent.is_some_and(|agent| agent.weight.is_some() && !agent.is_weightless());
        peer.era.weight = peer.era.weight.saturating_add(u32::from(is_overruled));
    }
    if let Some((wanted, _)) = changes.admin_state {
        order(peer, wanted, state, now);
    }
}

/// Orders what becomes of a peer that is in this state.
fn order(peer: &mut PeerRecord, wanted: AdminState, state: PeerState, now: Timestamp) {
    let is_given = peer.overrides.admin_state.is_some_and(|(given, _)| given == wanted);
    match wanted {
        AdminState::Up if state == PeerState::Up => {}
        AdminState::Up => {
            peer.era.verdicts = peer.era.verdicts.saturating_add(1);
            // Who is in use already does not start slowly again.
            if !state.is_usable() {
                peer.overrides.admin_state = Some((AdminState::Up, now));
            }
        }
        // An order that is given again is the same one, since the same time.
        AdminState::Down | AdminState::Drain if is_given => {}
        // This one begins anew to end.
        AdminState::Down | AdminState::Drain | AdminState::TemporaryDown => {
            peer.overrides.admin_state = Some((wanted, now));
        }
    }
}

/// When an order that ends by itself came to its end.
pub(crate) fn ended(peer: &PeerRecord, now: Timestamp) -> Option<Timestamp> {
    let given = match peer.overrides.admin_state {
        Some((AdminState::TemporaryDown, given)) if peer.admin_state(now).0 == AdminState::Up => given,
        _ => return None,
    };
    Some(given.after(peer.fail_timeout()))
}

/// Puts an `up` into the place of an order that ended by itself. Returns whether there was one.
pub(crate) fn end(peer: &mut PeerRecord, now: Timestamp) -> bool {
    let Some(at) = ended(peer, now) else { return false };
    // A time ahead is one of before the clock was turned back.
    peer.overrides.admin_state = Some((AdminState::Up, at.min(now)));
    true
}
