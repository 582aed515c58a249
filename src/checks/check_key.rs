//! What tells a check from all others, and what is kept by that.
//!
//! Little is kept of few checks: of those that fail, or whose agents are not understood. A sorted list is smaller than a tree,
//! in memory and in code, and fast enough: 10,000 insertions in the worst order move 2 GB, over an interval of checks.

use xxhash_rust::xxh64::xxh64;

use crate::model::id::PeerId;

/// An upstream's position, a peer, and a hash of the monitor's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CheckKey(u128);

impl CheckKey {
    /// The check of a peer by a monitor.
    pub(super) fn new(upstream: usize, peer: PeerId, monitor: &str) -> Self {
        Self(Self::of_peer(upstream, peer).0 | u128::from(xxh64(monitor.as_bytes(), 0)))
    }

    /// What is the same for all monitors.
    pub(super) fn of_peer(upstream: usize, peer: PeerId) -> Self {
        Self((upstream as u128) << 96 | u128::from(peer.0) << 64)
    }

    /// The upstream's position.
    pub(super) fn upstream(self) -> usize {
        (self.0 >> 96) as usize
    }

    pub(super) fn peer(self) -> PeerId {
        PeerId((self.0 >> 64) as u32)
    }
}

/// Something for some of the checks.
pub(super) struct ByCheck<T>(Vec<(CheckKey, T)>);

impl<T> Default for ByCheck<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> ByCheck<T> {
    fn find(&self, key: CheckKey) -> Result<usize, usize> {
        self.0.binary_search_by_key(&key, |(known, _)| *known)
    }

    pub(super) fn get(&self, key: CheckKey) -> Option<&T> {
        self.0.get(self.find(key).ok()?).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, key: CheckKey) -> Option<&mut T> {
        let at = self.find(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    /// Returns what was there before.
    pub(super) fn set(&mut self, key: CheckKey, value: T) -> Option<T> {
        match self.find(key) {
            Ok(at) => self.0.get_mut(at).map(|(_, known)| std::mem::replace(known, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    pub(super) fn remove(&mut self, key: CheckKey) -> Option<T> {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(CheckKey, &T) -> bool) {
        self.0.retain(|(key, value)| keep(*key, value));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn what_is_kept_is_found_by_its_key_alone() {
        let mut kept = ByCheck::default();
        let key = |upstream: usize, peer: u32, monitor: &str| CheckKey::new(upstream, PeerId(peer), monitor);
        let keys = [key(3, 1, "http"), key(0, u32::MAX, "tcp"), key(0, 1, "tcp"), key(0, 1, "http")];
        for (at, key) in keys.into_iter().enumerate() {
            assert_eq!(kept.set(key, at), None);
        }
        assert_eq!(kept.set(keys[2], 7), Some(2));
        assert_eq!(keys.map(|key| kept.get(key).copied()), [Some(0), Some(1), Some(7), Some(3)]);
        assert_eq!((keys[1].upstream(), keys[1].peer()), (0, PeerId(u32::MAX)));
        kept.retain(|key, _| key.upstream() != 3);
        assert_eq!(kept.get(keys[0]), None);
        assert_eq!([1, 1].map(|at| kept.remove(keys[at])), [Some(1), None]);
    }
}
