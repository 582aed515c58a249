//! Upstreams: named groups of peers that serve the same requests.
//!
//! - [`Record`] is an upstream in shared data: what was declared, and what was changed since. How a new
//!   configuration and run-time changes go together is decided there.
//! - `View` is a worker's copy of it with a pool to pick from.
//! - [`Upstream`] is the handle that scripts use, with the predecessor's methods.

mod record;
mod view;

pub(crate) use record::Declaration;
pub use record::{Record, MOST_MONITORS, MOST_PEERS};
pub(crate) use view::View;

use serde::Serialize;

use crate::config;
use crate::health::Health;
use crate::monitor::MonitorConfig;
use crate::peer::{Peer, Selector};
use crate::server::Server;
use crate::status::Status;
use crate::store::{Store, StoreError};

/// A server to add: a text in the grammar of nginx's `server` directive, or its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerSpec {
    /// Such as `localhost:8080 weight=7`.
    Directive(String),
    /// The parameters; the name is `host:port` or `host`.
    Parameters(Server),
}

impl From<&str> for ServerSpec {
    fn from(text: &str) -> Self {
        Self::Directive(text.to_owned())
    }
}

impl From<Server> for ServerSpec {
    fn from(server: Server) -> Self {
        Self::Parameters(server)
    }
}

/// An upstream, as it was when it was asked for, and the means to change it.
///
/// The changes are made in shared data, for all workers.
pub struct Upstream<'h> {
    store: Store<'h>,
    record: Record,
    health: Health,
    status: Status,
}

impl<'h> Upstream<'h> {
    /// The upstream of that name, if there is one.
    ///
    /// # Errors
    ///
    /// What stands in the way of reading it.
    pub fn get(store: Store<'h>, name: &str) -> Result<Option<Self>, StoreError> {
        let Some((record, _)) = store.record(name)? else { return Ok(None) };
        let (health, status) = (store.health(name)?, store.status(&record)?);
        Ok(Some(Self { store, record, health, status }))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Counts the changes to the upstream.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.record.revision
    }

    /// The peer of that name, if there is one.
    #[must_use]
    pub fn get_peer(&self, name: &str) -> Option<Peer<'h>> {
        self.get_peers(Selector::All).into_iter().find(|peer| peer.name() == name)
    }

    /// The peers that are meant by `selector`.
    #[must_use]
    pub fn get_peers(&self, selector: Selector) -> Vec<Peer<'h>> {
        let peers = self.record.peers.iter().map(|record| Peer {
            store: self.store,
            upstream: self.record.name.clone(),
            record: record.clone(),
            failures: self.health.of(record.id),
            status: self.status.of(record.id).cloned(),
        });
        peers.filter(|peer| selector.matches(peer.state())).collect()
    }

    /// Adds a peer.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] with all that is wrong with the server, [`StoreError::PeerExists`], and what stands in
    /// the way of the change. Then nothing has changed.
    pub fn add_peer(&mut self, server: impl Into<ServerSpec>) -> Result<Peer<'h>, StoreError> {
        let invalid = |problems: config::Problems| StoreError::Invalid(problems.to_string());
        let config = &self.record.config;
        let server = match server.into() {
            ServerSpec::Directive(text) => {
                config::parse_server(&text, &config.server_defaults, config.default_port).map_err(invalid)?
            }
            ServerSpec::Parameters(server) => {
                // The name, the one thing that a type does not make right, is read as if it were written.
                let named =
                    config::parse_server(&server.name, &Server::default(), config.default_port).map_err(invalid)?;
                if server.weight == 0 {
                    return Err(StoreError::Invalid("weight: expected an integer from 1 to 65535, found 0".to_owned()));
                }
                named.map(|named| Server { name: named.name, ..server })
            }
        };
        let server = server.ok_or_else(|| StoreError::Invalid("0.0.0.0 is a placeholder, not a server".to_owned()))?;
        let is_literal = server.endpoint().and_then(|endpoint| endpoint.literal()).is_some();
        if !is_literal && config.resolver.is_empty() && !self.store.host().resolves_names() {
            return Err(StoreError::Invalid(format!(
                "expected an IP address, or a \"resolver\" for host names, found {:?}",
                server.name
            )));
        }
        let name = self.record.name.clone();
        let record = self.store.update_record(&name, |record| {
            let peer = record.add(server.clone())?;
            self.record = record.clone();
            Ok(peer)
        })?;
        self.status = self.store.status(&self.record)?;
        let status = self.status.of(record.id).cloned();
        Ok(Peer { store: self.store, upstream: name, record, failures: Default::default(), status })
    }

    /// Removes a peer. One that was added under the same name since the handle was made is left alone.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchPeer`], and what stands in the way of the change. Then nothing has changed.
    pub fn remove_peer(&mut self, peer: &Peer<'_>) -> Result<(), StoreError> {
        let name = self.record.name.clone();
        self.store.update_record(&name, |record| {
            record.remove(peer.name(), Some(peer.record.id))?;
            self.record = record.clone();
            Ok(())
        })
    }

    /// The monitors.
    #[must_use]
    pub fn monitors(&self) -> &[MonitorConfig] {
        &self.record.monitors
    }

    /// Adds a monitor: its name, and its options as in a configuration.
    ///
    /// # Errors
    ///
    /// [`StoreError::Invalid`] with all that is wrong with it, [`StoreError::MonitorExists`], and what stands in the way of
    /// the change. Then nothing has changed.
    pub fn add_monitor(&mut self, name: &str, mut options: serde_json::Value) -> Result<MonitorConfig, StoreError> {
        if let Some(options) = options.as_object_mut() {
            options.insert("name".to_owned(), name.into());
        }
        let monitor = config::parse_monitor(options.to_string().as_bytes())
            .map_err(|problems| StoreError::Invalid(problems.to_string()))?;
        self.add(monitor)
    }

    pub(crate) fn add(&mut self, monitor: MonitorConfig) -> Result<MonitorConfig, StoreError> {
        let name = self.record.name.clone();
        self.store.update_record(&name, |record| {
            record.add_monitor(monitor.clone())?;
            self.record = record.clone();
            Ok(monitor.clone())
        })
    }

    /// Removes the monitor of that id, and its verdicts.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoSuchMonitor`], and what stands in the way of the change. Then nothing has changed.
    pub fn remove_monitor(&mut self, id: &str) -> Result<(), StoreError> {
        self.record = self.store.remove_monitor(&self.record.name, id)?;
        Ok(())
    }

    /// A JSON document of the upstream's state.
    #[must_use]
    pub fn info(&self) -> String {
        #[derive(Serialize)]
        struct Info<'u> {
            name: &'u str,
            revision: u64,
            peers: Vec<PeerInfo>,
            monitors: Vec<MonitorInfo<'u>>,
        }
        #[derive(Serialize)]
        struct MonitorInfo<'u> {
            id: &'u str,
            name: &'u str,
        }
        #[derive(Serialize)]
        struct PeerInfo {
            name: String,
            address: Option<String>,
            weight: u16,
            state: &'static str,
        }
        let peers = self.get_peers(Selector::All).into_iter().map(|peer| PeerInfo {
            name: peer.name().to_owned(),
            address: peer.get_address().ok(),
            weight: peer.get_weight(),
            state: peer.state().name(),
        });
        let monitors = self.record.monitors.iter();
        let monitors = monitors.map(|monitor| MonitorInfo { id: &monitor.id, name: &monitor.name }).collect();
        let info = Info { name: self.name(), revision: self.revision(), peers: peers.collect(), monitors };
        serde_json::to_string(&info).unwrap_or_default()
    }
}
