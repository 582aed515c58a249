//! What tells peers from each other.

/// Tells a peer from all others of its upstream, earlier ones of the same name included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub(crate) struct PeerId(pub(crate) u32);

/// How far apart the ids of a record and of the one that was lost before it are, at the most.
const GAP: u32 = 1 << 20;

impl PeerId {
    /// The first id of a new record. `seen` is the highest one that shared data knows of an earlier record; workers may
    /// know some more, which nobody else does, so a random number keeps away from those.
    pub(crate) fn first(seen: Option<Self>, random: u64) -> Self {
        let gap = (random % u64::from(GAP)) as u32;
        Self(seen.map_or(0, |id| id.0).saturating_add(1).saturating_add(gap))
    }

    /// The next one.
    pub(crate) fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn a_new_record_begins_behind_all_ids_that_are_known() {
        for random in [0, 1, u64::from(GAP) - 1, u64::MAX] {
            assert!(PeerId::first(None, random) >= PeerId(1));
            assert!(PeerId::first(Some(PeerId(70)), random) > PeerId(70));
        }
        assert_ne!(PeerId::first(None, 5), PeerId::first(None, 6));
    }
}
