//! What monitors, agents and name servers say about peers, and how that is kept in shared data.
//!
//! Each monitor has a verdict of its own on each peer, each agent has one, and so has the resolver on each name. They
//! are facts here; what they mean together with what an operator says and with the failures counted is decided in
//! [`peer`](crate::peer).
//!
//! All of an upstream's is one value in shared data. It is written by the worker that makes the checks: at once when a
//! verdict changes, and otherwise once in a while, so that people see when the last check was and whoever
//! takes over the checks goes on counting where this worker stopped.

use crate::model::agent::AgentHealth;
use crate::model::peer::Positions;
use crate::model::upstream::Record;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::agent::{AgentAdmin, Report, Weight};
use crate::model::id::PeerId;
use crate::time::{millis, Timestamp};

/// What is said of an upstream's peers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Counts the changes that matter for the use of peers. It comes first, so that a worker that picks peers need not read the
    /// rest when all that changed is when they were last checked.
    generation: u64,
    /// Ordered by id; nothing is kept of a peer of which nothing is said.
    peers: Vec<(PeerId, PeerStatus)>,
}

/// What is said of a peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// What monitors found.
    pub checks: Vec<Check>,
    /// What its agent says.
    pub agent: Option<Agent>,
    /// What name servers say of its name.
    pub name: Option<Resolution>,
}

/// What a monitor found at a peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// The monitor's id.
    pub monitor: String,
    /// The monitor's name: another one of the same id starts afresh.
    pub kind: String,
    /// The verdict.
    pub is_down: bool,
    /// Since when that is the verdict; the epoch if it never was another one.
    pub since: Timestamp,
    /// What was wrong when the verdict became `down`.
    pub verdict_why: String,
    /// What is wrong by the last check; empty if nothing is.
    pub why: String,
    /// How many checks in a row ended like the last one.
    pub streak: u32,
    /// When the last check ended; the epoch before the first.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took: u32,
    /// How many checks were good so far.
    pub passed: u64,
    /// How many checks failed so far.
    pub failed: u64,
    /// How often the verdict became `down`.
    pub ejections: u64,
}

/// What a verdict of a monitor becomes by a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flip {
    /// It is good again.
    Up,
    /// It is `down` from now on.
    Down,
}

impl Check {
    /// Nothing found yet.
    #[must_use]
    pub fn new(monitor: &str, kind: &str) -> Self {
        Self { monitor: monitor.to_owned(), kind: kind.to_owned(), ..Self::default() }
    }

    /// Whether the last check was good, or there was none.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.why.is_empty()
    }

    /// Takes in a finding. Returns what that would make of the verdict, which stays as it is: see [`set_verdict`](Self::set_verdict).
    ///
    /// `fall` failed checks in a row make it `down`, `rise` good ones lift it (HAProxy, server options of these names).
    pub fn observe(&mut self, why: Option<&str>, rise: u32, fall: u32) -> Option<Flip> {
        self.streak = if why.is_none() == self.is_good() { self.streak.saturating_add(1) } else { 1 };
        let count = if why.is_none() { &mut self.passed } else { &mut self.failed };
        *count = count.saturating_add(1);
        self.why.clear();
        self.why.push_str(why.unwrap_or_default());
        match (why.is_none(), self.is_down) {
            (true, true) if self.streak >= rise => Some(Flip::Up),
            (false, false) if self.streak >= fall => Some(Flip::Down),
            _ => None,
        }
    }

    /// Overrides the verdict.
    pub fn set_verdict(&mut self, flip: Flip, now: Timestamp) {
        self.is_down = flip == Flip::Down;
        self.ejections = self.ejections.saturating_add(u64::from(self.is_down));
        self.since = now;
        self.verdict_why = self.why.clone();
    }
}

/// What an agent said so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// The id of the monitor that asked.
    pub monitor: String,
    /// Its health.
    pub health: Option<AgentHealth>,
    /// What it wants.
    pub admin: Option<AgentAdmin>,
    /// The weight it wants.
    pub weight: Option<Weight>,
    /// The limit it wants.
    pub max_conns: Option<u32>,
    /// What it says to people.
    pub description: String,
    /// The words of its last line that mean nothing.
    pub unknown: Vec<String>,
    /// Since when its word on being used is the same.
    pub since: Timestamp,
}

impl Agent {
    /// Takes in a line.
    pub fn apply(&mut self, report: &Report, now: Timestamp) {
        let before = (self.is_down(), self.is_draining());
        self.health = report.health.or(self.health);
        self.admin = report.admin.or(self.admin);
        self.weight = report.weight.or(self.weight);
        self.max_conns = report.max_conns.or(self.max_conns);
        self.unknown.clone_from(&report.unknown);
        if let Some(description) = &report.description {
            self.description.clone_from(description);
        }
        if before != (self.is_down(), self.is_draining()) {
            self.since = now;
        }
    }

    /// Whether it wants the peer out of use.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.admin == Some(AgentAdmin::Maint) || self.health.is_some_and(|health| health != AgentHealth::Up)
    }

    /// Whether it wants the peer to get nothing new.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.admin == Some(AgentAdmin::Drain) || self.is_weightless()
    }

    /// Whether the weight that it wants is none.
    #[must_use]
    pub fn is_weightless(&self) -> bool {
        matches!(self.weight, Some(Weight::Percent(0) | Weight::Exactly(0)))
    }

    /// Its words, in short.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut words = Vec::new();
        words.extend(self.health.map(|health| match health {
            AgentHealth::Up => "up",
            AgentHealth::Down => "down",
            AgentHealth::Stopped => "stopped",
            AgentHealth::Fail => "fail",
        }));
        words.extend(self.admin.map(|admin| match admin {
            AgentAdmin::Ready => "ready",
            AgentAdmin::Drain => "drain",
            AgentAdmin::Maint => "maint",
        }));
        let mut text = words.join(" ");
        if let Some(weight) = self.weight {
            text += &match weight {
                Weight::Percent(percent) => format!(" {percent}%"),
                Weight::Exactly(weight) => format!(" weight:{weight}"),
            };
        }
        if !self.description.is_empty() {
            text += &format!(" # {}", self.description);
        }
        text.trim_start().to_owned()
    }
}

/// What name servers say of a peer's name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Resolution {
    /// Its addresses, the last that were known.
    pub addresses: Vec<IpAddr>,
    /// When to ask again.
    pub expires: Timestamp,
    /// Name servers say that there is no such name, or that it has no address: since when.
    pub gone: Option<Timestamp>,
    /// Why the last question was not answered; empty if it was.
    pub error: String,
}

impl Status {
    /// Says that something changed that matters for the use of peers.
    pub fn advance(&mut self) {
        self.generation = self.generation.wrapping_add(1);
    }

    /// Whether stored bytes differ from this in something that matters for the use of peers.
    pub(crate) fn is_outdated_by(&self, stored: &[u8]) -> bool {
        !postcard::take_from_bytes(stored).is_ok_and(|(generation, _): (u64, _)| generation == self.generation)
    }

    /// What is said of a peer.
    #[must_use]
    pub fn of(&self, peer: PeerId) -> Option<&PeerStatus> {
        let found = self.peers.binary_search_by_key(&peer, |(id, _)| *id).ok()?;
        self.peers.get(found).map(|(_, status)| status)
    }

    /// Overrides what is said of a peer.
    pub fn change<R>(&mut self, peer: PeerId, change: impl FnOnce(&mut PeerStatus) -> R) -> R {
        let found = self.peers.binary_search_by_key(&peer, |(id, _)| *id);
        if let Some((_, status)) = found.ok().and_then(|at| self.peers.get_mut(at)) {
            return change(status);
        }
        let mut status = PeerStatus::default();
        let result = change(&mut status);
        self.peers.insert(found.unwrap_or_else(|at| at), (peer, status));
        result
    }

    /// When the last check ended, of any peer by any monitor; the epoch before the first.
    #[must_use]
    pub fn last_check(&self) -> Timestamp {
        self.peers.iter().flat_map(|(_, status)| &status.checks).map(|check| check.at).max().unwrap_or_default()
    }

    /// Keeps the peers for which `keep` says so; it may change what is said of them.
    pub fn retain(&mut self, mut keep: impl FnMut(PeerId, &mut PeerStatus) -> bool) {
        self.peers.retain_mut(|(id, status)| keep(*id, status));
    }

    /// Lifts all verdicts on a peer but the resolver's.
    pub fn reset(&mut self, peer: PeerId) {
        if let Some((_, status)) = self.peers.iter_mut().find(|(id, _)| *id == peer) {
            status.reset();
        }
    }

    /// Leaves out what concerns peers and monitors that are gone, and addresses that are not wanted any more, and says of names
    /// that nobody has resolved that it is so.
    pub(crate) fn restrict(&mut self, record: &Record) {
        let is_there = |id: &str| record.monitors.iter().any(|monitor| monitor.id == id);
        let is_same = |check: &Check| record.monitors.iter().any(|m| m.id == check.monitor && m.name == check.kind);
        let peers = Positions::of(&record.peers);
        self.retain(|peer, status| {
            status.checks.retain(is_same);
            status.agent = status.agent.take().filter(|agent| is_there(&agent.monitor));
            peers.get(peer).is_some()
        });
        if record.spec.resolver.is_empty() {
            return;
        }
        for peer in record.peers.iter().filter(|peer| peer.host_name().is_some()) {
            self.change(peer.id, |status| {
                let unresolved =
                    || Resolution { error: "the name is not resolved yet".to_owned(), ..Default::default() };
                let name = status.name.get_or_insert_with(unresolved);
                if !record.spec.resolve_ipv6 && name.addresses.iter().any(IpAddr::is_ipv6) {
                    name.addresses.retain(IpAddr::is_ipv4);
                    if name.addresses.is_empty() {
                        *name = unresolved();
                    }
                }
            });
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        postcard::to_allocvec(self).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let status: Self = postcard::from_bytes(bytes).ok()?;
        status.peers.is_sorted_by(|(a, _), (b, _)| a < b).then_some(status)
    }
}

impl PeerStatus {
    /// Lifts all verdicts; what was counted stays.
    pub fn reset(&mut self) {
        for check in &mut self.checks {
            (check.is_down, check.streak) = (false, 0);
            check.why.clear();
        }
        self.agent = None;
    }

    /// What a monitor found.
    #[must_use]
    pub fn check(&self, monitor: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.monitor == monitor)
    }

    /// Overrides what a monitor found.
    pub fn change_check<R>(&mut self, monitor: &str, kind: &str, change: impl FnOnce(&mut Check) -> R) -> R {
        self.checks.retain(|check| check.monitor != monitor || check.kind == kind);
        if let Some(check) = self.checks.iter_mut().find(|check| check.monitor == monitor) {
            return change(check);
        }
        let mut check = Check::new(monitor, kind);
        let result = change(&mut check);
        self.checks.push(check);
        result
    }

    /// How many checks failed, by all monitors.
    #[must_use]
    pub fn failed_checks(&self) -> u64 {
        self.checks.iter().map(|check| check.failed).sum()
    }

    /// The monitor that has had a verdict against it for the longest time.
    #[must_use]
    pub fn down_by(&self) -> Option<&Check> {
        self.checks.iter().filter(|check| check.is_down).min_by_key(|check| check.since)
    }
}

/// A length of time for a [`Check`].
pub(crate) fn took(length: Duration) -> u32 {
    u32::try_from(millis(length)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn a_verdict_takes_so_many_in_a_row() {
        let now = Timestamp::from_millis(5);
        let mut check = Check::new("http", "http");
        let mut observe = |good: bool| {
            let flip = check.observe((!good).then_some("status 503"), 2, 3);
            flip.into_iter().for_each(|flip| check.set_verdict(flip, now));
            check.is_down
        };
        let results = [false, false, true, false, false, false, true, false, true, true];
        let verdicts: Vec<bool> = results.into_iter().map(&mut observe).collect();
        assert_eq!(verdicts, [false, false, false, false, false, true, true, true, true, false]);
        assert_eq!(check.since, now);
    }

    #[test]
    fn what_an_agent_does_not_mention_stays() {
        let mut agent = Agent::default();
        let mut apply = |line: &str, second: u64| {
            agent.apply(&Report::parse(line.as_bytes()), Timestamp::from_millis(second * 1_000));
            (agent.is_down(), agent.is_draining(), agent.summary(), agent.since.as_millis() / 1_000)
        };
        assert_eq!(apply("up 50%", 1), (false, false, "up 50%".to_owned(), 0));
        assert_eq!(apply("drain", 2), (false, true, "up drain 50%".to_owned(), 2));
        assert_eq!(apply("down # disk", 3), (true, true, "down drain 50% # disk".to_owned(), 3));
        assert_eq!(apply("up", 4), (false, true, "up drain 50% # disk".to_owned(), 4));
        assert_eq!(apply("ready #", 5), (false, false, "up ready 50%".to_owned(), 5));
        assert_eq!(apply("0%", 6), (false, true, "up ready 0%".to_owned(), 6));
    }

    #[test]
    fn it_reads_back_and_foreign_bytes_are_refused() {
        let mut status = Status::default();
        status.change(PeerId(7), |peer| peer.change_check("http", "http", |check| check.observe(Some("reset"), 2, 3)));
        status.change(PeerId(2), |peer| peer.name = Some(Resolution::default()));
        let bytes = status.encode();
        assert_eq!(Status::decode(&bytes), Some(status));
        assert!((0..bytes.len()).all(|cut| Status::decode(&bytes[..cut]).is_none()));
    }
}
