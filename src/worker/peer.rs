//! A peer as one worker knows it: its load, and its addresses in turn, without those that cannot be connected to.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use crate::balancer::load::Load;
use crate::model::reachability::Reachability;
use crate::time::Timestamp;

/// What the next answered request says of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Proof {
    /// Nothing new.
    #[default]
    None,
    /// That its outage is over, for which it is on trial.
    Trial,
    /// That its outage is over, in spite of which it is kept in use.
    Kept,
}

/// What a worker keeps for a peer from one change to the next.
#[derive(Debug)]
pub(crate) struct WorkerPeer {
    /// The peer's name, by which balancers know it.
    pub(crate) name: Rc<str>,
    pub(crate) load: Rc<Load>,
    /// The first address, as the host wants it.
    first: Rc<str>,
    /// All of them, the first included; empty where that is all.
    all: Vec<Rc<str>>,
    /// Which of them is next, counted on.
    next_address: Cell<u64>,
    proof: Cell<Proof>,
    reachability: RefCell<Reachability<Rc<str>>>,
}

impl WorkerPeer {
    /// A peer with nothing under way. `None` without any address.
    pub(crate) fn new(name: &str, load: Load, addresses: Vec<String>) -> Option<Self> {
        let name: Rc<str> = Rc::from(name);
        let (next_address, proof, reachability) = Default::default();
        let (first, load) = (Rc::clone(&name), Rc::new(load));
        Self { name, load, first, all: Vec::new(), next_address, proof, reachability }.at(addresses)
    }

    /// The same peer at other addresses. `None` without any.
    pub(crate) fn at(mut self, mut addresses: Vec<String>) -> Option<Self> {
        // Most names are addresses.
        let text = |text: String| if *text == *self.name { Rc::clone(&self.name) } else { Rc::from(text) };
        if addresses.len() > 1 {
            self.all = addresses.drain(..).map(text).collect();
            self.first = Rc::clone(self.all.first()?);
        } else {
            self.first = text(addresses.pop()?);
            self.all = Vec::new();
        }
        self.reachability.get_mut().restrict(&self.all);
        Some(self)
    }

    /// The next of the addresses, without those that cannot be connected to, and whether it is one that could not lately.
    pub(crate) fn address(&self, now: impl FnOnce() -> Timestamp) -> (&Rc<str>, bool) {
        if self.all.is_empty() {
            return (&self.first, false);
        }
        let number = self.next_address.get();
        self.next_address.set(number.wrapping_add(1));
        let Ok(reachability) = self.reachability.try_borrow() else { return (&self.first, false) };
        let now = if reachability.is_empty() { Timestamp::default() } else { now() };
        let address = reachability.choose(&self.all, number, now).unwrap_or(&self.first);
        (address, reachability.is_doubtful(address))
    }

    /// One of the addresses, if it is one.
    pub(crate) fn known_address(&self, address: &str) -> Option<&Rc<str>> {
        [&self.first].into_iter().chain(&self.all).find(|known| ***known == *address)
    }

    /// What the next answered request says of the peer.
    pub(crate) fn proof(&self) -> Proof {
        self.proof.get()
    }

    /// Sets what the next answered request says of the peer, and how many may be in flight there, 0 for any number.
    pub(crate) fn set_limit(&self, proof: Proof, limit: u32) {
        self.proof.set(proof);
        self.load.set_limit(limit);
    }

    /// An attempt could not connect to this address.
    pub(crate) fn connect_failed(&self, address: &Rc<str>, now: Timestamp) {
        if let Ok(mut reachability) = self.reachability.try_borrow_mut() {
            if self.all.contains(address) && !reachability.is_passed_over(address, now) {
                reachability.failed(Rc::clone(address), now);
            }
        }
    }

    /// An attempt could connect to this address.
    pub(crate) fn connected(&self, address: &Rc<str>) {
        if let Ok(mut reachability) = self.reachability.try_borrow_mut() {
            reachability.connected(address);
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

    fn texts(addresses: &[&str]) -> Vec<String> {
        addresses.iter().map(|text| (*text).to_owned()).collect()
    }

    fn peer(addresses: &[&str]) -> WorkerPeer {
        WorkerPeer::new("name:80", Load::default(), texts(addresses)).unwrap()
    }

    /// The next ones, with a question mark behind those that are in doubt.
    fn next(peer: &WorkerPeer, seconds: u64, count: usize) -> String {
        let one = |_| {
            let (address, is_doubtful) = peer.address(|| at(seconds));
            format!("{address}{}", if is_doubtful { "?" } else { "" })
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn addresses_take_turns() {
        assert_eq!(next(&peer(&["a", "b", "c"]), 0, 5), "abcab");
        assert_eq!(next(&peer(&["a"]), 0, 2), "aa");
        assert!(WorkerPeer::new("name:80", Load::default(), Vec::new()).is_none());
    }

    #[test]
    fn an_address_that_cannot_be_connected_to_is_passed_over_for_longer_each_time() {
        let peer = peer(&["a", "b"]);
        let b: Rc<str> = Rc::from("b");
        peer.connect_failed(&b, at(0));
        assert_eq!(next(&peer, 0, 3), "aaa");
        assert_eq!(next(&peer, 1, 2).len(), 3, "b is tried again");
        peer.connect_failed(&b, at(1));
        // An attempt that was under way already says nothing new.
        peer.connect_failed(&b, at(1));
        assert_eq!(next(&peer, 2, 3), "aaa");
        assert_eq!(next(&peer, 3, 2).len(), 3);
        peer.connected(&b);
        assert_eq!(next(&peer, 3, 2).len(), 2, "and is as good as the other");
        peer.connect_failed(&b, at(3));
        assert_eq!(next(&peer, 4, 2).len(), 3, "which it was long enough to begin anew");
    }

    #[test]
    fn the_only_address_is_never_passed_over() {
        let peer = peer(&["a"]);
        peer.connect_failed(&Rc::from("a"), at(0));
        assert_eq!(next(&peer, 0, 2), "aa");
    }

    #[test]
    fn other_addresses_leave_what_is_known_of_the_rest() {
        let peer = peer(&["a", "b"]);
        peer.connect_failed(&Rc::from("b"), at(0));
        let peer = peer.at(texts(&["b", "c"])).unwrap();
        assert_eq!(next(&peer, 0, 2), "cc");
        let peer = peer.at(texts(&["a", "c"])).unwrap().at(texts(&["b", "c"])).unwrap();
        assert_eq!(next(&peer, 0, 2).len(), 2, "what was gone is forgotten");
        assert!(peer.at(Vec::new()).is_none());
    }
}
