//! The log lines of changes: one for each that somebody made, and one for each new state of a peer.

use std::fmt;
use std::net::IpAddr;

use crate::model::ejection::Kept;
use crate::model::failures::Failures;
use crate::model::peer::PeerRecord;
use crate::model::state::PeerState;
use crate::model::upstream_state::{Tally, ToldState, UpstreamState};

/// Who changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// A script in this filter.
    Script,
    /// A client of the management API, where its address is known.
    Client(Option<IpAddr>),
}

impl Author {
    /// By whose word a peer's state is what the author made it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Client(_) => "operator",
        }
    }
}

/// Writes the line that tells of a change that somebody made.
pub(crate) fn change(author: Author, upstream: &str, what: &dyn fmt::Display) {
    match author {
        Author::Script => log::info!("script: upstream={upstream} {what}"),
        Author::Client(Some(client)) => log::info!("admin: client={client} upstream={upstream} {what}"),
        Author::Client(None) => log::info!("admin: client=unknown upstream={upstream} {what}"),
    }
}

/// Writes the line that tells of a peer's new state, if it is one: by whose word, and why, and what keeps it in use nevertheless.
///
/// An outage is one line when it begins and one when it ends, whoever finds out about it, and however: what only changes in
/// between is for those who look for it.
pub(crate) fn report(upstream: &str, peer: &str, change: [PeerState; 2], by: &str, why: &str, kept: Option<Kept>) {
    let [from, to] = change;
    if from == to || (from.is_usable() && to.is_usable()) {
        return;
    }
    let is_out = |state| matches!(state, PeerState::Down | PeerState::TemporaryDown);
    let level = match to.is_usable() {
        _ if is_out(from) && is_out(to) && by != "operator" && by != "script" => log::Level::Debug,
        true => log::Level::Info,
        false => log::Level::Warn,
    };
    let why = kept.map_or_else(|| why.to_owned(), |kept| format!("{why}; {kept}"));
    let by = quoted(by);
    log::log!(level, "peer state: upstream={upstream} peer={peer} from={from} to={to} by={by} why={why:?}");
}

/// Writes the line that tells of an upstream's new state.
pub(crate) fn upstream_state(upstream: &str, from: UpstreamState, told: &ToldState, tally: &Tally) {
    let ToldState { state: to, by, why, .. } = told;
    if from == *to {
        return;
    }
    let level = match to {
        UpstreamState::Up => log::Level::Info,
        UpstreamState::Degraded => log::Level::Warn,
        UpstreamState::Down => log::Level::Error,
    };
    let by = quoted(by);
    log::log!(level, "upstream state: upstream={upstream} from={from} to={to} by={by} why={why:?} {tally}");
}

/// In quotation marks where there is a space in it.
fn quoted(word: &str) -> String {
    if word.contains(char::is_whitespace) {
        format!("{word:?}")
    } else {
        word.to_owned()
    }
}

/// Writes the line that tells of a failure, and of the state that it made.
pub(crate) fn failure(
    upstream: &str,
    peer: &PeerRecord,
    counted: &Failures,
    [from, to]: [PeerState; 2],
    why: &str,
    kept: Option<Kept>,
) {
    let name = &peer.server.name;
    if from.is_usable() && !to.is_usable() {
        report(upstream, name, [from, to], "passive", why, kept);
    } else {
        log::debug!("upstream={upstream} peer={name} failed: {why}; {} counted", counted.count);
    }
}
