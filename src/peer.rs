//! Peers: the servers of an upstream as they are now.
//!
//! A peer is a [`Server`], as it was declared, with what was changed at run time laid over it. The two are
//! kept apart so that a new configuration can win exactly where it changed something.
//!
//! Several have a say in whether a peer is used: the operator, its agent, each monitor, the resolver of its name, and the
//! failures counted. Each keeps a verdict of its own, and [`standing`] makes one of them: nobody lifts what another
//! imposed.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::balancer::FULL;
use crate::health::{Failures, PeerId, Verdict};
use crate::monitor::agent::Weight;
use crate::server::{Host, Server};
use crate::status::{Agent, Check, PeerStatus, Resolution};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;
use crate::upstream::Upstream;

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

/// What an operator wants of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
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

impl Order {
    /// The names of the orders.
    pub const NAMES: &'static [(&'static str, Self)] =
        &[("up", Self::Up), ("down", Self::Down), ("temporary_down", Self::TemporaryDown), ("drain", Self::Drain)];

    /// The name in requests and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, order)| *order == self).map_or("", |(name, _)| name)
    }

    /// What a server's declaration orders.
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
pub struct Changes {
    /// The weight.
    pub weight: Option<u16>,
    /// The operator's order; for a temporary one, when it was given.
    pub order: Option<(Order, Timestamp)>,
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
    pub changes: Changes,
}

impl PeerRecord {
    /// The weight in force, apart from what an agent says.
    #[must_use]
    pub fn weight(&self) -> u16 {
        self.changes.weight.unwrap_or(self.server.weight)
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
        self.changes.max_fails.unwrap_or(self.server.max_fails)
    }

    /// `fail_timeout` in force.
    #[must_use]
    pub fn fail_timeout(&self) -> Duration {
        self.changes.fail_timeout.unwrap_or(self.server.fail_timeout)
    }

    /// `max_conns` in force; 0 for no limit.
    #[must_use]
    pub fn max_conns(&self) -> u32 {
        self.changes.max_conns.unwrap_or(self.server.max_conns)
    }

    /// `slow_start` in force.
    #[must_use]
    pub fn slow_start(&self) -> Duration {
        self.changes.slow_start.unwrap_or(self.server.slow_start)
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
            Host::Name(name) => Some(name),
            Host::Ip(_) => None,
        }
    }

    /// The operator's order in force, and until when if it ends by itself.
    #[must_use]
    pub fn order(&self, now: Timestamp) -> (Order, Option<Timestamp>) {
        match self.changes.order {
            None => (Order::declared(&self.server), None),
            Some((Order::TemporaryDown, given)) => {
                // The same rules as for a failure at that time, the jumping clock included.
                let counted = Failures { count: 1, checks: 0, since: given, until: given.after(self.fail_timeout()) };
                match counted.verdict(now, self.fail_timeout()) {
                    Verdict::Down { until } => (Order::TemporaryDown, Some(until)),
                    Verdict::Good | Verdict::Failing => (Order::Up, None),
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
            self.changes.weight = None;
        }
        if before.max_fails != server.max_fails {
            self.changes.max_fails = None;
        }
        if before.fail_timeout != server.fail_timeout {
            self.changes.fail_timeout = None;
        }
        if before.max_conns != server.max_conns {
            self.changes.max_conns = None;
        }
        if before.slow_start != server.slow_start {
            self.changes.slow_start = None;
        }
        if (before.down, before.drain) != (server.down, server.drain) {
            self.changes.order = None;
        }
    }
}

/// Where peers stand in a list, by their ids: a search in it costs the logarithm of their number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Positions(Vec<u128>);

impl Positions {
    pub(crate) fn of(peers: &[PeerRecord]) -> Self {
        let packed = peers.iter().zip(0_u128..).map(|(peer, at)| u128::from(peer.id.0) << 64 | at);
        Self(crate::balancer::sorted(packed))
    }

    pub(crate) fn get(&self, peer: PeerId) -> Option<usize> {
        let found = self.0.binary_search_by_key(&peer.0, |packed| (packed >> 64) as u32).ok()?;
        self.0.get(found).map(|packed| *packed as u64 as usize)
    }
}

/// Whose word a peer's state is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Owner<'s> {
    /// Nobody has anything against it.
    Nobody,
    /// The configuration.
    Configuration,
    /// The operator.
    Operator(Order),
    /// The peer's agent.
    Agent(&'s Agent),
    /// A monitor.
    Monitor(&'s Check),
    /// The resolver of names.
    Resolver(&'s Resolution),
    /// The counter of failures, with `fail_timeout`.
    Passive(Failures, Duration),
}

/// A peer's state, and why it is that.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing<'s> {
    /// The state.
    pub state: PeerState,
    /// Who made it so.
    pub owner: Owner<'s>,
    /// Since when, where that is known.
    pub since: Option<Timestamp>,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
}

impl Standing<'_> {
    /// Who made the state, in a word or two; `None` if nobody did.
    #[must_use]
    pub fn by(&self) -> Option<String> {
        Some(match self.owner {
            Owner::Nobody => return None,
            Owner::Configuration => "configuration".to_owned(),
            Owner::Operator(_) => "operator".to_owned(),
            Owner::Agent(_) => "agent".to_owned(),
            Owner::Monitor(check) => format!("monitor {}", check.monitor),
            Owner::Resolver(_) => "resolver".to_owned(),
            Owner::Passive(..) => "passive".to_owned(),
        })
    }

    /// Why, in a sentence; `None` if there is nothing to say.
    #[must_use]
    pub fn why(&self) -> Option<String> {
        Some(match self.owner {
            Owner::Nobody => return None,
            Owner::Configuration => {
                format!("declared {}", if self.state == PeerState::Draining { "drain" } else { "down" })
            }
            Owner::Operator(order) => format!("ordered {}", order.name()),
            Owner::Agent(agent) => format!("the agent says {}", agent.words()),
            Owner::Monitor(check) => check.verdict_why.clone(),
            Owner::Resolver(resolution) if resolution.error.is_empty() => "the name does not exist".to_owned(),
            Owner::Resolver(resolution) => resolution.error.clone(),
            Owner::Passive(failures, within) => {
                let (count, within) = (failures.count, crate::time::format_duration(within));
                let plural = if count == 1 { "" } else { "s" };
                format!("{count} failure{plural} within {within}")
            }
        })
    }
}

/// Makes one state of all verdicts on a peer, says whose it is, and when it will change by itself.
///
/// The gravest verdict names the state: what is down until somebody says otherwise, then draining, then what ends by
/// itself. Among equals the operator's comes first.
#[must_use]
pub fn standing<'s>(
    peer: &PeerRecord,
    failures: &Failures,
    status: Option<&'s PeerStatus>,
    now: Timestamp,
) -> Standing<'s> {
    let (order, ordered_until) = peer.order(now);
    let operator = match peer.changes.order {
        Some(_) => Owner::Operator(order),
        None => Owner::Configuration,
    };
    let ordered_since = peer.changes.order.map(|(_, given)| given);
    let agent = status.and_then(|status| status.agent.as_ref());
    let known = |at: Timestamp| Some(at).filter(|at| *at != Timestamp::default());
    let passive = Owner::Passive(*failures, peer.fail_timeout());
    let lasting = |state, owner, since| Standing { state, owner, since, until: None };

    if order == Order::Down {
        return lasting(PeerState::Down, operator, ordered_since);
    }
    if let Some(agent) = agent.filter(|agent| agent.is_down()) {
        return lasting(PeerState::Down, Owner::Agent(agent), known(agent.since));
    }
    if let Some(check) = status.and_then(PeerStatus::down_by) {
        return lasting(PeerState::Down, Owner::Monitor(check), known(check.since));
    }
    let name = status.and_then(|status| status.name.as_ref());
    if let Some(name) = name.filter(|name| name.gone.is_some() || name.addresses.is_empty()) {
        return lasting(PeerState::Down, Owner::Resolver(name), name.gone);
    }
    if order == Order::Drain {
        return lasting(PeerState::Draining, operator, ordered_since);
    }
    if let Some(agent) = agent.filter(|agent| agent.is_draining()) {
        return lasting(PeerState::Draining, Owner::Agent(agent), known(agent.since));
    }
    match (order, failures.verdict(now, peer.fail_timeout())) {
        (_, Verdict::Down { until }) => Standing {
            state: PeerState::TemporaryDown,
            owner: passive,
            since: known(failures.since),
            until: Some(ordered_until.map_or(until, |at| at.max(until))),
        },
        (Order::TemporaryDown, _) => {
            Standing { state: PeerState::TemporaryDown, owner: operator, since: ordered_since, until: ordered_until }
        }
        (_, Verdict::Failing) => Standing {
            state: PeerState::Failing,
            owner: passive,
            since: known(failures.since),
            until: Some(failures.since.after(peer.fail_timeout())),
        },
        (_, Verdict::Good) => lasting(PeerState::Up, Owner::Nobody, None),
    }
}

/// How much of its weight a peer has, in parts of [`FULL`], and when it will have more.
///
/// A peer that comes back, by itself or because an operator said so, gets its weight in equal steps over its
/// `slow_start`. One that is new has all of it from the start, as in nginx.
#[must_use]
pub fn part(
    peer: &PeerRecord,
    failures: &Failures,
    status: Option<&PeerStatus>,
    now: Timestamp,
) -> (u32, Option<Timestamp>) {
    let slow_start = peer.slow_start();
    if slow_start.is_zero() {
        return (FULL, None);
    }
    let ordered = match peer.changes.order {
        Some((Order::Up, given)) if given <= now => Some(given),
        Some((Order::TemporaryDown, given)) => Some(given.after(peer.fail_timeout())).filter(|back| *back <= now),
        _ => None,
    };
    let checks = status.into_iter().flat_map(|status| &status.checks);
    let agent = status.and_then(|status| status.agent.as_ref());
    let lifted = checks.filter(|check| !check.is_down).map(|check| check.since).chain(agent.map(|agent| agent.since));
    let lifted = lifted.filter(|since| *since != Timestamp::default() && *since <= now).max();
    let Some(back) = failures.back_since(now).max(ordered).max(lifted) else { return (FULL, None) };
    let passed = now.since(back);
    if passed >= slow_start {
        return (FULL, None);
    }
    let step = slow_start / FULL;
    let steps = (passed.as_nanos() / step.as_nanos().max(1)).min(u128::from(FULL) - 1) as u32;
    (steps + 1, Some(back.after(step * (steps + 1)).max(now.after(Duration::from_millis(1)))))
}

/// Which peers of an upstream are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// All.
    #[default]
    All,
    /// In use, with failures.
    Failing,
    /// Out of use, for whatever reason; those that drain are not.
    Down,
    /// Out of use, and back by themselves.
    TemporaryDown,
    /// Out of use until somebody says otherwise.
    PermanentDown,
}

impl Selector {
    /// The names of the selectors.
    pub const NAMES: &'static [(&'static str, Self)] = &[
        ("all", Self::All),
        ("failing", Self::Failing),
        ("down", Self::Down),
        ("temporary_down", Self::TemporaryDown),
        ("permanent_down", Self::PermanentDown),
    ];

    /// Whether a peer in this state is meant.
    #[must_use]
    pub fn matches(self, state: PeerState) -> bool {
        match self {
            Self::All => true,
            Self::Failing => state == PeerState::Failing,
            Self::Down => matches!(state, PeerState::Down | PeerState::TemporaryDown),
            Self::TemporaryDown => state == PeerState::TemporaryDown,
            Self::PermanentDown => state == PeerState::Down,
        }
    }
}

/// What kind of down [`Peer::is_down`] asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DownKind {
    /// Either.
    #[default]
    Any,
    /// Until somebody says otherwise.
    Permanent,
    /// Back by itself.
    Temporary,
}

/// A peer of an upstream, as it was when it was asked for, and the means to change it.
///
/// The changes are made in shared data, for all workers, and show in this handle too.
pub struct Peer<'h> {
    pub(crate) store: Store<'h>,
    pub(crate) upstream: String,
    pub(crate) record: PeerRecord,
    pub(crate) failures: Failures,
    pub(crate) status: Option<PeerStatus>,
}

impl<'h> Peer<'h> {
    /// The name, `host:port`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.server.name
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.record.server.endpoint().map_or(0, |endpoint| endpoint.port)
    }

    /// The weight with which it was declared, whatever [`set_weight`](Self::set_weight) did since.
    #[must_use]
    pub fn initial_weight(&self) -> u16 {
        self.record.server.weight
    }

    /// The peer's IP address; the first one if its name has several.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unresolved`] while its name is not resolved.
    pub fn get_address(&self) -> Result<String, StoreError> {
        let address = self.addresses().first().map(IpAddr::to_string);
        address.ok_or_else(|| StoreError::Unresolved(self.name().to_owned()))
    }

    /// The peer's IP addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let addresses = self.record.addresses(self.status.as_ref());
        addresses.iter().map(SocketAddr::ip).collect()
    }

    /// The weight in force; what an agent made a fraction is rounded up.
    #[must_use]
    pub fn get_weight(&self) -> u16 {
        let agent = self.status.as_ref().and_then(|status| status.agent.as_ref());
        self.record.whole_weight(agent)
    }

    /// Changes the weight, for all workers. It counts until a configuration or the peer's agent says otherwise.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] for 0, and what stands in the way of the change. Then nothing has changed.
    pub fn set_weight(&mut self, weight: u16) -> Result<(), StoreError> {
        if weight == 0 {
            return Err(StoreError::Invalid("weight: expected an integer from 1 to 65535, found 0".to_owned()));
        }
        self.change(|changes, _| changes.weight = Some(weight))?;
        self.store.overrule_weight(&self.upstream, self.record.id)?;
        let agent = self.status.as_mut().and_then(|status| status.agent.as_mut());
        if let Some(agent) = agent.filter(|agent| !agent.is_weightless()) {
            agent.weight = None;
        }
        Ok(())
    }

    /// The upstream that the peer is of.
    ///
    /// # Errors
    ///
    /// As for [`Upstream::get`].
    pub fn get_upstream(&self) -> Result<Option<Upstream<'h>>, StoreError> {
        Upstream::get(self.store, &self.upstream)
    }

    /// Orders what becomes of the peer, for all workers. [`Order::Up`] also clears what others have against
    /// it.
    ///
    /// # Errors
    ///
    /// What stands in the way of the change. Then nothing has changed.
    pub fn set_state(&mut self, order: Order) -> Result<(), StoreError> {
        self.change(|changes, now| changes.order = Some((order, now)))?;
        if order == Order::Up {
            self.failures = Failures::default();
            self.store.pardon(&self.upstream, self.record.id)?;
            if let Some(status) = &mut self.status {
                status.pardon();
            }
        }
        Ok(())
    }

    /// The state in which the peer is.
    #[must_use]
    pub fn state(&self) -> PeerState {
        self.standing().state
    }

    /// The state in which the peer is, with whose word that is.
    #[must_use]
    pub fn standing(&self) -> Standing<'_> {
        standing(&self.record, &self.failures, self.status.as_ref(), self.store.now())
    }

    /// Whether the peer is out of use in this way.
    #[must_use]
    pub fn is_down(&self, kind: DownKind) -> bool {
        let selector = match kind {
            DownKind::Any => Selector::Down,
            DownKind::Permanent => Selector::PermanentDown,
            DownKind::Temporary => Selector::TemporaryDown,
        };
        selector.matches(self.state())
    }

    /// Whether at least one failure was counted within `fail_timeout`.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.failures.verdict(self.store.now(), self.record.fail_timeout()) != Verdict::Good
    }

    /// Counts one failure against the peer.
    ///
    /// # Errors
    ///
    /// What stands in the way of the change. Then nothing has changed.
    pub fn add_fail(&mut self) -> Result<(), StoreError> {
        let record = self.store.record(&self.upstream)?;
        let (record, _) = record.ok_or_else(|| StoreError::NoSuchUpstream(self.upstream.clone()))?;
        let status = self.store.status(&record)?;
        let (_, after) = self.store.add_fail(&record, &self.record, &status, false)?;
        self.failures = after;
        Ok(())
    }

    /// Has the peer's name looked up, if it is one: when its address is not known, or anyway if `force`. Returns whether that
    /// is under way; the worker that makes the checks does it within a second.
    ///
    /// # Errors
    ///
    /// What stands in the way of the change. Then nothing has changed.
    pub fn resolve(&mut self, force: bool) -> Result<bool, StoreError> {
        if self.record.host_name().is_none() || self.store.host().resolves_names() {
            return Ok(false);
        }
        if !force && !self.addresses().is_empty() {
            return Ok(false);
        }
        let id = self.record.id;
        self.store.update_status(&self.upstream, |status| {
            status.change(id, |status| status.name.get_or_insert_default().expires = Timestamp::default());
        })?;
        Ok(true)
    }

    fn change(&mut self, mut change: impl FnMut(&mut Changes, Timestamp)) -> Result<(), StoreError> {
        let (id, now) = (self.record.id, self.store.now());
        self.record = self.store.update_record(&self.upstream, |record| {
            let peer = record.peers.iter_mut().find(|peer| peer.id == id);
            let peer = peer.ok_or_else(|| StoreError::NoSuchPeer(self.record.server.name.clone()))?;
            change(&mut peer.changes, now);
            Ok(peer.clone())
        })?;
        Ok(())
    }
}
