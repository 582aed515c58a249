//! Reading upstreams.

use std::collections::HashSet;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::json::{Json, Object};
use super::problem::{quoted, Place, Problems};
use super::{monitor, read, server};
use crate::balancer::{kind_named, KeySource, Kind, BALANCERS};
use crate::codes::StatusCodes;
use crate::monitor::MonitorConfig;
use crate::server::{Host, Server};
use crate::template::Template;
use crate::upstream::MOST_PEERS;

/// How peers are picked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BalancerConfig {
    /// The balancer's name in the registry.
    pub name: String,
    /// What a hash balancer hashes.
    pub key: Option<Template>,
    /// The most that a peer may have in flight, in relation to its fair share.
    pub bound: Option<f64>,
}

impl Default for BalancerConfig {
    fn default() -> Self {
        Self { name: "round-robin".to_owned(), key: None, bound: None }
    }
}

/// An upstream as it was declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpstreamConfig {
    /// The servers, without placeholders.
    pub servers: Vec<Server>,
    /// How peers are picked.
    pub balancer: BalancerConfig,
    /// How many further peers are offered to the host for the same request, 0 to 2.
    pub retries: u8,
    /// Answers that count as failures.
    pub fail_codes: StatusCodes,
    /// How many peers of a hundred may be out of use because of failures, 0 to 100.
    pub max_ejected_percent: u8,
    /// The parameters of servers that say nothing else.
    pub server_defaults: Server,
    /// The port of servers that name none.
    pub default_port: u16,
    /// The monitors.
    pub monitors: Vec<MonitorConfig>,
    /// The name servers, where durpina has to ask them: not where the host resolves names by itself.
    pub resolver: Vec<SocketAddr>,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            balancer: BalancerConfig::default(),
            retries: 2,
            fail_codes: StatusCodes::default(),
            max_ejected_percent: 50,
            server_defaults: Server::default(),
            default_port: 80,
            monitors: Vec::new(),
            resolver: Vec::new(),
        }
    }
}

/// How host names become addresses.
#[derive(Clone, Copy)]
pub(super) struct Names<'c> {
    pub(super) resolver: &'c [SocketAddr],
    pub(super) host_resolves: bool,
}

pub(super) fn upstream(
    at: &Place<'_>,
    value: &Json,
    default_port: u16,
    names: Names<'_>,
    problems: &mut Problems,
) -> Option<UpstreamConfig> {
    let mut object = Object::open(at, value, "an upstream", problems)?;
    let servers = object.get("servers");
    let balancer = object.get("balancer");
    let retries = object.get("retries");
    let monitors = object.get("monitors");
    let fail_codes = object.get("fail_codes");
    let max_ejected = object.get("max_ejected_percent");
    let server_defaults = object.get("server_defaults");
    object.close(None, problems);

    let resolver = if names.host_resolves { Vec::new() } else { names.resolver.to_vec() };
    let mut config = UpstreamConfig { default_port, resolver, ..UpstreamConfig::default() };
    if let Some(defaults) =
        server_defaults.and_then(|value| server::defaults(&at.key("server_defaults"), value, problems))
    {
        config.server_defaults = defaults;
    }
    if let Some(value) = servers {
        config.servers = read_servers(&at.key("servers"), value, &config, names, problems);
    }
    if let Some(balancer) = balancer.and_then(|value| read_balancer(&at.key("balancer"), value, problems)) {
        config.balancer = balancer;
    }
    if let Some(retries) = retries.and_then(|value| read::integer(&at.key("retries"), value, 0..=2, problems)) {
        config.retries = retries;
    }
    if let Some(codes) = fail_codes.and_then(|value| read::codes(&at.key("fail_codes"), value, problems)) {
        config.fail_codes = codes;
    }
    let place = at.key("max_ejected_percent");
    if let Some(percent) = max_ejected.and_then(|value| read::integer(&place, value, 0..=100, problems)) {
        config.max_ejected_percent = percent;
    }
    if let Some(value) = monitors {
        config.monitors = monitor::monitors(&at.key("monitors"), value, problems);
    }
    Some(config)
}

fn read_servers(
    at: &Place<'_>,
    value: &Json,
    config: &UpstreamConfig,
    names: Names<'_>,
    problems: &mut Problems,
) -> Vec<Server> {
    let Json::Array(items) = value else {
        problems.expected(at, "an array of servers", value);
        return Vec::new();
    };
    if items.len() > MOST_PEERS {
        problems.expected(at, format_args!("at most {MOST_PEERS} servers"), items.len());
        return Vec::new();
    }
    let defaults = server::Defaults { port: config.default_port, server: &config.server_defaults };
    let mut servers = Vec::new();
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        let Some(server) = server::server(&place, item, &defaults, problems) else { continue };
        if !seen.insert(server.name.clone()) {
            problems.say(&place, format!("two servers of the name {}", quoted(&server.name)));
        }
        let endpoint = server.endpoint();
        let unresolved = endpoint.as_ref().filter(|endpoint| endpoint.literal().is_none());
        if let Some(Host::Name(name)) = unresolved.map(|endpoint| &endpoint.host) {
            if !names.host_resolves && names.resolver.is_empty() {
                problems.expected(
                    &place,
                    "an IP address, or a \"resolver\" for host names (this proxy resolves none by itself)",
                    quoted(name),
                );
            }
        }
        servers.push(server);
    }
    servers
}

fn read_balancer(at: &Place<'_>, value: &Json, problems: &mut Problems) -> Option<BalancerConfig> {
    let mut config = BalancerConfig::default();
    let (mut key, mut bound) = (None, None);
    let kind = match value {
        Json::Object(_) => {
            let mut object = Object::open(at, value, "a balancer", problems)?;
            let name = object.get("name");
            key = object.get("key");
            bound = object.get("bound");
            object.close(None, problems);
            let Some(name) = name else {
                problems.say(at, "expected a balancer with a \"name\", found none");
                return None;
            };
            balancer_kind(&at.key("name"), name, problems)?
        }
        other => balancer_kind(at, other, problems)?,
    };
    config.name = kind.name.to_owned();
    match (kind.key, key) {
        (KeySource::Template, Some(value)) => {
            config.key = read::template(&at.key("key"), value, "a text with variables", problems);
        }
        (KeySource::Template, None) => {
            problems.say(at, format!("expected {} with a \"key\", found none", kind.name));
        }
        (KeySource::Client, Some(_)) => {
            problems.say(&at.key("key"), format!("{} hashes the client's address", kind.name))
        }
        (KeySource::Nothing, Some(_)) => problems.say(&at.key("key"), format!("{} hashes no key", kind.name)),
        (_, None) => {}
    }
    if let Some(value) = bound {
        let place = at.key("bound");
        config.bound = match value {
            Json::Number(number) => number.as_f64().filter(|bound| (1.0..=100.0).contains(bound) && *bound > 1.0),
            _ => None,
        };
        if config.bound.is_none() {
            problems.expected(&place, "a number above 1 and up to 100", value);
        } else if kind.key == KeySource::Nothing {
            problems.say(&place, format!("{} hashes no key, so there is nothing to bound", kind.name));
        }
    }
    Some(config)
}

fn balancer_kind(at: &Place<'_>, value: &Json, problems: &mut Problems) -> Option<&'static Kind> {
    let kind = match value {
        Json::String(name) => kind_named(name),
        _ => None,
    };
    if kind.is_none() {
        problems.expected(at, read::one_of(BALANCERS.iter().map(|kind| kind.name)), value);
    }
    kind
}
