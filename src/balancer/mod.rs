//! Balancers: which peer gets a request, and which come next if it fails.
//!
//! A [`Balancer`] is told who may be picked, and then gives candidates in order, without repeats. It knows
//! nothing of health, routes or hosts: a peer that is out of use is simply not among its entries, and
//! `pool` puts backups behind the others.
//!
//! To add one: a file with the type and its documentation, and a line in [`BALANCERS`].

use std::rc::Rc;

mod round_robin;
mod smooth;

pub use round_robin::RoundRobin;

use crate::host::MOST_CANDIDATES;

/// A peer as balancers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The peer's name, the same in every worker and after every restart.
    pub name: Rc<str>,
    /// Its share of traffic in relation to the others', above 0.
    pub weight: u32,
}

/// Gives candidates for requests.
///
/// A balancer belongs to one worker. Whatever it remembers is that worker's own.
pub trait Balancer {
    /// Says who may be picked from now on. Called again after every change, with all entries.
    fn set_entries(&mut self, entries: &[Entry]);

    /// Adds entries to `candidates`, best first, until it is full or there are no more.
    ///
    /// `key` is what hash balancers hash; the others ignore it.
    fn pick(&mut self, key: &[u8], candidates: &mut Candidates);
}

/// What is known of a balancer before there is one.
pub struct Kind {
    /// The name in the configuration.
    pub name: &'static str,
    /// Makes one, without entries.
    pub new: fn() -> Box<dyn Balancer>,
}

/// The balancers, by name.
pub const BALANCERS: &[Kind] = &[
    Kind { name: "round-robin", new: || Box::new(RoundRobin::weighted()) },
    Kind { name: "unweighted-round-robin", new: || Box::new(RoundRobin::unweighted()) },
];

/// The balancers that the configuration's grammar knows and that are still to come.
pub(crate) const PLANNED: &[&str] = &["ip-hash", "consistent-hash", "random", "least-conn", "least-time", "ketama"];

/// Makes the balancer of that name.
#[must_use]
pub fn named(name: &str) -> Option<Box<dyn Balancer>> {
    BALANCERS.iter().find(|kind| kind.name == name).map(|kind| (kind.new)())
}

/// Up to three positions in a balancer's entries, best first, none twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidates {
    positions: [u32; MOST_CANDIDATES],
    length: usize,
    wanted: usize,
}

impl Candidates {
    /// Room for that many, [`MOST_CANDIDATES`] at most.
    #[must_use]
    pub fn with_room_for(wanted: usize) -> Self {
        Self { positions: [0; MOST_CANDIDATES], length: 0, wanted: wanted.min(MOST_CANDIDATES) }
    }

    /// Adds a position at the end, unless it is there already or there is no room.
    pub fn push(&mut self, position: u32) {
        if !self.is_full() && !self.contains(position) {
            if let Some(slot) = self.positions.get_mut(self.length) {
                *slot = position;
                self.length += 1;
            }
        }
    }

    /// Whether there are as many as wanted.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.length >= self.wanted
    }

    /// How many more are wanted.
    #[must_use]
    pub fn room(&self) -> usize {
        self.wanted.saturating_sub(self.length)
    }

    /// Whether the position is there.
    #[must_use]
    pub fn contains(&self, position: u32) -> bool {
        self.as_slice().contains(&position)
    }

    /// The positions, best first.
    #[must_use]
    pub fn as_slice(&self) -> &[u32] {
        self.positions.get(..self.length).unwrap_or_default()
    }
}
