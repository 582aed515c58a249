//! What clients send chooses no peer and crashes nothing; what servers get holds nothing of ours.
//!
//! That no filter crashed is asserted whenever an [`Envoy`] is dropped.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use serde_json::json;

use crate::support::client::{connect, Request};
use crate::support::config::{Config, MINIMAL};
use crate::support::envoy::{Envoy, Setup};
use crate::support::proxy::Proxy as _;
use crate::support::server::{Behaviour, Server};
use crate::{one_upstream, served_in_turn, server, start};

/// The request with every header that could choose a peer, in the ways in which a client could send them.
pub(crate) fn forgeries(path: &str, addr: &str) -> Vec<Request> {
    let names = ["x-durpina-peer", "x-durpina-peer-2", "x-durpina-peer-3"];
    let all = |mut request: Request, spell: fn(&str) -> String, value: &str| {
        for name in names {
            request = request.header(spell(name), value);
        }
        request
    };
    let odd = |name: &str| -> String {
        let case = |(at, letter): (usize, char)| if at % 2 == 0 { letter.to_ascii_uppercase() } else { letter };
        name.chars().enumerate().map(case).collect()
    };
    let plain = |name: &str| name.to_owned();
    vec![
        all(Request::get(path), plain, addr),
        all(Request::get(path), odd, addr),
        all(all(all(Request::get(path), plain, addr), odd, addr), plain, addr),
        all(Request::get(path), plain, &format!("{addr},{addr}")),
        all(all(Request::get(path), plain, ""), plain, addr),
        all(Request::new("POST", path), plain, addr).body("x"),
        all(Request::new("DELETE", path), plain, addr),
        all(Request::new("OPTIONS", "*"), plain, addr),
        all(Request::get(format!("{path}?x-durpina-peer={addr}")), plain, addr)
            .header("x-envoy-original-dst-host", addr),
        all(Request::get(path), plain, addr).header("x-envoy-max-retries", "5").header("x-envoy-retry-on", "5xx,reset"),
        // A hop-by-hop header must not make Envoy drop what the filter set.
        all(Request::get(path), plain, addr).header("connection", "x-durpina-peer, x-durpina-peer-2, x-durpina-peer-3"),
    ]
}

#[test]
fn a_client_never_chooses_the_peer() {
    let [a, failing, decoy] = ["a", "failing", "decoy"].map(Server::start);
    failing.behave(Behaviour::Reset);
    let filter = json!({
        "upstreams": {
            "web": { "servers": [a.addr().to_string()] },
            "one": { "servers": [a.addr().to_string()], "retries": 0 },
            // Its only peer fails, so that Envoy would go on to a second and a third one.
            "failing": { "servers": [format!("{} max_fails=0", failing.addr())] },
            "none": { "servers": [format!("{} down", a.addr())] },
        },
        "routes": [
            { "prefix": "/web", "upstream": "web" },
            { "prefix": "/one", "upstream": "one" },
            { "prefix": "/failing", "upstream": "failing" },
            { "prefix": "/none", "upstream": "none" },
            { "prefix": "/unknown", "upstream": "$arg_upstream" },
        ],
    });
    let configs = [Config::reference(&filter), Config::of(MINIMAL).filter(&filter)];
    for config in configs {
        let envoy = Setup::new(config).start();
        for path in ["/web", "/one", "/failing", "/none", "/unknown", "/unrouted"] {
            for request in forgeries(path, &decoy.addr().to_string()) {
                let answer = envoy.client().send(&request).expect("an answer");
                assert_ne!(answer.served_by(), "decoy", "{}", String::from_utf8_lossy(&request.bytes()));
            }
        }
        assert_eq!(decoy.connections(), 0);
    }
    assert!(a.requests() > 0 && failing.requests() > 0, "the requests did go somewhere");
}

#[test]
fn a_request_that_no_route_matches_passes_without_our_headers() {
    let [a, decoy] = ["a", "decoy"].map(Server::start);
    let filter = json!({
        "upstreams": { "web": { "servers": [a.addr().to_string()] } },
        "routes": [{ "prefix": "/web", "upstream": "web" }],
    });
    let envoy = start(&filter);
    let request = Request::get("/other").header("x-durpina-peer", decoy.addr().to_string());
    let answer = envoy.client().send(&request).expect("an answer");
    // In the reference configuration every route leads to the cluster of the picked peers, and none was picked.
    assert_eq!((answer.status, answer.served_by()), (503, ""));
    assert_ne!(answer.header("content-type"), Some("application/problem+json"), "the filter left it alone");
    assert_eq!(decoy.connections(), 0);
}

#[test]
fn servers_never_see_our_headers() {
    let [a, b] = ["a", "b"].map(Server::start);
    // Every second request is answered at the second attempt.
    let envoy = start(&one_upstream(&[server(&a, "max_fails=0"), server(&b, "max_fails=0")]));
    a.behave(Behaviour::Reset);
    for _ in 0..5 {
        for request in forgeries("/", "127.0.0.1:1") {
            let answer = envoy.client().send(&request).expect("an answer");
            assert!(answer.headers.iter().all(|(name, _)| !name.contains("durpina")), "{:?}", answer.headers);
        }
    }
    let heads = [a.heads(), b.heads()].concat();
    assert!(a.requests() >= 20 && b.requests() >= 20, "both servers had requests");
    for head in heads {
        let ours = head.headers.iter().find(|(name, _)| name.to_ascii_lowercase().contains("durpina"));
        assert_eq!(ours, None, "{head:?}");
    }
}

#[test]
fn what_is_not_ours_arrives_unchanged() {
    let a = Server::start("a");
    let envoy = start(&one_upstream(&[server(&a, "")]));
    let target = "/a%20b/%C3%BC?x=1&y=%00%ff&x=2";
    let request = Request::new("PUT", target).header("x-mine", "one").header("cookie", "a=b; c=d").body("hello");
    assert_eq!(envoy.client().send(&request).expect("an answer").status, 200);
    let head = &a.heads()[0];
    assert_eq!((head.method.as_str(), head.target.as_str()), ("PUT", target));
    assert_eq!(head.header("x-mine"), Some("one"));
    assert_eq!(head.header("cookie"), Some("a=b; c=d"));
    assert_eq!(head.header("host"), Some("test"));
    assert_eq!(head.header("content-length"), Some("5"));
}

/// Routes that look at everything a client can send.
fn curious(a: &Server) -> Envoy {
    let filter = json!({
        "upstreams": { "web": { "servers": [a.addr().to_string()] } },
        "routes": [
            { "path": "/", "upstream": "web" },
            { "prefix": "/long/", "upstream": "web" },
            { "regex": "^/((?:[a-z]+/)*)([^/]*)$", "method": "GET", "upstream": "$1$2" },
            { "regex": "^/(.*)x(.*)y(.*)$", "upstream": "$3$2$1" },
            { "path": "/v", "upstream": "${http_x}$http_x$cookie_a$arg_a$args$uri$request_uri$remote_addr$host$request_method$$" },
            { "path": "/w", "upstream": "$cookie_a" },
            { "prefix": "/", "upstream": "web" },
        ],
    });
    Setup::new(Config::reference(&filter)).workers(2).start()
}

/// Sends bytes, reads until the other side is done or silent, and does not care what comes.
fn throw(envoy: &Envoy, bytes: &[u8]) {
    let Ok(mut stream) = connect(envoy.addr()) else { return };
    let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.take(64 * 1024).read_to_end(&mut Vec::new());
}

/// Reproducible noise (SplitMix64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()[0]).take(length).collect()
    }

    /// Bytes that get through Envoy's own parser into a path or a header: no control characters, no spaces.
    fn text(&mut self, length: usize) -> Vec<u8> {
        let visible = |byte: &u8| *byte > b' ' && *byte != 0x7f;
        std::iter::repeat_with(|| self.next().to_le_bytes()[0]).filter(visible).take(length).collect()
    }
}

#[test]
fn nonsense_from_clients_crashes_nothing() {
    let a = Server::start("a");
    let envoy = curious(&a);
    let mut noise = Noise(1);
    for round in 0..60 {
        let length = 1 + round * 7;
        // Not HTTP at all; a path, a query, a host, headers and cookies of any bytes.
        throw(&envoy, &noise.bytes(length));
        let noisy = |noise: &mut Noise| noise.text(length);
        throw(&envoy, &Request::get([b"/".to_vec(), noisy(&mut noise)].concat()).bytes());
        throw(
            &envoy,
            &Request::get([b"/v?a=".to_vec(), noisy(&mut noise)].concat()).header("x", noisy(&mut noise)).bytes(),
        );
        throw(&envoy, &Request::get("/w").header("cookie", [b"a=".to_vec(), noisy(&mut noise)].concat()).bytes());
        throw(&envoy, &Request::get("/").header("host", [b"x".to_vec(), noisy(&mut noise)].concat()).bytes());
        throw(&envoy, &Request::get("/").header("x-durpina-peer", noisy(&mut noise)).bytes());
        // A request that ends anywhere.
        let whole = Request::new("POST", "/").header("x", "y").body(noise.bytes(100)).bytes();
        throw(&envoy, &whole[..whole.len() * round / 60]);
    }
    let strange = [
        "",
        "?",
        "#",
        "*",
        "//",
        "/..",
        "/../..",
        "/%",
        "/%0",
        "/%zz",
        "/%00",
        "/%2e%2e/%2f",
        "http://",
        "http://x",
        "/x\u{fffd}y",
        "/$1",
        "/${",
        "/{}",
        "/?a",
        "/?a=",
        "/?=a",
        "/?&&&",
        "/v?a=$a&a=%24",
        "/w?;",
        "/\u{10ffff}",
    ];
    for target in strange {
        for method in ["GET", "HEAD", "CONNECT", "TRACE", "M-SEARCH", "PRI", "get", "\u{fc}"] {
            throw(&envoy, &Request::new(method, target).bytes());
        }
    }
    assert_eq!(served_in_turn(&envoy, 4), ["a"; 4]);
}

#[test]
fn large_requests_crash_nothing() {
    let a = Server::start("a");
    let envoy = curious(&a);
    let path = |length: usize| format!("/long/{}", "x".repeat(length));
    assert_eq!(envoy.client().get(&path(8 * 1024)).expect("an answer").served_by(), "a");
    throw(&envoy, &Request::get(path(200 * 1024)).bytes());
    // What the regex and the variables of the routes have to chew on.
    throw(&envoy, &Request::get(format!("/{}", "xy".repeat(4 * 1024))).bytes());
    throw(&envoy, &Request::get(format!("/{}", "a/".repeat(4 * 1024))).header("host", "x").bytes());
    throw(&envoy, &Request::get(format!("/v?{}", "a=b&".repeat(2 * 1024))).header("x", "x".repeat(20_000)).bytes());
    throw(&envoy, &Request::get("/w").header("cookie", "a=b; ".repeat(2 * 1024)).bytes());
    for (count, length) in [(90, 100), (1_000, 10), (2, 25_000)] {
        let with_headers = (0..count).fold(Request::get("/"), |request, number| {
            request.header(format!("x-{number}"), "v".repeat(length)).header("x-durpina-peer", "127.0.0.1:1")
        });
        throw(&envoy, &with_headers.bytes());
    }
    assert_eq!(served_in_turn(&envoy, 4), ["a"; 4]);
}

#[test]
fn many_aborted_requests_crash_nothing() {
    let a = Server::start("a");
    let envoy = curious(&a);
    for behaviour in [Behaviour::Slow(Duration::from_millis(20)), Behaviour::Hang, Behaviour::Stall] {
        a.behave(behaviour);
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let addr = envoy.addr();
                std::thread::spawn(move || {
                    for round in 0..25 {
                        let mut stream = connect(addr).expect("a connection");
                        let _ = stream.write_all(&Request::get("/").bytes());
                        std::thread::sleep(Duration::from_millis(round % 5));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("a client does not panic");
        }
    }
    a.behave(Behaviour::Answer);
    assert_eq!(served_in_turn(&envoy, 20), ["a"; 20]);
    assert_eq!(envoy.state_changes(), [], "clients that went away are nobody's failure");
}
