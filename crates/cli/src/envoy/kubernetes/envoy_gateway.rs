//! An `EnvoyPatchPolicy` for the proxies of a Gateway.
//!
//! Its patches are those of RFC 6902, for one resource each, whose name has to be known. Where a patch goes is said by a JSONPath, which
//! stands for the pointers that it finds: an element that is added at the pointer of another one comes before that. Lists and maps that
//! are missing on the way are made. The API: <https://gateway.envoyproxy.io/docs/api/extension_types/#envoypatchpolicy>

use super::{head, routes, Manifest, Options};
use crate::envoy::part::Part;
use crate::envoy::parts;

pub(super) const COMMENT: &str = "\
# Written by `durpina envoy --for envoy-gateway`; docs/kubernetes.md of durpina says what it needs, and envoy/durpina.yaml
# explains the parts.
";

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

const BEFORE_ROUTER: &str = "..http_filters[?(@.name=='envoy.filters.http.router')]";
const MANAGER: &str = "..filters[?(@.name=='envoy.filters.network.http_connection_manager')].typed_config";

/// The manifest.
pub(super) fn entries(manifest: &Manifest, options: &Options) -> Vec<(String, Part)> {
    let mut entries =
        head("gateway.envoyproxy.io/v1alpha1", "EnvoyPatchPolicy", options.namespace.as_deref(), "default");
    let target = Part::map([
        ("group", Part::text("gateway.networking.k8s.io")),
        ("kind", Part::text("Gateway")),
        ("name", Part::text(options.gateway.as_deref().unwrap_or("eg"))),
    ]);
    let spec = Part::map([
        ("targetRef", target),
        ("type", Part::text("JSONPatch")),
        ("jsonPatches", Part::List(patches(manifest, &Names::of(options)))),
    ]);
    entries.push(("spec".to_owned(), spec));
    entries
}

/// How Envoy Gateway calls what it writes.
struct Names {
    listener: String,
    routes: String,
    /// What the names of virtual hosts begin with.
    host: String,
}

impl Names {
    /// By the scheme `XDSNameSchemeV2` if there is a port, else by the one before it.
    fn of(options: &Options) -> Self {
        let namespace = options.namespace.as_deref().unwrap_or("default");
        let gateway = options.gateway.as_deref().unwrap_or("eg");
        let listener = options.listener.as_deref();
        let long = format!("{namespace}/{gateway}/{}", listener.unwrap_or("http"));
        match options.port {
            None => Self { listener: long.clone(), host: format!("{long}/"), routes: long },
            Some(port) => {
                let routes = if listener.is_some() { long } else { format!("http-{port}") };
                Self { listener: format!("tcp-{port}"), routes, host: String::new() }
            }
        }
    }

    fn host(&self, host: &str) -> String {
        format!("..virtual_hosts[?(@.name=='{}{}')]", self.host, host.replace('.', "_"))
    }
}

fn patches(manifest: &Manifest, names: &Names) -> Vec<Part> {
    let whole = |kind: &str, resource: Part| {
        let name = resource.get("name").cloned().unwrap_or(Part::text(""));
        patch(kind, name, &[("path", "")], resource)
    };
    let mut patches: Vec<Part> = manifest.clusters().into_iter().map(|cluster| whole(CLUSTER, cluster)).collect();
    let listener = |place: &[(&str, &str)], value| patch(LISTENER, Part::text(names.listener.as_str()), place, value);
    for filter in parts::filters(&manifest.setting, &manifest.wiring) {
        patches.push(listener(&[("jsonPath", BEFORE_ROUTER)], filter));
    }
    if manifest.setting.access_log {
        let place = [("jsonPath", MANAGER), ("path", "access_log/-")];
        patches.push(listener(&place, parts::access_log(&manifest.setting)));
    }
    patches.extend(manifest.gateway().map(|gateway| whole(LISTENER, gateway)));
    let mut counted: Vec<&str> = Vec::new();
    for route in &manifest.routes {
        let host = names.host(&route.host);
        let within = |path, value| {
            patch(ROUTES, Part::text(names.routes.as_str()), &[("jsonPath", host.as_str()), ("path", path)], value)
        };
        if manifest.setting.access_log && !counted.contains(&route.host.as_str()) {
            counted.push(&route.host);
            patches.push(within("include_request_attempt_count", Part::Word("true".to_owned())));
        }
        patches.extend(routes(&route.prefix).map(|route| within("routes/0", route)));
    }
    patches
}

fn patch(kind: &str, name: Part, place: &[(&str, &str)], value: Part) -> Part {
    let mut operation = Part::map([("op", Part::text("add"))]);
    for (key, place) in place {
        operation.set(key, Part::text(*place));
    }
    operation.set("value", value);
    Part::map([("type", Part::text(kind)), ("name", name), ("operation", operation)])
}
