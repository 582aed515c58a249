//! The checks: which worker asks which peer when, and what becomes of the answers.
//!
//! - The worker that holds the lease has a queue of jobs by time. Most are slots that everybody can work
//!   out ([`Slots`]), so that nothing is lost or done twice when another worker takes over; a failed check
//!   puts one more into the queue, to be sure soon.
//! - A job that is due makes a call, and the reply to it is judged by the monitor, by the worker that made the call.
//! - What was found goes into a [`PendingStatus`], a copy of the upstream's [`Status`]. It is written to shared data at once when a
//!   verdict turns, and otherwise once in a while: a thousand good checks cost one write.
//!
//! A tick costs what is due, whatever the number of peers; after a change, it costs a look at each upstream.

mod dns;
mod lease;
mod slots;

use crate::model::verdict;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use crate::host::{Call, CallId, CallKind, CalloutClusters, EndCall, Failure, Host, Reply};
use crate::model::check::{took, Flip};
use crate::model::ejection::may_eject;
use crate::model::error::Error;
use crate::model::failure_table::FailureTable;
use crate::model::failures::PassiveVerdict;
use crate::model::id::PeerId;
use crate::model::peer::PeerRecord;
use crate::model::report::Report;
use crate::model::resolution::Resolution;
use crate::model::spec::{MonitorSpec, Schedule};
use crate::model::state::PeerState;
use crate::model::status::Status;
use crate::model::upstream::Record;
use crate::monitor::Finding;
use crate::store::journal;
use crate::store::{Read, Store};
use crate::time::Timestamp;
use crate::worker::directory::Directory;
use crate::worker::view::View;
use dns::{Answer, Family, Question, LONGEST_TTL, SHORTEST_TTL};
use lease::{Lease, POLL};
use slots::Slots;

/// How long a lost reply is waited for after the host should have given up.
const GRACE: Duration = Duration::from_secs(1);
/// The time between looks at what others changed, while they change something all the time.
const LOOK: Duration = Duration::from_millis(200);
/// The same, while nothing is announced.
const LOOK_ANYWAY: Duration = Duration::from_secs(1);
/// How often good checks are written down.
const WRITE: Duration = Duration::from_secs(1);
/// How long a verdict waits for others that turn at the same moment, and how often a view is looked at anew for replies.
const BATCH: Duration = Duration::from_millis(10);
/// How often it is said that calls cannot be made at all.
const COMPLAIN: Duration = Duration::from_secs(60);
/// The shortest time after a failed check to the next one.
const SOON: Duration = Duration::from_millis(100);
/// How long a name server may take.
const RESOLVER_TIMEOUT: Duration = Duration::from_secs(2);
/// The most events that are remembered while they cannot be written.
const MOST_EVENTS: usize = 20_000;
/// How often a write against others' writes is tried.
const TRIES: usize = 100;

/// The checks of one instance of the filter, as one worker sees them.
pub(crate) struct Checks {
    lease: Lease,
    clusters: CalloutClusters,
    /// None while another worker holds the lease, or nobody has to.
    work: Option<Work>,
    calls: Vec<(CallId, Flight)>,
    /// Connections that were made, until their servers close them or it takes too long.
    closing: Vec<(CallId, Timestamp)>,
    lookups: Vec<(u64, Lookup)>,
    next_lookup: u64,
    pending: ByPosition<PendingStatus>,
    /// When the view of an upstream was last brought up to date for a reply.
    refreshed: ByPosition<Timestamp>,
    /// What the host's version was when there was no work, so that it is looked for again when that changes.
    idle: Option<u64>,
    /// When it was looked for.
    looked: Timestamp,
    complained: Option<Timestamp>,
}

/// What the holder of the lease has to do.
#[derive(Default)]
struct Work {
    machine: u64,
    jobs: BTreeMap<(Timestamp, u64), Job>,
    next_job: u64,
    /// For each upstream: the record for which its jobs were made, and a number that older jobs do not have.
    plans: ByPosition<(Option<u32>, u64)>,
    next_plan: u64,
    seen: u64,
    looked: Timestamp,
}

/// Something for some of the upstreams, by their positions.
struct ByPosition<T>(Vec<Option<T>>);

impl<T> Default for ByPosition<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByPosition<T> {
    fn get(&self, position: usize) -> Option<&T> {
        self.0.get(position)?.as_ref()
    }

    /// Where the one of an upstream is or will be.
    fn slot(&mut self, position: usize) -> Option<&mut Option<T>> {
        if self.0.len() <= position {
            self.0.resize_with(position + 1, || None);
        }
        self.0.get_mut(position)
    }
}

#[derive(Clone)]
struct Job {
    upstream: usize,
    /// The plan that it is of; jobs that only happen once have none.
    plan: Option<u64>,
    task: Task,
}

#[derive(Clone)]
enum Task {
    /// Check this peer, and again in the next slot.
    Check { monitor: Rc<str>, peer: PeerId },
    /// Check the peer whose turn it is by the slot's number, and the next one in the next slot.
    Turn { monitor: Rc<str>, number: u64 },
    /// Look up the peer's name.
    Resolve { peer: PeerId },
}

/// A call under way.
struct Flight {
    upstream: usize,
    peer: PeerId,
    began: Timestamp,
    deadline: Timestamp,
    purpose: Purpose,
}

enum Purpose {
    Check(Rc<MonitorSpec>),
    Ask(u64, Question),
}

/// A name that is being looked up.
struct Lookup {
    upstream: usize,
    peer: PeerId,
    name: String,
    /// Which name server is asked.
    server: usize,
    /// How many answers are missing.
    missing: usize,
    answers: Vec<Result<Answer, String>>,
}

/// A copy of what is said of an upstream's peers, and what is new in it.
#[derive(Default)]
struct PendingStatus {
    status: Status,
    /// The number of the shared value that this is a copy of.
    number: u32,
    events: Vec<(PeerId, Event)>,
    /// Something is left out that still stands in shared data.
    is_restricted: bool,
    /// A verdict turned: everybody has to know.
    is_urgent: bool,
    /// What the log says of that once it counts: the peer, its state before and after, whose word that is, and why.
    reports: Vec<(String, [PeerState; 2], String, String)>,
    written: Timestamp,
}

/// What was found.
#[derive(Clone)]
enum Event {
    Checked { monitor: Rc<MonitorSpec>, why: Option<String>, is_verdict: bool, at: Timestamp, took: Duration },
    Reported { monitor: Rc<MonitorSpec>, report: Report, at: Timestamp },
    Resolved { outcome: Lookups, at: Timestamp },
}

/// What became of a lookup.
#[derive(Clone, Debug, PartialEq)]
enum Lookups {
    /// The addresses, how long they hold, and whether only one of the two questions was answered.
    Found(Vec<IpAddr>, Duration, bool),
    Gone(String),
    Failed(String),
}

/// What an event changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing that others have to know at once.
    Noted,
    /// Something about the use of the peer.
    Turned,
    /// The peer would have gone out of use, had not too many been out of use already.
    Spared,
}

impl Checks {
    /// For an instance of the filter with this configuration.
    pub(crate) fn new(host: &dyn Host, instance: &str, configuration: u64, clusters: CalloutClusters) -> Self {
        Self {
            lease: Lease::new(instance, host.random(), configuration),
            clusters,
            work: None,
            calls: Vec::new(),
            closing: Vec::new(),
            lookups: Vec::new(),
            next_lookup: 0,
            pending: ByPosition::default(),
            refreshed: ByPosition::default(),
            idle: None,
            looked: Timestamp::default(),
            complained: None,
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, host: &dyn Host, directory: &mut Directory) {
        let mut run = Run { checks: self, host, directory };
        run.expire();
        if run.checks.work.is_none() && !run.is_needed() {
            return;
        }
        match run.checks.lease.acquire(host) {
            Ok(Some(grant)) => {
                run.look(grant.after, grant.machine);
                run.do_jobs(grant.after, grant.now);
                run.write_pending(false);
            }
            Ok(None) => {
                run.write_pending(true);
                run.checks.work = None;
            }
            Err(error) => run.checks.complain(host, &format!("the lease of the checks cannot be had: {error}")),
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
        let call = self.calls.iter().map(|(_, call)| until(call.deadline)).min();
        let close = self.closing.iter().map(|(_, deadline)| until(*deadline)).min();
        let is_urgent = self.pending.0.iter().flatten().any(|pending| pending.is_urgent);
        let urgent = is_urgent.then_some(BATCH);
        let work = match &self.work {
            Some(work) => {
                let job = work.jobs.first_key_value().map(|((due, _), _)| until(*due));
                job.into_iter().chain([POLL]).min()
            }
            None => self.idle.is_none().then_some(POLL),
        };
        [call, close, work, urgent].into_iter().flatten().min()
    }

    fn complain(&mut self, host: &dyn Host, what: &str) {
        let now = host.now();
        if self.complained.is_none_or(|last| now.since(last) >= COMPLAIN || now < last) {
            self.complained = Some(now);
            log::error!("{what}");
        }
    }
}

/// The checks while something happens to them.
struct Run<'r> {
    checks: &'r mut Checks,
    host: &'r dyn Host,
    directory: &'r mut Directory,
}

impl Run<'_> {
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

    /// Looks at what others changed, and plans anew where that matters. `after` is the time from which on jobs are due.
    fn look(&mut self, after: Timestamp, machine: u64) {
        let now = self.host.now();
        let version = self.host.version();
        let work = self.checks.work.get_or_insert_with(|| Work { machine, ..Work::default() });
        let since = now.since(work.looked);
        let is_new = work.looked == Timestamp::default();
        if !is_new && now >= work.looked && since < if work.seen == version { LOOK_ANYWAY } else { LOOK } {
            return;
        }
        if now < work.looked {
            // The clock was turned back: no job is due at the time at which it should be.
            work.jobs.clear();
            work.plans = ByPosition::default();
        }
        (work.seen, work.looked) = (version, now);
        for position in 0..self.directory.len() {
            if self.refresh(position).is_none() {
                if let Some(plan) = self.checks.work.as_mut().and_then(|work| work.plans.slot(position)) {
                    *plan = None;
                }
                self.checks.pending.slot(position).into_iter().for_each(|pending| *pending = None);
                continue;
            }
            let number = self.directory.get(position).and_then(|upstream| upstream.view.record_number());
            let planned = self.checks.work.as_ref().and_then(|work| work.plans.get(position));
            if planned.is_some_and(|(known, _)| *known != number) {
                // What is said of peers and monitors that are gone is forgotten, also in what is written next.
                let upstream = self.directory.get(position);
                let pending = self.checks.pending.slot(position).and_then(Option::as_mut);
                if let (Some(upstream), Some(pending)) = (upstream, pending) {
                    let record = upstream.view.record();
                    pending.status.restrict(record);
                    pending.events.retain(|(_, event)| event.is_of(record));
                    pending.is_restricted = true;
                }
            }
            let changed = self.reload(position);
            let planned = self.checks.work.as_ref().and_then(|work| work.plans.get(position));
            if changed || planned.is_none_or(|(known, _)| *known != number) {
                self.plan(position, number, after);
            }
        }
    }

    /// Takes in what others wrote about an upstream's peers. Returns whether there was anything.
    fn reload(&mut self, position: usize) -> bool {
        let Some(upstream) = self.directory.get(position) else { return false };
        let record = upstream.view.record();
        let known = self.checks.pending.get(position).map(|pending| pending.number);
        let Ok(Read::Changed(status, number)) = Store::new(self.host).status_since(record, known) else { return false };
        let Some(slot) = self.checks.pending.slot(position) else { return false };
        let pending = slot.get_or_insert_default();
        pending.replace(status, number, record, upstream.view.health());
        true
    }

    /// Makes the jobs of an upstream.
    fn plan(&mut self, position: usize, number: Option<u32>, after: Timestamp) {
        let (Some(upstream), Some(work)) = (self.directory.get(position), &mut self.checks.work) else { return };
        let record = upstream.view.record();
        work.next_plan += 1;
        let plan = work.next_plan;
        work.plans.slot(position).into_iter().for_each(|slot| *slot = Some((number, plan)));
        // Jobs of names may be due in a day only.
        work.jobs.retain(|_, job| job.upstream != position || job.plan.is_none());
        for monitor in &record.monitors {
            let id: Rc<str> = Rc::from(monitor.id.as_str());
            match monitor.schedule {
                Schedule::Rotate => {
                    let task = Task::Turn { monitor: id, number: 0 };
                    work.schedule(&upstream.view, Job { upstream: position, plan: Some(plan), task }, after);
                }
                Schedule::All => {
                    for peer in &record.peers {
                        let task = Task::Check { monitor: Rc::clone(&id), peer: peer.id };
                        work.schedule(&upstream.view, Job { upstream: position, plan: Some(plan), task }, after);
                    }
                }
            }
        }
        if record.spec.resolver.is_empty() {
            return;
        }
        let pending = self.checks.pending.get(position);
        for peer in record.peers.iter().filter(|peer| peer.host_name().is_some()) {
            let known = pending.and_then(|pending| pending.status.of(peer.id)?.name.as_ref());
            let job = Job { upstream: position, plan: Some(plan), task: Task::Resolve { peer: peer.id } };
            // No answer holds for longer than that, unless the clock was turned back.
            let due = known.map_or(after, |known| known.expires);
            work.add(if due > after.after(LONGEST_TTL) { after } else { due }, job);
        }
    }

    /// Does the jobs that are due.
    fn do_jobs(&mut self, after: Timestamp, now: Timestamp) {
        while let Some(work) = self.checks.work.as_mut() {
            // What is due stays in the queue, and gets its next slot when its turn has come.
            if self.checks.calls.len() + self.checks.closing.len() >= self.host.capabilities().most_calls {
                break;
            }
            let Some(entry) = work.jobs.first_entry().filter(|entry| entry.key().0 <= now) else { break };
            let ((due, _), job) = entry.remove_entry();
            let current = work.plans.get(job.upstream).map(|(_, plan)| *plan);
            if job.plan.is_some() && job.plan != current {
                continue;
            }
            let Some(upstream) = self.directory.get(job.upstream) else { continue };
            if job.plan.is_some() {
                work.schedule(&upstream.view, job.clone(), due.max(after).max(now));
            }
            self.begin(&job);
        }
    }

    /// Makes the call of a job.
    fn begin(&mut self, job: &Job) {
        let Some(upstream) = self.directory.get(job.upstream) else { return };
        let record = upstream.view.record();
        let (id, peer) = match &job.task {
            Task::Check { monitor, peer } => (monitor, Some(*peer)),
            Task::Turn { monitor, .. } => (monitor, None),
            Task::Resolve { peer } => {
                let peer = *peer;
                self.look_up(job.upstream, peer);
                return;
            }
        };
        let Some(monitor) = record.monitors.iter().find(|monitor| *monitor.id == **id).cloned() else { return };
        let now = self.host.now();
        let (health, pending) = (upstream.view.health(), self.checks.pending.get(job.upstream));
        let status = |peer: &PeerRecord| pending.and_then(|pending| pending.status.of(peer.id));
        // Whom its own verdict took out of the selection is checked on: nobody else can lift that.
        let is_meant = |peer: &&PeerRecord| {
            let own = status(peer).and_then(|status| status.check(&monitor.id));
            own.is_some_and(|check| check.is_down)
                || monitor.peers.matches(verdict::effective_state(peer, &health.of(peer), status(peer), now).state)
        };
        let peer = match (peer, &job.task) {
            (None, Task::Turn { number, .. }) => {
                let meant: Vec<&PeerRecord> = record.peers.iter().filter(is_meant).collect();
                let turn = usize::try_from(number % (meant.len() as u64).max(1)).unwrap_or_default();
                meant.get(turn).copied()
            }
            (peer, _) => peer.and_then(|peer| upstream.view.find(peer)).filter(is_meant),
        };
        let Some(peer) = peer else { return };
        // A name without an address is the resolver's to tell of.
        let addresses = peer.addresses(status(peer));
        let made = status(peer).and_then(|status| status.check(&monitor.id));
        let made = made.map_or(0, |check| check.passed.saturating_add(check.failed));
        let turn = (made % (addresses.len() as u64).max(1)) as usize;
        let Some(mut to) = addresses.get(turn).copied() else { return };
        to.set_port(monitor.port.unwrap_or(to.port()));
        let Some(kind) = self.directory.registry().monitor(&monitor.name).cloned() else { return };
        let ask = kind.monitor.ask(&monitor, &peer.server.name);
        let purpose = Purpose::Check(Rc::new(monitor.clone()));
        let call = Call { to, timeout: monitor.timeout, kind: ask };
        let (peer, name) = (peer.id, peer.server.name.clone());
        if let Err(error) = self.call(job.upstream, peer, call, purpose) {
            let upstream = self.directory.get(job.upstream).map(|upstream| Rc::clone(upstream.view.name()));
            let upstream = upstream.as_deref().unwrap_or_default();
            let what =
                format!("upstream={upstream} peer={name} cannot be checked by monitor {:?}: {error}", monitor.id);
            self.checks.complain(self.host, &what);
        }
    }

    fn call(&mut self, upstream: usize, peer: PeerId, call: Call, purpose: Purpose) -> Result<(), String> {
        let began = self.host.now();
        // The host ends other calls by itself; only a reply that is lost has to be given up.
        let grace = if call.kind == CallKind::Connect { Duration::ZERO } else { GRACE };
        let deadline = began.after(call.timeout).after(grace);
        let is_http = matches!(call.kind, CallKind::Http { .. });
        let gateway = if is_http { &self.checks.clusters.probe } else { &self.checks.clusters.tcp };
        let id = self
            .host
            .call(&self.checks.clusters, &call)
            .map_err(|error| format!("{error}; calls go through the cluster {gateway:?}, is it there?"))?;
        self.checks.calls.push((id, Flight { upstream, peer, began, deadline, purpose }));
        Ok(())
    }

    /// Gives up calls whose replies are overdue, and closes connections that servers keep open.
    fn expire(&mut self) {
        let now = self.host.now();
        let overdue: Vec<CallId> =
            self.checks.calls.iter().filter(|(_, call)| now >= call.deadline).map(|(id, _)| *id).collect();
        for id in overdue {
            self.host.end_call(id, EndCall::Cancel);
            self.reply(id, &Reply::Failed(Failure::Timeout));
        }
        let host = self.host;
        self.checks.closing.retain(|(id, deadline)| {
            let keep = now < *deadline;
            if !keep {
                host.end_call(*id, EndCall::Cancel);
            }
            keep
        });
    }

    fn reply(&mut self, call: CallId, reply: &Reply) {
        let Some(at) = self.checks.calls.iter().position(|(id, _)| *id == call) else {
            self.checks.closing.retain(|(id, _)| *id != call);
            return;
        };
        let (_, flight) = self.checks.calls.swap_remove(at);
        let now = self.host.now();
        // A reply that breaks off looks like one that does not come in time, but comes clearly earlier.
        let broken_off = *reply == Reply::Failed(Failure::Timeout) && now.after(GRACE + SOON / 4) < flight.deadline;
        let reply =
            if broken_off && !matches!(call, CallId::Stream(_)) { &Reply::Failed(Failure::Reset) } else { reply };
        if *reply == Reply::Connected {
            self.host.end_call(call, EndCall::Close);
            self.checks.closing.push((call, flight.deadline.max(now.after(GRACE))));
        }
        // The peer may be gone, or another instance may be in charge by now.
        let is_fresh = self.checks.refreshed.get(flight.upstream).is_some_and(|at| *at <= now && now < at.after(BATCH));
        if !is_fresh {
            if self.refresh(flight.upstream).is_none() {
                if let Purpose::Ask(lookup, _) = flight.purpose {
                    self.checks.lookups.retain(|(known, _)| *known != lookup);
                }
                return;
            }
            self.checks.refreshed.slot(flight.upstream).into_iter().for_each(|slot| *slot = Some(now));
        }
        match flight.purpose {
            Purpose::Check(monitor) => {
                let took = now.since(flight.began);
                self.judge(flight.upstream, flight.peer, &monitor, reply, took);
            }
            Purpose::Ask(lookup, question) => {
                let answer = match reply {
                    Reply::Bytes(bytes) => question.read(bytes),
                    Reply::Failed(failure) => Err(format!("the name server failed: {failure}")),
                    Reply::Http(..) | Reply::Connected => Err("the name server sent something else".to_owned()),
                };
                self.answer(lookup, answer);
            }
        }
        // Whoever has the lease now, if it is not this worker, goes on from what is written.
        let all = self.checks.work.is_none();
        self.write_pending(all);
    }

    /// Makes a finding of a reply, and events of that.
    fn judge(&mut self, upstream: usize, peer: PeerId, monitor: &Rc<MonitorSpec>, reply: &Reply, took: Duration) {
        let Some(kind) = self.directory.registry().monitor(&monitor.name).cloned() else { return };
        let at = self.host.now();
        let checked = |why: Option<String>, is_verdict: bool| Event::Checked {
            monitor: Rc::clone(monitor),
            why,
            is_verdict,
            at,
            took,
        };
        match kind.monitor.judge(monitor, reply) {
            Finding::Good => self.note(upstream, peer, checked(None, true)),
            Finding::Bad(why) => self.note(upstream, peer, checked(Some(why), true)),
            Finding::Silent(why) => self.note(upstream, peer, checked(Some(why), false)),
            Finding::Reported(report) => {
                let known =
                    self.checks.pending.get(upstream).and_then(|pending| pending.status.of(peer)?.agent.as_ref());
                if !report.unknown.is_empty() && known.is_none_or(|agent| agent.unknown != report.unknown) {
                    let name = self.peer(upstream, peer).map(|peer| peer.server.name.clone()).unwrap_or_default();
                    let (monitor, words) = (&monitor.id, report.unknown.join(" "));
                    let line = format!("peer={name} monitor={monitor:?}: the agent said unknown words: {words:?}");
                    log::warn!("{line}");
                }
                self.note(upstream, peer, checked(None, false));
                self.note(upstream, peer, Event::Reported { monitor: Rc::clone(monitor), report, at });
            }
        }
    }

    fn peer(&self, upstream: usize, peer: PeerId) -> Option<&PeerRecord> {
        self.directory.get(upstream)?.view.find(peer)
    }

    /// Takes in an event, and tells everybody if it changes the use of the peer.
    fn note(&mut self, position: usize, id: PeerId, event: Event) {
        let Some(peer) = self.peer(position, id).cloned() else { return };
        if !self.directory.get(position).is_some_and(|upstream| event.is_of(upstream.view.record())) {
            return;
        }
        if self.checks.pending.get(position).is_none() {
            self.reload(position);
        }
        let pending = self.checks.pending.slot(position).and_then(Option::as_mut);
        let (Some(upstream), Some(pending)) = (self.directory.get(position), pending) else { return };
        let (record, health) = (upstream.view.record(), upstream.view.health());
        let store = Store::new(self.host);
        let now = self.host.now();
        pending.status.enter_era_of(&peer);
        let before = pending.status.of(id).cloned();
        let failures = health.of(&peer);
        let state_before = verdict::effective_state(&peer, &failures, before.as_ref(), now).state;
        let effect = event.apply(&mut pending.status, id, record, health, now);
        pending.events.push((id, event.clone()));
        if pending.events.len() > MOST_EVENTS {
            // Shared data has taken no writes for long: all of it stands in the copy, which is written in the end.
            pending.events.clear();
        }
        // Written when all that comes at the same moment is in: half of a thousand peers may die at once.
        pending.is_urgent |= effect == Effect::Turned;
        let (status, after) = (&pending.status, pending.status.of(id));
        let effective = verdict::effective_state(&peer, &failures, after, now);
        let (by, why) = event.reason();
        let why = if effective.state.is_usable() { why } else { effective.why().unwrap_or(why) };
        let change = [state_before, effective.state];
        if effect == Effect::Turned {
            pending.reports.push((peer.server.name.clone(), change, by, why));
        }

        match &event {
            Event::Checked { why: Some(why), monitor, is_verdict, .. } => {
                if effect == Effect::Spared {
                    let line = format!(
                        "upstream={} peer={} failed {} checks by monitor {:?} in a row ({why}) and stays in use: \
                         max_ejected_percent of the upstream are out of use",
                        record.name, peer.server.name, monitor.fall, monitor.id
                    );
                    log::warn!("{line}");
                }
                let check = after.and_then(|status| status.check(&monitor.id));
                // One that stays in use in spite of that is checked in its slots only.
                let is_settled = check.is_none_or(|check| check.is_down || check.streak >= monitor.fall);
                let what = format!("check {:?}: {why}", monitor.id);
                if let Err(error) = store.fail(record, &peer, status, &what, true) {
                    self.checks.complain(self.host, &format!("a failed check cannot be counted: {error}"));
                }
                if let Some(work) = self.checks.work.as_mut().filter(|_| *is_verdict && !is_settled) {
                    let soon = (monitor.interval / monitor.fall.max(10)).max(SOON);
                    let task = Task::Check { monitor: Rc::from(monitor.id.as_str()), peer: id };
                    work.add(now.after(soon), Job { upstream: position, plan: None, task });
                }
            }
            Event::Checked { why: None, monitor, .. } if failures.checks > 0 => {
                let checks = after.map(|status| status.checks.as_slice()).unwrap_or_default();
                let is_well = checks.iter().all(|check| check.is_good() && !check.is_down);
                let risen = checks.iter().any(|check| check.monitor == monitor.id && check.streak >= monitor.rise);
                if !is_well || !risen {
                    return;
                }
                match store.forgive_checks(record, &peer) {
                    Ok((counted, left)) => {
                        let state = |failures| verdict::effective_state(&peer, failures, after, now).state;
                        let (by, why) = event.reason();
                        let change = [state(&counted), state(&left)];
                        if pending.is_urgent {
                            // Behind what it follows from.
                            pending.reports.push((peer.server.name.clone(), change, by, why));
                        } else {
                            journal::report(&record.name, &peer.server.name, change, &by, &why);
                        }
                    }
                    Err(error) => {
                        self.checks.complain(self.host, &format!("failures of checks cannot be taken back: {error}"));
                    }
                }
            }
            Event::Checked { .. } | Event::Reported { .. } => {}
            Event::Resolved { outcome, .. } => {
                let known = |status: Option<&crate::model::peer_status::PeerStatus>| {
                    status.and_then(|status| status.name.clone())
                };
                let (was, is) = (known(before.as_ref()).unwrap_or_default(), known(after).unwrap_or_default());
                let expires = is.expires;
                log_resolution(self.host, &record.name, &peer.server.name, outcome, &was, &is);
                if let Some(work) = self.checks.work.as_mut() {
                    let plan = work.plans.get(position).map(|(_, plan)| *plan);
                    work.add(expires, Job { upstream: position, plan, task: Task::Resolve { peer: id } });
                }
            }
        }
    }

    /// Writes down what is not written yet: all of it, or what has waited long enough.
    fn write_pending(&mut self, all: bool) {
        let now = self.host.now();
        let store = Store::new(self.host);
        let mut failed = None;
        for (position, pending) in self.checks.pending.0.iter_mut().enumerate() {
            let (Some(view), Some(pending)) = (self.directory.view(position), pending) else { continue };
            let since = now.since(pending.written);
            let is_due = all || now < pending.written || since >= if pending.is_urgent { BATCH } else { WRITE };
            if is_due && (pending.is_urgent || pending.is_restricted || !pending.events.is_empty()) {
                let is_urgent = pending.is_urgent;
                let written = pending.write(&store, view.record(), view.health(), is_urgent);
                failed = written.err().or(failed);
            }
        }
        if let Some(error) = failed {
            self.checks.complain(self.host, &format!("what checks found cannot be written: {error}"));
        }
        if all {
            self.checks.pending.0.clear();
        }
    }

    /// Begins to look up a peer's name.
    fn look_up(&mut self, upstream: usize, peer: PeerId) {
        let is_under_way = |lookup: &Lookup| lookup.upstream == upstream && lookup.peer == peer;
        if self.checks.lookups.iter().map(|(_, lookup)| lookup).any(is_under_way) {
            return;
        }
        let Some(name) = self.peer(upstream, peer).and_then(PeerRecord::host_name) else { return };
        self.checks.next_lookup += 1;
        let id = self.checks.next_lookup;
        let lookup = Lookup { upstream, peer, name, server: 0, missing: 0, answers: Vec::new() };
        self.checks.lookups.push((id, lookup));
        self.ask(id);
    }

    /// Asks the name server whose turn it is.
    fn ask(&mut self, id: u64) {
        let Some((_, lookup)) = self.checks.lookups.iter_mut().find(|(known, _)| *known == id) else { return };
        (lookup.missing, lookup.answers) = (2, Vec::new());
        let (upstream, peer, name, server) = (lookup.upstream, lookup.peer, lookup.name.clone(), lookup.server);
        let resolver: Option<SocketAddr> =
            self.directory.get(upstream).and_then(|u| u.view.record().spec.resolver.get(server).copied());
        for family in [Family::V4, Family::V6] {
            let question = Question { name: name.clone(), family, id: self.host.random() as u16 };
            let asked = match (resolver, question.encode()) {
                (Some(to), Some(bytes)) => {
                    let call = Call { to, timeout: RESOLVER_TIMEOUT, kind: CallKind::Tcp(bytes) };
                    self.call(upstream, peer, call, Purpose::Ask(id, question))
                }
                (None, _) => Err("there is no name server to ask".to_owned()),
                (_, None) => Err("not a name that can be asked for".to_owned()),
            };
            if let Err(error) = asked {
                self.answer(id, Err(error));
            }
        }
    }

    /// Takes in an answer of a name server. When both are there, draws the conclusion or asks the next one.
    fn answer(&mut self, id: u64, answer: Result<Answer, String>) {
        let Some((_, lookup)) = self.checks.lookups.iter_mut().find(|(known, _)| *known == id) else { return };
        lookup.answers.push(answer);
        lookup.missing = lookup.missing.saturating_sub(1);
        if lookup.missing > 0 {
            return;
        }
        let outcome = conclude(&lookup.answers);
        let (upstream, peer) = (lookup.upstream, lookup.peer);
        lookup.server += 1;
        let servers = self.directory.get(upstream).map_or(0, |u| u.view.record().spec.resolver.len());
        if matches!(outcome, Lookups::Failed(_)) && lookup.server < servers {
            self.ask(id);
            return;
        }
        self.checks.lookups.retain(|(known, _)| *known != id);
        let at = self.host.now();
        self.note(upstream, peer, Event::Resolved { outcome, at });
    }
}

/// What two answers say, for IPv4 and for IPv6.
fn conclude(answers: &[Result<Answer, String>]) -> Lookups {
    let mut found = Vec::new();
    let mut hold = None;
    let (mut no_such_name, mut error) = (false, None);
    for answer in answers {
        match answer {
            Ok(Answer::Addresses(addresses, time)) if !addresses.is_empty() => {
                found.extend_from_slice(addresses);
                hold = Some(hold.map_or(*time, |hold: Duration| hold.min(*time)));
            }
            Ok(Answer::Addresses(..)) => {}
            Ok(Answer::NoSuchName) => no_such_name = true,
            Err(why) => error = error.or(Some(why)),
        }
    }
    // In whatever order the two came.
    let (mut found, v6): (Vec<IpAddr>, Vec<IpAddr>) = found.into_iter().partition(IpAddr::is_ipv4);
    found.extend(v6);
    match (hold, error) {
        (Some(hold), error) => Lookups::Found(found, hold, error.is_some()),
        (None, _) if no_such_name => Lookups::Gone("the name does not exist".to_owned()),
        (None, Some(why)) => Lookups::Failed(why.clone()),
        (None, None) => Lookups::Gone("the name has no address".to_owned()),
    }
}

fn log_resolution(_host: &dyn Host, upstream: &str, peer: &str, outcome: &Lookups, was: &Resolution, is: &Resolution) {
    let list = |addresses: &[IpAddr]| addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
    match outcome {
        Lookups::Found(..) if is.addresses != was.addresses => {
            let (from, to) = (list(&was.addresses), list(&is.addresses));
            log::info!("peer addresses: upstream={upstream} peer={peer} from={from} to={to}");
        }
        Lookups::Failed(why) if was.error != *why => {
            let known = list(&is.addresses);
            log::warn!("peer addresses: upstream={upstream} peer={peer} cannot be resolved: {why}; still {known:?}");
        }
        _ => {}
    }
}

impl Work {
    fn add(&mut self, due: Timestamp, job: Job) {
        self.next_job += 1;
        self.jobs.insert((due, self.next_job), job);
    }

    /// Puts a job into its next slot after a point in time. What is no slot's, [`Task::Resolve`], is left out.
    fn schedule(&mut self, view: &View, mut job: Job, after: Timestamp) {
        let record = view.record();
        let (id, peer) = match &job.task {
            Task::Check { monitor, peer } => (monitor, view.find(*peer)),
            Task::Turn { monitor, .. } => (monitor, None),
            Task::Resolve { .. } => return,
        };
        let Some(monitor) = record.monitors.iter().find(|monitor| *monitor.id == **id) else { return };
        let peer = peer.map_or("", |peer| peer.server.name.as_str());
        let (due, slot) = Slots::new(monitor.interval, self.machine, &[&record.name, &monitor.id, peer]).next(after);
        if let Task::Turn { number, .. } = &mut job.task {
            *number = slot;
        }
        self.add(due, job);
    }
}

impl PendingStatus {
    /// Puts in place what others wrote, with what is not written yet on top of it.
    fn replace(&mut self, status: Status, number: u32, record: &Record, health: &FailureTable) {
        (self.status, self.number) = (status, number);
        for (peer, event) in &self.events {
            event.apply(&mut self.status, *peer, record, health, event.at());
        }
    }

    fn write(
        &mut self,
        store: &Store<'_>,
        record: &Record,
        health: &FailureTable,
        announce: bool,
    ) -> Result<(), Error> {
        use crate::host::HostError;
        for _ in 0..TRIES {
            if announce {
                self.status.advance();
            }
            match store.write_status(&record.name, &self.status, self.number) {
                Ok(()) => {
                    self.number = store.status_number(&record.name, &self.status, self.number)?;
                    self.events.clear();
                    (self.is_restricted, self.is_urgent) = (false, false);
                    self.written = store.now();
                    if announce {
                        store.host().announce();
                    }
                    for (peer, change, by, why) in self.reports.drain(..) {
                        journal::report(&record.name, &peer, change, &by, &why);
                    }
                    return Ok(());
                }
                Err(Error::Host(HostError::Conflict)) => {
                    if let Read::Changed(status, number) = store.status_since(record, Some(self.number))? {
                        self.replace(status, number, record, health);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Host(HostError::Conflict))
    }
}

impl Event {
    /// Whether it is of a monitor that there is, or of none.
    fn is_of(&self, record: &Record) -> bool {
        match self {
            Self::Checked { monitor, .. } | Self::Reported { monitor, .. } => {
                record.monitors.iter().any(|known| known.id == monitor.id && known.number == monitor.number)
            }
            Self::Resolved { .. } => true,
        }
    }

    fn at(&self) -> Timestamp {
        match self {
            Self::Checked { at, .. } | Self::Reported { at, .. } | Self::Resolved { at, .. } => *at,
        }
    }

    /// Whose doing a change by this event is, and why it happened if the peer is back by it.
    fn reason(&self) -> (String, String) {
        match self {
            Self::Checked { monitor, why: Some(why), .. } => (format!("monitor {}", monitor.id), why.clone()),
            Self::Checked { monitor, why: None, .. } => {
                (format!("monitor {}", monitor.id), format!("{} good checks in a row", monitor.rise))
            }
            Self::Reported { .. } => ("agent".to_owned(), "the agent says so".to_owned()),
            Self::Resolved { outcome: Lookups::Found(..), .. } => {
                ("resolver".to_owned(), "the name is resolved".to_owned())
            }
            Self::Resolved { outcome: Lookups::Gone(why) | Lookups::Failed(why), .. } => {
                ("resolver".to_owned(), why.clone())
            }
        }
    }

    fn apply(
        &self,
        status: &mut Status,
        peer: PeerId,
        record: &Record,
        health: &FailureTable,
        now: Timestamp,
    ) -> Effect {
        match self {
            Self::Checked { monitor, why, is_verdict, at, took: length } => {
                let flip = status.change(peer, |status| {
                    status.change_check(monitor, |check| {
                        (check.at, check.took) = (*at, took(*length));
                        let flip = check.observe(why.as_deref(), monitor.rise, monitor.fall);
                        flip.filter(|_| *is_verdict)
                    })
                });
                let Some(flip) = flip else { return Effect::Noted };
                let is_out = status.of(peer).is_some_and(|status| status.down_by().is_some());
                let is_resting = matches!(
                    record
                        .peers
                        .iter()
                        .find(|known| known.id == peer)
                        .map(|known| health.of(known).verdict(now, known.fail_timeout())),
                    Some(PassiveVerdict::Down { .. })
                );
                if flip == Flip::Down && !is_out && !is_resting && !may_eject(record, health, status, peer, now) {
                    let streak = status.of(peer).and_then(|status| status.check(&monitor.id)).map(|check| check.streak);
                    return if streak == Some(monitor.fall) { Effect::Spared } else { Effect::Noted };
                }
                status.change(peer, |status| status.change_check(monitor, |check| check.set_verdict(flip, *at)));
                Effect::Turned
            }
            Self::Reported { monitor, report, at } => status.change(peer, |status| {
                let before = status.agent.clone();
                let mut agent = status.agent.take().unwrap_or_default();
                agent.apply(monitor, report, *at);
                // What is said to people nobody has to know at once.
                let used =
                    |agent: &crate::model::agent::Agent| (agent.health, agent.admin, agent.weight, agent.max_conns);
                let is_same = before.as_ref().map(used) == Some(used(&agent));
                status.agent = Some(agent);
                if is_same {
                    Effect::Noted
                } else {
                    Effect::Turned
                }
            }),
            Self::Resolved { outcome, at } => status.change(peer, |status| {
                let before = status.name.take().unwrap_or_default();
                let mut name = before.clone();
                name.error.clear();
                match outcome {
                    Lookups::Found(addresses, hold, is_partial) => {
                        name.addresses.clone_from(addresses);
                        let hold = if *is_partial { SHORTEST_TTL } else { *hold };
                        (name.gone, name.expires) = (None, at.after(hold));
                        // What a question without an answer was for stays as it was.
                        let is_missing =
                            |address: &&IpAddr| addresses.iter().all(|new| new.is_ipv4() != address.is_ipv4());
                        let kept = before.addresses.iter().filter(|_| *is_partial).filter(is_missing);
                        name.addresses.extend(kept);
                    }
                    Lookups::Gone(why) => {
                        name.gone = name.gone.or(Some(*at));
                        (name.error, name.expires) = (why.clone(), at.after(SHORTEST_TTL));
                    }
                    Lookups::Failed(why) => {
                        (name.error, name.expires) = (why.clone(), at.after(SHORTEST_TTL));
                    }
                }
                let turned =
                    (&name.addresses, name.gone, &name.error) != (&before.addresses, before.gone, &before.error);
                status.name = Some(name);
                if turned {
                    Effect::Turned
                } else {
                    Effect::Noted
                }
            }),
        }
    }
}

#[cfg(test)]
mod tests;
