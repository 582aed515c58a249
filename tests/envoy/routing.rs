//! Which requests go to which upstream.

use serde_json::{json, Value};

use crate::support::client::Request;
use crate::support::proxy::Proxy as _;
use crate::support::server::Server;
use crate::{start, Started, UNROUTED};

/// The upstreams `a`, `b` and `c`, each of one server of the same name, and these routes.
struct World {
    envoy: Started,
    _servers: [Server; 3],
}

impl World {
    #[track_caller]
    fn new(routes: Value) -> World {
        let servers = ["a", "b", "c"].map(Server::start);
        let upstreams: serde_json::Map<String, Value> = servers
            .iter()
            .map(|server| (server.name().to_owned(), json!({ "servers": [server.addr().to_string()] })))
            .collect();
        World { envoy: start(&json!({ "upstreams": upstreams, "routes": routes })), _servers: servers }
    }

    /// The server that answers, or the status if none of ours did.
    #[track_caller]
    fn answer(&self, request: &Request) -> String {
        let answer = self.envoy.client().send(request).expect("an answer");
        match answer.served_by() {
            "" => answer.status.to_string(),
            name => name.to_owned(),
        }
    }

    #[track_caller]
    fn get(&self, target: &str) -> String {
        self.answer(&Request::get(target))
    }
}

#[test]
fn the_first_route_that_matches_wins() {
    let world = World::new(json!([
        { "path": "/exact", "upstream": "a" },
        { "prefix": "/exact", "upstream": "b" },
        { "regex": "^/user/\\d+$", "upstream": "c" },
        { "prefix": "/user", "upstream": "a" },
    ]));
    assert_eq!(world.get("/exact"), "a");
    assert_eq!(world.get("/exact?query"), "a", "the query is no part of the path");
    assert_eq!(world.get("/exactly"), "b");
    assert_eq!(world.get("/user/12"), "c");
    assert_eq!(world.get("/user/12?x=/y"), "c");
    assert_eq!(world.get("/user/xy"), "a");
    assert_eq!(world.get("/elsewhere"), UNROUTED, "nothing matches, and the proxy has no peer for it");
}

#[test]
fn host_and_method_are_matched_too() {
    let world = World::new(json!([
        { "host": "a.test", "upstream": "a" },
        { "method": "POST", "upstream": "b" },
        { "host": "c.test", "method": "PUT", "prefix": "/c", "upstream": "c" },
    ]));
    assert_eq!(world.answer(&Request::get("/").header("host", "a.test")), "a");
    assert_eq!(world.answer(&Request::get("/").header("host", "A.Test")), "a", "host names have no case");
    assert_eq!(world.answer(&Request::get("/").header("host", "a.test:8000")), "a", "the port is no part of the name");
    assert_eq!(world.answer(&Request::new("POST", "/").body("x")), "b");
    assert_eq!(world.answer(&Request::new("PUT", "/c/1").header("host", "c.test").body("x")), "c");
    assert_eq!(world.answer(&Request::new("PUT", "/d").header("host", "c.test").body("x")), UNROUTED, "all must match");
    assert_eq!(world.answer(&Request::get("/c/1").header("host", "c.test")), UNROUTED);
}

#[test]
fn an_upstream_can_be_named_by_what_the_request_says() {
    let world = World::new(json!([
        { "regex": "^/group/([a-z])/", "upstream": "$1" },
        { "path": "/header", "upstream": "$http_x_upstream" },
        { "path": "/cookie", "upstream": "$cookie_upstream" },
        { "path": "/argument", "upstream": "${arg_upstream}" },
        { "host": "b", "upstream": "$host" },
    ]));
    assert_eq!(world.get("/group/b/x"), "b");
    assert_eq!(world.get("/group/c/x"), "c");
    assert_eq!(world.get("/group/x/x"), "503", "there is no such upstream");
    assert_eq!(world.answer(&Request::get("/header").header("X-Upstream", "a")), "a");
    assert_eq!(world.get("/header"), "503", "a missing variable is the empty string");
    assert_eq!(world.answer(&Request::get("/cookie").header("cookie", "x=y; upstream=b")), "b");
    assert_eq!(world.get("/argument?x=y&upstream=c"), "c");
    assert_eq!(world.answer(&Request::get("/").header("host", "b")), "b");
}

#[test]
fn a_path_cannot_dodge_a_route() {
    let world = World::new(json!([{ "prefix": "/admin", "upstream": "a" }, { "prefix": "/", "upstream": "b" }]));
    assert_eq!(world.get("/x/../admin"), "a");
    assert_eq!(world.get("/./admin"), "a");
    assert_eq!(world.get("/%61dmin"), "a");
}
