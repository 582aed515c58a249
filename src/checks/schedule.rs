//! The schedule: what the worker that holds the lease does when.
//!
//! A queue of jobs by time, without I/O: plans and points in time go in, jobs that are due come out. Most jobs are slots
//! that everybody can work out ([`Slots`]), so that nothing is lost or done twice when another worker takes over. Names are
//! looked up when their addresses expire, and a peer whose check failed is checked again soon.
//!
//! Each upstream has a plan: the jobs that follow from its record. Another plan takes the place of the one before, whose
//! jobs are left out when they come up.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::by_position::ByPosition;
use super::check_key::{ByCheck, CheckKey};
use super::dns::LONGEST_TTL;
use super::slots::Slots;
use crate::model::id::PeerId;
use crate::model::spec::Schedule as When;
use crate::model::status::Status;
use crate::time::Timestamp;
use crate::worker::view::View;

/// The time between looks at what others changed, while they change something all the time.
const LOOK: Duration = Duration::from_millis(200);
/// The same, while nothing is announced.
pub(super) const LOOK_ANYWAY: Duration = Duration::from_secs(1);

/// What is to be done when.
#[derive(Default)]
pub(super) struct Schedule {
    /// The number that all workers of this machine share.
    machine: u64,
    jobs: BTreeMap<(Timestamp, u64), Job>,
    next_job: u64,
    plans: ByPosition<Plan>,
    next_plan: u64,
    /// The checks that are made once more: one at a time for each.
    rechecks: ByCheck<()>,
    /// The host's version at the last look at what others changed, and when that was.
    seen: u64,
    looked: Timestamp,
}

/// An upstream's plan.
struct Plan {
    /// The number of the record that it was made for.
    record: Option<u32>,
    /// Tells its jobs from older ones.
    number: u64,
}

/// Something to do.
#[derive(Clone)]
pub(super) struct Job {
    /// The upstream's position.
    pub(super) upstream: usize,
    /// The plan that it is of; a recheck is of none.
    plan: Option<u64>,
    pub(super) task: Task,
}

/// What there is to do.
#[derive(Clone)]
pub(super) enum Task {
    /// Check this peer.
    Check { monitor: Rc<str>, peer: PeerId },
    /// Check one peer after the other: the slot's number says which.
    Rotate { monitor: Rc<str>, slot: u64 },
    /// Look up the peer's name.
    Resolve { peer: PeerId },
}

impl Schedule {
    /// An empty one. `machine` is the number that all workers of this machine share.
    pub(super) fn new(machine: u64) -> Self {
        Self { machine, ..Self::default() }
    }

    /// When the first job is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.jobs.first_key_value().map(|((due, _), _)| *due)
    }

    /// Whether any check is to be made once more.
    pub(super) fn has_rechecks(&self) -> bool {
        !self.rechecks.is_empty()
    }

    /// Whether it is time to look at what others changed. `version` is the host's.
    pub(super) fn is_look_due(&mut self, version: u64, now: Timestamp) -> bool {
        let since = now.since(self.looked);
        let is_new = self.looked == Timestamp::default();
        let pause = if self.seen == version { LOOK_ANYWAY } else { LOOK };
        if !is_new && now >= self.looked && since < pause {
            return false;
        }
        if now < self.looked {
            // The clock was turned back: no job is due at the time at which it should be.
            self.jobs.clear();
            self.plans.clear();
            self.rechecks.clear();
        }
        (self.seen, self.looked) = (version, now);
        true
    }

    /// Whether the upstream has a plan, and for another record than that of this number.
    pub(super) fn is_outdated(&self, position: usize, record: Option<u32>) -> bool {
        self.plans.get(position).is_some_and(|plan| plan.record != record)
    }

    /// Whether the upstream has a plan for the record of this number.
    pub(super) fn is_planned(&self, position: usize, record: Option<u32>) -> bool {
        self.plans.get(position).is_some_and(|plan| plan.record == record)
    }

    /// Leaves out the upstream's jobs from now on.
    pub(super) fn forget(&mut self, position: usize) {
        if self.plans.get(position).is_some() {
            self.plans.remove(position);
            self.rechecks.retain(|check, ()| check.upstream() != position);
        }
    }

    /// Makes a plan for an upstream. Slots count that come after the time `after`.
    pub(super) fn plan(&mut self, position: usize, view: &View, status: Option<&Status>, after: Timestamp) {
        let record = view.record();
        self.next_plan += 1;
        let plan = self.next_plan;
        self.plans.set(position, Plan { record: view.record_number(), number: plan });
        // Jobs of names may be due in a day only.
        self.jobs.retain(|_, job| job.upstream != position || job.plan.is_none());
        let job = |task| Job { upstream: position, plan: Some(plan), task };
        for monitor in &record.monitors {
            let id: Rc<str> = Rc::from(monitor.id.as_str());
            match monitor.schedule {
                When::Rotate => self.add_slot(view, job(Task::Rotate { monitor: id, slot: 0 }), after),
                When::All => {
                    for peer in &record.peers {
                        self.add_slot(view, job(Task::Check { monitor: Rc::clone(&id), peer: peer.id }), after);
                    }
                }
            }
        }
        if record.spec.resolver.is_empty() {
            return;
        }
        for peer in record.peers.iter().filter(|peer| peer.host_name().is_some()) {
            let known = status.and_then(|status| status.of(peer.id)?.name.as_ref());
            let due = known.map_or(after, |known| known.expires);
            // No answer holds for longer than that, unless the clock was turned back.
            let due = if due > after.after(LONGEST_TTL) { after } else { due };
            self.add(due, job(Task::Resolve { peer: peer.id }));
        }
    }

    /// The next job that is due. One that has slots gets its next one. `view` is that of the upstream at a position.
    pub(super) fn next<'v>(&mut self, now: Timestamp, view: impl Fn(usize) -> Option<&'v View>) -> Option<Job> {
        loop {
            let entry = self.jobs.first_entry().filter(|entry| entry.key().0 <= now)?;
            let job = entry.remove();
            let current = self.plans.get(job.upstream).map(|plan| plan.number);
            if job.plan.is_some() && job.plan != current {
                continue;
            }
            let Some(view) = view(job.upstream) else { continue };
            match &job.task {
                Task::Check { monitor, peer } if job.plan.is_none() => {
                    if self.rechecks.remove(CheckKey::new(job.upstream, *peer, monitor)).is_none() {
                        continue;
                    }
                }
                _ => self.add_slot(view, job.clone(), now),
            }
            return Some(job);
        }
    }

    /// Has a peer checked once more at that time, unless it will be anyway.
    pub(super) fn recheck(&mut self, upstream: usize, peer: PeerId, monitor: &str, due: Timestamp) {
        let is_planned = self.plans.get(upstream).is_some();
        if is_planned && self.rechecks.set(CheckKey::new(upstream, peer, monitor), ()).is_none() {
            self.add(due, Job { upstream, plan: None, task: Task::Check { monitor: Rc::from(monitor), peer } });
        }
    }

    /// Has a peer's name looked up at that time.
    pub(super) fn resolve(&mut self, upstream: usize, peer: PeerId, due: Timestamp) {
        let Some(plan) = self.plans.get(upstream).map(|plan| plan.number) else { return };
        self.add(due, Job { upstream, plan: Some(plan), task: Task::Resolve { peer } });
    }

    fn add(&mut self, due: Timestamp, job: Job) {
        self.next_job += 1;
        self.jobs.insert((due, self.next_job), job);
    }

    /// Puts a job into its next slot after a point in time. What has no slots, [`Task::Resolve`], is left out.
    fn add_slot(&mut self, view: &View, mut job: Job, after: Timestamp) {
        let record = view.record();
        let (id, peer) = match &job.task {
            Task::Check { monitor, peer } => (monitor, view.find(*peer)),
            Task::Rotate { monitor, .. } => (monitor, None),
            Task::Resolve { .. } => return,
        };
        let Some(monitor) = record.monitors.iter().find(|monitor| *monitor.id == **id) else { return };
        let peer = peer.map_or("", |peer| peer.server.name.as_str());
        let (due, number) = Slots::new(monitor.interval, self.machine, &[&record.name, &monitor.id, peer]).next(after);
        if let Task::Rotate { slot, .. } = &mut job.task {
            *slot = number;
        }
        self.add(due, job);
    }
}
