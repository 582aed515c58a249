//! What follows from an event besides what it changes in a status: outages that are over, lines in the log, and
//! what is to be done next.

use std::net::IpAddr;
use std::time::Duration;

use super::check_key::CheckKey;
use super::complaints::{Cause, Complaints};
use super::findings::Event;
use super::lookup::Resolved;
use super::pending::PendingStatus;
use crate::model::check::Check;
use crate::model::passive::Recovery;
use crate::model::peer::PeerRecord;
use crate::model::resolution::Resolution;
use crate::model::spec::MonitorSpec;
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
        self.pending.note(self.view, self.peer, event);
        match event {
            Event::Checked { why: Some(_), monitor, is_verdict, at, .. } => {
                let is_settled = self.check(monitor).is_none_or(|check| check.is_down);
                if !is_verdict || is_settled {
                    return Next::Nothing;
                }
                Next::Recheck(at.after((monitor.interval / monitor.fall.max(10)).max(SOON)))
            }
            Event::Checked { why: None, monitor, .. } => {
                self.end_outage(monitor, event);
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

    /// Ends the outage that failed requests began, once the monitor found the peer well often enough since the last of them.
    fn end_outage(&mut self, monitor: &MonitorSpec, event: &Event) {
        let failures = self.view.health().of(self.peer);
        let found = self.check(monitor).map_or(0, |check| check.recovered(failures.last));
        if !failures.is_outage || found < monitor.rise {
            return;
        }
        let (by, why) = event.reason();
        let recovery = Recovery::Checked(failures.last);
        let ended = self.store.recover(self.view.record(), self.peer, self.pending.status(), recovery, (&by, &why));
        if let Err(error) = ended {
            self.complaints.say(
                event.at(),
                Cause::Recovery,
                &format!("the end of an outage cannot be written: {error}"),
            );
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
