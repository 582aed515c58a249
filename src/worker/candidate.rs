//! What a pick yields: a peer, where it is, and how busy it is.

use std::rc::Rc;

use crate::balancer::load::Load;
use crate::host::MOST_CANDIDATES;
use crate::model::id::PeerId;
use crate::time::Timestamp;
use crate::worker::peer::{Proof, WorkerPeer};

/// A peer that was offered to the host.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) peer: PeerId,
    pub(crate) address: Rc<str>,
    pub(crate) load: Rc<Load>,
    /// Lately its address could not be connected to: whether it can now is worth knowing.
    pub(crate) is_doubtful: bool,
    /// Where this is more than nothing, whether it answers is worth knowing.
    pub(crate) proof: Proof,
    /// An attempt at it was counted already.
    pub(crate) is_judged: bool,
}

impl Candidate {
    /// The peer of that id, by what the worker keeps for it.
    pub(crate) fn of(peer: PeerId, known: &WorkerPeer, now: impl FnOnce() -> Timestamp) -> Self {
        let (address, is_doubtful) = known.address(now);
        Self { is_doubtful, ..Self::at(peer, known, address) }
    }

    /// The same, at this of its addresses.
    pub(crate) fn at(peer: PeerId, known: &WorkerPeer, address: &Rc<str>) -> Self {
        Self {
            peer,
            address: Rc::clone(address),
            load: Rc::clone(&known.load),
            is_doubtful: false,
            proof: known.proof(),
            is_judged: false,
        }
    }
}

/// Calls `ask` with the candidates' addresses, in their order.
pub(crate) fn with_addresses<R>(
    candidates: &[Option<Candidate>; MOST_CANDIDATES],
    ask: impl FnOnce(&[&str]) -> R,
) -> R {
    let mut addresses = [""; MOST_CANDIDATES];
    let known = candidates.iter().flatten();
    let count = addresses.iter_mut().zip(known).map(|(slot, candidate)| *slot = &candidate.address).count();
    ask(addresses.get(..count).unwrap_or_default())
}
