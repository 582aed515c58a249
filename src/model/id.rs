//! What tells peers from each other.

/// Tells a peer from all others of its upstream, earlier ones of the same name included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct PeerId(pub u32);
