//! The steps of a check: a monitor says what to ask or what it found, until it is done.

use std::rc::Rc;
use std::time::Duration;

use super::calls::{Progress, Purpose, Subject};
use super::driver::Driver;
use super::findings::{Event, BROKEN_OFF};
use super::pending::PendingStatus;
use super::target;
use crate::host::{Call, CallKind, Failure, Reply};
use crate::model::id::PeerId;
use crate::model::spec::MonitorSpec;
use crate::monitor::kind::Make;
use crate::monitor::own::OwnCheck;
use crate::monitor::{Finding, Step};
use crate::store::Store;
use crate::time::Timestamp;

/// What the name of a cluster ends with that keeps connections; the rest is that of the one that does not.
const KEPT: &str = "_keepalive";

impl Driver<'_> {
    /// Begins a check.
    pub(super) fn begin_check(&mut self, subject: Subject, monitor: &Rc<MonitorSpec>) {
        let progress = Progress { began: self.host.now(), asked: 0, is_again: false };
        self.step(subject, monitor, progress, None, false);
    }

    /// Has a monitor take the next step of a check: the first without a reply. `is_broken_off`: the reply came in part.
    pub(super) fn step(
        &mut self,
        subject: Subject,
        monitor: &Rc<MonitorSpec>,
        progress: Progress,
        reply: Option<&Reply>,
        is_broken_off: bool,
    ) {
        let (now, Subject { position, peer, to }) = (self.host.now(), subject);
        let mut finding = match self.take_step(subject, monitor, progress, reply) {
            None => return,
            Some(Step::Done(finding)) => finding,
            Some(Step::Ask(kind)) => {
                let cluster = self.cluster(monitor, &kind, monitor.keepalive);
                let found = self.directory.view(position).and_then(|view| view.find(peer));
                let name = found.and_then(|peer| target::name_of(peer, to));
                let call = Call { to, name, timeout: left(monitor, progress, now), cluster, kind };
                let progress = Progress { asked: progress.asked.saturating_add(1), is_again: false, ..progress };
                self.state.calls.wait(position, peer, call, Purpose::Check(Rc::clone(monitor), progress));
                if reply.is_none() || self.host.capabilities().calls_from_replies {
                    self.follow_up();
                }
                return;
            }
        };
        if let (Finding::Bad(why) | Finding::Silent(why), true) = (&mut finding, is_broken_off) {
            *why = format!("{why}: {BROKEN_OFF}");
        }
        for event in Event::of(finding, monitor, now, now.since(progress.began)) {
            self.note(position, peer, &event);
        }
    }

    /// Whether a reply says nothing of the server: it may have closed a kept connection just as the check began.
    pub(super) fn may_ask_again(&self, monitor: &MonitorSpec, progress: Progress, reply: &Reply) -> bool {
        let is_lost = *reply == Reply::Failed(Failure::Reset);
        is_lost && monitor.keepalive && !progress.is_again && !left(monitor, progress, self.host.now()).is_zero()
    }

    /// Asks the same once more, over a new connection.
    pub(super) fn ask_again(
        &mut self,
        position: usize,
        peer: PeerId,
        call: Call,
        monitor: Rc<MonitorSpec>,
        progress: Progress,
    ) {
        let cluster = self.cluster(&monitor, &call.kind, false);
        let call = Call { cluster, timeout: left(&monitor, progress, self.host.now()), ..call };
        let progress = Progress { is_again: true, ..progress };
        self.state.calls.wait(position, peer, call, Purpose::Check(monitor, progress));
        if self.host.capabilities().calls_from_replies {
            self.follow_up();
        }
    }

    /// Through which cluster a monitor asks. `kept`: over a connection that may have been used before.
    fn cluster(&self, monitor: &MonitorSpec, kind: &CallKind, kept: bool) -> String {
        let usual = self.state.clusters.of(kind);
        let has_kept = kept && self.host.capabilities().has_clusters;
        match &*monitor.cluster {
            "" if has_kept && matches!(kind, CallKind::Http { .. } | CallKind::Grpc { .. }) => format!("{usual}{KEPT}"),
            "" => usual.to_owned(),
            cluster => cluster.to_owned(),
        }
    }

    /// Makes the calls that wait, as far as there is room.
    pub(super) fn follow_up(&mut self) {
        while self.has_room() {
            let Some((position, peer, call, purpose)) = self.state.calls.next_waiting() else { return };
            // Where that cannot be done it was said why.
            let _ = self.call(position, peer, call, purpose);
        }
    }

    /// What the monitor says. `None` if there is no such monitor or peer any more, or if the monitor rests.
    fn take_step(
        &mut self,
        Subject { position, peer, .. }: Subject,
        monitor: &MonitorSpec,
        progress: Progress,
        reply: Option<&Reply>,
    ) -> Option<Step> {
        let registry = self.directory.registry();
        let kind = registry.monitor(&monitor.name)?;
        let view = self.directory.view(position)?;
        let record = view.find(peer)?;
        let own = match &kind.make {
            Make::BuiltIn(probe) => {
                return Some(match reply {
                    None => Step::Ask(probe.ask(monitor, &record.server.name)),
                    Some(reply) => Step::Done(probe.judge(monitor, reply)),
                });
            }
            Make::Own(own) => &**own,
        };
        // One that was removed meanwhile would run, and keep things, under the name of one that took its place.
        let is_there = |known: &MonitorSpec| known.id == monitor.id && known.number == monitor.number;
        view.record().monitors.iter().find(|known| is_there(known))?;
        let status = self.state.pending.get(position).map(PendingStatus::status);
        let check = OwnCheck {
            store: Store::new(self.host),
            registry,
            worker: self.state.worker(),
            position,
            upstream: view.name(),
            peer: record,
            status: status.and_then(|status| status.of(peer)),
            failures: view.health().of(record),
            spec: monitor,
            asked: progress.asked,
            is_late: left(monitor, progress, self.host.now()).is_zero(),
            name: &|id| view.find(id).map(|peer| peer.server.name.clone()),
        };
        self.state.keeper.get_or_insert_with(|| own.keeper()).step(own, &check, reply)
    }
}

/// How much of a check's time is left.
fn left(monitor: &MonitorSpec, progress: Progress, now: Timestamp) -> Duration {
    monitor.timeout.saturating_sub(now.since(progress.began))
}
