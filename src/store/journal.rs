//! The log lines of changes: one for each that somebody made, and one for each new state of a peer.

use std::fmt;
use std::net::IpAddr;

use crate::model::failures::Failures;
use crate::model::peer::PeerRecord;
use crate::model::state::PeerState;
use crate::time::format_duration;

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

/// The same for a change that stands in shared data alone, which ends with the proxy. Whoever orders something by hand has to know
/// that; a script does it again when it starts again.
pub(crate) fn order(author: Author, upstream: &str, what: &dyn fmt::Display) {
    match author {
        Author::Script => change(author, upstream, what),
        Author::Client(_) => change(author, upstream, &format_args!("{what} (until the proxy restarts)")),
    }
}

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

/// Writes the line that tells of a failure, and of the state that it made.
pub(crate) fn failure(
    upstream: &str,
    peer: &PeerRecord,
    counted: &Failures,
    change: [PeerState; 2],
    why: &dyn fmt::Display,
) {
    let [from, to] = change;
    let (name, count) = (&peer.server.name, counted.count);
    let within = format_duration(peer.fail_timeout());
    if !to.is_usable() && from != to {
        report(upstream, name, change, "passive", &format!("{why}; failure {count} within {within}"));
        return;
    }
    // The failure that would have taken it out of use, had not too many been out of use already.
    let may_go = peer.max_fails() > 0 && !peer.fail_timeout().is_zero();
    let is_spared = may_go && count == peer.max_fails() && to.is_usable();
    let (level, and) = match is_spared {
        true => {
            (log::Level::Warn, "; stays in use: max_ejected_percent lets no more peers of the upstream go out of use")
        }
        false => (log::Level::Debug, ""),
    };
    log::log!(level, "upstream={upstream} peer={name} failed: {why}; failure {count} within {within}{and}");
}
