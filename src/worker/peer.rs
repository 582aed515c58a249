//! A peer as one worker knows it: its load, and its addresses in turn.
//!
//! A name may have several addresses, and requests take them in turn. Where the network does not reach one of them, as with IPv6
//! addresses where there is no IPv6, it would fail each time that it comes up. So an address that cannot be connected to rests for a
//! while, longer each time, as long as the peer has others. That is one worker's own memory: an attempt from elsewhere may do better.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::balancer::load::Load;
use crate::time::Timestamp;

/// How long an address rests first: nginx's default for a server that failed. Each time it is twice as long.
const FIRST_REST: Duration = Duration::from_secs(10);
/// How long it rests at most.
const LONGEST_REST: Duration = Duration::from_secs(640);

/// What a worker keeps for a peer from one change to the next.
#[derive(Debug)]
pub(crate) struct WorkerPeer {
    /// The peer's name, by which balancers know it.
    pub(crate) name: Rc<str>,
    pub(crate) load: Rc<Load>,
    first: Address,
    others: Vec<Address>,
    /// Which of the addresses is next.
    next_address: Cell<usize>,
    /// Whether one of the addresses has rested lately.
    has_rest: Cell<bool>,
}

/// An address as the host wants it.
#[derive(Clone, Debug)]
struct Address {
    text: Rc<str>,
    rest: Cell<Rest>,
}

/// A rest of an address that could not be connected to.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    until: Timestamp,
    length: Duration,
}

impl Rest {
    /// Whether it lasts. After a clock was turned back, none does that ends later than it could.
    fn lasts(self, now: Timestamp) -> bool {
        now < self.until && self.until <= now.after(self.length)
    }

    /// The rest after one more failure. One that came to nothing for as long as the last rest was is forgotten.
    fn and_one(self, now: Timestamp) -> Self {
        if self.lasts(now) {
            // An attempt that was under way already.
            return self;
        }
        let is_again = now >= self.until && now < self.until.after(self.length);
        let length = if is_again { (self.length * 2).min(LONGEST_REST) } else { FIRST_REST };
        Self { until: now.after(length), length }
    }
}

impl WorkerPeer {
    /// A peer with nothing under way. `None` without any address.
    pub(crate) fn new(name: &str, load: Load, addresses: impl IntoIterator<Item = String>) -> Option<Self> {
        let name: Rc<str> = Rc::from(name);
        // Most names are addresses.
        let text = |text: String| if *text == *name { Rc::clone(&name) } else { Rc::from(text) };
        let mut addresses = addresses.into_iter().map(|address| Address { text: text(address), rest: Cell::default() });
        let (first, others) = (addresses.next()?, addresses.collect());
        let (next_address, has_rest) = Default::default();
        Some(Self { name, load: Rc::new(load), first, others, next_address, has_rest })
    }

    fn addresses(&self) -> impl Iterator<Item = &Address> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The same peer at other addresses. `None` without any.
    pub(crate) fn at(mut self, addresses: Vec<String>) -> Option<Self> {
        if self.addresses().map(|address| &*address.text).eq(addresses.iter().map(String::as_str)) {
            return Some(self);
        }
        // What is known of an address stays, wherever it stands now.
        let address = |text: String| {
            let known = self.addresses().find(|known| *known.text == *text).cloned();
            known.unwrap_or_else(|| Address { text: Rc::from(text), rest: Cell::default() })
        };
        let mut addresses: Vec<Address> = addresses.into_iter().map(address).collect();
        if addresses.is_empty() {
            return None;
        }
        self.first = addresses.remove(0);
        self.others = addresses;
        Some(self)
    }

    /// The next of the addresses, without those that rest if there are others.
    pub(crate) fn address(&self, now: impl FnOnce() -> Timestamp) -> &Rc<str> {
        if self.others.is_empty() {
            return &self.first.text;
        }
        let count = self.others.len() + 1;
        let start = self.next_address.get() % count;
        let at = |position: usize| self.others.get(position.wrapping_sub(1)).unwrap_or(&self.first);
        let turn = |step: usize| (start + step) % count;
        let awake = self.has_rest.get().then(now).and_then(|now| {
            let awake = (0..count).map(turn).find(|position| !at(*position).rest.get().lasts(now));
            // Where all rest, whoever rested longest is next.
            awake.or_else(|| (0..count).map(turn).min_by_key(|position| at(*position).rest.get().until))
        });
        let position = awake.unwrap_or(start);
        self.next_address.set(position + 1);
        &at(position).text
    }

    /// An attempt could not connect to this address.
    pub(crate) fn connect_failed(&self, address: &str, now: Timestamp) {
        if let Some(known) = self.addresses().find(|known| *known.text == *address) {
            known.rest.set(known.rest.get().and_one(now));
            self.has_rest.set(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1_000)
    }

    fn peer(addresses: &[&str]) -> WorkerPeer {
        WorkerPeer::new("name:80", Load::default(), addresses.iter().map(|text| (*text).to_owned())).unwrap()
    }

    fn next(peer: &WorkerPeer, seconds: u64, count: usize) -> Vec<String> {
        (0..count).map(|_| peer.address(|| at(seconds)).to_string()).collect()
    }

    #[test]
    fn addresses_take_turns() {
        assert_eq!(next(&peer(&["a", "b", "c"]), 0, 5), ["a", "b", "c", "a", "b"]);
        assert_eq!(next(&peer(&["a"]), 0, 2), ["a", "a"]);
        assert!(WorkerPeer::new("name:80", Load::default(), []).is_none());
    }

    #[test]
    fn an_address_that_cannot_be_connected_to_rests_longer_each_time() {
        let peer = peer(&["a", "b", "c"]);
        peer.connect_failed("b", at(0));
        assert_eq!(next(&peer, 9, 4), ["a", "c", "a", "c"]);
        assert_eq!(next(&peer, 10, 3), ["a", "b", "c"]);
        peer.connect_failed("b", at(10));
        assert_eq!(next(&peer, 29, 4), ["a", "c", "a", "c"]);
        assert_eq!(next(&peer, 30, 3), ["a", "b", "c"]);
        // Good for as long as it rested: forgotten.
        peer.connect_failed("b", at(50));
        assert_eq!(next(&peer, 60, 3), ["a", "b", "c"]);
    }

    #[test]
    fn a_rest_ends_some_day() {
        let peer = peer(&["a", "b"]);
        let mut now = 0;
        for _ in 0..20 {
            peer.connect_failed("b", at(now));
            peer.connect_failed("b", at(now));
            now += 640;
        }
        assert_eq!(next(&peer, now, 2), ["a", "b"]);
    }

    #[test]
    fn where_all_rest_the_one_that_rested_longest_is_next() {
        let peer = peer(&["a", "b"]);
        peer.connect_failed("b", at(0));
        peer.connect_failed("a", at(1));
        assert_eq!(next(&peer, 2, 2), ["b", "b"]);
    }

    #[test]
    fn a_clock_that_jumps_back_ends_rests() {
        let peer = peer(&["a", "b"]);
        peer.connect_failed("b", at(3_600));
        assert_eq!(next(&peer, 0, 2), ["a", "b"]);
    }

    #[test]
    fn other_addresses_do_not_wake_those_that_rest() {
        let peer = peer(&["a", "b"]);
        peer.connect_failed("b", at(0));
        let peer = peer.at(vec!["b".to_owned(), "c".to_owned()]).unwrap();
        assert_eq!(next(&peer, 1, 2), ["c", "c"]);
        assert!(peer.at(Vec::new()).is_none());
    }
}
