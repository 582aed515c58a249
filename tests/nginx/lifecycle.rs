//! Reloads, killed workers, refused configurations, full and missing zones: nginx serves on, and says what is wrong.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::eventually;
use crate::support::load::Load;
use crate::support::nginx::{Conf, Setup};
use crate::support::proxy::Proxy as _;
use crate::support::server::Server;
use crate::{one_upstream, server, start, start_workers, PATIENCE};

#[test]
fn every_configuration_passes_nginx_t() {
    let filter = json!({
        "upstreams": {
            "it's": { "servers": ["10.0.0.1 weight=5", "[::1]:81", "localhost:82"] },
            "b": { "servers": ["10.0.0.1"] },
        },
        "routes": [
            { "regex": "^/(\\d+)\\.'\"#;\\{\\}$", "upstream": "it's" },
            { "path": "/x", "upstream": "$http_x ${property:a.b}" },
        ],
        "admin": { "prefix": "/durpina", "token": "to'k-en" },
    });
    for conf in Conf::all() {
        let (passes, said) = Setup::new(conf, &filter).check();
        assert!(passes && !said.contains("[warn]"), "{conf}: {said}");
    }
}

#[test]
fn what_is_quoted_for_nginx_arrives_at_the_filter() {
    let [a, b] = ["a", "b"].map(Server::start);
    let filter = json!({
        "upstreams": {
            "it's \\ \"$a\"": { "servers": [a.addr().to_string()] },
            "b": { "servers": [b.addr().to_string()] },
        },
        "routes": [{ "regex": "^/(\\d+)'$", "upstream": "it's \\ \"$$a\"" }, { "regex": "^/\\w+$", "upstream": "b" }],
    });
    for conf in Conf::all() {
        let nginx = Setup::new(conf, &filter).start();
        assert_eq!(nginx.client().get("/12'").expect("an answer").served_by(), "a", "{conf}");
        assert_eq!(nginx.client().get("/xy").expect("an answer").served_by(), "b", "{conf}");
    }
}

#[test]
fn a_filter_json_of_any_length_is_read() {
    let a = Server::start("a");
    let mut servers = vec![a.addr().to_string()];
    servers.extend((0..400).map(|n| format!("10.1.{}.{}:8080 weight=3 down", n / 200, n % 200)));
    let mut nginx = Setup::new(Conf::AnyAddress, &one_upstream(&servers)).workers(2).start();
    assert_eq!(nginx.client().get("/").expect("an answer").served_by(), "a");
    let b = Server::start("b");
    servers[0] = b.addr().to_string();
    nginx.update(&one_upstream(&servers));
    eventually("a reload reads it anew", PATIENCE, || nginx.client().get("/").is_ok_and(|it| it.served_by() == "b"));
}

#[test]
fn reloads_under_load_cost_next_to_nothing() {
    let servers = ["a", "b", "c"].map(Server::start);
    let nginx = start_workers(&one_upstream(&servers.each_ref().map(|peer| server(peer, ""))), 2);
    // A client that opens a connection for each request sees no kept one close.
    let load = Load::new(nginx.addr(), 1_000_000).connections(4).connect_each_time().pause(Duration::from_millis(1));
    let load = load.start();
    for reload in 1..=4 {
        nginx.reload();
        let done = load.done();
        eventually("requests after the reload", PATIENCE, || load.done() > done + 500 * reload);
    }
    load.stop();
    let report = load.finish();
    let longest = report.outcomes.iter().map(|outcome| outcome.latency).max().unwrap();
    println!("4 reloads, {} requests, failed {:?}, longest {longest:?}", report.outcomes.len(), report.failures());
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    assert!(longest < Duration::from_millis(500), "{longest:?}");
    assert!(nginx.workers().len() >= 2);
}

#[test]
fn a_killed_worker_takes_only_its_own_requests_along() {
    let servers = ["a", "b", "c"].map(Server::start);
    let filter = one_upstream(&servers.each_ref().map(|peer| server(peer, "")));
    let nginx = Setup::new(Conf::Keepalive, &filter).workers(2).may_crash().start();
    let load = Load::new(nginx.addr(), 20_000).connections(8).start();
    for killed in 1..=4 {
        eventually("the load goes on", PATIENCE, || load.done() > 3_000 * killed);
        let worker = nginx.workers()[0];
        nginx.kill(worker);
        eventually("there is another", PATIENCE, || nginx.workers().len() == 2 && !nginx.workers().contains(&worker));
    }
    let report = load.finish();
    println!("4 workers killed under load, failed: {:?}", report.failures());
    let failures: usize = report.failures().values().sum();
    assert!(failures <= 4 * 8, "at most what the workers had in hand: {:?}", report.failures());
    assert!(report.failures().keys().all(|what| !what.starts_with("status")), "{:?}", report.failures());
    assert_eq!(nginx.state_changes(), [], "and no server is blamed");
}

#[test]
fn a_refused_configuration_answers_503_and_leaves_the_workers_alive() {
    let a = Server::start("a");
    let mut filter = one_upstream(&[server(&a, "")]);
    filter["upstreams"]["web"]["retries"] = json!(2);
    // The command line would refuse it: somebody edited the file.
    let mut nginx = Setup::new(Conf::Keepalive, &filter).edit("\"retries\":2", "\"retries\":7").workers(2).start();
    let workers = nginx.workers();
    for _ in 0..20 {
        let answer = nginx.client().get("/").expect("an answer");
        assert_eq!(answer.status, 503, "{}", answer.text());
    }
    assert!(nginx.log().contains("upstreams.web.retries: expected"), "the log says what is wrong");
    assert_eq!((nginx.workers(), a.requests()), (workers, 0));
    // Mended, and a reload.
    filter["upstreams"]["web"]["retries"] = json!(1);
    filter["upstreams"]["web"]["server_defaults"] = json!({ "weight": 2 });
    nginx.edits(&[]);
    nginx.update(&filter);
    eventually("it serves", PATIENCE, || nginx.client().get("/").is_ok_and(|answer| answer.status == 200));
}

/// What a load reports whose requests were all answered with 503.
fn only_503(requests: usize) -> BTreeMap<String, usize> {
    BTreeMap::from([("status 503".to_owned(), requests)])
}

/// Asked from the first moment on: before that, the port is not even open.
#[test]
fn without_a_zone_the_answer_is_503_and_the_log_says_why() {
    let a = Server::start("a");
    let filter = one_upstream(&[server(&a, "")]);
    for conf in Conf::all().into_iter().filter(|conf| *conf != Conf::Streaming) {
        let setup = Setup::new(conf, &filter).edit("    shm_kv * 8m eviction=none;\n", "").workers(2).may_crash();
        let nginx = setup.start_at_once();
        let load = Load::new(nginx.addr(), 400).connections(8).connect_each_time().run();
        assert_eq!(load.failures(), only_503(400), "{conf}");
        eventually("the log names it", PATIENCE, || nginx.log().contains("is there a shm_kv"));
        let workers = nginx.workers();
        // It is tried again after five seconds, at a tick. That ends a VM of each worker, which may break the connection of a request
        // under way.
        let (start, mut broken) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(6) {
            let load = Load::new(nginx.addr(), 100).connections(4).connect_each_time().run();
            let refused = load.failures().get("status 503").copied().unwrap_or(0);
            assert!(load.failures().keys().all(|what| what == "status 503" || !what.starts_with("status")), "{conf}");
            broken += 100 - refused;
        }
        println!("{conf}: {broken} connections broken while it was tried again");
        assert!(broken <= 2, "{conf}: {broken}");
        assert_eq!(nginx.workers(), workers);
    }
    assert_eq!(a.requests(), 0);
}

/// A value for which there is no room ends the VM that writes it: 500. After that the size is known that is too large, and the answer
/// is 503; there are a dozen sizes.
#[test]
fn a_full_zone_takes_no_more_and_nginx_serves_on() {
    let a = Server::start("a");
    let mut filter = one_upstream(&[server(&a, "")]);
    filter["admin"] = json!({ "prefix": "/durpina", "token": "t" });
    let full = ("shm_kv * 8m eviction=none;", "shm_kv * 48k eviction=none;");
    let setup = Setup::new(Conf::Keepalive, &filter).edit(full.0, full.1);
    let nginx = setup.may_crash().start();
    let workers = nginx.workers();
    let mut client = nginx.client();
    let add = |n: usize| {
        let request = crate::support::client::Request::new("POST", "/durpina/upstreams/web/peers");
        let request = request.header("authorization", "Bearer t").header("content-type", "text/plain");
        request.body(format!("10.{}.{}.1:80 down", n / 200, n % 200))
    };
    let mut statuses = BTreeMap::new();
    let (mut n, mut refused) = (0, 0);
    let start = Instant::now();
    // Longer than a VM remembers anything by the clock.
    while refused < 50 || start.elapsed() < Duration::from_secs(12) {
        let status = client.send(&add(n)).expect("an answer").status;
        *statuses.entry(status).or_insert(0) += 1;
        if status != 201 {
            refused += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        n += 1;
        assert!(n < 20_000, "it is full at some time: {statuses:?}");
    }
    println!("answers to changes until a zone of 48k was full, and beyond: {statuses:?}");
    assert!(statuses.keys().all(|status| [201, 500, 503].contains(status)), "{statuses:?}");
    assert!(statuses.get(&500).copied().unwrap_or(0) <= 2, "{statuses:?}");
    for _ in 0..100 {
        assert_eq!(client.get("/").expect("an answer").served_by(), "a");
    }
    assert_eq!(nginx.workers(), workers);
    assert!(nginx.log().contains("full"), "the log says so");
    // A reload begins with an empty one.
    nginx.reload();
    eventually("it takes changes", PATIENCE, || nginx.client().send(&add(1)).is_ok_and(|answer| answer.status == 201));
}

#[test]
fn a_location_without_the_variable_says_so() {
    let a = Server::start("a");
    let filter = one_upstream(&[server(&a, "")]);
    let setup = Setup::new(Conf::AnyAddress, &filter);
    // Nothing declares it, and the target is fixed.
    let nginx = setup
        .edit("            set $durpina_peer durpina-unrouted;\n", "")
        .edit("map $durpina_peer $durpina_failed", "map $uri $durpina_failed")
        .edit("proxy_pass http://$durpina_peer;", &format!("proxy_pass http://{};", a.addr()))
        .start();
    for _ in 0..5 {
        assert_eq!(nginx.client().get("/").expect("an answer").status, 503, "not to whatever the location says");
    }
    assert!(nginx.log().contains("$durpina_peer"), "the log names the variable");
}

#[test]
fn what_was_declared_is_there_at_once_after_a_reload() {
    let [a, b] = ["a", "b"].map(Server::start);
    let mut nginx = start(&one_upstream(&[server(&a, "")]));
    assert_eq!(nginx.client().get("/").expect("an answer").served_by(), "a");
    nginx.update(&one_upstream(&[server(&b, "")]));
    eventually("the new configuration serves", PATIENCE, || {
        nginx.client().get("/").is_ok_and(|answer| answer.served_by() == "b")
    });
}
