//! What handles change, on the simulated host.

use std::time::Duration;

use crate::filter::Filter;
use crate::handle::peer::{DownKind, Peer};
use crate::handle::upstream::Upstream;
use crate::host::Failure;
use crate::model::admin_state::AdminState;
use crate::model::overrides::Overrides;
use crate::model::state::PeerState;
use crate::registry::Registry;
use crate::store::Store;
use crate::testing::test;
use durpina_sim::{Behaviour, Sent, Sim};

type Worker = durpina_sim::Worker<Filter>;

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

fn worker(sim: &Sim, server: &str, more: &str) -> Worker {
    let text = format!(r#"{{"upstreams": {{"u": {{"servers": ["{server}", "{B}"] {more}}}}}, "upstream": "u"}}"#);
    let mut worker = Worker::start(sim, &text).unwrap();
    worker.tick();
    worker
}

fn upstream(worker: &Worker) -> Upstream<'_> {
    Upstream::get(Store::new(&worker.host), &Registry::default(), "u").unwrap().unwrap()
}

fn peer<'w>(worker: &'w Worker, name: &str) -> Peer<'w> {
    upstream(worker).get_peer(name).unwrap()
}

fn served(worker: &mut Worker, requests: usize) -> Vec<String> {
    (0..requests).map(|_| worker.send(Sent::get("/")).by().to_owned()).collect()
}

/// How often A is picked out of so many requests.
fn share(worker: &mut Worker, requests: usize) -> usize {
    served(worker, requests).iter().filter(|by| *by == A).count()
}

fn pass(sim: &Sim, worker: &mut Worker, millis: u64) {
    for _ in 0..millis / 10 {
        sim.advance(Duration::from_millis(10));
        worker.tick();
        worker.deliver();
    }
}

/// Shared data takes one more write, and then no other.
fn fill_up_after_one_write(sim: &Sim) {
    let (outer, inner) = (sim.clone(), sim.clone());
    sim.interfere(move || {
        let inner = inner.clone();
        outer.interfere(move || inner.fill_up(true));
    });
}

/// It takes writes again.
fn make_room(sim: &Sim) {
    sim.interfere(|| {});
    sim.fill_up(false);
}

#[test]
fn up_lifts_all_verdicts_with_one_write_or_none() {
    let sim = Sim::new();
    let monitor = r#", "monitors": [{"name": "http", "interval": "1s", "schedule": "all"}]"#;
    let (mut one, mut two) = (worker(&sim, A, monitor), worker(&sim, A, monitor));
    sim.server(A, Behaviour::Fails(Failure::Connect));
    pass(&sim, &mut one, 3_000);
    served(&mut two, 2);
    assert_eq!(peer(&one, A).state(), PeerState::Down, "by the monitor, and with failures counted");
    peer(&one, A).set_state(AdminState::Drain).unwrap();
    sim.server(A, Behaviour::Answers(200));

    let revision = upstream(&one).revision();
    sim.fill_up(true);
    assert!(peer(&one, A).set_state(AdminState::Up).is_err());
    assert_eq!((upstream(&one).revision(), peer(&one, A).state()), (revision, PeerState::Down));
    make_room(&sim);

    let writes = sim.writes();
    fill_up_after_one_write(&sim);
    let mut handle = peer(&one, A);
    handle.set_state(AdminState::Up).unwrap();
    assert_eq!((handle.state(), sim.writes() - writes), (PeerState::Up, 1));
    drop(handle);
    for worker in [&mut one, &mut two] {
        assert_eq!(peer(worker, A).state(), PeerState::Up);
        assert_eq!(share(worker, 8), 4, "although what was found before still stands in shared data");
    }
    make_room(&sim);
    sim.server(A, Behaviour::Answers(500));
    pass(&sim, &mut one, 3_000);
    assert_eq!(peer(&one, A).state(), PeerState::Down, "what is found afterwards counts");
    assert_eq!((share(&mut one, 8), share(&mut two, 8)), (0, 0));
}

#[test]
fn failures_after_an_up_count_from_nought() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &format!("{A} max_fails=3 fail_timeout=1h"), "");
    served(&mut worker, 1);
    for _ in 0..3 {
        peer(&worker, A).add_fail().unwrap();
    }
    assert!(peer(&worker, A).is_down(DownKind::Temporary));
    peer(&worker, A).set_state(AdminState::Up).unwrap();
    for _ in 0..2 {
        peer(&worker, A).add_fail().unwrap();
        assert_eq!(peer(&worker, A).state(), PeerState::Failing);
    }
    peer(&worker, A).add_fail().unwrap();
    assert!(peer(&worker, A).is_down(DownKind::Temporary));
    assert_eq!(share(&mut worker, 8), 0);
}

#[test]
fn up_changes_nothing_at_a_peer_that_is_up() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &format!("{A} slow_start=60s"), "");
    peer(&worker, A).set_state(AdminState::Down).unwrap();
    peer(&worker, A).set_state(AdminState::Up).unwrap();
    assert!(share(&mut worker, 40) < 5, "it starts slowly");
    sim.advance(Duration::from_secs(60));
    worker.tick();
    assert_eq!(share(&mut worker, 40), 20);
    let writes = sim.writes();
    peer(&worker, A).set_state(AdminState::Up).unwrap();
    assert_eq!(sim.writes(), writes);
    assert_eq!(share(&mut worker, 40), 20, "and goes on as it was");
    peer(&worker, A).add_fail().unwrap();
    sim.advance(Duration::from_secs(80));
    worker.tick();
    served(&mut worker, 1);
    peer(&worker, B).set_state(AdminState::Up).unwrap();
    assert_eq!(share(&mut worker, 40), 20);
}

#[test]
fn a_weight_wins_over_the_agent_s_with_one_write() {
    let sim = Sim::new();
    let agent = r#", "monitors": [{"name": "haproxy-agent-check", "port": 9000, "interval": "1s", "schedule": "all"}]"#;
    sim.says("10.0.0.1:9000", "up weight:3\n");
    sim.says("10.0.0.2:9000", "up\n");
    let mut worker = worker(&sim, A, agent);
    pass(&sim, &mut worker, 1_500);
    assert_eq!((peer(&worker, A).get_weight(), share(&mut worker, 40)), (3, 30));
    let writes = sim.writes();
    fill_up_after_one_write(&sim);
    let mut handle = peer(&worker, A);
    handle.set_weight(7).unwrap();
    assert_eq!((handle.get_weight(), sim.writes() - writes), (7, 1));
    drop(handle);
    assert_eq!((peer(&worker, A).get_weight(), share(&mut worker, 80)), (7, 70));
    make_room(&sim);
    pass(&sim, &mut worker, 1_500);
    assert_eq!(peer(&worker, A).get_weight(), 3, "the agent has the next word");
}

#[test]
fn a_monitor_goes_with_its_verdicts_in_one_write_and_comes_back_without_them() {
    let sim = Sim::new();
    let monitor = r#", "monitors": [{"name": "http", "interval": "1s", "schedule": "all"}]"#;
    let mut worker = worker(&sim, A, monitor);
    sim.server(A, Behaviour::Answers(500));
    pass(&sim, &mut worker, 3_000);
    assert_eq!(peer(&worker, A).state(), PeerState::Down);
    sim.advance(Duration::from_secs(20));
    let writes = sim.writes();
    fill_up_after_one_write(&sim);
    upstream(&worker).remove_monitor("http").unwrap();
    assert_eq!((peer(&worker, A).state(), sim.writes() - writes), (PeerState::Up, 1));
    make_room(&sim);
    let mut handle = upstream(&worker);
    handle.add_monitor("http", r#"{"interval": "1h"}"#).unwrap();
    drop(handle);
    assert_eq!(peer(&worker, A).state(), PeerState::Up, "it found nothing yet");
    assert_eq!(share(&mut worker, 8), 4);
}

#[test]
fn a_peer_of_a_record_that_was_lost_gives_its_id_to_nobody() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &format!("{A} fail_timeout=1h"), "");
    sim.server(A, Behaviour::Fails(Failure::Connect));
    served(&mut worker, 2);
    assert!(peer(&worker, A).is_down(DownKind::Temporary));
    let record = sim.keys().into_iter().find(|key| key.ends_with("/upstream/u")).unwrap();
    sim.corrupt(&record);
    let other = "10.0.0.9:80";
    let mut next = self::worker(&sim, &format!("{other} fail_timeout=1h"), "");
    served(&mut next, 1);
    assert_eq!(peer(&next, other).state(), PeerState::Up, "another peer is at its place now");
    let served = served(&mut worker, 4);
    assert_eq!(served.iter().filter(|by| *by == other).count(), 2, "{served:?}");
}

#[test]
fn the_end_of_a_temporary_order_is_told_once() {
    let sim = Sim::new();
    let (mut one, mut two) = (worker(&sim, A, ""), worker(&sim, A, ""));
    peer(&one, A).set_state(AdminState::TemporaryDown).unwrap();
    assert_eq!((share(&mut one, 8), share(&mut two, 8)), (0, 0));
    sim.advance(Duration::from_secs(10));
    for _ in 0..2 {
        for worker in [&mut one, &mut two] {
            worker.tick();
            assert_eq!(share(worker, 8), 4);
        }
    }
    assert_eq!(sim.logged("peer=10.0.0.1:80 from=temporary_down to=up by=operator").len(), 1);
}

#[test]
fn an_outage_that_a_shorter_fail_timeout_ends_is_told_once_and_as_what_it_is() {
    let sim = Sim::new();
    let mut worker = worker(&sim, &format!("{A} fail_timeout=1h"), "");
    sim.server(A, Behaviour::Fails(Failure::Connect));
    served(&mut worker, 2);
    sim.server(A, Behaviour::Answers(200));
    sim.advance(Duration::from_secs(5));
    let shorter = Overrides { fail_timeout: Some(Duration::from_secs(1)), ..Overrides::default() };
    peer(&worker, A).change(&shorter).unwrap();
    assert_eq!(peer(&worker, A).state(), PeerState::Up);
    served(&mut worker, 2);
    let lines = sim.logged(&format!("peer={A} from="));
    assert!(lines.len() == 2 && lines[1].contains("from=temporary_down to=up by=passive"), "{lines:?}");
    let told = sim.logged("upstream state").pop().unwrap();
    assert!(told.contains(&format!("to=up by=script why=\"peer {A}: fail_timeout=1s\"")), "{told}");
}
