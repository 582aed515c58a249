//! Servers die under load and come back, and no client notices.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::client::{Client, Request};
use crate::support::config::Config;
use crate::support::envoy::{Envoy, Setup};
use crate::support::eventually;
use crate::support::load::Load;
use crate::support::proxy::Proxy as _;
use crate::support::server::{Behaviour, Server, ServerProcess};
use crate::{one_upstream, server, spawn_server, start, PATIENCE};

#[test]
fn no_request_fails_when_a_server_is_killed_under_load() {
    let mut servers = ["a", "b", "c"].map(spawn_server);
    let filter =
        one_upstream(&servers.each_ref().map(|server| format!("{} max_fails=1 fail_timeout=10s", server.addr())));
    let envoy = Setup::new(Config::reference(&filter)).workers(2).start();

    // The pause makes the load last for more than the three seconds that are watched after the kill.
    let load = Load::new(envoy.addr(), 20_000).connections(8).pause(Duration::from_millis(1)).start();
    eventually("the load is under way", PATIENCE, || load.done() > 3_000);
    servers[0].kill();
    let killed = Instant::now();
    while killed.elapsed() < Duration::from_secs(3) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let connects = envoy.failed_connects();
    let report = load.finish();

    assert!(report.failures().is_empty(), "{:?}", report.failures());
    assert_eq!(report.outcomes.len(), 20_000);
    // Honest for a port that nobody listens on: Envoy counts every connect that was refused. There can be
    // none, when the connections that broke were enough of a sign.
    assert!(connects <= 10, "{connects} connects to the dead server within 3 s");
    assert_eq!(state(&envoy, &servers[0]).as_deref(), Some("temporary_down"));
}

#[test]
fn no_request_fails_while_servers_are_killed_and_restarted_in_turn() {
    let mut servers = ["a", "b", "c"].map(spawn_server);
    let filter = one_upstream(&servers.each_ref().map(|server| format!("{} fail_timeout=300ms", server.addr())));
    let envoy = Setup::new(Config::reference(&filter)).workers(2).start();

    let load = Load::new(envoy.addr(), 1_000_000).connections(4).pause(Duration::from_millis(1)).start();
    for server in &mut servers {
        server.kill();
        eventually("it is taken out", PATIENCE, || state(&envoy, server).as_deref() == Some("temporary_down"));
        server.restart();
        eventually("it is taken back", PATIENCE, || state(&envoy, server).as_deref() == Some("up"));
    }
    load.stop();
    let report = load.finish();

    assert!(report.failures().is_empty(), "{:?}", report.failures());
}

/// The state that the log names last for this server.
fn state(envoy: &Envoy, server: &ServerProcess) -> Option<String> {
    let addr = server.addr().to_string();
    envoy.state_changes().into_iter().rev().find(|change| change.peer == addr).map(|change| change.to)
}

#[test]
fn a_server_comes_back_by_itself_in_every_worker() {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let filter = one_upstream(&[server(&a, "fail_timeout=1s"), server(&b, "")]);
    let envoy = Setup::new(Config::reference(&filter)).workers(2).start();
    // A connection stays with the worker that accepted it: of so many, each worker has some.
    let mut clients: Vec<_> = (0..24).map(|_| envoy.client()).collect();
    // Two requests one after the other on a connection are for both servers, if both are in use.
    let mut pairs = move || -> Vec<[String; 2]> {
        let mut pair =
            |client: &mut Client| [(); 2].map(|()| client.get("/").expect("an answer").served_by().to_owned());
        clients.iter_mut().map(&mut pair).collect()
    };
    let served_by_a = |pairs: Vec<[String; 2]>| pairs.iter().filter(|pair| pair.contains(&"a".to_owned())).count();
    assert_eq!(served_by_a(pairs()), 24);
    let per_worker = envoy.stats(r"^listener\.127.*worker_\d\.downstream_cx_total$");
    assert!(per_worker.len() == 2 && per_worker.values().all(|&count| count > 0), "both workers serve: {per_worker:?}");

    a.stop();
    assert_eq!(served_by_a(pairs()), 0);
    assert_eq!(envoy.state_changes()[0].peer, a.addr().to_string(), "a is found dead");
    a.resume();

    eventually("a serves on every connection again", PATIENCE, || served_by_a(pairs()) == 24);
}

#[test]
fn a_dead_server_is_left_alone_in_every_worker() {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let filter = one_upstream(&[server(&a, "fail_timeout=60s"), server(&b, "")]);
    let envoy = Setup::new(Config::reference(&filter)).workers(4).start();
    assert!(Load::new(envoy.addr(), 100).connections(8).run().failures().is_empty());
    a.stop();
    // One worker finds out; the others know at their next request.
    let first = Load::new(envoy.addr(), 10).run();
    assert!(first.failures().is_empty(), "{:?}", first.failures());
    let after_the_first = envoy.failed_connects();
    let rest = Load::new(envoy.addr(), 400).connections(8).connect_each_time().run();
    assert!(rest.failures().is_empty(), "{:?}", rest.failures());
    assert_eq!(rest.served_by("b"), 400);
    assert_eq!(envoy.failed_connects(), after_the_first, "no more connects to the dead server");
}

#[test]
fn workers_agree_where_envoy_keeps_no_statistics() {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let filter = one_upstream(&[server(&a, "fail_timeout=1s"), server(&b, "")]);
    let envoy = Setup::new(Config::reference(&filter).without_stats()).workers(4).start();
    let served = || Load::new(envoy.addr(), 40).connections(8).connect_each_time().run().served();
    assert_eq!(served().len(), 2);
    a.stop();
    Load::new(envoy.addr(), 4).run();
    assert_eq!(served(), BTreeMap::from([("b".to_owned(), 40)]));
    a.resume();
    eventually("a serves again", PATIENCE, || served().get("a").is_some_and(|&answers| answers > 10));
}

#[test]
fn a_request_with_a_body_is_not_sent_twice_once_it_arrived() {
    let [a, b] = ["a", "b"].map(Server::start);
    let envoy = start(&one_upstream(&[server(&a, ""), server(&b, "")]));
    a.behave(Behaviour::Reset);
    b.behave(Behaviour::Reset);
    let answer = envoy.client().send(&Request::new("POST", "/order").body("one book")).expect("an answer");
    assert_eq!(answer.status, 503);
    assert_eq!(a.requests() + b.requests(), 1, "a POST that a server has read is not repeated");
}

#[test]
fn a_request_with_a_body_survives_a_server_that_refuses() {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let envoy = start(&one_upstream(&[server(&a, ""), server(&b, "")]));
    a.stop();
    for _ in 0..4 {
        let answer = envoy.client().send(&Request::new("POST", "/order").body("one book")).expect("an answer");
        assert_eq!((answer.status, answer.served_by()), (200, "b"));
    }
}
