//! The manifests for Kubernetes, as `durpina envoy --for` writes them: read as strictly as their APIs are, applied as their controllers
//! do, and run. No controller and no cluster is here: what a controller does with a patch is done by [`istio`] and [`envoy_gateway`].

mod envoy_gateway;
mod istio;

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::Deserialize;
use serde_json::{json, Value};

use crate::hygiene::forgeries;
use crate::support::client::Request;
use crate::support::config::{repository, Config};
use crate::support::envoy::{Directory, Envoy, Setup};
use crate::support::load::Load;
use crate::support::proxy::Proxy as _;
use crate::support::server::{Behaviour, Server};
use crate::support::{command_line, eventually};
use crate::{one_upstream, server, spawn_server, PATIENCE};

/// The host whose requests are pointed to durpina, and another one of the same gateway.
const HOST: &str = "www.example.com";
const OTHER: &str = "other.example.com";

/// A controller.
struct Platform {
    /// What `--for` takes.
    name: &'static str,
    manifest: &'static str,
    /// What mounts the filter and the socket's directory, and where it says so.
    mounts: (&'static str, &'static str),
    resources: &'static str,
    /// Applies a manifest to the resources. Fails if a patch finds nothing.
    apply: fn(&Value, &mut Resources),
}

const PLATFORMS: [Platform; 2] = [
    Platform {
        name: "istio",
        manifest: "deploy/istio.yaml",
        mounts: ("deploy/istio-gateway-values.yaml", "/volumeMounts"),
        resources: "tests/data/xds/istio-gateway.yaml",
        apply: istio::apply,
    },
    Platform {
        name: "envoy-gateway",
        manifest: "deploy/envoy-gateway.yaml",
        mounts: ("deploy/envoy-proxy.yaml", "/spec/provider/kubernetes/envoyDeployment/container/volumeMounts"),
        resources: "tests/data/xds/envoy-gateway.yaml",
        apply: envoy_gateway::apply,
    },
];

/// What a controller tells an Envoy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    listeners: Vec<Value>,
    routes: Vec<Value>,
    clusters: Vec<Value>,
    /// Configurations that filters ask for by name.
    #[serde(default)]
    extensions: Vec<Value>,
}

/// What all manifests begin with.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest<S> {
    #[serde(rename = "apiVersion")]
    api_version: String,
    kind: String,
    #[expect(dead_code, reason = "that it is there is what is tested")]
    metadata: Metadata,
    spec: S,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "that they are there is what is tested")]
struct Metadata {
    name: String,
    namespace: String,
}

fn yaml<T: DeserializeOwned>(path: &str) -> T {
    let text = fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

impl Platform {
    /// The manifest for a filter JSON.
    fn manifest(&self, filter: &Value, arguments: &[&str]) -> Value {
        let directory = Directory::create();
        let file = directory.path("filter.json");
        fs::write(&file, filter.to_string()).unwrap();
        let mut command = command_line();
        command.args(["envoy", "--for", self.name]).arg(&file).args(["--route", HOST]).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_norway::from_slice(&output.stdout).unwrap()
    }

    /// An Envoy's configuration: the gateway with this manifest. Requests that do not go to durpina go to `other`.
    fn config(&self, manifest: &Value, other: SocketAddr) -> Config {
        let mut resources: Resources = yaml(self.resources);
        (self.apply)(manifest, &mut resources);
        Config::given(resources.bootstrap(other))
    }

    fn start(&self, filter: &Value, other: SocketAddr) -> Envoy {
        Setup::new(self.config(&self.manifest(filter, &[]), other)).start()
    }
}

impl Resources {
    /// The same without a controller.
    fn bootstrap(mut self, other: SocketAddr) -> Value {
        for listener in &mut self.listeners {
            inline(listener, &self.routes, &self.extensions);
        }
        for cluster in self.clusters.iter_mut().filter(|cluster| cluster["type"] == "EDS") {
            cluster.as_object_mut().unwrap().remove("eds_cluster_config");
            let address =
                json!({ "socket_address": { "address": other.ip().to_string(), "port_value": other.port() } });
            let endpoints = json!([{ "lb_endpoints": [{ "endpoint": { "address": address } }] }]);
            cluster["type"] = "STATIC".into();
            cluster["load_assignment"] = json!({ "cluster_name": cluster["name"], "endpoints": endpoints });
        }
        json!({
            "admin": {},
            "static_resources": { "listeners": self.listeners, "clusters": self.clusters },
        })
    }
}

/// Puts what is asked for by name into its place.
fn inline(value: &mut Value, routes: &[Value], extensions: &[Value]) {
    let named = |all: &[Value], name: &Value| all.iter().find(|one| one["name"] == *name).cloned().unwrap();
    match value {
        Value::Object(object) => {
            if let Some(rds) = object.remove("rds") {
                object.insert("route_config".to_owned(), named(routes, &rds["route_config_name"]));
            }
            if object.remove("config_discovery").is_some() {
                let extension = named(extensions, &object["name"]);
                object.insert("typed_config".to_owned(), extension["typed_config"].clone());
            }
            object.values_mut().for_each(|value| inline(value, routes, extensions));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| inline(value, routes, extensions)),
        _ => {}
    }
}

fn get(path: &str) -> Request {
    Request::get(path).header("host", HOST)
}

/// The names of the filters in the connection manager of clients.
fn filters(config: &Value) -> Vec<String> {
    let listener = &config["static_resources"]["listeners"][0];
    let chain = if listener["filter_chains"].is_null() {
        &listener["default_filter_chain"]
    } else {
        &listener["filter_chains"][0]
    };
    let filters = chain["filters"][0]["typed_config"]["http_filters"].as_array().unwrap();
    filters.iter().map(|filter| filter["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_shipped_manifests_are_valid_and_what_they_make_is_valid() {
    for platform in PLATFORMS {
        let manifest: Value = yaml(platform.manifest);
        let mut resources: Resources = yaml(platform.resources);
        (platform.apply)(&manifest, &mut resources);
        let bootstrap = resources.bootstrap(SocketAddr::from(([127, 0, 0, 1], 1)));
        let filters = filters(&bootstrap);
        let last: Vec<&str> = filters.iter().rev().take(3).map(String::as_str).collect();
        let router = "envoy.filters.http.router";
        assert_eq!(last, [router, "envoy.filters.http.header_to_metadata", "durpina"], "{}", platform.name);
        let listeners = bootstrap["static_resources"]["listeners"].as_array().unwrap();
        assert_eq!(listeners[1]["name"], "durpina_tcp");
        let within = listeners[1].to_string();
        assert!(!within.contains("header_to_metadata"), "the gateway for TCP is not patched: {within}");
        if let Err(refusal) = Setup::new(Config::given(bootstrap)).validate() {
            panic!("{}: {}", platform.name, refusal.log);
        }
    }
}

/// All strings in it that stand under this key.
fn texts(value: &Value, key: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get(key).and_then(Value::as_str).map(str::to_owned));
            object.values().for_each(|value| texts(value, key, found));
        }
        Value::Array(items) => items.iter().for_each(|value| texts(value, key, found)),
        _ => {}
    }
}

#[test]
fn what_a_manifest_takes_from_a_pod_is_mounted_there() {
    for platform in PLATFORMS {
        let manifest: Value = yaml(platform.manifest);
        let (file, pointer) = platform.mounts;
        let mounts = yaml::<Value>(file).pointer(pointer).unwrap().clone();
        for (key, writable) in [("filename", false), ("path", true)] {
            let mut files = Vec::new();
            texts(&manifest, key, &mut files);
            files.retain(|file| !writable || file.ends_with(".sock"));
            assert!(files.len() >= 2, "{files:?}");
            for file in files {
                let directory = file.rsplit_once('/').unwrap().0;
                let mount = mounts.as_array().unwrap().iter().find(|mount| mount["mountPath"] == directory);
                let is_read_only = mount.unwrap_or_else(|| panic!("{file} is not mounted"))["readOnly"] == true;
                assert_eq!(is_read_only, !writable, "{file}");
            }
        }
    }
}

#[test]
fn the_bound_on_answers_gets_into_the_bootstrap() {
    // The layer that Envoy Gateway's own bootstrap has.
    let layer = json!({ "name": "global_config", "static_layer": { "re2.max_program_size.warn_level": 1000 } });
    let mut bootstrap = json!({ "layered_runtime": { "layers": [layer] } });
    let proxy: Value = yaml("deploy/envoy-proxy.yaml");
    for patch in proxy["spec"]["bootstrap"]["jsonPatches"].as_array().unwrap() {
        assert_eq!(patch["op"], "add");
        envoy_gateway::add(&mut bootstrap, patch["path"].as_str().unwrap(), &patch["value"]);
    }
    let key = "http.async_response_buffer_limit";
    let limit = |layer: &Value| layer["static_layer"][key].clone();
    let layers = &bootstrap["layered_runtime"]["layers"];
    assert_eq!(limit(&layers[0]), 262_144);
    let reference: Value = yaml("envoy/durpina.yaml");
    assert_eq!(limit(&reference["layered_runtime"]["layers"][0]), 262_144);
    // Istio's agent writes texts, which Envoy takes for the numbers that they are.
    let values: Value = yaml("deploy/istio-gateway-values.yaml");
    let config = values["podAnnotations"]["proxy.istio.io/config"].as_str().unwrap();
    let config: Value = serde_norway::from_str(config).unwrap();
    assert_eq!(config["runtimeValues"][key], "262144");
}

#[test]
fn a_field_that_the_apis_do_not_have_is_noticed() {
    for platform in PLATFORMS {
        let good: Value = yaml(platform.manifest);
        let patches = if platform.name == "istio" { "configPatches" } else { "jsonPatches" };
        for (place, key) in [("", "x"), ("/spec", "wokloadSelector"), ("/metadata", "x")] {
            let mut bad = good.clone();
            bad.pointer_mut(place).unwrap()[key] = json!({});
            refused(&platform, &bad);
        }
        for key in ["macth", "path"] {
            let mut bad = good.clone();
            bad["spec"][patches][0][key] = json!("x");
            refused(&platform, &bad);
        }
    }
}

fn refused(platform: &Platform, manifest: &Value) {
    let result = match platform.name {
        "istio" => istio::read(manifest).map(drop),
        _ => envoy_gateway::read(manifest).map(drop),
    };
    let error = result.expect_err("a field that is not known").to_string();
    assert!(error.contains("unknown field"), "{error}");
}

#[test]
fn it_serves_and_the_rest_of_the_gateway_stays_as_it_is() {
    let [a, b, other] = ["a", "b", "other"].map(Server::start);
    for platform in PLATFORMS {
        let envoy = platform.start(&one_upstream(&[server(&a, ""), server(&b, "")]), other.addr());
        let mut client = envoy.client();
        let mut served = |request: &Request| client.send(request).expect("an answer").served_by().to_owned();
        let by: Vec<String> = (0..4).map(|_| served(&get("/"))).collect();
        assert!(by == ["a", "b", "a", "b"] || by == ["b", "a", "b", "a"], "{}: {by:?}", platform.name);
        assert_ne!(served(&Request::new("POST", "/").header("host", HOST).body("x")), "other");
        assert_eq!(served(&Request::get("/").header("host", OTHER)), "other");
        for head in a.heads().iter().chain(&b.heads()) {
            assert!(head.header("x-durpina-peer").is_none(), "{}: {head:?}", platform.name);
        }
    }
}

#[test]
fn other_hosts_are_served_when_nobody_is_left() {
    let [a, other] = ["a", "other"].map(Server::start);
    let filter = json!({
        "upstreams": { "web": { "servers": [server(&a, "down")] } },
        "routes": [{ "host": HOST, "upstream": "web" }],
    });
    for platform in PLATFORMS {
        let envoy = platform.start(&filter, other.addr());
        assert_eq!(envoy.client().send(&get("/")).expect("an answer").status, 503);
        let answer = envoy.client().send(&Request::get("/").header("host", OTHER)).expect("an answer");
        assert_eq!((answer.status, answer.served_by()), (200, "other"), "{}", platform.name);
    }
}

#[test]
fn no_request_fails_when_a_server_is_killed_under_load() {
    let other = Server::start("other");
    for platform in PLATFORMS {
        let mut servers = ["a", "b", "c"].map(spawn_server);
        let all = servers.each_ref().map(|server| format!("{} max_fails=1 fail_timeout=60s", server.addr()));
        let envoy = platform.start(&one_upstream(&all), other.addr());
        let load = Load::new(envoy.addr(), 1_000_000).request(get("/")).connections(4);
        let load = load.pause(Duration::from_millis(1)).start();
        eventually("the load is under way", PATIENCE, || load.done() > 500);
        servers[0].kill();
        let peer = servers[0].addr().to_string();
        eventually("it is taken out", PATIENCE, || envoy.state(&peer) == "temporary_down");
        let done = load.done();
        eventually("the load goes on", PATIENCE, || load.done() > done + 500);
        load.stop();
        let report = load.finish();
        assert!(report.failures().is_empty(), "{}: {:?}", platform.name, report.failures());
    }
}

#[test]
fn a_failure_is_counted_once_and_the_next_peer_answers() {
    let [a, b, other] = ["a", "b", "other"].map(Server::start);
    for platform in PLATFORMS {
        a.behave(Behaviour::Reset);
        let filter = json!({
            "upstreams": { "web": { "servers": [server(&a, "max_fails=0"), server(&b, "max_fails=0")] } },
            "upstream": "web",
            "admin": { "prefix": "/durpina", "hosts": [HOST] },
        });
        let envoy = platform.start(&filter, other.addr());
        let mut client = envoy.client();
        let before = a.requests() as u64;
        for _ in 0..10 {
            let answer = client.send(&get("/")).expect("an answer");
            assert_eq!((answer.status, answer.served_by()), (200, "b"), "{}", platform.name);
        }
        let mut failures = |server: &Server| -> u64 {
            let page = client.send(&get("/durpina/metrics")).expect("an answer").text();
            let peer = format!("peer=\"{}\"", server.addr());
            let lines = page.lines().filter(|line| line.starts_with("durpina_peer_failures_total{"));
            let values = lines.filter(|line| line.contains(&peer)).filter_map(|line| line.rsplit_once(' '));
            values.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
        };
        let seen = a.requests() as u64 - before;
        assert!(seen >= 4, "{}: {seen} of ten requests were tried at it", platform.name);
        eventually("the failures are counted", PATIENCE, || failures(&a) == seen);
        assert_eq!(failures(&b), 0);
        // POST is not sent twice when it may have been seen.
        let post = Request::new("POST", "/").header("host", HOST).body("x");
        let statuses: Vec<u16> = (0..2).map(|_| envoy.client().send(&post).expect("an answer").status).collect();
        assert!(statuses.contains(&503) && statuses.contains(&200), "{}: {statuses:?}", platform.name);
    }
}

#[test]
fn a_client_never_chooses_the_peer() {
    let [a, failing, other, decoy] = ["a", "failing", "other", "decoy"].map(Server::start);
    failing.behave(Behaviour::Reset);
    let filter = json!({
        "upstreams": {
            "web": { "servers": [a.addr().to_string()] },
            "failing": { "servers": [format!("{} max_fails=0", failing.addr())] },
            "none": { "servers": [format!("{} down", a.addr())] },
        },
        "routes": [
            { "prefix": "/web", "upstream": "web" },
            { "prefix": "/failing", "upstream": "failing" },
            { "prefix": "/none", "upstream": "none" },
        ],
    });
    for platform in PLATFORMS {
        let envoy = platform.start(&filter, other.addr());
        for path in ["/web", "/failing", "/none", "/unrouted"] {
            for host in [HOST, OTHER] {
                for request in forgeries(path, &decoy.addr().to_string()) {
                    let answer = envoy.client().send(&request.header("host", host)).expect("an answer");
                    assert_ne!(answer.served_by(), "decoy", "{} {path}", platform.name);
                }
            }
        }
        assert_eq!(decoy.connections(), 0);
    }
    assert!(a.requests() > 0 && failing.requests() > 0 && other.requests() > 0, "the requests did go somewhere");
}

/// What is left of the patches where the one with the filter was not accepted.
#[test]
fn without_the_filter_nobody_is_served() {
    let [other, decoy] = ["other", "decoy"].map(Server::start);
    for platform in PLATFORMS {
        let mut manifest = platform.manifest(&one_upstream(&["127.0.0.1:1"]), &[]);
        let patches = if platform.name == "istio" { "configPatches" } else { "jsonPatches" };
        let patches = manifest["spec"][patches].as_array_mut().unwrap();
        let before = patches.len();
        patches.retain(|patch| {
            let text = patch.to_string();
            !text.contains("filters.http.wasm.v3")
                && !text.contains("header_to_metadata")
                && !text.contains("WasmAccessLog")
        });
        assert_eq!(patches.len(), before - 3);
        let config = platform.config(&manifest, other.addr());
        let envoy = Setup::new(config).start();
        for request in forgeries("/", &decoy.addr().to_string()) {
            let answer = envoy.client().send(&request.header("host", HOST)).expect("an answer");
            assert_eq!(answer.served_by(), "", "{}", platform.name);
        }
        assert_eq!(decoy.connections(), 0);
    }
}

#[test]
fn a_server_is_checked_over_tcp_through_the_gateway() {
    let (mut a, other) = (Server::start("a"), Server::start("other"));
    for platform in PLATFORMS {
        let mut filter = one_upstream(&[server(&a, "")]);
        filter["upstreams"]["web"]["monitors"] =
            json!([{ "name": "tcp", "interval": "200ms", "schedule": "all", "rise": 1, "fall": 1 }]);
        let peer = a.addr().to_string();
        let envoy = platform.start(&filter, other.addr());
        assert_eq!(envoy.client().send(&get("/")).expect("an answer").served_by(), "a");
        a.stop();
        eventually("the server is found dead", PATIENCE, || envoy.state(&peer) == "down");
        a.resume();
        eventually("and alive", PATIENCE, || envoy.state(&peer) == "up");
    }
}

/// Istio's agent puts the path of a file where the image was; then it is the same filter, without an access log.
#[test]
fn the_filter_of_an_image_serves_and_counts() {
    let [a, b, other] = ["a", "b", "other"].map(Server::start);
    let platform = &PLATFORMS[0];
    let filter = one_upstream(&[server(&a, "max_fails=1 fail_timeout=60s"), server(&b, "")]);
    let manifest = platform.manifest(&filter, &["--wasm", "oci://registry.example/durpina:1"]);
    assert!(!manifest.to_string().contains("filename"), "{manifest}");
    a.behave(Behaviour::Reset);
    let envoy = Setup::new(platform.config(&manifest, other.addr())).start();
    let mut client = envoy.client();
    for _ in 0..4 {
        assert_eq!(client.send(&get("/")).expect("an answer").served_by(), "b");
    }
    let peer = a.addr().to_string();
    eventually("the failure is counted", PATIENCE, || envoy.state(&peer) == "temporary_down");
}
