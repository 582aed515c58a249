//! Names of servers, looked up at a real name server.

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::{json, Value};

use crate::support::config::Config;
use crate::support::dns::NameServer;
use crate::support::envoy::Setup;
use crate::support::eventually;
use crate::support::ports::Port;
use crate::support::proxy::Proxy as _;
use crate::support::server::Server;
use crate::support::tcp::TcpServer;
use crate::{one_upstream, served_in_turn, server, PATIENCE};

/// Servers of the same port on different loopback addresses.
fn neighbours() -> (Server, Server) {
    let a = Server::start("a");
    let other = std::net::SocketAddr::from(([127, 0, 0, 77], a.addr().port()));
    (a, Server::start_at("b", Port::at(other).expect("the port of a neighbour")))
}

fn named(a: &Server, resolver: &Value) -> Value {
    let mut filter = one_upstream(&[format!("web.example:{}", a.addr().port())]);
    filter["resolver"] = resolver.clone();
    filter
}

#[test]
fn traffic_follows_a_name_whose_address_changes() {
    let (a, b) = neighbours();
    let mut names = NameServer::start(&[("web.example", "127.0.0.1")]);
    let filter = named(&a, &json!(names.addr().to_string()));
    let envoy = Setup::new(Config::reference(&filter)).workers(2).start();
    eventually("the name is resolved", PATIENCE, || envoy.client().get("/").is_ok_and(|answer| answer.status == 200));
    assert_eq!(served_in_turn(&envoy, 5), ["a"; 5]);

    names.set(&[("web.example", "127.0.0.77")]);
    let mut client = envoy.client();
    eventually("traffic follows", Duration::from_secs(7), || {
        let answer = client.get("/").expect("an answer");
        assert_eq!(answer.status, 200, "the old server still answers");
        answer.served_by() == "b"
    });
    let line = format!("peer=web.example:{} from=127.0.0.1 to=127.0.0.77", b.addr().port());
    assert!(envoy.log().contains(&line));

    names.kill();
    std::thread::sleep(Duration::from_secs(6));
    assert_eq!(served_in_turn(&envoy, 5), ["b"; 5], "the last address stays");
    eventually("it is said", PATIENCE, || envoy.log().contains("cannot be resolved"));
}

#[test]
fn a_name_with_several_addresses_is_one_peer_that_uses_them_in_turn() {
    let (a, _b) = neighbours();
    let names = NameServer::start(&[("web.example", "127.0.0.1"), ("web.example", "127.0.0.77")]);
    // The first name server is dead.
    let dead = Port::free();
    let filter = named(&a, &json!([dead.addr().to_string(), names.addr().to_string()]));
    let envoy = Setup::new(Config::reference(&filter)).start();
    eventually("the name is resolved", PATIENCE, || envoy.client().get("/").is_ok_and(|answer| answer.status == 200));
    let served = served_in_turn(&envoy, 10);
    assert_eq!(served.iter().filter(|by| *by == "a").count(), 5, "{served:?}");
}

/// Nobody listens on the IPv6 address of the name.
#[test]
fn checks_pass_over_an_address_that_cannot_be_connected_to() {
    let (a, _b) = neighbours();
    let names = NameServer::start(&[("web.example", "127.0.0.1"), ("web.example", "::1")]);
    let mut filter = named(&a, &json!(names.addr().to_string()));
    for monitor in ["http", "tcp"] {
        filter["upstreams"]["web"]["monitors"] = json!([{"name": monitor, "interval": "200ms", "schedule": "all"}]);
        let envoy = Setup::new(Config::reference(&filter)).workers(2).start();
        eventually("the address is passed over", PATIENCE, || {
            envoy.log().contains("cannot be connected to, others are tried")
        });
        let before = a.connections();
        std::thread::sleep(Duration::from_secs(4));
        let checks = a.connections() - before;
        assert!((17..=22).contains(&checks), "{checks} checks in 4 s at the address that answers");
        assert!(!envoy.log().contains("from=up"), "{}", envoy.log());
    }
}

#[test]
fn without_ipv6_requests_and_checks_go_to_ipv4_addresses_alone() {
    let (a, _b) = neighbours();
    let names = NameServer::start(&[("web.example", "127.0.0.1"), ("web.example", "::1")]);
    let mut filter = named(&a, &json!(names.addr().to_string()));
    filter["resolver_ipv6"] = json!(false);
    filter["upstreams"]["web"]["monitors"] = json!([{"name": "http", "interval": "100ms", "schedule": "all"}]);
    let envoy = Setup::new(Config::reference(&filter)).start();
    eventually("the name is resolved", PATIENCE, || envoy.client().get("/").is_ok_and(|answer| answer.status == 200));
    assert_eq!(served_in_turn(&envoy, 20), ["a"; 20]);
    assert_eq!(envoy.failed_connects(), 0);
    assert!(!envoy.log().contains("cannot be connected to"), "{}", envoy.log());
}

#[test]
fn a_name_that_does_not_exist_takes_its_peer_out_of_use_until_it_does() {
    let (a, b) = neighbours();
    let mut names = NameServer::start(&[("other.example", "127.0.0.1")]);
    let mut filter = named(&a, &json!(names.addr().to_string()));
    let port = a.addr().port();
    filter["upstreams"]["web"]["servers"] = json!([format!("web.example:{port}"), server(&b, "backup")]);
    let envoy = Setup::new(Config::reference(&filter)).start();
    assert_eq!(served_in_turn(&envoy, 5), ["b"; 5]);
    names.set(&[("web.example", "127.0.0.1")]);
    eventually("the name is back", PATIENCE, || envoy.client().get("/").is_ok_and(|answer| answer.served_by() == "a"));
    names.set(&[]);
    eventually("it is gone again", PATIENCE, || envoy.client().get("/").is_ok_and(|answer| answer.served_by() == "b"));
    assert!(envoy.log().contains("from=up to=down by=resolver why=\"the name does not exist\""), "{}", envoy.log());
}

/// Name servers that break the protocol: the reason is in the log, and nothing else happens.
#[test]
fn answers_that_are_none_break_nothing() {
    let a = Server::start("a");
    type Answer = fn(&[u8]) -> Vec<u8>;
    let framed = |message: &[u8]| [&(message.len() as u16).to_be_bytes()[..], message].concat();
    let _ = framed;
    let cases: [(&str, Answer); 5] = [
        ("the name server's answer is cut off", |_| Vec::new()),
        ("the name server's answer is cut off", |question| question[..question.len() / 2].to_vec()),
        ("the name server answered another question", |question| question.to_vec()),
        ("the name server's answer is truncated", |question| {
            let mut answer = question.to_vec();
            answer[4] |= 0x82;
            answer
        }),
        ("the name server's answer is malformed", |question| {
            // A record whose name points at itself.
            let mut answer = question.to_vec();
            answer[4] |= 0x80;
            answer[9] = 1;
            let at = answer.len() - 2;
            answer.extend_from_slice(&[0xc0 | (at >> 8) as u8, at as u8, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 1, 2, 3, 4]);
            let length = (answer.len() - 2) as u16;
            answer[..2].copy_from_slice(&length.to_be_bytes());
            answer
        }),
    ];
    for (why, answer) in cases {
        let names = TcpServer::start(move |mut stream| {
            let mut question = vec![0; 512];
            let length = stream.read(&mut question).unwrap_or(0);
            let _ = stream.write_all(&answer(&question[..length]));
        });
        let mut filter = named(&a, &json!(names.addr().to_string()));
        let port = a.addr().port();
        filter["upstreams"]["web"]["servers"] = json!([format!("web.example:{port}"), server(&a, "backup")]);
        let envoy = Setup::new(Config::reference(&filter)).start();
        eventually("the reason is in the log", PATIENCE, || envoy.log().contains(why));
        assert_eq!(served_in_turn(&envoy, 3), ["a"; 3]);
    }
}
