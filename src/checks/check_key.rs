//! What tells a check from all others: whom, and by which monitor.

use std::rc::Rc;

use crate::model::id::PeerId;

/// A check of a peer by a monitor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CheckKey {
    /// The upstream's position.
    pub(super) upstream: usize,
    pub(super) peer: PeerId,
    /// The monitor's id.
    pub(super) monitor: Rc<str>,
}

impl CheckKey {
    pub(super) fn new(upstream: usize, peer: PeerId, monitor: &str) -> Self {
        Self { upstream, peer, monitor: Rc::from(monitor) }
    }
}
