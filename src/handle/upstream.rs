//! The handle of an upstream, with the predecessor's methods.

use std::fmt;

use serde::Serialize;

use crate::config::{self, Json};
use crate::handle::peer::Peer;
use crate::model::ejection::Assessment;
use crate::model::error::Error;
use crate::model::failure_table::FailureTable;
use crate::model::peer::PeerRecord;
use crate::model::selector::Selector;
use crate::model::server::{Endpoint, Server};
use crate::model::spec::{MonitorSpec, UpstreamSpec};
use crate::model::status::Status;
use crate::model::upstream::Record;
use crate::model::upstream_state::Tally;
use crate::model::verdict::effective_state;
use crate::registry::Registry;
use crate::store::journal::{self, Author};
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
    author: Author,
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
        Ok(Some(Self { store, registry: registry.clone(), author: Author::Script, record, health, status }))
    }

    /// The same handle in somebody's name.
    pub(crate) fn by(self, author: Author) -> Self {
        Self { author, ..self }
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// What a configuration declares of it, apart from its servers.
    pub(crate) fn spec(&self) -> &UpstreamSpec {
        &self.record.spec
    }

    /// Counts the changes to the upstream.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.record.revision
    }

    /// The peer of that name, if there is one. Written in another way than the normal one, `[0::1]` for `[::1]:80`, it is the same
    /// peer.
    #[must_use]
    pub fn get_peer(&self, name: &str) -> Option<Peer<'h>> {
        let named = |name: &str| self.record.peers.iter().find(|peer| peer.server.name == name);
        let normal = || Endpoint::parse(name, self.record.spec.default_port).ok();
        named(name).or_else(|| named(&normal()?.to_string())).map(|record| self.peer(record))
    }

    /// The peers that are meant by `selector`.
    #[must_use]
    pub fn get_peers(&self, selector: Selector) -> Vec<Peer<'h>> {
        let peers = self.record.peers.iter().map(|record| self.peer(record));
        peers.filter(|peer| selector.matches(peer.state())).collect()
    }

    fn peer(&self, record: &PeerRecord) -> Peer<'h> {
        Peer {
            store: self.store,
            registry: self.registry.clone(),
            author: self.author,
            upstream: self.record.name.clone(),
            record: record.clone(),
            failures: self.health.of(record),
            status: self.status.of(record.id).cloned(),
        }
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
        let (record, added) = self.store.update_record(&self.record.name, |record| {
            let added = record.add(server.clone())?;
            Ok((record.clone(), added))
        })?;
        self.record = record;
        self.status = self.store.status(&self.record)?;
        self.log(&format_args!("peer={} added", added.server.name));
        self.store.reconcile_state(&self.record.name, None);
        Ok(self.peer(&added))
    }

    /// Removes a peer. One that was added under the same name since the handle was made is left alone.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchPeer`], and what stands in the way of the change. Then nothing has changed.
    pub fn remove_peer(&mut self, peer: &Peer<'_>) -> Result<(), Error> {
        self.record = self.store.update_record(&self.record.name, |record| {
            record.remove(peer.name(), Some(peer.record.id))?;
            Ok(record.clone())
        })?;
        self.log(&format_args!("peer={} removed", peer.name()));
        self.store.reconcile_state(&self.record.name, None);
        Ok(())
    }

    /// The monitors.
    #[must_use]
    pub fn monitors(&self) -> &[MonitorSpec] {
        &self.record.monitors
    }

    /// Adds a monitor: its name, and its options as in a configuration, a JSON object such as `{"interval": "1s"}`; an empty text
    /// for none.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] with all that is wrong with it, [`Error::MonitorExists`], and what stands in the way of
    /// the change. Then nothing has changed.
    pub fn add_monitor(&mut self, name: &str, options: &str) -> Result<MonitorSpec, Error> {
        let invalid = |errors: config::ConfigErrors| Error::Invalid(errors.to_string());
        let options = if options.trim().is_empty() { "{}" } else { options };
        let mut options = config::parse_json(options.as_bytes()).map_err(invalid)?;
        if let Json::Object(entries) = &mut options {
            entries.retain(|(key, _)| key != "name");
            entries.push(("name".to_owned(), Json::String(name.to_owned())));
        }
        let monitor = config::read_monitor(&options, &self.registry).map_err(invalid)?;
        self.add(monitor)
    }

    /// Adds a monitor.
    pub(crate) fn add(&mut self, monitor: MonitorSpec) -> Result<MonitorSpec, Error> {
        let (record, added) = self.store.update_record(&self.record.name, |record| {
            let added = record.add_monitor(monitor.clone())?;
            Ok((record.clone(), added))
        })?;
        self.record = record;
        self.log(&format_args!("monitor={} added", added.id));
        Ok(added)
    }

    /// Removes the monitor of that id, and its verdicts.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchMonitor`], and what stands in the way of the change. Then nothing has changed.
    pub fn remove_monitor(&mut self, id: &str) -> Result<(), Error> {
        let (record, status, health) = self.store.update_record(&self.record.name, |record| {
            let (status, health) = (self.store.status(record)?, self.store.health(&record.name)?);
            record.remove_monitor(id)?;
            Ok((record.clone(), status, health))
        })?;
        self.log(&format_args!("monitor={id} removed"));
        let now = self.store.now();
        let mut left = status.clone();
        left.restrict(&record);
        let why = format!("monitor {id} is removed");
        for peer in &record.peers {
            let state = |status: &Status| effective_state(peer, &health.of(peer), status.of(peer.id), now).state;
            let change = [state(&status), state(&left)];
            journal::report(&record.name, &peer.server.name, change, self.author.name(), &why, None);
        }
        self.store.reconcile_state(&record.name, None);
        (self.record, self.status, self.health) = (record, left, health);
        Ok(())
    }

    fn log(&self, what: &dyn fmt::Display) {
        journal::order(self.author, &self.record.name, what);
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
            state: &'static str,
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
            in_use: bool,
        }
        let now = self.store.now();
        let assessment = Assessment::of(&self.record, &self.health, &self.status, now);
        let state = Tally::of(&self.record, &assessment, now).state.name();
        let peers =
            self.get_peers(Selector::All).into_iter().zip(&assessment.peers).map(|(peer, (_, usage))| PeerInfo {
                name: peer.name().to_owned(),
                address: peer.get_address().ok(),
                weight: peer.get_weight(),
                state: peer.state().name(),
                in_use: usage.is_in_use(),
            });
        let monitors = self.record.monitors.iter();
        let monitors = monitors.map(|monitor| MonitorInfo { id: &monitor.id, name: &monitor.name }).collect();
        let info = Info { name: self.name(), revision: self.revision(), peers: peers.collect(), monitors, state };
        serde_json::to_string(&info).unwrap_or_default()
    }
}

impl<'h> Peer<'h> {
    /// The upstream that the peer is of.
    ///
    /// # Errors
    ///
    /// As for [`Upstream::get`].
    pub fn get_upstream(&self) -> Result<Option<Upstream<'h>>, Error> {
        let upstream = Upstream::get(self.store, &self.registry, &self.upstream)?;
        Ok(upstream.map(|upstream| upstream.by(self.author)))
    }
}
