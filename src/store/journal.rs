//! The log lines of changes: one for each.

use crate::model::state::PeerState;

/// Writes the line that tells of a peer's new state, if it is one: by whose word, and why.
pub(crate) fn report(upstream: &str, peer: &str, change: [PeerState; 2], by: &str, why: &str) {
    let [from, to] = change;
    if from == to {
        return;
    }
    let level = if to.is_usable() { log::Level::Info } else { log::Level::Warn };
    let by = if by.contains(char::is_whitespace) { format!("{by:?}") } else { by.to_owned() };
    log::log!(level, "peer state: upstream={upstream} peer={peer} from={from} to={to} by={by} why={why:?}");
}
