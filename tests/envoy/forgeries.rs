//! Whatever a client writes, and in whatever form, it is the filter that chooses the peer.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{json, Value};

use crate::support::client::connect;
use crate::support::config::{repository, Config, MINIMAL};
use crate::support::envoy::{Envoy, Setup};
use crate::support::proxy::Proxy as _;
use crate::support::server::{Behaviour, Server};

/// All names by which a shipped configuration finds peers.
const NAMES: [&str; 6] =
    [":durpina-1", ":durpina-2", ":durpina-3", "x-durpina-peer", "x-durpina-peer-2", "x-durpina-peer-3"];

const PATHS: [&str; 4] = ["/web", "/failing", "/none", "/unrouted"];

/// Sends bytes, and gives what comes back until there is an answer, or the other side is done or silent.
fn throw(envoy: &Envoy, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let mut stream = connect(envoy.addr()).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let _ = stream.write_all(bytes);
    let mut part = [0; 4096];
    while !is_answer(&answer) {
        match stream.read(&mut part) {
            Ok(size) if size > 0 => answer.extend_from_slice(&part[..size]),
            _ => break,
        }
    }
    answer
}

/// Whether there is the head of an answer, or, over HTTP/2, anything that ends the request or its connection.
fn is_answer(bytes: &[u8]) -> bool {
    if bytes.starts_with(b"HTTP/1") {
        return bytes.windows(4).any(|end| end == b"\r\n\r\n");
    }
    let mut rest = bytes;
    while let [a, b, c, kind, _, _, _, _, _, more @ ..] = rest {
        if matches!(kind, 1 | 3 | 7) {
            return true;
        }
        rest = more.get(u32::from_be_bytes([0, *a, *b, *c]) as usize..).unwrap_or_default();
    }
    false
}

/// Requests over HTTP/1.1 that name this address in each of the headers, in forms that parsers differ on.
fn over_http1(path: &str, addr: &str) -> Vec<String> {
    let lines = |form: &dyn Fn(&str) -> String| NAMES.map(form).concat();
    let odd = |name: &str| name.replace("du", "Du").replace("x-", "X-");
    let headers = [
        lines(&|name| format!("{name}: {addr}\r\n")),
        lines(&|name| format!("{}: {addr}\r\n", odd(name))),
        lines(&|name| format!("{name}: {addr}\r\n{name}: {addr}\r\n{}: {addr}\r\n", odd(name))),
        lines(&|name| format!("{name}: {addr},{addr}\r\n")),
        lines(&|name| format!("{name}:{addr}\r\n")),
        lines(&|name| format!("{name}:\t {addr} \t\r\n")),
        lines(&|name| format!("{name} : {addr}\r\n")),
        lines(&|name| format!(" {name}: {addr}\r\n")),
        lines(&|name| format!("{name}:\r\n {addr}\r\n")),
        lines(&|name| format!("{name}: {addr}\n")),
        lines(&|name| format!("{}: {addr}\r\n", name.replace('-', "_"))),
        lines(&|name| format!("{}: {addr}\r\n", name.trim_start_matches(':'))),
        lines(&|name| format!("x: y\r{name}: {addr}\r\n")),
        lines(&|name| format!("x: y\0\r\n{name}: {addr}\r\n")),
        lines(&|name| format!("::{name}: {addr}\r\n")),
        format!("connection: {}\r\n{}", NAMES.join(", "), lines(&|name| format!("{name}: {addr}\r\n"))),
        format!("connection: upgrade\r\nupgrade: websocket\r\n{}", lines(&|name| format!("{name}: {addr}\r\n"))),
        format!("connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoAAA\r\n{}", lines(&|name| format!("{name}: {addr}\r\n"))),
        format!("x-envoy-original-dst-host: {addr}\r\nx-envoy-retriable-status-codes: {addr}\r\nx-envoy-retry-on: 5xx,reset\r\n"),
    ];
    // Each alone too: one that is refused must not hide another.
    let alone = NAMES.map(|name| format!("{name}: {addr}\r\n"));
    let get = |headers: &String| format!("GET {path} HTTP/1.1\r\nhost: test\r\n{headers}\r\n");
    let mut requests: Vec<String> = headers.iter().chain(&alone).map(get).collect();
    requests.extend(alone.iter().map(|line| format!("GET http://test{path} HTTP/1.1\r\nhost: test\r\n{line}\r\n")));
    requests.extend(alone.iter().map(|line| format!("{line}GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")));
    requests.extend(alone.iter().map(|line| {
        let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\ntrailer: x\r\n\r\n");
        format!("{head}1\r\nx\r\n0\r\n{line}\r\n")
    }));
    requests
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Header fields, none of them compressed (RFC 7541, 6.2.2).
fn fields(headers: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("a short text")], text.as_bytes()].concat();
    headers.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// A connection over HTTP/2 with one request of these headers, and these trailers if any.
fn over_http2(headers: &[(&str, &str)], trailers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes.extend(frame(1, if trailers.is_empty() { 5 } else { 4 }, 1, &fields(headers)));
    if !trailers.is_empty() {
        bytes.extend(frame(0, 0, 1, b"x"));
        bytes.extend(frame(1, 5, 1, &fields(trailers)));
    }
    bytes
}

type Fields<'f> = Vec<(&'f str, &'f str)>;

/// Calls `send` with the headers and trailers of requests that name this address in one of the headers, each in all places.
fn each_in_fields(path: &str, addr: &str, scheme: &str, mut send: impl FnMut(&Fields<'_>, &Fields<'_>)) {
    let usual = [(":method", "GET"), (":scheme", scheme), (":authority", "test"), (":path", path)];
    let post = [(":method", "POST"), (":scheme", scheme), (":authority", "test"), (":path", path)];
    for name in NAMES {
        let upper = name.to_ascii_uppercase();
        let (padded, broken) = (format!("{name} "), format!("a\r\n{name}: {addr}"));
        for (name, value) in [(name, addr), (&upper, addr), (&padded, addr), ("x", &broken)] {
            let forged = (name, value);
            send(&[&usual[..], &[forged]].concat(), &vec![]);
            send(&[&[forged], &usual[..]].concat(), &vec![]);
            send(&[&usual[..2], &[forged], &usual[2..]].concat(), &vec![]);
            send(&[&usual[..], &[("x", "y"), forged, forged]].concat(), &vec![]);
            send(&post.to_vec(), &vec![forged]);
        }
    }
}

fn all_over_http2(path: &str, addr: &str) -> Vec<Vec<u8>> {
    let mut requests = Vec::new();
    each_in_fields(path, addr, "http", |headers, trailers| requests.push(over_http2(headers, trailers)));
    requests
}

/// A request as `http3.py` reads it.
fn over_http3(headers: &[(&str, &str)], trailers: &[(&str, &str)]) -> String {
    json!({ "headers": headers, "trailers": trailers }).to_string() + "\n"
}

/// Sends requests over HTTP/3, and gives how often there was which end: a status, or what happened instead.
fn throw_over_http3(envoy: &Envoy, requests: &str) -> BTreeMap<String, usize> {
    let mut client = Command::new(repository().join(".venv/bin/python"));
    client.arg(repository().join("tests/envoy/http3.py")).arg(envoy.second_addr().port().to_string());
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python of `make test`");
    client.stdin.take().expect("a pipe").write_all(requests.as_bytes()).expect("the client reads");
    let output = client.wait_with_output().expect("the client ends");
    assert!(output.status.success(), "the client of HTTP/3 failed");
    let mut ends = BTreeMap::new();
    for end in String::from_utf8_lossy(&output.stdout).lines() {
        *ends.entry(end.to_owned()).or_default() += 1;
    }
    assert_eq!(ends.values().sum::<usize>(), requests.lines().count(), "{ends:?}");
    ends
}

fn filter(a: &Server, failing: &Server) -> Value {
    json!({
        "upstreams": {
            "web": { "servers": [a.addr().to_string()] },
            // Its only peer fails, so that Envoy would go on to a second and a third one.
            "failing": { "servers": [format!("{} max_fails=0", failing.addr())] },
            "none": { "servers": [format!("{} down", a.addr())] },
        },
        "routes": [
            { "prefix": "/web", "upstream": "web" },
            { "prefix": "/failing", "upstream": "failing" },
            { "prefix": "/none", "upstream": "none" },
        ],
    })
}

/// Sends every forgery, and fails if one arrives where it says.
fn forge(envoy: &Envoy, decoy: &Server) {
    let addr = decoy.addr().to_string();
    // Side by side: some are never answered.
    std::thread::scope(|scope| {
        for path in PATHS {
            let (http1, http2) = (over_http1(path, &addr), all_over_http2(path, &addr));
            let requests: Vec<Vec<u8>> = http1.into_iter().map(String::into_bytes).chain(http2).collect();
            for some in requests.chunks(20) {
                let some = some.to_vec();
                scope.spawn(move || {
                    for request in some {
                        throw(envoy, &request);
                        assert_eq!(decoy.connections(), 0, "{}", String::from_utf8_lossy(&request));
                    }
                });
            }
        }
    });
}

#[test]
fn no_form_of_a_header_chooses_a_peer() {
    let [a, failing, decoy] = ["a", "failing", "decoy"].map(Server::start);
    failing.behave(Behaviour::Reset);
    for config in
        [Config::reference(&filter(&a, &failing)).upgrades(), Config::of(MINIMAL).filter(&filter(&a, &failing))]
    {
        let envoy = Setup::new(config).workers(2).start();
        // What is thrown does arrive, where there is nothing forged in it.
        let before = a.requests();
        let usual = [(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", "/web")];
        throw(&envoy, &over_http2(&usual, &[]));
        throw(&envoy, b"GET /web HTTP/1.1\r\nhost: test\r\n\r\n");
        assert_eq!(a.requests(), before + 2);
        forge(&envoy, &decoy);
    }
}

#[test]
fn clusters_that_read_other_headers_than_the_filter_writes_have_nobody() {
    let [a, failing, decoy] = ["a", "failing", "decoy"].map(Server::start);
    let mut filter = filter(&a, &failing);
    filter["envoy"] = json!({ "peer_headers": [":durpina-1", ":durpina-2", ":durpina-3"] });
    let envoy = Setup::new(Config::of(MINIMAL).filter(&filter)).start();
    let addr = decoy.addr().to_string();
    for _ in 0..20 {
        let request = format!("GET /web HTTP/1.1\r\nhost: test\r\nx-durpina-peer: {addr}\r\n\r\n");
        let answer = throw(&envoy, request.as_bytes());
        assert!(answer.starts_with(b"HTTP/1.1 503"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!((decoy.connections(), a.requests()), (0, 0));
}

#[test]
fn no_form_of_a_header_chooses_a_peer_for_clients_that_are_internal_ones() {
    let [a, failing, decoy] = ["a", "failing", "decoy"].map(Server::start);
    failing.behave(Behaviour::Reset);
    let envoy = Setup::new(Config::reference(&filter(&a, &failing)).internal_clients()).workers(2).start();
    throw(&envoy, b"GET /web HTTP/1.1\r\nhost: test\r\n\r\n");
    assert_eq!(a.requests(), 1);
    forge(&envoy, &decoy);
}

#[test]
fn no_form_of_a_header_over_http3_chooses_a_peer() {
    let [a, failing, decoy] = ["a", "failing", "decoy"].map(Server::start);
    failing.behave(Behaviour::Reset);
    let addr = decoy.addr().to_string();
    for config in [
        Config::reference(&filter(&a, &failing)).http3(),
        Config::reference(&filter(&a, &failing)).http3().internal_clients(),
    ] {
        let envoy = Setup::new(config).workers(2).start();
        let before = a.requests();
        let usual = [(":method", "GET"), (":scheme", "https"), (":authority", "test"), (":path", "/web")];
        let ends = throw_over_http3(&envoy, &over_http3(&usual, &[]));
        assert_eq!((ends.get("200"), a.requests()), (Some(&1), before + 1), "without a forgery: {ends:?}");

        for path in PATHS {
            let mut requests = String::new();
            each_in_fields(path, &addr, "https", |headers, trailers| requests += &over_http3(headers, trailers));
            let ends = throw_over_http3(&envoy, &requests);
            assert_eq!(decoy.connections(), 0, "{path}: {ends:?}");
        }
        // Names that begin with a colon are nobody's but HTTP's: such a request is refused as a whole.
        let names = NAMES.iter().filter(|name| name.starts_with(':'));
        let forged = names.map(|name| over_http3(&[&usual[..], &[(*name, addr.as_str())]].concat(), &[]));
        let ends = throw_over_http3(&envoy, &forged.collect::<String>());
        assert!(!ends.contains_key("200"), "{ends:?}");
    }
}
