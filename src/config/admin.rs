//! Reading who may use the management API.

use std::net::IpAddr;

use super::error::{ConfigErrors, Place};
use super::json::{Json, Object};
use super::read;
use crate::model::access::{AdminAccess, Network};

pub(super) fn admin(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Option<AdminAccess> {
    let mut object = Object::open(at, value, "an object", errors)?;
    let mut config = AdminAccess { prefix: String::new(), token: None, allow: Vec::new(), hosts: Vec::new() };
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
            // A secret: its kind is told, never its value.
            _ => errors.expected(&at.key("token"), "a string of visible ASCII characters", value.kind()),
        }
    }
    config.allow = match object.get("allow") {
        Some(value) => networks(&at.key("allow"), value, errors),
        // Loopback.
        None => ["127.0.0.0/8", "::1"].into_iter().filter_map(network).collect(),
    };
    if let Some(value) = object.get("hosts") {
        config.hosts = hosts(&at.key("hosts"), value, errors);
    }
    object.close(None, errors);
    Some(config)
}

fn hosts(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Vec<String> {
    let Json::Array(items) = value else {
        errors.expected(at, "an array of host names", value);
        return Vec::new();
    };
    let one = |(index, item)| read::host(&at.index(index), item, errors);
    items.iter().enumerate().filter_map(one).collect()
}

fn networks(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Vec<Network> {
    let Json::Array(items) = value else {
        errors.expected(at, "an array of networks", value);
        return Vec::new();
    };
    let mut found = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        let Some(text) = read::string(&place, item, "a network", errors) else { continue };
        match network(text) {
            Some(network) => found.push(network),
            None => errors.expected(&place, "a network such as \"10.0.0.0/8\" or \"::1\"", item),
        }
    }
    found
}

/// Read by hand: the crate ipnet would add 11 KB to the filter.
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
