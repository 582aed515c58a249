//! The tables of balancers: how large they may be, and who shares them.
//!
//! **Size.** Balancers that hash keys among many peers have a table for each upstream that is in use, in each worker. The tables
//! of one configuration have a budget for each [`TableKind`]. Should they need more if all upstreams were in use, they are
//! all cut to a quarter, as often as it takes, down to a least size. That follows from the configuration alone, so that all
//! workers on all hosts pick alike; and it takes a multiple of the upstreams until it changes again, so that one more
//! upstream does not move the keys of the others.
//!
//! **Sharing.** A table depends on nothing but the peers and its size. Configurations that replace each other in one worker have
//! mostly the same upstreams, so a table that is there already is used again, as long as anybody has it.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use xxhash_rust::xxh64::xxh64;

use super::Entry;

/// How often tables can be cut to a quarter.
const MOST_REDUCTION: u8 = 8;

/// What is known of a kind of table before there is one.
#[derive(Debug)]
pub struct TableKind {
    /// The most bytes for the tables of one configuration, in each worker.
    pub budget: u64,
    /// What a user notices of tables that are smaller, the end of a sentence.
    pub consequence: &'static str,
    /// The bytes of the table for peers with these weights, cut to a quarter so many times.
    pub bytes: fn(weights: &[u32], reduction: u8) -> u64,
}

/// How the tables of a configuration get along with their budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fit {
    /// How often they are cut to a quarter; for [`Options`](super::Options).
    pub reduction: u8,
    /// The bytes that they would take at their full size, if all upstreams were in use.
    pub wanted: u64,
    /// The bytes that they take.
    pub bytes: u64,
}

impl TableKind {
    /// The sizes of tables for upstreams whose peers have these weights.
    #[must_use]
    pub fn fit(&self, upstreams: &[Vec<u32>]) -> Fit {
        let bytes = |reduction| -> u64 { upstreams.iter().map(|weights| (self.bytes)(weights, reduction)).sum() };
        let wanted = bytes(0);
        let mut fit = Fit { reduction: 0, wanted, bytes: wanted };
        for reduction in 1..=MOST_REDUCTION {
            if fit.bytes <= self.budget {
                break;
            }
            // What has its least size already stays as it is.
            let bytes = bytes(reduction);
            if bytes < fit.bytes {
                fit = Fit { reduction, wanted, bytes };
            }
        }
        fit
    }
}

/// What a table is made of, as a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Recipe([u64; 2]);

impl Recipe {
    pub(super) fn of(entries: &[Entry], reduction: u8) -> Self {
        let mut bytes = vec![reduction];
        for entry in entries {
            bytes.extend_from_slice(entry.name.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(&entry.weight.to_le_bytes());
            bytes.extend_from_slice(&entry.weight_scale.to_le_bytes());
        }
        Self([1, 2].map(|seed| xxh64(&bytes, seed)))
    }
}

/// The tables that somebody in this worker has.
pub(super) struct Tables<T>(RefCell<Vec<(Recipe, Weak<T>)>>);

impl<T> Tables<T> {
    pub(super) const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// The table of that recipe, made if nobody has it.
    pub(super) fn get(&self, recipe: Recipe, make: impl FnOnce() -> T) -> Rc<T> {
        let known = self.0.try_borrow().ok().and_then(|tables| {
            let found = tables.iter().find(|(known, _)| *known == recipe);
            found.and_then(|(_, table)| table.upgrade())
        });
        known.unwrap_or_else(|| {
            let table = Rc::new(make());
            if let Ok(mut tables) = self.0.try_borrow_mut() {
                tables.retain(|(_, table)| table.strong_count() > 0);
                tables.push((recipe, Rc::downgrade(&table)));
            }
            table
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::balancer::{Ketama, Rendezvous};
    use crate::testing::test;

    fn upstreams(count: usize, peers: usize, weight: u32) -> Vec<Vec<u32>> {
        vec![vec![weight; peers]; count]
    }

    #[test]
    fn few_upstreams_have_full_tables() {
        for upstreams in [upstreams(60, 100, 1), upstreams(10_000, 16, 9), upstreams(6, 5_000, 1), Vec::new()] {
            assert_eq!(Rendezvous::TABLE.fit(&upstreams).reduction, 0);
        }
        for upstreams in [upstreams(1_000, 30, 1), upstreams(20, 100, 16), upstreams(2, 410, 65_535)] {
            assert_eq!(Ketama::RING.fit(&upstreams).reduction, 0);
        }
    }

    #[test]
    fn many_upstreams_share_the_budget() {
        for upstreams in [upstreams(65, 100, 1), upstreams(1_000, 20, 1), upstreams(1_000, 100, 1)] {
            let fit = Rendezvous::TABLE.fit(&upstreams);
            assert!(fit.reduction > 0 && fit.wanted > Rendezvous::TABLE.budget, "{fit:?}");
            assert!(fit.bytes <= Rendezvous::TABLE.budget, "{fit:?}");
        }
        let fit = Ketama::RING.fit(&upstreams(1_000, 20, 65_535));
        assert!(fit.reduction > 0 && fit.bytes <= Ketama::RING.budget, "{fit:?}");
    }

    #[test]
    fn more_upstreams_than_the_least_tables_fit_in_take_what_they_need_and_no_more() {
        let fit = Rendezvous::TABLE.fit(&upstreams(10_000, 100, 1));
        assert_eq!((fit.reduction, fit.bytes), (2, 10_000 * 2 * 4_099));
        let fit = Rendezvous::TABLE.fit(&upstreams(30, 5_000, 1));
        assert_eq!((fit.reduction, fit.bytes), (1, 30 * 2 * 262_147));
    }
}
