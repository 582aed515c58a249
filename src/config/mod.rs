//! The filter JSON.
//!
//! [`Config::parse`] reads all of it or nothing, and reports every error with its place:
//! `upstreams.foo.servers[2].weight: expected an integer from 1 to 65535, found 0`. It is the same code in
//! the filter and in `durpina check`.
//!
//! Nothing is ignored: an unknown key is an error, and so is an option whose work is still to come.

mod json;
mod monitor;
mod problem;
mod read;
mod server;
mod upstream;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use regex_lite::RegexBuilder;

pub use problem::{Problem, Problems};
pub use upstream::{BalancerConfig, UpstreamConfig};

use crate::host::Gateways;
use crate::monitor::MonitorConfig;
use crate::peer::{Changes, Order};
use crate::route::{Route, Routes};
use crate::server::{parse_port, Server};
use crate::time::Timestamp;
pub(crate) use json::Json;
use json::Object;
use problem::{quoted, Place};

/// Names of upstreams are keys of shared data, words of log lines and parts of URLs.
const LONGEST_NAME: usize = 255;
/// The most upstreams, and the most routes, of one configuration.
const MOST: usize = 10_000;

/// What the host that a configuration is for can do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capabilities {
    /// Whether it resolves host names by itself.
    pub resolves_names: bool,
}

/// A filter's configuration.
#[derive(Debug)]
pub struct Config {
    /// The upstreams by name, in the order of the configuration.
    pub upstreams: Vec<(String, UpstreamConfig)>,
    /// Which requests go to which upstream.
    pub routes: Routes,
    /// Whether Envoy has an access log that reports failed attempts.
    pub reports: bool,
    /// What calls to servers are made through.
    pub gateways: Gateways,
    /// The management API, if there is one.
    pub admin: Option<AdminConfig>,
    /// What is allowed, but probably not meant.
    pub warnings: Vec<Problem>,
}

impl Config {
    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// All that is wrong with it, each error with its place.
    pub fn parse(text: &[u8], host: Capabilities) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let config = Self::read(text, host, &mut problems);
        match config {
            Some(mut config) if problems.is_empty() => {
                config.warnings = problems.warnings().to_vec();
                Ok(config)
            }
            _ => Err(problems),
        }
    }

    fn read(text: &[u8], host: Capabilities, problems: &mut Problems) -> Option<Self> {
        let root = Place::ROOT;
        if text.trim_ascii().is_empty() {
            problems.say(&root, "expected a JSON object, found nothing");
            return None;
        }
        let json: Json = match serde_json::from_slice(text) {
            Ok(json) => json,
            Err(error) => {
                problems.say(&root, format!("not valid JSON: {error}"));
                return None;
            }
        };
        let mut object = Object::open(&root, &json, "a JSON object", problems)?;
        let upstreams = object.get("upstreams");
        let routes = object.get("routes");
        let upstream = object.get("upstream");
        let resolver = object.get("resolver");
        let default_port = object.get("default_port");
        let admin = object.get("admin");
        let envoy = object.get("envoy");
        object.close(None, problems);

        let at = root.key("default_port");
        let default_port = default_port.and_then(|value| read::integer(&at, value, 1..=65535, problems)).unwrap_or(80);
        let resolver = resolver.map(|value| read_resolver(&root.key("resolver"), value, problems)).unwrap_or_default();
        let names = upstream::Names { resolver: &resolver, host_resolves: host.resolves_names };
        let upstreams =
            upstreams.map(|value| read_upstreams(&root.key("upstreams"), value, default_port, names, problems));
        let upstreams = upstreams.unwrap_or_default();

        let known: HashSet<&str> = upstreams.iter().map(|(name, _)| name.as_str()).collect();
        let at = root.key("routes");
        let mut table = routes.map(|value| read_routes(&at, value, &known, problems)).unwrap_or_default();
        if let Some(value) = upstream {
            let at = root.key("upstream");
            if routes.is_some() {
                problems.say(&at, "expected either \"upstream\" or \"routes\", found both");
            }
            table.extend(read_target(&at, value, 0, &known, problems).map(Route::to));
        }
        let admin = admin.and_then(|value| read_admin(&root.key("admin"), value, problems));
        let mut gateways = Gateways::default();
        let at = root.key("envoy");
        let reports = envoy.is_some_and(|value| read_envoy(&at, value, &mut gateways, problems));
        Some(Self { upstreams, routes: Routes::new(table), reports, gateways, admin, warnings: Vec::new() })
    }
}

fn read_upstreams(
    at: &Place<'_>,
    value: &Json,
    default_port: u16,
    names: upstream::Names,
    problems: &mut Problems,
) -> Vec<(String, UpstreamConfig)> {
    let Some(object) = Object::open(at, value, "an object of upstreams by name", problems) else { return Vec::new() };
    if object.entries().len() > MOST {
        problems.expected(at, format_args!("at most {MOST} upstreams"), object.entries().len());
        return Vec::new();
    }
    let mut upstreams = Vec::new();
    for (name, value) in object.entries() {
        let place = at.key(name);
        // Paths with . and .. in them mean something else.
        if matches!(name.as_str(), "" | "." | "..") || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
            problems.expected(&place, "a name of 1 to 255 bytes without control characters", quoted(name));
        }
        if let Some(upstream) = upstream::upstream(&place, value, default_port, names, problems) {
            upstreams.push((name.clone(), upstream));
        }
    }
    upstreams
}

fn read_routes(at: &Place<'_>, value: &Json, known: &HashSet<&str>, problems: &mut Problems) -> Vec<Route> {
    let Json::Array(items) = value else {
        problems.expected(at, "an array of routes", value);
        return Vec::new();
    };
    if items.len() > MOST {
        problems.expected(at, format_args!("at most {MOST} routes"), items.len());
        return Vec::new();
    }
    let route = |(index, item)| read_route(&at.index(index), item, known, problems);
    items.iter().enumerate().filter_map(route).collect()
}

fn read_route(at: &Place<'_>, value: &Json, known: &HashSet<&str>, problems: &mut Problems) -> Option<Route> {
    let mut object = Object::open(at, value, "a route", problems)?;
    let prefix = read_text(at, "prefix", "the beginning of a path", &mut object, problems);
    let path = read_text(at, "path", "a path", &mut object, problems);
    for (path, place) in [&prefix, &path].into_iter().flatten() {
        if !path.starts_with('/') || path.contains('?') {
            problems.expected(place, "a path that starts with / and has no query", quoted(path));
        }
    }
    let regex = read_text(at, "regex", "a regular expression", &mut object, problems);
    let regex = regex.and_then(|(pattern, place)| {
        // The default size limit bounds what a pattern can cost; so does the time, which is linear.
        let built = RegexBuilder::new(pattern).build();
        built.map_err(|error| problems.say(&place, format!("not a regular expression: {error}"))).ok()
    });
    let host = read_text(at, "host", "a host name", &mut object, problems);
    let host = host.and_then(|(host, place)| {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let parsed = crate::server::Host::parse(bare);
        parsed.map_err(|error| problems.say(&place, format!("{error} without a port, found {}", quoted(host)))).ok()?;
        Some(host.to_ascii_lowercase())
    });
    let method = read_text(at, "method", "a request method", &mut object, problems);
    if let Some((method, place)) = &method {
        // RFC 9110, section 9.1: a token, case-sensitive; the methods in use are in upper case.
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_') {
            problems.expected(place, "a request method in upper case", quoted(method));
        }
    }
    let upstream = object.get("upstream");
    object.close(None, problems);
    let Some(upstream) = upstream else {
        problems.say(at, "expected a route with an \"upstream\", found none");
        return None;
    };
    let groups = regex.as_ref().map_or(0, |regex| regex.captures_len().saturating_sub(1));
    let upstream = read_target(&at.key("upstream"), upstream, groups, known, problems)?;
    let owned = |text: Option<(&str, Place<'_>)>| text.map(|(text, _)| text.to_owned());
    Some(Route { prefix: owned(prefix), path: owned(path), regex, host, method: owned(method), upstream })
}

fn read_text<'p, 'j>(
    at: &'p Place<'p>,
    key: &'static str,
    what: &str,
    object: &mut Object<'_, 'j>,
    problems: &mut Problems,
) -> Option<(&'j str, Place<'p>)> {
    let place = at.key(key);
    let text = read::string(&place, object.get(key)?, what, problems)?;
    Some((text, place))
}

fn read_target(
    at: &Place<'_>,
    value: &Json,
    groups: usize,
    known: &HashSet<&str>,
    problems: &mut Problems,
) -> Option<crate::template::Template> {
    let target = read::template(at, value, "the name of an upstream", problems)?;
    if let Some(name) = target.as_literal() {
        if name.is_empty() {
            problems.expected(at, "the name of an upstream", value);
        } else if !known.contains(name) {
            let name = quoted(name);
            problems.warn(
                at,
                format!(
                    "no upstream {name} here; requests get 503 unless another filter in the same process defines it"
                ),
            );
        }
    }
    if target.highest_group() > groups {
        problems.expected(
            at,
            format_args!("variables up to ${groups}, the groups of the route's regex"),
            format_args!("${}", target.highest_group()),
        );
    }
    Some(target)
}

fn read_resolver(at: &Place<'_>, value: &Json, problems: &mut Problems) -> Vec<SocketAddr> {
    const WHAT: &str = "a name server as \"IP\" or \"IP:port\"";
    let mut servers = Vec::new();
    let mut one = |place: &Place<'_>, value: &Json| {
        if let Some(text) = read::string(place, value, WHAT, problems) {
            match name_server(text) {
                Some(server) => servers.push(server),
                None => problems.expected(place, WHAT, value),
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

/// What the management API is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// How its paths begin, without a slash at the end.
    pub prefix: String,
    /// What who may change something has to know. Without it nobody may.
    pub token: Option<String>,
    /// Whose requests are answered.
    pub allow: Vec<Network>,
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u16,
}

impl Network {
    /// Whether the address is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ours, theirs, width) = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => (u128::from(u32::from(ours)), u128::from(u32::from(theirs)), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (u128::from(ours), u128::from(theirs), 128),
            _ => return false,
        };
        // All bits shifted out means that all addresses are the same.
        let shift = |address: u128| address.checked_shr(width - u32::from(self.bits)).unwrap_or(0);
        shift(ours) == shift(theirs)
    }
}

fn read_admin(at: &Place<'_>, value: &Json, problems: &mut Problems) -> Option<AdminConfig> {
    let mut object = Object::open(at, value, "an object", problems)?;
    let mut config = AdminConfig { prefix: String::new(), token: None, allow: Vec::new() };
    let place = at.key("prefix");
    match object.get("prefix") {
        None => problems.say(&place, "expected a path such as \"/durpina\", found nothing"),
        Some(value) => {
            if let Some(prefix) = read::string(&place, value, "a path such as \"/durpina\"", problems) {
                let plain = prefix.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'%'));
                let dots = prefix.split('/').any(|step| matches!(step, "." | ".."));
                if !plain || dots || !prefix.starts_with('/') || prefix.ends_with('/') || prefix.contains("//") {
                    problems.expected(&place, "a path such as \"/durpina\", without a slash at its end", value);
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
            _ => problems.expected_secret(&at.key("token"), "a string of visible ASCII characters", value),
        }
    }
    config.allow = match object.get("allow") {
        Some(value) => read_networks(&at.key("allow"), value, problems),
        // Loopback.
        None => ["127.0.0.0/8", "::1"].into_iter().filter_map(network).collect(),
    };
    object.close(None, problems);
    Some(config)
}

fn read_networks(at: &Place<'_>, value: &Json, problems: &mut Problems) -> Vec<Network> {
    let Json::Array(items) = value else {
        problems.expected(at, "an array of networks", value);
        return Vec::new();
    };
    let mut networks = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        let Some(text) = read::string(&place, item, "a network", problems) else { continue };
        match network(text) {
            Some(network) => networks.push(network),
            None => problems.expected(&place, "a network such as \"10.0.0.0/8\" or \"::1\"", item),
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
fn read_envoy(at: &Place<'_>, value: &Json, gateways: &mut Gateways, problems: &mut Problems) -> bool {
    let Some(mut object) = Object::open(at, value, "an object", problems) else { return false };
    let access_log = object.get("access_log");
    for (key, slot) in [("probe_cluster", &mut gateways.probe), ("tcp_cluster", &mut gateways.tcp)] {
        let Some(value) = object.get(key) else { continue };
        let place = at.key(key);
        let Some(name) = read::string(&place, value, "the name of a cluster", problems) else { continue };
        if name.is_empty() || name.len() > 120 {
            problems.expected(&place, "the name of a cluster of 1 to 120 bytes", value);
        }
        name.clone_into(slot);
    }
    object.close(None, problems);
    access_log.and_then(|value| read::boolean(&at.key("access_log"), value, problems)).unwrap_or(false)
}

/// Reads one server outside a configuration: a string, in the grammar of nginx's `server` directive.
///
/// # Errors
///
/// All that is wrong with it. `Ok(None)` for the placeholder.
pub fn parse_server(text: &str, defaults: &Server, default_port: u16) -> Result<Option<Server>, Problems> {
    read_server(&Json::String(text.to_owned()), defaults, default_port)
}

/// Reads one server outside a configuration, from JSON.
pub(crate) fn read_server(json: &Json, defaults: &Server, default_port: u16) -> Result<Option<Server>, Problems> {
    let mut problems = Problems::default();
    let defaults = server::Defaults { port: default_port, server: defaults };
    let server = server::server(&Place::ROOT, json, &defaults, &mut problems);
    if problems.is_empty() {
        Ok(server)
    } else {
        Err(problems)
    }
}

/// Reads one monitor outside a configuration, as JSON.
///
/// # Errors
///
/// All that is wrong with it.
pub fn parse_monitor(text: &[u8]) -> Result<MonitorConfig, Problems> {
    read_monitor(&parse_json(text)?)
}

pub(crate) fn read_monitor(json: &Json) -> Result<MonitorConfig, Problems> {
    let mut problems = Problems::default();
    match monitor::monitor(&Place::ROOT, json, &mut problems) {
        Some(monitor) if problems.is_empty() => Ok(monitor),
        _ => Err(problems),
    }
}

pub(crate) fn parse_json(text: &[u8]) -> Result<Json, Problems> {
    serde_json::from_slice(text).map_err(|error| {
        let mut problems = Problems::default();
        problems.say(&Place::ROOT, format!("not valid JSON: {error}"));
        problems
    })
}

/// Reads changes of a peer: any of `weight`, `state`, `max_fails`, `fail_timeout`, `max_conns`, `slow_start`. The order's time
/// is left to who applies it.
pub(crate) fn read_changes(json: &Json) -> Result<Changes, Problems> {
    let mut problems = Problems::default();
    let root = Place::ROOT;
    let mut changes = Changes::default();
    if let Some(mut object) = Object::open(&root, json, "an object", &mut problems) {
        let mut server = Server::default();
        let mut changed = |key: &'static str, server: &mut Server| {
            let value = object.get(key)?;
            server::parameter(&root.key(key), key, value, server, &mut problems);
            Some(())
        };
        changes.weight = changed("weight", &mut server).map(|()| server.weight);
        changes.max_fails = changed("max_fails", &mut server).map(|()| server.max_fails);
        changes.fail_timeout = changed("fail_timeout", &mut server).map(|()| server.fail_timeout);
        changes.max_conns = changed("max_conns", &mut server).map(|()| server.max_conns);
        changes.slow_start = changed("slow_start", &mut server).map(|()| server.slow_start);
        if let Some(value) = object.get("state") {
            let order = read::word(&root.key("state"), value, Order::NAMES, &mut problems);
            changes.order = order.map(|order| (order, Timestamp::default()));
        }
        object.close(None, &mut problems);
    }
    if problems.is_empty() {
        Ok(changes)
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests;
