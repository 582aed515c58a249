//! Peers and name servers that send without an end cost little, and others are checked on time all the same.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::support::config::Config;
use crate::support::envoy::{Envoy, Setup};
use crate::support::eventually;
use crate::support::hostile::{Crowd, Witness, Worst};
use crate::support::proxy::Proxy as _;
use crate::support::server::Server;
use crate::support::tcp::TcpServer;
use crate::{one_upstream, served_in_turn, server, PATIENCE};

const HOSTILE: usize = 100;
/// Peers that behave, checked in the same way at the same time.
const OTHERS: usize = 5;
/// How long the hostile ones are at it.
const WATCHED: Duration = Duration::from_secs(10);
/// The most memory that they may cost.
const MOST: u64 = 150 << 20;
/// Checks are made every second. Of the ten a busy machine may lack two; a worker that is kept busy by hostile peers lacks more.
const FEWEST: usize = 8;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// The longest answer that the reference configuration takes.
const LONGEST: usize = 262_144;

/// The monitor of all peers here, and what is good for it.
#[derive(Clone, Copy)]
struct Kind {
    monitor: &'static str,
    good: &'static [u8],
    listens: bool,
}

const HTTP: Kind = Kind { monitor: "http", good: OK, listens: true };
const AGENT: Kind = Kind { monitor: "haproxy-agent-check", good: b"up\n", listens: false };

const TCP: Kind = Kind { monitor: "tcp", good: b"", listens: false };

impl Kind {
    fn worst(self, first: &[u8], again: &[u8]) -> Worst {
        Worst { listens: self.listens, first: first.to_vec(), again: again.to_vec() }
    }
}

/// Peers that behave and `bad`, an upstream of its own, in one configuration.
fn beside(kind: Kind, bad: &Value) -> (Vec<Witness>, Value) {
    let others: Vec<Witness> = (0..OTHERS).map(|_| Witness::start(kind.good, kind.listens)).collect();
    let servers: Vec<String> = others.iter().map(|other| format!("{} max_fails=0", other.addr())).collect();
    let good = json!({ "servers": servers, "monitors": [every_second(kind)] });
    (others, json!({ "upstreams": { "good": good, "bad": bad }, "upstream": "good" }))
}

fn every_second(kind: Kind) -> Value {
    json!({ "name": kind.monitor, "interval": "1s", "schedule": "all" })
}

/// Lets them turn, and asserts what that costs.
#[track_caller]
fn is_bearable(envoy: &Envoy, crowd: &Crowd, others: &[Witness]) {
    // What checks cost while all behave does not count.
    std::thread::sleep(Duration::from_secs(2));
    let (before, connections, start) = (envoy.rss(), crowd.connections(), Instant::now());
    crowd.turn();
    let mut most = before;
    while start.elapsed() < WATCHED {
        most = most.max(envoy.rss());
        std::thread::sleep(Duration::from_millis(20));
    }
    let checks = others.iter().map(|other| other.seen().iter().filter(|at| **at > start).count());
    let fewest = checks.min().expect("some others");
    assert!(crowd.connections() - connections >= HOSTILE, "the hostile ones were asked");
    assert!(most - before <= MOST, "{} MiB more", (most - before) >> 20);
    assert!(fewest >= FEWEST, "another peer was checked {fewest} times in {WATCHED:?}");
}

#[track_caller]
fn peers_are_bearable(kind: Kind, worst: &Worst) {
    let crowd = Crowd::start(HOSTILE, kind.good, worst);
    let servers: Vec<String> = crowd.addrs().iter().map(|addr| format!("{addr} max_fails=0")).collect();
    let (others, filter) = beside(kind, &json!({ "servers": servers, "monitors": [every_second(kind)] }));
    let envoy = Setup::new(Config::reference(&filter)).workers(2).start();
    eventually("all are checked", PATIENCE, || {
        crowd.connections() >= HOSTILE && others.iter().all(|other| !other.seen().is_empty())
    });
    is_bearable(&envoy, &crowd, &others);
}

#[test]
fn http_answers_without_an_end() {
    peers_are_bearable(HTTP, &HTTP.worst(HEAD, b"x"));
}

#[test]
fn http_answers_that_stop_just_before_they_are_too_long() {
    peers_are_bearable(HTTP, &HTTP.worst(&[HEAD, &vec![b'x'; LONGEST - 1]].concat(), b""));
}

#[test]
fn agents_without_an_end() {
    peers_are_bearable(AGENT, &AGENT.worst(b"", b"up "));
}

/// What is a gRPC message to Envoy, whose length never comes: a check by a connection alone is a gRPC stream.
#[test]
fn connections_that_get_a_message_without_an_end() {
    peers_are_bearable(TCP, &TCP.worst(b"\0\xff\xff\xff\xff", b"x"));
}

/// The shortest of such messages, again and again: each of them is handed to the filter.
#[test]
fn connections_that_get_messages_without_an_end() {
    peers_are_bearable(TCP, &TCP.worst(b"", b"\0"));
}

/// A hundred names, each asked of all of a hundred name servers in turn.
#[test]
fn name_servers_without_an_end() {
    let crowd = Crowd::start(HOSTILE, b"", &Worst { listens: true, first: Vec::new(), again: b"x".to_vec() });
    let servers: Vec<String> = (0..HOSTILE).map(|n| format!("name-{n}.example:80 max_fails=0")).collect();
    let (others, mut filter) = beside(HTTP, &json!({ "servers": servers }));
    filter["resolver"] = json!(crowd.addrs().iter().map(ToString::to_string).collect::<Vec<_>>());
    let envoy = Setup::new(Config::reference(&filter)).workers(2).start();
    eventually("all are checked", PATIENCE, || {
        crowd.connections() >= HOSTILE && others.iter().all(|other| !other.seen().is_empty())
    });
    is_bearable(&envoy, &crowd, &others);
}

/// A peer whose answers have so many bytes, beside an ordinary one; both are checked by HTTP.
fn with_a_body_of(bytes: usize) -> (TcpServer, Server, Envoy) {
    let a = TcpServer::start(move |mut stream| {
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n").as_bytes());
        let _ = stream.write_all(&vec![b'x'; bytes]);
        let _ = stream.read(&mut [0; 1]);
    });
    let b = Server::start("b");
    let mut filter = one_upstream(&[format!("{} max_fails=0", a.addr()), server(&b, "")]);
    filter["upstreams"]["web"]["monitors"] = json!([{
        "name": "http", "interval": "300ms", "schedule": "all", "fall": 2, "timeout": "5s"
    }]);
    let envoy = Setup::new(Config::reference(&filter)).start();
    (a, b, envoy)
}

#[test]
fn the_longest_answer_is_one_like_any_other() {
    let (a, _b, envoy) = with_a_body_of(LONGEST);
    eventually("it is checked some times", PATIENCE, || a.connections() >= 5);
    assert_eq!(envoy.state_changes(), []);
}

#[test]
fn a_longer_answer_fails_the_check() {
    let (a, _b, envoy) = with_a_body_of(LONGEST + 1);
    let name = a.addr().to_string();
    eventually("the monitor has its verdict", PATIENCE, || {
        envoy.state_changes().iter().any(|change| change.peer == name && change.to == "down")
    });
    assert!(envoy.log().contains("the buffer size limit for async client response body has been exceeded"));
}

/// An answer to this question that has exactly so many bytes, length and all: one address if it is asked for IPv4, and a text.
fn dns_answer(question: &[u8], bytes: usize) -> Vec<u8> {
    let is_v4 = question[question.len() - 3] == 1;
    let mut answer = question.to_vec();
    // A response without an error, with two or one answers.
    (answer[4], answer[5]) = (answer[4] | 0x80, 0x80);
    answer[9] = if is_v4 { 2 } else { 1 };
    let record = |kind: u8, data: &[u8]| {
        let head = [0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60];
        [&head[..], &u16::try_from(data.len()).expect("a record's length").to_be_bytes(), data].concat()
    };
    if is_v4 {
        answer.extend(record(1, &[127, 0, 0, 1]));
    }
    // Texts have up to 255 bytes each, with one of length before.
    let left = bytes - answer.len() - record(16, b"").len();
    let texts: Vec<u8> =
        (0..left).map(|at| if at % 256 == 0 { (left - at - 1).min(255) as u8 } else { b'x' }).collect();
    answer.extend(record(16, &texts));
    let length = u16::try_from(answer.len() - 2).expect("a message's length").to_be_bytes();
    answer[..2].copy_from_slice(&length);
    answer
}

#[test]
fn the_longest_message_of_a_name_server_is_read() {
    let a = Server::start("a");
    let names = TcpServer::start(|mut stream: TcpStream| {
        let mut question = vec![0; 512];
        let length = stream.read(&mut question).unwrap_or(0);
        let _ = stream.write_all(&dns_answer(&question[..length], 65_537));
    });
    let mut filter = one_upstream(&[format!("web.example:{}", a.addr().port())]);
    filter["resolver"] = json!(names.addr().to_string());
    let envoy = Setup::new(Config::reference(&filter)).start();
    eventually("the name is resolved", PATIENCE, || envoy.client().get("/").is_ok_and(|answer| answer.status == 200));
    assert_eq!(served_in_turn(&envoy, 3), ["a"; 3]);
}
