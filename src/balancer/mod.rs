//! Balancers: which peer gets a request, and which come next if it fails.
//!
//! A [`Balancer`] is told who there is, and then gives candidates in order, without repeats. It knows nothing of
//! routes or hosts, and of health only who may not be picked; `pool` puts backups behind the others.
//!
//! | balancer | picks | choose it when |
//! | --- | --- | --- |
//! | [`RoundRobin`] | in turn, by weight | requests cost about the same |
//! | [`Random`] | the less busy of two drawn by weight | there are many proxies in front of the same servers |
//! | [`LeastConn`] | the least busy for its weight | requests differ much in length |
//! | [`LeastTime`] | the faster and less busy of two | servers differ in speed, or may become slow |
//! | [`Rendezvous`] | by a key, the same peer each time | servers keep something for a key: a cache, a session |
//! | [`Ketama`] | by a key, as nginx's `hash … consistent` | you come from there and want to keep your caches |
//!
//! To add one: a file with the type and its documentation, and a line in `registry.rs`. One of your own stands in your own crate, and
//! goes into the [`Registry`](crate::Registry) as these do; `docs/scripting.md` shows how.

use crate::model::slow_start::FULL_FACTOR;
use std::rc::Rc;

mod bound;
mod ketama;
mod kind;
mod least_conn;
mod least_time;
pub mod load;
mod maglev;
mod random;
mod rendezvous;
mod round_robin;
mod smooth;
mod table;

pub use ketama::Ketama;
pub use kind::{BalancerKind, KeySource};
pub use least_conn::LeastConn;
pub use least_time::LeastTime;
pub use random::Random;
pub use rendezvous::Rendezvous;
pub use round_robin::RoundRobin;
pub use table::{Fit, TableKind};

use crate::host::MOST_CANDIDATES;
use crate::model::template::{Template, Values, Variable};
use crate::time::Timestamp;
use load::Load;

/// A peer as balancers see it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The peer's name, the same in every worker and after every restart: the identity that hash balancers hash.
    pub name: Rc<str>,
    /// Its share of traffic in relation to the others', above 0.
    pub weight: u32,
    /// What a declared weight of 1 is: 100 where the weights are in hundredths because some are not whole.
    pub weight_scale: u32,
    /// How much of its weight it has, in parts of [`FULL_FACTOR`]: less while it starts slowly, 0 while it must not be
    /// picked.
    pub slow_start_factor: u32,
    /// Whether its load has a limit: balancers that do not look at loads otherwise need to be told.
    pub is_limited: bool,
    /// How busy it is.
    pub load: Rc<Load>,
    /// The peer's labels. Only balancers of one's own are told them.
    pub labels: Labels,
}

/// A peer's labels, names and values; `None` where there are none.
pub type Labels = Option<Rc<[(String, String)]>>;

impl Entry {
    /// A label; empty if there is none of that name.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        let labels = self.labels.as_deref().unwrap_or_default();
        labels.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// An idle entry that has all of its weight.
    #[must_use]
    pub fn new(name: &str, weight: u32) -> Self {
        Self {
            name: Rc::from(name),
            weight,
            weight_scale: 1,
            slow_start_factor: FULL_FACTOR,
            is_limited: false,
            load: Rc::default(),
            labels: None,
        }
    }

    /// The weight that it has now, in parts of [`FULL_FACTOR`]; 0 if it must not be picked.
    #[must_use]
    pub fn effective(&self) -> u32 {
        self.weight.saturating_mul(self.slow_start_factor)
    }

    /// Whether it takes a key of this hash in its slow start: it turns away the same ones each time, fewer and fewer. For
    /// balancers that hash keys, which may not give its keys to others in any other way.
    #[must_use]
    pub fn takes(&self, hash: u64) -> bool {
        hash >> 58 < u64::from(self.slow_start_factor) * 64 / u64::from(FULL_FACTOR)
    }

    /// Whether a request may go there now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.slow_start_factor > 0 && !self.load.is_full()
    }
}

/// Loads do not make entries differ: they are the same object as long as the peer is the same.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.weight == other.weight
            && self.weight_scale == other.weight_scale
            && self.slow_start_factor == other.slow_start_factor
            && self.is_limited == other.is_limited
            && Rc::ptr_eq(&self.load, &other.load)
            && self.name == other.name
            && self.labels == other.labels
    }
}

/// What a balancer may know of a request.
#[derive(Clone, Copy, Default)]
pub struct Pick<'r> {
    /// What hash balancers hash.
    pub key: &'r [u8],
    /// The time.
    pub now: Timestamp,
    /// The request itself, to be asked for what a balancer of one's own needs of it.
    pub request: Option<&'r dyn Values>,
}

impl Pick<'_> {
    /// A text with variables, as this request has them.
    #[must_use]
    pub fn render(&self, template: &Template) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(request) = self.request {
            template.render(&mut out, |variable, out| request.append(variable, out));
        }
        out
    }

    /// The value of a variable; empty if the request does not have it.
    #[must_use]
    pub fn variable(&self, variable: &Variable) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some(request) = self.request {
            request.append(variable, &mut out);
        }
        out
    }

    /// A header of the request, by its name in lower case; empty if it has none.
    #[must_use]
    pub fn header(&self, name: &str) -> Vec<u8> {
        self.variable(&Variable::Header(name.to_owned()))
    }

    /// A property of the proxy; empty if it has none.
    #[must_use]
    pub fn property(&self, path: &[&str]) -> Vec<u8> {
        self.variable(&Variable::Property(path.iter().map(|step| (*step).to_owned()).collect()))
    }
}

/// Gives candidates for requests.
///
/// A balancer belongs to one worker. Whatever it remembers is that worker's own.
pub trait Balancer {
    /// Says who there is from now on. Called again after every change, with all entries.
    fn set_entries(&mut self, entries: &[Entry]);

    /// Adds entries that are [open](Entry::is_open) to `candidates`, best first, until it is full or there are
    /// no more.
    fn pick(&mut self, request: &Pick<'_>, candidates: &mut Candidates);
}

/// What a balancer is made with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A number that differs from worker to worker.
    pub seed: u64,
    /// The most that a peer may have in flight, in relation to its fair share; none for no bound.
    pub bound: Option<f64>,
    /// How often its table is cut to a quarter, see [`TableKind`].
    pub reduction: u8,
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
