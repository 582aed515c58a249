//! What the log says to whoever is called at night: each answer that no server gave, each refusal, each configuration.

use std::time::{Duration, Instant};

use serde_json::{json, Value};

use crate::support::client::Request;
use crate::support::config::{Config, MINIMAL};
use crate::support::envoy::{Envoy, Setup};
use crate::support::eventually;
use crate::support::load::Load;
use crate::support::ports::Port;
use crate::support::proxy::Proxy as _;
use crate::support::server::Server;
use crate::{one_upstream, server, PATIENCE};

const TOKEN: &str = "s3cret-t0ken";

/// The lines of the log with this text in them, from there on.
fn lines(envoy: &Envoy, text: &str) -> Vec<String> {
    let log = envoy.log();
    let found = log.lines().filter_map(|line| line.find(text).and_then(|at| line.get(at..)));
    // Where Envoy says which line of its source wrote this.
    found.map(|line| line.split(" thread=").next().unwrap_or_default().trim_end().to_owned()).collect()
}

/// The one line of the log with this text in it, once there is one.
#[track_caller]
fn line(envoy: &Envoy, text: &str) -> String {
    eventually(&format!("a line with {text:?}"), PATIENCE, || !lines(envoy, text).is_empty());
    let lines = lines(envoy, text);
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines.into_iter().next().unwrap()
}

#[track_caller]
fn get(envoy: &Envoy, path: &str) -> u16 {
    envoy.client().get(path).expect("an answer").status
}

#[test]
fn an_answer_that_the_filter_gives_is_one_line_and_many_are_counted() {
    let a = Server::start("a");
    let filter = json!({
        "upstreams": { "web": { "servers": [server(&a, "down"), "10.0.0.9:80 drain"] }, "up": { "servers": [server(&a, "")] } },
        "routes": [
            { "prefix": "/up", "upstream": "up" },
            { "regex": "^/of/(.*)", "upstream": "$1" },
            { "prefix": "/web", "method": "GET", "upstream": "web" },
        ],
    });
    let envoy = Setup::new(Config::reference(&filter)).start();
    assert_eq!(get(&envoy, "/up"), 200);
    let began = Instant::now();
    let mut client = envoy.client();
    for _ in 0..50 {
        assert_eq!(client.get("/web/a?secret=1").unwrap().status, 503);
    }
    let quick = began.elapsed() < Duration::from_secs(9);
    assert_eq!(get(&envoy, "/of/none%0a"), 503);
    assert_eq!(get(&envoy, &format!("/of/{}", "x".repeat(3_000))), 414);
    let first = "refused: status=503 route=\"routes[2] (prefix /web, method GET)\" upstream=\"web\"";
    eventually("what is not said is counted", PATIENCE, || lines(&envoy, first).len() == 2);
    let web = lines(&envoy, first);
    let line_of = format!(
        "{first} client=127.0.0.1 path=\"/web/a\" why=\"no peer of the upstream is usable: 2 peers, 1 down, 1 draining\""
    );
    assert_eq!(web[0], line_of);
    assert!(!quick || web[1].starts_with(&format!("{line_of}; 49 more in ")), "{web:#?}");
    assert_eq!(
        line(&envoy, "status=503 route=\"routes[1]"),
        "status=503 route=\"routes[1] (regex ^/of/(.*))\" upstream=\"none%0a\" client=127.0.0.1 path=\"/of/none%0a\" \
         why=\"no such upstream\""
    );
    let long = line(&envoy, "status=414");
    assert!(long.contains("why=\"a path can have at most 2048 bytes here\"") && long.len() < 300, "{long}");
}

/// Envoy's route sends everything to the cluster `durpina`, the filter has a route for `/foo` only.
fn half_covered(a: &Server) -> Value {
    json!({
        "upstreams": { "web": { "servers": [server(a, "")] } },
        "routes": [{ "prefix": "/foo", "upstream": "web" }],
        "envoy": { "access_log": true },
    })
}

#[test]
fn a_request_that_the_routes_of_the_filter_do_not_cover_is_told_of() {
    let a = Server::start("a");
    let mut bare = half_covered(&a);
    bare["envoy"] = json!({});
    for config in [
        Config::reference(&half_covered(&a)),
        Config::reference(&bare).without_access_log(),
        Config::of(MINIMAL).filter(&bare),
    ] {
        let envoy = Setup::new(config).start();
        assert_eq!((get(&envoy, "/foo"), get(&envoy, "/bar?x=1"), get(&envoy, "/bar")), (200, 503, 503));
        assert_eq!(
            line(&envoy, "refused: "),
            "refused: status=503 route=none cluster=durpina client=127.0.0.1 path=\"/bar\" why=\"no route of the filter's \
             configuration matches, but a route of the proxy leads to its cluster\""
        );
    }
}

#[test]
fn what_goes_elsewhere_is_no_concern_of_the_filter_s() {
    let (a, dead) = (Server::start("a"), Port::free());
    for reports in [true, false] {
        let mut filter = half_covered(&a);
        filter["envoy"] = json!({ "access_log": reports });
        let config = Config::reference(&filter).cluster_of("dead", &[dead.addr()]).cluster_of("empty", &[]);
        let config = if reports { config } else { config.without_access_log() };
        let to = |name: &str| json!({ "match": { "prefix": format!("/{name}") }, "route": { "cluster": name } });
        let envoy = Setup::new(config.route(&to("dead")).route(&to("empty"))).start();
        assert_eq!((get(&envoy, "/dead"), get(&envoy, "/empty"), get(&envoy, "/foo")), (503, 503, 200));
        assert_eq!(get(&envoy, "/bar"), 503);
        line(&envoy, "refused: status=503 route=none cluster=durpina");
    }
}

fn with_admin(servers: &[String]) -> Value {
    let mut filter = one_upstream(servers);
    filter["admin"] = json!({ "prefix": "/durpina", "token": TOKEN });
    filter
}

fn authorized(method: &str, path: &str) -> Request {
    Request::new(method, path).header("authorization", format!("Bearer {TOKEN}"))
}

#[test]
fn a_refused_management_request_is_one_line_with_whose_it_was() {
    let a = Server::start("a");
    let envoy = Setup::new(Config::reference(&with_admin(&[server(&a, "")]))).start();
    let peer = format!("/durpina/upstreams/web/peers/{}", a.addr());
    let mut client = envoy.client();
    let mut status = |request: &Request| client.send(request).expect("an answer").status;
    for _ in 0..3 {
        assert_eq!(status(&Request::new("DELETE", format!("{peer}?a=b"))), 401);
    }
    assert_eq!(status(&authorized("GET", "/durpina/upstreams/none")), 404);
    assert_eq!(status(&authorized("GET", &peer)), 200);
    let refused = lines(&envoy, "admin: ");
    let expected = format!(
        "admin: client=127.0.0.1 refused: status=401 method=\"DELETE\" path={peer:?} \
         why=\"expected the token of the management API: Authorization: Bearer …\""
    );
    assert_eq!(refused, [expected], "three of a kind are one line, and reading is none");
    assert_eq!(status(&authorized("DELETE", "/durpina/upstreams/none/peers/x")), 404);
    assert_eq!(status(&authorized("PUT", &peer)), 405);
    assert_eq!(status(&authorized("PATCH", &peer).body("{}")), 415);
    let json = |body: &str| authorized("PATCH", &peer).header("content-type", "application/json").body(body);
    assert_eq!(status(&json("{\"weight\": 0}")), 422);
    assert_eq!(status(&json("{\"weight\": 2}").header("if-match", "\"77\"")), 412);
    assert_eq!(status(&json(&" ".repeat(70_000))), 413);
    let statuses =
        [404, 405, 415, 422, 412, 413].map(|status| format!("admin: client=127.0.0.1 refused: status={status} "));
    for status in statuses {
        line(&envoy, &status);
    }
    assert!(!envoy.log().contains(TOKEN));
}

#[test]
fn what_does_not_outlive_a_restart_says_so() {
    let a = Server::start("a");
    let envoy = Setup::new(Config::reference(&with_admin(&[server(&a, "")]))).start();
    let request = authorized("PATCH", &format!("/durpina/upstreams/web/peers/{}", a.addr()));
    let request = request.header("content-type", "application/json").body("{\"state\": \"down\"}");
    assert_eq!(envoy.client().send(&request).unwrap().status, 200);
    let expected = format!("upstream=web peer={} state=down (until Envoy restarts or nginx reloads)", a.addr());
    assert_eq!(lines(&envoy, "upstream=web peer=").first(), Some(&expected));
}

#[test]
fn a_configuration_that_takes_effect_is_one_line_however_many_workers_there_are() {
    let a = Server::start("a");
    let config = |upstreams: Value| {
        let filter = json!({ "upstreams": upstreams, "upstream": "one" });
        Config::reference(&filter)
    };
    let [up, down] = [server(&a, ""), server(&a, "down")];
    let first =
        json!({ "one": { "servers": [up] }, "two": { "servers": [up, "10.0.0.9:80"] }, "gone": { "servers": [] } });
    let setup = Setup::new(config(first.clone())).workers(4).updatable();
    setup.validate().ok().expect("it is valid");
    let mut envoy = setup.start();
    let configurations = |envoy: &Envoy, many: usize| {
        eventually("a configuration is in force", PATIENCE, || lines(envoy, "configuration: ").len() >= many);
        // Others would say so within a few ticks.
        std::thread::sleep(Duration::from_millis(300));
        let lines = lines(envoy, "configuration: ");
        assert_eq!(lines.len(), many, "{lines:#?}");
        lines.last().unwrap().clone()
    };
    assert_eq!(
        configurations(&envoy, 1),
        "configuration: generation 1, 3 upstreams, 3 servers, 3 changed (3 new, 0 removed); shared data was empty, as after a restart: what \
         the API changed before is gone; filter \"durpina\""
    );
    let second =
        json!({ "one": { "servers": [up] }, "two": { "servers": [down, "10.0.0.9:80"] }, "new": { "servers": [] } });
    assert!(envoy.update(config(second)));
    assert_eq!(
        configurations(&envoy, 2),
        "configuration: generation 2, 3 upstreams, 3 servers, 3 changed (1 new, 1 removed); filter \"durpina\""
    );
    let mut bad = first;
    bad["one"]["servers"] = json!(["10.0.0.1:80 weight=0"]);
    assert!(!envoy.update(config(bad)));
    configurations(&envoy, 2);
}

#[test]
fn shared_data_ends_with_the_last_filter() {
    let a = Server::start("a");
    let with = Config::reference(&one_upstream(&[server(&a, "")]));
    let without = with.clone().without_durpina(&[a.addr()]).without_filter();
    let mut envoy = Setup::new(with.clone()).updatable().start();
    let first = line(&envoy, "configuration: generation 1,");
    assert!(envoy.stat(r"^wasm\..*\.active$") > 0 && envoy.update(without));
    eventually("the filters end", PATIENCE, || envoy.stat(r"^wasm\..*\.active$") == 0);
    assert!(envoy.update(with));
    eventually("it says so again", PATIENCE, || lines(&envoy, &first).len() == 2);
}

/// A thousand peers of which a hundred refuse connections, under traffic and without a monitor: how many lines that makes in each
/// minute. `DURPINA_FLOOD` has the number of minutes; without it the test does nothing.
#[test]
fn a_hundred_dead_peers_do_not_flood_the_log() {
    let Ok(minutes) = std::env::var("DURPINA_FLOOD") else { return };
    let minutes: usize = minutes.parse().expect("DURPINA_FLOOD: minutes");
    let alive: Vec<Server> = (0..900).map(|_| Server::start("alive")).collect();
    let dead: Vec<Port> = (0..100).map(|_| Port::free()).collect();
    // Not one after the other: the candidates of a request follow each other.
    let mut servers: Vec<String> = alive.iter().map(|one| server(one, "")).collect();
    (0..100).for_each(|n| servers.insert(n * 10, dead[n].addr().to_string()));
    let envoy = Setup::new(Config::reference(&one_upstream(&servers))).workers(2).start();
    let mut seen = envoy.log().lines().count();
    let load = Load::new(envoy.addr(), 100_000_000).connections(4).pause(Duration::from_millis(2)).start();
    for minute in 1..=minutes {
        std::thread::sleep(Duration::from_secs(60));
        let now = envoy.log().lines().count();
        println!("minute {minute}: {} lines, {} requests", now - seen, load.done());
        let most = if minute == 1 { 300 } else { 100 };
        assert!(now - seen <= most, "{} lines in minute {minute}:\n{}", now - seen, envoy.log());
        seen = now;
    }
    load.stop();
    assert!(load.finish().failures().is_empty());
}
