//! The clusters that requests, checks and look-ups go through.

use std::path::Path;

use serde_json::Value;

use super::{Filter, Findings};
use crate::envoy::filter::{self, Names};
use crate::envoy::part::Part;
use crate::envoy::places::{self, File, Place};
use crate::envoy::wiring::{is_hidden, may_speak_http2, KEYS, NAMESPACE, PEER_HEADERS};
use crate::envoy::yaml::{Doc, Id};

/// The headers of the candidates, as the filter JSON calls them.
pub(super) fn headers(json: &Value) -> Vec<String> {
    let own = json.pointer("/envoy/peer_headers").and_then(Value::as_array);
    let own: Option<Vec<String>> = own.map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    own.unwrap_or_else(|| PEER_HEADERS.map(str::to_owned).to_vec())
}

/// How a cluster finds its peer.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lookup {
    Header(String),
    Metadata(String),
}

fn lookup(doc: &Doc, cluster: Id) -> Option<Lookup> {
    let config = doc.get(cluster, "original_dst_lb_config")?;
    if let Some(key) = doc.get(config, "metadata_key") {
        if doc.text_at(key, &["key"]) != Some(NAMESPACE) {
            return None;
        }
        let path = doc.get(key, "path").map(|list| doc.items(list)).unwrap_or_default();
        let key = path.first().and_then(|first| doc.text_at(*first, &["key"])).unwrap_or_default();
        return Some(Lookup::Metadata(key.to_owned()));
    }
    let by_header = doc.text_at(config, &["use_http_header"]) == Some("true");
    // Envoy's own name for it, where none is said.
    let name = doc.text_at(config, &["http_header_name"]).unwrap_or("x-envoy-original-dst-host");
    by_header.then(|| Lookup::Header(name.to_owned()))
}

/// The clusters of a composite one.
fn members(doc: &Doc, cluster: Id) -> Option<Vec<Id>> {
    let typed = doc.at(cluster, &["cluster_type", "typed_config"])?;
    let is_composite = doc.text_at(typed, &["@type"])?.contains("clusters.composite");
    is_composite.then(|| doc.get(typed, "clusters").map(|list| doc.items(list)).unwrap_or_default())
}

/// Whether durpina chooses the peers of this cluster.
fn is_durpinas(files: &[File], place: Place) -> bool {
    let Some(File { doc, .. }) = files.get(place.file) else { return false };
    let goes_by = |lookup: Option<Lookup>| match lookup {
        Some(Lookup::Metadata(_)) => true,
        Some(Lookup::Header(name)) => name.to_ascii_lowercase().contains("durpina"),
        None => false,
    };
    match members(doc, place.id) {
        Some(members) => members.iter().any(|member| {
            let name = doc.text_at(*member, &["name"]).unwrap_or_default();
            name.starts_with(NAMESPACE)
                || places::cluster(files, name)
                    .is_some_and(|place| files.get(place.file).is_some_and(|file| goes_by(lookup(&file.doc, place.id))))
        }),
        None => goes_by(lookup(doc, place.id)) || doc.text_at(place.id, &["name"]) == Some(NAMESPACE),
    }
}

/// The cluster of durpina's that a route leads to.
pub(super) fn of_route(files: &[File], route: Place) -> Option<String> {
    let name = places::text(files, route, &["route", "cluster"])?;
    let is_one = match places::cluster(files, name) {
        Some(place) => is_durpinas(files, place),
        // It is missing, or in a file that was not given.
        None => name == NAMESPACE,
    };
    is_one.then(|| name.to_owned())
}

pub(super) fn is_composite(files: &[File], name: &str) -> bool {
    let place = places::cluster(files, name);
    place.is_some_and(|place| files.get(place.file).is_some_and(|file| members(&file.doc, place.id).is_some()))
}

pub(super) fn goes_by_metadata(files: &[File], name: &str) -> bool {
    let Some(place) = places::cluster(files, name) else { return false };
    let Some(File { doc, .. }) = files.get(place.file) else { return false };
    match members(doc, place.id) {
        Some(members) => {
            let names = members.iter().filter_map(|member| doc.text_at(*member, &["name"]));
            names.into_iter().any(|member| member != name && goes_by_metadata(files, member))
        }
        None => matches!(lookup(doc, place.id), Some(Lookup::Metadata(_))),
    }
}

pub(super) fn check(filter: &Filter, findings: &mut Findings<'_>) {
    let mut seen = Vec::new();
    let files = findings.files;
    let routes = match &filter.manager.routes {
        Ok(config) => places::routes_of(files, *config),
        Err(_) => Vec::new(),
    };
    for route in routes {
        let Some(name) = of_route(files, route.place).filter(|name| !seen.contains(name)) else { continue };
        match places::cluster(files, &name) {
            Some(place) => requests(filter, place, findings),
            None => missing(&name, route.place, "a route leads to it", findings),
        }
        seen.push(name);
    }
    checks(filter, findings);
}

/// A cluster that is not there: an error, unless a server may have it.
fn missing(name: &str, place: Place, why: &str, findings: &mut Findings<'_>) {
    let from_elsewhere =
        findings.files.iter().any(|file| file.doc.at(file.doc.root(), &["dynamic_resources", "cds_config"]).is_some())
            && places::all(findings.files, "", "Cluster").is_empty();
    let message = format!("there is no cluster {name:?} in these files, and {why}");
    if from_elsewhere {
        findings.warning(place, &message);
    } else {
        findings.error(place, &message);
    }
}

/// The clusters of requests: each goes by the peer of its place in the order.
fn requests(filter: &Filter, place: Place, findings: &mut Findings<'_>) {
    let files = findings.files;
    let Some(File { doc, .. }) = files.get(place.file) else { return };
    let Some(members) = members(doc, place.id) else {
        fits(filter, place, 0, findings);
        return breakers(place, &["max_connections", "max_pending_requests", "max_requests"], findings);
    };
    breakers(place, &["max_retries"], findings);
    if members.len() > KEYS.len() {
        findings.warning(place, "has more than three clusters: durpina names three peers at most");
    }
    for (at, member) in members.iter().enumerate().take(KEYS.len()) {
        let name = doc.text_at(*member, &["name"]).unwrap_or_default();
        match places::cluster(files, name) {
            Some(place) => {
                fits(filter, place, at, findings);
                breakers(place, &["max_connections", "max_pending_requests", "max_requests"], findings);
            }
            None => missing(name, place.at(*member), "it is one of these", findings),
        }
    }
}

fn fits(filter: &Filter, place: Place, at: usize, findings: &mut Findings<'_>) {
    let Some(File { doc, .. }) = findings.files.get(place.file) else { return };
    let header = headers(&filter.json).get(at).cloned().unwrap_or_default();
    let key = KEYS.get(at).copied().unwrap_or_default();
    let number = ["first", "second", "third"].get(at).copied().unwrap_or_default();
    let at = doc.get(place.id, "original_dst_lb_config").map_or(place, |id| place.at(id));
    let why = match lookup(doc, place.id) {
        Some(Lookup::Header(name)) if name.eq_ignore_ascii_case(&header) => {
            if is_hidden(&header) && speaks_http2(place, findings.files) {
                let message = format!(
                    "speaks HTTP/2, and goes by the header {header}, which a server of HTTP/2 gets and takes for a mistake: take the \
                     wiring of envoy/durpina-h2.yaml"
                );
                findings.error(place, &message);
            }
            return;
        }
        Some(Lookup::Metadata(name)) if name == key => return,
        Some(Lookup::Header(name)) => format!("goes by the header {name}"),
        Some(Lookup::Metadata(name)) => format!("goes by the key {name:?} of the metadata"),
        None => "goes by nothing that durpina writes".to_owned(),
    };
    findings.error(
        at,
        &format!(
            "{why}; the {number} peer is in the header {header}, or in the key {key:?} of the namespace {NAMESPACE:?}"
        ),
    );
}

/// Whether a cluster may speak HTTP/2 to its servers.
pub(super) fn speaks_http2(place: Place, files: &[File]) -> bool {
    files.get(place.file).is_some_and(|file| may_speak_http2(&Part::of(&file.doc, place.id)))
}

/// The headers by which a cluster of durpina's, or those in it, find their peers.
pub(super) fn read_by(files: &[File], name: &str) -> Vec<String> {
    let Some(place) = places::cluster(files, name) else { return Vec::new() };
    let Some(File { doc, .. }) = files.get(place.file) else { return Vec::new() };
    match members(doc, place.id) {
        Some(members) => {
            let names = members.iter().filter_map(|member| doc.text_at(*member, &["name"]));
            names.filter(|member| *member != name).flat_map(|member| read_by(files, member)).collect()
        }
        None => match lookup(doc, place.id) {
            Some(Lookup::Header(name)) => vec![name.to_ascii_lowercase()],
            _ => Vec::new(),
        },
    }
}

/// A cluster of checks, which have no metadata, goes by the header.
fn probes(place: Place, findings: &mut Findings<'_>) {
    let Some(File { doc, .. }) = findings.files.get(place.file) else { return };
    let header = PEER_HEADERS[0];
    if !matches!(lookup(doc, place.id), Some(Lookup::Header(name)) if name.eq_ignore_ascii_case(header)) {
        let at = doc.get(place.id, "original_dst_lb_config").map_or(place, |id| place.at(id));
        let message = format!(
            "checks go through this cluster, and the server to ask is in the header {header}: http_header_name"
        );
        findings.error(at, &message);
    }
}

/// Limits that one cluster has for all peers.
fn breakers(place: Place, keys: &[&str], findings: &mut Findings<'_>) {
    let Some(File { doc, .. }) = findings.files.get(place.file) else { return };
    let thresholds =
        doc.at(place.id, &["circuit_breakers", "thresholds"]).map(|list| doc.items(list)).unwrap_or_default();
    let left: Vec<&str> =
        keys.iter().copied().filter(|key| !thresholds.iter().any(|one| doc.get(*one, key).is_some())).collect();
    if !left.is_empty() {
        let defaults = if left.contains(&"max_retries") { "3" } else { "1024" };
        let message = format!(
            "leaves {} of circuit_breakers at the default, {defaults}: one cluster stands for all peers here, and beyond it requests get 503",
            left.join(", ")
        );
        findings.warning(place, &message);
    }
}

/// The clusters of checks and look-ups.
fn checks(filter: &Filter, findings: &mut Findings<'_>) {
    let files = findings.files;
    let needed = filter::clusters(&filter.json);
    let tcp = Names::of(&filter.json).tcp;
    for name in &needed {
        let Some(place) = places::cluster(files, name) else {
            missing(name, filter.place, "the filter JSON asks through it", findings);
            continue;
        };
        if *name == tcp {
            gateway(place, findings);
        } else {
            probes(place, findings);
        }
        breakers(place, &["max_connections", "max_pending_requests", "max_requests"], findings);
    }
    let bootstrap = files.iter().find(|file| {
        ["static_resources", "dynamic_resources"].iter().any(|key| file.doc.get(file.doc.root(), key).is_some())
    });
    if let Some(File { doc, .. }) = bootstrap.filter(|_| !needed.is_empty()) {
        let runtime = doc.get(doc.root(), "layered_runtime").map(|id| doc.value(id).to_string()).unwrap_or_default();
        if !runtime.contains("async_response_buffer_limit") {
            let what = "makes checks, and no layer of layered_runtime has http.async_response_buffer_limit: a server whose answer to a \
                        check never ends takes 32 MiB of memory";
            findings.warning(filter.place, what);
        }
    }
}

/// The way to the gateway for raw TCP: its socket, its listener, its mark.
fn gateway(cluster: Place, findings: &mut Findings<'_>) {
    let files = findings.files;
    let Some(File { doc, .. }) = files.get(cluster.file) else { return };
    let Some(path) = doc.get(cluster.id, "load_assignment").and_then(|id| pipe(doc, id)) else { return };
    let path = path.to_owned();
    let listener = places::listeners(files).into_iter().find(|place| {
        files.get(place.file).is_some_and(|file| {
            file.doc.get(place.id, "address").and_then(|id| pipe(&file.doc, id)) == Some(path.as_str())
        })
    });
    let Some(listener) = listener else {
        let message = format!("leads to the socket {path}, on which no listener of these files is");
        return findings.error(cluster, &message);
    };
    let Some(File { doc, .. }) = files.get(listener.file) else { return };
    if !doc.value(listener.id).to_string().contains("x-durpina-gateway") {
        let what = "does not set x-durpina-gateway on its answers (response_headers_to_add of its route_config): no check over TCP can fail";
        findings.error(listener, what);
    }
    // An abstract socket has no directory.
    let directory =
        Path::new(&path).parent().filter(|directory| !directory.as_os_str().is_empty() && !path.starts_with('@'));
    if let Some(directory) = directory.filter(|directory| !directory.is_dir()) {
        let message = format!("the directory of its socket, {}, does not exist on this machine", directory.display());
        findings.warning(listener, &message);
    }
}

/// The path of the first Unix socket below a node.
fn pipe(doc: &Doc, id: Id) -> Option<&str> {
    if let Some(path) = doc.text_at(id, &["pipe", "path"]) {
        return Some(path);
    }
    let below = doc.entries(id).iter().map(|(_, value)| *value);
    below.chain(doc.items(id).into_iter().filter(|item| *item != doc.resolve(id))).find_map(|below| pipe(doc, below))
}
