//! What a request changes.
//!
//! Here a request is read and its answer written; what it means for an upstream or a peer is the business of their handles. Each
//! change is one compare-and-swap, so changes at the same time all happen, and one that is refused has changed nothing.
//! With `If-Match` a change happens only at the revision that is named (RFC 9110, section 13.1.1).

use super::documents::monitor_json;
use super::method::Method;
use super::paths::{encode, Resource};
use super::refusal::Refusal;
use super::request::{json, ApiRequest};
use super::snapshot::Snapshot;
use crate::config::{self, Json};
use crate::handle::peer::Peer;
use crate::handle::upstream::Upstream;
use crate::host::Response;
use crate::model::error::Error;
use crate::store::journal::Author;

/// The deepest nesting of a body's JSON: nothing that is meant has more than two levels.
const DEEPEST: usize = 16;

/// Makes the change that is asked for.
pub(super) fn make(request: &ApiRequest<'_>) -> Result<Response, Refusal> {
    match (&request.target.resource, request.method) {
        (Resource::Peers(upstream), Method::Post) => add_peer(request, upstream),
        (Resource::Peer(upstream, peer), Method::Patch) => change_peer(request, upstream, peer),
        (Resource::Peer(upstream, peer), Method::Delete) => remove_peer(request, upstream, peer),
        (Resource::Fail(upstream, peer), _) => fail(request, upstream, peer),
        (Resource::Resolve(upstream, peer), _) => resolve(request, upstream, peer),
        (Resource::Monitors(upstream), Method::Post) => add_monitor(request, upstream),
        (Resource::Monitor(upstream, id), Method::Delete) => remove_monitor(request, upstream, id),
        _ => Err(Refusal::new(404, "there is nothing at this address")),
    }
}

fn add_peer(request: &ApiRequest<'_>, name: &str) -> Result<Response, Refusal> {
    let mut upstream = upstream(request, name)?;
    let config = upstream.spec();
    let json = match content_type(request).as_str() {
        "application/json" => read_json(request)?,
        "text/plain" => {
            let text = std::str::from_utf8(body(request)?).map_err(|_| Refusal::new(400, "the body is not UTF-8"))?;
            Json::String(text.trim().to_owned())
        }
        _ => return Err(Refusal::new(415, "expected application/json or text/plain")),
    };
    let server = config::read_server(&json, &config.server_defaults, config.default_port);
    let server = server.map_err(|errors| Refusal::invalid(&errors))?;
    let server = server.ok_or_else(|| Refusal::new(422, "0.0.0.0 is a placeholder, not a server"))?;
    let added = upstream.add_peer(server)?.name().to_owned();
    let location = format!("{}/upstreams/{}/peers/{}", request.prefix, encode(name), encode(&added));
    answer(request, 201, name, &added, Some(location))
}

fn remove_peer(request: &ApiRequest<'_>, name: &str, peer: &str) -> Result<Response, Refusal> {
    let mut upstream = upstream(request, name)?;
    let peer = find(&upstream, peer)?;
    upstream.remove_peer(&peer)?;
    Ok(Response { status: 204, headers: Vec::new(), body: Vec::new() })
}

fn change_peer(request: &ApiRequest<'_>, name: &str, peer: &str) -> Result<Response, Refusal> {
    if !matches!(content_type(request).as_str(), "application/json" | "application/merge-patch+json") {
        return Err(Refusal::new(415, "expected application/json"));
    }
    let mut peer = find(&upstream(request, name)?, peer)?;
    let changes = config::read_changes(&read_json(request)?).map_err(|errors| Refusal::invalid(&errors))?;
    peer.change(&changes)?;
    answer(request, 200, name, peer.name(), None)
}

fn fail(request: &ApiRequest<'_>, name: &str, peer: &str) -> Result<Response, Refusal> {
    let mut peer = find(&upstream(request, name)?, peer)?;
    peer.fail(&"reported through the management API")?;
    answer(request, 200, name, peer.name(), None)
}

fn resolve(request: &ApiRequest<'_>, name: &str, peer: &str) -> Result<Response, Refusal> {
    let force = match request.target.parameter("force") {
        None | Some("false" | "0") => false,
        Some("true" | "1" | "") => true,
        Some(_) => return Err(Refusal::new(400, "force: expected true or false")),
    };
    let upstream = upstream(request, name)?;
    request.store.expect_revision(upstream.revision())?;
    let mut peer = find(&upstream, peer)?;
    let is_under_way = peer.resolve(force)?;
    answer(request, if is_under_way { 202 } else { 200 }, name, peer.name(), None)
}

fn add_monitor(request: &ApiRequest<'_>, name: &str) -> Result<Response, Refusal> {
    if content_type(request) != "application/json" {
        return Err(Refusal::new(415, "expected application/json"));
    }
    let mut upstream = upstream(request, name)?;
    let monitor =
        config::read_monitor(&read_json(request)?, request.registry).map_err(|errors| Refusal::invalid(&errors))?;
    let id = upstream.add(monitor)?.id;
    let after = Snapshot::read(&request.store, name)?;
    let mut response = json(201, monitor_json(&after, request.registry, &id)?);
    let location = format!("{}/upstreams/{}/monitors/{}", request.prefix, encode(name), encode(&id));
    response.headers.extend([("location", location), after.etag()]);
    Ok(response)
}

fn remove_monitor(request: &ApiRequest<'_>, name: &str, id: &str) -> Result<Response, Refusal> {
    upstream(request, name)?.remove_monitor(id)?;
    Ok(Response { status: 204, headers: Vec::new(), body: Vec::new() })
}

/// The handle of an upstream that a configuration still has, in the client's name.
fn upstream<'r>(request: &ApiRequest<'r>, name: &str) -> Result<Upstream<'r>, Refusal> {
    let absent = || Error::NoSuchUpstream(name.to_owned());
    if !request.store.index()?.names().contains(&name) {
        return Err(absent().into());
    }
    let upstream = Upstream::get(request.store, request.registry, name)?.ok_or_else(absent)?;
    Ok(upstream.by(Author::Client(request.host.client())))
}

fn find<'r>(upstream: &Upstream<'r>, peer: &str) -> Result<Peer<'r>, Error> {
    upstream.get_peer(peer).ok_or_else(|| Error::NoSuchPeer(peer.to_owned()))
}

/// The peer as it is after a change.
fn answer(
    request: &ApiRequest<'_>,
    status: u32,
    upstream: &str,
    peer: &str,
    location: Option<String>,
) -> Result<Response, Refusal> {
    let snapshot = Snapshot::read(&request.store, upstream)?;
    let mut response = json(status, snapshot.assess().peer_json(snapshot.find(peer)?));
    response.headers.push(snapshot.etag());
    response.headers.extend(location.map(|location| ("location", location)));
    Ok(response)
}

/// The type of the body, without its parameters.
fn content_type(request: &ApiRequest<'_>) -> String {
    let value = request.host.header("content-type").unwrap_or_default();
    let name = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    String::from_utf8_lossy(&name).into_owned()
}

fn body<'r>(request: &ApiRequest<'r>) -> Result<&'r [u8], Refusal> {
    if request.body.trim_ascii().is_empty() {
        return Err(Refusal::new(400, "expected a body"));
    }
    Ok(request.body)
}

fn read_json(request: &ApiRequest<'_>) -> Result<Json, Refusal> {
    let body = body(request)?;
    if nesting(body) > DEEPEST {
        return Err(Refusal::new(400, format!("JSON nested deeper than {DEEPEST} levels")));
    }
    config::parse_json(body).map_err(|errors| Refusal::new(400, errors.to_string()))
}

/// How deep JSON is nested, without reading it.
fn nesting(text: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
