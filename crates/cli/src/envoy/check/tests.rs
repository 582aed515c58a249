//! Each mistake in the reference configuration is found, at its line, and nothing else is.

use super::check;
use crate::envoy::places::File;
use crate::envoy::yaml::Doc;
use durpina::Registry;

const REFERENCE: &str = include_str!("../../../../../envoy/durpina.yaml");

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
    let shipped =
        [REFERENCE, include_str!("../../../../../envoy/minimal.yaml"), include_str!("../../../../../envoy/admin.yaml")];
    for text in shipped {
        assert_eq!(report(text), (Vec::new(), true));
    }
}

/// What is replaced (the first time that it is there), by what, what is said of it, how bad it is, and at which text's line.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str);

const CASES: &[Case] = &[
    ("8081 weight=5", "8081 weight=0", "error", "upstreams.web.servers[0].weight: expected", "8081 weight=0"),
    ("\"interval\": \"2s\"", "\"interval\": \"2x\"", "error", "upstreams.web.monitors[0].interval: expected", "\"2x\""),
    ("\"retries\": 2,", "\"retries\": 2", "error", "the filter JSON: expected `,` or `}`", "\"monitors\""),
    ("failure_policy: FAIL_RELOAD", "failure_policy: FAIL_OPEN", "error", "an open proxy", "FAIL_OPEN\n"),
    ("failure_policy: FAIL_RELOAD", "failure_policy: FAIL_CLOSED", "warning", "until Envoy is restarted", "FAIL_CLOSED"),
    ("allow_on_headers_stop_iteration: true", "{NONE}", "warning", "allow_on_headers_stop_iteration", "config:\n                name: durpina"),
    ("header: x-durpina-peer-2", "header: x-durpina-peer-4", "error", "no rule for the header x-durpina-peer-2", "- name: envoy.filters.http.header_to_metadata"),
    ("key: peer_2 }\n", "key: peer_4 }\n", "error", "has to become the key \"peer_2\"", "- header: x-durpina-peer-2"),
    ("                remove: true\n              - header: x-durpina-peer-2", "              - header: x-durpina-peer-2", "warning", "so the servers see x-durpina-peer", "- header: x-durpina-peer\n"),
    ("path: [{ key: peer_2 }]", "path: [{ key: peer_3 }]", "error", "goes by the key \"peer_3\"", "path: [{ key: peer_3 }]"),
    ("{ name: durpina_3 }]", "{ name: durpina_4 }]", "error", "no cluster \"durpina_4\"", "{ name: durpina_4 }]"),
    ("  - name: durpina_probe_h2", "  - name: renamed", "", "", ""),
    ("\"name\": \"tcp\"", "\"name\": \"grpc\", \"cluster\": \"other\"", "error", "no cluster \"other\" in these files, and the filter JSON asks through it", "- name: durpina\n            typed"),
    ("\"name\": \"tcp\"", "\"name\": \"tcp\", \"cluster\": \"durpina_1\"", "error", "the server to ask is in the header x-durpina-peer", ""),
    ("        max_retries: 1000000", "        track_remaining: true", "warning", "max_retries of circuit_breakers at the default, 3", "- name: durpina\n    connect"),
    ("      - max_connections: 1000000", "      - track_remaining: true", "warning", "max_connections of circuit_breakers at the default, 1024", ""),
    ("runtime_key: durpina.reported", "runtime_key: durpina.reports", "", "", ""),
    ("root_id: durpina_log", "root_id: other", "error", "no access_log entry with the root_id \"durpina_log\"", ""),
    ("vm_config: *vm", "vm_config: { vm_id: durpina, runtime: envoy.wasm.runtime.null }", "error", "no failure is counted", "runtime.null"),
    ("\"access_log\": true", "\"access_log\": false", "warning", "is of no use", "- name: durpina\n            filter:"),
    ("include_request_attempt_count: true\n", "include_request_attempt_count: false\n", "error", "has no include_request_attempt_count: true", "- name: all\n              domains"),
    ("normalize_path: true", "normalize_path: false", "warning", "normalize_path", ""),
    ("{\"prefix\": \"/\", \"upstream\": \"web\"}", "{\"prefix\": \"/web\", \"upstream\": \"web\"}", "warning", "match some requests for \"/\" only", "- match:\n                  prefix: /\n"),
    ("http.async_response_buffer_limit", "other", "warning", "async_response_buffer_limit", ""),
    ("header: { key: x-durpina-gateway", "header: { key: x-other", "error", "no check over TCP can fail", "- name: durpina_tcp"),
    ("address: &gateway { pipe: { path: /run/envoy/durpina-tcp.sock, mode: 384 } }", "address: &gateway { pipe: { path: /run/envoy/durpina-tcp.sock } }", "", "", ""),
    ("endpoint: { address: *gateway }", "endpoint: { address: { pipe: { path: /other.sock } } }", "error", "/other.sock, on which no listener", "- name: durpina_tcp\n    connect"),
    ("          # 2. Directly", "          - name: envoy.filters.http.rbac\n            typed_config: { \"@type\": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC }\n          # 2.", "error", "has to stand right behind durpina", "- name: envoy.filters.http.header_to_metadata"),
];

#[test]
fn each_mistake_is_found_in_its_place() {
    for (from, to, severity, message, at) in CASES {
        let to = to.replace("{NONE}", "# none");
        let text = REFERENCE.replacen(from, &to, 1);
        assert_ne!(text, REFERENCE, "{from}");
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
