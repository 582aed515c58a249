//! The state of a peer: one of all verdicts on it, and whose that is.
//!
//! Several have a say in whether a peer is used: the operator, its agent, each monitor, the resolver of its name, and the
//! failures counted. Each keeps a verdict of its own, and [`effective_state`] makes one state of them: nobody lifts what another
//! imposed.

use std::time::Duration;

use crate::model::admin_state::AdminState;
use crate::model::agent::Agent;
use crate::model::check::Check;
use crate::model::failures::{Failures, PassiveVerdict};
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::resolution::Resolution;
use crate::model::state::PeerState;
use crate::time::Timestamp;

/// Whose word a peer's state is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Owner<'s> {
    /// Nobody has anything against it.
    Nobody,
    /// The configuration.
    Configuration,
    /// The operator.
    Operator(AdminState),
    /// The peer's agent.
    Agent(&'s Agent),
    /// A monitor.
    Monitor(&'s Check),
    /// The resolver of names.
    Resolver(&'s Resolution),
    /// The counter of failures, with `fail_timeout`.
    Passive(Failures, Duration),
}

/// A peer's state, and why it is that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct EffectiveState<'s> {
    /// The state.
    pub(crate) state: PeerState,
    /// Who made it so.
    pub(crate) owner: Owner<'s>,
    /// Since when, where that is known.
    pub(crate) since: Option<Timestamp>,
    /// When it ends by itself.
    pub(crate) until: Option<Timestamp>,
    /// It ends with the next request that is answered.
    pub(crate) is_on_trial: bool,
}

impl EffectiveState<'_> {
    /// Who made the state, in a word or two; `None` if nobody did.
    #[must_use]
    pub(crate) fn by(&self) -> Option<String> {
        Some(match self.owner {
            Owner::Nobody => return None,
            Owner::Configuration => "configuration".to_owned(),
            Owner::Operator(_) => "operator".to_owned(),
            Owner::Agent(_) => "agent".to_owned(),
            Owner::Monitor(check) => format!("monitor {}", check.monitor),
            Owner::Resolver(_) => "resolver".to_owned(),
            Owner::Passive(..) => "passive".to_owned(),
        })
    }

    /// Why, in a sentence; `None` if there is nothing to say.
    #[must_use]
    pub(crate) fn why(&self) -> Option<String> {
        Some(match self.owner {
            Owner::Nobody => return None,
            Owner::Configuration => {
                format!("declared {}", if self.state == PeerState::Draining { "drain" } else { "down" })
            }
            Owner::Operator(order) => format!("ordered {}", order.name()),
            Owner::Agent(agent) => format!("the agent says {}", agent.summary()),
            Owner::Monitor(check) if self.state == PeerState::Down => check.verdict_why.clone(),
            Owner::Monitor(check) if check.is_good() => "a check failed lately".to_owned(),
            Owner::Monitor(check) => check.why.clone(),
            Owner::Resolver(resolution) if resolution.error.is_empty() => "the name does not exist".to_owned(),
            Owner::Resolver(resolution) => resolution.error.clone(),
            Owner::Passive(failures, within) => {
                let plural = if failures.count == 1 { "" } else { "s" };
                // A window has such a length; an outage goes on.
                match failures.is_outage && failures.last.since(failures.since) >= within {
                    true => format!("{} failure{plural} since {}", failures.count, failures.since),
                    false => {
                        format!("{} failure{plural} within {}", failures.count, crate::time::format_duration(within))
                    }
                }
            }
        })
    }
}

/// Makes one state of all verdicts on a peer, says whose it is, and when it will change by itself.
///
/// The gravest verdict names the state: what is down until somebody says otherwise, then draining, then what ends by
/// itself. Among equals the operator's comes first.
#[must_use]
pub(crate) fn effective_state<'s>(
    peer: &PeerRecord,
    failures: &Failures,
    status: Option<&'s PeerStatus>,
    now: Timestamp,
) -> EffectiveState<'s> {
    let (order, ordered_until) = peer.admin_state(now);
    let operator = match peer.overrides.admin_state {
        Some(_) => Owner::Operator(order),
        None => Owner::Configuration,
    };
    let ordered_since = peer.overrides.admin_state.map(|(_, given)| given);
    let agent = status.and_then(|status| status.agent.as_ref());
    let known = |at: Timestamp| Some(at).filter(|at| *at != Timestamp::default());
    let passive = Owner::Passive(*failures, peer.fail_timeout());
    let ending = |state, owner, since, until| EffectiveState { state, owner, since, until, is_on_trial: false };
    let lasting = |state, owner, since| ending(state, owner, since, None);

    if order == AdminState::Down {
        return lasting(PeerState::Down, operator, ordered_since);
    }
    if let Some(agent) = agent.filter(|agent| agent.is_down()) {
        return lasting(PeerState::Down, Owner::Agent(agent), known(agent.since));
    }
    if let Some(check) = status.and_then(PeerStatus::down_by) {
        return lasting(PeerState::Down, Owner::Monitor(check), known(check.since));
    }
    let name = status.and_then(|status| status.name.as_ref());
    if let Some(name) = name.filter(|name| name.gone.is_some() || name.addresses.is_empty()) {
        return lasting(PeerState::Down, Owner::Resolver(name), name.gone);
    }
    if order == AdminState::Drain {
        return lasting(PeerState::Draining, operator, ordered_since);
    }
    if let Some(agent) = agent.filter(|agent| agent.is_draining()) {
        return lasting(PeerState::Draining, Owner::Agent(agent), known(agent.since));
    }
    if order == AdminState::TemporaryDown {
        return ending(PeerState::TemporaryDown, operator, ordered_since, ordered_until);
    }
    let window = peer.fail_timeout();
    match failures.verdict(now, window) {
        PassiveVerdict::Down { until } => ending(PeerState::TemporaryDown, passive, known(failures.since), Some(until)),
        PassiveVerdict::OnTrial { until } => EffectiveState {
            is_on_trial: true,
            ..ending(PeerState::TemporaryDown, passive, known(failures.since), Some(until))
        },
        PassiveVerdict::Failing => {
            let until = failures.since.after(window);
            ending(PeerState::Failing, passive, known(failures.since), Some(until))
        }
        PassiveVerdict::Good => match status.and_then(|status| status.failing_by(now, window)) {
            Some(check) => {
                let (_, since) = check.fails(now, window);
                ending(PeerState::Failing, Owner::Monitor(check), known(since), Some(since.after(window)))
            }
            None => lasting(PeerState::Up, Owner::Nobody, None),
        },
    }
}
