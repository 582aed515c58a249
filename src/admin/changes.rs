//! What a request changes.
//!
//! Each change is one compare-and-swap of the upstream's record, so changes at the same time all happen, and one that is refused
//! has changed nothing. With `If-Match` a change happens only at the revision that is named (RFC 9110, section 13.1.1).
//! Every change is one line in the log: who asked, and what changed.

use super::documents::{known, monitor_json, Snapshot};
use super::paths::{encode, Resource};
use super::{json, ApiRequest, Method, Refusal};
use crate::config::{self, Json};
use crate::handle::upstream::Upstream;
use crate::host::Response;
use crate::model::admin_state::AdminState;
use crate::model::error::Error;
use crate::model::overrides::Overrides;
use crate::model::peer::PeerRecord;
use crate::store::journal;

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
    let config = known(request, name)?.record.spec;
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
    let handle = Upstream::get(request.store, request.registry, name)?;
    let mut handle = handle.ok_or_else(|| Error::NoSuchUpstream(name.to_owned()))?;
    let added = handle.add_peer(server)?.name().to_owned();
    log(request, name, &format!("peer={added} added"));
    let location = format!("{}/upstreams/{}/peers/{}", request.prefix, encode(name), encode(&added));
    answer(request, 201, name, &added, Some(location))
}

fn remove_peer(request: &ApiRequest<'_>, name: &str, peer: &str) -> Result<Response, Refusal> {
    let before = known(request, name)?;
    let (id, peer) = before.find(peer).map(|peer| (peer.id, peer.server.name.clone()))?;
    request.store.update_record(name, |record| record.remove(&peer, Some(id)))?;
    log(request, name, &format!("peer={peer} removed"));
    Ok(Response { status: 204, headers: Vec::new(), body: Vec::new() })
}

fn change_peer(request: &ApiRequest<'_>, name: &str, peer: &str) -> Result<Response, Refusal> {
    if !matches!(content_type(request).as_str(), "application/json" | "application/merge-patch+json") {
        return Err(Refusal::new(415, "expected application/json"));
    }
    let before = known(request, name)?;
    let target = before.find(peer)?.clone();
    let changes = config::read_changes(&read_json(request)?).map_err(|errors| Refusal::invalid(&errors))?;
    let now = request.store.now();
    let is_up = changes.admin_state.is_some_and(|(order, _)| order == AdminState::Up);
    // Who is up already does not start slowly again.
    let is_up_already =
        is_up && before.effective_state(&target).state.is_usable() && target.admin_state(now).0 == AdminState::Up;
    request.store.update_record(name, |record| {
        let peer = record.peers.iter_mut().find(|peer| peer.id == target.id);
        let peer = peer.ok_or_else(|| Error::NoSuchPeer(target.server.name.clone()))?;
        let ours = &mut peer.overrides;
        ours.weight = changes.weight.or(ours.weight);
        ours.max_fails = changes.max_fails.or(ours.max_fails);
        ours.fail_timeout = changes.fail_timeout.or(ours.fail_timeout);
        ours.max_conns = changes.max_conns.or(ours.max_conns);
        ours.slow_start = changes.slow_start.or(ours.slow_start);
        // An order that is given again is the same one, unless it begins to end anew.
        let is_same = ours.admin_state.map(|(order, _)| order) == changes.admin_state.map(|(order, _)| order)
            && changes.admin_state.is_some_and(|(order, _)| matches!(order, AdminState::Down | AdminState::Drain));
        if !is_up_already && !is_same {
            ours.admin_state = changes.admin_state.map(|(order, _)| (order, now)).or(ours.admin_state);
        }
        Ok(())
    })?;
    if is_up {
        request.store.reset(name, target.id)?;
    }
    if changes.weight.is_some() {
        request.store.overrule_weight(name, target.id)?;
    }
    log(request, name, &format!("peer={} {}", target.server.name, described(&changes)));
    let after = Snapshot::read(&request.store, name)?;
    if let Some(peer) = after.record.peers.iter().find(|peer| peer.id == target.id) {
        let change = [before.effective_state(&target).state, after.effective_state(peer).state];
        let why = after.effective_state(peer).why().unwrap_or_else(|| "ordered up".to_owned());
        journal::report(name, &target.server.name, change, "operator", &why);
    }
    answer(request, 200, name, &target.server.name, None)
}

fn fail(request: &ApiRequest<'_>, name: &str, peer: &str) -> Result<Response, Refusal> {
    let before = known(request, name)?;
    let peer: &PeerRecord = before.find(peer)?;
    request.store.expect_revision(before.record.revision)?;
    request.store.fail(&before.record, peer, &before.status, &"reported through the management API", false)?;
    log(request, name, &format!("peer={} failed", peer.server.name));
    answer(request, 200, name, &peer.server.name, None)
}

fn resolve(request: &ApiRequest<'_>, name: &str, peer: &str) -> Result<Response, Refusal> {
    let force = match request.target.parameter("force") {
        None | Some("false" | "0") => false,
        Some("true" | "1" | "") => true,
        Some(_) => return Err(Refusal::new(400, "force: expected true or false")),
    };
    let before = known(request, name)?;
    request.store.expect_revision(before.record.revision)?;
    let target = before.find(peer)?;
    let handle = Upstream::get(request.store, request.registry, name)?;
    let handle = handle.and_then(|handle| handle.get_peer(&target.server.name));
    let mut handle = handle.ok_or_else(|| Error::NoSuchPeer(peer.to_owned()))?;
    let is_under_way = handle.resolve(force)?;
    if is_under_way {
        log(request, name, &format!("peer={} is resolved again", target.server.name));
    }
    answer(request, if is_under_way { 202 } else { 200 }, name, &target.server.name, None)
}

fn add_monitor(request: &ApiRequest<'_>, name: &str) -> Result<Response, Refusal> {
    if content_type(request) != "application/json" {
        return Err(Refusal::new(415, "expected application/json"));
    }
    known(request, name)?;
    let monitor =
        config::read_monitor(&read_json(request)?, request.registry).map_err(|errors| Refusal::invalid(&errors))?;
    let id = monitor.id.clone();
    request.store.update_record(name, |record| record.add_monitor(monitor.clone()))?;
    log(request, name, &format!("monitor={id} added"));
    let after = Snapshot::read(&request.store, name)?;
    let mut response = json(201, monitor_json(&after, request.registry, &id)?);
    let location = format!("{}/upstreams/{}/monitors/{}", request.prefix, encode(name), encode(&id));
    response.headers.extend([("location", location), after.etag()]);
    Ok(response)
}

fn remove_monitor(request: &ApiRequest<'_>, name: &str, id: &str) -> Result<Response, Refusal> {
    let before = known(request, name)?;
    request.store.remove_monitor(name, id)?;
    log(request, name, &format!("monitor={id} removed"));
    // Its verdicts went with it.
    let after = Snapshot::read(&request.store, name)?;
    for peer in &after.record.peers {
        let change = [before.effective_state(peer).state, after.effective_state(peer).state];
        journal::report(name, &peer.server.name, change, "operator", &format!("monitor {id} is removed"));
    }
    Ok(Response { status: 204, headers: Vec::new(), body: Vec::new() })
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
    let mut response = json(status, snapshot.peer_json(snapshot.find(peer)?));
    response.headers.push(snapshot.etag());
    response.headers.extend(location.map(|location| ("location", location)));
    Ok(response)
}

fn log(request: &ApiRequest<'_>, upstream: &str, what: &str) {
    let client = request.host.client().map_or_else(|| "unknown".to_owned(), |client| client.to_string());
    log::info!("admin: client={client} upstream={upstream} {what}");
}

/// What was changed, for the log.
fn described(changes: &Overrides) -> String {
    let mut words = Vec::new();
    words.extend(changes.weight.map(|weight| format!("weight={weight}")));
    words.extend(changes.admin_state.map(|(order, _)| format!("state={}", order.name())));
    words.extend(changes.max_fails.map(|count| format!("max_fails={count}")));
    words.extend(changes.fail_timeout.map(|time| format!("fail_timeout={}", crate::time::format_duration(time))));
    words.extend(changes.max_conns.map(|count| format!("max_conns={count}")));
    words.extend(changes.slow_start.map(|time| format!("slow_start={}", crate::time::format_duration(time))));
    if words.is_empty() {
        words.push("unchanged".to_owned());
    }
    words.join(" ")
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
