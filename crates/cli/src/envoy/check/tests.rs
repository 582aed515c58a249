//! Each mistake in the reference configuration is found, at its line, and nothing else is.

use super::check;
use crate::envoy::places::File;
use crate::envoy::yaml::Doc;
use durpina::Registry;

const REFERENCE: &str = include_str!("../../../../../envoy/durpina.yaml");
const HTTP2: &str = include_str!("../../../../../envoy/durpina-h2.yaml");

fn report(text: &str) -> (Vec<String>, bool) {
    let doc = Doc::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let (report, good) = check(&[File { name: "envoy.yaml".to_owned(), doc }], &Registry::default());
    // Whether the directory exists is the machine's matter.
    let lines = report.lines().filter(|line| !line.contains("the directory of its socket"));
    let mut lines: Vec<String> = lines.map(str::to_owned).collect();
    lines.pop().expect("a summary");
    (lines, good)
}

#[test]
fn what_is_shipped_is_good() {
    let shipped = [
        REFERENCE,
        HTTP2,
        include_str!("../../../../../envoy/minimal.yaml"),
        include_str!("../../../../../envoy/admin.yaml"),
    ];
    for text in shipped {
        assert_eq!(report(text), (Vec::new(), true));
    }
}

/// What is replaced (the first time that it is there), by what, what is said of it, how bad it is, and at which text's line.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// Of both wirings.
const CASES: &[Case] = &[
    ("8081 weight=5", "8081 weight=0", "error", "upstreams.web.servers[0].weight: expected", "8081 weight=0"),
    ("\"interval\": \"2s\"", "\"interval\": \"2x\"", "error", "upstreams.web.monitors[0].interval: expected", "\"2x\""),
    ("\"retries\": 2,", "\"retries\": 2", "error", "the filter JSON: expected `,` or `}`", "\"monitors\""),
    ("failure_policy: FAIL_RELOAD", "failure_policy: FAIL_OPEN", "error", "an open proxy", "FAIL_OPEN\n"),
    (
        "failure_policy: FAIL_RELOAD",
        "failure_policy: FAIL_CLOSED",
        "warning",
        "until Envoy is restarted",
        "FAIL_CLOSED",
    ),
    (
        "allow_on_headers_stop_iteration: true",
        "{NONE}",
        "warning",
        "allow_on_headers_stop_iteration",
        "config:\n                name: durpina",
    ),
    ("{ name: durpina_3 }]", "{ name: durpina_4 }]", "error", "no cluster \"durpina_4\"", "{ name: durpina_4 }]"),
    ("  - name: durpina_probe_h2", "  - name: renamed", "", "", ""),
    (
        "\"name\": \"tcp\"",
        "\"name\": \"grpc\", \"cluster\": \"other\"",
        "error",
        "no cluster \"other\" in these files, and the filter JSON asks through it",
        "- name: durpina\n            typed",
    ),
    (
        "\"name\": \"tcp\"",
        "\"name\": \"tcp\", \"cluster\": \"durpina_1\"",
        "error",
        "the server to ask is in the header x-durpina-peer",
        "",
    ),
    (
        "        max_retries: 1000000",
        "        track_remaining: true",
        "warning",
        "max_retries of circuit_breakers at the default, 3",
        "- name: durpina\n    connect",
    ),
    (
        "      - max_connections: 1000000",
        "      - track_remaining: true",
        "warning",
        "max_connections of circuit_breakers at the default, 1024",
        "",
    ),
    ("runtime_key: durpina.reported", "runtime_key: durpina.reports", "", "", ""),
    ("root_id: durpina_log", "root_id: other", "error", "no access_log entry with the root_id \"durpina_log\"", ""),
    (
        "vm_config: *vm",
        "vm_config: { vm_id: durpina, runtime: envoy.wasm.runtime.null }",
        "error",
        "no failure is counted",
        "runtime.null",
    ),
    (
        "\"access_log\": true",
        "\"access_log\": false",
        "warning",
        "is of no use",
        "- name: durpina\n            filter:",
    ),
    (
        "include_request_attempt_count: true\n",
        "include_request_attempt_count: false\n",
        "error",
        "has no include_request_attempt_count: true",
        "- name: all\n              domains",
    ),
    ("normalize_path: true", "normalize_path: false", "warning", "normalize_path", ""),
    (
        "{\"prefix\": \"/\", \"upstream\": \"web\"}",
        "{\"prefix\": \"/web\", \"upstream\": \"web\"}",
        "warning",
        "match some requests for \"/\" only",
        "- match:\n                  prefix: /\n",
    ),
    ("http.async_response_buffer_limit", "other", "warning", "async_response_buffer_limit", ""),
    (
        "header: { key: x-durpina-gateway",
        "header: { key: x-other",
        "error",
        "no check over TCP can fail",
        "- name: durpina_tcp",
    ),
    (
        "address: { pipe: { path: /run/envoy/durpina-tcp.sock, mode: 384 } }",
        "address: { pipe: { path: /run/envoy/durpina-tcp.sock } }",
        "",
        "",
        "",
    ),
    (
        "endpoint: { address: { pipe: { path: /run/envoy/durpina-tcp.sock } } }",
        "endpoint: { address: { pipe: { path: /other.sock } } }",
        "error",
        "/other.sock, on which no listener",
        "- name: durpina_tcp\n    connect",
    ),
];

/// Of headers that the clusters read.
const BY_HEADERS: &[Case] = &[
    ("http_header_name: \":durpina-2\"", "http_header_name: x-durpina-peer-2", "error", "goes by the header x-durpina-peer-2; the second peer is in the header :durpina-2", "http_header_name: x-durpina-peer-2"),
    ("[\":durpina-1\", \":durpina-2\"", "[\":durpina-2\", \":durpina-1\"", "error", "goes by the header :durpina-1; the first peer is in the header :durpina-2", "original_dst_lb_config: { use_http_header: true, http_header_name: \":durpina-1\""),
    ("              include_request_attempt_count: true\n", "              include_request_attempt_count: true\n              request_headers_to_remove: [x-durpina-peer, \":durpina-2\"]\n", "error", ":durpina-2 is taken out before the cluster \"durpina\" chooses its peer by it", "request_headers_to_remove"),
    ("              - match: { prefix: / }\n", "              - match: { prefix: / }\n                request_headers_to_remove: [\":Durpina-1\"]\n", "error", ":durpina-1 is taken out before", "request_headers_to_remove: [\":Durpina-1\"]"),
    ("explicit_http_config: { http_protocol_options: {} }", "explicit_http_config: { http2_protocol_options: {} }", "error", "speaks HTTP/2, and goes by the header :durpina-2", "- name: durpina_2"),
    ("              - match: { prefix: / }\n", "              - match: { prefix: /x }\n                route: { cluster: durpina_tcp }\n              - match: { prefix: / }\n", "warning", "leads to \"durpina_tcp\", which speaks HTTP/2", "- match: { prefix: /x }"),
];

/// Of headers that become metadata.
const BY_METADATA: &[Case] = &[
    ("header: x-durpina-peer-2", "header: x-durpina-peer-4", "error", "no rule for the header x-durpina-peer-2", "- name: envoy.filters.http.header_to_metadata"),
    ("key: peer_2 }\n", "key: peer_4 }\n", "error", "has to become the key \"peer_2\"", "- header: x-durpina-peer-2"),
    ("                remove: true\n              - header: x-durpina-peer-2", "              - header: x-durpina-peer-2", "warning", "so the servers see x-durpina-peer", "- header: x-durpina-peer\n"),
    ("path: [{ key: peer_2 }]", "path: [{ key: peer_3 }]", "error", "goes by the key \"peer_3\"", "path: [{ key: peer_3 }]"),
    ("          # 2. Directly", "          - name: envoy.filters.http.rbac\n            typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC }\n          # 2.", "error", "has to stand right behind durpina", "- name: envoy.filters.http.header_to_metadata"),
];

#[test]
fn each_mistake_is_found_in_its_place() {
    for (reference, cases) in [(REFERENCE, CASES), (HTTP2, CASES), (REFERENCE, BY_HEADERS), (HTTP2, BY_METADATA)] {
        are_found(reference, cases);
    }
}

fn are_found(reference: &str, cases: &[Case]) {
    for (from, to, severity, message, at) in cases {
        let to = to.replace("{NONE}", "# none");
        let text = reference.replacen(from, &to, 1);
        assert_ne!(text, reference, "{from}");
        let (found, good) = report(&text);
        if message.is_empty() {
            assert_eq!((found, good), (Vec::new(), true), "{from}");
            continue;
        }
        let line = found.iter().find(|line| line.contains(message));
        let line = line.unwrap_or_else(|| panic!("{from}: no {message:?} in {found:#?}"));
        assert!(line.contains(&format!(": {severity}: ")), "{line}");
        assert_eq!(good, !found.iter().any(|line| line.contains(": error: ")), "{found:#?}");
        if !at.is_empty() {
            let place = text.find(at).unwrap_or_else(|| panic!("{at} is in the text"));
            let number = 1 + text[..place].matches('\n').count();
            assert!(line.starts_with(&format!("envoy.yaml:{number}: ")), "line {number}: {line}");
        }
    }
}

#[test]
fn a_route_without_the_filter_is_an_open_proxy() {
    let minimal = include_str!("../../../../../envoy/minimal.yaml");
    let start = minimal.find("          - name: durpina\n").unwrap();
    let end = minimal.find("          - name: envoy.filters.http.router").unwrap();
    let (found, good) = report(&(minimal[..start].to_owned() + &minimal[end..]));
    assert!(!good && found.iter().any(|line| line.contains("chooses where Envoy connects to")), "{found:#?}");
}

#[test]
fn two_filters_of_one_root_id_must_not_differ() {
    let admin = include_str!("../../../../../envoy/admin.yaml");
    let (found, good) = report(&admin.replace("root_id: durpina_admin", "root_id: durpina"));
    assert!(
        !good && found.iter().any(|line| line.contains("has the root_id \"durpina\" of the filter in line")),
        "{found:#?}"
    );
}

#[test]
fn filters_before_one_cluster_name_their_headers_alike() {
    let start = REFERENCE.find("  - name: http\n").unwrap();
    let end = REFERENCE.find("  # The raw-TCP gateway").unwrap();
    let second = REFERENCE[start..end]
        .replace("- name: http\n", "- name: second\n")
        .replace("&vm", "&second")
        .replace("*vm", "*second");
    let twice = |second: &str| report(&(REFERENCE[..end].to_owned() + second + &REFERENCE[end..]));
    assert_eq!(twice(&second), (Vec::new(), true));
    let other = second.replace("root_id: durpina\n", "root_id: other\n").replace(":durpina-3\"]", ":durpina-4\"]");
    let (found, good) = twice(&other);
    assert!(
        !good && found.iter().any(|line| line.contains("names its peer_headers otherwise than the filter in line")),
        "{found:#?}"
    );
}

#[test]
fn a_struct_is_read_as_the_text_is() {
    let minimal = include_str!("../../../../../envoy/minimal.yaml");
    let with = |json: &str| {
        let start =
            minimal.find("                  \"@type\": type.googleapis.com/google.protobuf.StringValue").unwrap();
        let end = minimal.find("          - name: envoy.filters.http.router").unwrap();
        let value = format!("                  \"@type\": type.googleapis.com/google.protobuf.Struct\n                  value:\n                    {json}\n");
        report(&(minimal[..start].to_owned() + &value + &minimal[end..]))
    };
    let (found, good) =
        with("upstreams: { web: { servers: [ '10.0.0.1:80' ], retries: 0 } }\n                    upstream: web");
    assert!(good, "{found:#?}");
    let (found, good) = with("upstream: web\n                    upstreams: { web: { retries: 7 } }");
    let text = minimal.lines().position(|line| line.contains("StringValue")).unwrap();
    assert!(!good, "{found:#?}");
    assert!(
        found[0].starts_with(&format!("envoy.yaml:{}: error: the filter JSON: upstreams.web.retries", text + 4)),
        "{found:#?}"
    );
}

#[test]
fn without_a_filter_there_is_nothing_good() {
    let doc = Doc::parse("static_resources: { clusters: [] }").unwrap();
    let (report, good) = check(&[File { name: "envoy.yaml".to_owned(), doc }], &Registry::default());
    assert!(!good && report.contains("there is no filter of durpina's"), "{report}");
}
