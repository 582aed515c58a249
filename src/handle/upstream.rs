//! Upstreams: named groups of peers that serve the same requests.
//!
//! - [`Record`] is an upstream in shared data: what was declared, and what was changed since. How a new
//!   configuration and run-time changes go together is decided there.
//! - `View` is a worker's copy of it with a pool to pick from.
//! - [`Upstream`] is the handle that scripts use, with the predecessor's methods.

use crate::model::upstream::Record;
use crate::registry::Registry;
use serde::Serialize;

use crate::config;
use crate::handle::peer::Peer;
use crate::model::error::Error;
use crate::model::failure_table::FailureTable;
use crate::model::selector::Selector;
use crate::model::server::Server;
use crate::model::spec::MonitorSpec;
use crate::model::status::Status;
use crate::store::Store;

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
    registry: Registry,
    record: Record,
    health: FailureTable,
    status: Status,
}

impl<'h> Upstream<'h> {
    /// The upstream of that name, if there is one.
    ///
    /// # Errors
    ///
    /// What stands in the way of reading it.
    pub fn get(store: Store<'h>, registry: &Registry, name: &str) -> Result<Option<Self>, Error> {
        let Some((record, _)) = store.record(name)? else { return Ok(None) };
        let (health, status) = (store.health(name)?, store.status(&record)?);
        Ok(Some(Self { store, registry: registry.clone(), record, health, status }))
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
            registry: self.registry.clone(),
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
    /// [`Error::Invalid`] with all that is wrong with the server, [`Error::PeerExists`], and what stands in
    /// the way of the change. Then nothing has changed.
    pub fn add_peer(&mut self, server: impl Into<ServerSpec>) -> Result<Peer<'h>, Error> {
        let invalid = |errors: config::ConfigErrors| Error::Invalid(errors.to_string());
        let config = &self.record.spec;
        let server = match server.into() {
            ServerSpec::Directive(text) => {
                config::parse_server(&text, &config.server_defaults, config.default_port).map_err(invalid)?
            }
            ServerSpec::Parameters(server) => {
                // The name, the one thing that a type does not make right, is read as if it were written.
                let named =
                    config::parse_server(&server.name, &Server::default(), config.default_port).map_err(invalid)?;
                if server.weight == 0 {
                    return Err(Error::Invalid("weight: expected an integer from 1 to 65535, found 0".to_owned()));
                }
                named.map(|named| Server { name: named.name, ..server })
            }
        };
        let server = server.ok_or_else(|| Error::Invalid("0.0.0.0 is a placeholder, not a server".to_owned()))?;
        let is_literal = server.endpoint().and_then(|endpoint| endpoint.literal()).is_some();
        if !is_literal && config.resolver.is_empty() && !self.store.host().capabilities().resolves_names {
            return Err(Error::Invalid(format!(
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
        Ok(Peer {
            store: self.store,
            registry: self.registry.clone(),
            upstream: name,
            record,
            failures: Default::default(),
            status,
        })
    }

    /// Removes a peer. One that was added under the same name since the handle was made is left alone.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPeer`], and what stands in the way of the change. Then nothing has changed.
    pub fn remove_peer(&mut self, peer: &Peer<'_>) -> Result<(), Error> {
        let name = self.record.name.clone();
        self.store.update_record(&name, |record| {
            record.remove(peer.name(), Some(peer.record.id))?;
            self.record = record.clone();
            Ok(())
        })
    }

    /// The monitors.
    #[must_use]
    pub fn monitors(&self) -> &[MonitorSpec] {
        &self.record.monitors
    }

    /// Adds a monitor: its name, and its options as in a configuration.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with all that is wrong with it, [`Error::MonitorExists`], and what stands in the way of
    /// the change. Then nothing has changed.
    pub fn add_monitor(&mut self, name: &str, mut options: serde_json::Value) -> Result<MonitorSpec, Error> {
        if let Some(options) = options.as_object_mut() {
            options.insert("name".to_owned(), name.into());
        }
        let monitor = config::parse_monitor(options.to_string().as_bytes(), &self.registry)
            .map_err(|errors| Error::Invalid(errors.to_string()))?;
        self.add(monitor)
    }

    pub(crate) fn add(&mut self, monitor: MonitorSpec) -> Result<MonitorSpec, Error> {
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
    /// [`Error::NoSuchMonitor`], and what stands in the way of the change. Then nothing has changed.
    pub fn remove_monitor(&mut self, id: &str) -> Result<(), Error> {
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
