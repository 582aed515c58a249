//! Which upstreams there are: what configurations declare, when they change and when they contradict each other.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::support::client::{Answer, Client, Request};
use crate::support::config::Config;
use crate::support::envoy::{Envoy, Setup};
use crate::support::eventually;
use crate::support::proxy::Proxy as _;
use crate::support::server::Server;
use crate::{one_upstream, server, PATIENCE};

/// Upstreams of one server each, one of which a header of the request names.
fn by_pool(upstreams: &[(&str, &Server)]) -> Config {
    let upstreams: Value =
        upstreams.iter().map(|(name, one)| ((*name).to_owned(), json!({ "servers": [server(one, "")] }))).collect();
    Config::reference(&json!({ "upstreams": upstreams, "upstream": "$http_pool" }))
}

/// A new connection, so that the configuration in force serves it.
fn ask(envoy: &Envoy, pool: &str) -> Answer {
    envoy.client().send(&Request::get("/").header("pool", pool)).expect("an answer")
}

fn is_refused(answer: &Answer) -> bool {
    answer.status == 503 && answer.header("content-type") == Some("application/problem+json")
}

#[test]
fn an_upstream_that_no_configuration_declares_any_more_is_not_routed_to() {
    let [red, blue] = ["red", "blue"].map(Server::start);
    let both = by_pool(&[("red", &red), ("blue", &blue)]);
    let mut envoy = Setup::new(both.clone()).workers(2).updatable().start();
    assert_eq!(ask(&envoy, "red").served_by(), "red");
    assert!(is_refused(&ask(&envoy, "green")), "one that never was: {:?}", ask(&envoy, "green"));

    assert!(envoy.update(by_pool(&[("blue", &blue)])), "{}", envoy.log());
    // The old configuration counts as long as its connections drain, here a second, and ten seconds more.
    eventually("red is gone", PATIENCE, || is_refused(&ask(&envoy, "red")));
    let requests = red.requests();
    for _ in 0..20 {
        assert!(is_refused(&ask(&envoy, "red")));
        assert_eq!(ask(&envoy, "blue").served_by(), "blue");
    }
    assert_eq!(red.requests(), requests);

    assert!(envoy.update(both), "{}", envoy.log());
    eventually("red is back", Duration::from_secs(5), || ask(&envoy, "red").served_by() == "red");
}

/// Both listeners have a filter of one name and one `root_id`, and each declares the upstream `web` in its own way.
#[test]
fn two_configurations_of_one_filter_are_told_of_once_and_one_of_them_counts() {
    let [a, b] = ["a", "b"].map(Server::start);
    let [first, second] = [&a, &b].map(|one| one_upstream(&[server(one, "")]));
    let envoy = Setup::new(Config::reference(&first).and_listener(&second)).workers(2).start();
    // New connections: each says that the configuration of its listener is in force.
    let served = || -> BTreeSet<String> {
        let addrs = [envoy.addr(), envoy.second_addr()];
        addrs.map(|addr| Client::new(addr).get("/").expect("an answer").served_by().to_owned()).into()
    };
    // Configurations replace each other once a second if they do.
    let told = |envoy: &Envoy| -> Vec<String> {
        envoy.log().lines().filter(|line| line.contains("root_id")).map(str::to_owned).collect()
    };
    eventually("it is told", PATIENCE, || {
        served();
        !told(&envoy).is_empty()
    });
    let mut by = BTreeSet::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        by.extend(served());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(by.len(), 1, "one of the two counts: {by:?}");
    let told = told(&envoy);
    assert_eq!(told.len(), 1, "{told:?}");
    // The name of the filter and its root_id, here one word; they tell which filters are meant.
    assert!(told[0].contains("\"durpina\""), "{told:?}");
}
