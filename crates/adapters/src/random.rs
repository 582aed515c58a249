//! Random numbers from one of the host's.

use std::cell::Cell;

use crate::abi::Abi;

/// What the next random number is made from; none before the first.
#[derive(Debug, Default)]
pub(crate) struct Random(Cell<Option<u64>>);

impl Random {
    pub(crate) const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// The next one. The host's source is asked once. A host that withholds it leaves the clock, in which workers differ by chance.
    pub(crate) fn next(&self, abi: &impl Abi) -> u64 {
        let start = || abi.random().or_else(|_| abi.now()).unwrap_or_default();
        let state = self.0.get().unwrap_or_else(start).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(Some(state));
        // SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
