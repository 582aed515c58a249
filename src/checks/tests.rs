//! What checks do, on the simulated host.

use std::time::Duration;

use crate::filter::Filter;
use crate::handle::upstream::Upstream;
use crate::host::{Failure, Host};
use crate::model::state::PeerState;
use crate::registry::Registry;
use crate::store::Store;
use crate::testing::test;
use durpina_sim::{Behaviour, Sent, Sim, SimHost};

mod bounds;
mod capabilities;
mod hostile;
mod metrics;
mod names;
mod obstacles;
mod rebase;
mod scripts;

type Worker = durpina_sim::Worker<Filter>;

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

fn workers(sim: &Sim, count: usize, config: &str) -> Vec<Worker> {
    (0..count).map(|_| Worker::start(sim, config).unwrap()).collect()
}

fn two_servers(monitor: &str) -> String {
    format!(r#"{{"upstreams": {{"u": {{"servers": ["{A}", "{B}"], "monitors": [{monitor}]}}}}, "upstream": "u"}}"#)
}

const HTTP: &str = r#"{"name": "http", "interval": "1s", "schedule": "all"}"#;

/// Lets time pass in small steps: every worker ticks, and all replies arrive.
fn pass(sim: &Sim, workers: &mut [Worker], time: Duration) {
    let step = Duration::from_millis(10);
    let mut passed = Duration::ZERO;
    while passed < time {
        sim.advance(step);
        passed += step;
        for worker in workers.iter_mut() {
            worker.tick();
            worker.deliver();
        }
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What scripts and the API see of the upstream `u`.
fn upstream(host: &SimHost) -> Upstream<'_> {
    Upstream::get(Store::new(host), &Registry::default(), "u").unwrap().unwrap()
}

/// The configuration with a management API.
fn with_api(config: &str) -> String {
    config.replace("\"upstream\": \"u\"", "\"upstream\": \"u\", \"admin\": {\"prefix\": \"/d\"}")
}

/// What the management API answers to this worker's client.
fn api(worker: &mut Worker, path: &str) -> String {
    worker.send(Sent::get(&format!("/d{path}")).client("127.0.0.1"));
    String::from_utf8(worker.host.answer().unwrap().body).unwrap()
}

fn served(worker: &mut Worker) -> Vec<String> {
    let mut by: Vec<String> = (0..6).map(|_| worker.send(Sent::get("/")).by().to_owned()).collect();
    by.sort();
    by.dedup();
    by
}

#[test]
fn each_peer_is_checked_once_in_an_interval_however_many_workers_there_are() {
    for count in [1, 2, 5] {
        let sim = Sim::new();
        let mut workers = workers(&sim, count, &two_servers(HTTP));
        pass(&sim, &mut workers, secs(2));
        let (a, b) = (sim.calls(A).len(), sim.calls(B).len());
        pass(&sim, &mut workers, secs(10));
        assert_eq!(sim.calls(A).len() - a, 10, "{count} workers");
        assert_eq!(sim.calls(B).len() - b, 10, "{count} workers");
    }
}

#[test]
fn rotation_checks_one_peer_in_an_interval() {
    let sim = Sim::new();
    let mut workers = workers(&sim, 3, &two_servers(r#"{"name": "http", "interval": "1s"}"#));
    pass(&sim, &mut workers, secs(20));
    let (a, b) = (sim.calls(A).len(), sim.calls(B).len());
    assert!((19..=20).contains(&(a + b)) && a.abs_diff(b) <= 1, "{a} and {b}");
}

#[test]
fn a_dead_peer_is_found_without_traffic_and_taken_back() {
    let sim = Sim::new();
    let mut workers = workers(&sim, 2, &two_servers(HTTP));
    pass(&sim, &mut workers, secs(2));
    sim.server(A, Behaviour::Fails(Failure::Connect));
    pass(&sim, &mut workers, millis(1_300));
    for worker in &mut workers {
        assert_eq!(served(worker), [B]);
    }
    assert_eq!(sim.logged("from=failing to=down by=\"monitor http\" why=\"no connection\"").len(), 1);
    sim.server(A, Behaviour::Answers(200));
    pass(&sim, &mut workers, millis(2_200));
    for worker in &mut workers {
        assert_eq!(served(worker), [A, B], "although its fail_timeout is longer: those failures were the monitor's");
    }
    assert_eq!(sim.logged("to=up by=\"monitor http\" why=\"2 good checks in a row\"").len(), 1);
    let last = sim.logged("peer state").pop().unwrap();
    assert!(last.contains("to=up"), "the log ends with the state that the peer has: {last}");
}

/// `fail_timeout` is 10 s. What a request saw is what a check sees, so good ones show that it is over.
#[test]
fn good_checks_since_the_last_failed_request_end_an_outage() {
    let sim = Sim::new();
    let mut workers = workers(&sim, 2, &two_servers(HTTP));
    pass(&sim, &mut workers, secs(2));
    sim.server(A, Behaviour::Fails(Failure::Reset));
    for _ in 0..2 {
        workers[0].send(Sent::get("/"));
    }
    sim.server(A, Behaviour::Answers(200));
    pass(&sim, &mut workers, millis(900));
    assert_eq!(served(&mut workers[1]), [B], "one good check is not enough");
    pass(&sim, &mut workers, millis(1_200));
    assert_eq!(served(&mut workers[1]), [A, B]);
    assert_eq!(sim.logged(&format!("peer={A} from=")).len(), 2, "one line at the beginning, one at the end");
    assert_eq!(sim.logged("from=temporary_down to=up by=\"monitor http\" why=\"2 good checks in a row\"").len(), 1);
}

/// `max_fails` is 1, and counts requests.
#[test]
fn a_lost_probe_takes_no_peer_out_of_use() {
    let sim = Sim::new();
    let mut workers = workers(&sim, 2, &two_servers(HTTP));
    pass(&sim, &mut workers, secs(2));
    let asked = sim.calls(A).len();
    sim.server(A, Behaviour::Fails(Failure::Timeout));
    while sim.calls(A).len() == asked {
        pass(&sim, &mut workers, millis(10));
    }
    pass(&sim, &mut workers, millis(20));
    sim.server(A, Behaviour::Answers(200));
    let state = |worker: &Worker| {
        let peer = upstream(&worker.host).get_peer(A).unwrap();
        (peer.state(), peer.is_failing())
    };
    assert_eq!(state(&workers[0]), (PeerState::Failing, true));
    pass(&sim, &mut workers, secs(2));
    assert_eq!(state(&workers[0]), (PeerState::Up, false));
    assert_eq!(sim.logged("peer state"), [""; 0]);
    assert_eq!(served(&mut workers[1]), [A, B]);
}

#[test]
fn monitors_have_verdicts_of_their_own() {
    let sim = Sim::new();
    let monitors = r#"{"name": "http", "interval": "1s", "schedule": "all"}, {"name": "tcp", "interval": "1s", "schedule": "all"}"#;
    let mut workers = workers(&sim, 1, &two_servers(monitors));
    pass(&sim, &mut workers, secs(1));
    sim.server(A, Behaviour::Answers(500));
    pass(&sim, &mut workers, secs(20));
    assert_eq!(served(&mut workers[0]), [B], "a connection alone does not help");
    assert_eq!(sim.logged("why=\"status 500, expected 101 102 2xx 3xx\"").len(), 1);
}

#[test]
fn checks_never_take_out_more_than_max_ejected_percent() {
    let sim = Sim::new();
    let mut workers = workers(&sim, 2, &two_servers(HTTP));
    for server in [A, B] {
        sim.server(server, Behaviour::Answers(500));
    }
    pass(&sim, &mut workers, secs(10));
    assert_eq!(served(&mut workers[0]).len(), 1);
    assert_eq!(sim.logged("; kept in use: no other peer is left").len(), 1);
    let lines = sim.logged("upstream state: upstream=u");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("from=up to=degraded by=\"monitor http\"") && lines[0].ends_with("1 of 2 peers left"));
    assert!(lines[1].contains("from=degraded to=down by=\"monitor http\"") && lines[1].ends_with("0 of 2 peers left"));
}

/// Whoever holds the lease dies at any moment, its replies are lost, and no peer is checked twice in an interval.
#[test]
fn any_worker_may_die_at_any_moment() {
    for seed in 0..30 {
        let mut random = fastrand::Rng::with_seed(seed);
        let sim = Sim::new();
        let start = sim.worker().now();
        let mut all = workers(&sim, 4, &two_servers(HTTP));
        for _ in 0..600 {
            sim.advance(millis(random.u64(1..60)));
            let at = random.usize(..all.len());
            match random.u8(..40) {
                0 => all[at] = Worker::start(&sim, &two_servers(HTTP)).unwrap(),
                1 => drop(all[at].lose_calls()),
                _ => {
                    all[at].tick();
                    all[at].deliver();
                }
            }
        }
        for server in [A, B] {
            let calls = sim.calls(server);
            // One slot in each second; a slot that is taken late, after a death, still counts as one.
            let elapsed = sim.worker().now().since(start).as_millis() as usize;
            assert!(
                calls.len() <= elapsed / 1_000 + 1,
                "seed {seed}: {} checks of {server} in {elapsed} ms",
                calls.len()
            );
            assert!(calls.len() >= 8, "seed {seed}: {} checks", calls.len());
        }
    }
}

#[test]
fn checks_go_on_within_two_seconds_after_the_death_of_who_makes_them() {
    let sim = Sim::new();
    let mut all = workers(&sim, 3, &two_servers(HTTP));
    pass(&sim, &mut all, secs(3));
    let before = sim.calls(A).len() + sim.calls(B).len();
    // The first one to tick has the lease.
    pass(&sim, &mut all[1..], secs(3));
    let after = sim.calls(A).len() + sim.calls(B).len() - before;
    assert!(after >= 2, "{after} checks in the 3 seconds of which 1.6 were for the lease to run out");
    pass(&sim, &mut all, secs(10));
    assert_eq!(sim.logged("peer state").len(), 0);
}

#[test]
fn a_new_configuration_goes_on_where_the_old_one_stopped() {
    let sim = Sim::new();
    let mut old = workers(&sim, 3, &two_servers(HTTP));
    pass(&sim, &mut old, secs(4));
    let mut new = workers(
        &sim,
        3,
        &two_servers(HTTP).replace("\"upstream\": \"u\"", "\"upstream\": \"u\", \"default_port\": 81"),
    );
    let count = sim.calls(A).len();
    for _ in 0..600 {
        sim.advance(millis(10));
        for worker in old.iter_mut().chain(&mut new) {
            worker.tick();
            worker.deliver();
        }
    }
    let checks = sim.calls(A).len() - count;
    assert!((5..=7).contains(&checks), "{checks} checks in 6 seconds of old and new together");
}

/// What one server that fails is asked in ten seconds, at an interval of one.
#[test]
fn who_fails_and_stays_in_use_is_not_stormed() {
    let sim = Sim::new();
    let config = format!(r#"{{"upstreams": {{"u": {{"servers": ["{A}"], "monitors": [{HTTP}]}}}}, "upstream": "u"}}"#);
    let mut all = workers(&sim, 1, &config);
    sim.server(A, Behaviour::Answers(500));
    pass(&sim, &mut all, secs(20));
    let before = sim.calls(A).len();
    pass(&sim, &mut all, secs(10));
    assert!((9..=11).contains(&(sim.calls(A).len() - before)), "{} checks", sim.calls(A).len() - before);
    assert_eq!(served(&mut all[0]), [A]);
}

#[test]
fn checks_go_on_when_the_clock_is_turned_back() {
    let sim = Sim::new();
    let mut all = workers(&sim, 2, &two_servers(HTTP));
    pass(&sim, &mut all, secs(3));
    sim.turn_back(secs(3600));
    let before = sim.calls(A).len();
    pass(&sim, &mut all, secs(5));
    assert!((4..=6).contains(&(sim.calls(A).len() - before)));
}

#[test]
fn the_next_instance_checks_when_the_one_in_charge_is_gone() {
    let sim = Sim::new();
    let mut first = vec![Worker::named(&sim, "one", &two_servers(HTTP)).unwrap()];
    pass(&sim, &mut first, secs(2));
    let mut second = vec![Worker::named(&sim, "two", &two_servers(HTTP)).unwrap()];
    let both = |first: &mut [Worker], second: &mut [Worker], steps: u64| {
        let before = sim.calls(A).len();
        for _ in 0..steps * 100 {
            sim.advance(millis(10));
            for worker in first.iter_mut().chain(second.iter_mut()) {
                worker.tick();
                worker.deliver();
            }
        }
        sim.calls(A).len() - before
    };
    both(&mut first, &mut second, 2);
    assert!((9..=11).contains(&both(&mut first, &mut second, 10)), "one set of checks of both");
    both(&mut first, &mut [], 3);
    assert!((9..=11).contains(&both(&mut first, &mut [], 10)), "the other one goes on alone");
}

#[test]
fn a_selection_does_not_keep_a_verdict_for_ever() {
    let sim = Sim::new();
    let monitor = HTTP.replace("\"http\"", "\"http\", \"peers\": \"failing\"");
    let mut all = workers(&sim, 1, &two_servers(&monitor).replace(A, &format!("{A} max_fails=100")));
    pass(&sim, &mut all, secs(1));
    let upstream = |worker: &Worker| {
        crate::handle::upstream::Upstream::get(crate::store::Store::new(&worker.host), &Registry::default(), "u")
            .unwrap()
            .unwrap()
            .get_peer(A)
            .unwrap()
            .add_fail()
    };
    upstream(&all[0]).unwrap();
    sim.server(A, Behaviour::Answers(500));
    pass(&sim, &mut all, secs(5));
    assert_eq!(served(&mut all[0]), [B]);
    sim.server(A, Behaviour::Answers(200));
    pass(&sim, &mut all, secs(5));
    assert_eq!(served(&mut all[0]), [A, B]);
}

#[test]
fn another_monitor_of_the_same_id_starts_afresh() {
    let sim = Sim::new();
    let http = r#"{"name": "http", "id": "hc", "interval": "1s", "schedule": "all"}"#;
    let mut all = workers(&sim, 1, &two_servers(http));
    sim.server(A, Behaviour::Answers(500));
    pass(&sim, &mut all, secs(5));
    assert_eq!(served(&mut all[0]), [B]);
    let mut next = workers(&sim, 1, &two_servers(&http.replace("\"http\"", "\"tcp\"")));
    pass(&sim, &mut next, secs(12));
    assert_eq!(served(&mut next[0]), [A, B]);
}

#[test]
fn lost_replies_are_failures() {
    let sim = Sim::new();
    let mut all = workers(&sim, 1, &two_servers(HTTP));
    pass(&sim, &mut all, secs(1));
    for _ in 0..800 {
        sim.advance(millis(10));
        all[0].tick();
        all[0].lose_calls();
    }
    assert!(!sim.logged("to=down by=\"monitor http\" why=\"no answer in time\"").is_empty());
}

#[test]
fn the_agent_s_word_counts_in_all_workers_at_their_next_request() {
    let sim = Sim::new();
    let config = two_servers(r#"{"name": "haproxy-agent-check", "port": 9000, "interval": "1s", "schedule": "all"}"#);
    let mut all = workers(&sim, 3, &config);
    let share = |worker: &mut Worker| (0..300).filter(|_| worker.send(Sent::get("/")).by() == A).count();
    let said = |sim: &Sim, all: &mut [Worker], line: &str| {
        sim.says("10.0.0.1:9000", line);
        sim.says("10.0.0.2:9000", "up");
        pass(sim, all, millis(1_100));
    };
    said(&sim, &mut all, "up 50%\n");
    all.iter_mut().for_each(|worker| assert_eq!(share(worker), 100));
    {
        let upstream =
            crate::handle::upstream::Upstream::get(crate::store::Store::new(&all[0].host), &Registry::default(), "u")
                .unwrap()
                .unwrap();
        upstream.get_peer(A).unwrap().set_weight(2).unwrap();
    }
    all.iter_mut().for_each(|worker| assert_eq!(share(worker), 200, "the later word counts"));
    said(&sim, &mut all, "100% # ok");
    all.iter_mut().for_each(|worker| assert_eq!(share(worker), 150));
    said(&sim, &mut all, "drain");
    all.iter_mut().for_each(|worker| assert_eq!(share(worker), 0));
    assert_eq!(sim.logged("from=up to=draining by=agent why=\"the agent says up drain 100% # ok\"").len(), 1);
    said(&sim, &mut all, "ready");
    all.iter_mut().for_each(|worker| assert_eq!(share(worker), 150));
    said(&sim, &mut all, "down # disk full");
    assert_eq!(sim.logged("from=up to=down by=agent why=\"the agent says down ready 100% # disk full\"").len(), 1);
    sim.server("10.0.0.1:9000", Behaviour::Fails(Failure::Connect));
    pass(&sim, &mut all, secs(3));
    all.iter_mut().for_each(|worker| assert_eq!(share(worker), 0, "no answer is no verdict"));
    sim.server("10.0.0.1:9000", Behaviour::Answers(200));
    said(&sim, &mut all, "up sideways");
    assert!(!sim.logged("the agent said unknown words: \"sideways\"").is_empty());
}

const NAMED: &str =
    r#"{"upstreams": {"u": {"servers": ["web.example:80"]}}, "upstream": "u", "resolver": ["10.9.9.8", "10.9.9.9"]}"#;

#[test]
fn names_are_resolved_again_when_they_expire() {
    let sim = Sim::new();
    sim.name("web.example", &["10.0.0.1", "10.0.0.2"], 7);
    let mut all = workers(&sim, 2, NAMED);
    pass(&sim, &mut all, millis(100));
    assert_eq!(served(&mut all[0]), [A, B], "several addresses take turns");
    sim.name("web.example", &["10.0.0.3"], 7);
    pass(&sim, &mut all, secs(6));
    assert_eq!(served(&mut all[1]), [A, B]);
    pass(&sim, &mut all, millis(1_500));
    assert_eq!(served(&mut all[1]), ["10.0.0.3:80"]);
    assert_eq!(
        sim.logged("peer addresses: upstream=u peer=web.example:80 from=10.0.0.1,10.0.0.2 to=10.0.0.3").len(),
        1
    );
    assert_eq!(sim.calls("10.9.9.8:53").len(), 4, "two questions each time, once for all workers");
}

#[test]
fn dead_name_servers_change_nothing_and_the_next_one_is_asked() {
    let sim = Sim::new();
    sim.name("web.example", &["10.0.0.1"], 5);
    sim.server("10.9.9.8:53", Behaviour::Fails(Failure::Timeout));
    let mut all = workers(&sim, 1, NAMED);
    pass(&sim, &mut all, millis(100));
    assert_eq!(served(&mut all[0]), [A], "by the second name server");
    sim.server("10.9.9.9:53", Behaviour::Fails(Failure::Connect));
    pass(&sim, &mut all, secs(30));
    assert_eq!(served(&mut all[0]), [A], "the last addresses stay");
    assert_eq!(sim.logged("cannot be resolved").len(), 1, "said once");
}

#[test]
fn a_name_that_is_gone_takes_its_peer_out_of_use_until_it_is_back() {
    let sim = Sim::new();
    sim.name("other.example", &["10.0.0.1"], 5);
    let mut all = workers(&sim, 1, NAMED);
    pass(&sim, &mut all, millis(100));
    assert!(served(&mut all[0]).iter().all(String::is_empty));
    assert_eq!(sim.logged("why=\"the name does not exist\"").len(), 0, "it was down before, and still is");
    sim.name("web.example", &["10.0.0.1"], 5);
    pass(&sim, &mut all, secs(6));
    assert_eq!(served(&mut all[0]), [A]);
    assert_eq!(sim.logged("from=down to=up by=resolver why=\"the name is resolved\"").len(), 1);
}

#[test]
fn ten_thousand_peers_are_checked_and_a_tick_costs_what_is_due() {
    let sim = Sim::new();
    let servers: Vec<String> = (0..10_000).map(|n| format!("\"10.1.{}.{}\"", n / 250, n % 250)).collect();
    let config = format!(
        r#"{{"upstreams": {{"u": {{"servers": [{}], "monitors": [{{"name": "tcp", "schedule": "all"}}]}}}}, "upstream": "u"}}"#,
        servers.join(",")
    );
    let mut all = workers(&sim, 1, &config);
    for _ in 0..30 {
        sim.advance(millis(200));
        all[0].tick();
        all[0].deliver();
    }
    let checked = (0..10_000).filter(|n| !sim.calls(&format!("10.1.{}.{}:80", n / 250, n % 250)).is_empty());
    assert_eq!(checked.take(500).count(), 500);
    assert!(sim.writes() < 100, "{} writes for some 10,000 good checks", sim.writes());
}

/// Requests and the monitor found both dead, so the monitor's verdict is lifted and the outage is ended by the same check.
#[test]
fn the_line_of_an_upstream_names_the_peer_that_is_back_by_checks() {
    let sim = Sim::new();
    let config = two_servers(HTTP)
        .replace(&format!("\"{A}\", \"{B}\""), &format!("\"{A} fail_timeout=60s\", \"{B} fail_timeout=60s\""));
    let mut workers = workers(&sim, 2, &config);
    pass(&sim, &mut workers, secs(2));
    [A, B].into_iter().for_each(|server| sim.server(server, Behaviour::Fails(Failure::Connect)));
    workers[0].send(Sent::get("/"));
    pass(&sim, &mut workers, secs(4));
    assert_eq!(upstream(&workers[0].host).get_peer(A).unwrap().state(), PeerState::Down);
    for (server, change) in [(A, "from=down to=degraded"), (B, "from=degraded to=up")] {
        sim.server(server, Behaviour::Answers(200));
        pass(&sim, &mut workers, secs(4));
        let line = sim.logged("upstream state").pop().unwrap();
        let why = format!("{change} by=\"monitor http\" why=\"peer {server}: 2 good checks in a row\"");
        assert!(line.contains(&why), "{line}");
    }
}
