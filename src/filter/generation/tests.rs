//! Configurations that come, go and come back, on the simulated host.

use std::time::Duration;

use crate::filter::Filter;
use crate::handle::upstream::Upstream;
use crate::registry::Registry;
use crate::store::Store;
use crate::testing::test;
use durpina_sim::{Answer, Sent, Sim};

type Worker = durpina_sim::Worker<Filter>;

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

fn config(server: &str) -> String {
    format!(r#"{{"upstreams": {{"u": {{"servers": ["{server}"]}}}}, "upstream": "u"}}"#)
}

fn start(sim: &Sim, config: &str) -> Worker {
    let mut worker = Worker::start(sim, config).unwrap();
    worker.tick();
    worker
}

fn over(worker: &mut Worker, connection: u64) -> String {
    worker.send(Sent::get("/").connection(connection)).by().to_owned()
}

fn revision(worker: &Worker) -> u64 {
    Upstream::get(Store::new(&worker.host), &Registry::default(), "u").unwrap().unwrap().revision()
}

#[test]
fn what_no_configuration_declares_any_more_is_not_there() {
    let sim = Sim::new();
    let by_header = |upstreams: &str| format!(r#"{{"upstreams": {{{upstreams}}}, "upstream": "$http_pool"}}"#);
    let (red, blue) = (format!(r#""red": {{"servers": ["{A}"]}}"#), format!(r#""blue": {{"servers": ["{B}"]}}"#));
    let ask = |worker: &mut Worker, pool: &str, connection: u64| {
        worker.send(Sent::get("/").header("pool", pool).connection(connection))
    };
    let mut old = start(&sim, &by_header(&format!("{red}, {blue}")));
    let mut other = Worker::named(&sim, "other", &by_header("")).unwrap();
    other.tick();
    assert_eq!((ask(&mut old, "red", 1).by(), ask(&mut other, "red", 2).by()), (A, A));
    let mut new = start(&sim, &by_header(&blue));
    assert_eq!(ask(&mut new, "blue", 3).by(), B);
    let pass = |worker: &mut Worker| {
        for _ in 0..20 {
            sim.advance(Duration::from_secs(1));
            worker.tick();
        }
    };
    pass(&mut old);
    assert_eq!(ask(&mut old, "red", 1).by(), A, "a connection that drains is served by what its configuration has");
    for worker in [&mut new, &mut other] {
        assert_eq!(ask(worker, "red", 4).by(), A, "while its filters live: they may be in another listener");
    }
    drop(old);
    pass(&mut new);
    for worker in [&mut new, &mut other] {
        assert!(matches!(ask(worker, "red", 4), Answer::Refused(503, _)));
    }
    assert_eq!(ask(&mut other, "blue", 4).by(), B);
    let mut again = start(&sim, &by_header(&format!("{red}, {blue} ")));
    assert_eq!((ask(&mut again, "red", 5).by(), ask(&mut other, "red", 6).by()), (A, A));
}

#[test]
fn the_list_of_upstreams_is_made_again_when_it_is_lost() {
    let sim = Sim::new();
    let mut owner = start(&sim, &config(A));
    let mut user = Worker::named(&sim, "user", r#"{"upstream": "u"}"#).unwrap();
    assert_eq!(over(&mut user, 1), A);
    let index = sim.keys().into_iter().find(|key| key.ends_with("/index")).unwrap();
    sim.corrupt(&index);
    sim.advance(Duration::from_secs(1));
    owner.tick();
    owner.tick();
    assert_eq!(over(&mut user, 1), A);
}

#[test]
fn a_vm_of_a_replaced_configuration_that_starts_again_does_not_declare_it() {
    let sim = Sim::new();
    let mut old = start(&sim, &config(A));
    assert_eq!(over(&mut old, 1), A);
    let mut new = start(&sim, &config(B));
    assert_eq!(over(&mut new, 5), B);
    let before = revision(&new);
    // It crashes, and the host makes a new VM with the same configuration for its connections.
    let mut old = start(&sim, &config(A));
    assert!(old.tick() >= Duration::from_secs(1), "there is nothing left to declare");
    assert_eq!(over(&mut old, 2), B);
    sim.advance(Duration::from_secs(1));
    old.tick();
    assert_eq!((over(&mut old, 3), over(&mut new, 5)), (B.to_owned(), B.to_owned()));
    assert_eq!(revision(&new), before);
    assert_eq!(over(&mut old, 6), A, "a connection that is newer than its successor's: it is in force again");
    sim.advance(Duration::from_secs(1));
    new.tick();
    assert_eq!(over(&mut new, 5), A);
}

#[test]
fn a_configuration_that_comes_back_before_any_traffic_counts() {
    let sim = Sim::new();
    let mut first = start(&sim, &config(A));
    assert_eq!(over(&mut first, 1), A);
    let _second = start(&sim, &config(B));
    let mut third = start(&sim, &config(A));
    assert_eq!(over(&mut third, 2), A, "its successor never had a connection");
}

/// Two listeners of one name that do not contradict each other, one of which has no upstreams of its own.
#[test]
fn a_filter_of_the_same_name_in_another_listener_keeps_its_upstreams() {
    let sim = Sim::new();
    let mut owner = start(&sim, &config(A));
    let mut user = start(&sim, r#"{"upstream": "u"}"#);
    for second in 0..40 {
        sim.advance(Duration::from_secs(1));
        owner.tick();
        user.tick();
        assert_eq!(over(&mut user, 1), A, "after {second} s");
        if second > 20 {
            assert_eq!(over(&mut owner, second), A);
        }
    }
}

#[test]
fn people_may_deploy_and_roll_back_some_times_a_minute() {
    let sim = Sim::new();
    let mut workers = [start(&sim, &config(A)), start(&sim, &config(B))];
    for (turn, connection) in (0..5).zip(1..) {
        sim.advance(Duration::from_secs(2));
        workers.iter_mut().for_each(|worker| {
            worker.tick();
        });
        assert_eq!(over(&mut workers[(turn + 1) % 2], connection), [B, A][turn % 2]);
    }
    assert!(sim.logged("two filters go by the name").is_empty());
}

#[test]
fn two_filters_of_one_name_settle_on_the_later_one_and_it_is_said_once() {
    let sim = Sim::new();
    let red =
        format!(r#"{{"upstreams": {{"u": {{"servers": ["{A}"]}}, "red": {{"servers": ["{A}"]}}}}, "upstream": "u"}}"#);
    let blue =
        format!(r#"{{"upstreams": {{"u": {{"servers": ["{B}"]}}, "blue": {{"servers": ["{B}"]}}}}, "upstream": "u"}}"#);
    let mut earlier: Vec<Worker> = (0..2).map(|_| start(&sim, &red)).collect();
    let mut later: Vec<Worker> = (0..2).map(|_| start(&sim, &blue)).collect();
    let mut connection = 0;
    let mut last = Vec::new();
    let mut settled = 0;
    for second in 0..30 {
        sim.advance(Duration::from_millis(1_000));
        last.clear();
        for worker in earlier.iter_mut().chain(&mut later) {
            worker.tick();
            for _ in 0..3 {
                connection += 1;
                last.push(over(worker, connection));
            }
        }
        if second == 9 {
            settled = revision(&earlier[0]);
        }
    }
    assert_eq!(last, [B; 12], "all serve with the later one");
    assert_eq!(revision(&earlier[0]), settled, "and nobody declares against it any more");
    let lines = sim.logged("two filters go by the name");
    assert_eq!(lines.len(), 1, "{lines:?}");
    for word in ["\"test\"", "\"red\"", "\"blue\""] {
        assert!(lines[0].contains(word), "{lines:?}");
    }
    assert!(sim.logged("in force again").len() <= 6);
    // One of a third configuration replaces both.
    let mut third = start(&sim, &config("10.0.0.3:80"));
    assert_eq!(over(&mut third, connection + 1), "10.0.0.3:80");
}

#[test]
fn what_takes_effect_is_one_line_of_all_workers_and_what_is_only_tried_is_none() {
    let sim = Sim::new();
    let tried = Worker::start(&sim, &config(A)).unwrap();
    assert_eq!(sim.logged("configuration:"), [""; 0]);
    let mut first: Vec<Worker> = (0..4).map(|_| Worker::start(&sim, &config(A)).unwrap()).collect();
    for worker in &mut first {
        worker.tick();
    }
    drop(tried);
    let lines = sim.logged("configuration:");
    let expected = "configuration: generation 1, 1 upstreams, 1 servers, 1 changed (1 new, 0 removed); shared data was empty, as after a restart: \
                    what the API changed before is gone; filter \"test\"";
    assert_eq!(lines, [expected]);
    assert_eq!(over(&mut first[0], 1), A);
    let mut second: Vec<Worker> = (0..4).map(|_| start(&sim, &config(B))).collect();
    assert_eq!(over(&mut second[0], 2), B);
    for _ in 0..5 {
        sim.advance(Duration::from_secs(1));
        for worker in first.iter_mut().chain(&mut second) {
            worker.tick();
        }
    }
    let lines = sim.logged("configuration:");
    let expected = "configuration: generation 2, 1 upstreams, 1 servers, 1 changed (0 new, 0 removed); filter \"test\"";
    assert_eq!(lines.get(1..), Some([expected.to_owned()].as_slice()));
    assert_eq!(over(&mut first[1], 3), A, "it comes back");
    let lines = sim.logged("configuration:");
    assert_eq!(lines.last().unwrap(), &expected.replace("generation 2", "generation 3"));
}
