//! Whose fault it was: each way in which an attempt can end, with a real client and a real server.
//!
//! A row of the [table](rows) is a [server](servers), a [client](clients), what Envoy says of the request when it is over, and what
//! durpina counts. Each is tried with the server as the only, the second and the third candidate and as the first one before a good one,
//! with and without Envoy's access log. What Envoy says is asserted as well: docs/states.md tells users of it.

mod clients;
mod rows;
mod servers;

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde_json::{json, Map, Value};

use self::clients::Visit;
use self::rows::{Row, H2_ROWS, ROWS};
use self::servers::{answers, begins_and_stalls, obliges, says, wait, Peer, Running};
use crate::support::client::Request;
use crate::support::config::Config;
use crate::support::envoy::{Envoy, Setup};
use crate::support::eventually;
use crate::support::ports::Port;
use crate::support::proxy::Proxy as _;
use crate::support::tcp::TcpServer;
use crate::PATIENCE;

/// The time that a request has whose row is about that, in seconds. All others have so much that no busy machine needs it.
const ROUTE: f64 = 1.5;
/// Longer than that.
const BEYOND: Duration = Duration::from_millis(2_200);
/// The time that a connection has, in seconds.
const CONNECT: f64 = 0.3;

const TOKEN: &str = "s3cret-t0ken";

/// What Envoy says of each request, for [`Config::lines`].
const LINE: &str =
    "%REQ(:path)%|%REQ(:authority)%|%RESPONSE_CODE%|%RESPONSE_FLAGS%|%RESPONSE_CODE_DETAILS%|%UPSTREAM_HOST%|%UPSTREAM_REQUEST_ATTEMPT_COUNT%";

/// What durpina counted: failures by upstream, peer and reason.
fn failures(envoy: &Envoy) -> BTreeMap<(String, String, String), u64> {
    let request = Request::get("/durpina/metrics").header("authorization", format!("Bearer {TOKEN}"));
    let page = envoy.client().send(&request).expect("the metrics").text();
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\"")).expect("a label");
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let lines = page.lines().filter(|line| line.starts_with("durpina_peer_failures_total{"));
    let figures = lines.map(|line| {
        let count = line.rsplit(' ').next().and_then(|figure| figure.parse().ok()).expect("a figure");
        ((label(line, "upstream"), label(line, "peer"), label(line, "reason")), count)
    });
    figures.filter(|(_, count)| *count > 0).collect()
}

/// A server of a row, with the refusing peers that are tried before it, or a good one after it.
struct Stand<'r> {
    row: &'r Row,
    upstream: String,
    before: Vec<Running>,
    server: Running,
    after: Option<Running>,
}

impl Stand<'_> {
    fn failures(&self) -> BTreeMap<(String, String, String), u64> {
        let failure =
            |peer: &Running, reason: &str| ((self.upstream.clone(), peer.addr().to_string(), reason.to_owned()), 1);
        let before = self.before.iter().map(|peer| failure(peer, "retried"));
        before.chain(self.row.counts.map(|reason| failure(&self.server, reason))).collect()
    }
}

fn prepare(config: impl Fn(&Value) -> Config, stands: &[Stand], access_log: bool) -> Config {
    let mut upstreams = Map::new();
    let mut routes = Vec::new();
    for stand in stands {
        let peers = stand
            .before
            .iter()
            .chain([&stand.server])
            .chain(&stand.after)
            .map(|peer| format!("{} max_fails=0", peer.addr()));
        let upstream = json!({ "servers": peers.collect::<Vec<_>>(), "retries": stand.before.len() + usize::from(stand.after.is_some()) });
        upstreams.insert(stand.upstream.clone(), upstream);
        routes.push(json!({ "path": format!("/{}/", stand.upstream), "upstream": stand.upstream }));
        routes.push(json!({ "host": stand.upstream, "upstream": stand.upstream }));
    }
    let filter = json!({
        "upstreams": upstreams, "routes": routes,
        "envoy": { "access_log": access_log },
        "admin": { "prefix": "/durpina", "token": TOKEN },
    });
    let retries = json!({ "retry_on": "connect-failure,refused-stream,reset", "num_retries": 2 });
    let timed = json!({ "cluster": "durpina", "timeout": format!("{ROUTE}s"), "retry_policy": retries });
    let timed = json!({ "match": { "prefix": "/timed-" }, "route": timed });
    config(&filter).route(&timed).connect_timeout(CONNECT).lines(LINE)
}

fn check(rows: &'static [Row], access_log: bool, config: impl Fn(&Value) -> Config) {
    // At position 0 it is the first one of two, the other of which is good.
    let stand = |row: &'static Row, position: usize| Stand {
        row,
        upstream: format!("{}{}-{position}", if row.is_timed() { "timed-" } else { "" }, row.name),
        before: (1..position).map(|_| Peer::Refuses.start()).collect(),
        server: row.server.start(),
        after: (position == 0).then(|| Peer::Serves(obliges).start()),
    };
    let stands: Vec<Stand> = rows.iter().flat_map(|row| (0..=3).map(move |position| stand(row, position))).collect();
    let envoy = Setup::new(prepare(config, &stands, access_log)).start();
    std::thread::scope(|scope| {
        for stand in &stands {
            let mut visit = Visit { envoy: envoy.addr(), path: format!("/{}/", stand.upstream), server: &stand.server };
            scope.spawn(move || (stand.row.client)(&mut visit));
        }
    });
    let line = |stand: &Stand| {
        let lines = envoy.lines();
        let is_its = |line: &&String| {
            line.split('|').take(2).any(|word| word.trim_matches('/').trim_end_matches(":80") == stand.upstream)
        };
        lines.iter().find(is_its).cloned()
    };
    eventually("all requests are over", PATIENCE, || stands.iter().all(|stand| line(stand).is_some()));
    let mut wrong = Vec::new();
    for stand in stands.iter().filter(|stand| stand.after.is_none()) {
        let line = line(stand).expect("a line");
        let words: Vec<&str> = line.split('|').collect();
        let (status, flags, details) = stand.row.says;
        // Set beside the others when no retry is left.
        let flags_found = words[3].trim_start_matches("URX,");
        if words[2] != status.to_string() || flags_found != flags || !words[4..].join("|").starts_with(details) {
            wrong.push(format!("{}: Envoy says {line}", stand.upstream));
        }
    }
    let expected: BTreeMap<_, u64> = stands.iter().flat_map(Stand::failures).collect();
    let mut found = failures(&envoy);
    for stand in stands.iter().filter(|stand| stand.after.is_some()) {
        // Of an attempt that was repeated Envoy does not say how it failed.
        let key = |reason: &str| (stand.upstream.clone(), stand.server.addr().to_string(), reason.to_owned());
        if let (Some(reason), Some(count)) = (stand.row.counts, found.remove(&key("retried"))) {
            found.insert(key(reason), count);
        }
    }
    for (failure, count) in &found {
        if expected.get(failure) != Some(count) {
            wrong.push(format!("counted {count} times, and should not be: {failure:?}"));
        }
    }
    wrong.extend(
        expected
            .keys()
            .filter(|failure| !found.contains_key(failure))
            .map(|failure| format!("not counted: {failure:?}")),
    );
    assert!(wrong.is_empty(), "access log: {access_log}\n{}", wrong.join("\n"));
}

fn http1(filter: &Value) -> Config {
    let tunnel = json!({
        "match": { "connect_matcher": {} },
        "route": { "cluster": "durpina", "upgrade_configs": [{ "upgrade_type": "CONNECT", "connect_config": {} }],
            "timeout": "0s", "retry_policy": { "retry_on": "connect-failure", "num_retries": 2 } },
    });
    Config::reference(filter).upgrades().route(&tunnel)
}

#[test]
fn each_way_in_which_an_attempt_ends() {
    check(ROWS, true, http1);
}

#[test]
fn each_way_in_which_an_attempt_ends_without_the_access_log() {
    check(ROWS, false, http1);
}

#[test]
fn each_way_in_which_an_attempt_over_http2_ends() {
    for access_log in [true, false] {
        check(H2_ROWS, access_log, Config::http2);
    }
}

/// Requests whose route in the filter JSON names an upstream, and whose route in Envoy leads elsewhere.
fn elsewhere(access_log: bool) {
    // Three candidates, so that what is tried again elsewhere could be taken for a second and third.
    let ours = [(); 3].map(|()| Peer::Serves(answers).start());
    let theirs =
        Peer::Serves(|mut stream| says(&mut stream, b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")).start();
    let redirects = b"HTTP/1.1 302 Found\r\nlocation: http://test/direct/\r\ncontent-length: 0\r\n\r\n";
    let redirecting = TcpServer::start(move |mut stream| says(&mut stream, redirects));
    let dead = Port::free();
    let upstream = |servers: &[SocketAddr]| {
        let servers: Vec<String> = servers.iter().map(|server| format!("{server} max_fails=0")).collect();
        json!({ "servers": servers, "fail_codes": "302 404 503" })
    };
    let filter = json!({
        "upstreams": {
            "web": upstream(&ours.each_ref().map(Running::addr)),
            "redirecting": upstream(&[redirecting.addr()]),
        },
        "routes": [{ "prefix": "/redirected/", "upstream": "redirecting" }, { "prefix": "/", "upstream": "web" },
            { "host": "nowhere", "upstream": "web" }],
        "envoy": { "access_log": access_log },
        "admin": { "prefix": "/durpina", "token": TOKEN },
    });
    let to = |prefix: &str, route: Value| {
        let mut route = json!({ "match": { "prefix": prefix }, "route": route });
        route["route"]["retry_policy"] = json!({ "retry_on": "connect-failure,reset,5xx", "num_retries": 2 });
        route
    };
    let weighted = json!([{ "name": "dead", "weight": 50 }, { "name": "durpina", "weight": 50 }]);
    let redirected = json!({ "cluster": "durpina", "internal_redirect_policy": { "redirect_response_codes": [302] } });
    let config = Config::reference(&filter)
        .cluster_of("dead", &[dead.addr()])
        .cluster_of("busy", &[theirs.addr()])
        .route(&to("/legacy/", json!({ "cluster": "dead" })))
        .route(&to("/busy/", json!({ "cluster": "busy" })))
        .route(&to("/weighted/", json!({ "weighted_clusters": { "clusters": weighted } })))
        .route(&to("/nowhere/", json!({ "cluster_header": "x-nowhere" })))
        .route(&json!({ "match": { "prefix": "/direct/" }, "direct_response": { "status": 503 } }))
        .route(&to("/redirected/", redirected))
        .upgrades()
        .lines(LINE);
    let envoy = Setup::new(config).start();
    let status = |path: &str| envoy.client().get(path).expect("an answer").status;
    for path in ["/legacy/", "/busy/", "/nowhere/", "/direct/", "/redirected/"] {
        assert_eq!(status(path), 503, "{path}");
    }
    let tunnel = envoy.client().send_bytes(b"CONNECT nowhere:80 HTTP/1.1\r\nhost: nowhere:80\r\n\r\n", true);
    assert_eq!(tunnel.expect("an answer").status, 404, "no route");
    let mut weighted: Vec<u16> = (0..40).map(|_| status("/weighted/")).collect();
    weighted.sort_unstable();
    weighted.dedup();
    assert_eq!(weighted, [200, 503], "both clusters are asked");
    eventually("all requests are over", PATIENCE, || envoy.lines().len() >= 47);
    assert_eq!(failures(&envoy), BTreeMap::new(), "access log: {access_log}\n{}", envoy.lines().join("\n"));
}

#[test]
fn what_goes_elsewhere_is_no_candidate_s_failure() {
    [true, false].into_iter().for_each(elsewhere);
}

/// Servers, what is particular about their route, what Envoy says, and the reasons that count: one for each server, none for those
/// that are not to blame.
struct Journey {
    name: &'static str,
    servers: &'static [Peer],
    route: fn(&mut Value),
    says: &'static str,
    counts: &'static [&'static str],
}

const HANGS: Peer = Peer::Serves(|mut stream| wait(&mut stream));
const STALLS: Peer = Peer::Serves(begins_and_stalls);
const ANSWERS: Peer = Peer::Serves(answers);
const BUSY: Peer = Peer::Serves(|mut stream| says(&mut stream, b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"));

fn per_try(route: &mut Value) {
    route["retry_policy"]["per_try_timeout"] = "0.4s".into();
}

fn per_try_idle(route: &mut Value) {
    route["retry_policy"]["per_try_idle_timeout"] = "0.2s".into();
}

fn idle(route: &mut Value) {
    route["idle_timeout"] = "0.2s".into();
}

fn longest_stream(route: &mut Value) {
    route["max_stream_duration"] = json!({ "max_stream_duration": "0.2s" });
}

#[rustfmt::skip]
const JOURNEYS: &[Journey] = &[
    Journey { name: "connecting-1", servers: &[Peer::Silent], route: |_| {}, says: "504|UT|response_timeout", counts: &["timeout"] },
    Journey { name: "connecting-2", servers: &[Peer::Refuses, Peer::Silent], route: |_| {},
        says: "504|UT|response_timeout", counts: &["retried", "timeout"] },
    Journey { name: "connecting-3", servers: &[Peer::Refuses, Peer::Refuses, Peer::Silent], route: |_| {},
        says: "504|UT|response_timeout", counts: &["retried", "retried", "timeout"] },
    Journey { name: "more-retries-than-candidates", servers: &[Peer::Refuses, Peer::Refuses, Peer::Refuses],
        route: |route| route["retry_policy"]["num_retries"] = 5.into(),
        says: "503|UH|no_healthy_upstream", counts: &["retried", "retried", "retried"] },
    Journey { name: "per-try", servers: &[HANGS, ANSWERS], route: per_try, says: "200|-|via_upstream", counts: &["retried", ""] },
    Journey { name: "per-try-last", servers: &[HANGS, HANGS], route: per_try,
        says: "504|URX,UT|upstream_per_try_timeout", counts: &["retried", "timeout"] },
    Journey { name: "per-try-idle", servers: &[HANGS], route: per_try_idle, says: "504|URX,UT|upstream_per_try_idle_timeout", counts: &[""] },
    Journey { name: "per-try-idle-stalls", servers: &[STALLS], route: per_try_idle,
        says: "200|UT|upstream_per_try_idle_timeout", counts: &[""] },
    Journey { name: "idle", servers: &[HANGS], route: idle, says: "504|SI|stream_idle_timeout", counts: &[""] },
    Journey { name: "idle-stalls", servers: &[STALLS], route: idle, says: "200|SI|stream_idle_timeout", counts: &[""] },
    Journey { name: "longest-stream", servers: &[HANGS], route: longest_stream, says: "504|-|max_duration_timeout", counts: &[""] },
    Journey { name: "longest-stream-stalls", servers: &[STALLS], route: longest_stream, says: "200|-|max_duration_timeout", counts: &[""] },
    Journey { name: "answer-that-is-retried", servers: &[BUSY, ANSWERS], route: |route| route["retry_policy"]["retry_on"] = "5xx".into(),
        says: "200|-|via_upstream", counts: &["retried", ""] },
    Journey { name: "answer-that-is-not-retried", servers: &[BUSY, ANSWERS], route: |_| {}, says: "503|-|via_upstream", counts: &["", ""] },
];

fn journeys(access_log: bool) {
    let running: Vec<Vec<Running>> =
        JOURNEYS.iter().map(|journey| journey.servers.iter().map(Peer::start).collect()).collect();
    let mut upstreams = Map::new();
    let mut routes = Vec::new();
    for (journey, servers) in JOURNEYS.iter().zip(&running) {
        let servers: Vec<String> = servers.iter().map(|server| format!("{} max_fails=0", server.addr())).collect();
        upstreams.insert(journey.name.to_owned(), json!({ "servers": servers }));
        routes.push(json!({ "path": format!("/{}/", journey.name), "upstream": journey.name }));
    }
    let filter = json!({
        "upstreams": upstreams, "routes": routes,
        "envoy": { "access_log": access_log },
        "admin": { "prefix": "/durpina", "token": TOKEN },
    });
    let config =
        JOURNEYS.iter().fold(Config::reference(&filter).connect_timeout(10.0).lines(LINE), |config, journey| {
            let retries = json!({ "retry_on": "connect-failure,reset", "num_retries": 2 });
            let mut route = json!({ "cluster": "durpina", "timeout": format!("{ROUTE}s"), "retry_policy": retries });
            (journey.route)(&mut route);
            config.route(&json!({ "match": { "path": format!("/{}/", journey.name) }, "route": route }))
        });
    let envoy = Setup::new(config).start();
    std::thread::scope(|scope| {
        for journey in JOURNEYS {
            let mut client = envoy.client();
            scope.spawn(move || client.get(&format!("/{}/", journey.name)));
        }
    });
    eventually("all requests are over", PATIENCE, || envoy.lines().len() >= JOURNEYS.len());
    let (lines, found) = (envoy.lines(), failures(&envoy));
    for (journey, servers) in JOURNEYS.iter().zip(&running) {
        let line = lines.iter().find(|line| line.starts_with(&format!("/{}/|", journey.name))).expect("a line");
        assert!(line.contains(&format!("|{}|", journey.says)), "{}: Envoy says {line}", journey.name);
        let expected = servers.iter().zip(journey.counts).filter(|(_, reason)| !reason.is_empty());
        let expected = expected.map(|(server, reason)| (server.addr().to_string(), (*reason).to_owned()));
        let mut expected: Vec<(String, String)> = expected.collect();
        let counted = found.keys().filter(|(upstream, ..)| upstream == journey.name);
        let mut counted: Vec<_> = counted.map(|(_, peer, reason)| (peer.clone(), reason.clone())).collect();
        expected.sort();
        counted.sort();
        assert_eq!(counted, expected, "{}, access log: {access_log}", journey.name);
    }
    assert!(found.values().all(|count| *count == 1), "{found:?}");
}

#[test]
fn each_timeout_and_each_retry() {
    [true, false].into_iter().for_each(journeys);
}

/// Envoy's own limits are nobody's failure.
#[test]
fn no_room_for_a_request_counts_for_nothing() {
    let [a, b] = [(); 2].map(|()| Peer::Serves(answers).start());
    for access_log in [true, false] {
        let servers = [&a, &b].map(|server| format!("{} max_fails=0", server.addr()));
        let filter = json!({
            "upstreams": { "web": { "servers": servers } }, "upstream": "web",
            "envoy": { "access_log": access_log }, "admin": { "prefix": "/durpina", "token": TOKEN },
        });
        let envoy = Setup::new(Config::reference(&filter).no_room().lines(LINE)).start();
        assert_eq!(envoy.client().get("/").expect("an answer").status, 503);
        eventually("the request is over", PATIENCE, || !envoy.lines().is_empty());
        let line = envoy.lines().remove(0);
        assert!(line.contains("|503|UO|upstream_reset_before_response_started{overflow}|"), "Envoy says {line}");
        assert_eq!(failures(&envoy), BTreeMap::new());
    }
}

/// What Envoy writes as an address is what was offered.
#[test]
fn a_failure_of_an_ipv6_address_finds_its_peer() {
    let Ok(dead) = Port::free_on(Ipv6Addr::LOCALHOST) else { return };
    let filter = json!({
        "upstreams": { "web": { "servers": [format!("{} max_fails=0", dead.addr())] } }, "upstream": "web",
        "envoy": { "access_log": true }, "admin": { "prefix": "/durpina", "token": TOKEN },
    });
    let envoy = Setup::new(Config::reference(&filter)).start();
    assert_eq!(envoy.client().get("/").expect("an answer").status, 503);
    let failure = ("web".to_owned(), dead.addr().to_string(), "connect".to_owned());
    eventually("it is counted", PATIENCE, || failures(&envoy).contains_key(&failure));
}
