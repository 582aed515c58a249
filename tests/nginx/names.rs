//! Servers that are given by a name: nginx looks it up, for requests and for checks.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{json, Value};

use crate::support::dns::NameServer;
use crate::support::eventually;
use crate::support::nginx::{Conf, Setup};
use crate::support::ports::Port;
use crate::support::proxy::Proxy as _;
use crate::support::server::Server;
use crate::{one_upstream, served_in_turn, PATIENCE};

/// Servers of the same port on different loopback addresses.
fn neighbours() -> (Server, Server) {
    let a = Server::start("a");
    let other = SocketAddr::from(([127, 0, 0, 77], a.addr().port()));
    (a, Server::start_at("b", Port::at(other).expect("the port of a neighbour")))
}

fn named(a: &Server, names: &NameServer) -> Value {
    let mut filter = one_upstream(&[format!("web.example:{}", a.addr().port())]);
    filter["resolver"] = json!(names.addr().to_string());
    filter
}

#[test]
fn traffic_follows_a_name_whose_address_changes() {
    let (a, _b) = neighbours();
    for conf in [Conf::Keepalive, Conf::AnyAddress, Conf::Streaming] {
        let mut names = NameServer::start(&[("web.example", "127.0.0.1")]);
        let nginx = Setup::new(conf, &named(&a, &names)).workers(2).start();
        assert_eq!(served_in_turn(&nginx, 5), ["a"; 5], "{conf}: from the first request on");
        names.set(&[("web.example", "127.0.0.77")]);
        let mut client = nginx.client();
        eventually("traffic follows", Duration::from_secs(12), || {
            let answer = client.get("/").expect("an answer");
            assert_eq!(answer.status, 200, "{conf}: the old server still answers");
            answer.served_by() == "b"
        });
    }
}

#[test]
fn a_name_is_checked_where_it_leads_now() {
    let (a, b) = neighbours();
    let mut names = NameServer::start(&[("web.example", "127.0.0.1")]);
    let mut filter = named(&a, &names);
    let monitor = json!({ "name": "http", "interval": "200ms", "schedule": "all", "url": "/check" });
    filter["upstreams"]["web"]["monitors"] = json!([monitor]);
    let nginx = Setup::new(Conf::Keepalive, &filter).workers(2).start();
    let checks = |of: &Server| of.heads().iter().filter(|head| head.target == "/check").count();
    eventually("a is checked", PATIENCE, || checks(&a) > 3);
    assert_eq!(checks(&b), 0);
    names.set(&[("web.example", "127.0.0.77")]);
    eventually("b is checked", PATIENCE, || checks(&b) > 3);
    assert_eq!(nginx.state_changes(), []);
}
