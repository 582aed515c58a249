//! The filter JSON.
//!
//! [`Config::parse`] reads all of it or nothing, and reports every error with its place:
//! `upstreams.foo.servers[2].weight: expected an integer from 1 to 65535, found 0`. It is the same code in
//! the filter and in `durpina check`.
//!
//! Nothing is ignored: an unknown key is an error, and so is an option whose work is still to come.

mod admin;
mod changes;
mod envoy;
mod error;
mod json;
mod maps;
mod monitor;
mod nginx;
mod read;
mod resolver;
mod routes;
mod server;
mod tables;
mod upstream;

use std::collections::HashSet;
use std::rc::Rc;

use crate::host::{CalloutClusters, Capabilities, PeerHeaders};
use crate::model::access::AdminAccess;
use crate::model::spec::UpstreamSpec;
use crate::registry::Registry;
use crate::request::maps::Maps;
use crate::request::routes::{Route, Routes};

pub(crate) use changes::read_changes;
use error::Place;
pub use error::{ConfigError, ConfigErrors};
use json::Object;
pub(crate) use json::{parse_json, Json};
pub use monitor::parse_monitor;
pub(crate) use monitor::read_monitor;
pub use server::parse_server;
pub(crate) use server::read_server;

/// A filter's configuration.
#[derive(Debug)]
pub struct Config {
    /// The upstreams by name, in the order of the configuration.
    pub upstreams: Vec<(String, UpstreamSpec)>,
    /// Which requests go to which upstream.
    pub(crate) routes: Routes,
    /// Variables that it defines itself.
    pub(crate) maps: Rc<Maps>,
    /// Whether Envoy has an access log that reports failed attempts.
    pub(crate) reports: bool,
    /// Where Envoy finds the picked peers.
    pub(crate) peer_headers: PeerHeaders,
    /// What calls to servers are made through.
    pub(crate) clusters: CalloutClusters,
    /// The management API, if there is one.
    pub(crate) admin: Option<AdminAccess>,
    /// What is allowed, but probably not meant.
    pub warnings: Vec<ConfigError>,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, each error with its place.
    pub fn parse(text: &[u8], host: Capabilities, registry: &Registry) -> Result<Self, ConfigErrors> {
        let mut errors = ConfigErrors::default();
        let config = Self::read(text, host, registry, &mut errors);
        match config {
            Some(mut config) if errors.is_empty() => {
                config.warnings = errors.warnings().to_vec();
                Ok(config)
            }
            _ => Err(errors),
        }
    }

    /// How many routes there are.
    #[must_use]
    pub fn route_count(&self) -> usize {
        self.routes.len()
    }

    fn read(text: &[u8], host: Capabilities, registry: &Registry, errors: &mut ConfigErrors) -> Option<Self> {
        let root = Place::ROOT;
        if text.trim_ascii().is_empty() {
            errors.say(&root, "expected a JSON object, found nothing");
            return None;
        }
        for error in registry.errors() {
            errors.say(&root, error.to_string());
        }
        let json = json::parse(&root, text, errors)?;
        let mut object = Object::open(&root, &json, "a JSON object", errors)?;
        let upstreams = object.get("upstreams");
        let routes = object.get("routes");
        let upstream = object.get("upstream");
        let resolver = object.get("resolver");
        let ipv6 = object.get("resolver_ipv6");
        let default_port = object.get("default_port");
        let admin = object.get("admin");
        let envoy = object.get("envoy");
        let nginx = object.get("nginx");
        let maps = object.get("maps");
        object.close(None, errors);

        let at = root.key("default_port");
        let default_port = default_port.and_then(|value| read::integer(&at, value, 1..=65535, errors)).unwrap_or(80);
        let resolver = resolver.map(|value| resolver::resolver(&root.key("resolver"), value, errors));
        let resolver = resolver.unwrap_or_default();
        let resolve_ipv6 =
            ipv6.and_then(|value| read::boolean(&root.key("resolver_ipv6"), value, errors)).unwrap_or(true);
        let names = maps::Names { maps, routes };
        let maps = maps.map(|value| maps::maps(&root.key("maps"), value, names, errors)).unwrap_or_default();
        let maps = Rc::new(maps);
        let (host_resolves, host_has_clusters) = (host.resolves_names, host.has_clusters);
        let resolver = resolver.as_slice();
        let scope = upstream::Scope { registry, resolver, resolve_ipv6, host_resolves, host_has_clusters, names };
        let at = root.key("upstreams");
        let upstreams = upstreams.map(|value| upstream::upstreams(&at, value, default_port, scope, errors));
        let mut upstreams = upstreams.unwrap_or_default();
        tables::fit(&at, &mut upstreams, registry, errors);

        let known: HashSet<&str> = upstreams.iter().map(|(name, _)| name.as_str()).collect();
        let at = root.key("routes");
        let mut table = routes.map(|value| routes::routes(&at, value, &known, &maps, errors)).unwrap_or_default();
        if let Some(value) = upstream {
            let at = root.key("upstream");
            if routes.is_some() {
                errors.say(&at, "expected either \"upstream\" or \"routes\", found both");
            }
            table.extend(routes::target(&at, value, None, &known, &maps, errors).map(Route::to));
        }
        let admin = admin.and_then(|value| admin::admin(&root.key("admin"), value, errors));
        let at = root.key("envoy");
        let envoy::Envoy { mut clusters, peer_headers, reports } =
            envoy.map(|value| envoy::envoy(&at, value, errors)).unwrap_or_default();
        let helper = nginx.and_then(|value| nginx::nginx(&root.key("nginx"), value, errors));
        if !host_has_clusters {
            clusters = CalloutClusters { probe: String::new(), grpc: String::new(), tcp: helper.unwrap_or_default() };
        }
        let routes = Routes::new(table);
        Some(Self { upstreams, routes, maps, reports, peer_headers, clusters, admin, warnings: Vec::new() })
    }
}

#[cfg(test)]
mod tests;
