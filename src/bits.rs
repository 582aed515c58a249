//! Small operations on numbers that several rooms need.

/// The finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014).
#[inline]
pub(crate) fn mix(key: u64, seed: u64) -> u64 {
    let mut hash = key ^ seed;
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Sorts what fits into one kind of number: every further type that is sorted would add some kilobytes to the filter.
pub(crate) fn sorted(keys: impl Iterator<Item = u128>) -> Vec<u128> {
    let mut keys: Vec<u128> = keys.collect();
    keys.sort_unstable();
    keys
}
