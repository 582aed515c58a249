//! The balancers beyond round robin.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{json, Value};

use crate::support::client::Request;
use crate::support::load::Load;
use crate::support::proxy::Proxy as _;
use crate::support::server::{Behaviour, Server};
use crate::{one_upstream, served_in_turn, server, start, start_workers, Started};

/// Five servers behind this balancer, with two workers.
fn five(balancer: &Value) -> ([Server; 5], Started) {
    let servers = ["a", "b", "c", "d", "e"].map(Server::start);
    let mut filter = one_upstream(&servers.each_ref().map(|peer| server(peer, "fail_timeout=60s")));
    filter["upstreams"]["web"]["balancer"] = balancer.clone();
    let envoy = start_workers(&filter, 2);
    (servers, envoy)
}

/// Who answers each of so many paths. Each has a connection of its own, so that both workers are asked.
fn owners(envoy: &Started, paths: usize) -> BTreeMap<usize, String> {
    let owner = |path: usize| {
        let answer = envoy.client().get(&format!("/{path}")).expect("an answer");
        assert_eq!(answer.status, 200);
        (path, answer.served_by().to_owned())
    };
    (0..paths).map(owner).collect()
}

#[test]
fn a_key_stays_with_its_server_and_only_a_dead_server_s_keys_move() {
    for name in ["consistent-hash", "ketama"] {
        let (mut servers, envoy) = five(&json!({ "name": name, "key": "$request_uri" }));
        let before = owners(&envoy, 200);
        assert_eq!(owners(&envoy, 200), before, "{name}: the same in every worker");
        servers[2].stop();
        for (path, owner) in owners(&envoy, 200) {
            let was = &before[&path];
            assert!(
                if was == "c" { owner != "c" } else { owner == *was },
                "{name}: /{path} went from {was} to {owner}"
            );
        }
        servers[2].resume();
    }
}

#[test]
fn a_client_stays_with_its_server() {
    let (_servers, envoy) = five(&json!("ip-hash"));
    let report = Load::new(envoy.addr(), 400).connections(8).run();
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    assert_eq!(report.served().len(), 1, "all clients here have one address: {:?}", report.served());
}

#[test]
fn every_other_balancer_uses_all_servers_and_loses_no_request() {
    for name in ["random", "least-conn", "least-time"] {
        let (mut servers, envoy) = five(&json!(name));
        let load = || Load::new(envoy.addr(), 2_000).connections(8).run();
        let report = load();
        assert!(report.failures().is_empty(), "{name}: {:?}", report.failures());
        assert!(report.served().values().all(|served| *served > 100), "{name}: {:?}", report.served());
        servers[1].stop();
        let report = load();
        assert!(report.failures().is_empty(), "{name}: {:?}", report.failures());
        assert_eq!(report.served_by("b"), 0, "{name}");
    }
}

#[test]
fn a_slow_server_gets_little_where_that_is_measured() {
    for name in ["least-conn", "least-time"] {
        let (servers, envoy) = five(&json!(name));
        servers[0].behave(Behaviour::Slow(Duration::from_millis(50)));
        let report = Load::new(envoy.addr(), 2_000).connections(8).run();
        assert!(report.failures().is_empty(), "{name}: {:?}", report.failures());
        assert!(report.served_by("a") < 200, "{name}: {:?}, not a fifth", report.served());
    }
}

#[test]
fn aborted_and_answered_requests_are_not_in_flight_any_more() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let envoy = start(&one_upstream(&[server(&a, "max_conns=4"), server(&b, "down")]));
    a.behave(Behaviour::Hang);
    for _ in 0..4 {
        // Sent, never answered, and gone.
        let mut stream = crate::support::client::connect(envoy.addr()).expect("a connection");
        std::io::Write::write_all(&mut stream, &Request::get("/").bytes()).expect("sent");
        std::thread::sleep(Duration::from_millis(20));
    }
    a.behave(Behaviour::Answer);
    crate::support::eventually("all four are gone", crate::PATIENCE, || {
        let answers: Vec<u16> = (0..20).map(|_| envoy.client().get("/").expect("an answer").status).collect();
        answers.iter().all(|status| *status == 200)
    });
}

#[test]
fn max_conns_keeps_a_server_from_drowning() {
    let [a, b] = ["a", "b"].map(Server::start);
    let envoy = start(&one_upstream(&[server(&a, "weight=100 max_conns=1"), server(&b, "")]));
    a.behave(Behaviour::Slow(Duration::from_millis(20)));
    let report = Load::new(envoy.addr(), 300).connections(4).run();
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    assert!(report.served_by("b") > 100, "what is too much for a goes to b: {:?}", report.served());
}

#[test]
fn bounded_load_spreads_a_hot_key() {
    let (servers, envoy) = five(&json!({ "name": "consistent-hash", "key": "one", "bound": 1.25 }));
    servers.iter().for_each(|peer| peer.behave(Behaviour::Slow(Duration::from_millis(20))));
    let report = Load::new(envoy.addr(), 400).connections(20).run();
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    assert!(report.served().len() >= 4, "one key, and yet {:?}", report.served());
    servers.iter().for_each(|peer| peer.behave(Behaviour::Answer));
    assert_eq!(served_in_turn(&envoy, 10).iter().collect::<std::collections::BTreeSet<_>>().len(), 1);
}

#[test]
fn a_server_that_comes_back_slowly_starts_with_little() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let envoy = start(&one_upstream(&[server(&a, "fail_timeout=1s slow_start=60s"), server(&b, "")]));
    a.behave(Behaviour::Reset);
    crate::support::eventually("a is out", crate::PATIENCE, || {
        envoy.client().get("/").expect("an answer");
        envoy.state_changes().iter().any(|change| change.to == "temporary_down")
    });
    a.behave(Behaviour::Answer);
    crate::support::eventually("a is back", crate::PATIENCE, || served_in_turn(&envoy, 200).contains(&"a".to_owned()));
    let share = served_in_turn(&envoy, 300).iter().filter(|by| *by == "a").count();
    assert!((1..60).contains(&share), "{share} of 300 at the start");
}
