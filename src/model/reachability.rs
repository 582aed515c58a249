//! Addresses of a peer that cannot be connected to.
//!
//! A name may have addresses in a network that this machine does not have, IPv6 for example. One that could not be connected to
//! is passed over for a while, and for twice as long each time that it fails again; one connection, and it is as good as any
//! other. When all of a peer's addresses are passed over, none is: a peer is never left without an address.
//!
//! The first pause and the longest one are those of gRPC's connection backoff (`doc/connection-backoff.md` in grpc/grpc).
//! What is known of addresses belongs to one worker: another one may be told by its own attempts.

use std::time::Duration;

use crate::time::Timestamp;

/// For how long an address is passed over at first.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The same, at the most.
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// What is known of a peer's addresses. Nothing is kept of those that can be connected to.
#[derive(Clone, Debug)]
pub(crate) struct Reachability<A> {
    unreachable: Vec<Unreachable<A>>,
}

#[derive(Clone, Debug)]
struct Unreachable<A> {
    address: A,
    /// How often in a row it could not be connected to.
    failures: u32,
    /// Until when it is passed over.
    until: Timestamp,
}

impl<A> Default for Reachability<A> {
    fn default() -> Self {
        Self { unreachable: Vec::new() }
    }
}

impl<A: PartialEq> Reachability<A> {
    /// An address could not be connected to. Returns how often that was so in a row.
    pub(crate) fn failed(&mut self, address: A, now: Timestamp) -> u32 {
        let found = self.unreachable.iter().position(|known| known.address == address);
        let known = found.map(|at| self.unreachable.swap_remove(at));
        let failures = known.map_or(0, |known| known.failures).saturating_add(1);
        let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
        self.unreachable.push(Unreachable { address, failures, until: now.after(doubled.min(LONGEST_PAUSE)) });
        failures
    }

    /// An address could be connected to. Returns whether that is news.
    pub(crate) fn connected(&mut self, address: &A) -> bool {
        let before = self.unreachable.len();
        self.unreachable.retain(|known| known.address != *address);
        self.unreachable.len() < before
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_empty(&self) -> bool {
        self.unreachable.is_empty()
    }

    /// Whether an address failed, and was not connected to since.
    pub(crate) fn is_doubtful(&self, address: &A) -> bool {
        self.unreachable.iter().any(|known| known.address == *address)
    }

    /// Forgets addresses that a peer no longer has.
    pub(crate) fn restrict(&mut self, addresses: &[A]) {
        self.unreachable.retain(|known| addresses.contains(&known.address));
    }

    /// Whether an address is passed over now. If the clock was turned back, it is not.
    pub(crate) fn is_passed_over(&self, address: &A, now: Timestamp) -> bool {
        let is_over = |until: Timestamp| now >= until || until > now.after(LONGEST_PAUSE);
        self.unreachable.iter().any(|known| known.address == *address && !is_over(known.until))
    }

    /// One of the addresses, in turn by a number that is counted on: of those that are not passed over, or of all if all are.
    pub(crate) fn choose<'a>(&self, addresses: &'a [A], number: u64, now: Timestamp) -> Option<&'a A> {
        let is_open = |address: &&A| self.is_empty() || !self.is_passed_over(address, now);
        let nth = |count: usize| usize::try_from(number.checked_rem(count as u64)?).ok();
        match addresses.iter().filter(is_open).count() {
            0 => addresses.get(nth(addresses.len())?),
            open => addresses.iter().filter(is_open).nth(nth(open)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis((1_000_000 + seconds) * 1_000)
    }

    fn chosen(known: &Reachability<char>, now: Timestamp) -> String {
        (0..6).filter_map(|number| known.choose(&['a', 'b', 'c'], number, now)).collect()
    }

    #[test]
    fn an_address_that_fails_is_passed_over_for_longer_and_longer() {
        let mut known = Reachability::default();
        assert_eq!(chosen(&known, at(0)), "abcabc");
        let mut now = 0;
        for (failures, pause) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 64), (8, 120), (9, 120)] {
            assert_eq!(known.failed('b', at(now)), failures);
            assert_eq!(chosen(&known, at(now + pause - 1)), "acacac", "failure {failures}");
            now += pause;
            assert_eq!(chosen(&known, at(now)), "abcabc", "after failure {failures}");
        }
        assert!(known.connected(&'b') && !known.connected(&'b') && known.is_empty());
        assert_eq!(known.failed('b', at(now)), 1, "it starts again");
    }

    #[test]
    fn a_peer_is_never_left_without_an_address() {
        let mut known = Reachability::default();
        for address in ['a', 'b'] {
            known.failed(address, at(0));
        }
        assert_eq!(chosen(&known, at(0)), "cccccc");
        known.failed('c', at(0));
        assert_eq!(chosen(&known, at(0)), "abcabc");
        assert_eq!(known.choose(&[], 7, at(0)), None);
    }

    #[test]
    fn a_clock_that_is_turned_back_frees_all() {
        let mut known = Reachability::default();
        known.failed('a', at(3_600));
        assert_eq!(chosen(&known, at(0)), "abcabc");
    }
}
