//! The parts of which durpina consists in an Envoy, as values. Where they go is the business of others.
//!
//! They are those of `envoy/durpina.yaml`, which explains each line; a test holds them against it.

use super::part::Part;
use super::wiring::{by_header, Peers, Wiring, PEER_HEADERS};
use super::yaml::Doc;

/// What the parts depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    /// The filter JSON, as it is written.
    pub(crate) json: String,
    /// Where Envoy finds the module.
    pub(crate) wasm: String,
    /// The socket of the gateway for raw TCP.
    pub(crate) socket: String,
    pub(crate) access_log: bool,
    pub(crate) checks: Checks,
}

/// Which of the clusters for checks and look-ups the filter JSON makes use of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Checks {
    pub(crate) http: bool,
    pub(crate) http_keepalive: bool,
    pub(crate) tls: bool,
    pub(crate) http2: bool,
    pub(crate) http2_keepalive: bool,
    /// TCP checks, agents, name servers.
    pub(crate) tcp: bool,
}

impl Checks {
    pub(crate) fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// What connections to peers have that others chose: entries of a cluster.
pub(crate) type Connection = Vec<(String, Part)>;

/// The name of the cluster that routes go to, of the filter, of its namespace, and of all else that is named after it.
pub(crate) const NAME: &str = "durpina";
/// The first peer's cluster, the second's, the third's.
pub(crate) const PEER_CLUSTERS: [&str; 3] = ["durpina_1", "durpina_2", "durpina_3"];
pub(crate) const PROBE: &str = "durpina_probe";
pub(crate) const PROBE_KEEPALIVE: &str = "durpina_probe_keepalive";
pub(crate) const PROBE_TLS: &str = "durpina_probe_tls";
pub(crate) const PROBE_H2: &str = "durpina_probe_h2";
pub(crate) const PROBE_H2_KEEPALIVE: &str = "durpina_probe_h2_keepalive";
/// How the name of a cluster for checks that keep their connections ends.
pub(crate) const KEEPALIVE: &str = "_keepalive";
/// The gateway's listener, and the cluster that leads to it.
pub(crate) const TCP: &str = "durpina_tcp";
pub(crate) const TCP_PEER: &str = "durpina_tcp_peer";
/// The layer of the runtime that stands in for the one that Envoy has where no layers are listed.
pub(crate) const ADMIN_LAYER: &str = "durpina_admin";
pub(crate) const ACCESS_LOG_ROOT: &str = "durpina_log";
/// The key under which a cluster or a route says what this command did.
pub(crate) const WRITTEN_BY: (&str, &str) = ("written_by", "durpina envoy");
/// The comment at each part.
pub(crate) const NOTE: &str = "Written by `durpina envoy`; envoy/durpina.yaml of durpina explains it.";

pub(crate) const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const OPTIONS_TYPE: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Reads one of the texts below. They are read in a test.
fn part(text: &str) -> Part {
    match Doc::parse(text) {
        Ok(doc) => Part::of(&doc, doc.root()),
        Err(_) => Part::Map(Vec::new()),
    }
}

fn vm(wasm: &str) -> Part {
    let local = Part::map([("filename", Part::text(wasm))]);
    Part::map([
        ("vm_id", Part::text(NAME)),
        ("runtime", Part::text("envoy.wasm.runtime.v8")),
        ("code", Part::map([("local", local)])),
    ])
}

/// The filter, and the one that has to be right behind it.
pub(crate) fn filters(setting: &Setting, wiring: &Wiring) -> Vec<Part> {
    let mut config = part(
        "{name: durpina, root_id: durpina, vm_config: {}, failure_policy: FAIL_RELOAD,
          reload_config: { backoff: { base_interval: 0.1s } }, allow_on_headers_stop_iteration: true}",
    );
    config.set("vm_config", vm(&setting.wasm));
    let configuration = Part::map([
        ("@type", Part::text("type.googleapis.com/google.protobuf.StringValue")),
        ("value", Part::text(setting.json.trim_end().to_owned() + "\n")),
    ]);
    config.set("configuration", configuration);
    let typed = Part::map([("@type", Part::text(WASM)), ("config", config)]);
    let durpina = Part::map([("name", Part::text(NAME)), ("typed_config", typed)]);
    std::iter::once(durpina).chain(wiring.filter()).collect()
}

pub(crate) const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";
pub(crate) const WASM_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.wasm.v3.WasmAccessLog";

/// The entry of the access log that tells of requests that failed, were retried or were no success.
pub(crate) fn access_log(setting: &Setting) -> Part {
    let mut entry = part(
        r#"{name: durpina, filter: { or_filter: { filters: [
             { response_flag_filter: {} },
             { status_code_filter: { comparison: { op: GE, value: { default_value: 300, runtime_key: durpina.reported } } } },
             { header_filter: { header: { name: x-envoy-attempt-count, string_match: { exact: "1" }, invert_match: true } } } ] } } }"#,
    );
    let config = Part::map([
        ("name", Part::text(ACCESS_LOG_ROOT)),
        ("root_id", Part::text(ACCESS_LOG_ROOT)),
        ("failure_policy", Part::text("FAIL_RELOAD")),
        ("vm_config", vm(&setting.wasm)),
    ]);
    entry.set("typed_config", Part::map([("@type", Part::text(WASM_LOG)), ("config", config)]));
    entry
}

/// What virtual hosts have, beside the count of attempts: room for uploads that are tried again.
pub(crate) const BUFFER: (&str, &str) = ("request_body_buffer_limit", "4194304");

/// When a route tries another peer: when one breaks before it answered, or only while nothing was sent.
pub(crate) fn retry_policy(may_be_sent_twice: bool) -> Part {
    let on = if may_be_sent_twice { RETRY_ALWAYS } else { RETRY_UNSENT };
    let mut policy = Part::map([("retry_on", Part::text(on))]);
    policy.set("num_retries", Part::Word("2".to_owned()));
    policy.set("retry_back_off", part("{ base_interval: 0.001s, max_interval: 0.01s }"));
    policy
}

pub(crate) const RETRY_ALWAYS: &str = "connect-failure,refused-stream,reset";
pub(crate) const RETRY_UNSENT: &str = "connect-failure,refused-stream";

/// What matches the methods that may safely be sent twice.
pub(crate) fn safe_methods() -> Part {
    part(r#"{ name: ":method", string_match: { safe_regex: { regex: "GET|HEAD|OPTIONS|PUT|DELETE|TRACE" } } }"#)
}

fn breakers() -> Part {
    part(
        "thresholds: [{ max_connections: 1000000, max_pending_requests: 1000000, max_requests: 1000000, max_retries: 1000000 }]",
    )
}

fn cluster(name: &str) -> Part {
    Part::map([("name", Part::text(name)), ("connect_timeout", Part::text("1s"))])
}

/// Where routes go to: attempt n to the n-th of the others.
pub(crate) fn composite() -> Part {
    let mut durpina = cluster(NAME);
    durpina.set("lb_policy", Part::text("CLUSTER_PROVIDED"));
    let names = PEER_CLUSTERS.iter().map(|name| Part::map([("name", Part::text(*name))])).collect();
    let typed = Part::map([
        ("@type", Part::text("type.googleapis.com/envoy.extensions.clusters.composite.v3.ClusterConfig")),
        ("clusters", Part::List(names)),
    ]);
    let kind = Part::map([("name", Part::text("envoy.clusters.composite")), ("typed_config", typed)]);
    durpina.set("cluster_type", kind);
    durpina.set("circuit_breakers", breakers());
    durpina
}

/// The mark by which this command knows what it wrote.
pub(crate) fn mark<const N: usize>(entries: [(&str, Part); N]) -> Part {
    Part::map([("filter_metadata", Part::map([(NAME, Part::map(entries))]))])
}

/// Adds to a peer's cluster what speaks to it this way, for peers of which no cluster of the user's tells.
pub(crate) fn connection(peers: Peers) -> Connection {
    let http = match peers {
        Peers::Http1 | Peers::Tls => "http_protocol_options",
        Peers::Http2 => "http2_protocol_options",
    };
    let mut options = Part::map([("@type", Part::text(OPTIONS_TYPE))]);
    options.set("explicit_http_config", Part::map([(http, Part::Map(Vec::new()))]));
    let mut connection = vec![("typed_extension_protocol_options".to_owned(), Part::map([(OPTIONS, options)]))];
    if peers == Peers::Tls {
        connection.push(("transport_socket".to_owned(), tls()));
    }
    connection
}

fn tls() -> Part {
    part(
        r#"{ name: envoy.transport_sockets.tls, typed_config: { "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext } }"#,
    )
}

/// The three clusters that connect to peers.
pub(crate) fn peers(wiring: &Wiring, connection: &Connection) -> Vec<Part> {
    let one = |(at, name): (usize, &&str)| {
        let mut peer = cluster(name);
        peer.set("type", Part::text("ORIGINAL_DST"));
        peer.set("lb_policy", Part::text("CLUSTER_PROVIDED"));
        peer.set("original_dst_lb_config", wiring.lookup(at));
        peer.set("circuit_breakers", breakers());
        for (key, value) in connection {
            peer.set(key, value.clone());
        }
        let idle = part("{ idle_timeout: 50s }");
        if let Some(options) = peer.entry("typed_extension_protocol_options").and_then(|all| all.entry(OPTIONS)) {
            if options.get("common_http_protocol_options").is_none() {
                options.set("common_http_protocol_options", idle);
            }
        }
        peer
    };
    PEER_CLUSTERS.iter().enumerate().map(one).collect()
}

/// The clusters through which servers are checked and names looked up: those that are needed.
pub(crate) fn probes(setting: &Setting) -> Vec<Part> {
    let mut probes = Vec::new();
    let checks = setting.checks;
    for (needed, name, http2) in [
        (checks.http, PROBE, false),
        (checks.http_keepalive, PROBE_KEEPALIVE, false),
        (checks.tls, PROBE_TLS, false),
        (checks.http2, PROBE_H2, true),
        (checks.http2_keepalive, PROBE_H2_KEEPALIVE, true),
    ] {
        if needed {
            probes.push(probe(name, http2));
        }
    }
    if checks.tcp {
        probes.push(to_gateway(&setting.socket));
        probes.push(from_gateway());
    }
    probes
}

fn probe(name: &str, http2: bool) -> Part {
    let mut probe = from_gateway();
    probe.set("name", Part::text(name));
    let mut options = part(
        r#"{ "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions,
             common_http_protocol_options: { max_requests_per_connection: 1 },
             upstream_http_protocol_options: { auto_sni: true },
             explicit_http_config: { http_protocol_options: {} },
             http_filters: [
               { name: envoy.filters.http.header_mutation, typed_config: {
                   "@type": type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation,
                   mutations: { request_mutations: [
                     { remove: x-durpina-peer }, { remove: x-envoy-internal }, { remove: x-envoy-expected-rq-timeout-ms } ] } } },
               { name: envoy.filters.http.upstream_codec, typed_config: {
                   "@type": type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec } } ] }"#,
    );
    if name.ends_with(KEEPALIVE) {
        options.set("common_http_protocol_options", part("{ idle_timeout: 60s }"));
    }
    if http2 {
        options.set("explicit_http_config", part("{ http2_protocol_options: {} }"));
    }
    probe.set("typed_extension_protocol_options", Part::map([(OPTIONS, options)]));
    if name == PROBE_TLS {
        probe.set("transport_socket", tls());
    }
    probe
}

fn to_gateway(socket: &str) -> Part {
    let mut gateway = cluster(TCP);
    gateway.set("type", Part::text("STATIC"));
    gateway.set("circuit_breakers", breakers());
    let mut options = Part::map([("@type", Part::text(OPTIONS_TYPE))]);
    options.set("explicit_http_config", part("{ http2_protocol_options: {} }"));
    gateway.set("typed_extension_protocol_options", Part::map([(OPTIONS, options)]));
    let pipe = Part::map([("pipe", Part::map([("path", Part::text(socket))]))]);
    let endpoint = Part::map([("endpoint", Part::map([("address", pipe)]))]);
    let endpoints = Part::List(vec![Part::map([("lb_endpoints", Part::List(vec![endpoint]))])]);
    gateway.set("load_assignment", Part::map([("cluster_name", Part::text(TCP)), ("endpoints", endpoints)]));
    gateway
}

fn from_gateway() -> Part {
    let mut peer = cluster(TCP_PEER);
    peer.set("per_connection_buffer_limit_bytes", Part::Word("32768".to_owned()));
    peer.set("type", Part::text("ORIGINAL_DST"));
    peer.set("lb_policy", Part::text("CLUSTER_PROVIDED"));
    peer.set("original_dst_lb_config", by_header(PEER_HEADERS[0]));
    peer.set("circuit_breakers", breakers());
    peer
}

/// The gateway for raw TCP.
pub(crate) fn gateway(setting: &Setting) -> Part {
    // 0600
    let pipe = Part::map([("path", Part::text(&setting.socket)), ("mode", Part::Word("384".to_owned()))]);
    let mut listener = Part::map([("name", Part::text(TCP)), ("address", Part::map([("pipe", pipe)]))]);
    let manager = part(
        r#"{ name: envoy.filters.network.http_connection_manager, typed_config: {
               "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager,
               stat_prefix: durpina_tcp,
               codec_type: HTTP2,
               http2_protocol_options: { allow_connect: true },
               upgrade_configs: [{ upgrade_type: CONNECT }],
               http_filters: [{ name: envoy.filters.http.router, typed_config: {
                 "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } }],
               route_config: {
                 response_headers_to_add: [{ header: { key: x-durpina-gateway, value: "1" }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }],
                 virtual_hosts: [{ name: all, domains: ["*"], routes: [
                   { match: { prefix: / }, route: { cluster: durpina_tcp_peer,
                     upgrade_configs: [{ upgrade_type: CONNECT, connect_config: { allow_post: true } }] } } ] }] } } }"#,
    );
    let chain = Part::map([("filters", Part::List(vec![manager]))]);
    listener.set("filter_chains", Part::List(vec![chain]));
    listener
}

/// The layer of the runtime that bounds the answers to checks.
pub(crate) fn layer() -> Part {
    part("{ name: durpina, static_layer: { http.async_response_buffer_limit: 262144 } }")
}

/// What Envoy has where no layers are listed.
pub(crate) fn admin_layer() -> Part {
    Part::map([("name", Part::text(ADMIN_LAYER)), ("admin_layer", Part::Map(Vec::new()))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// One truth: the parts are those of the reference configurations, for peers of HTTP/1 and of HTTP/2.
    #[test]
    fn the_parts_are_those_of_the_reference_configuration() {
        let (http1, http2) =
            (include_str!("../../../../envoy/durpina.yaml"), include_str!("../../../../envoy/durpina-h2.yaml"));
        are_those_of(http1, Peers::Http1);
        are_those_of(http2, Peers::Http2);
    }

    fn are_those_of(text: &str, peers: Peers) {
        let doc = Doc::parse(text).unwrap();
        let reference = doc.value(doc.root());
        let listeners = &reference["static_resources"]["listeners"];
        let manager = &listeners[0]["filter_chains"][0]["filters"][0]["typed_config"];
        let json = manager["http_filters"][0]["typed_config"]["config"]["configuration"]["value"].as_str().unwrap();
        let checks =
            Checks { http: true, http_keepalive: true, tls: true, http2: true, http2_keepalive: true, tcp: true };
        let setting = Setting {
            json: json.to_owned(),
            wasm: "/etc/envoy/durpina.wasm".to_owned(),
            socket: "/run/envoy/durpina-tcp.sock".to_owned(),
            access_log: true,
            checks,
        };
        let wiring = Wiring::of(peers == Peers::Http2, None);
        let named = serde_json::from_str::<Value>(json).unwrap()["envoy"]["peer_headers"].clone();
        let expected = if wiring.is_to_be_named() { serde_json::json!(wiring.headers()) } else { Value::Null };
        assert_eq!(named, expected);
        let values = |parts: Vec<Part>| parts.iter().map(Part::value).collect::<Vec<Value>>();
        let filters = manager["http_filters"].as_array().unwrap();
        assert_eq!(values(self::filters(&setting, &wiring)), filters[..filters.len() - 1]);
        assert_eq!(vec![access_log(&setting).value()], *manager["access_log"].as_array().unwrap());
        let host = &manager["route_config"]["virtual_hosts"][0];
        assert_eq!(host[BUFFER.0].to_string(), BUFFER.1);
        let routes = &host["routes"];
        assert_eq!(retry_policy(true).value(), routes[0]["route"]["retry_policy"]);
        assert_eq!(retry_policy(false).value(), routes[1]["route"]["retry_policy"]);
        assert_eq!(safe_methods().value(), routes[0]["match"]["headers"][0]);
        assert_eq!(gateway(&setting).value(), listeners[1]);
        let mut layers = vec![layer().value(), admin_layer().value()];
        layers[1]["name"] = "admin".into();
        assert_eq!(layers, *reference["layered_runtime"]["layers"].as_array().unwrap());
        let mut clusters = vec![composite()];
        clusters.extend(self::peers(&wiring, &connection(peers)));
        clusters.extend(probes(&setting));
        let clusters = values(clusters);
        let expected = reference["static_resources"]["clusters"].as_array().unwrap();
        assert_eq!(clusters.len(), expected.len());
        for (cluster, expected) in clusters.iter().zip(expected) {
            assert_eq!(cluster, expected);
        }
    }
}
