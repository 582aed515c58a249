//! The filter among its neighbours, and the routes that lead to its clusters.

use serde_json::Value;

use super::{cluster, headers, Filter, Findings};
use crate::envoy::filter::Names;
use crate::envoy::parts::ACCESS_LOG_ROOT;
use crate::envoy::places::{self, File, Manager, Place};
use crate::envoy::prune::is_to_metadata;
use crate::envoy::wiring::{KEYS, NAMESPACE};
use crate::envoy::yaml::{Doc, Id};

/// Filters that let requests through or not. A request that they reject must not come to durpina.
const GATES: [&str; 10] = [
    "ExtAuthz",
    "JwtAuthn",
    "JwtAuthentication",
    "RBAC",
    "RateLimit",
    "LocalRateLimit",
    "OAuth2",
    "BasicAuth",
    "CsrfPolicy",
    "ApiKeyAuth",
];

pub(super) fn check(filter: &Filter, findings: &mut Findings<'_>) {
    let Some(File { doc, .. }) = findings.files.get(filter.config.file) else { return };
    policy(filter, doc, findings);
    neighbours(filter, doc, findings);
    access_log(filter, doc, findings);
    settings(filter, doc, findings);
    for route in routes(&filter.manager, findings) {
        let Some(cluster) = cluster::of_route(findings.files, route.place) else {
            headers::others(filter, route.place, findings);
            continue;
        };
        headers::removed(filter, &route, &cluster, findings);
        coverage(filter, route.place, &cluster, findings);
        let Some(File { doc, .. }) = findings.files.get(route.place.file) else { continue };
        let has_policy = ["retry_policy", "retry_policy_typed_config"]
            .iter()
            .any(|key| doc.at(route.place.id, &["route", key]).or_else(|| doc.get(route.host, key)).is_some());
        if cluster::is_composite(findings.files, &cluster) && !has_policy {
            let what = "has no retry_policy: a request whose first peer is dead fails";
            findings.warning(route.place, what);
        }
        let counts = doc.text_at(route.host, &["include_request_attempt_count"]) == Some("true");
        if Names::of(&filter.json).access_log && has_policy && !counts {
            let what = "has no include_request_attempt_count: true, so the access log does not tell of requests that were retried and answered";
            findings.error(route.place.at(route.host), what);
        }
    }
}

/// A connection manager without durpina: no route of its may lead to clusters that go by what durpina writes.
pub(super) fn check_without(manager: &Manager, findings: &mut Findings<'_>) {
    for route in routes(manager, findings) {
        if let Some(name) = cluster::of_route(findings.files, route.place) {
            let message = format!(
                "leads to {name:?} in a connection manager without durpina ({}/{}): whoever sends its header chooses where \
                 Envoy connects to, or the answer is 503",
                manager.listener, manager.stat_prefix
            );
            findings.error(route.place, &message);
        }
    }
}

fn routes(manager: &Manager, findings: &mut Findings<'_>) -> Vec<places::Route> {
    match &manager.routes {
        Ok(config) => places::routes_of(findings.files, *config),
        Err(why) => {
            findings.warning(manager.place, &format!("{why}; they were not looked at"));
            Vec::new()
        }
    }
}

/// What Envoy does when the filter crashes, and whether it may wait.
fn policy(filter: &Filter, doc: &Doc, findings: &mut Findings<'_>) {
    let at = |key: &str| doc.get(filter.config.id, key).map(|id| filter.config.at(id));
    let open = "lets requests through when the filter has crashed, and their headers choose the peer: an open proxy. Take FAIL_RELOAD";
    match (at("failure_policy"), at("fail_open")) {
        (_, Some(place)) if doc.scalar(place.id) == Some("true") => findings.error(place, open),
        (Some(place), _) if doc.scalar(place.id) == Some("FAIL_OPEN") => findings.error(place, open),
        (Some(place), _) if doc.scalar(place.id) == Some("FAIL_RELOAD") => {}
        (place, _) => {
            let what = "after a crash of the filter that worker answers 503 until Envoy is restarted: failure_policy: FAIL_RELOAD";
            findings.warning(place.unwrap_or(filter.config), what);
        }
    }
    if at("allow_on_headers_stop_iteration").is_none_or(|place| doc.scalar(place.id) != Some("true")) {
        let what = "has no allow_on_headers_stop_iteration: true: requests to the management API that have a body are never answered";
        match filter.json.get("admin") {
            Some(_) => findings.error(filter.config, what),
            None => findings.warning(filter.config, what),
        }
    }
}

/// What has to be right behind the filter, and what has no business there.
fn neighbours(filter: &Filter, doc: &Doc, findings: &mut Findings<'_>) {
    let Some(list) = doc.get(filter.manager.place.id, "http_filters") else { return };
    let filters = doc.items(list);
    let to_metadata = filters.iter().position(|id| is_to_metadata(doc, *id));
    let by_metadata = routes(&filter.manager, findings)
        .into_iter()
        .filter_map(|route| cluster::of_route(findings.files, route.place))
        .any(|name| cluster::goes_by_metadata(findings.files, &name));
    match to_metadata {
        None if by_metadata => {
            let what =
                "is not followed by header_to_metadata, from which its clusters have the peers: every request gets 503";
            findings.error(filter.place, what);
        }
        Some(at) if at != filter.at + 1 && by_metadata => {
            let id = filters.get(at).copied().unwrap_or(list);
            let what = "has to stand right behind durpina: what comes between sees, and can change, the headers with the peers";
            findings.error(filter.place.at(id), what);
        }
        Some(at) => {
            if let Some(id) = filters.get(at) {
                rules(filter, doc, *id, findings);
            }
        }
        None => {}
    }
    for id in filters.iter().skip(filter.at + 1) {
        let Some(typed) = doc.get(*id, "typed_config") else { continue };
        if let Some(kind) = GATES.into_iter().find(|kind| places::is_type(doc, typed, kind)) {
            let what = format!("({kind}) rejects requests, and should do so before durpina picks a peer for them");
            findings.warning(filter.place.at(*id), &what);
        }
    }
}

/// The rules of header_to_metadata: each header into its key, and out of the request.
fn rules(filter: &Filter, doc: &Doc, id: Id, findings: &mut Findings<'_>) {
    let rules = doc.at(id, &["typed_config", "request_rules"]).map(|list| doc.items(list)).unwrap_or_default();
    for (header, key) in cluster::headers(&filter.json).iter().zip(KEYS) {
        let Some(rule) = rules.iter().find(|rule| doc.text_at(**rule, &["header"]) == Some(header)) else {
            findings.error(filter.place.at(id), &format!("has no rule for the header {header}"));
            continue;
        };
        let place = filter.place.at(*rule);
        let found = |what: &str| doc.text_at(*rule, &["on_header_present", what]);
        if (found("metadata_namespace"), found("key")) != (Some(NAMESPACE), Some(key)) {
            findings.error(place, &format!("{header} has to become the key {key:?} of the namespace {NAMESPACE:?}"));
        }
        if doc.text_at(*rule, &["remove"]) != Some("true") {
            findings.warning(place, &format!("has no remove: true, so the servers see {header}"));
        }
    }
}

fn access_log(filter: &Filter, doc: &Doc, findings: &mut Findings<'_>) {
    let manager = filter.manager.place;
    let own = doc.get(filter.config.id, "vm_config").map(|id| doc.value(id));
    let log = doc.get(manager.id, "access_log").map(|list| doc.items(list)).unwrap_or_default();
    let entry = log.into_iter().find_map(|id| {
        let typed = doc.get(id, "typed_config")?;
        let config = doc.get(typed, "config").filter(|_| places::is_type(doc, typed, "WasmAccessLog"))?;
        (doc.text_at(config, &["root_id"]) == Some(ACCESS_LOG_ROOT)).then_some((id, config))
    });
    match (Names::of(&filter.json).access_log, entry) {
        (true, None) => {
            let what = format!(
                "the filter JSON says \"access_log\": true, and there is no access_log entry with the root_id {ACCESS_LOG_ROOT:?}: no failure is counted"
            );
            findings.error(filter.place, &what);
        }
        (false, Some((id, _))) => {
            let what = "is of no use: the filter JSON does not say \"envoy\": {\"access_log\": true}";
            findings.warning(manager.at(id), what);
        }
        (true, Some((_, config))) => {
            let vm = doc.get(config, "vm_config");
            if vm.map(|id| doc.value(id)) != own {
                let what =
                    "differs from the filter's vm_config: the access log runs in another VM, and no failure is counted";
                findings.error(manager.at(vm.unwrap_or(config)), what);
            }
        }
        (false, None) => {}
    }
}

fn settings(filter: &Filter, doc: &Doc, findings: &mut Findings<'_>) {
    let manager = filter.manager.place;
    let routes = filter.json.get("routes").and_then(Value::as_array).is_some_and(|routes| !routes.is_empty());
    if routes && doc.text_at(manager.id, &["normalize_path"]) != Some("true") {
        let what = "has no normalize_path: true: the filter's routes are matched on the path as the client wrote it, /a/../b for one";
        findings.warning(manager, what);
    }
    let json = filter.json.to_string();
    let by_address = json.contains("$remote_addr") || json.contains("ip-hash") || filter.json.get("admin").is_some();
    if by_address && doc.text_at(manager.id, &["use_remote_address"]) != Some("true") {
        let what = "has no use_remote_address: true: by x-forwarded-for a client can claim any address, which the filter JSON goes by";
        findings.warning(manager, what);
    }
}

fn text(route: &Value, key: &str) -> Option<String> {
    route.get(key).and_then(Value::as_str).map(str::to_owned)
}

/// Whether a request may match both a route of the filter JSON and one of Envoy's.
pub(super) fn may_match(route: &Value, kind: &str, envoy: &str) -> bool {
    let exact = kind == "path";
    match (text(route, "path"), text(route, "prefix")) {
        // Nobody says what two regular expressions have in common.
        _ if kind == "safe_regex" => true,
        (Some(path), _) if exact => path == envoy,
        (Some(path), _) => path.starts_with(envoy),
        (None, Some(prefix)) => envoy.starts_with(&prefix) || (!exact && prefix.starts_with(envoy)),
        (None, None) => true,
    }
}

/// Whether the filter JSON has a route for what Envoy's route leads to durpina.
fn coverage(filter: &Filter, place: Place, cluster: &str, findings: &mut Findings<'_>) {
    let Some(File { doc, .. }) = findings.files.get(place.file) else { return };
    if filter.json.get("upstream").is_some() || !filter.json.is_object() {
        return;
    }
    let Some((kind, envoy)) = places::matched(doc, place.id) else { return };
    let routes = filter.json.get("routes").and_then(Value::as_array).cloned().unwrap_or_default();
    let whole = |route: &Value| ["path", "regex", "host", "method"].iter().all(|key| route.get(key).is_none());
    let covers = |route: &Value| {
        whole(route) && text(route, "prefix").is_none_or(|prefix| kind != "safe_regex" && envoy.starts_with(&prefix))
    };
    if !routes.iter().any(|route| may_match(route, kind, &envoy)) {
        let what =
            format!("leads to {cluster:?}, and no route of the filter JSON matches {envoy:?}: every request gets 503");
        findings.error(place, &what);
    } else if !routes.iter().any(covers) {
        let what = format!(
            "leads to {cluster:?}, and the routes of the filter JSON match some requests for {envoy:?} only: others get 503"
        );
        findings.warning(place, &what);
    }
}
