//! Dead servers are found without traffic, and each is asked once for all workers.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::support::eventually;
use crate::support::nginx::{Conf, Setup};
use crate::support::proxy::Proxy as _;
use crate::support::server::{Behaviour, Server};
use crate::support::tcp::TcpServer;
use crate::{one_upstream, served_in_turn, server, start_workers, PATIENCE};

fn monitored(servers: &[String], monitor: Value) -> Value {
    let mut filter = one_upstream(servers);
    filter["upstreams"]["web"]["monitors"] = json!([monitor]);
    filter
}

#[track_caller]
fn is_found_dead_and_alive_again(monitor: &str) {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let monitor = json!({"name": monitor, "interval": "1s", "schedule": "all", "fall": 3, "rise": 2});
    let nginx = start_workers(&monitored(&[server(&a, ""), server(&b, "")], monitor), 4);
    let name = a.addr().to_string();
    eventually("a is checked", PATIENCE, || a.connections() >= 2);
    a.stop();
    eventually("the monitor is sure", PATIENCE, || nginx.state(&name) == "down");
    assert_eq!(served_in_turn(&nginx, 10), ["b"; 10]);
    a.resume();
    eventually("a is in use", PATIENCE, || nginx.state(&name) == "up");
    assert!(served_in_turn(&nginx, 10).contains(&"a".to_owned()));
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
fn tcp_is_content_with_a_server_that_says_nothing_or_speaks_first() {
    let silent = TcpServer::start(|stream| {
        std::thread::sleep(Duration::from_secs(30));
        drop(stream);
    });
    let speaking = TcpServer::start(|mut stream| {
        use std::io::Write;
        let _ = stream.write_all(b"220 mail.test ESMTP\r\n");
        std::thread::sleep(Duration::from_secs(30));
    });
    let monitor = json!({"name": "tcp", "interval": "200ms", "schedule": "all", "fall": 3});
    let servers = [silent.addr().to_string(), speaking.addr().to_string()];
    let nginx = start_workers(&monitored(&servers, monitor), 2);
    eventually("both are checked often", PATIENCE, || silent.connections() >= 30 && speaking.connections() >= 30);
    assert_eq!(nginx.state_changes(), []);
}

#[test]
fn an_agent_s_line_is_obeyed() {
    let a = Server::start("a");
    let b = Server::start("b");
    let line = Arc::new(Mutex::new(b"up 100%\n".to_vec()));
    let agent = TcpServer::agent(&line);
    let monitor = json!({
        "name": "haproxy-agent-check", "interval": "200ms", "schedule": "all", "port": agent.addr().port()
    });
    let nginx = start_workers(&monitored(&[server(&a, ""), server(&b, "")], monitor), 2);
    eventually("the agent is asked", PATIENCE, || agent.connections() >= 4);
    assert_eq!(nginx.state_changes(), []);
    *line.lock().unwrap() = b"down # maintenance\n".to_vec();
    eventually("both are down", PATIENCE, || {
        [&a, &b].iter().all(|peer| nginx.state(&peer.addr().to_string()) == "down")
    });
    assert!(nginx.log().contains("maintenance"), "the agent's words are in the log");
    *line.lock().unwrap() = b"up ready 50%\n".to_vec();
    eventually("both are up", PATIENCE, || [&a, &b].iter().all(|peer| nginx.state(&peer.addr().to_string()) == "up"));
}

#[test]
fn an_agent_over_http_is_obeyed() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let agent = TcpServer::start(|mut stream| {
        use std::io::{Read, Write};
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\ndown\n");
    });
    let monitor = json!({
        "name": "http-haproxy-agent-check", "interval": "200ms", "schedule": "all", "port": agent.addr().port()
    });
    let nginx = start_workers(&monitored(&[server(&a, ""), server(&b, "")], monitor), 1);
    eventually("a is down", PATIENCE, || nginx.state(&a.addr().to_string()) == "down");
}

/// The figure to reach is 10, give or take 1.
#[test]
fn a_server_is_asked_once_for_all_workers_across_a_reload() {
    for kind in ["http", "tcp"] {
        let servers = ["a", "b", "c"].map(Server::start);
        let monitor = json!({"name": kind, "interval": "1s", "schedule": "all"});
        let filter = monitored(&servers.each_ref().map(|peer| server(peer, "")), monitor);
        let nginx = start_workers(&filter, 4);
        eventually("all are checked", PATIENCE, || servers.iter().all(|peer| peer.connections() > 0));
        let before = servers.each_ref().map(Server::connections);
        let start = Instant::now();
        std::thread::sleep(Duration::from_secs(4));
        nginx.reload();
        std::thread::sleep(Duration::from_secs(10).saturating_sub(start.elapsed()));
        let probes: Vec<usize> = servers.iter().zip(before).map(|(peer, before)| peer.connections() - before).collect();
        println!("{kind}: {probes:?} probes in 10 s, 4 workers, one reload");
        assert!(probes.iter().all(|probes| (9..=11).contains(probes)), "{kind}: {probes:?}");
    }
}

/// One hangs, four do not: their checks are on time.
#[test]
fn a_hanging_server_holds_up_nobody() {
    let servers = ["a", "b", "c", "d", "e"].map(Server::start);
    servers[0].behave(Behaviour::Hang);
    let monitor = json!({"name": "http", "interval": "1s", "schedule": "all", "timeout": "900ms"});
    let nginx = start_workers(&monitored(&servers.each_ref().map(|peer| server(peer, "")), monitor), 2);
    eventually("all are checked", PATIENCE, || servers.iter().all(|peer| peer.connections() > 0));
    let before = servers.each_ref().map(Server::connections);
    std::thread::sleep(Duration::from_secs(6));
    let probes: Vec<usize> = servers.iter().zip(before).map(|(peer, before)| peer.connections() - before).collect();
    println!("{probes:?} probes in 6 s, the first one hangs");
    assert!(probes[1..].iter().all(|probes| (5..=7).contains(probes)), "{probes:?}");
    assert_eq!(nginx.state(&servers[0].addr().to_string()), "down");
}

/// A slot that is never given back would end all checks sooner or later: there are 64, and a check over TCP takes four. Servers answer,
/// refuse, break off, and talk nonsense, over HTTP and TCP. A thousand checks; `DURPINA_CHECKS=10000` makes it as many.
#[test]
fn a_thousand_checks_leave_no_connection_behind() {
    let wanted: usize = std::env::var("DURPINA_CHECKS").map_or(1_000, |text| text.parse().expect("a number"));
    let mut servers: Vec<Server> = (0..16).map(|n| Server::start(&n.to_string())).collect();
    for (server, behaviour) in servers.iter().zip([Behaviour::Reset, Behaviour::CloseEarly, Behaviour::Garbage]) {
        server.behave(behaviour);
    }
    servers[3].stop();
    let mut filter = one_upstream(&servers.iter().map(|one| server(one, "")).collect::<Vec<_>>());
    let monitor = |kind: &str| json!({"name": kind, "interval": "200ms", "timeout": "150ms", "schedule": "all"});
    filter["upstreams"]["web"]["monitors"] = json!([monitor("http"), monitor("tcp")]);
    let few = ("worker_connections 4096;", "worker_connections 64;");
    let nginx = Setup::new(Conf::Keepalive, &filter).edit(few.0, few.1).start();
    let all = || servers.iter().map(Server::connections).sum::<usize>();
    let start = Instant::now();
    eventually("they are made", Duration::from_secs(30 + wanted as u64 / 20), || all() >= wanted);
    println!("{} checks in {:?}", all(), start.elapsed());
    let before = all();
    std::thread::sleep(Duration::from_secs(2));
    assert!(all() - before > 40, "they go on: {} in 2 s", all() - before);
    let log = nginx.log();
    assert!(!log.contains("worker_connections are not enough"), "{log}");
    assert_eq!(nginx.client().get("/").expect("an answer").status, 200);
    assert_eq!(nginx.state(&servers[3].addr().to_string()), "down");
}

#[test]
fn checks_go_on_when_the_worker_that_makes_them_is_killed() {
    let a = Server::start("a");
    let monitor = json!({"name": "http", "interval": "200ms", "schedule": "all"});
    let filter = monitored(&[server(&a, "")], monitor);
    let nginx = Setup::new(Conf::Keepalive, &filter).workers(2).may_crash().start();
    for _ in 0..3 {
        eventually("a is checked", PATIENCE, || a.requests() > 3);
        for worker in nginx.workers() {
            nginx.kill(worker);
        }
        let seen = a.requests();
        eventually("checks go on", PATIENCE, || a.requests() > seen + 3);
    }
}
