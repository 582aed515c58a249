//! Eras of a peer: whether what others said of it counts still.
//!
//! An operator's word ends what others have against a peer, or the weight that its agent asked for. Those words are
//! other values in shared data than the operator's, and two values cannot be written at once. So the record counts such orders, and each
//! word of others bears the count that its author knew: what was said in an earlier era does not count, whoever reads it, and
//! is cleared away by whoever writes it next.

use serde::{Deserialize, Serialize};

/// How often an operator put an end to the words of others on a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Era {
    /// To verdicts, and failures counted.
    pub(crate) verdicts: u32,
    /// To the weight that the agent asked for.
    pub(crate) weight: u32,
}
