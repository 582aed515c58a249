//! Peers: the servers of an upstream as they are now.
//!
//! A peer is a [`Server`], as it was declared, with [`Overrides`] laid over it: what was changed at run time. The two are
//! kept apart so that a new configuration can win exactly where it changed something.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::agent::Weight;
use crate::model::failures::{Failures, PassiveVerdict};
use crate::model::id::PeerId;
use crate::model::server::{Server, ServerHost};
use crate::model::status::{Agent, PeerStatus};
use crate::time::Timestamp;

/// What a peer is in the eyes of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerState {
    /// In use.
    Up,
    /// In use, with a failure counted within `fail_timeout`.
    Failing,
    /// Out of use, and back by itself.
    TemporaryDown,
    /// Out of use until somebody says otherwise.
    Down,
    /// Gets no new requests.
    Draining,
}

impl PeerState {
    /// Whether the peer gets requests in this state.
    #[must_use]
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Up | Self::Failing)
    }

    /// The name in answers and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Failing => "failing",
            Self::TemporaryDown => "temporary_down",
            Self::Down => "down",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an operator wants of a peer: its administrative state, in HAProxy's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// Use it.
    #[default]
    Up,
    /// Do not use it.
    Down,
    /// Do not use it for its `fail_timeout`.
    TemporaryDown,
    /// Give it no new requests.
    Drain,
}

impl AdminState {
    /// The names of the states.
    pub const NAMES: &'static [(&'static str, Self)] =
        &[("up", Self::Up), ("down", Self::Down), ("temporary_down", Self::TemporaryDown), ("drain", Self::Drain)];

    /// The name in requests and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, order)| *order == self).map_or("", |(name, _)| name)
    }

    /// What a server's declaration says.
    #[must_use]
    pub fn declared(server: &Server) -> Self {
        match (server.down, server.drain) {
            (true, _) => Self::Down,
            (false, true) => Self::Drain,
            (false, false) => Self::Up,
        }
    }
}

/// What was changed at run time. What is `None` is as declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// The weight.
    pub weight: Option<u16>,
    /// What the operator wants, and when it was said.
    pub admin_state: Option<(AdminState, Timestamp)>,
    /// `max_fails`.
    pub max_fails: Option<u32>,
    /// `fail_timeout`.
    pub fail_timeout: Option<Duration>,
    /// `max_conns`.
    pub max_conns: Option<u32>,
    /// `slow_start`.
    pub slow_start: Option<Duration>,
}

/// A peer as shared data holds it, without the failures counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRecord {
    /// Tells it from an earlier peer of the same name.
    pub id: PeerId,
    /// As it was declared.
    pub server: Server,
    /// Declared by the configuration, not added at run time.
    pub configured: bool,
    /// What the configuration said of a server of this name, where another one was put into its place at run time.
    pub declared: Option<Server>,
    /// What was changed since.
    pub overrides: Overrides,
}

impl PeerRecord {
    /// The weight in force, apart from what an agent says.
    #[must_use]
    pub fn weight(&self) -> u16 {
        self.overrides.weight.unwrap_or(self.server.weight)
    }

    /// The weight in force in hundredths, because an agent may ask for some percent of a weight of 1. At least 1.
    #[must_use]
    pub fn hundredths(&self, agent: Option<&Agent>) -> u32 {
        let hundredths = match agent.and_then(|agent| agent.weight) {
            None => u32::from(self.weight()) * 100,
            Some(Weight::Percent(percent)) => u32::from(self.server.weight) * u32::from(percent),
            Some(Weight::Exactly(weight)) => u32::from(weight) * 100,
        };
        hundredths.max(1)
    }

    /// The same in whole numbers; what an agent made a fraction is rounded up.
    #[must_use]
    pub fn whole_weight(&self, agent: Option<&Agent>) -> u16 {
        u16::try_from(self.hundredths(agent).div_ceil(100)).unwrap_or(u16::MAX)
    }

    /// `max_fails` in force.
    #[must_use]
    pub fn max_fails(&self) -> u32 {
        self.overrides.max_fails.unwrap_or(self.server.max_fails)
    }

    /// `fail_timeout` in force.
    #[must_use]
    pub fn fail_timeout(&self) -> Duration {
        self.overrides.fail_timeout.unwrap_or(self.server.fail_timeout)
    }

    /// `max_conns` in force; 0 for no limit.
    #[must_use]
    pub fn max_conns(&self) -> u32 {
        self.overrides.max_conns.unwrap_or(self.server.max_conns)
    }

    /// `slow_start` in force.
    #[must_use]
    pub fn slow_start(&self) -> Duration {
        self.overrides.slow_start.unwrap_or(self.server.slow_start)
    }

    /// Where the peer can be reached, as far as that is known.
    #[must_use]
    pub fn addresses(&self, status: Option<&PeerStatus>) -> Vec<SocketAddr> {
        let Some(endpoint) = self.server.endpoint() else { return Vec::new() };
        if let Some(address) = endpoint.literal() {
            return vec![address];
        }
        let resolution = status.and_then(|status| status.name.as_ref());
        let addresses = resolution.into_iter().flat_map(|resolution| &resolution.addresses);
        addresses.map(|address| SocketAddr::new(*address, endpoint.port)).collect()
    }

    /// The name that a resolver has to look up; none for a literal address.
    #[must_use]
    pub fn host_name(&self) -> Option<String> {
        let endpoint = self.server.endpoint().filter(|endpoint| endpoint.literal().is_none())?;
        match endpoint.host {
            ServerHost::Name(name) => Some(name),
            ServerHost::Ip(_) => None,
        }
    }

    /// The administrative state in force, and until when if it ends by itself.
    #[must_use]
    pub fn admin_state(&self, now: Timestamp) -> (AdminState, Option<Timestamp>) {
        match self.overrides.admin_state {
            None => (AdminState::declared(&self.server), None),
            Some((AdminState::TemporaryDown, given)) => {
                // The same rules as for a failure at that time, the jumping clock included.
                let counted = Failures { count: 1, checks: 0, since: given, until: given.after(self.fail_timeout()) };
                match counted.verdict(now, self.fail_timeout()) {
                    PassiveVerdict::Down { until } => (AdminState::TemporaryDown, Some(until)),
                    PassiveVerdict::Good | PassiveVerdict::Failing => (AdminState::Up, None),
                }
            }
            Some((order, _)) => (order, None),
        }
    }

    /// A new declaration: it wins over run-time changes to the values that it changed.
    pub(crate) fn declare(&mut self, server: &Server) {
        self.configured = true;
        if self.declared.as_ref() == Some(server) {
            return;
        }
        self.declared = None;
        let before = std::mem::replace(&mut self.server, server.clone());
        if before.weight != server.weight {
            self.overrides.weight = None;
        }
        if before.max_fails != server.max_fails {
            self.overrides.max_fails = None;
        }
        if before.fail_timeout != server.fail_timeout {
            self.overrides.fail_timeout = None;
        }
        if before.max_conns != server.max_conns {
            self.overrides.max_conns = None;
        }
        if before.slow_start != server.slow_start {
            self.overrides.slow_start = None;
        }
        if (before.down, before.drain) != (server.down, server.drain) {
            self.overrides.admin_state = None;
        }
    }
}

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
