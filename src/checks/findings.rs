//! What a reply means, and what that changes in what is said of a peer.
//!
//! A monitor judges a reply; what it found is one [`Event`] or two. An event changes a [`Status`] in the same way whenever it is
//! applied: to this worker's copy at once, and again to what others wrote in the meantime.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use super::dns::SHORTEST_TTL;
use super::lookup::Resolved;
use crate::model::agent::Agent;
use crate::model::check::{took, Flip};
use crate::model::failures::Failures;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::report::Report;
use crate::model::resolution::Resolution;
use crate::model::spec::MonitorSpec;
use crate::model::status::Status;
use crate::model::upstream::Record;
use crate::monitor::Finding;
use crate::time::Timestamp;

/// What was found.
#[derive(Clone)]
pub(super) enum Event {
    /// By a monitor: what is wrong, if anything is, and whether that may become a verdict.
    Checked { monitor: Rc<MonitorSpec>, why: Option<String>, is_verdict: bool, at: Timestamp, took: Duration },
    /// By an agent.
    Reported { monitor: Rc<MonitorSpec>, report: Report, at: Timestamp },
    /// By the resolver.
    Resolved { outcome: Resolved, at: Timestamp },
}

/// What is said of an answer that came only in part. Which of the two it was hosts do not tell.
pub(super) const BROKEN_OFF: &str = "the answer broke off, or is longer than the proxy takes";

/// What an event changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing that others have to know at once.
    Noted,
    /// Something about the use of the peer.
    Changed,
}

impl Event {
    /// The events of what a monitor found in a reply. `length` is how long the check took.
    pub(super) fn of(finding: Finding, monitor: &Rc<MonitorSpec>, at: Timestamp, length: Duration) -> Vec<Self> {
        let monitor = || Rc::clone(monitor);
        let checked = |why, is_verdict| Self::Checked { monitor: monitor(), why, is_verdict, at, took: length };
        match finding {
            Finding::Good => vec![checked(None, true)],
            Finding::Bad(why) => vec![checked(Some(why), true)],
            Finding::Silent(why) => vec![checked(Some(why), false)],
            Finding::Reported(report) => {
                vec![checked(None, false), Self::Reported { monitor: monitor(), report, at }]
            }
        }
    }

    /// Whether it is of a monitor that there is, or of none.
    pub(super) fn is_of(&self, record: &Record) -> bool {
        match self {
            Self::Checked { monitor, .. } | Self::Reported { monitor, .. } => {
                record.monitors.iter().any(|known| known.id == monitor.id && known.number == monitor.number)
            }
            Self::Resolved { .. } => true,
        }
    }

    /// Whether others found the opposite since. They do not find it while this worker makes the checks; but it may stand still for longer
    /// than its lease lasts.
    pub(super) fn is_outdated(&self, peer_status: Option<&PeerStatus>) -> bool {
        match self {
            Self::Checked { monitor, why, at, .. } => peer_status
                .and_then(|peer_status| peer_status.check(&monitor.id))
                .is_some_and(|check| check.at > *at && check.is_good() != why.is_none()),
            Self::Reported { .. } | Self::Resolved { .. } => false,
        }
    }

    /// When that was.
    pub(super) fn at(&self) -> Timestamp {
        match self {
            Self::Checked { at, .. } | Self::Reported { at, .. } | Self::Resolved { at, .. } => *at,
        }
    }

    /// Whose doing a change by this event is, and why it happened if the peer is back by it.
    pub(super) fn reason(&self) -> (String, String) {
        match self {
            Self::Checked { monitor, why: Some(why), .. } => (format!("monitor {}", monitor.id), why.clone()),
            Self::Checked { monitor, why: None, .. } => {
                (format!("monitor {}", monitor.id), format!("{} good checks in a row", monitor.rise))
            }
            Self::Reported { .. } => ("agent".to_owned(), "the agent says so".to_owned()),
            Self::Resolved { outcome: Resolved::Found(..), .. } => {
                ("resolver".to_owned(), "the name is resolved".to_owned())
            }
            Self::Resolved { outcome: Resolved::Gone(why) | Resolved::Failed(why), .. } => {
                ("resolver".to_owned(), why.clone())
            }
        }
    }

    /// Changes what is said of a peer, of which `failures` are counted.
    pub(super) fn apply(&self, status: &mut Status, peer: &PeerRecord, failures: &Failures) -> Effect {
        let is_changed = match self {
            Self::Checked { monitor, why, is_verdict, at, took: length } => status.change(peer.id, |peer_status| {
                peer_status.change_check(monitor, |check| {
                    (check.at, check.took) = (*at, took(*length));
                    let was_failing = check.is_failing(*at, peer.fail_timeout());
                    let flip = check.observe(why.as_deref(), monitor, peer.fail_timeout());
                    // What a monitor imposed itself is lifted by anything good.
                    let flip = flip.filter(|flip| *is_verdict || *flip == Flip::Up);
                    flip.into_iter().for_each(|flip| check.set_verdict(flip, *at));
                    if failures.is_outage && *is_verdict {
                        check.count_recovery(failures.last);
                    }
                    flip.is_some() || was_failing != check.is_failing(*at, peer.fail_timeout())
                })
            }),
            Self::Reported { monitor, report, at } => {
                status.change(peer.id, |peer_status| apply_report(peer_status, monitor, report, *at))
            }
            Self::Resolved { outcome, at } => {
                status.change(peer.id, |peer_status| apply_resolution(peer_status, outcome, *at))
            }
        };
        if is_changed {
            Effect::Changed
        } else {
            Effect::Noted
        }
    }
}

fn apply_report(peer_status: &mut PeerStatus, monitor: &MonitorSpec, report: &Report, at: Timestamp) -> bool {
    // What is said to people nobody has to know at once.
    let used = |agent: &Agent| (agent.health, agent.admin, agent.weight, agent.max_conns);
    let before = peer_status.agent.as_ref().map(used);
    let agent = peer_status.agent.get_or_insert_default();
    agent.apply(monitor, report, at);
    before != Some(used(agent))
}

fn apply_resolution(peer_status: &mut PeerStatus, outcome: &Resolved, at: Timestamp) -> bool {
    let before = peer_status.name.take().unwrap_or_default();
    let mut name = Resolution { error: String::new(), ..before.clone() };
    match outcome {
        Resolved::Found(addresses, hold, is_partial) => {
            name.addresses.clone_from(addresses);
            let hold = if *is_partial { SHORTEST_TTL } else { *hold };
            (name.gone, name.expires) = (None, at.after(hold));
            // What a question without an answer was for stays as it was.
            let is_missing = |address: &&IpAddr| addresses.iter().all(|new| new.is_ipv4() != address.is_ipv4());
            let kept = before.addresses.iter().filter(|_| *is_partial).filter(is_missing);
            name.addresses.extend(kept);
        }
        Resolved::Gone(why) => {
            name.gone = name.gone.or(Some(at));
            (name.error, name.expires) = (why.clone(), at.after(SHORTEST_TTL));
        }
        Resolved::Failed(why) => (name.error, name.expires) = (why.clone(), at.after(SHORTEST_TTL)),
    }
    let is_changed = (&name.addresses, name.gone, &name.error) != (&before.addresses, before.gone, &before.error);
    peer_status.name = Some(name);
    is_changed
}
