//! Which peers of an upstream get requests: what `max_ejected_percent`, trials and the last resort make of their states.
//!
//! Failures and monitors together take no more peers out of use than `max_ejected_percent` allows: those against which the verdicts
//! have stood longest. The others keep their verdicts, and stay in use. All of this is worked out from what is shared, at any
//! moment anew: no worker has to remember whom it spared.

use std::fmt;

use crate::model::admin_state::AdminState;
use crate::model::agent::Agent;
use crate::model::failure_table::FailureTable;
use crate::model::failures::PassiveVerdict;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::state::PeerState;
use crate::model::status::Status;
use crate::model::upstream::Record;
use crate::model::verdict::{effective_state, EffectiveState};
use crate::time::Timestamp;

/// Whether a peer gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    /// Nothing is against it.
    InUse,
    /// It is in use in spite of a verdict.
    Kept(Kept),
    /// It is out of use.
    Out,
}

/// Why a peer is in use in spite of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// `max_ejected_percent`, this one, lets no more peers go out of use.
    Limit(u8),
    /// No other peer is left.
    Last,
    /// A request has to show whether it is well again.
    OnTrial,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("kept in use: ")?;
        match self {
            Self::Limit(percent) => {
                write!(f, "max_ejected_percent ({percent} %) lets no more peers go out of use")
            }
            Self::Last => f.write_str("no other peer is left"),
            Self::OnTrial => f.write_str("on trial, one request at a time"),
        }
    }
}

impl Usage {
    /// Whether requests may go there.
    #[must_use]
    pub(crate) fn is_in_use(self) -> bool {
        self != Self::Out
    }

    /// What is said of it, behind why a verdict stands.
    #[must_use]
    pub(crate) fn note(self) -> Option<Kept> {
        match self {
            Self::Kept(kept) => Some(kept),
            Self::InUse | Self::Out => None,
        }
    }
}

/// The states of an upstream's peers at one moment, and which of them get requests.
pub(crate) struct Assessment<'s> {
    /// In the order of the record.
    pub(crate) peers: Vec<(EffectiveState<'s>, Usage)>,
}

impl<'s> Assessment<'s> {
    /// Of these peers.
    pub(crate) fn of(record: &Record, table: &FailureTable, status: &'s Status, now: Timestamp) -> Self {
        let mut peers = Vec::with_capacity(record.peers.len());
        // Those of which others do not dispose, and when failures or monitors turned against them.
        let (mut in_play, mut ejectable) = (0_usize, Vec::new());
        for (at, peer) in record.peers.iter().enumerate() {
            let (failures, said) = (table.of(peer), status.of(peer.id));
            let effective = effective_state(peer, &failures, said, now);
            let usage = if effective.state.is_usable() { Usage::InUse } else { Usage::Out };
            peers.push((effective, usage));
            if !is_in_play(peer, said, now) {
                continue;
            }
            in_play += 1;
            let counted = match failures.verdict(now, peer.fail_timeout()) {
                PassiveVerdict::Down { .. } | PassiveVerdict::OnTrial { .. } => Some(failures.since),
                PassiveVerdict::Good | PassiveVerdict::Failing => None,
            };
            let found = said.and_then(PeerStatus::down_by).map(|check| check.since);
            if let Some(since) = counted.into_iter().chain(found).min() {
                ejectable.push((since, peer.id, at));
            }
        }
        let percent = record.spec.max_ejected_percent;
        let most = most_ejected(in_play, percent);
        ejectable.sort_unstable();
        for (number, (.., at)) in ejectable.into_iter().enumerate() {
            let Some((effective, usage)) = peers.get_mut(at) else { continue };
            if number >= most {
                let is_last = most.saturating_add(1) >= in_play;
                *usage = Usage::Kept(if is_last { Kept::Last } else { Kept::Limit(percent) });
            } else if effective.is_on_trial {
                *usage = Usage::Kept(Kept::OnTrial);
            }
        }
        if !peers.iter().any(|(_, usage)| usage.is_in_use()) {
            let resting = peers.iter_mut().filter(|(effective, _)| effective.state == PeerState::TemporaryDown);
            resting.for_each(|(_, usage)| *usage = Usage::Kept(Kept::Last));
        }
        Self { peers }
    }

    /// The state of the peer at that position, and whether it gets requests.
    pub(crate) fn get(&self, position: usize) -> Option<&(EffectiveState<'s>, Usage)> {
        self.peers.get(position)
    }
}

/// Whether only failures and monitors decide about the use of a peer: an operator, its agent and its name do not forbid it.
fn is_in_play(peer: &PeerRecord, said: Option<&PeerStatus>, now: Timestamp) -> bool {
    let is_forbidden = |agent: &Agent| agent.is_down() || agent.is_draining();
    peer.admin_state(now).0 == AdminState::Up
        && said.is_none_or(|said| {
            said.name.as_ref().is_none_or(|name| name.gone.is_none() && !name.addresses.is_empty())
                && !said.agent.as_ref().is_some_and(is_forbidden)
        })
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
    use crate::model::failures::Failures;
    use crate::model::report::AgentAdmin;
    use crate::model::server::Server;
    use crate::model::spec::MonitorSpec;
    use crate::testing::test;

    const TIMEOUT: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1_000)
    }

    struct Case {
        record: Record,
        table: FailureTable,
        status: Status,
    }

    impl Case {
        fn new(peers: usize, percent: u8) -> Self {
            let mut record = Record::new("u");
            record.spec.max_ejected_percent = percent;
            for n in 1..=peers {
                record.add(Server { name: format!("10.0.0.{n}:80"), ..Server::default() }).unwrap();
            }
            Self { record, table: FailureTable::default(), status: Status::default() }
        }

        /// A request failed at this peer.
        fn fails(&mut self, peer: usize, seconds: u64) {
            let peer = &self.record.peers[peer];
            let failures = self.table.of(peer).and_one(at(seconds), 1, TIMEOUT, true);
            self.table.set(peer, failures);
        }

        fn usage(&self, seconds: u64) -> Vec<Usage> {
            let assessment = Assessment::of(&self.record, &self.table, &self.status, at(seconds));
            assessment.peers.iter().map(|(_, usage)| *usage).collect()
        }
    }

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
    fn those_go_out_of_use_against_which_verdicts_stand_longest() {
        let mut case = Case::new(4, 50);
        for (peer, seconds) in [(3, 1), (0, 2), (1, 3)] {
            case.fails(peer, seconds);
        }
        let kept = Usage::Kept(Kept::Limit(50));
        assert_eq!(case.usage(3), [Usage::Out, kept, Usage::InUse, Usage::Out]);
        case.table.set(&case.record.peers[3], Failures::default());
        assert_eq!(case.usage(3), [Usage::Out, Usage::Out, Usage::InUse, Usage::InUse], "the next one takes its place");
    }

    #[test]
    fn the_last_one_stays_whatever_is_against_it() {
        let mut case = Case::new(1, 100);
        case.fails(0, 1);
        assert_eq!(case.usage(1), [Usage::Kept(Kept::Last)]);
        let mut case = Case::new(2, 100);
        case.fails(1, 1);
        case.fails(0, 2);
        assert_eq!(case.usage(2), [Usage::Kept(Kept::Last), Usage::Out]);
    }

    #[test]
    fn after_fail_timeout_a_peer_is_on_trial() {
        let mut case = Case::new(2, 100);
        case.fails(0, 1);
        assert_eq!(case.usage(11), [Usage::Kept(Kept::OnTrial), Usage::InUse]);
        assert_eq!(case.usage(21), [Usage::InUse, Usage::InUse], "no request came to try it");
    }

    #[test]
    fn who_is_taken_out_by_others_is_neither_spared_nor_counted() {
        let mut case = Case::new(4, 50);
        let monitor = MonitorSpec::default();
        for at in [0, 1] {
            let maintained = Agent { admin: Some(AgentAdmin::Maint), ..Agent::default() };
            case.status.change(case.record.peers[at].id, |peer| peer.agent = Some(maintained));
        }
        case.status.change(case.record.peers[0].id, |peer| peer.change_check(&monitor, |check| check.is_down = true));
        for peer in [2, 3] {
            case.fails(peer, 1);
        }
        assert_eq!(case.usage(1), [Usage::Out, Usage::Out, Usage::Out, Usage::Kept(Kept::Last)]);
        let mut case = Case::new(2, 50);
        case.record.peers[0].overrides.admin_state = Some((AdminState::Drain, at(0)));
        case.fails(0, 1);
        assert_eq!(case.usage(1), [Usage::Out, Usage::InUse]);
    }

    #[test]
    fn who_is_down_for_a_time_by_order_is_the_last_resort() {
        let mut case = Case::new(2, 50);
        case.record.peers[0].overrides.admin_state = Some((AdminState::TemporaryDown, at(0)));
        assert_eq!(case.usage(1), [Usage::Out, Usage::InUse]);
        case.record.peers[1].overrides.admin_state = Some((AdminState::Down, at(0)));
        assert_eq!(case.usage(1), [Usage::Kept(Kept::Last), Usage::Out]);
    }
}
