//! What is done: the calls, the reads and the writes.
//!
//! The driver asks the other parts what is next, does it, and tells them what came of it.

use std::time::Duration;

use super::addresses::{self, Addresses};
use super::by_position::ByPosition;
use super::calls::{Calls, Ended, Flight, Purpose, Subject};
use super::complaints::{Cause, Complaints};
use super::consequences::{Consequences, Next};
use super::dns::{Answer, Question};
use super::findings::{Event, BROKEN_OFF};
use super::lease::{self, Grant, Lease};
use super::lookup::Lookups;
use super::obstacles::{self, Asked, Free};
use super::pending::{Pending, PendingStatus, BATCH};
use super::schedule::{Job, Schedule, Task, LOOK_ANYWAY};
use super::target::Target;
use crate::host::{Call, CallId, CallKind, CalloutClusters, EndCall, Failure, Host, Reply};
use crate::model::id::PeerId;
use crate::model::peer::PeerRecord;
use crate::model::spec::MonitorSpec;
use crate::model::upstream::Record;
use crate::monitor::own::Keeper;
use crate::store::Store;
use crate::time::Timestamp;
use crate::worker::directory::Directory;

/// How long a name server may take.
const RESOLVER_TIMEOUT: Duration = Duration::from_secs(2);

/// All that one worker remembers of the checks of one instance of the filter.
pub(super) struct State {
    lease: Lease,
    pub(super) clusters: CalloutClusters,
    /// None while another worker holds the lease, or nobody has to.
    pub(super) schedule: Option<Schedule>,
    pub(super) calls: Calls,
    pub(super) lookups: Lookups,
    /// The latest call was a question about a name.
    pub(super) has_asked: bool,
    pub(super) pending: Pending,
    /// What is kept of monitors of one's own, if there are any.
    pub(super) keeper: Option<Box<dyn Keeper>>,
    addresses: Addresses,
    /// When the view of an upstream was last brought up to date for a reply.
    refreshed: ByPosition<Timestamp>,
    /// What the host's version was when nothing was to be checked, so that it is looked for again when that changes.
    pub(super) idle: Option<u64>,
    /// When it was looked for.
    looked: Timestamp,
    complaints: Complaints,
    free: Free,
}

impl State {
    pub(super) fn new(host: &dyn Host, instance: &str, configuration: u64, clusters: CalloutClusters) -> Self {
        Self {
            lease: Lease::new(instance, host.random(), configuration),
            clusters,
            schedule: None,
            calls: Calls::default(),
            lookups: Lookups::default(),
            has_asked: false,
            pending: Pending::default(),
            keeper: None,
            addresses: Addresses::default(),
            refreshed: ByPosition::default(),
            idle: None,
            looked: Timestamp::default(),
            complaints: Complaints::default(),
            free: Free::default(),
        }
    }

    /// The number that tells this worker from others.
    pub(super) fn worker(&self) -> u64 {
        self.lease.worker()
    }
}

/// The checks while something happens to them.
pub(super) struct Driver<'d> {
    pub(super) state: &'d mut State,
    pub(super) host: &'d dyn Host,
    pub(super) directory: &'d mut Directory,
}

impl Driver<'_> {
    /// Makes the checks that are due, if it is this worker that makes them.
    pub(super) fn check(&mut self) {
        if self.state.schedule.is_none() && !self.is_needed() {
            return;
        }
        match self.state.lease.acquire(self.host) {
            Ok(Some(grant)) => {
                self.look(grant);
                self.do_jobs(grant.now);
                self.write_pending(false);
            }
            Ok(None) => {
                self.write_pending(true);
                self.state.schedule = None;
            }
            Err(error) => self.complain(Cause::Lease, &format!("the lease of the checks cannot be had: {error}")),
        }
    }

    pub(super) fn complain(&mut self, cause: Cause, what: &str) {
        self.state.complaints.say(self.host.now(), cause, what);
    }

    /// Whether there is anything to check. Looked at again when something was announced.
    fn is_needed(&mut self) -> bool {
        let version = self.host.version();
        let now = self.host.now();
        let is_fresh = now >= self.state.looked && now.since(self.state.looked) < LOOK_ANYWAY;
        if self.state.idle == Some(version) && is_fresh {
            return false;
        }
        let needed = (0..self.directory.len()).any(|position| {
            let record = self.refresh(position);
            record.is_some_and(|record| {
                let has_names = !record.spec.resolver.is_empty();
                !record.monitors.is_empty() || (has_names && record.peers.iter().any(|peer| peer.host_name().is_some()))
            })
        });
        (self.state.idle, self.state.looked) = ((!needed).then_some(version), now);
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
        let schedule = self.state.schedule.get_or_insert_with(|| Schedule::new(grant.machine));
        if !schedule.is_look_due(self.host.version(), self.host.now()) {
            return;
        }
        for position in 0..self.directory.len() {
            if self.refresh(position).is_none() {
                self.state.schedule.iter_mut().for_each(|schedule| schedule.forget(position));
                self.state.pending.remove(position);
                continue;
            }
            let number = self.directory.view(position).and_then(|view| view.record_number());
            if self.state.schedule.as_ref().is_some_and(|schedule| schedule.is_outdated(position, number)) {
                let (view, pending) = (self.directory.view(position), self.state.pending.get_mut(position));
                if let Some(view) = view {
                    if let Some(keeper) = &mut self.state.keeper {
                        keeper.restrict(position, &view.record().monitors, &|peer| view.find(peer).is_some());
                    }
                    pending.into_iter().for_each(|pending| pending.restrict(view.record()));
                }
            }
            let is_changed = self.reload(position);
            let (Some(schedule), Some(view)) = (&mut self.state.schedule, self.directory.view(position)) else {
                return;
            };
            if is_changed || !schedule.is_planned(position, number) {
                self.state.addresses.restrict(position, view);
                let status = self.state.pending.get(position).map(PendingStatus::status);
                schedule.plan(position, view, status, grant.after);
            }
        }
    }

    /// Takes in what others wrote about an upstream's peers. Returns whether there was anything.
    fn reload(&mut self, position: usize) -> bool {
        let Some(view) = self.directory.view(position) else { return false };
        self.state.pending.reload(&Store::new(self.host), position, view)
    }

    /// Whether another call may be made.
    pub(super) fn has_room(&self) -> bool {
        self.state.calls.count() < self.host.capabilities().most_calls
    }

    /// Does the jobs that are due.
    fn do_jobs(&mut self, now: Timestamp) {
        // What is due stays in the queue while there is no room for calls, and gets its next slot when it is done.
        while self.has_room() {
            let Some(schedule) = &mut self.state.schedule else { return };
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
                self.state.lookups.begin(job.upstream, peer, name, view.record().spec.resolve_ipv6);
                self.ask();
            }
            return;
        }
        let status = self.state.pending.get(job.upstream).map(PendingStatus::status);
        let resolves = self.host.capabilities().resolves_names;
        let Some(target) = Target::of(job, view, status, &self.state.addresses, resolves, self.host.now()) else {
            return;
        };
        let Target { monitor, peer, to } = target;
        // A server that takes its time is not asked again meanwhile.
        if self.state.calls.is_checking(job.upstream, peer.id, &monitor.id) {
            return;
        }
        let subject = Subject { position: job.upstream, peer: peer.id, to };
        let monitor = self.state.calls.spec(monitor);
        self.begin_check(subject, &monitor);
    }

    /// Makes a call. Where that cannot be done, it is said why.
    pub(super) fn call(&mut self, upstream: usize, peer: PeerId, call: Call, purpose: Purpose) -> Result<(), String> {
        self.state.has_asked = matches!(purpose, Purpose::Lookup(..));
        match self.host.call(&call) {
            Ok(id) => {
                self.state.calls.add(id, call, upstream, peer, purpose, self.host.now());
                Ok(())
            }
            Err(error) => {
                let (monitor, why) = (purpose.monitor(), obstacles::reason(&error));
                let asked = Asked { position: upstream, peer, monitor: monitor.as_deref(), cluster: &call.cluster };
                Err(self.note_obstacle(&asked, Some(&why)).unwrap_or(why))
            }
        }
    }

    /// Notes what keeps a monitor or the resolver from asking, and says it; or that nothing does. Returns what it is.
    fn note_obstacle(&mut self, asked: &Asked<'_>, why: Option<&str>) -> Option<String> {
        let (view, store) = (self.directory.view(asked.position)?, Store::new(self.host));
        obstacles::note(&store, (&mut self.state.complaints, &mut self.state.free), view, asked, why)
    }

    /// Asks what is to be asked about names, as far as there is room.
    pub(super) fn ask(&mut self) {
        while self.has_room() {
            let Some(next) = self.state.lookups.next_question() else { return };
            let record = self.directory.record(next.upstream);
            let server = record.and_then(|record| record.spec.resolver.get(next.server).copied());
            let question = Question { name: next.name, family: next.family, id: self.host.random() as u16 };
            let asked = match (server, question.encode()) {
                (Some(to), Some(bytes)) => {
                    let (cluster, kind) = (self.state.clusters.tcp.clone(), CallKind::Tcp(bytes));
                    let call = Call { to, name: None, timeout: RESOLVER_TIMEOUT, cluster, kind };
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
        let Some(upstream) = self.state.lookups.upstream(lookup) else { return };
        let servers = self.directory.record(upstream).map_or(0, |record| record.spec.resolver.len());
        if let Some((upstream, peer, outcome)) = self.state.lookups.answer(lookup, answer, servers) {
            let at = self.host.now();
            self.note(upstream, peer, &Event::Resolved { outcome, at });
        }
    }

    /// Gives up calls whose replies are overdue, and closes connections that servers keep open.
    pub(super) fn expire(&mut self) {
        let now = self.host.now();
        for id in self.state.calls.overdue(now) {
            self.host.end_call(id, EndCall::Cancel);
            self.reply(id, &Reply::Failed(Failure::Timeout));
        }
        for id in self.state.calls.drain_unclosed(now) {
            self.host.end_call(id, EndCall::Cancel);
        }
    }

    pub(super) fn reply(&mut self, call: CallId, reply: &Reply) {
        let now = self.host.now();
        let Some(Ended { flight, is_broken_off, is_connected }) = self.state.calls.end(call, reply, now) else {
            return;
        };
        if *reply == Reply::Connected && matches!(call, CallId::Stream(_)) {
            self.host.end_call(call, EndCall::Close);
        }
        let reply = if is_broken_off { &Reply::Failed(Failure::Reset) } else { reply };
        // The peer may be gone, or another instance may be in charge by now. Many replies may come at once.
        let is_fresh = |at: &&Timestamp| **at <= now && now < at.after(BATCH);
        if self.state.refreshed.get(flight.upstream).filter(is_fresh).is_none() {
            if self.refresh(flight.upstream).is_none() {
                if let Purpose::Lookup(lookup, _) = flight.purpose {
                    self.state.lookups.forget(lookup);
                }
                return;
            }
            self.state.refreshed.set(flight.upstream, now);
        }
        let why = if let Reply::NotMade(why) = reply { Some(why.as_str()) } else { None };
        let monitor = flight.purpose.monitor();
        let (position, peer) = (flight.upstream, flight.peer);
        let asked = Asked { position, peer, monitor: monitor.as_deref(), cluster: &flight.call.cluster };
        let obstacle = self.note_obstacle(&asked, why);
        match flight.purpose {
            // Nothing was found: the next slot tries again.
            Purpose::Check(..) if obstacle.is_some() => {}
            Purpose::Check(ref monitor, _) if self.has_others(&flight, monitor, is_connected) => {
                // It is the address that failed, not yet the peer: another one is tried at once.
                if let Some(schedule) = &mut self.state.schedule {
                    schedule.recheck(flight.upstream, flight.peer, &monitor.id, now);
                }
            }
            Purpose::Check(monitor, progress) if !is_broken_off && self.may_ask_again(&monitor, progress, reply) => {
                self.ask_again(position, peer, flight.call, monitor, progress);
            }
            Purpose::Check(monitor, progress) => {
                let subject = Subject { position, peer, to: flight.call.to };
                self.step(subject, &monitor, progress, Some(reply), is_broken_off);
            }
            Purpose::Lookup(lookup, question) => {
                let answer = match reply {
                    Reply::NotMade(why) => Err(obstacle.unwrap_or_else(|| why.clone())),
                    Reply::Bytes(bytes) => question.read(bytes),
                    Reply::Failed(failure) if is_broken_off => {
                        Err(format!("the name server failed: {failure}: {BROKEN_OFF}"))
                    }
                    Reply::Failed(failure) => Err(format!("the name server failed: {failure}")),
                    _ => Err("the name server sent something else".to_owned()),
                };
                self.answer(lookup, answer);
                if self.host.capabilities().calls_from_replies {
                    self.ask();
                }
            }
        }
        // Whoever has the lease now, if it is not this worker, goes on from what is written.
        self.write_pending(self.state.schedule.is_none());
    }

    /// Remembers whether an address of a peer can be connected to. Returns whether it cannot, and others might.
    fn has_others(&mut self, flight: &Flight, monitor: &MonitorSpec, is_connected: Option<bool>) -> bool {
        let (position, now) = (flight.upstream, self.host.now());
        let Some(view) = self.directory.view(position) else { return false };
        let Some(peer) = view.find(flight.peer) else { return false };
        let known = &mut self.state.addresses;
        match is_connected {
            None => false,
            Some(true) => {
                known.connected(position, view, peer, flight.call.to);
                false
            }
            Some(false) => {
                let status = self.state.pending.get(position).map(PendingStatus::status);
                known.failed(position, view, peer, flight.call.to, &addresses::of(peer, monitor, status), now)
            }
        }
    }

    /// Takes in an event, and plans what follows from it.
    pub(super) fn note(&mut self, position: usize, peer: PeerId, event: &Event) {
        if self.state.pending.get(position).is_none() {
            self.reload(position);
        }
        let (Some(view), Some(pending)) = (self.directory.view(position), self.state.pending.get_mut(position)) else {
            return;
        };
        let Some(peer) = view.find(peer).filter(|_| event.is_of(view.record())) else { return };
        let store = Store::new(self.host);
        let complaints = &mut self.state.complaints;
        let next = Consequences { store: &store, position, view, peer, pending, complaints }.of(event);
        match (&mut self.state.schedule, next, event) {
            (Some(schedule), Next::Recheck(due), Event::Checked { monitor, .. }) => {
                schedule.recheck(position, peer.id, &monitor.id, due);
            }
            (Some(schedule), Next::Resolve(due), _) => schedule.resolve(position, peer.id, due),
            _ => {}
        }
    }

    /// Writes down what is not written yet: all of it, or what has waited long enough.
    fn write_pending(&mut self, all: bool) {
        if let Err(error) = self.state.pending.write(&Store::new(self.host), self.directory, all) {
            self.complain(Cause::Write, &format!("what checks found cannot be written: {error}"));
        }
    }
}
