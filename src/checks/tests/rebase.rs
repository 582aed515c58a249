//! Verdicts that change because others wrote while something was found and not written yet.

use super::*;
use crate::handle::peer::DownKind;
use crate::model::admin_state::AdminState;
use crate::model::state::PeerState;
use crate::testing::test;

/// How many checks of A failed in a row, as far as that is written.
fn streak(host: &SimHost) -> u32 {
    let store = Store::new(host);
    let record = store.record("u").unwrap().unwrap().0;
    let status = store.status(&record).unwrap();
    // The first peer is A.
    let check = status.of(record.peers[0].id).and_then(|said| said.check("http"));
    check.map_or(0, |check| if check.is_good() { 0 } else { check.streak })
}

/// Of two peers one may be out of use. The other one follows when the operator takes the first one back, at whatever moment
/// that is: what was found before is applied to what the operator wrote.
#[test]
fn a_peer_that_is_shown_as_down_gets_no_traffic_whatever_others_write_when() {
    let mut failed = Vec::new();
    for timing in 0..80 {
        let sim = Sim::new();
        let config = two_servers(HTTP).replace(A, &format!("{A} max_fails=0")).replace(B, &format!("{B} max_fails=0"));
        let mut all = workers(&sim, 3, &config);
        for server in [A, B] {
            sim.server(server, Behaviour::Answers(500));
        }
        pass(&sim, &mut all, secs(5) + millis(timing * 25));
        let is_down =
            |worker: &Worker, name: &str| upstream(&worker.host).get_peer(name).unwrap().is_down(DownKind::Any);
        let (down, spared) = if is_down(&all[0], A) { (A, B) } else { (B, A) };
        assert!(is_down(&all[0], down) && !is_down(&all[0], spared));

        sim.server(down, Behaviour::Answers(200));
        upstream(&all[0].host).get_peer(down).unwrap().set_state(AdminState::Up).unwrap();
        let is_right = (0..120).all(|_| {
            pass(&sim, &mut all, millis(10));
            let shown = is_down(&all[0], spared);
            let lines = sim.logged(&format!("peer={spared} from="));
            let logged = lines.iter().any(|line| line.contains("to=down by=\"monitor http\""));
            shown == logged && all.iter_mut().all(|worker| !shown || served(worker) == [down])
        });
        assert!(is_down(&all[0], spared), "it follows in the end");
        if !is_right {
            failed.push(timing);
        }
    }
    assert!(failed.is_empty(), "{} of 80 timings: {failed:?}", failed.len());
}

/// The reply to a check that an earlier holder of the lease made is the one that is missing.
#[test]
fn a_verdict_that_takes_the_findings_of_two_workers_is_announced_and_logged() {
    let sim = Sim::new();
    let config = two_servers(HTTP).replace(A, &format!("{A} max_fails=0"));
    let mut all = workers(&sim, 2, &config);
    pass(&sim, &mut all, secs(3));
    sim.server(A, Behaviour::Answers(500));
    while !upstream(&all[0].host).get_peer(A).unwrap().is_failing() {
        pass(&sim, &mut all, millis(10));
    }
    assert_eq!(streak(&all[0].host), 0, "the failure is counted, and what the monitor found is not written yet");
    // Two failures are written by another worker between this one's read and its write.
    let host = sim.worker();
    sim.interfere(move || {
        let store = Store::new(&host);
        let (record, _) = store.record("u").unwrap().unwrap();
        let change = |status: &mut crate::model::status::Status| {
            status.change(record.peers[0].id, |said| {
                said.change_check(&record.monitors[0], |check| {
                    for _ in 0..2 {
                        let _ = check.observe(Some("500"), 2, 3);
                    }
                });
            });
        };
        store.update_status("u", change).unwrap();
    });
    for _ in 0..400 {
        pass(&sim, &mut all, millis(10));
        if upstream(&all[0].host).get_peer(A).unwrap().is_down(DownKind::Any) {
            break;
        }
    }
    // What is read with the same generation number is not read again: all workers have to be told.
    for worker in &mut all {
        assert_eq!(served(worker), [B]);
    }
    assert_eq!(sim.logged(&format!("peer={A} from=failing to=down by=\"monitor http\"")).len(), 1);
}

/// What was found is taken back by what others wrote: then it did not happen, and nobody is told that it did.
#[test]
fn a_verdict_that_does_not_come_about_is_not_logged() {
    let sim = Sim::new();
    let monitor = HTTP.replace("\"1s\"", "\"1s\", \"fall\": 20");
    let config = two_servers(&monitor).replace(A, &format!("{A} max_fails=0"));
    let mut all = workers(&sim, 1, &config);
    pass(&sim, &mut all, secs(3));
    sim.server(A, Behaviour::Answers(500));
    // The check that is the last straw is under way; the operator is between what it finds and the write of that. Half of
    // the checks before it are written.
    let good = sim.calls(A).len();
    while sim.calls(A).len() < good + 20 {
        all[0].deliver();
        sim.advance(millis(10));
        all[0].tick();
    }
    assert!(streak(&all[0].host) >= 5);
    let host = sim.worker();
    sim.interfere(move || upstream(&host).get_peer(A).unwrap().set_state(AdminState::Up).unwrap());
    all[0].deliver();
    assert_eq!(upstream(&all[0].host).get_peer(A).unwrap().state(), PeerState::Up);
    assert_eq!(sim.logged("to=down by=\"monitor http\""), [""; 0]);
    pass(&sim, &mut all, secs(3));
    assert_eq!(sim.logged("to=down by=\"monitor http\"").len(), 1, "it takes some more");
}
