//! Filters of one's own: the examples do on nginx what their READMEs say of Envoy, and requests that crash take nothing else with them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::support::client::Request;
use crate::support::config::repository;
use crate::support::eventually;
use crate::support::nginx::{Conf, Nginx, Setup};
use crate::support::proxy::Proxy as _;
use crate::support::server::Server;
use crate::support::tcp::{Pages, TcpServer};
use crate::PATIENCE;

/// One of the filters that `scripts/examples.sh` builds, with this upstream. The command line knows only what durpina itself brings: it is
/// given `instead`, which then becomes what is meant.
fn set_up(name: &str, upstream: Value, instead: [&str; 2]) -> Setup {
    let path = repository().join("dist/examples").join(name).with_extension("wasm");
    assert!(path.is_file(), "{} is missing: scripts/examples.sh makes it", path.display());
    let admin = json!({ "prefix": "/durpina", "token": "t" });
    let filter = json!({ "upstreams": { "web": upstream }, "upstream": "web", "admin": admin });
    Setup::new(Conf::Keepalive, &filter).module(path).edit(instead[0], instead[1])
}

/// An nginx that has compiled the filter, which takes a while where it does so for the first time.
#[track_caller]
fn start(setup: Setup) -> Nginx {
    let nginx = setup.start();
    eventually("the filter is configured", 3 * PATIENCE, || nginx.log().contains("configuration: "));
    nginx
}

/// The members of these names of each peer.
fn peers(nginx: &Nginx, member: &str) -> Vec<Value> {
    let request = Request::get("/durpina/upstreams/web").header("authorization", "Bearer t");
    let answer = nginx.client().send(&request).expect("an answer");
    let document: Value = serde_json::from_slice(&answer.body).expect("a document");
    document["peers"].as_array().expect("peers").iter().map(|peer| peer[member].clone()).collect()
}

/// How many of so many requests each server answered.
fn served(nginx: &Nginx, requests: usize, zone: &str) -> BTreeMap<String, usize> {
    let mut served = BTreeMap::new();
    let mut client = nginx.client();
    for _ in 0..requests {
        let answer = client.send(&Request::get("/").header("x-zone", zone)).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
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
    let monitor = json!({ "name": "http", "url": "/health", "interval": "500ms", "schedule": "all", "fall": 2 });
    let servers = [&a, &b].map(|server| format!("{} weight=40", server.addr()));
    let upstream = json!({ "servers": servers, "monitors": [monitor] });
    let nginx = start(set_up("json-health", upstream, [r#""name":"http""#, r#""name":"json-health""#]));
    eventually("both are checked", PATIENCE, || peers(&nginx, "description") == ["load 0.75", "load 0"]);
    assert_eq!(peers(&nginx, "weight"), [10, 40]);
    assert_eq!(served(&nginx, 50, ""), counts([("a", 10), ("b", 40)]));
    set(&health, "/health", r#"{"status": "sick", "load": 0}"#);
    eventually("a is down", PATIENCE, || peers(&nginx, "state") == ["down", "up"]);
    assert_eq!(peers(&nginx, "why")[0], "the server says sick");
    assert_eq!(served(&nginx, 10, ""), counts([("b", 10)]));
    set(&health, "/health", r#"{"status": "up", "load": 0.5}"#);
    eventually("a is back", PATIENCE, || peers(&nginx, "state") == ["up", "up"] && peers(&nginx, "weight") == [20, 40]);
}

#[test]
fn version_drain_drains_old_servers_until_they_are_updated() {
    let (old, version) = page("old", "/version", "v1.3.9\n");
    let (new, _) = page("new", "/version", "1.4.0");
    let monitor = json!({ "name": "http", "url": "/version", "interval": "500ms", "schedule": "all" });
    let servers = [&old, &new].map(|server| server.addr().to_string());
    let upstream = json!({ "servers": servers, "monitors": [monitor] });
    let name = r#""name":"version-drain","at_least":"1.4""#;
    let nginx = start(set_up("version-drain", upstream, [r#""name":"http""#, name]).workers(2));
    eventually("the old one is drained", PATIENCE, || peers(&nginx, "state") == ["draining", "up"]);
    assert_eq!(served(&nginx, 10, ""), counts([("new", 10)]));
    set(&version, "/version", "1.4.1");
    eventually("it is in use", PATIENCE, || peers(&nginx, "state") == ["up", "up"]);
    let both = served(&nginx, 20, "");
    assert!(both.len() == 2, "{both:?}");
}

#[test]
fn zone_balancer_keeps_requests_in_their_zone_and_spills_over() {
    let [mut eu_1, mut eu_2, us] = ["eu-1", "eu-2", "us"].map(Server::start);
    let labelled =
        |server: &Server, zone: &str| json!({ "name": server.addr().to_string(), "labels": { "zone": zone } });
    let servers = json!([labelled(&eu_1, "eu"), labelled(&eu_2, "eu"), labelled(&us, "us")]);
    let upstream = json!({ "servers": servers, "balancer": { "name": "random" }, "max_ejected_percent": 100 });
    let name = r#""name":"zone","from":"$http_x_zone""#;
    let nginx = start(set_up("zone-balancer", upstream, [r#""name":"random""#, name]));
    assert_eq!(served(&nginx, 20, "eu"), counts([("eu-1", 10), ("eu-2", 10)]));
    assert_eq!(served(&nginx, 20, "us"), counts([("us", 20)]));
    assert_eq!(served(&nginx, 30, "asia"), counts([("eu-1", 10), ("eu-2", 10), ("us", 10)]));
    assert_eq!(peers(&nginx, "labels"), [json!({ "zone": "eu" }), json!({ "zone": "eu" }), json!({ "zone": "us" })]);
    eu_1.stop();
    assert_eq!(served(&nginx, 20, "eu"), counts([("eu-2", 20)]), "the other one of the zone first");
    eu_2.stop();
    assert_eq!(served(&nginx, 20, "eu"), counts([("us", 20)]), "and when there is none, whoever is left");
}

/// Each ends the VM of its worker. If timers of a VM that has ended went on, there would be more ticks after each.
#[test]
fn a_hundred_requests_that_crash_cost_nobody_else_anything_and_ticks_are_as_before() {
    let (a, b) = (Server::start("a"), Server::start("b"));
    let monitor = json!({ "name": "http", "url": "/check", "interval": "200ms", "schedule": "all" });
    let servers = [&a, &b].map(|server| server.addr().to_string());
    let upstream = json!({ "servers": servers, "monitors": [monitor], "balancer": { "name": "random" } });
    let setup = set_up("consumer", upstream, [r#""name":"random""#, r#""name":"in-order""#]);
    let nginx = start(setup.workers(2).may_crash());
    let workers = nginx.workers();
    let checks = || a.heads().iter().filter(|head| head.target == "/check").count();
    // The workers' tick is all that they do without traffic.
    let idle = || {
        let (cpu, checked) = (nginx.cpu(), checks());
        std::thread::sleep(Duration::from_secs(3));
        (nginx.cpu().saturating_sub(cpu), checks() - checked)
    };
    eventually("a is checked", PATIENCE, || checks() > 3);
    let before = idle();
    let start = Instant::now();
    let (mut crashed, mut broken) = (0, 0);
    let mut client = nginx.client();
    for n in 0..100 {
        let answer = nginx.client().send(&Request::get("/").header("x-panic", "yes"));
        crashed += usize::from(answer.is_ok_and(|answer| answer.status == 500));
        match client.get("/") {
            Ok(answer) => assert_eq!(answer.status, 200, "after {n} crashes"),
            Err(_) => broken += 1,
        }
    }
    let elapsed = start.elapsed();
    // What a VM that ended asked for has come by then.
    std::thread::sleep(Duration::from_secs(1));
    let after = idle();
    println!("{crashed} crashes in {elapsed:?}; CPU and checks in 3 s before {before:?}, after {after:?}");
    // A check under way ends in a VM that does not know it: the SDK panics there, which a client may notice.
    assert!(crashed >= 95 && broken <= 5, "{crashed} crashes, {broken} connections of others broken");
    assert_eq!(nginx.workers().len(), workers.len());
    assert!(after.1.abs_diff(before.1) <= 4, "checks before {before:?}, after {after:?}");
    assert!(after.0 < before.0 * 2 + Duration::from_millis(30), "before {before:?}, after {after:?}");
}

/// The reply comes to a VM that never heard of the call, and in which the SDK panics; the next one goes on.
#[test]
fn a_check_under_way_when_a_request_crashes() {
    let a = TcpServer::start(|mut stream| {
        use std::io::{Read as _, Write as _};
        let mut head = [0; 1_024];
        let length = stream.read(&mut head).unwrap_or(0);
        if String::from_utf8_lossy(&head[..length]).contains("/check") {
            std::thread::sleep(Duration::from_millis(300));
        }
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\nx-served-by: a\r\ncontent-length: 0\r\n\r\n");
    });
    let monitor = json!({ "name": "http", "url": "/check", "interval": "400ms", "timeout": "1s", "schedule": "all" });
    let upstream =
        json!({ "servers": [a.addr().to_string()], "monitors": [monitor], "balancer": { "name": "random" } });
    let setup = set_up("consumer", upstream, [r#""name":"random""#, r#""name":"in-order""#]);
    let nginx = start(setup.may_crash());
    let workers = nginx.workers();
    for _ in 0..20 {
        let _ = nginx.client().send(&Request::get("/").header("x-panic", "yes"));
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(nginx.client().get("/").expect("an answer").status, 200);
    }
    assert_eq!(nginx.workers(), workers);
    let checked = a.connections();
    eventually("a is checked", PATIENCE, || a.connections() > checked + 3);
}
