//! Reading name servers.

use std::net::{IpAddr, SocketAddr};

use super::error::{ConfigErrors, Place};
use super::json::Json;
use super::read;
use crate::model::server::parse_port;

pub(super) fn resolver(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Vec<SocketAddr> {
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
