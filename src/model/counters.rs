//! What happened at peers, counted over all workers: picks, answers, failures, requests in flight.
//!
//! A worker counts for itself, in memory, which costs a request next to nothing, and adds that to a value in shared data
//! once a second. So the sums are up to a second old, and what a worker counted since its last tick is
//! lost if it crashes. Requests in flight rise and fall, so each worker's are kept apart, and those of a worker
//! that has not been heard of for a while are left out.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::Failure;
use crate::model::id::PeerId;
use crate::time::Timestamp;

/// After so long without a word a worker is gone.
const SILENCE: Duration = Duration::from_secs(10);
/// How often a worker that has requests in flight is heard of.
pub(crate) const WORD: Duration = Duration::from_secs(4);

/// The reasons of failures, in the order in which they are counted, by their names in metrics.
pub(crate) const REASONS: [&str; 6] = ["connect", "reset", "timeout", "protocol", "status", "retried"];

/// What happened at a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Attempts of requests that went there.
    pub picks: u64,
    /// Answers by the first digit of their status, 1 to 5.
    pub responses: [u64; 5],
    /// Failed attempts by reason: connect, reset, timeout, protocol, status, retried.
    pub failures: [u64; 6],
    /// How often failures, of requests or of checks, took it out of use.
    pub ejections: u64,
}

impl Counts {
    /// Counts an answer of this status.
    pub fn answered(&mut self, status: u16) {
        if let Some(count) = usize::from(status / 100).checked_sub(1).and_then(|class| self.responses.get_mut(class)) {
            *count = count.saturating_add(1);
        }
    }

    /// Takes back one answer of this status.
    pub fn unanswered(&mut self, status: u16) {
        if let Some(count) = usize::from(status / 100).checked_sub(1).and_then(|class| self.responses.get_mut(class)) {
            *count = count.saturating_sub(1);
        }
    }

    /// Counts a failed attempt.
    pub fn failed(&mut self, failure: Failure) {
        let reason = match failure {
            Failure::Connect => 0,
            Failure::Reset => 1,
            Failure::Timeout => 2,
            Failure::Protocol => 3,
            Failure::Status(_) => 4,
            Failure::Retried => 5,
        };
        if let Some(count) = self.failures.get_mut(reason) {
            *count = count.saturating_add(1);
        }
    }

    fn add(&mut self, other: &Self) {
        self.picks = self.picks.saturating_add(other.picks);
        self.ejections = self.ejections.saturating_add(other.ejections);
        let responses = self.responses.iter_mut().zip(other.responses);
        let failures = self.failures.iter_mut().zip(other.failures);
        responses.chain(failures).for_each(|(count, more)| *count = count.saturating_add(more));
    }
}

/// What happened at an upstream's peers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counters {
    /// Ordered by id.
    peers: Vec<(PeerId, Counts)>,
    in_flight: Vec<Word>,
}

/// A worker's word on its requests in flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Word {
    worker: u64,
    at: Timestamp,
    peers: Vec<(PeerId, u32)>,
}

impl Counters {
    /// What happened at a peer.
    #[must_use]
    pub(crate) fn of(&self, peer: PeerId) -> Counts {
        let found = self.peers.binary_search_by_key(&peer, |(id, _)| *id);
        found.ok().and_then(|at| self.peers.get(at)).map(|(_, counts)| *counts).unwrap_or_default()
    }

    /// The requests in flight at a peer.
    #[must_use]
    pub(crate) fn in_flight(&self, peer: PeerId, now: Timestamp) -> u32 {
        let heard = self.in_flight.iter().filter(|word| now.since(word.at) < SILENCE);
        heard.flat_map(|word| &word.peers).filter(|(id, _)| *id == peer).map(|(_, count)| count).sum()
    }

    /// The highest id of a peer at which something was counted.
    pub(crate) fn last(&self) -> Option<PeerId> {
        let counted = self.peers.iter().map(|(id, _)| *id);
        counted.chain(self.in_flight.iter().flat_map(|word| &word.peers).map(|(id, _)| *id)).max()
    }

    /// Adds what a worker counted since it last did so, and replaces its word on what is in flight.
    pub(crate) fn add(&mut self, worker: u64, now: Timestamp, counted: &[(PeerId, Counts, u32)]) {
        for (peer, counts, _) in counted.iter().filter(|(_, counts, _)| *counts != Counts::default()) {
            match self.peers.binary_search_by_key(peer, |(id, _)| *id) {
                Ok(at) => {
                    if let Some((_, known)) = self.peers.get_mut(at) {
                        known.add(counts);
                    }
                }
                Err(at) => self.peers.insert(at, (*peer, *counts)),
            }
        }
        self.in_flight.retain(|word| word.worker != worker && now.since(word.at) < SILENCE && word.at <= now);
        let peers: Vec<(PeerId, u32)> =
            counted.iter().filter(|(.., count)| *count > 0).map(|(peer, _, count)| (*peer, *count)).collect();
        if !peers.is_empty() {
            self.in_flight.push(Word { worker, at: now, peers });
        }
    }

    /// Forgets peers that are gone.
    pub(crate) fn retain(&mut self, mut is_there: impl FnMut(PeerId) -> bool) {
        self.peers.retain(|(id, _)| is_there(*id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    #[test]
    fn workers_counts_add_up_and_what_is_in_flight_is_what_each_said_last() {
        let mut counters = Counters::default();
        let mut counts = Counts { picks: 2, ..Counts::default() };
        counts.answered(204);
        counts.failed(Failure::Timeout);
        let peer = PeerId(3);
        counters.add(1, NOW, &[(peer, counts, 5)]);
        counters.add(2, NOW, &[(peer, counts, 1)]);
        counters.add(1, NOW, &[(peer, counts, 2)]);
        let sum = counters.of(peer);
        assert_eq!((sum.picks, sum.responses, sum.failures), (6, [0, 3, 0, 0, 0], [0, 0, 3, 0, 0, 0]));
        assert_eq!(counters.in_flight(peer, NOW), 3);
        assert_eq!(counters.in_flight(peer, NOW.after(SILENCE)), 0, "of workers that are gone");
        assert_eq!(counters.of(PeerId(4)), Counts::default());
    }

    #[test]
    fn a_status_without_a_class_counts_nowhere() {
        let mut counts = Counts::default();
        [0, 99, 600, u16::MAX].into_iter().for_each(|status| counts.answered(status));
        assert_eq!(counts, Counts::default());
    }
}
