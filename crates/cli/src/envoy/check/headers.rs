//! The headers in which picks are, where clusters read them: nobody takes them out, nobody else gets them, and all filters agree.

use serde_json::Value;

use super::{cluster, manager, Filter, Findings};
use crate::envoy::places::{self, File, Place, Route};
use crate::envoy::prune::is_to_metadata;
use crate::envoy::wiring::is_hidden;

/// Lists of headers to remove: they count before a cluster chooses its peer.
pub(super) fn removed(filter: &Filter, route: &Route, name: &str, findings: &mut Findings<'_>) {
    let Some(File { doc, .. }) = findings.files.get(route.place.file) else { return };
    let read = cluster::read_by(findings.files, name);
    let config = doc.parent(route.host).and_then(|list| doc.parent(list));
    for id in [Some(route.place.id), Some(route.host), config].into_iter().flatten() {
        let list = doc.get(id, "request_headers_to_remove").map(|list| doc.items(list)).unwrap_or_default();
        for header in list {
            let named = doc.scalar(header).unwrap_or_default().to_ascii_lowercase();
            if read.contains(&named) && cluster::headers(&filter.json).contains(&named) {
                let message = format!(
                    "{named} is taken out before the cluster {name:?} chooses its peer by it: every request gets 503"
                );
                findings.error(route.place.at(header), &message);
            }
        }
    }
}

/// A route that leads elsewhere, with requests for which durpina picks.
pub(super) fn others(filter: &Filter, route: Place, findings: &mut Findings<'_>) {
    let headers = cluster::headers(&filter.json);
    let Some(header) = headers.iter().find(|header| is_hidden(header)) else { return };
    let files = findings.files;
    if is_moved(filter, files) {
        return;
    }
    let Some(File { doc, .. }) = files.get(route.file) else { return };
    if filter.json.get("upstream").is_none() {
        let routes = filter.json.get("routes").and_then(Value::as_array).cloned().unwrap_or_default();
        let matched = places::matched(doc, route.id);
        let both = |one: &Value| matched.as_ref().is_none_or(|(kind, envoy)| manager::may_match(one, kind, envoy));
        if !routes.iter().any(both) {
            return;
        }
    }
    for name in places::led_to(files, route, &[]).into_iter().flatten() {
        let http2 = places::cluster(files, &name).is_some_and(|place| cluster::speaks_http2(place, files));
        if http2 {
            let message = format!(
                "leads to {name:?}, which speaks HTTP/2, and durpina may pick for its requests: its servers get the header {header} \
                 then, and take it for a mistake. Take the wiring of envoy/durpina-h2.yaml, or narrower routes in the filter JSON"
            );
            findings.warning(route, &message);
        }
    }
}

/// Whether a filter behind durpina takes its headers out.
fn is_moved(filter: &Filter, files: &[File]) -> bool {
    let manager = filter.manager.place;
    files.get(manager.file).is_some_and(|File { doc, .. }| {
        let filters = doc.get(manager.id, "http_filters").map(|list| doc.items(list)).unwrap_or_default();
        filters.into_iter().skip(filter.at).any(|id| is_to_metadata(doc, id))
    })
}

/// Filters whose routes lead to the same cluster have one set of names.
pub(super) fn alike(filters: &[Filter], findings: &mut Findings<'_>) {
    let files = findings.files;
    let led_to = |filter: &Filter| -> Vec<String> {
        let routes = filter.manager.routes.as_ref().map(|config| places::routes_of(files, *config)).unwrap_or_default();
        routes.into_iter().filter_map(|route| cluster::of_route(files, route.place)).collect()
    };
    for (at, filter) in filters.iter().enumerate() {
        let own = led_to(filter);
        for other in filters.iter().take(at) {
            if cluster::headers(&filter.json) == cluster::headers(&other.json) {
                continue;
            }
            let both =
                led_to(other).into_iter().find(|name| own.contains(name) && !cluster::read_by(files, name).is_empty());
            if let Some(name) = both {
                let line = files.get(other.place.file).map_or(0, |file| file.doc.line(other.place.id));
                let message = format!(
                    "names its peer_headers otherwise than the filter in line {line}, and routes of both lead to the cluster {name:?}, \
                     which reads those of one"
                );
                findings.error(filter.config, &message);
            }
        }
    }
}
