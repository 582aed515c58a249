//! Who gets how much.

use std::net::Ipv6Addr;

use serde_json::json;

use crate::support::load::Load;
use crate::support::ports::Port;
use crate::support::proxy::Proxy as _;
use crate::support::server::Server;
use crate::{one_upstream, served_in_turn, server, start, start_workers};

#[test]
fn round_robin_is_smooth() {
    let [a, b, c] = ["a", "b", "c"].map(Server::start);
    let envoy = start(&one_upstream(&[server(&a, "weight=5"), server(&b, "weight=1"), server(&c, "")]));
    let turns = served_in_turn(&envoy, 35);
    assert_eq!(turns.join(" "), ["a a b a c a a"; 5].join(" "));
}

#[test]
fn unweighted_round_robin_ignores_weights() {
    let [a, b] = ["a", "b"].map(Server::start);
    let mut filter = one_upstream(&[server(&a, "weight=5"), server(&b, "")]);
    filter["upstreams"]["web"]["balancer"] = json!("unweighted-round-robin");
    let turns = served_in_turn(&start(&filter), 20);
    assert_eq!(turns.join(" "), ["a b"; 10].join(" "));
}

#[test]
fn shares_match_weights_over_all_workers() {
    let weights = [("a", 1), ("b", 5), ("c", 7)];
    let servers = weights.map(|(name, weight)| (Server::start(name), weight));
    let filter = one_upstream(&servers.each_ref().map(|(a, weight)| server(a, &format!("weight={weight}"))));
    let envoy = start_workers(&filter, 2);

    let report = Load::new(envoy.addr(), 1_300).connections(8).run();

    assert!(report.failures().is_empty(), "{:?}", report.failures());
    for (name, weight) in weights {
        let (served, expected) = (report.served_by(name), weight * 100);
        assert!(served.abs_diff(expected) <= 26, "{name} got {served} of 1,300 requests instead of about {expected}");
    }
}

#[test]
fn connections_to_servers_are_kept() {
    let servers = ["a", "b", "c"].map(Server::start);
    let envoy = start(&one_upstream(&servers.each_ref().map(Server::addr)));
    assert!(Load::new(envoy.addr(), 2_000).connections(4).run().failures().is_empty());
    let connections: usize = servers.iter().map(Server::connections).sum();
    assert!(connections <= 12, "{connections} connections for 4 clients and 3 servers");
}

#[test]
fn a_server_that_is_down_or_draining_gets_nothing() {
    let [a, b, c] = ["a", "b", "c"].map(Server::start);
    let envoy = start(&one_upstream(&[server(&a, ""), server(&b, "weight=9 down"), server(&c, "weight=9 drain")]));
    assert_eq!(served_in_turn(&envoy, 40), ["a"; 40]);
    assert_eq!(b.connections() + c.connections(), 0);
}

#[test]
fn a_backup_serves_only_while_no_other_can() {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let envoy = start(&one_upstream(&[server(&a, "fail_timeout=1s"), server(&b, "weight=9 backup")]));
    assert_eq!(served_in_turn(&envoy, 20), ["a"; 20]);
    a.stop();
    assert_eq!(served_in_turn(&envoy, 20), ["b"; 20], "the backup takes over, from the first request on");
    a.resume();
    crate::support::eventually("the primary serves again", crate::PATIENCE, || served_in_turn(&envoy, 1) == ["a"]);
    assert_eq!(served_in_turn(&envoy, 20), ["a"; 20]);
}

#[test]
fn the_placeholder_address_is_ignored() {
    let a = Server::start("a");
    let envoy = start(&one_upstream(&[String::from("0.0.0.0"), server(&a, "")]));
    assert_eq!(served_in_turn(&envoy, 10), ["a"; 10]);
}

#[test]
fn peers_can_have_ipv6_addresses() {
    let Ok(port) = Port::free_on(Ipv6Addr::LOCALHOST) else {
        eprintln!("this machine has no IPv6 loopback address, so there is nothing to test");
        return;
    };
    let (a, b) = (Server::start("a"), Server::start_at("b", port));
    let envoy = start(&one_upstream(&[&a, &b].map(|peer| server(peer, ""))));
    assert_eq!(served_in_turn(&envoy, 4), ["a", "b", "a", "b"]);
}
