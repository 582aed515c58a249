//! A request, from its candidates to its counted failures.
//!
//! What a pick yields is kept as it was offered: who, where, and how busy that one is. When attempts are over, the host tells of
//! them by address, and each failed one is counted against the candidate that had this address. The filter does not decide where a
//! request goes in the end: the host's own routes may send it to other servers, and their failures are no candidate's.

use std::rc::Rc;

use crate::balancer::load::{InFlight, Load};
use crate::host::{Attempt, End, Failure, Host, ResponseHost, MOST_CANDIDATES};
use crate::model::passive::Recovery;
use crate::model::peer::PeerRecord;
use crate::store::Store;
use crate::time::Timestamp;
use crate::worker::candidate::{with_addresses, Candidate};
use crate::worker::directory::Directory;
use crate::worker::peer::Proof;
use crate::worker::view::View;

/// The status that answers are counted as of which the host reports nothing.
const ASSUMED: u16 = 200;
/// From this status on an answer is asked whose it is. The host reports those as well.
const NO_SUCCESS: u16 = 300;

/// What the filter remembers of a request until it is over.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The upstream's position.
    upstream: usize,
    candidates: [Option<Candidate>; MOST_CANDIDATES],
    /// The attempt that is under way; dropped with the exchange, however that ends.
    in_flight: Option<InFlight>,
    /// Whether response times are measured.
    timed: bool,
    /// Whether the host reports failed attempts, so that nothing has to be asked for the others.
    reported: bool,
    /// How many attempts there were before these candidates were offered.
    earlier: usize,
    /// How many of the attempts since then, from the first one, are judged.
    judged: usize,
    /// The status of the answer, where it might be one of the upstream's `fail_codes`.
    status: Option<u16>,
    /// No route matched.
    is_unrouted: bool,
}

impl Exchange {
    /// A request that was offered these peers of the upstream at that position, at that time.
    pub(super) fn new(
        upstream: usize,
        candidates: [Option<Candidate>; MOST_CANDIDATES],
        timed: bool,
        reported: bool,
        now: Timestamp,
    ) -> Self {
        let mut exchange = Self { upstream, candidates, timed, reported, ..Self::default() };
        exchange.go_to(0, now);
        exchange
    }

    /// The same for a request that comes again after so many attempts.
    pub(super) fn after(self, earlier: usize) -> Self {
        Self { earlier, ..self }
    }

    /// A request that no route matched.
    pub(super) fn unrouted() -> Self {
        Self { is_unrouted: true, ..Self::default() }
    }

    /// Whether the host may have sent it to where only requests with a peer may go.
    pub(super) fn may_stray(&self) -> bool {
        self.is_unrouted
    }

    /// Whether the request was offered anything.
    fn is_routed(&self) -> bool {
        self.first().is_some()
    }

    fn first(&self) -> Option<&Candidate> {
        self.candidates.first().and_then(Option::as_ref)
    }

    /// The request is at its candidate of that number now, or at none.
    fn go_to(&mut self, candidate: usize, now: Timestamp) {
        let load = self.candidates.get(candidate).and_then(Option::as_ref).map(|candidate| Rc::clone(&candidate.load));
        self.in_flight = load.map(|load| InFlight::begin(load, now));
    }

    /// The request is at the candidate after those that are judged.
    fn go_on(&mut self, host: &dyn Host) {
        let now = if self.timed { host.now() } else { Timestamp::default() };
        self.go_to(self.judged, now);
    }

    /// The answer's headers are there: counts the attempts that failed before it.
    pub(super) fn response(&mut self, host: &dyn ResponseHost, directory: &Directory) {
        if !self.is_routed() {
            return;
        }
        if !self.reported {
            self.judge_earlier(host, directory);
        }
        // A response time says nothing of a peer without the attempts before it.
        let is_first = !self.candidates.iter().flatten().any(|candidate| candidate.is_judged);
        if let Some(request) = self.in_flight.as_ref().filter(|_| self.timed && is_first) {
            let now = host.now();
            request.load().responded(now.since(request.since), now);
        }
        let record = directory.record(self.upstream);
        let matters = record.is_some_and(|record| !record.spec.fail_codes.is_empty());
        if matters || !self.reported {
            self.status = host.response_status();
        }
    }

    /// The answer goes on. What the host reports it reports at the end, and nobody may wait for that: the next requests would go to the
    /// dead peer first, too.
    pub(super) fn streaming(&mut self, host: &dyn ResponseHost, directory: &Directory) {
        if self.is_routed() && self.reported && self.judged == 0 {
            self.judge_earlier(host, directory);
        }
    }

    /// Counts the attempts before the one that is answered.
    fn judge_earlier(&mut self, host: &dyn ResponseHost, directory: &Directory) {
        let earlier = with_addresses(&self.candidates, |offered| host.earlier_attempts(offered));
        for attempt in earlier {
            self.judge_one(host, directory, &attempt);
            self.go_on(host);
        }
    }

    /// The request is over. Counts the attempts that failed, unless the host reports them. Returns whether it will.
    pub(super) fn done(&mut self, host: &dyn ResponseHost, directory: &Directory) -> bool {
        if !self.is_routed() {
            return false;
        }
        if self.status.is_none() && !self.reported {
            self.status = host.final_status();
        }
        if self.failing_status(directory).is_none() {
            // What is in doubt is looked at, or its failure would be taken back first.
            if self.reported && !self.first().is_some_and(|first| first.is_doubtful || first.proof != Proof::None) {
                // All that is no success is reported right after this, and counted as what it is then.
                self.answered(host, directory, 0, ASSUMED);
                return true;
            }
            let success = self.status.filter(|status| *status < NO_SUCCESS);
            if let Some(status) = success.filter(|_| host.ended_well()) {
                self.answered(host, directory, self.judged, status);
                return false;
            }
        }
        self.judge(host, directory);
        false
    }

    /// The host reports that the request did not end well.
    pub(super) fn failed(&mut self, host: &dyn ResponseHost, directory: &Directory) {
        if let Some(first) = self.first() {
            first.load.count(|counts| counts.unanswered(ASSUMED));
        }
        self.judge(host, directory);
    }

    /// Counts what became of the attempts.
    fn judge(&mut self, host: &dyn ResponseHost, directory: &Directory) {
        let attempts = with_addresses(&self.candidates, |offered| host.attempts(offered));
        let mut attempts = attempts.iter().skip(self.earlier + self.judged).peekable();
        while let Some(attempt) = attempts.next() {
            self.judge_one(host, directory, attempt);
            if attempts.peek().is_some() {
                self.go_on(host);
            }
        }
        self.in_flight = None;
    }

    /// The request ended well, answered by its candidate of that number.
    fn answered(&mut self, host: &dyn Host, directory: &Directory, candidate: usize, status: u16) {
        if let Some(candidate) = self.candidates.get(candidate).and_then(Option::as_ref) {
            candidate.load.count(|counts| counts.answered(status));
            answered(host, directory, self.upstream, candidate, true);
        }
        self.in_flight = None;
    }

    /// The answer's status, if the upstream counts it as a failure.
    fn failing_status(&self, directory: &Directory) -> Option<Failure> {
        fail_code(directory, self.upstream, self.status?)
    }

    /// Counts what became of the next attempt.
    fn judge_one(&mut self, host: &dyn Host, directory: &Directory, attempt: &Attempt) {
        let address = attempt.address.as_deref();
        let failure = match attempt.end {
            End::Answered(status) => {
                let failure = fail_code(directory, self.upstream, status);
                if let Some(candidate) = unjudged(&mut self.candidates, address) {
                    candidate.load.count(|counts| counts.answered(status));
                    answered(host, directory, self.upstream, candidate, failure.is_none());
                }
                failure
            }
            End::Failed(failure) => Some(failure),
            End::Nobodys => None,
        };
        if let Some(failure) = failure {
            self.count(host, directory, address, failure);
        }
        self.judged += 1;
    }

    /// Counts a failed attempt against the candidate of that address. An attempt at any other address is nobody's failure.
    fn count(&mut self, host: &dyn Host, directory: &Directory, address: Option<&str>, failure: Failure) {
        let Some(candidate) = unjudged(&mut self.candidates, address) else { return };
        candidate.is_judged = true;
        let Some(view) = directory.view(self.upstream) else { return };
        // Not each host says of earlier attempts how they failed.
        if matches!(failure, Failure::Connect | Failure::Retried) {
            if let Some(worker_peer) = view.worker_peer(candidate.peer) {
                worker_peer.connect_failed(&candidate.address, host.now());
            }
        }
        if self.timed {
            let now = host.now();
            let began = self.in_flight.as_ref().map_or(now, |request| request.since);
            candidate.load.failed(now.since(began), now);
        }
        // A peer that was removed in the meantime has no counter any more.
        let Some(peer) = view.find(candidate.peer) else { return };
        count_failure(host, view, peer, &candidate.load, failure);
    }
}

/// Counts attempts at an upstream's peers by which a request came here before.
pub(super) fn judge_earlier(host: &dyn Host, directory: &Directory, upstream: usize, attempts: &[Attempt]) {
    for attempt in attempts {
        let address = attempt.address.as_deref();
        let candidate = address.and_then(|address| directory.view(upstream)?.candidate_at(address));
        let mut exchange = Exchange { upstream, candidates: [candidate, None, None], ..Exchange::default() };
        exchange.judge_one(host, directory, attempt);
    }
}

/// The candidate of that address, unless it is judged.
fn unjudged<'c>(candidates: &'c mut [Option<Candidate>], address: Option<&str>) -> Option<&'c mut Candidate> {
    let is_meant = |candidate: &&mut Candidate| !candidate.is_judged && Some(&*candidate.address) == address;
    candidates.iter_mut().flatten().find(is_meant)
}

/// A status as a failure, if the upstream counts it as one.
fn fail_code(directory: &Directory, upstream: usize, status: u16) -> Option<Failure> {
    directory.record(upstream)?.spec.fail_codes.contains(status).then_some(Failure::Status(status))
}

fn count_failure(host: &dyn Host, view: &View, peer: &PeerRecord, load: &Load, failure: Failure) {
    load.count(|counts| counts.failed(failure));
    match Store::new(host).add_fail(view.record(), peer, view.status(), &failure, true) {
        Ok((_, is_ejected)) => load.count(|counts| counts.ejections += u64::from(is_ejected)),
        Err(error) => {
            let (upstream, peer) = (view.name(), &peer.server.name);
            log::error!("a failure of {peer} in upstream {upstream:?} cannot be counted: {error}");
        }
    }
}

/// A candidate answered, well or with one of the `fail_codes`: what was in doubt is known now.
fn answered(host: &dyn Host, directory: &Directory, upstream: usize, candidate: &Candidate, is_good: bool) {
    let is_news = candidate.is_doubtful || candidate.proof != Proof::None;
    let Some(view) = directory.view(upstream).filter(|_| is_news) else { return };
    if candidate.is_doubtful {
        if let Some(worker_peer) = view.worker_peer(candidate.peer) {
            worker_peer.connected(&candidate.address);
        }
    }
    let recovery = match candidate.proof {
        Proof::Trial => Recovery::Answered,
        Proof::Kept => {
            // Such a peer gets many requests, and not each is worth a look at shared data.
            let known = view.find(candidate.peer).map(|peer| (view.health().of(peer), peer.fail_timeout()));
            if !known.is_some_and(|(failures, window)| failures.is_calm(host.now(), window)) {
                return;
            }
            Recovery::AnsweredInUse
        }
        Proof::None => return,
    };
    if is_good {
        let store = Store::new(host);
        // What was said while the request was under way may be what keeps the peer out of use now.
        let Some((record, status)) = store.latest(view.name()) else { return };
        let Some(peer) = record.peers.iter().find(|peer| peer.id == candidate.peer) else { return };
        let reason = ("passive", "a request was answered");
        if let Err(error) = store.recover(&record, peer, &status, recovery, reason) {
            let (upstream, peer) = (view.name(), &peer.server.name);
            log::error!("the end of an outage of {peer} in upstream {upstream:?} cannot be written: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::filter::Filter;
    use crate::handle::upstream::Upstream;
    use crate::model::state::PeerState;
    use crate::registry::Registry;
    use crate::testing::test;
    use durpina_sim::{Answer, Behaviour, Sent, Sim};

    type Worker = durpina_sim::Worker<Filter>;

    const A: &str = "10.0.0.1:80";
    const B: &str = "10.0.0.2:80";
    const C: &str = "10.0.0.3:80";
    const FOREIGN: &str = "192.0.2.9:80";

    /// A worker for each way in which a host tells of failures, with three peers and what else is to be in the upstream.
    fn workers(more: &str, mut tried: impl FnMut(&Sim, &mut Worker)) {
        for reports in [true, false] {
            let sim = Sim::new();
            if reports {
                sim.report_failures();
            }
            let text = format!(
                r#"{{"upstreams": {{"u": {{"servers": ["{A}", "{B}", "{C}"], "max_ejected_percent": 100{more}}}}}, "upstream": "u",
                "envoy": {{"access_log": {reports}}}}}"#
            );
            tried(&sim, &mut Worker::start(&sim, &text).unwrap());
        }
    }

    fn get(worker: &mut Worker) -> Answer {
        worker.send(Sent::get("/"))
    }

    /// The peers that are not up.
    fn blamed(worker: &Worker) -> Vec<&'static str> {
        let upstream = Upstream::get(Store::new(&worker.host), &Registry::default(), "u").unwrap().unwrap();
        [A, B, C].into_iter().filter(|name| upstream.get_peer(name).unwrap().state() != PeerState::Up).collect()
    }

    #[test]
    fn an_answer_that_the_server_breaks_off_counts_wherever_it_was() {
        workers("", |sim, worker| {
            sim.server(A, Behaviour::Fails(Failure::Connect));
            sim.server(B, Behaviour::Breaks(200));
            assert_eq!(get(worker), Answer::Served { by: B.to_owned(), status: 200, attempts: 2 });
            assert_eq!(blamed(worker), [A, B]);
        });
    }

    /// A stream of events, say.
    #[test]
    fn the_attempts_before_an_answer_that_goes_on_count_at_once_and_once() {
        workers(r#", "fail_codes": "500""#, |sim, worker| {
            sim.server(A, Behaviour::Fails(Failure::Connect));
            let (_, mut stream) = worker.begin(Sent::get("/"));
            worker.go_on(&mut stream);
            worker.go_on(&mut stream);
            let count = |worker: &Worker| {
                let store = Store::new(&worker.host);
                let (record, _) = store.record("u").unwrap().unwrap();
                store.health("u").unwrap().of(&record.peers[0]).count
            };
            // A host that reports nothing is asked when the answer's headers are there, which in this simulation is at the end.
            assert_eq!(count(worker), u32::from(worker.host.reports_failures()));
            worker.end(&mut stream);
            assert_eq!(count(worker), 1);
            assert_eq!(blamed(worker), [A]);
        });
    }

    #[test]
    fn what_ends_an_answer_that_began_for_other_reasons_counts_for_nothing() {
        workers("", |sim, worker| {
            for behaviour in [Behaviour::Stalls(200), Behaviour::Stalls(101), Behaviour::Stalls(504)] {
                [A, B, C].into_iter().for_each(|server| sim.server(server, behaviour));
                (0..6).for_each(|_| drop(get(worker)));
            }
            [A, B, C].into_iter().for_each(|server| sim.server(server, Behaviour::Abandoned));
            (0..6).for_each(|_| drop(get(worker)));
            assert_eq!(blamed(worker), [""; 0]);
        });
    }

    #[test]
    fn a_client_that_goes_away_does_not_hide_the_failure_before() {
        workers("", |sim, worker| {
            sim.server(A, Behaviour::Fails(Failure::Reset));
            sim.server(B, Behaviour::Abandoned);
            get(worker);
            assert_eq!(blamed(worker), [A]);
        });
    }

    #[test]
    fn what_goes_elsewhere_is_no_candidate_s_failure() {
        let failed = End::Failed(Failure::Connect);
        for (address, attempts, end, status) in [
            (Some(FOREIGN), 1, failed, 503),
            (Some(FOREIGN), 3, failed, 503),
            (Some(FOREIGN), 2, End::Answered(503), 503),
            (None, 1, End::Nobodys, 503),
            (None, 2, failed, 503),
        ] {
            workers(r#", "fail_codes": "503""#, |_, worker| {
                worker.host.route_elsewhere(address, attempts, end, status);
                (0..3).for_each(|_| drop(get(worker)));
                assert_eq!(blamed(worker), [""; 0], "{address:?} {attempts} {end:?}");
            });
        }
    }

    #[test]
    fn an_attempt_elsewhere_than_at_the_first_candidate_counts_where_it_was() {
        workers("", |_, worker| {
            worker.host.route_elsewhere(Some(C), 1, End::Failed(Failure::Reset), 503);
            get(worker);
            assert_eq!(blamed(worker), [C]);
        });
    }

    #[test]
    fn fail_codes_are_of_answers_that_began_too_and_of_the_one_that_gave_it() {
        workers(r#", "fail_codes": "503""#, |sim, worker| {
            sim.server(A, Behaviour::Fails(Failure::Connect));
            sim.server(B, Behaviour::Stalls(503));
            get(worker);
            assert_eq!(blamed(worker), [A, B]);
        });
    }

    #[test]
    fn picks_and_answers_are_counted_for_each_attempt_once() {
        workers("", |sim, worker| {
            sim.server(A, Behaviour::Fails(Failure::Connect));
            sim.server(B, Behaviour::Stalls(404));
            get(worker);
            sim.advance(Duration::from_secs(1));
            worker.tick();
            let store = Store::new(&worker.host);
            let (record, _) = store.record("u").unwrap().unwrap();
            let counters = store.counters("u").unwrap();
            let counts = record.peers.iter().map(|peer| counters.of(peer.id));
            let figures = counts.map(|counts| (counts.picks, counts.responses, counts.failures.iter().sum::<u64>()));
            let figures: Vec<_> = figures.collect();
            assert_eq!(figures, [(1, [0; 5], 1), (1, [0, 0, 0, 1, 0], 0), (0, [0; 5], 0)]);
        });
    }
}
