//! Manifests that bring the filter into the proxies of a controller in Kubernetes, which writes their configuration itself.
//!
//! What is put in are the same parts as into a file. Where they go is said in the controller's own words:
//!
//! | module | what it writes |
//! | --- | --- |
//! | [`istio`] | an `EnvoyFilter` |
//! | [`envoy_gateway`] | an `EnvoyPatchPolicy` |

mod envoy_gateway;
mod istio;

use serde_json::Value;

use super::filter::Filter;
use super::graft::{Notes, Wishes};
use super::part::{Part, Style};
use super::parts::{self, Setting, NAME};
use super::wiring::{Peers, Wiring, PEER_HEADERS};

/// What writes the proxies' configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Platform {
    /// An EnvoyFilter for an ingress gateway of Istio's
    Istio,
    /// An EnvoyPatchPolicy for a Gateway of Envoy Gateway's
    EnvoyGateway,
}

/// A controller's parts do not arrive together: routes and clusters can be there before the filter is, or without it. Then nothing that a client
/// sends may be a peer.
fn wiring() -> Wiring {
    Wiring::of(true, None)
}

/// The heading of [`Options`] in the help.
const HEADING: &str = "Options with --for";

// For whom a manifest is, and how things are called there. (No doc comment: clap would take it for what the command does.)
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct Options {
    /// Writes a manifest for Kubernetes to the standard output
    ///
    /// The only file is the filter JSON then. In --route, HOST is a name that clients ask for, as the VirtualService or the
    /// HTTPRoute has it, and there are new routes for PREFIX before all others of that host.
    #[arg(long = "for", value_name = "PLATFORM", value_enum, conflicts_with_all = ["managers", "remove", "write"])]
    pub(crate) platform: Option<Platform>,
    /// Namespace of the manifest: that of the gateway
    ///
    /// Default: istio-system for Istio, default for Envoy Gateway.
    #[arg(long, help_heading = HEADING, value_name = "NAME", value_hint = clap::ValueHint::Other, requires = "platform")]
    pub(crate) namespace: Option<String>,
    /// The gateway: a label of its pods, or the Gateway's name
    ///
    /// For Istio the value of the label "istio", or KEY=VALUE for another label.
    /// Default: ingressgateway for Istio, eg for Envoy Gateway.
    #[arg(long, help_heading = HEADING, value_name = "NAME", value_hint = clap::ValueHint::Other, requires = "platform")]
    pub(crate) gateway: Option<String>,
    /// Envoy Gateway: the listener in the Gateway
    ///
    /// Default: http. Beside --port it means a listener for HTTPS.
    #[arg(long, help_heading = HEADING, value_name = "NAME", value_hint = clap::ValueHint::Other, requires = "platform")]
    pub(crate) listener: Option<String>,
    /// Envoy Gateway: the listener's port, where XDSNameSchemeV2 is enabled
    #[arg(long, help_heading = HEADING, value_name = "PORT", value_hint = clap::ValueHint::Other, requires = "platform")]
    pub(crate) port: Option<u16>,
}

/// What all manifests are made of.
struct Manifest {
    setting: Setting,
    wiring: Wiring,
    peers: Peers,
    routes: Vec<Prefix>,
}

/// Requests that go to durpina.
struct Prefix {
    host: String,
    prefix: String,
}

/// The manifest for a filter JSON, and what there is to know beside it.
///
/// # Errors
///
/// What is wrong with the filter JSON, or cannot be done there, a line for each.
pub(crate) fn write(
    json: &str,
    platform: Platform,
    options: &Options,
    wishes: &Wishes,
) -> Result<(String, Notes), Vec<String>> {
    let filter = Filter::read(json)?;
    if has_own_headers(json) {
        return Err(vec![
            "envoy.peer_headers: the filter behind durpina in a manifest reads the default names: leave it out"
                .to_owned(),
        ]);
    }
    let mut notes = Notes::new();
    let routes = wishes.routes.iter().map(|wish| prefix(wish)).collect::<Vec<_>>();
    if routes.is_empty() {
        notes.push("no route leads to durpina yet: --route HOST/PREFIX says which".to_owned());
    }
    for cluster in &filter.others {
        notes.push(format!("the filter JSON asks through the cluster {cluster:?}, which is not in this manifest"));
    }
    if takes_all_hosts(json) && routes.iter().all(|route| route.host != "*") {
        notes.push(
            "the filter JSON takes requests for any host: one for another host of the gateway gets 503 while nobody is left in \
             the upstream; give its routes a \"host\""
                .to_owned(),
        );
    }
    let peers = wishes.peers.unwrap_or(Peers::Http1);
    let setting = Setting {
        json: filter.text.clone(),
        wasm: wishes.wasm.as_deref().unwrap_or(WASM).to_owned(),
        socket: wishes.socket.as_deref().unwrap_or(SOCKET).to_owned(),
        access_log: filter.access_log,
        checks: filter.checks,
    };
    let mut manifest = Manifest { setting, wiring: wiring(), peers, routes };
    let is_image = manifest.setting.wasm.contains("://");
    let (comment, entries) = match platform {
        Platform::Istio => {
            if is_image {
                manifest.without_access_log(json)?;
            }
            for (name, given) in [("--listener", options.listener.is_some()), ("--port", options.port.is_some())] {
                if given {
                    return Err(vec![format!("{name} is for Envoy Gateway: an EnvoyFilter takes all listeners of the gateway")]);
                }
            }
            (istio::COMMENT, istio::entries(&manifest, options))
        }
        Platform::EnvoyGateway if is_image => {
            return Err(vec![format!(
                "{}: what an EnvoyPatchPolicy puts in is loaded by Envoy itself, which reads files: mount the image, and give \
                 the path of the file",
                manifest.setting.wasm
            )])
        }
        Platform::EnvoyGateway => (envoy_gateway::COMMENT, envoy_gateway::entries(&manifest, options)),
    };
    if manifest.setting.checks.any() {
        notes.push(format!("{LIMIT}: 262144 belongs into the proxy's runtime; docs/kubernetes.md says how"));
    }
    let style = Style { step: 2, dash: 0, json: false };
    let body: String = entries.iter().map(|(key, part)| part.block_entry(key, 0, style)).collect();
    Ok((format!("{comment}{body}"), notes))
}

/// Where the filter is, and the gateway's socket, unless somebody says otherwise. The file has the name that it has in an image.
const WASM: &str = "/etc/durpina/plugin.wasm";
const SOCKET: &str = "/run/durpina/tcp.sock";

/// The bound on answers to checks.
const LIMIT: &str = "http.async_response_buffer_limit";

fn prefix(wish: &str) -> Prefix {
    let (host, prefix) = wish.find('/').map_or((wish, "/"), |at| wish.split_at(at));
    Prefix { host: host.to_owned(), prefix: prefix.to_owned() }
}

/// Whether the picks are in headers of other names.
fn has_own_headers(json: &str) -> bool {
    let json: Value = serde_json::from_str(json).unwrap_or_default();
    json.pointer("/envoy/peer_headers")
        .is_some_and(|names| !names.is_null() && *names != Value::from(PEER_HEADERS.to_vec()))
}

/// Whether requests come to an upstream without regard to their host.
fn takes_all_hosts(json: &str) -> bool {
    let json: Value = serde_json::from_str(json).unwrap_or_default();
    let routes = json.get("routes").and_then(Value::as_array);
    let all = |route: &Value| route.get("host").is_none();
    json.get("upstream").is_some_and(|upstream| !upstream.is_null())
        || routes.is_some_and(|routes| routes.iter().any(all))
}

impl Manifest {
    /// Where the file will be that was an image is not known here, and the access log would have to name it.
    fn without_access_log(&mut self, json: &str) -> Result<(), Vec<String>> {
        let asked = serde_json::from_str::<Value>(json)
            .is_ok_and(|json| json.pointer("/envoy/access_log") == Some(&Value::Bool(true)));
        if asked {
            return Err(vec![
                "envoy.access_log: with an image there is none, for an access log has to name the file that Istio makes of it: \
                 leave it out, or mount the image"
                    .to_owned(),
            ]);
        }
        self.setting.access_log = false;
        json.trim_end().clone_into(&mut self.setting.json);
        Ok(())
    }

    /// All clusters.
    fn clusters(&self) -> Vec<Part> {
        let mut all = vec![parts::composite()];
        all.extend(parts::peers(&self.wiring, &parts::connection(self.peers)));
        all.extend(parts::probes(&self.setting));
        all
    }

    /// The gateway for TCP, if there is one.
    fn gateway(&self) -> Option<Part> {
        self.setting.checks.tcp.then(|| parts::gateway(&self.setting))
    }
}

/// The routes for a prefix, the later ones before the earlier ones.
fn routes(prefix: &str) -> [Part; 2] {
    [false, true].map(|may_be_sent_twice| {
        let mut rule = Part::map([("prefix", Part::text(prefix))]);
        if may_be_sent_twice {
            rule.set("headers", Part::List(vec![parts::safe_methods()]));
        }
        let action = Part::map([
            ("cluster", Part::text(NAME)),
            ("timeout", Part::text("15s")),
            ("retry_policy", parts::retry_policy(may_be_sent_twice)),
        ]);
        let name = if may_be_sent_twice { "durpina-safe" } else { NAME };
        Part::map([("name", Part::text(name)), ("match", rule), ("route", action)])
    })
}

/// What every manifest begins with.
fn head(version: &str, kind: &str, namespace: Option<&str>, default: &str) -> Vec<(String, Part)> {
    let namespace = Part::text(namespace.unwrap_or(default));
    vec![
        ("apiVersion".to_owned(), Part::text(version)),
        ("kind".to_owned(), Part::text(kind)),
        ("metadata".to_owned(), Part::map([("name", Part::text(NAME)), ("namespace", namespace)])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envoy::yaml::Doc;

    const JSON: &str = r#"{"upstreams": {"web": {"servers": ["10.0.0.1:80"]}}, "upstream": "web"}"#;

    fn wishes(wasm: &str, routes: &[&str]) -> Wishes {
        let routes = routes.iter().map(|route| (*route).to_owned()).collect();
        Wishes { managers: Vec::new(), routes, peers: None, wasm: Some(wasm.to_owned()), socket: None }
    }

    fn written(json: &str, platform: Platform, options: &Options, wishes: &Wishes) -> Value {
        let (text, _) = write(json, platform, options, wishes).unwrap();
        let doc = Doc::parse(&text).unwrap();
        doc.value(doc.root())
    }

    #[test]
    fn the_manifests_of_the_repository_are_what_is_written() {
        let json = include_str!("../../../../../deploy/filter.json");
        let wishes = Wishes { wasm: None, ..wishes("", &["www.example.com/"]) };
        for (platform, text) in [
            (Platform::Istio, include_str!("../../../../../deploy/istio.yaml")),
            (Platform::EnvoyGateway, include_str!("../../../../../deploy/envoy-gateway.yaml")),
        ] {
            let (manifest, _) = write(json, platform, &Options::default(), &wishes).unwrap();
            assert_eq!(manifest, text, "{platform:?}");
        }
    }

    #[test]
    fn only_what_is_needed_is_in_it() {
        for platform in [Platform::Istio, Platform::EnvoyGateway] {
            let plain = written(JSON, platform, &Options::default(), &wishes("/w", &["h"])).to_string();
            assert!(!plain.contains("durpina_probe") && !plain.contains("durpina_tcp"), "{plain}");
            let checked = JSON.replace("]}", r#"], "monitors": [{"name": "tcp"}]}"#);
            let checked = written(&checked, platform, &Options::default(), &wishes("/w", &["h"])).to_string();
            assert!(checked.contains("durpina_tcp_peer") && checked.contains("/run/durpina/tcp.sock"), "{checked}");
        }
    }

    #[test]
    fn a_route_is_a_host_and_a_prefix() {
        let parts = |wish: &str| {
            let prefix = prefix(wish);
            (prefix.host, prefix.prefix)
        };
        let pair = |host: &str, prefix: &str| (host.to_owned(), prefix.to_owned());
        assert_eq!(parts("www.example.com"), pair("www.example.com", "/"));
        assert_eq!(parts("*/api/"), pair("*", "/api/"));
    }

    #[test]
    fn an_image_is_loaded_by_istio_alone_and_has_no_access_log() {
        let image = wishes("oci://registry.example/durpina:1", &["h"]);
        let filter = written(JSON, Platform::Istio, &Options::default(), &image);
        let patches = filter["spec"]["configPatches"].as_array().unwrap();
        let extension = patches.iter().find(|patch| patch["applyTo"] == "EXTENSION_CONFIG").unwrap();
        let config = &extension["patch"]["value"]["typed_config"]["config"];
        let uri = config["vm_config"]["code"]["remote"]["http_uri"]["uri"].as_str();
        assert_eq!(uri, Some("oci://registry.example/durpina:1"));
        assert_eq!(config["configuration"]["value"], format!("{JSON}\n"));
        assert!(!filter.to_string().contains("WasmAccessLog"));

        let logged = JSON.replacen('{', r#"{"envoy": {"access_log": true}, "#, 1);
        let problems = write(&logged, Platform::Istio, &Options::default(), &image).unwrap_err();
        assert!(problems[0].starts_with("envoy.access_log: "), "{problems:?}");
        let problems = write(JSON, Platform::EnvoyGateway, &Options::default(), &image).unwrap_err();
        assert!(problems[0].starts_with("oci://registry.example/durpina:1: "), "{problems:?}");
    }

    #[test]
    fn the_names_are_those_of_either_scheme() {
        let named = |options: Options| {
            let policy = written(JSON, Platform::EnvoyGateway, &options, &wishes("/w", &["www.example.com", "*"]));
            let patches = policy["spec"]["jsonPatches"].as_array().unwrap().clone();
            let of = |kind: &str| {
                let patch = patches.iter().find(|patch| patch["type"].as_str().unwrap().ends_with(kind)).unwrap();
                patch["name"].as_str().unwrap().to_owned()
            };
            let hosts: Vec<String> = patches
                .iter()
                .filter(|patch| patch["operation"]["path"] == "routes/0")
                .map(|patch| patch["operation"]["jsonPath"].as_str().unwrap().to_owned())
                .collect();
            (of("Listener"), of("RouteConfiguration"), hosts[0].clone(), hosts[2].clone())
        };
        let host = |name: &str| format!("..virtual_hosts[?(@.name=='{name}')]");
        let old = "default/eg/http".to_owned();
        let hosts = (host("default/eg/http/www_example_com"), host("default/eg/http/*"));
        assert_eq!(named(Options::default()), (old.clone(), old, hosts.0, hosts.1));
        let port = Options { port: Some(80), ..Options::default() };
        let hosts = (host("www_example_com"), host("*"));
        assert_eq!(named(port), ("tcp-80".to_owned(), "http-80".to_owned(), hosts.0.clone(), hosts.1.clone()));
        let https = Options { port: Some(443), listener: Some("https".to_owned()), ..Options::default() };
        assert_eq!(named(https), ("tcp-443".to_owned(), "default/eg/https".to_owned(), hosts.0, hosts.1));
    }

    #[test]
    fn other_hosts_of_a_gateway_are_thought_of() {
        let notes = |json: &str, host: &str| {
            let (_, notes) = write(json, Platform::Istio, &Options::default(), &wishes("/w", &[host])).unwrap();
            notes.iter().any(|note| note.contains("any host"))
        };
        assert!(notes(JSON, "www.example.com/"));
        assert!(!notes(JSON, "*/"));
        let routed = |route: &str| JSON.replace(r#""upstream": "web""#, &format!(r#""routes": [{route}]"#));
        assert!(notes(&routed(r#"{"prefix": "/", "upstream": "web"}"#), "www.example.com"));
        assert!(!notes(&routed(r#"{"host": "www.example.com", "upstream": "web"}"#), "www.example.com"));
        let shipped = include_str!("../../../../../deploy/filter.json");
        assert!(!notes(shipped, "www.example.com"));
    }

    #[test]
    fn headers_of_other_names_are_refused() {
        let with = |names: &str| JSON.replacen('{', &format!(r#"{{"envoy": {{"peer_headers": {names}}}, "#), 1);
        let written = |json: &str| write(json, Platform::Istio, &Options::default(), &wishes("/w", &["h"]));
        assert!(written(&with(r#"["x-durpina-peer", "x-durpina-peer-2", "x-durpina-peer-3"]"#)).is_ok());
        let problems = written(&with(r#"["x-durpina-peer-2", "x-durpina-peer", "x-a"]"#)).unwrap_err();
        assert!(problems[0].starts_with("envoy.peer_headers: "), "{problems:?}");
    }

    #[test]
    fn a_gateway_is_told_by_a_label() {
        let labels = |gateway: &str| {
            let options = Options { gateway: Some(gateway.to_owned()), ..Options::default() };
            written(JSON, Platform::Istio, &options, &wishes("/w", &[]))["spec"]["workloadSelector"]["labels"].clone()
        };
        assert_eq!(labels("ingress"), serde_json::json!({ "istio": "ingress" }));
        let key = "gateway.networking.k8s.io/gateway-name";
        assert_eq!(labels(&format!("{key}=web")), serde_json::json!({ key: "web" }));
    }

    #[test]
    fn what_an_envoy_filter_does_not_know_is_refused() {
        let options = Options { port: Some(80), ..Options::default() };
        let problems = write(JSON, Platform::Istio, &options, &wishes("/w", &[])).unwrap_err();
        assert!(problems[0].starts_with("--port is for Envoy Gateway"), "{problems:?}");
        assert!(write(r#"{"upstreams": 1}"#, Platform::Istio, &Options::default(), &wishes("/w", &[])).is_err());
    }
}
