//! Reading upstreams.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::json::{Json, Object};
use super::problem::{quoted, Place, Problems};
use super::{monitor, read, server};
use crate::balancer::{BALANCERS, PLANNED};
use crate::codes::StatusCodes;
use crate::server::{Host, Server};
use crate::template::Template;
use crate::upstream::MOST_PEERS;

/// How peers are picked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancerConfig {
    /// The balancer's name in the registry.
    pub name: String,
    /// What a hash balancer hashes.
    pub key: Option<Template>,
}

impl Default for BalancerConfig {
    fn default() -> Self {
        Self { name: "round-robin".to_owned(), key: None }
    }
}

/// An upstream as it was declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamConfig {
    /// The servers, without placeholders.
    pub servers: Vec<Server>,
    /// How peers are picked.
    pub balancer: BalancerConfig,
    /// How many further peers are offered to the host for the same request, 0 to 2.
    pub retries: u8,
    /// Answers that count as failures.
    pub fail_codes: StatusCodes,
    /// The parameters of servers that say nothing else.
    pub server_defaults: Server,
    /// The port of servers that name none.
    pub default_port: u16,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            balancer: BalancerConfig::default(),
            retries: 2,
            fail_codes: StatusCodes::default(),
            server_defaults: Server::default(),
            default_port: 80,
        }
    }
}

/// Whether host names can become addresses.
#[derive(Clone, Copy)]
pub(super) struct Names {
    pub(super) has_resolver: bool,
    pub(super) host_resolves: bool,
}

pub(super) fn upstream(
    at: &Place<'_>,
    value: &Json,
    default_port: u16,
    names: Names,
    problems: &mut Problems,
) -> Option<UpstreamConfig> {
    let mut object = Object::open(at, value, "an upstream", problems)?;
    let servers = object.get("servers");
    let balancer = object.get("balancer");
    let retries = object.get("retries");
    let monitors = object.get("monitors");
    let fail_codes = object.get("fail_codes");
    let server_defaults = object.get("server_defaults");
    object.close(None, problems);

    let mut config = UpstreamConfig { default_port, ..UpstreamConfig::default() };
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
    if let Some(value) = monitors {
        monitor::monitors(&at.key("monitors"), value, problems);
    }
    Some(config)
}

fn read_servers(
    at: &Place<'_>,
    value: &Json,
    config: &UpstreamConfig,
    names: Names,
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
            if !names.host_resolves && !names.has_resolver {
                problems.expected(
                    &place,
                    "an IP address (this proxy resolves no host names, and a \"resolver\" is not supported yet)",
                    quoted(name),
                );
            }
        }
        servers.push(server);
    }
    servers
}

fn read_balancer(at: &Place<'_>, value: &Json, problems: &mut Problems) -> Option<BalancerConfig> {
    let known = || BALANCERS.iter().map(|kind| kind.name);
    let name = match value {
        Json::Object(_) => {
            let mut object = Object::open(at, value, "a balancer", problems)?;
            let name = object.get("name");
            let key = object.get("key");
            object.close(None, problems);
            if let Some(value) = key {
                read::template(&at.key("key"), value, "a text with variables", problems);
            }
            let Some(name) = name else {
                problems.say(at, "expected a balancer with a \"name\", found none");
                return None;
            };
            let name_at = at.key("name");
            let name = balancer_name(&name_at, name, known(), problems)?;
            if key.is_some() && BALANCERS.iter().any(|kind| kind.name == name) {
                problems.say(&at.key("key"), format!("{name} hashes no key"));
            }
            name
        }
        other => balancer_name(at, other, known(), problems)?,
    };
    Some(BalancerConfig { name, key: None })
}

fn balancer_name<'a>(
    at: &Place<'_>,
    value: &Json,
    known: impl Iterator<Item = &'a str> + Clone,
    problems: &mut Problems,
) -> Option<String> {
    match value {
        Json::String(name) if known.clone().any(|kind| kind == name) => Some(name.clone()),
        Json::String(name) if PLANNED.contains(&name.as_str()) => {
            problems.unsupported(at, &format!("the balancer {}", quoted(name)));
            None
        }
        other => {
            problems.expected(at, read::one_of(known.chain(PLANNED.iter().copied())), other);
            None
        }
    }
}
