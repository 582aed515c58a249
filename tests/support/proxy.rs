//! What tests ask of a proxy, whichever it is.

use std::net::SocketAddr;

use regex_lite::Regex;

use super::client::Client;

/// A line in the log: this peer went from one state to another.
#[derive(Clone, Debug, PartialEq)]
pub struct StateChange {
    pub upstream: String,
    pub peer: String,
    pub from: String,
    pub to: String,
}

/// A running proxy with the filter in it.
pub trait Proxy {
    /// Where it listens for requests.
    fn addr(&self) -> SocketAddr;

    /// What it and the filter logged so far.
    fn log(&self) -> String;

    /// A connection to where it listens.
    fn client(&self) -> Client {
        Client::new(self.addr())
    }

    /// The changes of peers' states, in the order in which the filter logged them.
    fn state_changes(&self) -> Vec<StateChange> {
        let line = Regex::new(r"peer state: upstream=(\S+) peer=(\S+) from=(\S+) to=(\S+)").expect("a valid regex");
        let log = self.log();
        let changes = line.captures_iter(&log).map(|found| found.extract().1.map(str::to_owned));
        changes.map(|[upstream, peer, from, to]| StateChange { upstream, peer, from, to }).collect()
    }

    /// The state that the log names last for this peer; `up` if none.
    fn state(&self, peer: &str) -> String {
        let last = self.state_changes().into_iter().rev().find(|change| change.peer == peer);
        last.map_or_else(|| "up".to_owned(), |change| change.to)
    }
}
