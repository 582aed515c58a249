//! Checks over kept connections: fewer connections, and no failure that only a kept one can have.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{json, Value};

use crate::probes::{api, checks, monitored, results};
use crate::support::config::Config;
use crate::support::envoy::Setup;
use crate::support::eventually;
use crate::support::h2::Session;
use crate::support::ports::Port;
use crate::support::proxy::Proxy as _;
use crate::support::server::{Behaviour, Server};
use crate::support::tcp::TcpServer;
use crate::{server, PATIENCE};

const INTERVAL: Duration = Duration::from_millis(200);

fn kept(name: &str) -> Value {
    json!({ "name": name, "interval": "200ms", "schedule": "all", "keepalive": true })
}

/// Reads a request without a body. Returns whether there was one.
fn read_request(stream: &mut TcpStream) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    head.ends_with(b"\r\n\r\n")
}

fn answer(stream: &mut TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
}

#[test]
fn a_connection_serves_many_checks_and_a_new_one_each_without_the_option() {
    let [a, b] = ["a", "b"].map(Server::start);
    let mut filter = monitored(&[server(&a, "")], json!([kept("http")]));
    let each = json!({ "name": "http", "interval": "200ms", "schedule": "all" });
    filter["upstreams"]["each"] = json!({ "servers": [server(&b, "")], "monitors": [each] });
    let envoy = Setup::new(Config::reference(&filter)).start();
    eventually("both are checked", PATIENCE, || a.requests() >= 10 && b.requests() >= 10);
    // Another one of Envoy's threads may have begun with the checks.
    assert!(a.connections() <= 2, "{} connections", a.connections());
    assert!(b.connections() >= 10, "{} connections", b.connections());
    assert_eq!(api(&envoy, "/upstreams/web/monitors/http")["keepalive"], true);
    assert_eq!(api(&envoy, "/upstreams/each/monitors/http")["keepalive"], Value::Null);
    let heads = a.heads();
    let alien = |name: &str| name.starts_with("x-") || name == "connection";
    assert!(!heads.iter().any(|head| head.headers.iter().any(|(name, _)| alien(name))), "{:?}", heads[0].headers);
}

#[test]
fn a_server_that_closes_kept_connections_fails_no_check() {
    // Closes before the next check comes …
    let early = TcpServer::start(|mut stream| {
        let _ = stream.set_read_timeout(Some(INTERVAL / 4));
        while read_request(&mut stream) {
            answer(&mut stream);
        }
    });
    // … and just as it comes: that of a keep-alive time as long as the interval, every time.
    let lost = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lost);
    let just_then = TcpServer::start(move |mut stream| {
        if read_request(&mut stream) {
            answer(&mut stream);
            if read_request(&mut stream) {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let servers = [&early, &just_then].map(|server| format!("{} max_fails=0", server.addr()));
    let envoy = Setup::new(Config::reference(&monitored(&servers, json!([kept("http")])))).start();
    eventually("both are checked", PATIENCE, || early.connections() >= 20 && lost.load(Ordering::SeqCst) >= 10);
    assert_eq!(checks(&envoy, "web", "failed"), 0, "{}", envoy.log());
    assert!(checks(&envoy, "web", "ok") >= 30);
    assert_eq!(envoy.state_changes(), []);
}

#[test]
fn a_health_service_that_closes_kept_connections_fails_no_check() {
    let lost = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&lost);
    let service = TcpServer::start(move |stream| {
        let serve = || -> std::io::Result<()> {
            let mut session = Session::begin(stream)?;
            let stream = session.request()?;
            let headers = [(":status", "200"), ("content-type", "application/grpc")];
            session.headers(stream, &headers, false)?;
            session.data(stream, &[0, 0, 0, 0, 2, 8, 1], false)?;
            session.headers(stream, &[("grpc-status", "0")], true)?;
            session.request()?;
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        // An error here is the client's going away.
        let _ = serve();
    });
    let servers = [format!("{} max_fails=0", service.addr())];
    let envoy = Setup::new(Config::reference(&monitored(&servers, json!([kept("grpc")])))).start();
    eventually("it is checked", PATIENCE, || lost.load(Ordering::SeqCst) >= 10);
    assert_eq!(checks(&envoy, "web", "failed"), 0, "{}", envoy.log());
    assert_eq!(envoy.state_changes(), []);
}

#[test]
fn a_server_that_fails_over_new_connections_too_is_down() {
    let [a, b] = ["a", "b"].map(Server::start);
    let refusing = Port::free();
    let servers = [server(&a, "max_fails=0"), server(&b, "max_fails=0"), format!("{} max_fails=0", refusing.addr())];
    let mut filter = monitored(&servers, json!([kept("http")]));
    filter["upstreams"]["web"]["max_ejected_percent"] = 100.into();
    let envoy = Setup::new(Config::reference(&filter)).start();
    eventually("all are checked", PATIENCE, || a.requests() >= 3 && b.requests() >= 3);
    a.behave(Behaviour::CloseEarly);
    let state = |at: usize| api(&envoy, "/upstreams/web")["peers"][at]["state"].clone();
    eventually("those that fail are down", PATIENCE, || state(0) == "down" && state(2) == "down");
    assert_eq!(state(1), "up");
    assert_eq!(results(&envoy, "web"), [("http".to_owned(), Some("connection reset".to_owned()))]);
    a.behave(Behaviour::Answer);
    eventually("a is back", PATIENCE, || state(0) == "up");
}

#[test]
fn a_monitor_s_own_cluster_wins() {
    let a = Server::start("a");
    let mut monitor = kept("http");
    monitor["cluster"] = "mine".into();
    let config = Config::reference(&monitored(&[server(&a, "")], json!([monitor])));
    let envoy = Setup::new(config.cluster_like("durpina_probe", "mine", &json!({}))).start();
    eventually("it is checked", PATIENCE, || checks(&envoy, "web", "ok") >= 5);
    assert!(envoy.stat(r"^cluster\.mine\.upstream_rq_total$") >= 5);
    assert_eq!(envoy.stat(r"^cluster\.durpina_probe(_keepalive)?\.upstream_rq_total$"), 0);
}
