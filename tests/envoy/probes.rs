//! Probes of any kind, and whose fault it is that one cannot be made.

use std::time::Duration;

use serde_json::{json, Value};

use crate::support::config::Config;
use crate::support::envoy::{Envoy, Setup};
use crate::support::eventually;
use crate::support::server::Server;
use crate::{one_upstream, served_in_turn, server, PATIENCE};

/// The filter JSON with these monitors and the management API.
fn monitored(servers: &[String], monitors: Value) -> Value {
    let mut filter = one_upstream(servers);
    filter["upstreams"]["web"]["monitors"] = monitors;
    filter["admin"] = json!({ "prefix": "/durpina" });
    filter
}

/// The upstream's document.
fn upstream(envoy: &Envoy) -> Value {
    let answer = envoy.client().get("/durpina/upstreams/web").expect("an answer");
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[test]
fn a_gateway_that_is_not_there_is_nobody_s_fault() {
    let [a, b] = ["a", "b"].map(Server::start);
    let monitors = json!([
        { "name": "tcp", "interval": "200ms", "schedule": "all" },
        { "name": "haproxy-agent-check", "interval": "200ms", "schedule": "all" },
    ]);
    let filter = monitored(&[server(&a, ""), server(&b, "")], monitors);
    let envoy = Setup::new(Config::reference(&filter).without_listener("durpina_tcp")).start();
    let tried = || {
        envoy.stat(r"^cluster\.durpina_tcp\.upstream_rq_total$")
            + envoy.stat(r"^cluster\.durpina_tcp\.upstream_cx_connect_fail$")
    };
    eventually("checks are tried", PATIENCE, || tried() >= 20);
    assert_eq!(envoy.state_changes(), []);
    assert_eq!(served_in_turn(&envoy, 4), ["a", "b", "a", "b"]);
    let _ = upstream(&envoy);
    let _ = Duration::ZERO;
}
