//! Monitors find dead servers before clients do, and take them back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::support::config::Config;
use crate::support::envoy::{Envoy, Setup};
use crate::support::eventually;
use crate::support::proxy::Proxy as _;
use crate::support::server::{Behaviour, Server};
use crate::support::tcp::TcpServer;
use crate::{one_upstream, served_in_turn, server, start, PATIENCE};

fn monitored(servers: &[String], monitor: Value) -> Value {
    let mut filter = one_upstream(servers);
    filter["upstreams"]["web"]["monitors"] = json!([monitor]);
    filter
}

fn state(envoy: &Envoy, peer: &str) -> String {
    let changes = envoy.state_changes();
    changes.into_iter().rev().find(|change| change.peer == peer).map_or_else(|| "up".to_owned(), |change| change.to)
}

/// Every worker answers some of so many new connections.
fn served_by_all_workers(envoy: &Envoy) -> Vec<String> {
    let mut by: Vec<String> =
        (0..40).map(|_| envoy.client().get("/").expect("an answer").served_by().to_owned()).collect();
    by.sort();
    by.dedup();
    by
}

fn is_found_dead_and_alive_again(monitor: &str) {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let monitor = json!({"name": monitor, "interval": "1s", "schedule": "all", "fall": 3, "rise": 2});
    let filter = monitored(&[server(&a, ""), server(&b, "")], monitor);
    let envoy = Setup::new(Config::reference(&filter)).workers(4).start();
    let name = a.addr().to_string();
    eventually("a is checked", PATIENCE, || a.connections() >= 2);

    a.stop();
    eventually("a is out of use", Duration::from_millis(1_500), || state(&envoy, &name) != "up");
    assert_eq!(served_by_all_workers(&envoy), ["b"]);
    assert_eq!(envoy.failed_connects(), 0, "no request had to find out");
    eventually("the monitor is sure", PATIENCE, || state(&envoy, &name) == "down");
    assert!(envoy.log().contains("why=\"no connection\""));

    a.resume();
    eventually("a is in use", Duration::from_millis(2_500), || state(&envoy, &name) == "up");
    assert_eq!(served_by_all_workers(&envoy), ["a", "b"]);
}

#[test]
fn http_finds_a_dead_server_without_traffic() {
    is_found_dead_and_alive_again("http");
}

#[test]
fn tcp_finds_a_dead_server_without_traffic() {
    is_found_dead_and_alive_again("tcp");
}

#[test]
fn a_server_that_accepts_and_hangs_is_found() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let monitor = json!({"name": "http", "interval": "1s", "schedule": "all", "timeout": "500ms"});
    let envoy = start(&monitored(&[server(&a, "max_fails=0"), server(&b, "")], monitor));
    eventually("a is checked", PATIENCE, || a.requests() >= 1);
    a.behave(Behaviour::Hang);
    let name = a.addr().to_string();
    eventually("a is out of use", Duration::from_secs(3), || state(&envoy, &name) == "down");
    assert_eq!(served_in_turn(&envoy, 10), ["b"; 10]);
}

#[test]
fn a_server_that_hangs_is_asked_once_at_a_time() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let monitor = json!({"name": "http", "interval": "100ms", "schedule": "all", "timeout": "2s"});
    a.behave(Behaviour::Hang);
    let envoy = start(&monitored(&[server(&a, "max_fails=0"), server(&b, "")], monitor));
    let start = Instant::now();
    eventually("b is checked, again and again", PATIENCE, || b.requests() >= 30);
    let most = start.elapsed().as_secs() / 2 + 1;
    assert!((1..=most).contains(&(a.connections() as u64)), "{} connections, {most} expected", a.connections());
    assert_eq!(envoy.state_changes(), []);
}

#[test]
fn probes_are_made_once_for_all_workers_and_across_a_change_of_configuration() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let monitor = json!({"name": "http", "interval": "1s", "schedule": "all"});
    let filter = monitored(&[server(&a, ""), server(&b, "")], monitor);
    let mut envoy = Setup::new(Config::reference(&filter)).workers(4).updatable().start();
    eventually("a is checked", PATIENCE, || a.requests() >= 1);
    let count = |envoy: &mut Envoy, update: Option<Config>| {
        let before = a.requests();
        let start = Instant::now();
        if let Some(config) = update {
            std::thread::sleep(Duration::from_secs(3));
            assert!(envoy.update(config));
        }
        std::thread::sleep(Duration::from_secs(10).saturating_sub(start.elapsed()));
        a.requests() - before
    };
    let probes = count(&mut envoy, None);
    assert!((9..=11).contains(&probes), "{probes} probes in 10 s");
    let mut changed = filter.clone();
    changed["upstreams"]["web"]["retries"] = json!(1);
    let probes = count(&mut envoy, Some(Config::reference(&changed)));
    assert!((9..=11).contains(&probes), "{probes} probes in 10 s across a change");
}

#[test]
fn servers_see_the_request_that_was_asked_for_and_nothing_else() {
    let a = Server::start("a");
    let monitor = json!({
        "name": "http", "interval": "200ms", "url": "/health?deep=1", "method": "POST", "body": "ping",
        "header_Host": "www.example", "header_X-Token": "abc"
    });
    let envoy = start(&monitored(&[server(&a, "")], monitor));
    eventually("a is checked", PATIENCE, || a.requests() >= 1);
    let head = a.heads()[0].clone();
    assert_eq!((head.method.as_str(), head.target.as_str()), ("POST", "/health?deep=1"));
    let mut names: Vec<&str> = head.headers.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-length", "host", "x-token"], "{:?}", head.headers);
    assert_eq!(head.header("host"), Some("www.example"));
    assert_eq!(envoy.state_changes(), []);
}

#[test]
fn the_host_of_a_probe_is_the_peer_s_name() {
    let a = Server::start("a");
    let _envoy = start(&monitored(&[server(&a, "")], json!({"name": "http", "interval": "200ms"})));
    eventually("a is checked", PATIENCE, || a.requests() >= 1);
    assert_eq!(a.heads()[0].header("host"), Some(a.addr().to_string().as_str()));
    assert_eq!(a.heads()[0].headers.len(), 1, "{:?}", a.heads()[0].headers);
}

/// A server of one's own on which checks of this kind fail for the reason `why`, while Envoy goes on.
#[track_caller]
fn fails(monitor: &str, why: &str, serve: impl Fn(TcpStream) + Send + Sync + 'static) {
    let (a, b) = (TcpServer::start(serve), Server::start("b"));
    let mut servers = vec![format!("{} max_fails=0", a.addr()), server(&b, "backup")];
    servers.push("127.0.0.1:1 down".to_owned());
    let monitor = json!({"name": monitor, "interval": "300ms", "timeout": "300ms", "fall": 2, "schedule": "all"});
    let mut filter = monitored(&servers, monitor);
    filter["upstreams"]["web"]["max_ejected_percent"] = json!(100);
    let envoy = start(&filter);
    let name = a.addr().to_string();
    eventually("the monitor has its verdict", PATIENCE, || state(&envoy, &name) == "down");
    let log = envoy.log();
    let line = log.lines().find(|line| line.contains(&name) && line.contains("to=down")).expect("a line").to_owned();
    assert!(line.contains(&format!("why={why:?}")), "{line}");
    assert_eq!(served_in_turn(&envoy, 3), ["b"; 3]);
}

#[test]
fn answers_that_are_not_http_fail_the_check() {
    fails("http", "not an HTTP answer", |mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n");
    });
}

#[test]
fn answers_that_are_cut_off_fail_the_check() {
    let why = "connection reset: the answer broke off, or is longer than the proxy takes";
    fails("http", why, |mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf");
    });
}

#[test]
fn connections_that_break_off_fail_the_check() {
    fails("http", "connection reset", |mut stream| {
        let _ = stream.read(&mut [0; 1024]);
    });
}

#[test]
fn answers_that_never_end_fail_the_check() {
    fails("http", "no answer in time", |mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) && stream.write_all(b"5\r\nnever\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn a_status_that_is_not_ok_fails_the_check() {
    fails("http", "status 503, expected 101 102 2xx 3xx", |mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    });
}

fn agent(line: &str) -> (Arc<Mutex<Vec<u8>>>, TcpServer) {
    let line = Arc::new(Mutex::new(line.as_bytes().to_vec()));
    let server = TcpServer::agent(&line);
    (line, server)
}

#[test]
fn an_agent_s_line_halves_the_weight() {
    let [a, b] = ["a", "b"].map(Server::start);
    let (line, agent) = agent("up\n");
    let monitor = json!({
        "name": "haproxy-agent-check", "port": agent.addr().port(), "interval": "300ms", "schedule": "all"
    });
    let mut filter = monitored(&[server(&a, "weight=4"), server(&b, "backup")], monitor);
    filter["upstreams"]["web"]["servers"] = json!([server(&a, "")]);
    let c = Server::start("c");
    // One agent for all peers of the upstream; another upstream shows the weights of a and c against each other.
    filter["upstreams"]["web"]["servers"] = json!([server(&a, "weight=2"), server(&c, "weight=2")]);
    let envoy = start(&filter);
    let seen = agent.connections();
    eventually("the agent is asked", PATIENCE, || agent.connections() > seen + 2);
    *line.lock().unwrap() = b"up 50% # half\r\n".to_vec();
    let seen = agent.connections();
    eventually("the agent is asked again", PATIENCE, || agent.connections() > seen + 3);
    // Both halved: the shares stay, and nobody is out of use.
    let served = served_in_turn(&envoy, 20);
    assert_eq!(served.iter().filter(|by| *by == "a").count(), 10);
    *line.lock().unwrap() = b"drain".to_vec();
    let name = a.addr().to_string();
    eventually("a drains", PATIENCE, || state(&envoy, &name) == "draining");
    assert!(envoy.log().contains("by=agent why=\"the agent says up drain 50% # half\""));
    *line.lock().unwrap() = b"ready up".to_vec();
    eventually("a is back", PATIENCE, || state(&envoy, &name) == "up");
}

/// Two agents at the peers' own addresses: one says half, the other nothing of its weight.
#[test]
fn weights_by_agents_count_in_all_workers() {
    let (line_a, agent_a) = agent("up 50%\n");
    let (line_b, agent_b) = agent("up\n");
    drop((line_a, line_b));
    // Agents that are peers: requests to them fail as HTTP, so who was picked shows in Envoy's counts per host.
    let servers = [agent_a.addr(), agent_b.addr()].map(|addr| format!("{addr} max_fails=0 weight=10"));
    let monitor = json!({"name": "haproxy-agent-check", "interval": "200ms", "schedule": "all"});
    let mut filter = monitored(&servers, monitor);
    filter["upstreams"]["web"]["retries"] = json!(0);
    let envoy = Setup::new(Config::reference(&filter)).workers(2).start();
    eventually("both agents are asked", PATIENCE, || agent_a.connections() > 2 && agent_b.connections() > 2);
    for _ in 0..60 {
        let _ = envoy.client().get("/");
    }
    let picked =
        |addr: std::net::SocketAddr| envoy.failed_attempts().get(&addr.to_string()).copied().unwrap_or_default();
    let (half, whole) = (picked(agent_a.addr()), picked(agent_b.addr()));
    assert!(half + whole >= 55 && half.abs_diff(20) <= 3, "{half} to {whole}");
}

#[test]
fn an_agent_may_want_to_be_spoken_to_first() {
    let a = Server::start("a");
    let agent = TcpServer::start(|mut stream| {
        let mut text = [0; 64];
        let length = stream.read(&mut text).unwrap_or(0);
        let _ = stream.write_all(if &text[..length] == b"state?\n" { b"drain\n" } else { b"maint\n" });
    });
    let monitor = json!({
        "name": "haproxy-agent-check", "port": agent.addr().port(), "interval": "200ms", "send": "state?\n"
    });
    let envoy = start(&monitored(&[server(&a, "")], monitor));
    eventually("a drains", PATIENCE, || state(&envoy, &a.addr().to_string()) == "draining");
}

#[test]
fn an_agent_that_says_anything_breaks_nothing() {
    let a = Server::start("a");
    for line in [&b"\xff\xfe\0\0 up \x1b[31m sideways \r\n"[..], b"", b"\n\n\n", &[b'%'; 100_000]] {
        let (_line, agent) = {
            let line = Arc::new(Mutex::new(line.to_vec()));
            let server = TcpServer::agent(&line);
            (line, server)
        };
        let monitor = json!({"name": "haproxy-agent-check", "port": agent.addr().port(), "interval": "100ms"});
        let envoy = start(&monitored(&[server(&a, "max_fails=0")], monitor));
        eventually("the agent is asked", PATIENCE, || agent.connections() >= 3);
        assert_eq!(served_in_turn(&envoy, 3), ["a"; 3]);
        assert!(!envoy.log().contains('\u{1b}'), "no control characters in the log");
    }
}

#[test]
fn an_agent_over_http_says_its_line_in_the_body() {
    let a = Server::start("a");
    let agent = TcpServer::start(|mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 21\r\n\r\nmaint # replaced\nup\n!");
    });
    let monitor = json!({
        "name": "http-haproxy-agent-check", "port": agent.addr().port(), "interval": "200ms", "url": "/agent"
    });
    let envoy = start(&monitored(&[server(&a, "")], monitor));
    eventually("a is out", PATIENCE, || state(&envoy, &a.addr().to_string()) == "down");
    assert!(envoy.log().contains("why=\"the agent says maint # replaced\""));
}

#[test]
fn a_missing_cluster_is_said_and_is_nobody_s_failure() {
    let a = Server::start("a");
    for (monitor, key) in [("http", "probe_cluster"), ("tcp", "tcp_cluster")] {
        let mut filter = monitored(&[server(&a, "")], json!({"name": monitor, "interval": "100ms"}));
        filter["envoy"] = json!({"access_log": true});
        filter["envoy"][key] = json!("nowhere");
        let envoy = start(&filter);
        eventually("it is said", PATIENCE, || envoy.log().contains("calls go through the cluster \"nowhere\""));
        assert_eq!(served_in_turn(&envoy, 3), ["a"; 3]);
        assert_eq!(envoy.state_changes(), []);
    }
}
