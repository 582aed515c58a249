//! Where peers stand in the list of a record.

use crate::model::id::PeerId;
use crate::model::peer::PeerRecord;

/// Where peers stand in a list, by their ids: a search in it costs the logarithm of their number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Positions(Vec<u128>);

impl Positions {
    pub(crate) fn of(peers: &[PeerRecord]) -> Self {
        let packed = peers.iter().zip(0_u128..).map(|(peer, at)| u128::from(peer.id.0) << 64 | at);
        Self(crate::bits::sorted(packed))
    }

    pub(crate) fn get(&self, peer: PeerId) -> Option<usize> {
        let found = self.0.binary_search_by_key(&peer.0, |packed| (packed >> 64) as u32).ok()?;
        self.0.get(found).map(|packed| *packed as u64 as usize)
    }
}
