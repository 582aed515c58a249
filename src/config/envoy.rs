//! Reading what concerns Envoy alone.

use super::error::{quoted, ConfigErrors, Place};
use super::json::{Json, Object};
use super::read;
use crate::host::{CalloutClusters, PeerHeaders, MOST_CANDIDATES};

/// What a configuration says of the Envoy around the filter.
#[derive(Default)]
pub(super) struct Envoy {
    pub(super) clusters: CalloutClusters,
    pub(super) peer_headers: PeerHeaders,
    /// Its access log reports failed attempts.
    pub(super) reports: bool,
}

/// Reads the names of clusters and headers, and whether the access log reports failed attempts.
pub(super) fn envoy(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Envoy {
    let mut envoy = Envoy::default();
    let Some(mut object) = Object::open(at, value, "an object", errors) else { return envoy };
    let (access_log, headers) = (object.get("access_log"), object.get("peer_headers"));
    let slots = [
        ("probe_cluster", &mut envoy.clusters.probe),
        ("grpc_cluster", &mut envoy.clusters.grpc),
        ("tcp_cluster", &mut envoy.clusters.tcp),
    ];
    for (key, slot) in slots {
        if let Some(name) = object.get(key).and_then(|value| cluster(&at.key(key), value, errors)) {
            name.clone_into(slot);
        }
    }
    object.close(None, errors);
    if let Some(headers) = headers.and_then(|value| peer_headers(&at.key("peer_headers"), value, errors)) {
        envoy.peer_headers = headers;
    }
    envoy.reports =
        access_log.and_then(|value| read::boolean(&at.key("access_log"), value, errors)).unwrap_or_default();
    envoy
}

/// Reads the name of a cluster.
pub(super) fn cluster<'v>(at: &Place<'_>, value: &'v Json, errors: &mut ConfigErrors) -> Option<&'v str> {
    read::sized(at, value, "the name of a cluster", 1..=120, errors)
}

/// Reads the names of the candidates' headers.
fn peer_headers(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Option<PeerHeaders> {
    let Json::Array(items) = value else {
        errors.expected(at, "an array of three header names", value);
        return None;
    };
    if items.len() != MOST_CANDIDATES {
        errors.say(at, format!("expected {MOST_CANDIDATES} header names, found {}", items.len()));
        return None;
    }
    let mut names: Vec<String> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let at = at.index(index);
        let Some(name) = read::sized(&at, item, "the name of a header", 1..=64, errors) else { continue };
        if !is_header_name(name) {
            errors.say(&at, format!("expected the name of a header, in lower case, found {}", quoted(name)));
        } else if is_taken(name) {
            errors.say(&at, format!("expected the name of a header that is of no other use, found {}", quoted(name)));
        } else if names.iter().any(|other| other == name) {
            errors.say(&at, format!("expected three different names, found {} again", quoted(name)));
        } else {
            names.push(name.to_owned());
        }
    }
    names.try_into().ok().map(PeerHeaders::new)
}

/// Whether it is a token of HTTP in lower case, with a colon before it or not: Envoy drops headers with one before it writes
/// HTTP/1.
fn is_header_name(name: &str) -> bool {
    let is_token = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(&byte);
    let bare = name.strip_prefix(':').unwrap_or(name);
    !bare.is_empty() && bare.bytes().all(is_token)
}

/// Whether proxies or servers would take the header for something else. Names that begin with `:a`, which `:authority` does, are
/// looked at before they are dropped.
fn is_taken(name: &str) -> bool {
    const PSEUDO: [&str; 5] = [":path", ":method", ":scheme", ":status", ":protocol"];
    const OTHERS: [&str; 18] = [
        "host",
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "authorization",
        "expect",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "via",
        "x-envoy-attempt-count",
        "x-envoy-max-retries",
        "x-envoy-original-dst-host",
        "x-request-id",
    ];
    name.starts_with(":a") || name.starts_with("x-forwarded-") || PSEUDO.contains(&name) || OTHERS.contains(&name)
}
