//! An `EnvoyFilter` for the proxies of an ingress gateway.
//!
//! istiod applies patches of the kinds `MERGE` to what is there, and adds after that, so that nothing here patches the listener that it adds.
//! A `MERGE` appends to lists. The API: <https://istio.io/latest/docs/reference/config/networking/envoy-filter/>

use super::{head, routes, Manifest, Options};
use crate::envoy::part::Part;
use crate::envoy::parts::{self, NAME};

pub(super) const COMMENT: &str = "\
# Written by `durpina envoy --for istio`; docs/kubernetes.md of durpina says what it needs, and envoy/durpina.yaml explains
# the parts.
";

/// The first proxies with a cluster that is made of others are those of Envoy 1.37. Others get nothing of all this.
const VERSION: &str = r"^1\.(29|[3-9][0-9])";

const MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// The manifest.
pub(super) fn entries(manifest: &Manifest, options: &Options) -> Vec<(String, Part)> {
    let mut entries = head("networking.istio.io/v1alpha3", "EnvoyFilter", options.namespace.as_deref(), "istio-system");
    let gateway = options.gateway.as_deref().unwrap_or("ingressgateway");
    let (key, label) = gateway.split_once('=').unwrap_or(("istio", gateway));
    let spec = Part::map([
        ("workloadSelector", Part::map([("labels", Part::map([(key, Part::text(label))]))])),
        ("configPatches", Part::List(patches(manifest))),
    ]);
    entries.push(("spec".to_owned(), spec));
    entries
}

fn patches(manifest: &Manifest) -> Vec<Part> {
    let mut patches: Vec<Part> =
        manifest.clusters().into_iter().map(|cluster| patch("CLUSTER", None, "ADD", cluster)).collect();
    patches.extend(manifest.gateway().map(|gateway| patch("LISTENER", None, "ADD", gateway)));
    let mut filters = parts::filters(&manifest.setting, &manifest.wiring);
    if manifest.setting.wasm.contains("://") {
        if let Some((filter, extension)) = filters.first().and_then(|filter| discovered(filter, &manifest.setting.wasm))
        {
            patches.push(patch("EXTENSION_CONFIG", None, "ADD", extension));
            if let Some(first) = filters.first_mut() {
                *first = filter;
            }
        }
    }
    let router = Part::map([("name", Part::text("envoy.filters.http.router"))]);
    for filter in filters {
        let before = manager(Some(("subFilter", router.clone())));
        patches.push(patch("HTTP_FILTER", Some(("listener", before)), "INSERT_BEFORE", filter));
    }
    if manifest.setting.access_log {
        let typed = Part::map([
            (
                "@type",
                Part::text(
                    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                ),
            ),
            ("access_log", Part::List(vec![parts::access_log(&manifest.setting)])),
        ]);
        let value = Part::map([("name", Part::text(MANAGER)), ("typed_config", typed)]);
        patches.push(patch("NETWORK_FILTER", Some(("listener", manager(None))), "MERGE", value));
    }
    let mut counted: Vec<&str> = Vec::new();
    for route in &manifest.routes {
        let host = || {
            let domain = Part::map([("domainName", Part::text(route.host.as_str()))]);
            Some(("routeConfiguration", Part::map([("vhost", domain)])))
        };
        if manifest.setting.access_log && !counted.contains(&route.host.as_str()) {
            counted.push(&route.host);
            let count = Part::map([("include_request_attempt_count", Part::Word("true".to_owned()))]);
            patches.push(patch("VIRTUAL_HOST", host(), "MERGE", count));
        }
        for route in routes(&route.prefix) {
            patches.push(patch("HTTP_ROUTE", host(), "INSERT_FIRST", route));
        }
    }
    patches
}

fn patch(apply_to: &str, place: Option<(&str, Part)>, operation: &str, value: Part) -> Part {
    let mut rule =
        Part::map([("context", Part::text("GATEWAY")), ("proxy", Part::map([("proxyVersion", Part::text(VERSION))]))]);
    if let Some((key, place)) = place {
        rule.set(key, place);
    }
    let patch = Part::map([("operation", Part::text(operation)), ("value", value)]);
    Part::map([("applyTo", Part::text(apply_to)), ("match", rule), ("patch", patch)])
}

/// A place in every connection manager.
fn manager(within: Option<(&str, Part)>) -> Part {
    let mut filter = Part::map([("name", Part::text(MANAGER))]);
    if let Some((key, within)) = within {
        filter.set(key, within);
    }
    Part::map([("filterChain", Part::map([("filter", filter)]))])
}

/// The filter as one whose configuration comes by itself, and that configuration. On its way through the proxy's pod Istio's agent
/// fetches the image and puts the path of a file in its place. An image that it cannot fetch makes it refuse all requests.
fn discovered(filter: &Part, image: &str) -> Option<(Part, Part)> {
    let mut typed = filter.get("typed_config")?.clone();
    // Not used, but Envoy's API wants it.
    let cluster = ("cluster", Part::text("none"));
    let uri = Part::map([("uri", Part::text(image)), ("timeout", Part::text("30s")), cluster]);
    // Istio's word for "none given": the image's reference may have a digest.
    let remote = Part::map([("http_uri", uri), ("sha256", Part::text("nil"))]);
    typed.entry("config")?.entry("vm_config")?.set("code", Part::map([("remote", remote)]));
    let kind = typed.get("@type")?.clone();
    let source = Part::map([("ads", Part::Map(Vec::new())), ("initial_fetch_timeout", Part::text("0s"))]);
    let discovery = Part::map([("config_source", source), ("type_urls", Part::List(vec![kind]))]);
    let name = || ("name", Part::text(NAME));
    Some((Part::map([name(), ("config_discovery", discovery)]), Part::map([name(), ("typed_config", typed)])))
}
