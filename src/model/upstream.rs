//! An upstream as shared data holds it.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::model::codec;
use crate::model::error::Error;
use crate::model::id::PeerId;
use crate::model::peer::PeerRecord;
use crate::model::server::Server;
use crate::model::spec::MonitorSpec;
use crate::model::spec::UpstreamSpec;

/// The most peers that an upstream can have.
pub(crate) const MOST_PEERS: usize = 10_000;

/// The most monitors that an upstream can have.
pub(crate) const MOST_MONITORS: usize = 32;

/// How many instances of the filter are remembered as having declared an upstream.
const MOST_INSTANCES: usize = 16;

/// A configuration's word on an upstream.
#[derive(Clone, Copy)]
pub(crate) struct Declaration<'c> {
    /// The instance of the filter that has this configuration.
    pub(crate) instance: &'c str,
    pub(crate) spec: &'c UpstreamSpec,
    /// Tells this configuration of the upstream from another one.
    pub(crate) fingerprint: u64,
}

/// An upstream: what was declared, and what was changed at run time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The upstream's name.
    pub(crate) name: String,
    /// Counts the changes to this record.
    pub(crate) revision: u64,
    /// The id that the next peer gets, and the number of the next monitor: higher than all before, also in records that were lost.
    pub(crate) next_id: PeerId,
    /// The upstream apart from its servers.
    pub(crate) spec: UpstreamSpec,
    /// Those who declared it, the latest last.
    declared_by: Vec<(String, u64)>,
    /// The peers: those of the configuration in its order, then the others in the order of their addition.
    pub(crate) peers: Vec<PeerRecord>,
    /// Servers of the configuration that were removed at run time.
    removed: Vec<Server>,
    /// The monitors: those of the configuration, unless they were removed, then those that were added.
    pub(crate) monitors: Vec<MonitorSpec>,
}

impl Record {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            revision: 0,
            next_id: PeerId(1),
            spec: UpstreamSpec::default(),
            declared_by: Vec::new(),
            peers: Vec::new(),
            removed: Vec::new(),
            monitors: Vec::new(),
        }
    }

    /// One whose first peer gets this id.
    pub(crate) fn beginning_at(name: &str, next_id: PeerId) -> Self {
        Self { next_id, ..Self::new(name) }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        codec::decode(bytes)
    }

    /// Whether it is this instance that checks the upstream: the last one to declare it of those that are alive.
    pub(crate) fn is_in_charge(&self, instance: &str, is_alive: impl Fn(&str) -> bool) -> bool {
        let mut later = self.declared_by.iter().rev().map(|(by, _)| by).take_while(|by| *by != instance);
        self.declared_by.iter().any(|(by, _)| by == instance) && !later.any(|by| is_alive(by))
    }

    /// Whether this instance's declaration has counted before.
    pub(crate) fn is_declared(&self, declaration: &Declaration<'_>) -> bool {
        self.declared_by.iter().any(|(by, print)| by == declaration.instance && *print == declaration.fingerprint)
    }

    /// Makes a declaration count. It wins over run-time changes to what it changed; other run-time changes
    /// stay: weights and orders, peers that were added, servers that were removed.
    ///
    /// Returns the instance whose different declaration counted until now.
    pub(crate) fn declare(&mut self, declaration: &Declaration<'_>) -> Option<String> {
        let other = |(by, print): &&(String, u64)| by != declaration.instance && *print != declaration.fingerprint;
        let rival = self.declared_by.iter().rev().find(other).map(|(by, _)| by.clone());
        self.declared_by.retain(|(by, _)| by != declaration.instance);
        self.declared_by.push((declaration.instance.to_owned(), declaration.fingerprint));
        let excess = self.declared_by.len().saturating_sub(MOST_INSTANCES);
        self.declared_by.drain(..excess);

        let spec = declaration.spec;
        let declared: HashSet<&str> = spec.servers.iter().map(|server| server.name.as_str()).collect();
        let mut before = HashMap::new();
        let mut added = Vec::new();
        for peer in self.peers.drain(..) {
            match (declared.contains(peer.server.name.as_str()), peer.configured) {
                (true, _) => drop(before.insert(peer.server.name.clone(), peer)),
                (false, false) => added.push(peer),
                (false, true) => {}
            }
        }
        self.removed.retain(|server| declared.contains(server.name.as_str()));
        for server in &spec.servers {
            if let Some(mut peer) = before.remove(&server.name) {
                peer.declare(server);
                self.peers.push(peer);
            } else if !self.removed.iter().any(|removed| removed.name == server.name) {
                let peer = self.newcomer(server.clone(), true);
                self.peers.push(peer);
            }
        }
        let room = MOST_PEERS.saturating_sub(self.peers.len());
        self.peers.extend(added.into_iter().take(room));
        self.declare_monitors(&spec.monitors);
        self.spec = UpstreamSpec { servers: Vec::new(), ..spec.clone() };
        rival
    }

    /// Declared monitors win where their declaration changed; those that were removed at run time stay removed, and those
    /// that were added stay.
    fn declare_monitors(&mut self, declared: &[MonitorSpec]) {
        let before = &self.spec.monitors;
        let mut monitors = Vec::new();
        let mut next = self.next_id;
        for monitor in declared {
            let known = self.monitors.iter().find(|known| known.id == monitor.id);
            match (before.contains(monitor), known) {
                // As it was declared before: what was put in its place at run time stays, and so does its absence.
                (true, known) => monitors.extend(known.cloned()),
                // Asked in another way, it goes on where it was.
                (false, Some(known)) if known.name == monitor.name => {
                    monitors.push(MonitorSpec { number: known.number, ..monitor.clone() });
                }
                (false, _) => {
                    monitors.push(MonitorSpec { number: next.0, ..monitor.clone() });
                    next = next.next();
                }
            }
        }
        for monitor in &self.monitors {
            let was_declared = before.iter().any(|known| known.id == monitor.id);
            let is_declared = declared.iter().any(|known| known.id == monitor.id);
            if !was_declared && !is_declared {
                monitors.push(monitor.clone());
            }
        }
        (self.monitors, self.next_id) = (monitors, next);
    }

    /// Adds a monitor.
    pub(crate) fn add_monitor(&mut self, monitor: MonitorSpec) -> Result<MonitorSpec, Error> {
        if self.monitors.iter().any(|known| known.id == monitor.id) {
            return Err(Error::MonitorExists(monitor.id));
        }
        if self.monitors.len() >= MOST_MONITORS {
            return Err(Error::TooManyMonitors(MOST_MONITORS));
        }
        let monitor = MonitorSpec { number: self.take_id().0, ..monitor };
        self.monitors.push(monitor.clone());
        Ok(monitor)
    }

    /// Removes the monitor of that id. What it found does not count any more.
    pub(crate) fn remove_monitor(&mut self, id: &str) -> Result<(), Error> {
        let found = self.monitors.iter().position(|monitor| monitor.id == id);
        self.monitors.remove(found.ok_or_else(|| Error::NoSuchMonitor(id.to_owned()))?);
        Ok(())
    }

    /// Adds a peer. It starts fresh, whatever an earlier one of its name was like.
    pub(crate) fn add(&mut self, server: Server) -> Result<PeerRecord, Error> {
        if self.peers.iter().any(|peer| peer.server.name == server.name) {
            return Err(Error::PeerExists(server.name));
        }
        if self.peers.len() >= MOST_PEERS {
            return Err(Error::TooManyPeers(MOST_PEERS));
        }
        let declared = self.removed.iter().position(|removed| removed.name == server.name);
        let declared = declared.map(|at| self.removed.remove(at));
        let peer = PeerRecord { declared, ..self.newcomer(server, false) };
        self.peers.push(peer.clone());
        Ok(peer)
    }

    /// Removes the peer of that name, and only if it has that id where one is given.
    pub(crate) fn remove(&mut self, name: &str, id: Option<PeerId>) -> Result<PeerRecord, Error> {
        let found = self.peers.iter().position(|peer| peer.server.name == name && id.is_none_or(|id| id == peer.id));
        let at = found.ok_or_else(|| Error::NoSuchPeer(name.to_owned()))?;
        let peer = self.peers.remove(at);
        if peer.configured || peer.declared.is_some() {
            self.removed.push(peer.declared.clone().unwrap_or_else(|| peer.server.clone()));
        }
        Ok(peer)
    }

    fn newcomer(&mut self, server: Server, configured: bool) -> PeerRecord {
        PeerRecord::new(self.take_id(), server, configured)
    }

    fn take_id(&mut self) -> PeerId {
        let id = self.next_id;
        self.next_id = id.next();
        id
    }
}
