//! What follows from an event besides what it changes in a status: failures counted or taken back, lines in the log, and
//! what is to be done next.

use std::net::IpAddr;
use std::time::Duration;

use super::check_key::CheckKey;
use super::complaints::{Cause, Complaints};
use super::findings::{Effect, Event};
use super::lookup::Resolved;
use super::pending::{PendingStatus, StateChange};
use crate::model::check::Check;
use crate::model::peer::PeerRecord;
use crate::model::resolution::Resolution;
use crate::model::spec::MonitorSpec;
use crate::model::verdict;
use crate::store::Store;
use crate::time::Timestamp;
use crate::worker::view::View;

/// The shortest time after a failed check to the next one.
const SOON: Duration = Duration::from_millis(100);

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing out of the ordinary.
    Nothing,
    /// The peer is checked again at that time, to be sure.
    Recheck(Timestamp),
    /// The name is looked up again at that time.
    Resolve(Timestamp),
}

/// An event at a peer, and what there is to draw consequences with.
pub(super) struct Consequences<'c, 'h> {
    pub(super) store: &'c Store<'h>,
    /// The upstream's position.
    pub(super) position: usize,
    pub(super) view: &'c View,
    pub(super) peer: &'c PeerRecord,
    pub(super) pending: &'c mut PendingStatus,
    pub(super) complaints: &'c mut Complaints,
}

impl Consequences<'_, '_> {
    /// Takes in an event, and returns what follows from it.
    pub(super) fn of(&mut self, event: &Event) -> Next {
        let known = |pending: &PendingStatus| pending.of(self.peer.id).and_then(|peer_status| peer_status.name.clone());
        let before = known(self.pending).unwrap_or_default();
        if let Event::Reported { monitor, report, at } = event {
            self.report_words(monitor, &report.unknown, *at);
        }
        let effect = self.pending.note(self.view, self.peer, event);
        match event {
            Event::Checked { why: Some(why), monitor, is_verdict, at, .. } => {
                if effect == Effect::Spared {
                    event.log_spared(self.view.name(), &self.peer.server.name);
                }
                // One that stays in use in spite of that is checked in its slots only.
                let is_settled = self.check(monitor).is_none_or(|check| check.is_down || check.streak >= monitor.fall);
                self.count_failure(&format!("check {:?}: {why}", monitor.id));
                if !is_verdict || is_settled {
                    return Next::Nothing;
                }
                Next::Recheck(at.after((monitor.interval / monitor.fall.max(10)).max(SOON)))
            }
            Event::Checked { why: None, monitor, .. } => {
                if self.view.health().of(self.peer).checks > 0 && self.is_well(monitor) {
                    self.take_back_failures(event);
                }
                Next::Nothing
            }
            Event::Reported { .. } => Next::Nothing,
            Event::Resolved { outcome, .. } => {
                let after = known(self.pending).unwrap_or_default();
                self.log_resolution(outcome, &before, &after);
                Next::Resolve(after.expires)
            }
        }
    }

    fn check(&self, monitor: &MonitorSpec) -> Option<&Check> {
        self.pending.of(self.peer.id)?.check(&monitor.id)
    }

    /// Whether no monitor has anything against the peer, and this one has not had for long enough.
    fn is_well(&self, monitor: &MonitorSpec) -> bool {
        let checks = self.pending.of(self.peer.id).map(|peer_status| peer_status.checks.as_slice()).unwrap_or_default();
        let is_well = checks.iter().all(|check| check.is_good() && !check.is_down);
        is_well && self.check(monitor).is_some_and(|check| check.streak >= monitor.rise)
    }

    fn count_failure(&mut self, why: &str) {
        let counted = self.store.fail(self.view.record(), self.peer, self.pending.status(), &why, true);
        if let Err(error) = counted {
            self.complaints.say(self.store.now(), Cause::Count, &format!("a failed check cannot be counted: {error}"));
        }
    }

    fn take_back_failures(&mut self, event: &Event) {
        let (record, now) = (self.view.record(), event.at());
        match self.store.forgive_checks(record, self.peer) {
            Ok((counted, left)) => {
                let peer_status = self.pending.of(self.peer.id);
                let state = |failures| verdict::effective_state(self.peer, failures, peer_status, now).state;
                let change = [state(&counted), state(&left)];
                let ((by, why), peer) = (event.reason(), self.peer.server.name.clone());
                self.pending.report_later(self.store, &record.name, StateChange { peer, change, by, why });
            }
            Err(error) => {
                self.complaints.say(now, Cause::TakeBack, &format!("failures of checks cannot be taken back: {error}"));
            }
        }
    }

    /// Has the log tell of an agent's words that mean nothing.
    fn report_words(&mut self, monitor: &MonitorSpec, words: &[String], now: Timestamp) {
        let agent = self.pending.of(self.peer.id).and_then(|peer_status| peer_status.agent.as_ref());
        let known = agent.filter(|agent| agent.is_of(monitor)).map(|agent| agent.unknown.as_slice());
        let key = CheckKey::new(self.position, self.peer.id, &monitor.id);
        if self.complaints.is_to_report(now, key, words, known.unwrap_or_default()) {
            let (peer, monitor, words) = (&self.peer.server.name, &monitor.id, words.join(" "));
            log::warn!("peer={peer} monitor={monitor:?}: the agent said unknown words: {words:?}");
        }
    }

    fn log_resolution(&self, outcome: &Resolved, was: &Resolution, is: &Resolution) {
        let list = |addresses: &[IpAddr]| addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
        let (upstream, peer) = (self.view.name(), &self.peer.server.name);
        match outcome {
            Resolved::Found(..) if is.addresses != was.addresses => {
                let (from, to) = (list(&was.addresses), list(&is.addresses));
                log::info!("peer addresses: upstream={upstream} peer={peer} from={from} to={to}");
            }
            Resolved::Failed(why) if was.error != *why => {
                let known = list(&is.addresses);
                log::warn!(
                    "peer addresses: upstream={upstream} peer={peer} cannot be resolved: {why}; still {known:?}"
                );
            }
            _ => {}
        }
    }
}
