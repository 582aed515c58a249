//! Peers: the servers of an upstream as they are now.
//!
//! A peer is a [`Server`], as it was declared, with [`Overrides`] laid over it: what was changed at run time. The two are
//! kept apart so that a new configuration can win exactly where it changed something.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::admin_state::AdminState;
use crate::model::agent::Agent;
use crate::model::era::Era;
use crate::model::failures::lasts;
use crate::model::id::PeerId;
use crate::model::overrides::Overrides;
use crate::model::peer_status::PeerStatus;
use crate::model::report::Weight;
use crate::model::server::{Server, ServerHost};
use crate::time::Timestamp;

/// A peer as shared data holds it, without the failures counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PeerRecord {
    /// Tells it from an earlier peer of the same name.
    pub(crate) id: PeerId,
    /// As it was declared.
    pub(crate) server: Server,
    /// Declared by the configuration, not added at run time.
    pub(crate) configured: bool,
    /// What the configuration said of a server of this name, where another one was put into its place at run time.
    pub(crate) declared: Option<Server>,
    /// What was changed since.
    pub(crate) overrides: Overrides,
    /// Which words of others on it count.
    pub(crate) era: Era,
}

impl PeerRecord {
    /// One of which nothing is said yet.
    pub(crate) fn new(id: PeerId, server: Server, configured: bool) -> Self {
        Self { id, server, configured, declared: None, overrides: Overrides::default(), era: Era::default() }
    }

    /// The weight in force, apart from what an agent says.
    #[must_use]
    pub(crate) fn weight(&self) -> u16 {
        self.overrides.weight.unwrap_or(self.server.weight)
    }

    /// The weight in force in hundredths, because an agent may ask for some percent of a weight of 1. At least 1.
    #[must_use]
    pub(crate) fn hundredths(&self, agent: Option<&Agent>) -> u32 {
        let hundredths = match agent.and_then(|agent| agent.weight) {
            None => u32::from(self.weight()) * 100,
            Some(Weight::Percent(percent)) => u32::from(self.server.weight) * u32::from(percent),
            Some(Weight::Exactly(weight)) => u32::from(weight) * 100,
        };
        hundredths.max(1)
    }

    /// The same in whole numbers; what an agent made a fraction is rounded up.
    #[must_use]
    pub(crate) fn whole_weight(&self, agent: Option<&Agent>) -> u16 {
        u16::try_from(self.hundredths(agent).div_ceil(100)).unwrap_or(u16::MAX)
    }

    /// `max_fails` in force.
    #[must_use]
    pub(crate) fn max_fails(&self) -> u32 {
        self.overrides.max_fails.unwrap_or(self.server.max_fails)
    }

    /// `fail_timeout` in force.
    #[must_use]
    pub(crate) fn fail_timeout(&self) -> Duration {
        self.overrides.fail_timeout.unwrap_or(self.server.fail_timeout)
    }

    /// `max_conns` in force; 0 for no limit.
    #[must_use]
    pub(crate) fn max_conns(&self) -> u32 {
        self.overrides.max_conns.unwrap_or(self.server.max_conns)
    }

    /// `slow_start` in force.
    #[must_use]
    pub(crate) fn slow_start(&self) -> Duration {
        self.overrides.slow_start.unwrap_or(self.server.slow_start)
    }

    /// Where the peer can be reached, as far as that is known.
    #[must_use]
    pub(crate) fn addresses(&self, status: Option<&PeerStatus>) -> Vec<SocketAddr> {
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
    pub(crate) fn host_name(&self) -> Option<String> {
        let endpoint = self.server.endpoint().filter(|endpoint| endpoint.literal().is_none())?;
        match endpoint.host {
            ServerHost::Name(name) => Some(name),
            ServerHost::Ip(_) => None,
        }
    }

    /// The administrative state in force, and until when if it ends by itself.
    #[must_use]
    pub(crate) fn admin_state(&self, now: Timestamp) -> (AdminState, Option<Timestamp>) {
        match self.overrides.admin_state {
            None => (AdminState::declared(&self.server), None),
            Some((AdminState::TemporaryDown, given)) => {
                let end = given.after(self.fail_timeout());
                if lasts(end, self.fail_timeout(), now) {
                    (AdminState::TemporaryDown, Some(end))
                } else {
                    (AdminState::Up, None)
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
