//! The steps of a check: a monitor says what to ask or what it found, until it is done.

use std::rc::Rc;
use std::time::Duration;

use super::calls::{Progress, Purpose, Subject};
use super::complaints::Cause;
use super::driver::Driver;
use super::findings::{Event, BROKEN_OFF};
use super::pending::PendingStatus;
use crate::host::{Call, Failure, Reply};
use crate::model::id::PeerId;
use crate::model::spec::MonitorSpec;
use crate::monitor::{Check, Finding, Step};
use crate::store::runs::Begun;
use crate::store::Store;
use crate::time::format_duration;

/// The most questions of one check.
const MOST_QUESTIONS: u32 = 16;

impl Driver<'_> {
    /// Begins a check.
    pub(super) fn begin_check(&mut self, subject: Subject, monitor: &Rc<MonitorSpec>) {
        let progress = Progress { began: self.host.now(), asked: 0 };
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
        let Subject { position, peer, to } = subject;
        let now = self.host.now();
        let left = monitor.timeout.saturating_sub(now.since(progress.began));
        let step = match self.take_step(subject, monitor, progress, reply) {
            Some(step) => step,
            None => return,
        };
        let mut finding = match step {
            Ok(Step::Done(finding)) => finding,
            Ok(Step::Ask(_)) if left == Duration::ZERO => Finding::Bad(Failure::Timeout.to_string()),
            Ok(Step::Ask(kind)) if progress.asked < MOST_QUESTIONS => {
                let usual = self.state.clusters.of(&kind);
                let named = Some(&*monitor.cluster).filter(|cluster| !cluster.is_empty());
                let cluster = named.unwrap_or(usual).to_owned();
                let call = Call { to, timeout: left, cluster, kind };
                let progress = Progress { asked: progress.asked.saturating_add(1), ..progress };
                let purpose = Purpose::Check(Rc::clone(monitor), progress);
                if reply.is_some() && !(self.host.capabilities().calls_from_replies && self.has_room()) {
                    self.state.calls.wait(position, peer, call, purpose);
                } else {
                    // Where that cannot be done it was said why.
                    let _ = self.call(position, peer, &call, purpose);
                }
                return;
            }
            Ok(Step::Ask(_)) => self.fault(subject, monitor, "it asks more than 16 times in one check"),
            Err(why) => self.fault(subject, monitor, &why),
        };
        if let (Finding::Bad(why) | Finding::Silent(why), true) = (&mut finding, is_broken_off) {
            *why = format!("{why}: {BROKEN_OFF}");
        }
        if reply.is_none() {
            // It did not ask anybody, so nothing keeps it from asking.
            if let Some((upstream, _)) = self.names(position, peer) {
                let _ = Store::new(self.host).set_obstacle(&upstream, Some(monitor), None);
            }
        }
        for event in Event::of(finding, monitor, now, now.since(progress.began)) {
            self.note(position, peer, &event);
        }
    }

    /// Makes calls that had to wait for a tick, or for room.
    pub(super) fn follow_up(&mut self) {
        while self.has_room() {
            let Some((position, peer, call, purpose)) = self.state.calls.next_waiting() else { return };
            let _ = self.call(position, peer, &call, purpose);
        }
    }

    /// What the monitor says. `None` if there is no such monitor or peer any more, or if the monitor rests.
    fn take_step(
        &mut self,
        Subject { position, peer, .. }: Subject,
        monitor: &Rc<MonitorSpec>,
        progress: Progress,
        reply: Option<&Reply>,
    ) -> Option<Result<Step, String>> {
        let kind = Rc::clone(self.directory.registry().monitor(&monitor.name)?);
        let worker = self.state.worker();
        let store = Store::new(self.host);
        if !kind.is_built_in() {
            let upstream = Rc::clone(self.directory.view(position)?.name());
            match store.begin_run(&upstream, monitor, worker, peer) {
                Ok(Begun::Rests) => return None,
                Ok(Begun::Crashed(at, times, rest)) => {
                    self.tell_of_crash((position, at), monitor, times, rest);
                    return None;
                }
                // Where nothing can be written down, checks go on.
                Ok(Begun::Runs) | Err(_) => {}
            }
        }
        let view = self.directory.view(position)?;
        let record = view.find(peer)?;
        let status = self.state.pending.get(position).map(PendingStatus::status).and_then(|status| status.of(peer));
        let failures = view.health().of(record);
        let registry = self.directory.registry();
        let (upstream, asked) = (&**view.name(), progress.asked);
        let spec = &**monitor;
        let step = self.state.runs.with(&kind, (position, peer), spec, |monitor, local| {
            let mut check = Check { spec, upstream, peer: record, status, failures, store, registry, local, asked };
            monitor.check(&mut check, reply)
        });
        if !kind.is_built_in() {
            let _ = store.end_run(upstream, spec, worker);
        }
        step
    }

    /// Tells of a monitor that says itself that it could not find out anything.
    fn fault(&mut self, subject: Subject, monitor: &MonitorSpec, why: &str) -> Finding {
        let finding = format!("the monitor failed: {why}");
        if let Some((upstream, peer)) = self.names(subject.position, subject.peer) {
            let line = format!("upstream={upstream} peer={peer} monitor={:?}: {finding}", monitor.id);
            self.complain(Cause::monitor(&upstream, &monitor.id), &line);
        }
        Finding::Silent(finding)
    }

    /// Tells of a monitor that took its VM with it.
    fn tell_of_crash(&mut self, (position, peer): (usize, PeerId), monitor: &MonitorSpec, times: u32, rest: Duration) {
        let Some((upstream, peer_name)) = self.names(position, peer) else { return };
        let rest = format_duration(rest);
        let why =
            format!("it crashed or hung while it looked at {peer_name}, {times} times by now, and rests for {rest}");
        log::error!("upstream={upstream} peer={peer_name} monitor={:?} rests: {why}", monitor.id);
        // What cannot be written now is told by the log alone.
        let _ = Store::new(self.host).set_obstacle(&upstream, Some(monitor), Some(&why));
    }

    fn names(&self, position: usize, peer: PeerId) -> Option<(Rc<str>, String)> {
        let view = self.directory.view(position)?;
        let peer = view.find(peer).map_or_else(String::new, |peer| peer.server.name.clone());
        Some((Rc::clone(view.name()), peer))
    }
}
