//! Filters of one's own: the examples do what their READMEs say, and a monitor that crashes takes nothing else with it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::support::client::Request;
use crate::support::config::{repository, Config};
use crate::support::envoy::{Envoy, Setup};
use crate::support::eventually;
use crate::support::proxy::Proxy;
use crate::support::server::Server;
use crate::support::tcp::{Pages, TcpServer};
use crate::PATIENCE;

/// One of the filters that `scripts/examples.sh` builds.
fn example(name: &str) -> PathBuf {
    let path = repository().join("dist/examples").join(name).with_extension("wasm");
    assert!(path.is_file(), "{} is missing: scripts/examples.sh makes it", path.display());
    path
}

fn set_up(name: &str, upstream: Value) -> Setup {
    let admin = json!({ "prefix": "/durpina", "token": "t" });
    let filter = json!({ "upstreams": { "web": upstream }, "upstream": "web", "admin": admin });
    Setup::new(Config::reference(&filter)).module(example(name))
}

fn document(envoy: &Envoy) -> Value {
    let request = Request::get("/durpina/upstreams/web").header("authorization", "Bearer t");
    let answer = envoy.client().send(&request).expect("an answer");
    serde_json::from_slice(&answer.body).expect("a document")
}

/// The members of these names of each peer.
fn peers(envoy: &Envoy, member: &str) -> Vec<Value> {
    let document = document(envoy);
    document["peers"].as_array().expect("peers").iter().map(|peer| peer[member].clone()).collect()
}

/// How many of so many requests each server answered.
fn served(envoy: &Envoy, requests: usize, zone: &str) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    for _ in 0..requests {
        let request = Request::get("/").header("x-zone", zone);
        let answer = envoy.client().send(&request).expect("an answer");
        *served.entry(answer.served_by().to_owned()).or_default() += 1;
    }
    served
}

fn counts<const N: usize>(of: [(&str, usize); N]) -> BTreeMap<String, usize> {
    of.into_iter().map(|(name, count)| (name.to_owned(), count)).collect()
}

/// A server whose page at `path` is this text.
fn page(name: &str, path: &str, text: &str) -> (TcpServer, Pages) {
    let pages = Pages::default();
    set(&pages, path, text);
    (TcpServer::pages(name, &pages, |_| {}), pages)
}

fn set(pages: &Pages, path: &str, text: &str) {
    pages.lock().unwrap().insert(path.to_owned(), text.to_owned());
}

#[test]
fn json_health_sets_weights_by_load_and_takes_out_who_is_not_up() {
    let (a, health) = page("a", "/health", r#"{"status": "up", "load": 0.75}"#);
    let (b, _) = page("b", "/health", r#"{"status": "up", "load": 0}"#);
    let monitor = json!({ "name": "json-health", "url": "/health", "interval": "500ms", "schedule": "all", "fall": 2 });
    let servers = [&a, &b].map(|server| format!("{} weight=40", server.addr()));
    let envoy = set_up("json-health", json!({ "servers": servers, "monitors": [monitor] })).start();
    eventually("both are checked", PATIENCE, || peers(&envoy, "description") == ["load 0.75", "load 0"]);
    assert_eq!(peers(&envoy, "weight"), [10, 40]);
    assert_eq!(served(&envoy, 50, ""), counts([("a", 10), ("b", 40)]));
    set(&health, "/health", r#"{"status": "sick", "load": 0}"#);
    eventually("a is down", PATIENCE, || peers(&envoy, "state") == ["down", "up"]);
    assert_eq!(peers(&envoy, "why")[0], "the server says sick");
    assert_eq!(served(&envoy, 10, ""), counts([("b", 10)]));
    set(&health, "/health", r#"{"status": "up", "load": 0.5}"#);
    eventually("a is back", PATIENCE, || peers(&envoy, "state") == ["up", "up"] && peers(&envoy, "weight") == [20, 40]);
}

#[test]
fn version_drain_drains_old_servers_until_they_are_updated() {
    let (old, version) = page("old", "/version", "v1.3.9\n");
    let (new, _) = page("new", "/version", "1.4.0");
    let monitor = json!({ "name": "version-drain", "url": "/version", "at_least": "1.4", "interval": "500ms", "schedule": "all" });
    let servers = [&old, &new].map(|server| server.addr().to_string());
    let envoy = set_up("version-drain", json!({ "servers": servers, "monitors": [monitor] })).workers(2).start();
    eventually("the old one is drained", PATIENCE, || peers(&envoy, "state") == ["draining", "up"]);
    assert_eq!(peers(&envoy, "why")[0], "the agent says drain # version v1.3.9");
    assert_eq!(served(&envoy, 10, ""), counts([("new", 10)]));
    let line = format!("upstream=web peer={} monitor=\"version-drain\": runs v1.3.9, too old", old.addr());
    assert_eq!(envoy.log().matches(&line).count(), 1, "{}", envoy.log());
    set(&version, "/version", "1.4.1");
    eventually("it is in use", PATIENCE, || peers(&envoy, "state") == ["up", "up"]);
    let both = served(&envoy, 20, "");
    assert!(both.len() == 2, "{both:?}");
}

#[test]
fn zone_balancer_keeps_requests_in_their_zone_and_spills_over() {
    let [mut eu_1, mut eu_2, us] = ["eu-1", "eu-2", "us"].map(Server::start);
    let labelled =
        |server: &Server, zone: &str| json!({ "name": server.addr().to_string(), "labels": { "zone": zone } });
    let servers = json!([labelled(&eu_1, "eu"), labelled(&eu_2, "eu"), labelled(&us, "us")]);
    let balancer = json!({ "name": "zone", "from": "$http_x_zone" });
    let envoy =
        set_up("zone-balancer", json!({ "servers": servers, "balancer": balancer, "max_ejected_percent": 100 }))
            .start();
    assert_eq!(served(&envoy, 20, "eu"), counts([("eu-1", 10), ("eu-2", 10)]));
    assert_eq!(served(&envoy, 20, "us"), counts([("us", 20)]));
    assert_eq!(served(&envoy, 30, "asia"), counts([("eu-1", 10), ("eu-2", 10), ("us", 10)]));
    assert_eq!(peers(&envoy, "labels"), [json!({ "zone": "eu" }), json!({ "zone": "eu" }), json!({ "zone": "us" })]);
    eu_1.stop();
    assert_eq!(served(&envoy, 20, "eu"), counts([("eu-2", 20)]), "the other one of the zone first");
    eu_2.stop();
    assert_eq!(served(&envoy, 20, "eu"), counts([("us", 20)]), "and when there is none, whoever is left");
}

#[test]
fn a_mistake_in_an_option_of_ones_own_stops_envoy_with_its_place() {
    let monitor = json!({ "name": "version-drain", "at_least": "new" });
    let refused = set_up("version-drain", json!({ "servers": ["127.0.0.1:1"], "monitors": [monitor] })).try_start();
    let log = refused.err().expect("a refusal").log;
    let error = "upstreams.web.monitors[0].at_least: expected a version such as \"1.4.2\", found \"new\"";
    assert!(log.contains(error), "{log}");
}

#[test]
fn a_crate_elsewhere_makes_a_filter_of_its_own() {
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let [warm, cold] = ["warm", "cold"].map(|name| {
        let seen = Arc::clone(&seen);
        TcpServer::pages(name, &Pages::default(), move |path| seen.lock().unwrap().push(format!("{name}{path}")))
    });
    let monitor = json!({ "name": "ready", "interval": "500ms", "schedule": "all" });
    let servers = json!([{ "name": warm.addr().to_string(), "labels": { "cache": "yes" } }, cold.addr().to_string()]);
    let envoy =
        set_up("consumer", json!({ "servers": servers, "monitors": [monitor], "balancer": "in-order" })).start();
    let asked = |what: &str| seen.lock().unwrap().iter().filter(|seen| *seen == what).count();
    eventually("both are checked", PATIENCE, || asked("warm/warm") >= 3 && asked("cold/ready") >= 3);
    assert!(asked("cold/warm") == 0 && asked("warm/ready").abs_diff(asked("warm/warm")) <= 1, "{seen:?}");
    assert_eq!(served(&envoy, 10, ""), counts([("warm", 10)]));
    assert_eq!(envoy.state_changes(), []);
}

/// 503 is what a worker answers whose VM just died, until it has a new one.
#[test]
fn a_monitor_that_panics_rests_and_traffic_and_all_other_checks_go_on() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let bad = json!({ "name": "ready", "interval": "500ms", "schedule": "all", "panics": true });
    let http = json!({ "name": "http", "url": "/http", "interval": "500ms", "schedule": "all" });
    let servers = [&a, &b].map(|server| server.addr().to_string());
    let setup = set_up("consumer", json!({ "servers": servers, "monitors": [bad, http] }));
    let envoy = setup.workers(2).may_crash().start();
    let checks = || a.heads().iter().filter(|head| head.target == "/http").count();
    let (start, mut last, mut longest, mut known) = (Instant::now(), Instant::now(), Duration::ZERO, 0);
    let mut failed: Vec<(Duration, u16)> = Vec::new();
    let mut requests = 0;
    // A rest of 10 s, one of 20 s, and a while of the third.
    while start.elapsed() < Duration::from_secs(40) {
        let status = envoy.client().get("/").map_or(0, |answer| answer.status);
        requests += 1;
        if status != 200 {
            failed.push((start.elapsed(), status));
        }
        if checks() > known {
            known = checks();
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let rests = |times: usize, rest: &str| {
        let line = format!("{times} times by now, and rests for {rest}");
        envoy.log().lines().filter(|known| known.contains(&line)).count()
    };
    assert_eq!([rests(1, "10s"), rests(2, "20s"), rests(3, "40s")], [1, 1, 1], "{}", envoy.log());
    assert!(
        longest < Duration::from_millis(2_500),
        "checks went on within two seconds, and then came the next slot: {longest:?}"
    );
    assert!(failed.len() * 50 < requests, "{failed:?} of {requests}");
    let document = document(&envoy);
    let problem = document["monitors"][0]["problem"].as_str().unwrap_or_default().to_owned();
    assert!(
        problem.starts_with("it crashed or hung while it looked at 127.0.0.1:") && problem.ends_with("rests for 40s"),
        "{document}"
    );
    assert!(document["monitors"][1]["problem"].is_null() && document["state"] == "up", "{document}");
}

/// One `hostile` monitor for each of these, and one by `http`, at a server with these pages.
fn hostile(hows: &[&str], pages: &Pages, seen: &Arc<Mutex<Vec<String>>>) -> (TcpServer, Setup) {
    let seen = Arc::clone(seen);
    let server = TcpServer::pages("a", pages, move |path| seen.lock().unwrap().push(path.to_owned()));
    let every = |mut monitor: Value| {
        monitor["interval"] = json!("500ms");
        monitor["schedule"] = json!("all");
        monitor
    };
    let mut monitors: Vec<Value> =
        hows.iter().map(|how| every(json!({ "name": "hostile", "id": how, "how": how }))).collect();
    monitors.push(every(json!({ "name": "http", "url": "/http" })));
    let servers = [server.addr().to_string()];
    (server, set_up("hostile", json!({ "servers": servers, "monitors": monitors })))
}

#[test]
fn a_monitor_may_ask_for_anything_and_its_lines_say_what_they_are_about() {
    let (pages, seen) = (Pages::default(), Arc::default());
    let hows = ["no path", "no slash", "line break", "headers", "large", "gone", "shared", "plain"];
    let (server, setup) = hostile(&hows, &pages, &seen);
    let envoy = setup.workers(2).start();
    let asked = |what: &str| seen.lock().unwrap().iter().filter(|seen| seen.contains(what)).count();
    eventually("all is checked", PATIENCE, || asked("/http") >= 6);
    assert_eq!((asked("/gone"), asked("forged")), (1, 0), "{seen:?}");
    let document = document(&envoy);
    assert!(document["state"] == "up" && document["monitors"].as_array().unwrap().len() == hows.len(), "{document}");
    let log = envoy.log();
    let about = |how: &str| format!("upstream=web peer={} monitor=\"{how}\": ", server.addr());
    for line in
        ["upstreams.web.monitors[7] monitor=\"plain\": init plain", &format!("{}step plain true", about("plain"))]
    {
        assert!(log.contains(&format!(": {line}\n")), "{line}");
    }
    assert!(log.contains(&format!("{}the monitor failed: no connection", about("line break"))));
    assert_eq!(log.matches("step gone true").count(), 0, "it was removed in its first step");
}

#[test]
fn what_servers_say_to_a_monitor_of_ones_own_hurts_nobody() {
    let (pages, seen) = (Pages::default(), Arc::default());
    let (_server, setup) = hostile(&["deep", "echo"], &pages, &seen);
    set(&pages, "/", &format!("x\npeer state: forged{}", "x".repeat(99_000)));
    let envoy = setup.workers(2).start();
    eventually("it is told", PATIENCE, || envoy.log().contains("forged"));
    let asked = |what: &str| seen.lock().unwrap().iter().filter(|seen| seen.contains(what)).count();
    let body = format!("{}{}", "[".repeat(120), "]".repeat(120));
    for (body, told) in [(&*body, "[[["), (&"[".repeat(200_000), "recursion limit exceeded")] {
        set(&pages, "/", body);
        let before = asked("/http");
        eventually("all is checked", PATIENCE, || asked("/http") >= before + 4);
        let request = Request::get("/durpina/upstreams/web/peers").header("authorization", "Bearer t");
        let peers = envoy.client().send(&request).expect("an answer").text();
        assert!(peers.contains(told) && peers.len() < 5_000, "{peers}");
    }
    let is_good = |line: &str| line.len() < 2_000 && !line.starts_with("peer state");
    assert!(envoy.log().lines().all(is_good), "{}", envoy.log());
}

#[test]
fn a_panic_in_init_stops_envoy_and_says_whose_it_is() {
    let (_server, setup) = hostile(&["init"], &Pages::default(), &Arc::default());
    let log = setup.may_crash().try_start().err().expect("a refusal").log;
    let line = log.lines().find(|line| line.contains("a bug in init") || line.contains("panicked")).unwrap_or_default();
    assert!(line.contains("upstreams.web.monitors[0] monitor=\"init\": ") && line.contains("panicked"), "{log}");
}

/// 503 is what a worker answers whose VM just died, until it has a new one.
#[test]
fn a_balancer_names_nobody_who_is_not_there_or_not_up_and_its_panic_is_that_request_s_alone() {
    let servers = ["a", "b", "c"].map(Server::start);
    let mut declared = servers.each_ref().map(|server| json!({ "name": server.addr().to_string() }));
    declared[0]["down"] = json!(true);
    let setup = set_up("hostile", json!({ "servers": declared, "balancer": "wild" })).may_crash();
    let envoy = setup.start();
    let ask = |how: &str| {
        let answer = envoy.client().send(&Request::get("/").header("x-how", how)).expect("an answer");
        (answer.status, answer.served_by().to_owned())
    };
    for (how, expected) in [("all", (200, "b")), ("same", (200, "b")), ("nobody", (503, "")), ("unknown", (503, ""))] {
        assert_eq!(ask(how), (expected.0, expected.1.to_owned()), "{how}");
    }
    for _ in 0..2 {
        assert!(ask("panic").0 >= 500);
        eventually("it serves again", PATIENCE, || ask("all") == (200, "b".to_owned()));
    }
    assert!(envoy.crashes().iter().any(|line| line.contains("a bug in pick") || line.contains("panicked")));
}

#[test]
fn texts_with_variables_take_no_worker_with_them() {
    let server = Server::start("a");
    let mut maps = serde_json::Map::new();
    for at in 0..320 {
        maps.insert(format!("m{at}"), json!({ "from": "$uri", "default": format!("$m{}", at + 1) }));
    }
    maps.insert("m320".to_owned(), json!({ "from": "$http_x_long", "default": "web" }));
    let key = "$http_x_long".repeat(500) + "$m0";
    let balancer = json!({ "name": "consistent-hash", "key": key });
    let upstream = json!({ "servers": [server.addr().to_string()], "balancer": balancer });
    let filter = json!({ "maps": maps, "upstreams": { "web": upstream }, "upstream": "$m0" });
    let envoy = Setup::new(Config::reference(&filter)).start();
    for length in [0, 10, 30_000] {
        let request = Request::get("/").header("x-long", "x".repeat(length));
        assert_eq!(envoy.client().send(&request).expect("an answer").served_by(), "a", "{length}");
    }
}
