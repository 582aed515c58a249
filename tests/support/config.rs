//! An Envoy configuration made from one of the files that users copy.
//!
//! The files in `envoy/` are what is tested: they are read as they are, and only what cannot stay is
//! changed: addresses, paths, the filter's JSON, and what a test asks for. A change that finds nothing to
//! change is an error, so that a test cannot go on against a file that it no longer fits.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{json, Value};

use super::tls;

/// The retries, the header hygiene, everything.
pub const REFERENCE: &str = "envoy/durpina.yaml";
/// The same for peers that speak HTTP/2; the candidates are metadata.
pub const HTTP2: &str = "envoy/durpina-h2.yaml";
/// One cluster, no retries.
pub const MINIMAL: &str = "envoy/minimal.yaml";

/// The file for a line for each request.
pub(super) const LINES: &str = "lines";

/// A configuration that is being adapted.
#[derive(Clone, Debug)]
pub struct Config {
    bootstrap: Value,
}

impl Config {
    /// The reference configuration with this filter JSON.
    pub fn reference(filter: &Value) -> Config {
        Config::of(REFERENCE).filter(&with_access_log(filter))
    }

    /// The one for peers that speak HTTP/2, with this filter JSON.
    pub fn http2(filter: &Value) -> Config {
        Config::of(HTTP2).filter(&with_access_log(filter))
    }

    /// One of the shipped files, by its path in the repository.
    pub fn of(file: &str) -> Config {
        let path = repository().join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let bootstrap = serde_norway::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        Config { bootstrap }
    }

    /// A bootstrap from somewhere else.
    pub fn given(bootstrap: Value) -> Config {
        Config { bootstrap }
    }

    /// The filter JSON.
    #[must_use]
    pub fn filter(self, filter: &Value) -> Config {
        let filter = self.with_peer_headers(filter);
        self.filter_text(&filter.to_string())
    }

    /// The filter JSON with the names of the headers that the peers' clusters read, unless it has some or they are the default's.
    fn with_peer_headers(&self, filter: &Value) -> Value {
        let mut filter = filter.clone();
        let clusters = self.bootstrap["static_resources"]["clusters"].as_array();
        let peers = clusters
            .into_iter()
            .flatten()
            .filter(|cluster| ["durpina_1", "durpina_2", "durpina_3"].iter().any(|name| cluster["name"] == *name));
        let names: Vec<&str> =
            peers.filter_map(|cluster| cluster["original_dst_lb_config"]["http_header_name"].as_str()).collect();
        if let (Some(filter), 3) = (filter.as_object_mut(), names.len()) {
            let envoy = filter.entry("envoy").or_insert_with(|| json!({}));
            if let Some(envoy) = envoy.as_object_mut() {
                envoy.entry("peer_headers").or_insert_with(|| json!(names));
            }
        }
        filter
    }

    /// The filter JSON as text, for what is not JSON at all.
    #[must_use]
    pub fn filter_text(mut self, text: &str) -> Config {
        self.change("the wasm filter's configuration", |object| {
            object.get("root_id")?;
            *object.get_mut("configuration")?.get_mut("value")? = text.into();
            Some(())
        });
        self
    }

    /// One more listener like the first one, whose filter has this JSON: another instance of the filter.
    #[must_use]
    pub fn and_listener(mut self, filter: &Value) -> Config {
        let filter = self.with_peer_headers(filter);
        let listener = Config { bootstrap: self.http_listeners()[0].clone() }.filter(&filter);
        let listeners = self.bootstrap["static_resources"]["listeners"].as_array_mut();
        let listeners = listeners.expect("an array of listeners");
        listeners.push(listener.bootstrap);
        listeners.last_mut().expect("the new listener")["name"] = "http-2".into();
        self
    }

    /// The listeners that clients connect to.
    pub(super) fn http_listeners(&mut self) -> Vec<&mut Value> {
        let listeners = self.bootstrap["static_resources"]["listeners"].as_array_mut().expect("an array of listeners");
        let is_peer = |listener: &Value| listener["name"].as_str().is_some_and(|name| name.starts_with("peer_"));
        let of_clients = |listener: &Value| !listener["address"]["socket_address"].is_null() && !is_peer(listener);
        listeners.iter_mut().filter(|listener| of_clients(listener)).collect()
    }

    /// The time that a request has with all its retries, on every route.
    #[must_use]
    pub fn route_timeout(mut self, seconds: f64) -> Config {
        self.change("a route with a timeout", |object| {
            object.get("retry_policy")?;
            *object.get_mut("timeout")? = format!("{seconds}s").into();
            Some(())
        });
        self
    }

    /// Where Envoy has clients' addresses from.
    #[must_use]
    pub fn client_addresses(mut self, use_remote_address: bool, xff_num_trusted_hops: u32) -> Config {
        self.change("a connection manager with use_remote_address", |object| {
            *object.get_mut("use_remote_address")? = use_remote_address.into();
            object.insert("xff_num_trusted_hops".to_owned(), xff_num_trusted_hops.into());
            Some(())
        });
        self
    }

    /// One more route, asked before all others.
    #[must_use]
    pub fn route(mut self, route: &Value) -> Config {
        self.change("a list of routes", |object| {
            // The gateway's routes are none of clients.
            object.get("include_request_attempt_count").or_else(|| object.get("domains"))?;
            let routes = object.get_mut("routes")?.as_array_mut()?;
            routes.iter().find(|route| route["route"]["cluster"] == "durpina")?;
            routes.insert(0, route.clone());
            Some(())
        });
        self
    }

    /// One more cluster.
    #[must_use]
    pub fn cluster_of(mut self, name: &str, servers: &[SocketAddr]) -> Config {
        let endpoints: Vec<Value> =
            servers.iter().map(|server| json!({ "endpoint": { "address": socket_address(*server) } })).collect();
        let assignment = json!({ "cluster_name": name, "endpoints": [{ "lb_endpoints": endpoints }] });
        let cluster = json!({ "name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment });
        let clusters = self.bootstrap["static_resources"]["clusters"].as_array_mut().expect("an array of clusters");
        clusters.push(cluster);
        self
    }

    /// Without this listener, of which nothing else is left out.
    #[must_use]
    pub fn without_listener(mut self, name: &str) -> Config {
        let listeners = self.bootstrap["static_resources"]["listeners"].as_array_mut().expect("an array of listeners");
        let before = listeners.len();
        listeners.retain(|listener| listener["name"] != name);
        assert!(listeners.len() < before, "no listener {name}");
        self
    }

    /// The gateway leaves no mark on its answers, as in configurations from before there was one.
    #[must_use]
    pub fn unmarked_gateway(mut self) -> Config {
        self.change("the gateway's mark", |object| {
            (object.get("response_headers_to_add")?[0]["header"]["key"] == "x-durpina-gateway").then_some(())?;
            object.remove("response_headers_to_add").map(drop)
        });
        self
    }

    /// A peer at `addr` that hands what it is asked on to `server`, over plain HTTP/1.1: with this TLS context
    /// (`DownstreamTlsContext`) if any, for this server name if any, over HTTP/2 or HTTP/1.1. It is this Envoy itself.
    #[must_use]
    pub fn peer(
        mut self,
        addr: SocketAddr,
        server: SocketAddr,
        tls: Option<&Value>,
        sni: Option<&str>,
        h2: bool,
    ) -> Config {
        let name = format!("peer_{}", addr.port());
        let manager =
            "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
        let route = json!({ "match": { "prefix": "/" }, "route": { "cluster": name } });
        let manager = json!({
            "@type": manager,
            "stat_prefix": name,
            "codec_type": if h2 { "HTTP2" } else { "HTTP1" },
            "http_filters": [{ "name": "router", "typed_config": { "@type": router } }],
            "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [route] }] },
        });
        let mut chain = json!({ "filters": [{ "name": "manager", "typed_config": manager }] });
        if let Some(tls) = tls {
            chain["transport_socket"] = json!({ "name": "tls", "typed_config": tls });
        }
        if let Some(sni) = sni {
            chain["filter_chain_match"] = json!({ "server_names": [sni] });
        }
        let inspector = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector";
        let inspector = json!({ "name": "inspector", "typed_config": { "@type": inspector } });
        let listener = json!({
            "name": name,
            "address": socket_address(addr),
            "listener_filters": if tls.is_some() { json!([inspector]) } else { json!([]) },
            "filter_chains": [chain],
        });
        self.bootstrap["static_resources"]["listeners"].as_array_mut().expect("an array of listeners").push(listener);
        self.cluster_of(&name, &[server])
    }

    /// One more cluster: a copy of another one with some members replaced.
    #[must_use]
    pub fn cluster_like(mut self, like: &str, name: &str, members: &Value) -> Config {
        let mut cluster = self.cluster(like).clone();
        cluster["name"] = name.into();
        for (key, value) in members.as_object().expect("an object") {
            cluster[key] = value.clone();
        }
        self.bootstrap["static_resources"]["clusters"].as_array_mut().expect("an array of clusters").push(cluster);
        self
    }

    /// How long a connection to a peer may take.
    #[must_use]
    pub fn connect_timeout(mut self, seconds: f64) -> Config {
        for name in ["durpina_1", "durpina_2", "durpina_3"] {
            self.cluster(name)["connect_timeout"] = format!("{seconds}s").into();
        }
        self
    }

    /// Envoy's limits leave no room for a request to the first candidate.
    #[must_use]
    pub fn no_room(mut self) -> Config {
        let nothing = json!({ "max_connections": 0, "max_pending_requests": 0, "max_requests": 0 });
        self.cluster("durpina_1")["circuit_breakers"] = json!({ "thresholds": [nothing] });
        self
    }

    /// Clients may ask for WebSocket and for tunnels (`CONNECT`).
    #[must_use]
    pub fn upgrades(mut self) -> Config {
        self.change("the connection manager of clients", |object| {
            (object.get("stat_prefix")? == "http").then_some(())?;
            object.insert(
                "upgrade_configs".to_owned(),
                json!([{ "upgrade_type": "websocket" }, { "upgrade_type": "CONNECT" }]),
            );
            Some(())
        });
        self
    }

    /// One more listener like the first one, for HTTP/3.
    #[must_use]
    pub fn http3(mut self) -> Config {
        let mut listener = Config { bootstrap: self.http_listeners()[0].clone() };
        listener.change("a connection manager", |object| {
            (object.get("stat_prefix")? == "http").then_some(())?;
            object.insert("codec_type".to_owned(), "HTTP3".into());
            Some(())
        });
        let mut listener = listener.bootstrap;
        let quic = "type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport";
        let mut tls = tls::server(&["h3"]);
        tls.as_object_mut().and_then(|tls| tls.remove("@type")).expect("a type");
        listener["filter_chains"][0]["transport_socket"] =
            json!({ "name": "quic", "typed_config": { "@type": quic, "downstream_tls_context": tls } });
        listener["name"] = "http-3".into();
        listener["address"]["socket_address"]["protocol"] = "UDP".into();
        listener["udp_listener_config"] = json!({ "quic_options": {} });
        let listeners = self.bootstrap["static_resources"]["listeners"].as_array_mut();
        listeners.expect("an array of listeners").push(listener);
        self
    }

    /// Clients on this machine are internal ones to Envoy, which takes no header from those.
    #[must_use]
    pub fn internal_clients(mut self) -> Config {
        self.change("a connection manager of clients", |object| {
            (object.get("stat_prefix")? == "http").then_some(())?;
            let range = json!({ "address_prefix": "127.0.0.0", "prefix_len": 8 });
            object.insert("internal_address_config".to_owned(), json!({ "cidr_ranges": [range] }));
            Some(())
        });
        self
    }

    /// Envoy writes a line for each request that is over, after durpina was told of it: see [`Envoy::lines`](super::envoy::Envoy::lines).
    #[must_use]
    pub fn lines(mut self, format: &str) -> Config {
        self.change("the connection manager of clients", |object| {
            (object.get("stat_prefix")? == "http").then_some(())?;
            let log = json!({
                "name": "file",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                    "path": LINES,
                    "log_format": { "text_format_source": { "inline_string": format!("{format}\n") } },
                },
            });
            object.entry("access_log").or_insert_with(|| json!([])).as_array_mut()?.push(log);
            Some(())
        });
        self
    }

    /// No statistics at all, as somebody with a lot of traffic may choose.
    #[must_use]
    pub fn without_stats(mut self) -> Config {
        self.bootstrap["stats_config"]["stats_matcher"]["reject_all"] = true.into();
        self
    }

    /// Takes out what surrounds durpina and puts Envoy's own round robin over these servers in its place, for
    /// another filter that does nothing ([`Setup::module`](super::envoy::Setup::module)). Everything else
    /// stays, so that the difference is durpina's.
    #[must_use]
    pub fn without_durpina(mut self, servers: &[SocketAddr]) -> Config {
        self.change("the list of HTTP filters", |object| {
            let filters = object.get_mut("http_filters")?.as_array_mut()?;
            filters.retain(|filter| filter["name"] != "envoy.filters.http.header_to_metadata");
            object.remove("access_log");
            let hosts = object.get_mut("route_config")?["virtual_hosts"].as_array_mut()?;
            for host in hosts.iter_mut().filter_map(Value::as_object_mut) {
                host.remove("include_request_attempt_count");
                host.remove("request_headers_to_remove");
            }
            Some(())
        });
        let endpoints: Vec<Value> =
            servers.iter().map(|server| json!({ "endpoint": { "address": socket_address(*server) } })).collect();
        self.change("the cluster of the routes", |object| {
            if object.get("name")? != "durpina" || object.remove("cluster_type").is_none() {
                return None;
            }
            object.insert("type".to_owned(), "STATIC".into());
            object.insert("lb_policy".to_owned(), "ROUND_ROBIN".into());
            let assignment = json!({ "cluster_name": "durpina", "endpoints": [{ "lb_endpoints": endpoints }] });
            object.insert("load_assignment".to_owned(), assignment);
            Some(())
        });
        // The peers' protocol options hold the upstream idle timeout: the same on both sides.
        let peers = self.cluster("durpina_1")["typed_extension_protocol_options"].clone();
        self.cluster("durpina")["typed_extension_protocol_options"] = peers;
        self
    }

    /// Takes the wasm filter itself out too, after [`Config::without_durpina`]: what is left is Envoy alone.
    #[must_use]
    pub fn without_filter(mut self) -> Config {
        self.change("the wasm filter", |object| {
            let filters = object.get_mut("http_filters")?.as_array_mut()?;
            let before = filters.len();
            filters.retain(|filter| filter["name"] != "durpina");
            (filters.len() < before).then_some(())
        });
        self
    }

    /// Takes the access log out that tells the filter of failed attempts. The filter's JSON has to say so, too:
    /// `"envoy": {}`.
    #[must_use]
    pub fn without_access_log(mut self) -> Config {
        self.change("an access log", |object| object.remove("access_log").map(drop));
        self
    }

    /// The wasm module.
    pub(super) fn module(&mut self, file: &Path) {
        if !self.text().contains("vm_config") {
            return; // See `without_filter`.
        }
        self.change("the wasm module's path", |object| {
            *object.get_mut("filename")? = file.to_string_lossy().into();
            Some(())
        });
    }

    /// Listens there, keeps its sockets in `directory`, and lets the kernel choose the admin port.
    pub(super) fn place(&mut self, addrs: &[SocketAddr], directory: &Path) {
        self.bootstrap["admin"]["address"] = socket_address(SocketAddr::from(([127, 0, 0, 1], 0)));
        for (listener, addr) in self.http_listeners().into_iter().zip(addrs) {
            let protocol = listener["address"]["socket_address"]["protocol"].take();
            listener["address"] = socket_address(*addr);
            if !protocol.is_null() {
                listener["address"]["socket_address"]["protocol"] = protocol;
            }
        }
        visit(&mut self.bootstrap, &mut |object| {
            let file = object.get_mut("path").filter(|path| **path == LINES)?;
            *file = directory.join(LINES).to_string_lossy().into();
            Some(())
        });
        // The minimal configuration has no Unix socket.
        visit(&mut self.bootstrap, &mut |object| {
            let pipe = object.get_mut("pipe")?.get_mut("path")?;
            let name = Path::new(pipe.as_str()?).file_name()?.to_owned();
            *pipe = directory.join(name).to_string_lossy().into();
            Some(())
        });
    }

    /// Moves the first listener out into a file of its own, which Envoy watches; gives that file's content.
    pub(super) fn split(&mut self, listener_file: &Path) -> Value {
        let mut listener = self.bootstrap["static_resources"]["listeners"][0].take();
        self.bootstrap["static_resources"]["listeners"].as_array_mut().expect("an array of listeners").remove(0);
        self.bootstrap["node"] = json!({ "id": "test", "cluster": "test" });
        self.bootstrap["dynamic_resources"]["lds_config"]["path_config_source"] = json!({ "path": listener_file });
        listener["@type"] = "type.googleapis.com/envoy.config.listener.v3.Listener".into();
        json!({ "resources": [listener] })
    }

    /// As Envoy reads it (JSON is YAML).
    pub(super) fn text(&self) -> String {
        self.bootstrap.to_string()
    }

    /// The names of the clusters that carry requests to the peers.
    pub fn peer_clusters(&self) -> BTreeSet<String> {
        let clusters = self.bootstrap["static_resources"]["clusters"].as_array().expect("an array of clusters");
        let names = clusters.iter().filter_map(|cluster| cluster["name"].as_str());
        // `durpina_1` to `durpina_3` in the reference configuration, `durpina` in the minimal one.
        names.filter(|name| !name.contains("probe") && !name.contains("tcp")).map(str::to_owned).collect()
    }

    fn cluster(&mut self, name: &str) -> &mut Value {
        let clusters = self.bootstrap["static_resources"]["clusters"].as_array_mut().expect("an array of clusters");
        let found = clusters.iter_mut().find(|cluster| cluster["name"] == name);
        found.unwrap_or_else(|| panic!("no cluster {name}"))
    }

    /// Applies `change` to every object of the configuration; it answers `None` where there is nothing to do.
    fn change(&mut self, what: &str, mut change: impl FnMut(&mut Object) -> Option<()>) {
        assert!(visit(&mut self.bootstrap, &mut change) > 0, "the configuration has not got {what}");
    }
}

type Object = serde_json::Map<String, Value>;

/// As in the files. A test can have `"envoy": {}` to do without.
fn with_access_log(filter: &Value) -> Value {
    let mut filter = filter.clone();
    if let Some(filter) = filter.as_object_mut() {
        filter.entry("envoy").or_insert_with(|| json!({ "access_log": true }));
    }
    filter
}

/// Calls `change` for every object in the tree and counts those it changed.
fn visit(value: &mut Value, change: &mut impl FnMut(&mut Object) -> Option<()>) -> usize {
    match value {
        Value::Object(object) => {
            let changed = usize::from(change(object).is_some());
            changed + object.values_mut().map(|value| visit(value, change)).sum::<usize>()
        }
        Value::Array(items) => items.iter_mut().map(|item| visit(item, change)).sum(),
        _ => 0,
    }
}

fn socket_address(addr: SocketAddr) -> Value {
    json!({ "socket_address": { "address": addr.ip().to_string(), "port_value": addr.port() } })
}

/// The root of the checkout.
pub fn repository() -> PathBuf {
    // This package is the folder below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(PathBuf::new, Path::to_path_buf)
}
