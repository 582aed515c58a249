//! Takes out what this command put into a configuration, and nothing else.
//!
//! One edit at a time, and the text is read anew after each: whoever edited the file meanwhile may have moved things. What is in
//! the file says what is ours: names for the parts, and a mark at each route with what stood there before.

use super::edit::{self, Edit, Refusal};
use super::parts::{ADMIN_LAYER, BUFFER, NAME, PEER_CLUSTERS, PROBE, PROBE_H2, PROBE_TLS, TCP, TCP_PEER};
use super::places::{self, File, Place, Route};
use super::splice::splice;
use super::way::Step;
use super::wiring::NAMESPACE;
use super::yaml::{Doc, Id};

/// A route that leads to durpina: its file, its way there once all is taken out, and the cluster that it had.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pointed {
    pub(crate) file: usize,
    pub(crate) steps: Vec<Step>,
    pub(crate) was: String,
}

/// The routes that this command pointed to durpina.
pub(crate) fn pointed(files: &[File]) -> Vec<Pointed> {
    let mut found: Vec<Pointed> = Vec::new();
    for route in routes(files) {
        let Some(File { doc, .. }) = files.get(route.place.file) else { continue };
        let Some(was) = places::mark(doc, route.place.id).and_then(|mark| doc.text_at(mark, &["was"])) else {
            continue;
        };
        if is_copy(doc, route.place.id) {
            continue;
        }
        let copies = doc.items(route.list).into_iter().take(route.at).filter(|id| is_copy(doc, *id)).count();
        let mut steps = doc.steps(route.place.id);
        if let Some(Step::Index(at)) = steps.last_mut() {
            *at -= copies;
        }
        let one = Pointed { file: route.place.file, steps, was: was.to_owned() };
        if !found.contains(&one) {
            found.push(one);
        }
    }
    found
}

fn routes(files: &[File]) -> Vec<Route> {
    let mut configs: Vec<Place> =
        places::managers(files).into_iter().filter_map(|manager| manager.routes.ok()).collect();
    configs.extend(places::all(files, "route_configs", "RouteConfiguration"));
    configs.into_iter().flat_map(|config| places::routes_of(files, config)).collect()
}

/// Whether a route is the copy for methods that may be sent twice.
pub(crate) fn is_copy(doc: &Doc, route: Id) -> bool {
    places::mark(doc, route).and_then(|mark| doc.text_at(mark, &["methods"])) == Some("safe")
}

/// The texts of the files without what this command wrote.
///
/// # Errors
///
/// What cannot be taken out, with its place.
pub(crate) fn prune(mut files: Vec<File>) -> Result<Vec<File>, String> {
    // Each edit takes something out, so that there is an end.
    while let Some((file, edit)) = next(&files)? {
        let Some(File { name, doc }) = files.get_mut(file) else { break };
        let text = splice(doc.text(), vec![edit]);
        *doc = Doc::parse(&text).map_err(|error| format!("{name}: {error}"))?;
    }
    Ok(files)
}

fn next(files: &[File]) -> Result<Option<(usize, Edit)>, String> {
    let said = |file: usize, result: Result<Edit, Refusal>| match result {
        Ok(edit) => Ok(Some((file, edit))),
        Err(refusal) => Err(format!("{} {}", places::show(files, Place { file, id: refusal.at }), refusal.why)),
    };
    for route in routes(files) {
        let file = route.place.file;
        let Some(File { doc, .. }) = files.get(file) else { continue };
        if let Some(edit) = of_route(doc, &route) {
            return said(file, edit);
        }
    }
    for manager in places::managers(files) {
        let file = manager.place.file;
        let Some(File { doc, .. }) = files.get(file) else { continue };
        if let Some(id) = of_manager(doc, manager.place.id) {
            return said(file, edit::remove(doc, id));
        }
    }
    let named = |place: &Place, names: &[&str]| {
        places::text(files, *place, &["name"]).is_some_and(|name| names.contains(&name))
    };
    let clusters = [&PEER_CLUSTERS[..], &[PROBE, PROBE_TLS, PROBE_H2, TCP, TCP_PEER, NAME][..]].concat();
    let cluster = places::clusters(files).into_iter().find(|place| named(place, &clusters));
    let listener = || places::listeners(files).into_iter().find(|place| named(place, &[TCP]));
    let layer = || {
        files.iter().enumerate().find_map(|(file, File { doc, .. })| {
            let layers = doc.at(doc.root(), &["layered_runtime", "layers"])?;
            let is_ours = |id: &Id| matches!(doc.text_at(*id, &["name"]), Some(NAME | ADMIN_LAYER));
            doc.items(layers).into_iter().find(is_ours).map(|id| Place { file, id })
        })
    };
    let Some(place) = cluster.or_else(listener).or_else(layer) else { return Ok(None) };
    let Some(File { doc, .. }) = files.get(place.file) else { return Ok(None) };
    said(place.file, edit::remove(doc, place.id))
}

/// The next thing to do at a route.
fn of_route(doc: &Doc, route: &Route) -> Option<Result<Edit, Refusal>> {
    let id = route.place.id;
    let mark = places::mark(doc, id)?;
    if let Some(was) = doc.text_at(mark, &["attempts"]) {
        let now = doc.get(route.host, "include_request_attempt_count");
        if let Some(now) = now.filter(|now| doc.scalar(*now) == Some("true")) {
            let none = was == "none";
            return Some(if none { edit::remove(doc, now) } else { edit::replace(doc, now, was) });
        }
    }
    let own = |key: &str| doc.get(route.host, key);
    if let Some(now) = own(BUFFER.0).filter(|now| doc.scalar(*now) == Some(BUFFER.1)) {
        if doc.get(mark, "buffer").is_some() {
            return Some(edit::remove(doc, now));
        }
    }
    if is_copy(doc, id) {
        return Some(edit::remove(doc, id));
    }
    let action = doc.get(id, "route");
    if let (Some(was), Some(cluster)) =
        (doc.text_at(mark, &["was"]), action.and_then(|action| doc.get(action, "cluster")))
    {
        if doc.scalar(cluster) == Some(NAME) {
            // In JSON, which it may have become meanwhile.
            let key = action.and_then(|action| doc.entries(action).iter().find(|(_, value)| *value == cluster));
            let quoted = key.is_some_and(|(key, _)| doc.source(*key).starts_with('"'));
            let needs_quotes = quoted && !was.starts_with('"');
            let was = if needs_quotes { serde_json::Value::from(was).to_string() } else { was.to_owned() };
            return Some(edit::replace(doc, cluster, &was));
        }
    }
    if doc.text_at(mark, &["retry_policy"]).is_some() {
        if let Some(policy) = action.and_then(|action| doc.get(action, "retry_policy")) {
            return Some(edit::remove(doc, policy));
        }
    }
    Some(edit::remove(doc, mark))
}

/// The next thing to take out of a connection manager.
fn of_manager(doc: &Doc, manager: Id) -> Option<Id> {
    let filters = doc.get(manager, "http_filters").map(|list| doc.items(list)).unwrap_or_default();
    for filter in filters {
        if doc.text_at(filter, &["name"]) == Some(NAME) || is_to_metadata(doc, filter) {
            return Some(filter);
        }
    }
    let log = doc.get(manager, "access_log").map(|list| doc.items(list)).unwrap_or_default();
    log.into_iter().find(|entry| doc.text_at(*entry, &["name"]) == Some(NAME))
}

/// Whether a filter makes metadata of durpina's headers, and of nothing else.
pub(crate) fn is_to_metadata(doc: &Doc, filter: Id) -> bool {
    let rules = doc.at(filter, &["typed_config", "request_rules"]).map(|list| doc.items(list)).unwrap_or_default();
    let space = |rule: &Id| doc.text_at(*rule, &["on_header_present", "metadata_namespace"]) == Some(NAMESPACE);
    !rules.is_empty() && rules.iter().all(space)
}
