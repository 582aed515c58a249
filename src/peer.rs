//! Peers: the servers of an upstream as they are now.
//!
//! A peer is a [`Server`], as it was declared, with what was changed at run time laid over it. The two are
//! kept apart so that a new configuration can win exactly where it changed something.
//!
//! Several have a say in whether a peer is used: the operator, and the failures counted. Each keeps a
//! verdict of its own, and [`state`] makes one of them: nobody lifts what another imposed.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::balancer::FULL;
use crate::health::{Failures, PeerId, Verdict};
use crate::server::Server;
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
    /// What was changed since.
    pub changes: Changes,
}

impl PeerRecord {
    /// The weight in force.
    #[must_use]
    pub fn weight(&self) -> u16 {
        self.changes.weight.unwrap_or(self.server.weight)
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

    /// The operator's order in force, and until when if it ends by itself.
    #[must_use]
    pub fn order(&self, now: Timestamp) -> (Order, Option<Timestamp>) {
        match self.changes.order {
            None => (Order::declared(&self.server), None),
            Some((Order::TemporaryDown, given)) => {
                // The same rules as for a failure at that time, the jumping clock included.
                let counted = Failures { count: 1, since: given, until: given.after(self.fail_timeout()) };
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
        self.configured = true;
    }
}

/// Makes one state of all verdicts on a peer, and says when it will change by itself.
///
/// The gravest verdict names the state: an operator's `down`, then draining, then what ends by itself.
#[must_use]
pub fn state(peer: &PeerRecord, failures: &Failures, now: Timestamp) -> (PeerState, Option<Timestamp>) {
    let (order, ordered_until) = peer.order(now);
    match (order, failures.verdict(now, peer.fail_timeout())) {
        (Order::Down, _) => (PeerState::Down, None),
        (Order::Drain, _) => (PeerState::Draining, None),
        (_, Verdict::Down { until }) => {
            (PeerState::TemporaryDown, Some(ordered_until.map_or(until, |at| at.max(until))))
        }
        (Order::TemporaryDown, _) => (PeerState::TemporaryDown, ordered_until),
        (Order::Up, Verdict::Failing) => (PeerState::Failing, Some(failures.since.after(peer.fail_timeout()))),
        (Order::Up, Verdict::Good) => (PeerState::Up, None),
    }
}

/// How much of its weight a peer has, in parts of [`FULL`], and when it will have more.
///
/// A peer that comes back, by itself or because an operator said so, gets its weight in equal steps over its
/// `slow_start`. One that is new has all of it from the start, as in nginx.
#[must_use]
pub fn part(peer: &PeerRecord, failures: &Failures, now: Timestamp) -> (u32, Option<Timestamp>) {
    let slow_start = peer.slow_start();
    if slow_start.is_zero() {
        return (FULL, None);
    }
    let ordered = match peer.changes.order {
        Some((Order::Up, given)) if given <= now => Some(given),
        Some((Order::TemporaryDown, given)) => Some(given.after(peer.fail_timeout())).filter(|back| *back <= now),
        _ => None,
    };
    let Some(back) = failures.back_since(now).max(ordered) else { return (FULL, None) };
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

    /// The peer's IP address.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unresolved`] while its name is not resolved.
    pub fn get_address(&self) -> Result<String, StoreError> {
        let literal = self.record.server.endpoint().and_then(|endpoint| endpoint.literal());
        literal.map(|address| address.ip().to_string()).ok_or_else(|| StoreError::Unresolved(self.name().to_owned()))
    }

    /// The weight in force.
    #[must_use]
    pub fn get_weight(&self) -> u16 {
        self.record.weight()
    }

    /// Changes the weight, for all workers.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] for 0, and what stands in the way of the change. Then nothing has changed.
    pub fn set_weight(&mut self, weight: u16) -> Result<(), StoreError> {
        if weight == 0 {
            return Err(StoreError::Invalid("weight: expected an integer from 1 to 65535, found 0".to_owned()));
        }
        self.change(|changes, _| changes.weight = Some(weight))
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
            let id = self.record.id;
            self.failures = Failures::default();
            self.store.update_health(&self.upstream, |health| health.set(id, Failures::default()))?;
        }
        Ok(())
    }

    /// The state in which the peer is.
    #[must_use]
    pub fn state(&self) -> PeerState {
        state(&self.record, &self.failures, self.store.now()).0
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
        let (_, after) = self.store.add_fail(&record, &self.record)?;
        self.failures = after;
        Ok(())
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
