//! The filter JSON.
//!
//! [`Config::parse`] reads all of it or nothing, and reports every error with its place:
//! `upstreams.foo.servers[2].weight: expected an integer from 1 to 65535, found 0`. It is the same code in
//! the filter and in `durpina check`.
//!
//! Nothing is ignored: an unknown key is an error, and so is an option whose work is still to come.

mod error;
mod json;
mod monitor;
mod read;
mod server;
mod tables;
mod upstream;

use crate::host::Capabilities;
use crate::model::access::AdminAccess;
use crate::model::access::Network;
use crate::model::server::ServerHost;
use crate::model::spec::UpstreamSpec;
use crate::registry::Registry;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use regex_lite::RegexBuilder;

pub use error::{ConfigError, ConfigErrors};

use crate::host::CalloutClusters;
use crate::model::peer::{AdminState, Overrides};
use crate::model::server::{parse_port, Server};
use crate::model::spec::MonitorSpec;
use crate::request::routes::{Route, Routes};
use crate::time::Timestamp;
use error::{quoted, Place};
pub(crate) use json::Json;
use json::Object;

/// Names of upstreams are keys of shared data, words of log lines and parts of URLs.
const LONGEST_NAME: usize = 255;
/// The most upstreams, and the most routes, of one configuration.
const MOST: usize = 10_000;

/// A filter's configuration.
#[derive(Debug)]
pub struct Config {
    /// The upstreams by name, in the order of the configuration.
    pub upstreams: Vec<(String, UpstreamSpec)>,
    /// Which requests go to which upstream.
    pub routes: Routes,
    /// Whether Envoy has an access log that reports failed attempts.
    pub reports: bool,
    /// What calls to servers are made through.
    pub clusters: CalloutClusters,
    /// The management API, if there is one.
    pub admin: Option<AdminAccess>,
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

    fn read(text: &[u8], host: Capabilities, registry: &Registry, errors: &mut ConfigErrors) -> Option<Self> {
        let root = Place::ROOT;
        if text.trim_ascii().is_empty() {
            errors.say(&root, "expected a JSON object, found nothing");
            return None;
        }
        let json: Json = match serde_json::from_slice(text) {
            Ok(json) => json,
            Err(error) => {
                errors.say(&root, format!("not valid JSON: {error}"));
                return None;
            }
        };
        let mut object = Object::open(&root, &json, "a JSON object", errors)?;
        let upstreams = object.get("upstreams");
        let routes = object.get("routes");
        let upstream = object.get("upstream");
        let resolver = object.get("resolver");
        let default_port = object.get("default_port");
        let admin = object.get("admin");
        let envoy = object.get("envoy");
        object.close(None, errors);

        let at = root.key("default_port");
        let default_port = default_port.and_then(|value| read::integer(&at, value, 1..=65535, errors)).unwrap_or(80);
        let resolver = resolver.map(|value| read_resolver(&root.key("resolver"), value, errors)).unwrap_or_default();
        let scope = upstream::Scope { registry, resolver: &resolver, host_resolves: host.resolves_names };
        let upstreams =
            upstreams.map(|value| read_upstreams(&root.key("upstreams"), value, default_port, scope, errors));
        let mut upstreams = upstreams.unwrap_or_default();
        tables::fit(&root.key("upstreams"), &mut upstreams, registry, errors);

        let known: HashSet<&str> = upstreams.iter().map(|(name, _)| name.as_str()).collect();
        let at = root.key("routes");
        let mut table = routes.map(|value| read_routes(&at, value, &known, errors)).unwrap_or_default();
        if let Some(value) = upstream {
            let at = root.key("upstream");
            if routes.is_some() {
                errors.say(&at, "expected either \"upstream\" or \"routes\", found both");
            }
            table.extend(read_target(&at, value, 0, &known, errors).map(Route::to));
        }
        let admin = admin.and_then(|value| read_admin(&root.key("admin"), value, errors));
        let mut clusters = CalloutClusters::default();
        let at = root.key("envoy");
        let reports = envoy.is_some_and(|value| read_envoy(&at, value, &mut clusters, errors));
        Some(Self { upstreams, routes: Routes::new(table), reports, clusters, admin, warnings: Vec::new() })
    }
}

fn read_upstreams(
    at: &Place<'_>,
    value: &Json,
    default_port: u16,
    scope: upstream::Scope<'_>,
    errors: &mut ConfigErrors,
) -> Vec<(String, UpstreamSpec)> {
    let Some(object) = Object::open(at, value, "an object of upstreams by name", errors) else { return Vec::new() };
    if object.entries().len() > MOST {
        errors.expected(at, format_args!("at most {MOST} upstreams"), object.entries().len());
        return Vec::new();
    }
    let mut upstreams = Vec::new();
    for (name, value) in object.entries() {
        let place = at.key(name);
        // Paths with . and .. in them mean something else.
        if matches!(name.as_str(), "" | "." | "..") || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            errors.expected(&place, "a name of 1 to 255 bytes without control characters", quoted(name));
        }
        if let Some(upstream) = upstream::upstream(&place, value, default_port, scope, errors) {
            upstreams.push((name.clone(), upstream));
        }
    }
    upstreams
}

fn read_routes(at: &Place<'_>, value: &Json, known: &HashSet<&str>, errors: &mut ConfigErrors) -> Vec<Route> {
    let Json::Array(items) = value else {
        errors.expected(at, "an array of routes", value);
        return Vec::new();
    };
    if items.len() > MOST {
        errors.expected(at, format_args!("at most {MOST} routes"), items.len());
        return Vec::new();
    }
    let route = |(index, item)| read_route(&at.index(index), item, known, errors);
    items.iter().enumerate().filter_map(route).collect()
}

fn read_route(at: &Place<'_>, value: &Json, known: &HashSet<&str>, errors: &mut ConfigErrors) -> Option<Route> {
    let mut object = Object::open(at, value, "a route", errors)?;
    let prefix = read_text(at, "prefix", "the beginning of a path", &mut object, errors);
    let path = read_text(at, "path", "a path", &mut object, errors);
    for (path, place) in [&prefix, &path].into_iter().flatten() {
        if !path.starts_with('/') || path.contains('?') {
            errors.expected(place, "a path that starts with / and has no query", quoted(path));
        }
    }
    let regex = read_text(at, "regex", "a regular expression", &mut object, errors);
    let regex = regex.and_then(|(pattern, place)| {
        // The default size limit bounds what a pattern can cost; so does the time, which is linear.
        let built = RegexBuilder::new(pattern).build();
        built.map_err(|error| errors.say(&place, format!("not a regular expression: {error}"))).ok()
    });
    let host = read_text(at, "host", "a host name", &mut object, errors);
    let host = host.and_then(|(host, place)| {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let parsed = ServerHost::parse(bare);
        parsed.map_err(|error| errors.say(&place, format!("{error} without a port, found {}", quoted(host)))).ok()?;
        Some(host.to_ascii_lowercase())
    });
    let method = read_text(at, "method", "a request method", &mut object, errors);
    if let Some((method, place)) = &method {
        // RFC 9110, section 9.1: a token, case-sensitive; the methods in use are in upper case.
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_') {
            errors.expected(place, "a request method in upper case", quoted(method));
        }
    }
    let upstream = object.get("upstream");
    object.close(None, errors);
    let Some(upstream) = upstream else {
        errors.say(at, "expected a route with an \"upstream\", found none");
        return None;
    };
    let groups = regex.as_ref().map_or(0, |regex| regex.captures_len().saturating_sub(1));
    let upstream = read_target(&at.key("upstream"), upstream, groups, known, errors)?;
    let owned = |text: Option<(&str, Place<'_>)>| text.map(|(text, _)| text.to_owned());
    Some(Route { prefix: owned(prefix), path: owned(path), regex, host, method: owned(method), upstream })
}

fn read_text<'p, 'j>(
    at: &'p Place<'p>,
    key: &'static str,
    what: &str,
    object: &mut Object<'_, 'j>,
    errors: &mut ConfigErrors,
) -> Option<(&'j str, Place<'p>)> {
    let place = at.key(key);
    let text = read::string(&place, object.get(key)?, what, errors)?;
    Some((text, place))
}

fn read_target(
    at: &Place<'_>,
    value: &Json,
    groups: usize,
    known: &HashSet<&str>,
    errors: &mut ConfigErrors,
) -> Option<crate::model::template::Template> {
    let target = read::template(at, value, "the name of an upstream", errors)?;
    if let Some(name) = target.as_literal() {
        if name.is_empty() {
            errors.expected(at, "the name of an upstream", value);
        } else if !known.contains(name) {
            let name = quoted(name);
            errors.warn(
                at,
                format!(
                    "no upstream {name} here; requests get 503 unless another filter in the same process defines it"
                ),
            );
        }
    }
    if target.highest_group() > groups {
        errors.expected(
            at,
            format_args!("variables up to ${groups}, the groups of the route's regex"),
            format_args!("${}", target.highest_group()),
        );
    }
    Some(target)
}

fn read_resolver(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Vec<SocketAddr> {
    const WHAT: &str = "a name server as \"IP\" or \"IP:port\"";
    let mut servers = Vec::new();
    let mut one = |place: &Place<'_>, value: &Json| {
        if let Some(text) = read::string(place, value, WHAT, errors) {
            match name_server(text) {
                Some(server) => servers.push(server),
                None => errors.expected(place, WHAT, value),
            }
        }
    };
    match value {
        Json::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(index, item)| one(&at.index(index), item));
        }
        other => one(at, other),
    }
    servers
}

fn name_server(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, 53));
    }
    // `SocketAddr::parse` would take port 0.
    let (_, port) = text.rsplit_once(':')?;
    parse_port(port)?;
    text.parse().ok()
}

fn read_admin(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Option<AdminAccess> {
    let mut object = Object::open(at, value, "an object", errors)?;
    let mut config = AdminAccess { prefix: String::new(), token: None, allow: Vec::new() };
    let place = at.key("prefix");
    match object.get("prefix") {
        None => errors.say(&place, "expected a path such as \"/durpina\", found nothing"),
        Some(value) => {
            if let Some(prefix) = read::string(&place, value, "a path such as \"/durpina\"", errors) {
                let plain = prefix.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'%'));
                let dots = prefix.split('/').any(|step| matches!(step, "." | ".."));
                if !plain || dots || !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains("//") {
                    errors.expected(&place, "a path such as \"/durpina\", without a slash at its end", value);
                }
                prefix.clone_into(&mut config.prefix);
            }
        }
    }
    if let Some(value) = object.get("token") {
        match value {
            Json::String(token) if !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic()) => {
                config.token = Some(token.clone());
            }
            _ => errors.expected_secret(&at.key("token"), "a string of visible ASCII characters", value),
        }
    }
    config.allow = match object.get("allow") {
        Some(value) => read_networks(&at.key("allow"), value, errors),
        // Loopback.
        None => ["127.0.0.0/8", "::1"].into_iter().filter_map(network).collect(),
    };
    object.close(None, errors);
    Some(config)
}

fn read_networks(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Vec<Network> {
    let Json::Array(items) = value else {
        errors.expected(at, "an array of networks", value);
        return Vec::new();
    };
    let mut networks = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        let Some(text) = read::string(&place, item, "a network", errors) else { continue };
        match network(text) {
            Some(network) => networks.push(network),
            None => errors.expected(&place, "a network such as \"10.0.0.0/8\" or \"::1\"", item),
        }
    }
    networks
}

fn network(text: &str) -> Option<Network> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits {
        Some(bits) => parse_bits(bits).filter(|bits| *bits <= width)?,
        None => width,
    };
    Some(Network { address, bits })
}

fn parse_bits(text: &str) -> Option<u16> {
    text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
}

/// Reads what concerns Envoy: the names of clusters, and whether its access log reports failed attempts.
fn read_envoy(at: &Place<'_>, value: &Json, clusters: &mut CalloutClusters, errors: &mut ConfigErrors) -> bool {
    let Some(mut object) = Object::open(at, value, "an object", errors) else { return false };
    let access_log = object.get("access_log");
    for (key, slot) in [("probe_cluster", &mut clusters.probe), ("tcp_cluster", &mut clusters.tcp)] {
        let Some(value) = object.get(key) else { continue };
        let place = at.key(key);
        let Some(name) = read::string(&place, value, "the name of a cluster", errors) else { continue };
        if name.is_empty() || name.len() > 120 {
            errors.expected(&place, "the name of a cluster of 1 to 120 bytes", value);
        }
        name.clone_into(slot);
    }
    object.close(None, errors);
    access_log.and_then(|value| read::boolean(&at.key("access_log"), value, errors)).unwrap_or(false)
}

/// Reads one server outside a configuration: a string, in the grammar of nginx's `server` directive.
///
/// # Errors
///
/// All that is wrong with it. `Ok(None)` for the placeholder.
pub fn parse_server(text: &str, defaults: &Server, default_port: u16) -> Result<Option<Server>, ConfigErrors> {
    read_server(&Json::String(text.to_owned()), defaults, default_port)
}

/// Reads one server outside a configuration, from JSON.
pub(crate) fn read_server(json: &Json, defaults: &Server, default_port: u16) -> Result<Option<Server>, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let defaults = server::Defaults { port: default_port, server: defaults };
    let server = server::server(&Place::ROOT, json, &defaults, &mut errors);
    if errors.is_empty() {
        Ok(server)
    } else {
        Err(errors)
    }
}

/// Reads one monitor outside a configuration, as JSON.
///
/// # Errors
///
/// All that is wrong with it.
pub fn parse_monitor(text: &[u8], registry: &Registry) -> Result<MonitorSpec, ConfigErrors> {
    read_monitor(&parse_json(text)?, registry)
}

pub(crate) fn read_monitor(json: &Json, registry: &Registry) -> Result<MonitorSpec, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    match monitor::monitor(&Place::ROOT, json, registry, &mut errors) {
        Some(monitor) if errors.is_empty() => Ok(monitor),
        _ => Err(errors),
    }
}

pub(crate) fn parse_json(text: &[u8]) -> Result<Json, ConfigErrors> {
    serde_json::from_slice(text).map_err(|error| {
        let mut errors = ConfigErrors::default();
        errors.say(&Place::ROOT, format!("not valid JSON: {error}"));
        errors
    })
}

/// Reads changes of a peer: any of `weight`, `state`, `max_fails`, `fail_timeout`, `max_conns`, `slow_start`. The order's time
/// is left to who applies it.
pub(crate) fn read_changes(json: &Json) -> Result<Overrides, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let root = Place::ROOT;
    let mut changes = Overrides::default();
    if let Some(mut object) = Object::open(&root, json, "an object", &mut errors) {
        let mut server = Server::default();
        let mut changed = |key: &'static str, server: &mut Server| {
            let value = object.get(key)?;
            server::parameter(&root.key(key), key, value, server, &mut errors);
            Some(())
        };
        changes.weight = changed("weight", &mut server).map(|()| server.weight);
        changes.max_fails = changed("max_fails", &mut server).map(|()| server.max_fails);
        changes.fail_timeout = changed("fail_timeout", &mut server).map(|()| server.fail_timeout);
        changes.max_conns = changed("max_conns", &mut server).map(|()| server.max_conns);
        changes.slow_start = changed("slow_start", &mut server).map(|()| server.slow_start);
        if let Some(value) = object.get("state") {
            let admin_state = read::word(&root.key("state"), value, AdminState::NAMES, &mut errors);
            changes.admin_state = admin_state.map(|state| (state, Timestamp::default()));
        }
        object.close(None, &mut errors);
    }
    if errors.is_empty() {
        Ok(changes)
    } else {
        Err(errors)
    }
}

#[cfg(test)]
mod tests;
