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

/// Whether a peer is in use, by all that is stored.
fn is_in_use(host: &SimHost, name: &str) -> bool {
    let info: serde_json::Value = serde_json::from_str(&upstream(host).info()).unwrap();
    let peers = info["peers"].as_array().unwrap();
    peers.iter().find(|peer| peer["name"] == name).unwrap()["in_use"] == true
}

/// Of two peers one may be out of use. The other one follows when the operator takes the first one back, at whatever moment
/// that is: what was found before is applied to what the operator wrote.
#[test]
fn a_peer_that_is_shown_as_out_of_use_gets_no_traffic_whatever_others_write_when() {
    let mut failed = Vec::new();
    for timing in 0..80 {
        let sim = Sim::new();
        let mut all = workers(&sim, 3, &two_servers(HTTP));
        for server in [A, B] {
            sim.server(server, Behaviour::Answers(500));
        }
        pass(&sim, &mut all, secs(5) + millis(timing * 25));
        let (down, kept) = if is_in_use(&all[0].host, A) { (B, A) } else { (A, B) };
        assert!(!is_in_use(&all[0].host, down) && is_in_use(&all[0].host, kept));

        sim.server(down, Behaviour::Answers(200));
        upstream(&all[0].host).get_peer(down).unwrap().set_state(AdminState::Up).unwrap();
        let is_right = (0..120).all(|_| {
            pass(&sim, &mut all, millis(10));
            let is_kept = is_in_use(&all[0].host, kept);
            all.iter_mut().all(|worker| is_kept || served(worker) == [down])
        });
        assert!(!is_in_use(&all[0].host, kept), "it follows in the end");
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
    let asked = sim.calls(A).len();
    while sim.calls(A).len() < asked + 2 {
        pass(&sim, &mut all, millis(10));
    }
    pass(&sim, &mut all, millis(20));
    assert_eq!(streak(&all[0].host), 1, "what the monitor found in the second place is not written yet");
    // A failure is written by another worker between this one's read and its write.
    let host = sim.worker();
    sim.interfere(move || {
        let store = Store::new(&host);
        let (record, _) = store.record("u").unwrap().unwrap();
        let change = |status: &mut crate::model::status::Status| {
            status.change(record.peers[0].id, |said| {
                said.change_check(&record.monitors[0], |check| {
                    let _ = check.observe(Some("500"), &record.monitors[0], secs(10));
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
