//! A request, from its candidates to its counted failures.
//!
//! What a pick yields is kept as it was offered: who, where, and how busy that one is. When attempts are over, the host tells of
//! them by address, and each failed one is counted against the candidate that had this address.

use std::rc::Rc;

use crate::balancer::load::{InFlight, Load};
use crate::host::{Attempt, Failure, Host, ResponseHost, MOST_CANDIDATES};
use crate::model::peer::PeerRecord;
use crate::store::Store;
use crate::time::Timestamp;
use crate::worker::candidate::Candidate;
use crate::worker::directory::Directory;
use crate::worker::view::View;

/// The status that answers are counted as of which the host reports nothing.
const ASSUMED: u16 = 200;

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
    /// Whether the attempts before the answered one are counted.
    responded: bool,
    /// The status of the answer, where it might be one of the upstream's `fail_codes`.
    status: Option<u16>,
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

    fn offered<R>(&self, ask: impl FnOnce(&[&str]) -> R) -> R {
        let mut addresses = [""; MOST_CANDIDATES];
        let candidates = self.candidates.iter().flatten();
        let offered = addresses.iter_mut().zip(candidates).map(|(slot, candidate)| *slot = &candidate.address).count();
        ask(addresses.get(..offered).unwrap_or_default())
    }

    /// The answer's headers are there: counts the attempts that failed before it.
    pub(super) fn response(&mut self, host: &dyn ResponseHost, directory: &Directory) {
        if !self.is_routed() {
            return;
        }
        if !self.reported {
            self.count_earlier(host, directory);
            self.responded = true;
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

    /// The request is over. Counts the attempts that failed, unless the host reports them. Returns whether it will.
    pub(super) fn done(&mut self, host: &dyn ResponseHost, directory: &Directory) -> bool {
        if !self.is_routed() {
            return false;
        }
        if self.reported && self.failing_status(directory).is_none() {
            // All that is no success is reported right after this, and counted as what it is then.
            if let Some(first) = self.first() {
                first.load.count(|counts| counts.answered(ASSUMED));
                self.connected(directory, first);
            }
            self.in_flight = None;
            return true;
        }
        self.judge(host, directory);
        false
    }

    /// The host reports that the request did not end well.
    pub(super) fn failed(&mut self, host: &dyn ResponseHost, directory: &Directory) {
        if let Some(first) = self.first() {
            first.load.count(|counts| counts.unanswered(ASSUMED));
        }
        self.status = self.status.or_else(|| host.final_status());
        self.judge(host, directory);
    }

    /// Counts the attempts that failed.
    fn judge(&mut self, host: &dyn ResponseHost, directory: &Directory) {
        if !self.responded {
            self.count_earlier(host, directory);
        }
        let last = self.offered(|offered| host.last_attempt(offered));
        if let (None, Some(status)) = (last.failure, self.status) {
            let answering = self.candidates.iter().flatten().find(|candidate| !candidate.is_judged);
            if let Some(candidate) = answering {
                candidate.load.count(|counts| counts.answered(status));
                self.connected(directory, candidate);
            }
        }
        if let Some(failure) = last.failure.or_else(|| self.failing_status(directory)) {
            self.count(host, directory, last.address.as_deref(), failure);
        }
        self.in_flight = None;
    }

    /// The request was answered by this candidate.
    fn connected(&self, directory: &Directory, candidate: &Candidate) {
        if candidate.is_doubtful {
            let view = directory.view(self.upstream);
            if let Some(worker_peer) = view.and_then(|view| view.worker_peer(candidate.peer)) {
                worker_peer.connected(&candidate.address);
            }
        }
    }

    /// The answer's status, if the upstream counts it as a failure.
    fn failing_status(&self, directory: &Directory) -> Option<Failure> {
        let code = self.status?;
        directory.record(self.upstream)?.spec.fail_codes.contains(code).then_some(Failure::Status(code))
    }

    /// Counts the attempts before the last one, all of which failed.
    fn count_earlier(&mut self, host: &dyn ResponseHost, directory: &Directory) {
        let attempts = self.offered(|offered| host.earlier_attempts(offered));
        for (Attempt { address, failure }, next) in attempts.into_iter().zip(1..) {
            self.count(host, directory, address.as_deref(), failure.unwrap_or(Failure::Retried));
            let now = if self.timed { host.now() } else { Timestamp::default() };
            self.go_to(next, now);
        }
    }

    /// Counts a failed attempt against the candidate of that address. An attempt at any other address is nobody's failure.
    fn count(&mut self, host: &dyn Host, directory: &Directory, address: Option<&str>, failure: Failure) {
        let is_meant = |candidate: &&mut Candidate| !candidate.is_judged && Some(&*candidate.address) == address;
        let Some(candidate) = self.candidates.iter_mut().flatten().find(is_meant) else { return };
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

fn count_failure(host: &dyn Host, view: &View, peer: &PeerRecord, load: &Load, failure: Failure) {
    load.count(|counts| counts.failed(failure));
    match Store::new(host).fail(view.record(), peer, view.status(), &failure, false) {
        Ok(is_ejected) => load.count(|counts| counts.ejections += u64::from(is_ejected)),
        Err(error) => {
            let (upstream, peer) = (view.name(), &peer.server.name);
            log::error!("a failure of {peer} in upstream {upstream:?} cannot be counted: {error}");
        }
    }
}
