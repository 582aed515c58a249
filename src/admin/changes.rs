//! What a request changes.
//!
//! Each change is one compare-and-swap of the upstream's record, so changes at the same time all happen, and one that is refused
//! has changed nothing. With `If-Match` a change happens only at the revision that is named (RFC 9110, section 13.1.1).
//! Every change is one line in the log: who asked, and what changed.

use super::documents::{known, monitor_json, Snapshot};
use super::paths::{encode, Resource};
use super::{json, Ask, Method, Refusal};
use crate::config::{self, Json};
use crate::host::{Level, Response};
use crate::peer::{Changes, Order, PeerRecord};
use crate::store::StoreError;
use crate::upstream;

/// The deepest nesting of a body's JSON: nothing that is meant has more than two levels.
const DEEPEST: usize = 16;

/// Makes the change that is asked for.
pub(super) fn make(ask: &Ask<'_>) -> Result<Response, Refusal> {
    match (&ask.target.resource, ask.method) {
        (Resource::Peers(upstream), Method::Post) => add_peer(ask, upstream),
        (Resource::Peer(upstream, peer), Method::Patch) => change_peer(ask, upstream, peer),
        (Resource::Peer(upstream, peer), Method::Delete) => remove_peer(ask, upstream, peer),
        (Resource::Fail(upstream, peer), _) => fail(ask, upstream, peer),
        (Resource::Resolve(upstream, peer), _) => resolve(ask, upstream, peer),
        (Resource::Monitors(upstream), Method::Post) => add_monitor(ask, upstream),
        (Resource::Monitor(upstream, id), Method::Delete) => remove_monitor(ask, upstream, id),
        _ => Err(Refusal::new(404, "there is nothing at this address")),
    }
}

fn add_peer(ask: &Ask<'_>, name: &str) -> Result<Response, Refusal> {
    let config = known(ask, name)?.record.config;
    let json = match content_type(ask).as_str() {
        "application/json" => read_json(ask)?,
        "text/plain" => {
            let text = std::str::from_utf8(body(ask)?).map_err(|_| Refusal::new(400, "the body is not UTF-8"))?;
            Json::String(text.trim().to_owned())
        }
        _ => return Err(Refusal::new(415, "expected application/json or text/plain")),
    };
    let server = config::read_server(&json, &config.server_defaults, config.default_port);
    let server = server.map_err(|problems| Refusal::invalid(&problems))?;
    let server = server.ok_or_else(|| Refusal::new(422, "0.0.0.0 is a placeholder, not a server"))?;
    let handle = upstream::Upstream::get(ask.store, name)?;
    let mut handle = handle.ok_or_else(|| StoreError::NoSuchUpstream(name.to_owned()))?;
    let added = handle.add_peer(server)?.name().to_owned();
    log(ask, name, &format!("peer={added} added"));
    let location = format!("{}/upstreams/{}/peers/{}", ask.prefix, encode(name), encode(&added));
    answer(ask, 201, name, &added, Some(location))
}

fn remove_peer(ask: &Ask<'_>, name: &str, peer: &str) -> Result<Response, Refusal> {
    let before = known(ask, name)?;
    let (id, peer) = before.find(peer).map(|peer| (peer.id, peer.server.name.clone()))?;
    ask.store.update_record(name, |record| record.remove(&peer, Some(id)))?;
    log(ask, name, &format!("peer={peer} removed"));
    Ok(Response { status: 204, headers: Vec::new(), body: Vec::new() })
}

fn change_peer(ask: &Ask<'_>, name: &str, peer: &str) -> Result<Response, Refusal> {
    if !matches!(content_type(ask).as_str(), "application/json" | "application/merge-patch+json") {
        return Err(Refusal::new(415, "expected application/json"));
    }
    let before = known(ask, name)?;
    let target = before.find(peer)?.clone();
    let changes = config::read_changes(&read_json(ask)?).map_err(|problems| Refusal::invalid(&problems))?;
    let now = ask.store.now();
    let is_up = changes.order.is_some_and(|(order, _)| order == Order::Up);
    // Who is up already does not start slowly again.
    let is_up_already = is_up && before.standing(&target).state.is_usable() && target.order(now).0 == Order::Up;
    ask.store.update_record(name, |record| {
        let peer = record.peers.iter_mut().find(|peer| peer.id == target.id);
        let peer = peer.ok_or_else(|| StoreError::NoSuchPeer(target.server.name.clone()))?;
        let ours = &mut peer.changes;
        ours.weight = changes.weight.or(ours.weight);
        ours.max_fails = changes.max_fails.or(ours.max_fails);
        ours.fail_timeout = changes.fail_timeout.or(ours.fail_timeout);
        ours.max_conns = changes.max_conns.or(ours.max_conns);
        ours.slow_start = changes.slow_start.or(ours.slow_start);
        // An order that is given again is the same one, unless it begins to end anew.
        let is_same = ours.order.map(|(order, _)| order) == changes.order.map(|(order, _)| order)
            && changes.order.is_some_and(|(order, _)| matches!(order, Order::Down | Order::Drain));
        if !is_up_already && !is_same {
            ours.order = changes.order.map(|(order, _)| (order, now)).or(ours.order);
        }
        Ok(())
    })?;
    if is_up {
        ask.store.pardon(name, target.id)?;
    }
    if changes.weight.is_some() {
        ask.store.overrule_weight(name, target.id)?;
    }
    log(ask, name, &format!("peer={} {}", target.server.name, described(&changes)));
    let after = Snapshot::take(&ask.store, name)?;
    if let Some(peer) = after.record.peers.iter().find(|peer| peer.id == target.id) {
        let change = [before.standing(&target).state, after.standing(peer).state];
        let why = after.standing(peer).why().unwrap_or_else(|| "ordered up".to_owned());
        ask.store.report(name, &target.server.name, change, "operator", &why);
    }
    answer(ask, 200, name, &target.server.name, None)
}

fn fail(ask: &Ask<'_>, name: &str, peer: &str) -> Result<Response, Refusal> {
    let before = known(ask, name)?;
    let peer: &PeerRecord = before.find(peer)?;
    ask.store.expect_revision(before.record.revision)?;
    ask.store.fail(&before.record, peer, &before.status, &"reported through the management API", false)?;
    log(ask, name, &format!("peer={} failed", peer.server.name));
    answer(ask, 200, name, &peer.server.name, None)
}

fn resolve(ask: &Ask<'_>, name: &str, peer: &str) -> Result<Response, Refusal> {
    let force = match ask.target.parameter("force") {
        None | Some("false" | "0") => false,
        Some("true" | "1" | "") => true,
        Some(_) => return Err(Refusal::new(400, "force: expected true or false")),
    };
    let before = known(ask, name)?;
    ask.store.expect_revision(before.record.revision)?;
    let target = before.find(peer)?;
    let handle = upstream::Upstream::get(ask.store, name)?;
    let handle = handle.and_then(|handle| handle.get_peer(&target.server.name));
    let mut handle = handle.ok_or_else(|| StoreError::NoSuchPeer(peer.to_owned()))?;
    let is_under_way = handle.resolve(force)?;
    if is_under_way {
        log(ask, name, &format!("peer={} is resolved again", target.server.name));
    }
    answer(ask, if is_under_way { 202 } else { 200 }, name, &target.server.name, None)
}

fn add_monitor(ask: &Ask<'_>, name: &str) -> Result<Response, Refusal> {
    if content_type(ask) != "application/json" {
        return Err(Refusal::new(415, "expected application/json"));
    }
    known(ask, name)?;
    let monitor = config::read_monitor(&read_json(ask)?).map_err(|problems| Refusal::invalid(&problems))?;
    let id = monitor.id.clone();
    ask.store.update_record(name, |record| record.add_monitor(monitor.clone()))?;
    log(ask, name, &format!("monitor={id} added"));
    let after = Snapshot::take(&ask.store, name)?;
    let mut response = json(201, monitor_json(&after, &id)?);
    let location = format!("{}/upstreams/{}/monitors/{}", ask.prefix, encode(name), encode(&id));
    response.headers.extend([("location", location), after.etag()]);
    Ok(response)
}

fn remove_monitor(ask: &Ask<'_>, name: &str, id: &str) -> Result<Response, Refusal> {
    let before = known(ask, name)?;
    ask.store.remove_monitor(name, id)?;
    log(ask, name, &format!("monitor={id} removed"));
    // Its verdicts went with it.
    let after = Snapshot::take(&ask.store, name)?;
    for peer in &after.record.peers {
        let change = [before.standing(peer).state, after.standing(peer).state];
        ask.store.report(name, &peer.server.name, change, "operator", &format!("monitor {id} is removed"));
    }
    Ok(Response { status: 204, headers: Vec::new(), body: Vec::new() })
}

/// The peer as it is after a change.
fn answer(
    ask: &Ask<'_>,
    status: u32,
    upstream: &str,
    peer: &str,
    location: Option<String>,
) -> Result<Response, Refusal> {
    let snapshot = Snapshot::take(&ask.store, upstream)?;
    let mut response = json(status, snapshot.peer_json(snapshot.find(peer)?));
    response.headers.push(snapshot.etag());
    response.headers.extend(location.map(|location| ("location", location)));
    Ok(response)
}

fn log(ask: &Ask<'_>, upstream: &str, what: &str) {
    let client = ask.host.client().map_or_else(|| "unknown".to_owned(), |client| client.to_string());
    ask.host.log(Level::Info, &format!("admin: client={client} upstream={upstream} {what}"));
}

/// What was changed, for the log.
fn described(changes: &Changes) -> String {
    let mut words = Vec::new();
    words.extend(changes.weight.map(|weight| format!("weight={weight}")));
    words.extend(changes.order.map(|(order, _)| format!("state={}", order.name())));
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
fn content_type(ask: &Ask<'_>) -> String {
    let value = ask.host.header("content-type").unwrap_or_default();
    let name = value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
    String::from_utf8_lossy(&name).into_owned()
}

fn body<'r>(ask: &Ask<'r>) -> Result<&'r [u8], Refusal> {
    if ask.body.trim_ascii().is_empty() {
        return Err(Refusal::new(400, "expected a body"));
    }
    Ok(ask.body)
}

fn read_json(ask: &Ask<'_>) -> Result<Json, Refusal> {
    let body = body(ask)?;
    if nesting(body) > DEEPEST {
        return Err(Refusal::new(400, format!("JSON nested deeper than {DEEPEST} levels")));
    }
    config::parse_json(body).map_err(|problems| Refusal::new(400, problems.to_string()))
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
