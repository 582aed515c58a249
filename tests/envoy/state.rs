//! What is shown of peers and upstreams is what is the case: in the API, in the metrics and in the log.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::support::client::{Answer, Request};
use crate::support::config::Config;
use crate::support::envoy::{Envoy, Setup};
use crate::support::eventually;
use crate::support::proxy::Proxy as _;
use crate::support::server::{Behaviour, Server};
use crate::{one_upstream, server, start, PATIENCE};

/// The servers with a management API, and this monitor if any.
fn filter(servers: &[&Server], parameters: &str, monitor: Option<Value>) -> Value {
    let servers: Vec<String> = servers.iter().map(|one| server(one, parameters)).collect();
    let mut filter = one_upstream(&servers);
    filter["admin"] = json!({ "prefix": "/durpina", "token": "t" });
    filter["upstreams"]["web"]["monitors"] = monitor.into_iter().collect();
    filter
}

fn http() -> Option<Value> {
    Some(json!({"name": "http", "interval": "1s", "schedule": "all", "rise": 2, "fall": 3}))
}

fn read(envoy: &Envoy, path: &str) -> Answer {
    let request = Request::get(format!("/durpina{path}")).header("authorization", "Bearer t");
    envoy.client().send(&request).expect("an answer")
}

fn document(envoy: &Envoy) -> Value {
    let answer = read(envoy, "/upstreams/web");
    assert_eq!(answer.status, 200, "{}", answer.text());
    serde_json::from_slice(&answer.body).expect("a JSON document")
}

fn peer(envoy: &Envoy, server: &Server) -> Value {
    let document = document(envoy);
    let peers = document["peers"].as_array().expect("peers");
    peers.iter().find(|peer| peer["name"] == server.addr().to_string()).expect("the peer").clone()
}

fn metric(envoy: &Envoy, line: &str) -> Option<String> {
    let page = read(envoy, "/metrics").text();
    page.lines().find_map(|one| one.strip_prefix(line)).map(|value| value.trim().to_owned())
}

/// The lines of the log that tell of the upstream.
fn told(envoy: &Envoy) -> Vec<String> {
    let log = envoy.log();
    let lines = log.lines().filter_map(|line| Some(line[line.find("upstream state: ")?..].to_owned()));
    lines.collect()
}

#[track_caller]
fn is_shown_as_down(envoy: &Envoy, servers: usize) {
    let document = document(envoy);
    assert_eq!((&document["state"], &document["peers_up"]), (&json!("down"), &json!(0)), "{document}");
    assert!(document["since"].is_string() && document["why"].is_string(), "{document}");
    assert_eq!(metric(envoy, "durpina_upstream_up{upstream=\"web\"}").as_deref(), Some("0"));
    let page = read(envoy, "/metrics").text();
    let up = page.lines().filter(|line| line.starts_with("durpina_peer_up{"));
    assert_eq!(up.filter(|line| line.ends_with(" 0")).count(), servers, "{page}");
    // Some of them are asked nevertheless, and the document says which and why.
    let in_use = document["peers"].as_array().unwrap().iter().filter(|peer| peer["in_use"] == true);
    let why: Vec<&str> = in_use.map(|peer| peer["why"].as_str().unwrap()).collect();
    assert!(!why.is_empty() && why.iter().all(|why| why.contains("; kept in use: ")), "{document}");
}

#[test]
fn an_upstream_whose_servers_are_all_dead_is_down_at_the_first_failed_request() {
    let mut servers = ["a", "b", "c"].map(Server::start);
    let envoy = Setup::new(Config::reference(&filter(&servers.each_ref(), "", None))).workers(2).start();
    assert_eq!(document(&envoy)["state"], "up");
    servers.iter_mut().for_each(Server::stop);
    assert_eq!(envoy.client().get("/").expect("an answer").status, 503);
    eventually("the log says so", PATIENCE, || told(&envoy).iter().any(|line| line.contains("to=down")));
    is_shown_as_down(&envoy, 3);
    let lines = told(&envoy);
    assert!(lines.last().unwrap().ends_with("0 of 3 peers left"), "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("by=passive why=\"peer 127.0.0.1:")), "{lines:?}");

    // Failing on is no news.
    let mut client = envoy.client();
    for _ in 0..50 {
        assert_eq!(client.get("/").expect("an answer").status, 503);
    }
    assert_eq!(told(&envoy), lines);
    assert_eq!(envoy.state_changes().len(), 3, "one line for each outage");
}

#[test]
fn an_upstream_whose_servers_are_all_dead_is_down_without_traffic_and_up_again() {
    let mut servers = ["a", "b", "c"].map(Server::start);
    let envoy = Setup::new(Config::reference(&filter(&servers.each_ref(), "", http()))).workers(2).start();
    eventually("all are checked", PATIENCE, || servers.iter().all(|server| server.requests() >= 1));
    servers.iter_mut().for_each(Server::stop);
    eventually("it is down", Duration::from_millis(1_500), || document(&envoy)["state"] == "down");
    is_shown_as_down(&envoy, 3);
    servers.iter_mut().for_each(Server::resume);
    eventually("it is up", Duration::from_millis(2_500), || document(&envoy)["state"] == "up");
    let lines = told(&envoy);
    let states = |line: &String| line[line.find("from=").unwrap()..line.find(" by=").unwrap()].to_owned();
    let states: Vec<String> = lines.iter().map(states).collect();
    let expected = ["from=up to=degraded", "from=degraded to=down", "from=down to=degraded", "from=degraded to=up"];
    // All three may go in one write, and come back in one.
    assert!(states == expected || states.iter().all(|one| one.contains("down")), "{states:?}");
    assert_eq!(metric(&envoy, "durpina_upstream_up{upstream=\"web\"}").as_deref(), Some("1"));
    assert_eq!(metric(&envoy, "durpina_upstream_peers{upstream=\"web\",state=\"up\"}").as_deref(), Some("3"));
}

/// `fail_timeout` is a minute, and the checks see what the failed request saw.
#[test]
fn a_server_that_failed_a_request_is_back_after_good_checks() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let envoy = start(&filter(&[&a, &b], "fail_timeout=60s", http()));
    eventually("a is checked", PATIENCE, || a.requests() >= 2);
    a.behave(Behaviour::Reset);
    let mut client = envoy.client();
    eventually("a request fails at a", PATIENCE, || {
        assert_eq!(client.get("/").expect("an answer").served_by(), "b");
        peer(&envoy, &a)["state"] == "temporary_down"
    });
    a.behave(Behaviour::Answer);
    eventually("a is back", Duration::from_millis(2_500), || peer(&envoy, &a)["state"] == "up");
    eventually("and serves", PATIENCE, || client.get("/").expect("an answer").served_by() == "a");
    let changes = envoy.state_changes();
    assert_eq!(changes.len(), 2, "one line at the beginning, one at the end: {changes:?}");
    assert!(envoy.log().contains("from=temporary_down to=up by=\"monitor http\" why=\"2 good checks in a row\""));
}

/// The server dies under traffic, so a request and the monitor find out, and comes back: that is one outage.
#[test]
fn an_outage_is_one_line_when_it_begins_and_one_when_it_ends() {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let envoy = start(&filter(&[&a, &b], "fail_timeout=1s", http()));
    eventually("a is checked", PATIENCE, || a.requests() >= 2);
    let mut client = envoy.client();
    let mut serve = |time: Duration| {
        let end = Instant::now() + time;
        while Instant::now() < end {
            assert_eq!(client.get("/").expect("an answer").status, 200);
            thread::sleep(Duration::from_millis(5));
        }
    };
    a.stop();
    serve(Duration::from_secs(4));
    assert_eq!(peer(&envoy, &a)["state"], "down");
    a.resume();
    serve(Duration::from_secs(4));
    assert_eq!(peer(&envoy, &a)["state"], "up");
    let changes = envoy.state_changes();
    let ends = |change: &crate::support::proxy::StateChange| {
        (change.from == "up" || change.from == "failing", change.to == "up")
    };
    let ends: Vec<(bool, bool)> = changes.iter().map(ends).collect();
    assert_eq!(ends, [(true, false), (false, true)], "{changes:?}");
    assert_eq!(told(&envoy).len(), 2, "{:?}", told(&envoy));
}

#[test]
fn a_lost_probe_takes_no_server_out_of_use() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let envoy = start(&filter(&[&a, &b], "max_fails=1", http()));
    eventually("a is checked", PATIENCE, || a.requests() >= 1);
    let asked = a.requests();
    a.behave(Behaviour::CloseEarly);
    while a.requests() == asked {
        thread::sleep(Duration::from_millis(1));
    }
    a.behave(Behaviour::Answer);
    eventually("it is shown as failing", PATIENCE, || peer(&envoy, &a)["state"] == "failing");
    assert!(peer(&envoy, &a)["fails"].as_u64() >= Some(1));
    eventually("good ones lift that", PATIENCE, || peer(&envoy, &a)["state"] == "up");
    assert_eq!(envoy.state_changes(), []);
}

/// A server that accepts and hangs holds a request each time that it is tried, so it is tried with one.
#[test]
fn a_server_that_comes_back_by_the_clock_gets_one_request_at_a_time_until_it_answers() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let filter = filter(&[&a, &b], "fail_timeout=1s", None);
    let envoy = Setup::new(Config::reference(&filter).route_timeout(5.0)).start();
    a.behave(Behaviour::Reset);
    let mut client = envoy.client();
    eventually("a request fails at a", PATIENCE, || {
        client.get("/").expect("an answer");
        peer(&envoy, &a)["state"] == "temporary_down"
    });
    a.behave(Behaviour::Hang);
    a.forget();
    let before = a.requests();
    eventually("fail_timeout is over", PATIENCE, || {
        peer(&envoy, &a)["why"].as_str().is_some_and(|why| why.contains("on trial"))
    });
    let clients: Vec<_> = (0..12)
        .map(|_| {
            let mut client = envoy.client();
            thread::spawn(move || client.get("/").map(|answer| answer.served_by().to_owned()))
        })
        .collect();
    let served: Vec<_> = clients.into_iter().map(|client| client.join().expect("a client")).collect();
    assert_eq!(a.requests() - before, 1, "{served:?}");
    assert_eq!(envoy.state_changes().len(), 1, "failing the trial is the same outage");

    a.behave(Behaviour::Answer);
    eventually("a is up", PATIENCE, || {
        client.get("/").expect("an answer");
        peer(&envoy, &a)["state"] == "up"
    });
    assert!(envoy.log().contains("from=temporary_down to=up by=passive why=\"a request was answered\""));
}

#[test]
fn servers_that_an_operator_took_out_are_no_outage() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let mut filter = filter(&[&a, &b], "", None);
    filter["upstreams"]["web"]["servers"][0] = json!(server(&a, "down"));
    let envoy = start(&filter);
    let document = document(&envoy);
    assert_eq!(
        (&document["state"], &document["peers_up"], &document["peers_out"]),
        (&json!("up"), &json!(1), &json!(1))
    );
    assert_eq!(told(&envoy), [""; 0]);
}
