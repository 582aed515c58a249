//! Reading upstreams.

use crate::model::spec::{BalancerSpec, MonitorSpec, UpstreamSpec};
use std::collections::HashSet;
use std::net::SocketAddr;

use super::error::{quoted, ConfigErrors, Place};
use super::json::{Json, Object};
use super::{maps, monitor, read, server};
use crate::balancer::{BalancerKind, KeySource};
use crate::model::server::{Server, ServerHost};
use crate::model::upstream::MOST_PEERS;
use crate::registry::Registry;

/// Names of upstreams are keys of shared data, words of log lines and parts of URLs.
const LONGEST_NAME: usize = 255;
/// The most upstreams of one configuration.
const MOST: usize = 10_000;

/// What an upstream is read with: balancers and monitors by name, and how host names become addresses.
#[derive(Clone, Copy)]
pub(super) struct Scope<'c> {
    pub(super) registry: &'c Registry,
    pub(super) resolver: &'c [SocketAddr],
    pub(super) resolve_ipv6: bool,
    pub(super) host_resolves: bool,
    pub(super) host_has_clusters: bool,
    /// The variables that the configuration names itself.
    pub(super) names: maps::Names<'c>,
}

pub(super) fn upstreams(
    at: &Place<'_>,
    value: &Json,
    default_port: u16,
    scope: Scope<'_>,
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
        if let Some(upstream) = upstream(&place, value, default_port, scope, errors) {
            upstreams.push((name.clone(), upstream));
        }
    }
    upstreams
}

fn upstream(
    at: &Place<'_>,
    value: &Json,
    default_port: u16,
    scope: Scope<'_>,
    errors: &mut ConfigErrors,
) -> Option<UpstreamSpec> {
    let mut object = Object::open(at, value, "an upstream", errors)?;
    let servers = object.get("servers");
    let balancer = object.get("balancer");
    let retries = object.get("retries");
    let monitors = object.get("monitors");
    let fail_codes = object.get("fail_codes");
    let max_ejected = object.get("max_ejected_percent");
    let server_defaults = object.get("server_defaults");
    object.close(None, errors);

    let resolver = if scope.host_resolves { Vec::new() } else { scope.resolver.to_vec() };
    let resolve_ipv6 = scope.resolve_ipv6;
    let mut spec = UpstreamSpec { default_port, resolver, resolve_ipv6, ..UpstreamSpec::default() };
    if let Some(defaults) =
        server_defaults.and_then(|value| server::defaults(&at.key("server_defaults"), value, errors))
    {
        spec.server_defaults = defaults;
    }
    if let Some(value) = servers {
        spec.servers = read_servers(&at.key("servers"), value, &spec, scope, errors);
    }
    if let Some(balancer) = balancer.and_then(|value| read_balancer(&at.key("balancer"), value, scope, errors)) {
        spec.balancer = balancer;
    }
    if let Some(retries) = retries.and_then(|value| read::integer(&at.key("retries"), value, 0..=2, errors)) {
        spec.retries = retries;
    }
    if let Some(codes) = fail_codes.and_then(|value| read::codes(&at.key("fail_codes"), value, errors)) {
        spec.fail_codes = codes;
    }
    let place = at.key("max_ejected_percent");
    if let Some(percent) = max_ejected.and_then(|value| read::integer(&place, value, 0..=100, errors)) {
        spec.max_ejected_percent = percent;
    }
    if let Some(value) = monitors {
        let place = at.key("monitors");
        spec.monitors = monitor::monitors(&place, value, scope.registry, errors);
        if !scope.host_has_clusters {
            let position = |is_set: fn(&MonitorSpec) -> bool| spec.monitors.iter().position(is_set);
            if let Some(index) = position(|monitor| !monitor.cluster.is_empty()) {
                let text = "this proxy has no clusters by name: the monitor asks servers directly";
                errors.warn(&place.index(index).key("cluster"), text);
            }
            if let Some(index) = position(|monitor| monitor.keepalive) {
                let text = "this proxy keeps no connections of checks: each check makes a new one";
                errors.warn(&place.index(index).key("keepalive"), text);
            }
            for monitor in &mut spec.monitors {
                monitor.cluster.clear();
                monitor.keepalive = false;
            }
        }
    }
    Some(spec)
}

fn read_servers(
    at: &Place<'_>,
    value: &Json,
    spec: &UpstreamSpec,
    scope: Scope<'_>,
    errors: &mut ConfigErrors,
) -> Vec<Server> {
    let Json::Array(items) = value else {
        errors.expected(at, "an array of servers", value);
        return Vec::new();
    };
    if items.len() > MOST_PEERS {
        errors.expected(at, format_args!("at most {MOST_PEERS} servers"), items.len());
        return Vec::new();
    }
    let defaults = server::Defaults { port: spec.default_port, server: &spec.server_defaults };
    let mut servers = Vec::new();
    let mut seen = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        let Some(server) = server::server(&place, item, &defaults, errors) else { continue };
        if !seen.insert(server.name.clone()) {
            errors.say(&place, format!("two servers of the name {}", quoted(&server.name)));
        }
        let endpoint = server.endpoint();
        let unresolved = endpoint.as_ref().filter(|endpoint| endpoint.literal().is_none());
        if let Some(ServerHost::Name(name)) = unresolved.map(|endpoint| &endpoint.host) {
            if !scope.host_resolves && scope.resolver.is_empty() {
                errors.expected(
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

fn read_balancer(at: &Place<'_>, value: &Json, scope: Scope<'_>, errors: &mut ConfigErrors) -> Option<BalancerSpec> {
    let registry = scope.registry;
    let is_known = &|name: &str| scope.names.has(name);
    let mut spec = BalancerSpec::default();
    let is_object = matches!(value, Json::Object(_));
    let mut object = if is_object { Object::open(at, value, "a balancer", errors)? } else { Object::none(at) };
    let (name, key, bound) = (object.get("name"), object.get("key"), object.get("bound"));
    let place = at.key("name");
    let (place, name) = if is_object { (&place, name) } else { (at, Some(value)) };
    let kind = name.and_then(|name| balancer_kind(place, name, registry, errors));
    if let Some(own) = kind.and_then(BalancerKind::own) {
        spec.options = object.own(None, is_known, &|reading| own.read(reading), errors);
    }
    object.close(None, errors);
    if name.is_none() {
        errors.say(at, "expected a balancer with a \"name\", found none");
    }
    let kind = kind?;
    spec.name = kind.name.to_owned();
    match (kind.key, key) {
        (KeySource::Template | KeySource::Perhaps, Some(value)) => {
            spec.key = maps::template(&at.key("key"), value, is_known, errors);
        }
        (KeySource::Template, None) => {
            errors.say(at, format!("expected {} with a \"key\", found none", kind.name));
        }
        (KeySource::Client, Some(_)) => {
            errors.say(&at.key("key"), format!("{} hashes the client's address", kind.name))
        }
        (KeySource::Nothing, Some(_)) => errors.say(&at.key("key"), format!("{} hashes no key", kind.name)),
        (_, None) => {}
    }
    if let Some(value) = bound {
        let place = at.key("bound");
        spec.bound = match value {
            Json::Number(number) => number.as_f64().filter(|bound| (1.0..=100.0).contains(bound) && *bound > 1.0),
            _ => None,
        };
        if spec.bound.is_none() {
            errors.expected(&place, "a number above 1 and up to 100", value);
        } else if kind.key == KeySource::Nothing {
            errors.say(&place, format!("{} hashes no key, so there is nothing to bound", kind.name));
        }
    }
    Some(spec)
}

fn balancer_kind<'r>(
    at: &Place<'_>,
    value: &Json,
    registry: &'r Registry,
    errors: &mut ConfigErrors,
) -> Option<&'r BalancerKind> {
    let kind = match value {
        Json::String(name) => registry.balancer(name).map(|kind| &**kind),
        _ => None,
    };
    if kind.is_none() {
        errors.expected(at, read::one_of(registry.balancers().map(|kind| kind.name)), value);
    }
    kind
}
