//! What clients send chooses no peer, and what is not routed is left alone.

use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::support::client::Request;
use crate::support::nginx::{Conf, Setup};
use crate::support::proxy::Proxy as _;
use crate::support::server::Server;
use crate::{one_upstream, server, PATIENCE};

#[test]
fn a_client_never_chooses_the_peer() {
    let [a, decoy] = ["a", "decoy"].map(Server::start);
    for conf in Conf::all() {
        let nginx = Setup::new(conf, &one_upstream(&[server(&a, "")])).start();
        let to = decoy.addr().to_string();
        for name in ["x-durpina-peer", "x-durpina-peer-2", "durpina_peer", "durpina-peer", "peer", "host"] {
            let answer = nginx.client().send(&Request::get("/").header(name, &to)).expect("an answer");
            assert_eq!(answer.served_by(), "a", "{conf}: {name}");
        }
        for target in [format!("/?durpina_peer={to}&peer={to}"), format!("http://{to}/"), format!("//{to}/")] {
            let answer = nginx.client().send(&Request::get(&target).header("cookie", format!("durpina_peer={to}")));
            assert_eq!(answer.expect("an answer").served_by(), "a", "{conf}: {target}");
        }
        for path in ["/durpina_pick", "/caller/0", "/agent?peer=", "/tcp?peer=", "/_agent?peer="] {
            let answer = nginx.client().get(&format!("{path}{to}")).expect("an answer");
            assert!(answer.served_by() != "decoy", "{conf}: {path}");
        }
    }
    assert_eq!(decoy.connections(), 0);
}

#[test]
fn what_is_not_routed_is_left_alone() {
    let [a, own] = ["a", "own"].map(Server::start);
    let mut filter = one_upstream(&[server(&a, "")]);
    filter.as_object_mut().unwrap().remove("upstream");
    filter["routes"] = json!([{ "prefix": "/web", "upstream": "web" }]);
    let locations = format!(
        "location = /static {{ return 200 'static'; }}\n        location /own {{ proxy_pass http://{}; }}\n        location / {{",
        own.addr()
    );
    let nginx = Setup::new(Conf::Keepalive, &filter)
        .edit("        location / {", &format!("        {locations}"))
        .edit("set $durpina_peer durpina-unrouted;", &format!("set $durpina_peer '{}';", own.addr()))
        .start();
    let mut client = nginx.client();
    assert_eq!(client.get("/web").expect("an answer").served_by(), "a");
    assert_eq!(client.get("/static").expect("an answer").text(), "static");
    assert_eq!(client.get("/own").expect("an answer").served_by(), "own");
    assert_eq!(client.get("/other").expect("an answer").served_by(), "own", "the variable's own value");
}

#[test]
fn access_rules_of_nginx_come_first() {
    let a = Server::start("a");
    for conf in [Conf::AnyAddress, Conf::Keepalive] {
        let nginx = Setup::new(conf, &one_upstream(&[server(&a, "")]))
            .edit("        location / {", "        location / {\n            deny all;")
            .start();
        assert_eq!(nginx.client().get("/").expect("an answer").status, 403, "{conf}");
    }
    assert_eq!(a.requests(), 0);
}

/// What the helper answers to a request on its socket.
fn helper(path: &std::path::Path, target: &str) -> String {
    let mut stream = UnixStream::connect(path).expect("the helper's socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    write!(stream, "GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn the_helper_connects_to_addresses_only() {
    let a = Server::start("a");
    let nginx = Setup::new(Conf::Keepalive, &one_upstream(&[server(&a, "")])).start();
    let port = a.addr().port();
    let socket = nginx.helper();
    assert!(!helper(&socket, &format!("/tcp?peer={}", a.addr())).contains("connect=-"), "it works");
    assert_eq!(a.connections(), 1);
    let wrong = [
        format!("localhost:{port}"),
        format!("127.0.0.1:{port}/x"),
        format!("127.0.0.1:{port}@x"),
        format!("x@127.0.0.1:{port}"),
        "unix:/run/x".to_owned(),
        String::new(),
    ];
    for peer in wrong {
        let said = helper(&socket, &format!("/tcp?peer={peer}"));
        assert!(said.contains("connect= header= status="), "{peer}: {said}");
        let said = helper(&socket, &format!("/agent?peer={peer}"));
        assert!(said.contains("!"), "{peer}: {said}");
    }
    for target in ["/", "/_tcp", "/_agent", "/caller/0", "/caller/7"] {
        assert!(helper(&socket, &format!("{target}?peer={}", a.addr())).starts_with("HTTP/1.1 404"), "{target}");
    }
    assert_eq!(a.connections(), 1);
}
