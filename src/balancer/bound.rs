//! A bound on what a peer may have in flight, for balancers that hash keys: no key is so popular that it overloads its peer.
//!
//! **Algorithm.** A peer takes a request only while it has less in flight than `bound` times its fair share of what would be in
//! flight with one request more, rounded up (Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads",
//! 2016). A key goes to its first peer that is below that; only if too few are, the others follow.

use super::Entry;

/// The bound in force, or none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bound {
    factor: Option<f64>,
    /// The sum of the effective weights.
    weights: f64,
}

impl Bound {
    pub(super) fn new(factor: Option<f64>) -> Self {
        Self { factor, weights: 0.0 }
    }

    pub(super) fn set_entries(&mut self, entries: &[Entry]) {
        self.weights = entries.iter().map(|entry| f64::from(entry.effective())).sum();
    }

    /// Whether there is one.
    pub(super) fn is_set(&self) -> bool {
        self.factor.is_some()
    }

    /// Whether a request may go there: the entry is open, and below its bound.
    pub(super) fn admits(&self, entry: &Entry) -> bool {
        entry.is_open()
            && self.factor.is_none_or(|factor| {
                let share = f64::from(entry.effective()) / self.weights.max(1.0);
                let most = (factor * share * (f64::from(entry.load.total()) + 1.0)).ceil();
                f64::from(entry.load.in_flight()) < most
            })
    }

    /// What to pick under, one after the other, until there are as many candidates as wanted.
    pub(super) fn passes(self) -> impl Iterator<Item = Self> {
        let unbounded = self.is_set().then(Self::default);
        std::iter::once(self).chain(unbounded)
    }
}
