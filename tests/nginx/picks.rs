//! The same keys go to the same servers as on Envoy.

use std::net::{Ipv4Addr, SocketAddr};

use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::client::{Client, Request};
use crate::support::config::Config;
use crate::support::envoy;
use crate::support::proxy::Proxy;
use crate::support::server::Server;
use crate::{one_upstream, start};

const KEYS: u32 = 1_000;

/// Who answers each of these keys.
fn owners(proxy: &impl Proxy) -> Vec<String> {
    let mut client = proxy.client();
    let mut owner = |key: u32| {
        let answer = client.get(&format!("/{key}?k=v{key}")).expect("an answer");
        assert_eq!(answer.status, 200);
        answer.served_by().to_owned()
    };
    (0..KEYS).map(&mut owner).collect()
}

/// Who answers each of these client addresses.
fn owners_of_clients(proxy: &impl Proxy) -> Vec<String> {
    let owner = |client: u32| {
        // 127.0.0.0/8 is all loopback, and ip-hash reads three of its bytes.
        let from = Ipv4Addr::from(0x7f00_0001 + (client << 8));
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((from, 0)).into()).expect("an address of the loopback interface");
        socket.connect(&proxy.addr().into()).expect("a connection");
        let answer = Client::over(socket.into(), proxy.addr()).send(&Request::get("/")).expect("an answer");
        assert_eq!(answer.status, 200);
        answer.served_by().to_owned()
    };
    (0..KEYS).map(owner).collect()
}

/// An Envoy and an nginx with the same filter JSON and the same servers.
macro_rules! both {
    ($balancer:expr, $owners:expr) => {{
        let servers = ["a", "b", "c", "d", "e"].map(Server::start);
        let weights = [1, 5, 2, 1, 7];
        let servers_json: Vec<String> =
            servers.iter().zip(weights).map(|(peer, weight)| format!("{} weight={weight}", peer.addr())).collect();
        let mut filter = one_upstream(&servers_json);
        filter["upstreams"]["web"]["balancer"] = $balancer;
        let on_nginx = $owners(&start(&filter));
        let on_envoy = $owners(&envoy::Setup::new(Config::reference(&filter)).start());
        let differ = on_nginx.iter().zip(&on_envoy).filter(|(nginx, envoy)| nginx != envoy).count();
        assert_eq!((differ, on_nginx.len()), (0, 1_000), "{}", $balancer);
        let used: std::collections::BTreeSet<&String> = on_nginx.iter().collect();
        assert_eq!(used.len(), 5, "every server has some of the keys");
    }};
}

#[test]
fn consistent_hash() {
    both!(json!({ "name": "consistent-hash", "key": "$request_uri" }), owners);
}

#[test]
fn ketama() {
    both!(json!({ "name": "ketama", "key": "$arg_k" }), owners);
}

#[test]
fn ip_hash() {
    both!(json!("ip-hash"), owners_of_clients);
}
