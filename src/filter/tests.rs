//! What happens to requests, on the simulated host.

use std::cell::RefCell;
use std::collections::HashMap;

use super::*;
use crate::handle::peer::Peer;
use crate::handle::upstream;
use crate::host::{Expect, Failure};
use crate::model::admin_state::AdminState;
use crate::model::failure_table::FailureTable;
use crate::model::overrides::Overrides;
use crate::model::selector::Selector;
use crate::model::state::PeerState;
use crate::store::Store;
use crate::testing::test;
use durpina_sim::{Answer, Behaviour, Sent, Sim};

type Worker = durpina_sim::Worker<Filter>;

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";
const C: &str = "10.0.0.3:80";

/// A configuration with these servers in one upstream.
fn config(servers: &str) -> String {
    format!(r#"{{"upstreams": {{"u": {{"servers": [{servers}]}}}}, "upstream": "u"}}"#)
}

fn three() -> String {
    config(&format!("\"{A}\", \"{B}\", \"{C}\""))
}

fn worker(sim: &Sim, config: &str) -> Worker {
    Worker::start(sim, config).unwrap()
}

fn get(worker: &mut Worker) -> Answer {
    worker.send(Sent::get("/"))
}

fn served(worker: &mut Worker, requests: usize) -> Vec<String> {
    (0..requests).map(|_| get(worker).by().to_owned()).collect()
}

fn peer<'h>(worker: &'h Worker, name: &str) -> Peer<'h> {
    upstream::Upstream::get(Store::new(&worker.host), &Registry::default(), "u")
        .unwrap()
        .unwrap()
        .get_peer(name)
        .unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn weights_spread_requests_smoothly() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &config(&format!("\"{A} weight=5\", \"{B}\", \"{C}\"")));
    assert_eq!(served(&mut worker, 14), [A, A, B, A, C, A, A, A, A, B, A, C, A, A]);
}

#[test]
fn a_failed_attempt_is_retried_counted_and_takes_the_peer_out_for_all_workers() {
    let sim = Sim::new();
    sim.server(A, Behaviour::Fails(Failure::Connect));
    let (mut one, mut two) = (worker(&sim, &three()), worker(&sim, &three()));
    assert!(
        matches!(get(&mut two), Answer::Served { attempts: 2, .. }),
        "the second worker starts with the dead peer too"
    );
    for answer in (0..30).map(|_| get(&mut one)).chain((0..30).map(|_| get(&mut two))) {
        assert!(matches!(&answer, Answer::Served { attempts: 1, by, .. } if by != A), "{answer:?}");
    }
    let lines = sim.logged("peer state:");
    assert_eq!(lines.len(), 1);
    assert!(
        lines[0].starts_with("peer state: upstream=u peer=10.0.0.1:80 from=up to=temporary_down by=passive why="),
        "{lines:?}"
    );
}

/// A worker's VM ends after it wrote that an outage is over, and before it told of the upstream.
#[test]
fn a_state_of_which_nobody_told_is_told_at_the_next_pick() {
    let sim = Sim::new();
    let (mut one, mut two) = (worker(&sim, &three()), worker(&sim, &three()));
    get(&mut two);
    sim.server(A, Behaviour::Fails(Failure::Connect));
    (0..3).for_each(|_| drop(get(&mut one)));
    assert_eq!(sim.logged("upstream state:").len(), 1);
    let key = sim.keys().into_iter().find(|key| key.contains("/health/")).unwrap();
    let stored = one.host.read(&key).unwrap().unwrap();
    one.host.write(&key, &FailureTable::default().encode(), Expect::Cas(stored.cas)).unwrap();
    get(&mut two);
    let told = sim.logged("upstream state:");
    assert!(told.last().unwrap().contains("from=degraded to=up"), "{told:?}");
}

#[test]
fn a_peer_comes_back_by_itself_and_one_worker_says_so() {
    let sim = Sim::new();
    sim.server(A, Behaviour::Fails(Failure::Timeout));
    let mut workers = [worker(&sim, &three()), worker(&sim, &three())];
    get(&mut workers[0]);
    sim.server(A, Behaviour::Answers(200));
    sim.advance(Duration::from_millis(9_999));
    assert!(workers.iter_mut().all(|worker| !served(worker, 9).contains(&A.to_owned())));
    sim.advance(Duration::from_millis(1));
    assert!(workers.iter_mut().all(|worker| served(worker, 9).contains(&A.to_owned())));
    assert_eq!(sim.logged("from=temporary_down to=up by=passive").len(), 1);
}

/// The other peers are well, so nothing makes the filter try harder than one request at a time.
#[test]
fn a_peer_that_comes_back_is_on_trial_until_it_answers() {
    for reports in [false, true] {
        let sim = Sim::new();
        if reports {
            sim.report_failures();
        }
        sim.server(A, Behaviour::Fails(Failure::Timeout));
        let mut worker = worker(&sim, &three());
        get(&mut worker);
        sim.advance(Duration::from_secs(10));
        assert_eq!(peer(&worker, A).state(), PeerState::TemporaryDown, "nobody knows yet");
        // The request on trial is under way, and others go elsewhere.
        let (mut open, mut trials) = (Vec::new(), 0);
        for _ in 0..9 {
            let (_, exchange) = worker.begin(Sent::get("/"));
            trials += usize::from(worker.host.offered().first().is_some_and(|first| first == A));
            open.push(exchange);
        }
        assert_eq!(trials, 1);
        open.iter_mut().for_each(|exchange| worker.end(exchange));
        assert_eq!(sim.logged(&format!("peer={A} from=")).len(), 1, "failing the trial is the same outage");
        sim.server(A, Behaviour::Answers(200));
        sim.advance(Duration::from_secs(10));
        assert!(served(&mut worker, 9).contains(&A.to_owned()));
        assert_eq!(peer(&worker, A).state(), PeerState::Up);
        let lines = sim.logged(&format!("peer={A} from=temporary_down to=up by=passive"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("why=\"a request was answered\""));
    }
}

/// The worker whose request it is has read nothing since it began.
#[test]
fn what_was_said_of_a_peer_while_a_request_was_under_way_counts_for_what_the_log_says() {
    let sim = Sim::new();
    let (mut one, other) = (worker(&sim, &three()), worker(&sim, &three()));
    let lines = |sim: &Sim| sim.logged(&format!("peer={A} from="));
    sim.server(A, Behaviour::Fails(Failure::Timeout));
    let (_, mut request) = one.begin(Sent::get("/"));
    peer(&other, A).set_state(AdminState::Down).unwrap();
    one.end(&mut request);
    assert_eq!(lines(&sim).len(), 1, "it was down already: {:?}", lines(&sim));

    peer(&other, A).set_state(AdminState::Up).unwrap();
    let (_, mut request) = loop {
        let begun = one.begin(Sent::get("/"));
        if one.host.offered()[0] == A {
            break begun;
        }
    };
    peer(&other, A).set_state(AdminState::Down).unwrap();
    peer(&other, A).set_state(AdminState::Up).unwrap();
    one.end(&mut request);
    assert_eq!((lines(&sim).len(), peer(&other, A).state()), (4, PeerState::Up), "{:?}", lines(&sim));
}

#[test]
fn a_trial_that_ends_after_an_order_is_not_told_as_its_end() {
    let sim = Sim::new();
    let (mut one, other) = (worker(&sim, &three()), worker(&sim, &three()));
    sim.server(A, Behaviour::Fails(Failure::Timeout));
    get(&mut one);
    sim.server(A, Behaviour::Answers(200));
    sim.advance(Duration::from_secs(10));
    let (_, mut trial) = loop {
        let begun = one.begin(Sent::get("/"));
        if one.host.offered()[0] == A {
            break begun;
        }
    };
    peer(&other, A).set_state(AdminState::Down).unwrap();
    one.end(&mut trial);
    let lines = sim.logged(&format!("peer={A} from="));
    assert!(lines.len() == 2 && lines[1].contains("to=down by=script"), "{lines:?}");
    assert_eq!(peer(&other, A).state(), PeerState::Down);
}

/// Half of the servers are dead, and everybody knows: all that is lost of a trial is an attempt.
#[test]
fn who_tries_a_peer_has_others_left() {
    for balancer in ["round-robin", "random", "least-conn", "least-time", "ip-hash"] {
        let sim = Sim::new();
        let names: Vec<String> = (1..=6).map(|n| format!("10.0.0.{n}:80")).collect();
        let text = config(&format!("\"{}\"", names.join("\", \"")));
        let more = format!(r#"], "max_ejected_percent": 100, "balancer": "{balancer}"}}}}"#);
        let mut worker = worker(&sim, &text.replace("]}}", &more));
        names[..3].iter().for_each(|name| sim.server(name, Behaviour::Fails(Failure::Connect)));
        let send = |worker: &mut Worker, n: u32| worker.send(Sent::get("/").client(&format!("192.0.2.{}", n % 200)));
        (0..200).for_each(|n| drop(send(&mut worker, n)));
        let mut trials = 0;
        for n in 0..2_000 {
            sim.advance(Duration::from_millis(50));
            let answer = send(&mut worker, n);
            assert!(matches!(answer, Answer::Served { attempts: 1 | 2, .. }), "{balancer}: {answer:?}");
            trials += u32::from(matches!(answer, Answer::Served { attempts: 2, .. }));
        }
        assert!(trials > 9, "{balancer}: {trials}");
    }
}

/// Event streams: new ones come all the time, and none of them ends.
#[test]
fn requests_that_go_on_keep_no_outage_alive() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &config(&format!("\"{A}\", \"{B}\"")));
    sim.server(A, Behaviour::Fails(Failure::Reset));
    get(&mut worker);
    sim.server(A, Behaviour::Answers(200));
    let mut open = Vec::new();
    for _ in 0..90 {
        sim.advance(seconds(1));
        open.push(worker.begin(Sent::get("/")));
    }
    assert_eq!(peer(&worker, A).state(), PeerState::Up);
    let lines = sim.logged(&format!("peer={A} from=temporary_down"));
    assert!(lines.len() == 1 && lines[0].contains("why=\"a request on trial goes on\""), "{lines:?}");
}

/// Of a single server none goes, and a request that fails now and then is no outage of ten seconds.
#[test]
fn a_peer_that_is_kept_in_use_is_up_again_by_an_answer_a_second_later() {
    for reports in [false, true] {
        let sim = Sim::new();
        if reports {
            sim.report_failures();
        }
        let mut worker = worker(&sim, &config(&format!("\"{A}\"")));
        sim.server(A, Behaviour::Fails(Failure::Reset));
        get(&mut worker);
        sim.server(A, Behaviour::Answers(200));
        get(&mut worker);
        assert_eq!(peer(&worker, A).state(), PeerState::TemporaryDown, "not at once: it may fail every other request");
        sim.advance(Duration::from_secs(1));
        get(&mut worker);
        assert_eq!(peer(&worker, A).state(), PeerState::Up);
        let told = sim.logged("upstream state");
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[1].contains("from=down to=up by=passive why=\"peer 10.0.0.1:80: a request was answered\""),
            "{told:?}"
        );
    }
}

#[test]
fn an_outage_that_no_request_could_end_is_forgotten() {
    let sim = Sim::new();
    sim.server(A, Behaviour::Fails(Failure::Timeout));
    let mut worker = worker(&sim, &three());
    get(&mut worker);
    sim.advance(Duration::from_millis(19_900));
    assert_eq!(peer(&worker, A).state(), PeerState::TemporaryDown);
    sim.advance(Duration::from_millis(200));
    assert_eq!(peer(&worker, A).state(), PeerState::Up);
    get(&mut worker);
    assert_eq!(sim.logged("to=up by=passive why=\"no request came to try it\"").len(), 1);
    assert_eq!(sim.logged("upstream state: upstream=u from=degraded to=up").len(), 1);
}

#[test]
fn the_last_failed_attempt_counts_too() {
    let sim = Sim::new();
    for server in [A, B, C] {
        sim.server(server, Behaviour::Fails(Failure::Reset));
    }
    let text = config(&format!("\"{A}\", \"{B}\", \"{C}\""))
        .replace("\"servers\"", "\"max_ejected_percent\": 100, \"servers\"");
    let mut worker = worker(&sim, &text);
    assert_eq!(get(&mut worker), Answer::Failed { attempts: 3 });
    let upstream = upstream::Upstream::get(Store::new(&worker.host), &Registry::default(), "u").unwrap().unwrap();
    let state = |name| upstream.get_peer(name).unwrap().state();
    assert_eq!([A, B, C].map(state), [PeerState::TemporaryDown; 3]);
    drop(upstream);
    sim.server(B, Behaviour::Answers(200));
    peer(&worker, C).set_state(AdminState::Down).unwrap();
    assert!((0..3).any(|_| get(&mut worker).by() == B), "who is temporarily down is tried rather than refusing");
}

#[test]
fn failures_that_the_host_reports_count_just_as_well() {
    for configured in [true, false] {
        let sim = Sim::new();
        sim.report_failures();
        sim.server(A, Behaviour::Fails(Failure::Connect));
        let text = format!(
            r#"{{"upstreams": {{"u": {{"servers": ["{A}", "{B}", "{C}"], "fail_codes": "500", "max_ejected_percent": 100}}}}, "upstream": "u",
            "envoy": {{"access_log": {configured}}}}}"#
        );
        let mut worker = worker(&sim, &text);
        get(&mut worker);
        assert!(peer(&worker, A).is_down(crate::handle::peer::DownKind::Temporary));
        sim.server(B, Behaviour::Answers(500));
        served(&mut worker, 2);
        assert!(peer(&worker, B).is_down(crate::handle::peer::DownKind::Temporary), "an answer is reported by nobody");
        assert!(!peer(&worker, C).is_failing());
    }
}

#[test]
fn real_answers_are_no_failures_unless_the_upstream_says_so() {
    let sim = Sim::new();
    sim.server(A, Behaviour::Answers(503));
    let mut one = worker(&sim, &config(&format!("\"{A}\"")));
    served(&mut one, 5);
    assert!(!peer(&one, A).is_failing());

    let sim = Sim::new();
    sim.server(A, Behaviour::Answers(503));
    let text =
        format!(r#"{{"upstreams": {{"u": {{"servers": ["{A}", "{B}"], "fail_codes": "5xx"}}}}, "upstream": "u"}}"#);
    let mut two = worker(&sim, &text);
    assert_eq!(get(&mut two), Answer::served(A, 503));
    assert_eq!(served(&mut two, 3), [B, B, B]);
}

#[test]
fn no_usable_peer_is_answered_at_once() {
    for servers in ["", "\"0.0.0.0\"", "\"10.0.0.1 down\", \"10.0.0.2 drain\""] {
        let sim = Sim::new();
        let Answer::Refused(503, body) = get(&mut worker(&sim, &config(servers))) else { panic!("{servers}") };
        let document: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(document["status"], 503);
        assert!(document["detail"].as_str().unwrap().contains("usable"));
    }
}

#[test]
fn what_a_client_sends_is_gone_on_every_path() {
    let sim = Sim::new();
    let text = format!(
        r#"{{"upstreams": {{"u": {{"servers": ["{A}"]}}}}, "routes": [{{"prefix": "/u", "upstream": "u"}},
        {{"prefix": "/none", "upstream": "none"}}]}}"#
    );
    let mut worker = worker(&sim, &text);
    for path in ["/u", "/none", "/elsewhere", ""] {
        // `Worker::send` fails if the filter offers nothing, not even an empty list.
        let answer = worker.send(Sent::get(path));
        assert_eq!(
            worker.host.offered(),
            if path == "/u" { vec![A.to_owned()] } else { Vec::new() },
            "{path}: {answer:?}"
        );
    }
}

#[test]
fn upstreams_by_variable_do_not_grow_anything() {
    let sim = Sim::new();
    let text = format!(
        r#"{{"upstreams": {{"red": {{"servers": ["{A}"]}}, "blue": {{"servers": ["{B}"]}}}},
        "routes": [{{"regex": "^/p/([a-z]+)", "upstream": "$1"}}, {{"prefix": "/", "upstream": "$http_pool"}}]}}"#
    );
    let mut worker = worker(&sim, &text);
    assert_eq!(worker.send(Sent::get("/p/blue/x")).by(), B);
    assert_eq!(worker.send(Sent::get("/").header("pool", "red")).by(), A);
    let keys = sim.keys();
    for n in 0..100 {
        assert!(matches!(worker.send(Sent::get("/").header("pool", &format!("none{n}"))), Answer::Refused(503, _)));
    }
    assert_eq!(sim.keys(), keys);
    assert_eq!(worker.filter.directory.len(), 2);
}

#[test]
fn a_configuration_writes_nothing_before_it_is_used() {
    let sim = Sim::new();
    let mut one = worker(&sim, &three());
    assert_eq!(sim.writes(), 0, "a host that tries a configuration leaves no trace");
    one.tick();
    let written = sim.writes();
    assert!(written > 0);
    let mut two = worker(&sim, &three());
    two.tick();
    get(&mut two);
    assert_eq!(sim.writes(), written, "the second worker finds it declared");
}

/// Envoy goes on with the filter of a configuration that comes back while its old connections drain.
#[test]
fn a_configuration_that_comes_back_without_a_word_counts_again() {
    let sim = Sim::new();
    let (a, b) = (config(&format!("\"{A}\"")), config(&format!("\"{B}\"")));
    let mut first = worker(&sim, &a);
    first.tick();
    assert_eq!(first.send(Sent::get("/").connection(1)).by(), A);
    let mut second = worker(&sim, &b);
    second.tick();
    assert_eq!(second.send(Sent::get("/").connection(5)).by(), B);
    sim.advance(seconds(1));
    first.tick();
    assert_eq!(first.send(Sent::get("/").connection(2)).by(), B, "an old connection that drains");
    assert_eq!(first.send(Sent::get("/").connection(6)).by(), A, "a new one: this is the configuration again");
    sim.advance(seconds(1));
    second.tick();
    assert_eq!(second.send(Sent::get("/").connection(5)).by(), A);
    assert_eq!(second.send(Sent::get("/").connection(7)).by(), B, "and so on");
}

#[test]
fn what_was_put_in_a_removed_server_s_place_survives_other_changes() {
    let sim = Sim::new();
    let mut first = worker(&sim, &three());
    first.tick();
    let mut handle = upstream::Upstream::get(Store::new(&first.host), &Registry::default(), "u").unwrap().unwrap();
    let removed = handle.get_peer(B).unwrap();
    handle.remove_peer(&removed).unwrap();
    handle.add_peer(format!("{B} weight=9").as_str()).unwrap();
    let mut next = worker(&sim, &three().replace("\"servers\"", "\"retries\": 1, \"servers\""));
    next.tick();
    assert_eq!(peer(&next, B).get_weight(), 9, "the configuration did not change it");
    let mut last = worker(&sim, &three().replace(&format!("\"{B}\""), &format!("\"{B} weight=4\"")));
    last.tick();
    assert_eq!(peer(&last, B).get_weight(), 4, "now it did");
}

#[test]
fn a_refused_configuration_changes_nothing_and_names_its_errors() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &three());
    get(&mut worker);
    let before = sim.writes();
    assert!(Worker::start(&sim, &config("\"10.0.0.1 weight=0\", \"10.0.0.2 weight=0\"")).is_err());
    assert_eq!(sim.writes(), before);
    assert_eq!(sim.logged("weight: expected an integer from 1 to 65535, found 0").len(), 2);
    assert!(matches!(get(&mut worker), Answer::Served { .. }));
    let host = sim.worker();
    assert_eq!(Filter::refused().request(&host, false).0, Outcome::Answered, "a host that goes on gets 503");
}

#[test]
fn a_thousand_upstreams_are_declared_without_holding_up_requests() {
    let sim = Sim::new();
    let upstreams: Vec<String> = (0..1_000).map(|n| format!(r#""u{n}": {{"servers": ["{A}"]}}"#)).collect();
    let text = format!(
        r#"{{"upstreams": {{{}}}, "routes": [{{"regex": "^/(.*)$", "upstream": "$1"}}]}}"#,
        upstreams.join(",")
    );
    let mut worker = worker(&sim, &text);
    assert_eq!(worker.send(Sent::get("/u999")).by(), A, "a request does not wait for the ticks");
    let mut ticks = 1;
    while worker.tick() < Duration::from_secs(1) {
        ticks += 1;
        assert!(ticks < 100);
    }
    assert_eq!(sim.keys().iter().filter(|key| key.contains("/upstream/")).count(), 1_000);
}

#[test]
fn another_instance_s_upstream_can_be_used() {
    let sim = Sim::new();
    let mut user = Worker::named(&sim, "user", r#"{"upstream": "u"}"#).unwrap();
    assert!(matches!(get(&mut user), Answer::Refused(503, _)));
    Worker::named(&sim, "owner", &three()).unwrap().tick();
    assert_eq!(get(&mut user).by(), A);
}

#[test]
fn two_instances_that_differ_are_both_named() {
    let sim = Sim::new();
    let mut red = Worker::named(&sim, "red", &config(&format!("\"{A}\""))).unwrap();
    let mut blue = Worker::named(&sim, "blue", &config(&format!("\"{B}\""))).unwrap();
    red.tick();
    blue.tick();
    let lines = sim.logged("defined differently");
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("\"red\"") && lines[0].contains("\"blue\""), "{lines:?}");
    assert_eq!((get(&mut red).by(), get(&mut blue).by()), (B, B), "the later one counts");
    let mut again = Worker::named(&sim, "red", &config(&format!("\"{A}\""))).unwrap();
    again.tick();
    assert_eq!(get(&mut again).by(), B, "another worker of the first is not a later configuration");
}

#[test]
fn a_configuration_wins_where_it_changed_and_only_there() {
    let sim = Sim::new();
    let first = worker(&sim, &config(&format!("\"{A} weight=2\", \"{B} weight=2\", \"{C} weight=2\"")));
    let mut first = first;
    get(&mut first);
    peer(&first, A).set_weight(7).unwrap();
    peer(&first, B).set_weight(7).unwrap();
    let mut upstream = upstream::Upstream::get(Store::new(&first.host), &Registry::default(), "u").unwrap().unwrap();
    upstream.add_peer("10.0.0.9:80 weight=4").unwrap();
    let c = upstream.get_peer(C).unwrap();
    upstream.remove_peer(&c).unwrap();
    drop((upstream, c));

    let mut second =
        worker(&sim, &config(&format!("\"{A} weight=3\", \"{B} weight=2\", \"{C} weight=2\", \"10.0.0.4:80\"")));
    second.tick();
    let upstream = upstream::Upstream::get(Store::new(&second.host), &Registry::default(), "u").unwrap().unwrap();
    let all: Vec<(String, u16, u16)> = upstream
        .get_peers(Selector::All)
        .iter()
        .map(|p| (p.name().to_owned(), p.get_weight(), p.initial_weight()))
        .collect();
    let expected = [(A, 3, 3), (B, 7, 2), ("10.0.0.4:80", 1, 1), ("10.0.0.9:80", 4, 4)];
    assert_eq!(all, expected.map(|(name, weight, initial)| (name.to_owned(), weight, initial)));
}

#[test]
fn a_rolled_back_configuration_counts_again() {
    let sim = Sim::new();
    for (weight, expected) in [(1, 1), (2, 2), (1, 1)] {
        let mut worker = worker(&sim, &config(&format!("\"{A} weight={weight}\"")));
        worker.tick();
        assert_eq!(peer(&worker, A).get_weight(), expected);
    }
}

#[test]
fn a_peer_that_is_added_again_starts_fresh() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &three());
    get(&mut worker);
    let mut old = peer(&worker, A);
    old.set_weight(9).unwrap();
    old.add_fail().unwrap();
    assert!(old.is_down(crate::handle::peer::DownKind::Temporary));
    let mut upstream = old.get_upstream().unwrap().unwrap();
    upstream.remove_peer(&old).unwrap();
    let new = upstream.add_peer(A).unwrap();
    assert_eq!((new.get_weight(), new.is_failing()), (1, false));
    assert!(old.set_weight(3).is_err(), "the old handle means the old peer");
    assert!(upstream.remove_peer(&old).is_err());
    assert_eq!(peer(&worker, A).get_weight(), 1);
}

#[test]
fn the_operator_s_order_stands_until_the_operator_lifts_it() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &three());
    get(&mut worker);
    peer(&worker, A).set_state(AdminState::Down).unwrap();
    peer(&worker, B).set_state(AdminState::Drain).unwrap();
    assert_eq!(served(&mut worker, 3), [C, C, C], "at the very next request");
    sim.advance(seconds(3_600));
    worker.tick();
    assert_eq!(served(&mut worker, 3), [C, C, C]);
    peer(&worker, C).set_state(AdminState::TemporaryDown).unwrap();
    assert_eq!(served(&mut worker, 2), [C, C], "the last resort is who is only temporarily down");
    peer(&worker, A).set_state(AdminState::Up).unwrap();
    assert_eq!(served(&mut worker, 2), [A, A]);
    sim.advance(seconds(10));
    let all = served(&mut worker, 4);
    assert!(all.contains(&A.to_owned()) && all.contains(&C.to_owned()), "a temporary order ends by itself: {all:?}");
}

#[test]
fn up_clears_what_others_have_against_a_peer() {
    let sim = Sim::new();
    sim.server(A, Behaviour::Fails(Failure::Connect));
    let mut worker = worker(&sim, &config(&format!("\"{A} fail_timeout=1h\", \"{B}\"")));
    get(&mut worker);
    sim.server(A, Behaviour::Answers(200));
    assert_eq!(served(&mut worker, 4), [B; 4]);
    peer(&worker, A).set_state(AdminState::Up).unwrap();
    assert!(served(&mut worker, 4).contains(&A.to_owned()));
}

#[test]
fn a_weight_of_zero_is_refused_and_changes_nothing() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &three());
    get(&mut worker);
    let writes = sim.writes();
    assert!(peer(&worker, A).set_weight(0).is_err());
    let mut upstream = peer(&worker, A).get_upstream().unwrap().unwrap();
    for server in ["", "10.0.0.9:80 weight=0", "0.0.0.0", "host1:80", A] {
        assert!(upstream.add_peer(server).is_err(), "{server}");
    }
    assert_eq!(sim.writes(), writes);
}

#[test]
fn changes_at_the_same_time_both_happen() {
    let sim = Sim::new();
    let mut one = worker(&sim, &three());
    get(&mut one);
    let other = sim.clone();
    sim.interfere(move || {
        let host = other.worker();
        let mut upstream = upstream::Upstream::get(Store::new(&host), &Registry::default(), "u").unwrap().unwrap();
        upstream.get_peer(B).unwrap().set_weight(8).unwrap();
        upstream.add_peer("10.0.0.9:80").unwrap();
    });
    peer(&one, A).set_weight(7).unwrap();
    let weights: Vec<u16> = [A, B, C, "10.0.0.9:80"].map(|name| peer(&one, name).get_weight()).to_vec();
    assert_eq!(weights, [7, 8, 1, 1]);
}

#[test]
fn full_shared_data_fails_no_request_that_can_be_served() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &three());
    get(&mut worker);
    sim.fill_up(true);
    sim.server(A, Behaviour::Fails(Failure::Connect));
    assert!((0..9).all(|_| matches!(get(&mut worker), Answer::Served { .. })));
    assert!(!sim.logged("cannot be counted: the host's shared data is full").is_empty());
    let mut late = self::worker(&sim, &config(&format!("\"{B}\"")).replace('u', "v").replace("vpstream", "upstream"));
    late.tick();
    assert!(matches!(get(&mut late), Answer::Refused(503, _)));
}

#[test]
fn lost_or_foreign_shared_data_is_made_again() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &three());
    get(&mut worker);
    sim.lose_data();
    assert!(matches!(get(&mut worker), Answer::Served { .. }));
    for key in sim.keys() {
        sim.corrupt(&key);
    }
    assert!(matches!(get(&mut worker), Answer::Served { .. }));
    assert!(matches!(get(&mut worker), Answer::Served { .. }));
    assert!(!sim.logged("is not one of this filter's").is_empty());
}

#[test]
fn a_worker_that_heard_of_no_change_is_right_after_its_next_tick() {
    let sim = Sim::new();
    let (mut one, mut two) = (worker(&sim, &three()), worker(&sim, &three()));
    get(&mut one);
    get(&mut two);
    sim.lose_announcements(true);
    peer(&one, A).set_state(AdminState::Down).unwrap();
    two.tick();
    assert!(!served(&mut two, 6).contains(&A.to_owned()));
}

#[test]
fn a_failure_of_a_removed_peer_is_nobody_s() {
    let sim = Sim::new();
    sim.server(A, Behaviour::Fails(Failure::Connect));
    let mut worker = worker(&sim, &three());
    let (_, mut ended) = worker.begin(Sent::get("/"));
    let old = peer(&worker, A);
    let mut upstream = old.get_upstream().unwrap().unwrap();
    upstream.remove_peer(&old).unwrap();
    upstream.add_peer(A).unwrap();
    drop((old, upstream));
    get(&mut worker);
    worker.end(&mut ended);
    assert!(!peer(&worker, A).is_failing());
}

#[test]
fn not_too_many_go_at_once() {
    let sim = Sim::new();
    let servers: Vec<String> =
        (0..10).map(|n| format!("10.0.0.{n}:80")).map(|name| name.replace("0.0:", "0.10:")).collect();
    servers.iter().for_each(|server| sim.server(server, Behaviour::Fails(Failure::Connect)));
    let quoted: Vec<String> = servers.iter().map(|server| format!("\"{server}\"")).collect();
    let mut worker = worker(&sim, &config(&quoted.join(",")));
    (0..50).for_each(|_| drop(get(&mut worker)));
    let upstream = upstream::Upstream::get(Store::new(&worker.host), &Registry::default(), "u").unwrap().unwrap();
    assert_eq!(upstream.get_peers(Selector::TemporaryDown).len(), 10);
    assert_eq!(upstream.info().matches("\"in_use\":true").count(), 5);
    assert!(!sim.logged("; kept in use: max_ejected_percent (50 %) lets no more peers go out of use").is_empty());
    let told: Vec<String> = sim.logged("upstream state: upstream=u");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("from=up to=degraded by=passive why=\"peer 10.0.0.10:80: attempt failed"), "{told:?}");
    assert!(
        told[1].contains("from=degraded to=down by=passive") && told[1].ends_with("0 of 10 peers left"),
        "{told:?}"
    );
    drop(upstream);
    let sim = Sim::new();
    sim.server(A, Behaviour::Fails(Failure::Connect));
    let mut single = self::worker(&sim, &config(&format!("\"{A}\"")));
    (0..5).for_each(|_| drop(get(&mut single)));
    assert_eq!(peer(&single, A).state(), PeerState::TemporaryDown);
    assert!(matches!(get(&mut single), Answer::Failed { attempts: 1 }), "it is asked nevertheless");
    sim.server(A, Behaviour::Answers(200));
    assert_eq!(get(&mut single).by(), A);
}

#[test]
fn every_balancer_serves_retries_and_leaves_out_who_is_down() {
    let registry = Registry::default();
    for name in registry.balancers().map(|kind| kind.name) {
        let sim = Sim::new();
        sim.server(A, Behaviour::Fails(Failure::Connect));
        let key = if matches!(name, "consistent-hash" | "ketama") { ", \"key\": \"$request_uri\"" } else { "" };
        let text = format!(
            r#"{{"upstreams": {{"u": {{"balancer": {{"name": "{name}"{key}}}, "servers": ["{A} fail_timeout=1h",
            "{B}", "{C} drain", "10.0.0.4:80 backup"]}}}}, "upstream": "u"}}"#
        );
        let mut worker = worker(&sim, &text);
        let mut ask = |n: usize| worker.send(Sent::get(&format!("/{n}")).client(&format!("192.0.2.{n}")));
        for n in 0..100 {
            let answer = ask(n);
            assert!(matches!(&answer, Answer::Served { by, .. } if by == B), "{name}: {answer:?}");
        }
        sim.server(B, Behaviour::Fails(Failure::Reset));
        let answer = ask(100);
        assert!(
            matches!(&answer, Answer::Served { by, .. } if by == "10.0.0.4:80"),
            "{name}: the backup is last: {answer:?}"
        );
    }
}

#[test]
fn the_client_s_address_is_one_key_however_it_is_written() {
    let sim = Sim::new();
    let servers: Vec<String> = (1..=20).map(|n| format!("\"10.0.0.{n}:80\"")).collect();
    let text = config(&servers.join(",")).replace("\"servers\"", "\"balancer\": \"ip-hash\", \"servers\"");
    let mut worker = worker(&sim, &text);
    let mut by = |client: &str| worker.send(Sent::get("/").client(client)).by().to_owned();
    assert_eq!(by("192.0.2.7"), by("::ffff:192.0.2.7"));
    assert_eq!(by("2001:db8::1"), by("2001:0db8:0:0::1"));
    let all: std::collections::HashSet<String> = (1..=200).map(|n| by(&format!("2001:db8::{n}"))).collect();
    assert!(all.len() > 15, "IPv6 clients are spread over {} of 20", all.len());
}

#[test]
fn a_limit_that_is_set_later_holds_for_every_balancer() {
    let registry = Registry::default();
    for name in registry.balancers().map(|kind| kind.name) {
        let sim = Sim::new();
        let key = if matches!(name, "consistent-hash" | "ketama") { ", \"key\": \"$request_uri\"" } else { "" };
        let text = format!(
            r#"{{"upstreams": {{"u": {{"balancer": {{"name": "{name}"{key}}}, "servers": ["{A}", "{B}"]}}}}, "upstream": "u"}}"#
        );
        let mut worker = worker(&sim, &text);
        (0..20).for_each(|n| drop(worker.send(Sent::get(&format!("/{n}")))));
        peer(&worker, A).change(&Overrides { max_conns: Some(1), ..Overrides::default() }).unwrap();
        let mut open = Vec::new();
        for n in 0..40 {
            let (answer, exchange) = worker.begin(Sent::get(&format!("/{n}")).client(&format!("192.0.2.{n}")));
            open.push((answer.by().to_owned(), exchange));
        }
        assert_eq!(open.iter().filter(|(by, _)| by == A).count(), 1, "{name}");
    }
}

#[test]
fn max_conns_limits_what_is_in_flight_and_nothing_leaks() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &config(&format!("\"{A} max_conns=2\", \"{B} max_conns=1\"")));
    let mut under_way: Vec<_> = (0..3).map(|_| worker.begin(Sent::get("/"))).collect();
    let mut by: Vec<&str> = under_way.iter().map(|(answer, _)| answer.by()).collect();
    by.sort_unstable();
    assert_eq!(by, [A, A, B]);
    assert!(matches!(get(&mut worker), Answer::Refused(503, _)));
    // One ends, one is dropped without an end: its stream is gone.
    worker.end(&mut under_way[0].1);
    under_way.remove(1);
    assert!(matches!(worker.begin(Sent::get("/")), (Answer::Served { .. }, _)));
    drop(under_way);
    assert_eq!((0..3).map(|_| worker.begin(Sent::get("/"))).filter(|(answer, _)| !answer.by().is_empty()).count(), 3);
}

#[test]
fn who_comes_back_slowly_gets_its_share_bit_by_bit() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &config(&format!("\"{A} slow_start=64s\", \"{B}\"")));
    let share = |worker: &mut Worker| served(worker, 640).iter().filter(|by| *by == A).count();
    assert_eq!(share(&mut worker), 320, "all of it from the start");
    sim.server(A, Behaviour::Fails(Failure::Connect));
    served(&mut worker, 2);
    sim.server(A, Behaviour::Answers(200));
    assert_eq!(share(&mut worker), 0);
    sim.advance(seconds(10));
    let mut last = 0;
    for _ in 0..4 {
        let now = share(&mut worker);
        assert!(now > last && now < 320, "{now} after {last}");
        last = now;
        sim.advance(seconds(15));
        worker.tick();
    }
    sim.advance(seconds(5));
    assert_eq!(share(&mut worker), 320);
    assert_eq!(sim.logged("from=temporary_down to=up").len(), 1);
    assert!(!peer(&worker, A).is_failing());
}

/// Several workers, random changes and failures in a random order, lost announcements, late ends of requests, a
/// clock that steps: whatever happened, all workers agree, no change is lost, and shares are as the weights.
#[test]
fn whatever_happens_all_workers_agree() {
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let sim = Sim::new();
        let mut workers: Vec<Worker> = (0..4).map(|_| worker(&sim, &three())).collect();
        let expected: RefCell<HashMap<String, (u16, bool)>> =
            RefCell::new([A, B, C].map(|name| (name.to_owned(), (1, true))).into_iter().collect());
        let mut late = Vec::new();
        workers.iter_mut().for_each(|worker| drop(get(worker)));
        for step in 0..200 {
            let at = random.usize(..workers.len());
            workers[at].host.skew(random.i64(-400..400));
            let names: Vec<String> = expected.borrow().keys().cloned().collect();
            let name = random.choice(&names).cloned().unwrap_or_default();
            let upstream =
                || upstream::Upstream::get(Store::new(&workers[at].host), &Registry::default(), "u").unwrap().unwrap();
            match random.u8(..10) {
                0 => {
                    let weight = random.u16(1..10);
                    upstream().get_peer(&name).unwrap().set_weight(weight).unwrap();
                    expected.borrow_mut().get_mut(&name).unwrap().0 = weight;
                }
                1 => {
                    let up = random.bool();
                    upstream()
                        .get_peer(&name)
                        .unwrap()
                        .set_state(if up { AdminState::Up } else { AdminState::Down })
                        .unwrap();
                    expected.borrow_mut().get_mut(&name).unwrap().1 = up;
                }
                2 => {
                    let name = format!("10.0.1.{step}:80");
                    upstream().add_peer(name.as_str()).unwrap();
                    expected.borrow_mut().insert(name, (1, true));
                }
                3 if names.len() > 2 => {
                    let mut upstream = upstream();
                    let peer = upstream.get_peer(&name).unwrap();
                    upstream.remove_peer(&peer).unwrap();
                    expected.borrow_mut().remove(&name);
                }
                4 => {
                    let fails = random.bool();
                    let behaviour = if fails { Behaviour::Fails(Failure::Reset) } else { Behaviour::Answers(200) };
                    sim.server(&name, behaviour);
                }
                5 => late.push((at, workers[at].begin(Sent::get("/")).1)),
                6 if !late.is_empty() => {
                    let (at, mut ended) = late.swap_remove(random.usize(..late.len()));
                    workers[at].end(&mut ended);
                }
                7 => sim.lose_announcements(random.bool()),
                8 if random.bool() => sim.turn_back(Duration::from_millis(random.u64(..5_000))),
                8 => sim.advance(Duration::from_millis(random.u64(..5_000))),
                _ => drop(get(&mut workers[at])),
            }
        }
        sim.lose_announcements(false);
        late.into_iter().for_each(|(at, mut ended)| workers[at].end(&mut ended));
        workers.iter_mut().for_each(|worker| {
            worker.host.skew(0);
            worker.tick();
        });
        // Failures no longer count after this, a request on trial is not waited for any more, and every server answers.
        sim.advance(seconds(80));
        let expected = expected.into_inner();
        expected.keys().for_each(|name| sim.server(name, Behaviour::Answers(200)));
        let usable: u32 = expected.values().filter(|(_, up)| *up).map(|(weight, _)| u32::from(*weight)).sum();
        let cycles = 20;
        for worker in &mut workers {
            get(worker);
            let mut counts: HashMap<String, u32> = HashMap::new();
            served(worker, (cycles * usable.max(1)) as usize)
                .into_iter()
                .for_each(|by| *counts.entry(by).or_default() += 1);
            for (name, (weight, up)) in &expected {
                let share = counts.remove(name).unwrap_or_default();
                let due = if *up { u32::from(*weight) * cycles } else { 0 };
                assert!(
                    share.abs_diff(due) <= u32::from(*up),
                    "seed {seed}: {name} of weight {weight}: {share} requests, not {due}"
                );
            }
            counts.remove("");
            assert_eq!(counts, HashMap::new(), "seed {seed}: a peer that was removed is served");
        }
        let upstream =
            upstream::Upstream::get(Store::new(&workers[0].host), &Registry::default(), "u").unwrap().unwrap();
        let mut found: Vec<(String, u16)> =
            upstream.get_peers(Selector::All).iter().map(|peer| (peer.name().to_owned(), peer.get_weight())).collect();
        let mut all: Vec<(String, u16)> = expected.iter().map(|(name, (weight, _))| (name.clone(), *weight)).collect();
        found.sort();
        all.sort();
        assert_eq!(found, all, "seed {seed}: a change was lost");
    }
}

#[test]
fn each_attempt_of_a_request_is_a_pick() {
    let sim = Sim::new();
    for server in [A, B] {
        sim.server(server, Behaviour::Fails(Failure::Connect));
    }
    let text = three().replace("\"upstream\": \"u\"", r#""upstream": "u", "admin": {"prefix": "/durpina"}"#);
    let mut worker = worker(&sim, &text);
    worker.tick();
    assert!(matches!(get(&mut worker), Answer::Served { attempts: 3, by, .. } if by == C));
    worker.send(Sent::get("/durpina/metrics").client("127.0.0.1"));
    let page = String::from_utf8(worker.host.answer().unwrap().body).unwrap();
    for peer in [A, B, C] {
        let line = format!("durpina_peer_picks_total{{upstream=\"u\",peer=\"{peer}\"}} 1\n");
        assert!(page.contains(&line), "{page}");
    }
}

/// Whether the host tells of failures by itself or is asked.
#[test]
fn an_address_that_cannot_be_connected_to_is_not_tried_at_each_turn() {
    for reports in [false, true] {
        let sim = Sim::new();
        if reports {
            sim.report_failures();
        }
        sim.name("web.example", &["10.0.0.1", "10.0.0.2"], 600);
        sim.server(A, Behaviour::Fails(Failure::Connect));
        let text = config(r#""web.example:80 max_fails=0", "10.0.0.3:80 backup""#).replace(
            "\"upstream\": \"u\"",
            &format!(r#""upstream": "u", "resolver": "10.9.9.9", "envoy": {{"access_log": {reports}}}"#),
        );
        let mut worker = worker(&sim, &text);
        for _ in 0..10 {
            sim.advance(Duration::from_millis(20));
            worker.tick();
            worker.deliver();
        }
        let total = |worker: &mut Worker| -> usize {
            let attempts = |answer| match answer {
                Answer::Served { attempts, .. } => attempts,
                answer => panic!("{answer:?}"),
            };
            (0..10).map(|_| attempts(get(worker))).sum()
        };
        let pass = |worker: &mut Worker| {
            sim.advance(Duration::from_millis(1_100));
            worker.tick();
        };
        assert_eq!(total(&mut worker), 11, "tried once in ten requests");
        pass(&mut worker);
        assert_eq!(total(&mut worker), 11, "and once more after a while");
        pass(&mut worker);
        assert_eq!(total(&mut worker), 10, "which is longer this time");
        sim.server(A, Behaviour::Answers(200));
        pass(&mut worker);
        assert_eq!(total(&mut worker), 10);
        sim.server(A, Behaviour::Fails(Failure::Connect));
        assert_eq!(total(&mut worker), 11);
        pass(&mut worker);
        assert_eq!(total(&mut worker), 11, "as at first: it could be connected to");
    }
}

#[test]
fn no_regex_looks_at_a_path_that_is_too_long_and_none_of_those_slips_through() {
    let sim = Sim::new();
    let config = format!(
        r#"{{"upstreams": {{"u": {{"servers": ["{A}"]}}, "v": {{"servers": ["{B}"]}}, "w": {{"servers": ["{C}"]}}}}, "routes": [
            {{"path": "/first", "upstream": "u"}},
            {{"prefix": "/user/", "regex": "^/user/([a-z]*)(\\d*)", "upstream": "v"}},
            {{"prefix": "/user/", "upstream": "w"}}]}}"#
    );
    let mut worker = worker(&sim, &config);
    let mut ask = |path: String| match worker.send(Sent::get(&path)) {
        Answer::Refused(status, _) => status.to_string(),
        Answer::Untouched => "untouched".to_owned(),
        answer => answer.by().to_owned(),
    };
    let most = 2048 - "/user/".len();
    assert_eq!(ask(format!("/user/{}", "a".repeat(most))), B);
    assert_eq!(ask(format!("/user/{}?{}", "a".repeat(most), "q".repeat(8_000))), B, "the query does not count");
    assert_eq!(ask(format!("/user/{}", "a".repeat(most + 1))), "414", "and not the route behind it");
    assert_eq!(ask(format!("/x/{}", "a".repeat(8_000))), "untouched", "no regex is asked of this path");
}

#[test]
fn maps_and_named_groups_say_where_a_request_goes() {
    let upstreams: Vec<String> = ["eu-7", "us-7", "us-"]
        .iter()
        .zip([A, B, C])
        .map(|(name, server)| format!(r#""{name}": {{"servers": ["{server}"]}}"#))
        .collect();
    let config = format!(
        r#"{{"maps": {{"area": {{"from": "$zone", "values": {{"eu-1": "$short", "": "us"}}, "default": "us"}},
             "zone": {{"from": "$http_x_zone$arg_zone", "values": {{"EU": "eu-1"}}, "default": "$http_x_zone"}},
             "short": {{"from": "", "values": {{"": "eu"}}}}, "nothing": {{"from": "$uri"}}}},
            "upstreams": {{{}}}, "routes": [{{"regex": "^/u/(?P<user>[0-9]*)", "upstream": "$area-$user$nothing"}}]}}"#,
        upstreams.join(", ")
    );
    let sim = Sim::new();
    let mut worker = worker(&sim, &config);
    worker.tick();
    for (path, zone, by) in
        [("/u/7", "eu-1", A), ("/u/7?zone=EU", "", A), ("/u/7", "", B), ("/u/7", "eu-2", B), ("/u/", "eu", C)]
    {
        assert_eq!(worker.send(Sent::get(path).header("x-zone", zone)).by(), by, "{path} {zone}");
    }
    assert!(matches!(worker.send(Sent::get("/u/8")), Answer::Refused(503, _)));
}

#[test]
fn a_key_may_be_made_of_maps_and_of_the_route_s_groups() {
    let config = format!(
        r#"{{"maps": {{"first": {{"from": "$user", "values": {{"7": "7"}}, "default": "others"}}}},
            "upstreams": {{"u": {{"servers": ["{A}", "{B}", "{C}"], "balancer": {{"name": "consistent-hash", "key": "$first:$user"}}}},
                           "v": {{"servers": ["{A}", "{B}", "{C}"], "balancer": {{"name": "consistent-hash", "key": "$first"}}}}}},
            "routes": [{{"regex": "^/u/(?<user>[0-9]+)", "upstream": "u"}}, {{"regex": "^/v/(?<user>[0-9]+)", "upstream": "v"}}]}}"#
    );
    let sim = Sim::new();
    let mut worker = worker(&sim, &config);
    let mut by = |path: &str| {
        let mut by: Vec<String> =
            (0..60).map(|n| worker.send(Sent::get(&format!("{path}{n}"))).by().to_owned()).collect();
        by.sort();
        by.dedup();
        by.len()
    };
    assert_eq!(by("/u/"), 3, "each user has a peer");
    assert_eq!(by("/v/10"), 1, "all others have one");
}

#[test]
fn a_balancer_of_ones_own_sees_labels_options_and_the_request() {
    use crate::balancer::{Balancer, BalancerKind, Candidates, Entry, Pick};
    struct Zone(Vec<Entry>, crate::model::template::Template);
    impl Balancer for Zone {
        fn set_entries(&mut self, entries: &[Entry]) {
            self.0 = entries.to_vec();
        }
        fn pick(&mut self, request: &Pick<'_>, candidates: &mut Candidates) {
            let zone = String::from_utf8_lossy(&request.render(&self.1)).into_owned();
            assert_eq!(zone.as_bytes(), request.header("x-zone"));
            assert_eq!(request.property(&["none"]), b"");
            let near = |entry: &Entry| entry.label("zone") == zone;
            for is_near in [true, false] {
                let meant = (0..).zip(&self.0).filter(|(_, entry)| entry.is_open() && near(entry) == is_near);
                meant.for_each(|(at, _)| candidates.push(at));
            }
        }
    }
    let registry = Registry::default().with_balancer(BalancerKind::new("zone", |_, settings| {
        let from = settings.template("from");
        if from.is_none() && settings.errors().is_empty() {
            settings.error("from", "expected a text with variables, found nothing");
        }
        Box::new(Zone(Vec::new(), from.unwrap_or_else(|| "".to_owned().try_into().unwrap())))
    }));
    let start = |balancer: &str| {
        let servers = format!(
            r#"{{"name": "{A}", "labels": {{"zone": "eu"}}}}, {{"name": "{B}", "labels": {{"zone": "us"}}}}, "{C}""#
        );
        let config = config(&servers).replace("\"servers\"", &format!("\"balancer\": {balancer}, \"servers\""));
        let config = config.replace(
            "\"upstream\":",
            r#""maps": {"near": {"from": "$http_x_zone", "default": "$http_x_zone"}}, "upstream":"#,
        );
        Worker::with(
            &registry,
            &Sim::new(),
            "test",
            &config.replace("\"upstream\":", r#""admin": {"prefix": "/d"}, "upstream":"#),
        )
    };
    let refused = |balancer: &str| start(balancer).err().unwrap().to_string();
    let place = "upstreams.u.balancer";
    for bare in ["\"zone\"", r#"{"name": "zone"}"#] {
        assert_eq!(refused(bare), format!("{place}.from: expected a text with variables, found nothing"));
    }
    assert!(refused(r#"{"name": "zone", "from": "$nope"}"#).starts_with(&format!("{place}.from: expected a variable")));
    assert!(
        refused(r#"{"name": "zone", "from": "$near", "form": 1}"#).starts_with(&format!("{place}.form: unknown key"))
    );
    assert_eq!(refused(r#"{"name": "zone", "from": "$near", "key": "x"}"#), format!("{place}.key: zone hashes no key"));
    let mut worker = start(r#"{"name": "zone", "from": "$near"}"#).unwrap();
    for (zone, by) in [("us", B), ("eu", A), ("", C), ("asia", A)] {
        assert_eq!(worker.send(Sent::get("/").header("x-zone", zone)).by(), by, "{zone}");
    }
    worker.send(Sent::get("/d/upstreams/u").client("127.0.0.1"));
    let document = String::from_utf8(worker.host.answer().unwrap().body).unwrap();
    assert!(
        document.contains("\"balancer\":\"zone\"") && document.contains("\"labels\":{\"zone\":\"us\"}"),
        "{document}"
    );
}
