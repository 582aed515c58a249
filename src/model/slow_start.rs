//! Slow start: a peer that comes back gets its weight back in steps.

use std::time::Duration;

use crate::model::admin_state::AdminState;
use crate::model::failures::Failures;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::time::Timestamp;

/// The slow-start factor of a peer that has all of its weight. A factor counts parts of it.
pub const FULL_FACTOR: u32 = 64;

/// How much of its weight a peer has, in parts of [`FULL_FACTOR`], and when it will have more.
///
/// A peer that comes back, by itself or because an operator said so, gets its weight in equal steps over its
/// `slow_start`. One that is new has all of it from the start, as in nginx.
#[must_use]
pub(crate) fn factor(
    peer: &PeerRecord,
    failures: &Failures,
    status: Option<&PeerStatus>,
    now: Timestamp,
) -> (u32, Option<Timestamp>) {
    let slow_start = peer.slow_start();
    if slow_start.is_zero() {
        return (FULL_FACTOR, None);
    }
    let ordered = match peer.overrides.admin_state {
        Some((AdminState::Up, given)) if given <= now => Some(given),
        Some((AdminState::TemporaryDown, given)) => Some(given.after(peer.fail_timeout())).filter(|back| *back <= now),
        _ => None,
    };
    let checks = status.into_iter().flat_map(|status| &status.checks);
    let agent = status.and_then(|status| status.agent.as_ref());
    let lifted = checks.filter(|check| !check.is_down).map(|check| check.since).chain(agent.map(|agent| agent.since));
    let lifted = lifted.filter(|since| *since != Timestamp::default() && *since <= now).max();
    let Some(back) = failures.back_since(now, peer.fail_timeout()).max(ordered).max(lifted) else {
        return (FULL_FACTOR, None);
    };
    let passed = now.since(back);
    if passed >= slow_start {
        return (FULL_FACTOR, None);
    }
    let step = slow_start / FULL_FACTOR;
    let steps = (passed.as_nanos() / step.as_nanos().max(1)).min(u128::from(FULL_FACTOR) - 1) as u32;
    (steps + 1, Some(back.after(step * (steps + 1)).max(now.after(Duration::from_millis(1)))))
}
