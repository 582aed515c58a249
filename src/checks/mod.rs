//! The checks: which worker asks which peer and which name server when, and what becomes of the answers.
//!
//! - The worker that holds the [`lease`] has a [`schedule`]: jobs by time. A job that is due makes a call, or begins to look up a
//!   name ([`lookup`]).
//! - The reply to a call is judged by the monitor, by the worker that made the call ([`calls`], [`findings`]).
//! - What was found goes into a copy of what is said of the upstream's peers ([`pending`]). That is written to shared data at
//!   once when a verdict changes, and otherwise once in a while: a thousand good checks cost one write. What else follows,
//!   such as a failure that counts, is in [`consequences`].
//!
//! All of these are told the time and what happened, and say what to do next. What is done is done here: the calls, the reads
//! and the writes. A tick costs what is due, whatever the number of peers; after a change, it costs a look at each
//! upstream.

mod by_position;
mod calls;
mod check_key;
mod complaints;
mod consequences;
mod dns;
mod findings;
mod lease;
mod lookup;
mod pending;
mod schedule;
mod slots;
mod target;

use std::rc::Rc;
use std::time::Duration;

use crate::host::{Call, CallId, CallKind, CalloutClusters, EndCall, Failure, Host, Reply};
use crate::model::id::PeerId;
use crate::model::peer::PeerRecord;
use crate::model::upstream::Record;
use crate::monitor::Finding;
use crate::store::Store;
use crate::time::Timestamp;
use crate::worker::directory::Directory;
use by_position::ByPosition;
use calls::{Calls, Ended, Purpose};
use check_key::CheckKey;
use complaints::{Cause, Complaints};
use consequences::{Consequences, Next};
use dns::{Answer, Question};
use findings::{Event, BROKEN_OFF};
use lease::{Grant, Lease, POLL};
use lookup::Lookups;
use pending::{Pending, PendingStatus, BATCH};
use schedule::{Job, Schedule, Task, LOOK_ANYWAY};
use target::Target;

/// How long a name server may take.
const RESOLVER_TIMEOUT: Duration = Duration::from_secs(2);

/// The checks of one instance of the filter, as one worker sees them.
pub(crate) struct Checks {
    lease: Lease,
    clusters: CalloutClusters,
    /// None while another worker holds the lease, or nobody has to.
    schedule: Option<Schedule>,
    calls: Calls,
    lookups: Lookups,
    pending: Pending,
    /// When the view of an upstream was last brought up to date for a reply.
    refreshed: ByPosition<Timestamp>,
    /// What the host's version was when nothing was to be checked, so that it is looked for again when that changes.
    idle: Option<u64>,
    /// When it was looked for.
    looked: Timestamp,
    complaints: Complaints,
}

impl Checks {
    /// For an instance of the filter with this configuration.
    pub(crate) fn new(host: &dyn Host, instance: &str, configuration: u64, clusters: CalloutClusters) -> Self {
        Self {
            lease: Lease::new(instance, host.random(), configuration),
            clusters,
            schedule: None,
            calls: Calls::default(),
            lookups: Lookups::default(),
            pending: Pending::default(),
            refreshed: ByPosition::default(),
            idle: None,
            looked: Timestamp::default(),
            complaints: Complaints::default(),
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, host: &dyn Host, directory: &mut Directory) {
        let mut run = Run { checks: self, host, directory };
        run.expire();
        if run.checks.schedule.is_none() && !run.is_needed() {
            return;
        }
        match run.checks.lease.acquire(host) {
            Ok(Some(grant)) => {
                run.look(grant);
                run.do_jobs(grant.now);
                run.write_pending(false);
            }
            Ok(None) => {
                run.write_pending(true);
                run.checks.schedule = None;
            }
            Err(error) => run.complain(Cause::Lease, &format!("the lease of the checks cannot be had: {error}")),
        }
    }

    /// Takes in a reply.
    pub(crate) fn reply(&mut self, host: &dyn Host, directory: &mut Directory, call: CallId, reply: &Reply) {
        Run { checks: self, host, directory }.reply(call, reply);
    }

    /// How long until there is something to do; none if nothing is ever to be done.
    pub(crate) fn wait(&self, host: &dyn Host) -> Option<Duration> {
        let now = host.now();
        let until = |at: Timestamp| at.since(now);
        let urgent = self.pending.is_urgent().then_some(BATCH);
        let work = match &self.schedule {
            Some(schedule) => schedule.next_due().map(until).into_iter().chain([POLL]).min(),
            None => self.idle.is_none().then_some(POLL),
        };
        [self.calls.next_due().map(until), work, urgent].into_iter().flatten().min()
    }
}

/// The checks while something happens to them.
struct Run<'r> {
    checks: &'r mut Checks,
    host: &'r dyn Host,
    directory: &'r mut Directory,
}

impl Run<'_> {
    fn complain(&mut self, cause: Cause, what: &str) {
        self.checks.complaints.say(self.host.now(), cause, what);
    }

    /// Whether there is anything to check. Looked at again when something was announced.
    fn is_needed(&mut self) -> bool {
        let version = self.host.version();
        let now = self.host.now();
        let is_fresh = now >= self.checks.looked && now.since(self.checks.looked) < LOOK_ANYWAY;
        if self.checks.idle == Some(version) && is_fresh {
            return false;
        }
        let needed = (0..self.directory.len()).any(|position| {
            let record = self.refresh(position);
            record.is_some_and(|record| {
                let has_names = !record.spec.resolver.is_empty();
                !record.monitors.is_empty() || (has_names && record.peers.iter().any(|peer| peer.host_name().is_some()))
            })
        });
        (self.checks.idle, self.checks.looked) = ((!needed).then_some(version), now);
        needed
    }

    /// Brings an upstream up to date. `None` if it is another instance's to check.
    fn refresh(&mut self, position: usize) -> Option<&Record> {
        let instance = self.directory.instance().to_owned();
        let entry = self.directory.get_mut(position).filter(|entry| entry.is_own())?;
        // What cannot be read now is looked at again later.
        entry.refresh(self.host, &instance).ok()?;
        let is_alive = |other: &str| lease::is_held(self.host, other);
        Some(entry.view.record()).filter(|record| record.is_in_charge(&instance, is_alive))
    }

    /// Looks at what others changed, and plans anew where that matters.
    fn look(&mut self, grant: Grant) {
        let schedule = self.checks.schedule.get_or_insert_with(|| Schedule::new(grant.machine));
        if !schedule.is_look_due(self.host.version(), self.host.now()) {
            return;
        }
        for position in 0..self.directory.len() {
            if self.refresh(position).is_none() {
                self.checks.schedule.iter_mut().for_each(|schedule| schedule.forget(position));
                self.checks.pending.remove(position);
                continue;
            }
            let number = self.directory.view(position).and_then(|view| view.record_number());
            if self.checks.schedule.as_ref().is_some_and(|schedule| schedule.is_outdated(position, number)) {
                let (view, pending) = (self.directory.view(position), self.checks.pending.get_mut(position));
                if let (Some(view), Some(pending)) = (view, pending) {
                    pending.restrict(view.record());
                }
            }
            let is_changed = self.reload(position);
            let (Some(schedule), Some(view)) = (&mut self.checks.schedule, self.directory.view(position)) else {
                return;
            };
            if is_changed || !schedule.is_planned(position, number) {
                let status = self.checks.pending.get(position).map(PendingStatus::status);
                schedule.plan(position, view, status, grant.after);
            }
        }
    }

    /// Takes in what others wrote about an upstream's peers. Returns whether there was anything.
    fn reload(&mut self, position: usize) -> bool {
        let Some(view) = self.directory.view(position) else { return false };
        self.checks.pending.reload(&Store::new(self.host), position, view)
    }

    /// Does the jobs that are due.
    fn do_jobs(&mut self, now: Timestamp) {
        // What is due stays in the queue while there is no room for calls, and gets its next slot when it is done.
        while self.checks.calls.count() < self.host.capabilities().most_calls {
            let Some(schedule) = &mut self.checks.schedule else { return };
            let directory = &*self.directory;
            let Some(job) = schedule.next(now, |position| directory.view(position)) else { return };
            self.begin(&job);
        }
    }

    /// Begins a job.
    fn begin(&mut self, job: &Job) {
        let Some(view) = self.directory.view(job.upstream) else { return };
        if let Task::Resolve { peer } = job.task {
            if let Some(name) = view.find(peer).and_then(PeerRecord::host_name) {
                self.checks.lookups.begin(job.upstream, peer, name);
                self.ask();
            }
            return;
        }
        let status = self.checks.pending.get(job.upstream).map(PendingStatus::status);
        let Some(target) = Target::of(&job.task, view, status, self.host.now()) else { return };
        let Target { monitor, peer, to } = target;
        // A server that takes its time is not asked again meanwhile.
        if self.checks.calls.is_checking(job.upstream, peer.id, &monitor.id) {
            return;
        }
        let Some(kind) = self.directory.registry().monitor(&monitor.name) else { return };
        let call = Call { to, timeout: monitor.timeout, kind: kind.monitor.ask(monitor, &peer.server.name) };
        let cause = if matches!(call.kind, CallKind::Http { .. }) { Cause::HttpCall } else { Cause::TcpCall };
        let (id, name, monitor) = (peer.id, peer.server.name.clone(), Rc::new(monitor.clone()));
        let upstream = Rc::clone(view.name());
        if let Err(error) = self.call(job.upstream, id, call, Purpose::Check(Rc::clone(&monitor))) {
            let monitor = &monitor.id;
            let what = format!("upstream={upstream} peer={name} cannot be checked by monitor {monitor:?}: {error}");
            self.complain(cause, &what);
        }
    }

    fn call(&mut self, upstream: usize, peer: PeerId, call: Call, purpose: Purpose) -> Result<(), String> {
        let clusters = &self.checks.clusters;
        let is_http = matches!(call.kind, CallKind::Http { .. });
        let gateway = if is_http { &clusters.probe } else { &clusters.tcp };
        let made = self.host.call(clusters, &call);
        let id = made.map_err(|error| format!("{error}; calls go through the cluster {gateway:?}, is it there?"))?;
        self.checks.calls.add(id, &call, upstream, peer, purpose, self.host.now());
        Ok(())
    }

    /// Asks what is to be asked about names.
    fn ask(&mut self) {
        while let Some(next) = self.checks.lookups.next_question() {
            let record = self.directory.record(next.upstream);
            let server = record.and_then(|record| record.spec.resolver.get(next.server).copied());
            let question = Question { name: next.name, family: next.family, id: self.host.random() as u16 };
            let asked = match (server, question.encode()) {
                (Some(to), Some(bytes)) => {
                    let call = Call { to, timeout: RESOLVER_TIMEOUT, kind: CallKind::Tcp(bytes) };
                    self.call(next.upstream, next.peer, call, Purpose::Lookup(next.lookup, question))
                }
                (None, _) => Err("there is no name server to ask".to_owned()),
                (_, None) => Err("not a name that can be asked for".to_owned()),
            };
            if let Err(error) = asked {
                self.answer(next.lookup, Err(error));
            }
        }
    }

    /// Takes in what came of a question.
    fn answer(&mut self, lookup: u64, answer: Result<Answer, String>) {
        let Some(upstream) = self.checks.lookups.upstream(lookup) else { return };
        let servers = self.directory.record(upstream).map_or(0, |record| record.spec.resolver.len());
        if let Some((upstream, peer, outcome)) = self.checks.lookups.answer(lookup, answer, servers) {
            let at = self.host.now();
            self.note(upstream, peer, &Event::Resolved { outcome, at });
        }
    }

    /// Gives up calls whose replies are overdue, and closes connections that servers keep open.
    fn expire(&mut self) {
        let now = self.host.now();
        for id in self.checks.calls.overdue(now) {
            self.host.end_call(id, EndCall::Cancel);
            self.reply(id, &Reply::Failed(Failure::Timeout));
        }
        for id in self.checks.calls.drain_unclosed(now) {
            self.host.end_call(id, EndCall::Cancel);
        }
    }

    fn reply(&mut self, call: CallId, reply: &Reply) {
        let now = self.host.now();
        let Some(Ended { flight, is_broken_off }) = self.checks.calls.end(call, reply, now) else { return };
        if *reply == Reply::Connected {
            self.host.end_call(call, EndCall::Close);
        }
        let reply = if is_broken_off { &Reply::Failed(Failure::Reset) } else { reply };
        // The peer may be gone, or another instance may be in charge by now. Many replies may come at once.
        let is_fresh = |at: &&Timestamp| **at <= now && now < at.after(BATCH);
        if self.checks.refreshed.get(flight.upstream).filter(is_fresh).is_none() {
            if self.refresh(flight.upstream).is_none() {
                if let Purpose::Lookup(lookup, _) = flight.purpose {
                    self.checks.lookups.forget(lookup);
                }
                return;
            }
            self.checks.refreshed.set(flight.upstream, now);
        }
        match flight.purpose {
            Purpose::Check(monitor) => {
                let Some(kind) = self.directory.registry().monitor(&monitor.name) else { return };
                let mut finding = kind.monitor.judge(&monitor, reply);
                if let (Finding::Bad(why) | Finding::Silent(why), true) = (&mut finding, is_broken_off) {
                    *why = format!("{why}: {BROKEN_OFF}");
                }
                for event in Event::of(finding, &monitor, now, now.since(flight.began)) {
                    self.note(flight.upstream, flight.peer, &event);
                }
            }
            Purpose::Lookup(lookup, question) => {
                let answer = match reply {
                    Reply::Bytes(bytes) => question.read(bytes),
                    Reply::Failed(failure) if is_broken_off => {
                        Err(format!("the name server failed: {failure}: {BROKEN_OFF}"))
                    }
                    Reply::Failed(failure) => Err(format!("the name server failed: {failure}")),
                    Reply::Http(..) | Reply::Connected => Err("the name server sent something else".to_owned()),
                };
                self.answer(lookup, answer);
                self.ask();
            }
        }
        // Whoever has the lease now, if it is not this worker, goes on from what is written.
        self.write_pending(self.checks.schedule.is_none());
    }

    /// Takes in an event, and plans what follows from it.
    fn note(&mut self, position: usize, peer: PeerId, event: &Event) {
        if self.checks.pending.get(position).is_none() {
            self.reload(position);
        }
        let (Some(view), Some(pending)) = (self.directory.view(position), self.checks.pending.get_mut(position)) else {
            return;
        };
        let Some(peer) = view.find(peer).filter(|_| event.is_of(view.record())) else { return };
        let store = Store::new(self.host);
        let complaints = &mut self.checks.complaints;
        let next = Consequences { store: &store, position, view, peer, pending, complaints }.of(event);
        match (&mut self.checks.schedule, next, event) {
            (Some(schedule), Next::Recheck(due), Event::Checked { monitor, .. }) => {
                schedule.recheck(CheckKey::new(position, peer.id, &monitor.id), due);
            }
            (Some(schedule), Next::Resolve(due), _) => schedule.resolve(position, peer.id, due),
            _ => {}
        }
    }

    /// Writes down what is not written yet: all of it, or what has waited long enough.
    fn write_pending(&mut self, all: bool) {
        if let Err(error) = self.checks.pending.write(&Store::new(self.host), self.directory, all) {
            self.complain(Cause::Write, &format!("what checks found cannot be written: {error}"));
        }
    }
}

#[cfg(test)]
mod tests;
