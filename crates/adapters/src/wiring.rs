//! Whether Envoy's clusters read the headers that the filter writes.
//!
//! Clusters that read the default headers while the filter writes others would obey clients. Such clusters never send a request
//! to what was offered. So the default headers are taken out of each request until one went where it was offered to go, and again
//! after each tick; to take them out of all would cost a fortieth of what Envoy needs for a request.

use std::cell::RefCell;

#[derive(Debug)]
pub(crate) struct Wiring(RefCell<State>);

#[derive(Debug)]
enum State {
    /// What was offered last, while nobody knows.
    Doubtful(Vec<String>),
    Proven,
}

impl Wiring {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(State::Doubtful(Vec::new())))
    }

    /// Time has passed, and Envoy may have other clusters.
    pub(crate) fn doubt(&self) {
        if let Ok(mut state) = self.0.try_borrow_mut() {
            *state = State::Doubtful(Vec::new());
        }
    }

    /// Whether a request with this offer needs no other header taken out.
    pub(crate) fn is_proven(&self, offered: &[&str]) -> bool {
        let Ok(mut state) = self.0.try_borrow_mut() else { return false };
        match &mut *state {
            // Nobody offered anything: whatever the clusters read, it is the client's.
            _ if offered.is_empty() => false,
            State::Proven => true,
            State::Doubtful(last) => {
                *last = offered.iter().map(|address| (*address).to_owned()).collect();
                false
            }
        }
    }

    /// A request is over, which went to that address.
    pub(crate) fn prove(&self, address: impl FnOnce() -> String) {
        let Ok(mut state) = self.0.try_borrow_mut() else { return };
        if matches!(&*state, State::Doubtful(offered) if !offered.is_empty() && offered.contains(&address())) {
            *state = State::Proven;
        }
    }
}
