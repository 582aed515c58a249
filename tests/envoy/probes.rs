//! Probes of any kind, and whose fault it is when one cannot be made.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{json, Value};

use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::envoy::{Envoy, Setup};
use crate::support::eventually;
use crate::support::h2::Session;
use crate::support::ports::Port;
use crate::support::proxy::Proxy as _;
use crate::support::server::Server;
use crate::support::tcp::TcpServer;
use crate::support::tls;
use crate::{one_upstream, served_in_turn, server, PATIENCE};

/// The filter JSON with these monitors and the management API.
pub(crate) fn monitored(servers: &[String], monitors: Value) -> Value {
    let mut filter = one_upstream(servers);
    filter["upstreams"]["web"]["monitors"] = monitors;
    filter["admin"] = json!({ "prefix": "/durpina", "token": "t" });
    filter
}

/// What the management API answers.
fn ask(envoy: &Envoy, path: &str) -> String {
    let request = Request::get(format!("/durpina{path}")).header("authorization", "Bearer t");
    let answer = envoy.client().send(&request).expect("an answer");
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.text()
}

/// A document of the management API.
pub(crate) fn api(envoy: &Envoy, path: &str) -> Value {
    serde_json::from_str(&ask(envoy, path)).expect("JSON")
}

/// What each monitor of the upstream found last at its first server: nothing, or what is wrong. `None` before it found anything.
pub(crate) fn results(envoy: &Envoy, upstream: &str) -> Vec<(String, Option<String>)> {
    let peer = api(envoy, &format!("/upstreams/{upstream}"))["peers"][0].clone();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let checks = peer["checks"].as_array().expect("an array").iter();
    checks.map(|check| (text(&check["monitor"]).expect("an id"), text(&check["why"]))).collect()
}

/// How many checks of the upstream's servers ended so, by all monitors.
pub(crate) fn checks(envoy: &Envoy, upstream: &str, result: &str) -> u64 {
    let metrics = ask(envoy, "/metrics");
    let wanted = |line: &&str| {
        line.starts_with("durpina_peer_checks_total")
            && line.contains(&format!("upstream=\"{upstream}\""))
            && line.contains(&format!("result=\"{result}\""))
    };
    metrics.lines().filter(wanted).filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum()
}

#[test]
fn peers_of_every_kind_are_checked_by_one_filter() {
    let kinds = ["plain", "tls", "h2", "both"];
    let [plain, tls, h2, both] = kinds.map(Server::start);
    let fronts = [Port::free(), Port::free(), Port::free()];
    let [tls_addr, h2_addr, both_addr] = fronts.each_ref().map(Port::addr);
    let upstream = |addr: SocketAddr, cluster: Option<&str>| {
        let mut monitor = json!({ "name": "http", "url": "/up", "interval": "200ms", "schedule": "all" });
        if let Some(cluster) = cluster {
            monitor["cluster"] = cluster.into();
        }
        json!({ "servers": [addr.to_string()], "monitors": [monitor] })
    };
    let upstreams = json!({
        "plain": upstream(plain.addr(), None),
        "tls": upstream(tls_addr, Some("durpina_probe_tls")),
        "h2": upstream(h2_addr, Some("durpina_probe_h2")),
        "both": upstream(both_addr, Some("tls_h2")),
        // Spoken to in the wrong way.
        "not-tls": upstream(plain.addr(), Some("durpina_probe_tls")),
        "not-h2": upstream(plain.addr(), Some("durpina_probe_h2")),
        "not-plain": upstream(tls_addr, None),
    });
    let filter =
        json!({ "upstreams": upstreams, "upstream": "plain", "admin": { "prefix": "/durpina", "token": "t" } });
    let over_tls = tls::client(&json!({ "alpn_protocols": ["h2"] }));
    let config = Config::reference(&filter)
        .peer(tls_addr, tls.addr(), Some(&tls::server(&[])), None, false)
        .peer(h2_addr, h2.addr(), None, None, true)
        .peer(both_addr, both.addr(), Some(&tls::server(&["h2"])), None, true)
        .cluster_like("durpina_probe_h2", "tls_h2", &json!({ "transport_socket": over_tls }));
    let envoy = Setup::new(config).start();
    for name in kinds {
        eventually(name, PATIENCE, || checks(&envoy, name, "ok") >= 5);
        assert_eq!(checks(&envoy, name, "failed"), 0, "{name}: {:?}", results(&envoy, name));
    }
    for (name, why) in [("not-tls", "no connection"), ("not-h2", "connection reset"), ("not-plain", "connection reset")]
    {
        eventually(name, PATIENCE, || checks(&envoy, name, "failed") >= 3);
        assert_eq!(results(&envoy, name), [("http".to_owned(), Some(why.to_owned()))], "{name}");
        assert_eq!(checks(&envoy, name, "ok"), 0, "{name}");
    }
    assert_eq!(api(&envoy, "/upstreams/tls/monitors/http")["cluster"], "durpina_probe_tls");
    // What a peer sees of the proxy, but for what the listener in front of it adds.
    for head in [&tls, &h2, &both].map(|server| server.heads()[0].clone()) {
        assert_eq!((head.method.as_str(), head.target.as_str()), ("GET", "/up"));
        let alien = |name: &str| name.starts_with("x-durpina") || name == "x-envoy-internal";
        assert!(!head.headers.iter().any(|(name, _)| alien(name)), "{:?}", head.headers);
    }
}

#[test]
fn a_certificate_is_verified_where_the_cluster_says_so_and_the_server_is_asked_for_by_its_name() {
    let a = Server::start("a");
    let front = Port::free();
    let monitor = |id: &str, cluster: &str, host: Option<&str>| {
        let mut monitor = json!({ "name": "http", "id": id, "cluster": cluster, "interval": "200ms" });
        if let Some(host) = host {
            monitor["header_Host"] = host.into();
        }
        monitor
    };
    let name = Some(tls::NAME);
    let monitors = json!([
        monitor("any", "durpina_probe_tls", Some("www.example:443")),
        monitor("right", "right", name),
        monitor("wrong", "wrong", name),
        monitor("nameless", "durpina_probe_tls", None),
    ]);
    let config = Config::reference(&monitored(&[front.addr().to_string()], monitors))
        .peer(front.addr(), a.addr(), Some(&tls::server(&[])), name, false)
        .cluster_like("durpina_probe_tls", "right", &json!({ "transport_socket": tls::verifying(tls::NAME) }))
        .cluster_like("durpina_probe_tls", "wrong", &json!({ "transport_socket": tls::verifying("other.example") }));
    let envoy = Setup::new(config).start();
    eventually("all have checked", PATIENCE, || results(&envoy, "web").len() == 4);
    let mut found = results(&envoy, "web");
    found.sort();
    let bad = Some("no connection".to_owned());
    let expected = [("any", None), ("nameless", bad.clone()), ("right", None), ("wrong", bad)];
    assert_eq!(found, expected.map(|(id, why)| (id.to_owned(), why)));
}

/// What a health service answers.
#[derive(Clone, Debug)]
enum Health {
    /// This body, and status 0 in the trailers.
    Body(Vec<u8>),
    /// This status and message, and nothing else.
    Status(&'static str, &'static str),
    /// Another answer than one of gRPC.
    Http(&'static str),
    Silence,
}

impl Health {
    /// A `HealthCheckResponse` with this status.
    fn says(status: u8) -> Health {
        Health::Body(vec![0, 0, 0, 0, 2, 8, status])
    }
}

/// A server with a health service that answers what is in `health`.
fn health_server(health: &Arc<Mutex<Health>>) -> TcpServer {
    let health = Arc::clone(health);
    TcpServer::start(move |stream| {
        let health = || health.lock().unwrap().clone();
        let serve = |stream: TcpStream| -> std::io::Result<()> {
            let mut session = Session::begin(stream)?;
            let stream = session.request()?;
            let headers = [(":status", "200"), ("content-type", "application/grpc")];
            match health() {
                Health::Body(body) => {
                    session.headers(stream, &headers, false)?;
                    session.data(stream, &body, false)?;
                    session.headers(stream, &[("grpc-status", "0")], true)?;
                }
                Health::Status(status, message) => {
                    let status = [("grpc-status", status), ("grpc-message", message)];
                    session.headers(stream, &[&headers[..], &status].concat(), true)?;
                }
                Health::Http(status) => session.headers(stream, &[(":status", status)], true)?,
                Health::Silence => {}
            }
            session.rest();
            Ok(())
        };
        // An error here is the client's going away.
        let _ = serve(stream);
    })
}

#[test]
fn a_server_whose_health_service_does_not_serve_is_down_until_it_does() {
    let health = [Health::says(1), Health::says(1)].map(|health| Arc::new(Mutex::new(health)));
    let [a, b] = health.each_ref().map(health_server);
    let names = [&a, &b].map(|server| server.addr().to_string());
    let monitors = json!([{ "name": "grpc", "interval": "200ms", "schedule": "all" }]);
    let envoy = Setup::new(Config::http2(&monitored(&names, monitors))).start();
    eventually("both are checked", PATIENCE, || checks(&envoy, "web", "ok") >= 6);
    assert_eq!(envoy.state_changes(), []);
    let state = || api(&envoy, "/upstreams/web")["peers"][0]["state"].clone();
    *health[0].lock().unwrap() = Health::says(2);
    eventually("a is down", PATIENCE, || state() == "down");
    let log = envoy.log();
    assert!(log.contains("why=\"the health service says NOT_SERVING (2)\""), "{log}");
    *health[0].lock().unwrap() = Health::says(1);
    eventually("a is back", PATIENCE, || state() == "up");
    assert!(envoy.state_changes().iter().all(|change| change.peer == names[0]), "{:?}", envoy.state_changes());
}

#[test]
fn every_answer_of_a_health_service_has_its_meaning() {
    let cases = [
        (Health::says(1), None),
        (Health::says(0), Some("the health service says UNKNOWN (0)")),
        (Health::says(3), Some("the health service says SERVICE_UNKNOWN (3)")),
        (Health::Body(Vec::new()), Some("not an answer of the health service")),
        (Health::Body(b"\0\xff\xff\xff\xff\x08\x01".to_vec()), Some("not an answer of the health service")),
        (
            Health::Status("12", "unknown service"),
            Some("gRPC status UNIMPLEMENTED (12): unknown service (the server has no service grpc.health.v1.Health)"),
        ),
        (Health::Status("5", ""), Some("gRPC status NOT_FOUND (5)")),
        (Health::Http("404"), Some("status 404, which is not of gRPC")),
        (Health::Silence, Some("no answer in time")),
    ];
    let servers: Vec<TcpServer> =
        cases.iter().map(|(health, _)| health_server(&Arc::new(Mutex::new(health.clone())))).collect();
    let plain = Server::start("plain");
    let refusing = Port::free();
    let others = [(plain.addr(), Some("connection reset")), (refusing.addr(), Some("no connection"))];
    let all: Vec<(SocketAddr, Option<&str>)> =
        servers.iter().map(TcpServer::addr).zip(cases.iter().map(|(_, why)| *why)).chain(others).collect();
    let monitor = json!({ "name": "grpc", "interval": "300ms", "timeout": "300ms", "service": "shop" });
    let upstreams: serde_json::Map<String, Value> = (0..)
        .zip(&all)
        .map(|(at, (addr, _)): (usize, _)| {
            (at.to_string(), json!({ "servers": [addr.to_string()], "monitors": [monitor] }))
        })
        .collect();
    let filter = json!({ "upstreams": upstreams, "upstream": "0", "admin": { "prefix": "/durpina", "token": "t" } });
    let envoy = Setup::new(Config::reference(&filter)).start();
    for (at, (_, why)) in all.iter().enumerate() {
        let name = at.to_string();
        eventually("it is checked", PATIENCE, || !results(&envoy, &name).is_empty());
        assert_eq!(results(&envoy, &name), [("grpc".to_owned(), why.map(str::to_owned))], "{:?}", cases.get(at));
    }
}

#[test]
fn a_health_service_is_asked_as_the_protocol_says() {
    let a = Server::start("a");
    let front = Port::free();
    let monitors = json!([{ "name": "grpc", "interval": "200ms", "service": "shop" }]);
    let filter = monitored(&[front.addr().to_string()], monitors);
    let config = Config::reference(&filter).peer(front.addr(), a.addr(), None, None, true);
    let envoy = Setup::new(config).start();
    eventually("it is asked", PATIENCE, || a.requests() >= 1);
    let head = a.heads()[0].clone();
    assert_eq!((head.method.as_str(), head.target.as_str()), ("POST", "/grpc.health.v1.Health/Check"));
    assert_eq!(head.header("content-type"), Some("application/grpc"));
    assert_eq!(head.header("host"), Some(front.addr().to_string().as_str()));
    assert_eq!(head.header("x-durpina-peer"), None);
    assert_eq!(api(&envoy, "/upstreams/web")["monitors"][0]["service"], "shop");
}

#[test]
fn a_body_without_what_is_expected_fails_the_check() {
    let body = Arc::new(Mutex::new("{\"state\": \"ready\"}".to_owned()));
    let answers = Arc::clone(&body);
    let a = TcpServer::start(move |mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let body = answers.lock().unwrap().clone();
        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    });
    let spare = Server::start("ready");
    let servers = [format!("{} max_fails=0", a.addr()), server(&spare, "max_fails=0")];
    let monitor = json!({ "name": "http", "interval": "200ms", "schedule": "all", "expect_body": "ready" });
    let envoy = Setup::new(Config::reference(&monitored(&servers, json!([monitor])))).start();
    eventually("both are checked", PATIENCE, || checks(&envoy, "web", "ok") >= 4);
    let state = || api(&envoy, "/upstreams/web")["peers"][0]["state"].clone();
    assert_eq!(state(), "up");
    *body.lock().unwrap() = "{\"state\": \"starting\"}".to_owned();
    eventually("a is down", PATIENCE, || state() == "down");
    assert!(envoy.log().contains("why=\"expect_body is not in the answer's body\""));
    // At the end of as much as is looked at.
    *body.lock().unwrap() = format!("{}ready", "-".repeat(262_139));
    eventually("a is back", PATIENCE, || state() == "up");
    assert_eq!(envoy.log().matches("to=down").count(), 1);
}

#[test]
fn a_gateway_that_is_not_there_is_nobody_s_fault() {
    let [a, b] = ["a", "b"].map(Server::start);
    let monitors = json!([
        { "name": "tcp", "interval": "200ms", "schedule": "all" },
        { "name": "haproxy-agent-check", "interval": "200ms", "schedule": "all" },
        { "name": "http", "interval": "200ms", "schedule": "all" },
    ]);
    let mut filter = monitored(&[server(&a, ""), server(&b, "")], monitors);
    filter["resolver"] = "127.0.0.1:53".into();
    filter["upstreams"]["named"] = json!({ "servers": ["web.example:80"] });
    let envoy = Setup::new(Config::reference(&filter).without_listener("durpina_tcp")).start();
    let tried = || envoy.stat(r"^cluster\.durpina_tcp\.upstream_cx_connect_fail$");
    eventually("checks are tried", PATIENCE, || tried() >= 20 && checks(&envoy, "web", "ok") >= 10);
    assert_eq!(envoy.state_changes().iter().filter(|change| change.upstream == "web").count(), 0, "{}", envoy.log());
    assert_eq!(served_in_turn(&envoy, 4), ["a", "b", "a", "b"]);
    assert_eq!(checks(&envoy, "web", "failed"), 0);
    // The reason is Envoy's: 1.37 to 1.39 tell more of it than 1.40 does.
    let is_told_of = |problem: &str| {
        let start =
            "calls go through the cluster \"durpina_tcp\": the gateway for TCP is not there (remote connection failure";
        assert!(problem.starts_with(start) && problem.ends_with("): is its listener?"), "{problem}");
    };
    let upstream = api(&envoy, "/upstreams/web");
    let problems = |monitors: &Value| -> Vec<Option<String>> {
        let monitors = monitors.as_array().unwrap().iter();
        monitors.map(|monitor| monitor["problem"].as_str().map(str::to_owned)).collect()
    };
    let told = problems(&upstream["monitors"]);
    // Of a stream Envoy tells more.
    let more = told[0].as_ref().expect("a problem");
    assert!(more.contains("No_such_file_or_directory") && more.contains("durpina-tcp.sock"), "{more}");
    is_told_of(told[1].as_ref().expect("a problem"));
    assert_eq!(told[2..], [None]);
    assert_eq!(problems(&api(&envoy, "/upstreams/web/monitors")), told);
    let named = api(&envoy, "/upstreams/named");
    let problem = named["problem"].as_str().expect("a problem");
    is_told_of(problem);
    let log = envoy.log();
    // One for all that go through that cluster; names say for themselves what they are not resolved for.
    assert_eq!(log.lines().filter(|line| line.contains("cannot be")).count(), 2, "{log}");
    assert!(log.contains(&format!("cannot be resolved: {problem}")), "{log}");
}

#[test]
fn a_gateway_without_its_mark_fails_nobody_and_is_told_of() {
    let a = Server::start("a");
    let refusing = Port::free();
    let agent = TcpServer::agent(&Arc::new(Mutex::new(b"drain\n".to_vec())));
    let monitors = json!([
        { "name": "tcp", "interval": "100ms", "schedule": "all" },
        { "name": "haproxy-agent-check", "interval": "100ms", "schedule": "all", "port": agent.addr().port() },
    ]);
    let servers = [server(&a, "max_fails=0"), format!("{} max_fails=0", refusing.addr())];
    let envoy = Setup::new(Config::reference(&monitored(&servers, monitors)).unmarked_gateway()).start();
    let state = |at: usize| api(&envoy, "/upstreams/web")["peers"][at]["state"].clone();
    eventually("what can be understood counts", PATIENCE, || state(0) == "draining" && state(1) == "draining");
    eventually("checks are made", PATIENCE, || agent.connections() >= 30);
    assert_eq!(checks(&envoy, "web", "failed"), 0);
    let log = envoy.log();
    assert!(log.contains("what answers there is not the gateway for TCP, or does not set x-durpina-gateway"));
    let told = log.lines().filter(|line| line.contains("the gateway for TCP does not set x-durpina-gateway")).count();
    // The worker and the main thread each have a VM.
    assert!((1..=2).contains(&told), "{log}");
}

#[test]
fn a_cluster_that_a_monitor_names_and_that_is_not_there_is_told_of() {
    let a = Server::start("a");
    let monitors = json!([
        { "name": "http", "interval": "100ms", "cluster": "nowhere" },
        { "name": "tcp", "interval": "100ms", "cluster": "nowhere" },
        { "name": "grpc", "interval": "100ms", "cluster": "nowhere" },
        // And one that takes no request.
        { "name": "http", "id": "full", "interval": "100ms", "cluster": "full" },
    ]);
    let full = json!({ "thresholds": [{ "max_connections": 0, "max_pending_requests": 0, "max_requests": 0 }] });
    let config = Config::reference(&monitored(&[server(&a, "")], monitors)).cluster_like(
        "durpina_probe",
        "full",
        &json!({ "circuit_breakers": full }),
    );
    let envoy = Setup::new(config).start();
    let problems = || {
        let monitors = api(&envoy, "/upstreams/web/monitors");
        let monitors = monitors.as_array().unwrap().iter();
        monitors.filter_map(|monitor| monitor["problem"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    eventually("it is told of all four", PATIENCE, || problems().len() == 4);
    let of = |cluster: &str| {
        let begin = format!("calls go through the cluster {cluster:?}: the host refused");
        problems().iter().filter(|problem| problem.starts_with(&begin)).count()
    };
    assert_eq!((of("nowhere"), of("full")), (3, 1), "{:?}", problems());
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(envoy.state_changes(), []);
    assert_eq!(checks(&envoy, "web", "failed"), 0);
    assert_eq!(envoy.log().matches("cannot be checked by monitor").count(), 2, "once for each cluster");
    assert_eq!(served_in_turn(&envoy, 2), ["a", "a"]);
}
