//! VMs come and go.

use std::time::Duration;

use proxy_wasm_sim::{Behaviour, Plugin, Process, Refused, Request};

use crate::filters::{module, said};

/// Ticks every second, and says so.
const TICKS: &str = r#"
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 1000))) (i32.const 1))
  (func (export "proxy_on_tick") (param i32) (call $say (i32.const 7)))"#;

const SECOND: Duration = Duration::from_secs(1);

/// How often there was a tick in the next ten seconds.
fn ticks(process: &mut Process) -> usize {
    let before = process.logs().len();
    process.run_for(10 * SECOND).unwrap();
    process.logs().len() - before
}

#[test]
fn every_worker_ticks_and_envoy_s_main_thread_too() {
    let module = module(TICKS);
    for (mut process, vms) in [(Process::envoy(&module, 1), 3), (Process::nginx(&module, 1), 2)] {
        process.start(&[Plugin::filter("f", "")]).unwrap();
        let ticks = ticks(&mut process);
        assert!((vms * 9..=vms * 10).contains(&ticks), "{ticks} ticks of {vms} VMs");
    }
}

#[test]
fn an_old_configuration_ticks_on_until_it_has_drained() {
    let module = module(TICKS);
    let mut process = Process::envoy(&module, 1);
    process.set_drain(15 * SECOND);
    process.start(&[Plugin::filter("f", "1")]).unwrap();
    process.update(&[Plugin::filter("f", "2")]).unwrap();
    let both = ticks(&mut process);
    assert!((6 * 9..=6 * 10).contains(&both), "{both} ticks of two generations");
    process.run_for(6 * SECOND).unwrap();
    let new = ticks(&mut process);
    assert!((3 * 9..=3 * 10).contains(&new), "{new} ticks of the new one");
}

/// Takes a configuration of one byte and no other.
const PICKY: &str =
    r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.eq (local.get 1) (i32.const 1)))"#;

#[test]
fn envoy_keeps_the_old_configuration_when_one_is_refused_and_nginx_ends() {
    let module = module(PICKY);
    let (good, bad) = ([Plugin::filter("f", "1")], [Plugin::filter("f", "22")]);
    let mut envoy = Process::envoy(&module, 1).everything_to("10.0.0.1:80");
    assert!(matches!(Process::envoy(&module, 1).start(&bad), Err(Refused::ByModule(_))), "it does not start");
    envoy.start(&good).unwrap();
    assert!(matches!(envoy.update(&bad), Err(Refused::ByModule(_))));
    assert_eq!(envoy.request(Request::get("/")).unwrap().status, Some(200));

    let mut nginx = Process::nginx(&module, 1).everything_to("10.0.0.1:80");
    nginx.start(&good).unwrap();
    match nginx.update(&bad) {
        Err(Refused::Crashed(crash)) => assert!(crash.rule.contains("ends every worker"), "{crash}"),
        other => panic!("{other:?}"),
    }
    assert!(nginx.request(Request::get("/")).is_err());
}

/// Counts configurations in shared data and in a counter.
const COUNTS: &str = r#"
  (data (i32.const 100) "counter")
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $define (i32.const 0) (i32.const 100) (i32.const 7) (i32.const 8)))
    (drop (call $increment (i32.load (i32.const 8)) (i64.const 1)))
    (drop (call $set (i32.const 100) (i32.const 7) (i32.const 100) (i32.const 7) (i32.const 0)))
    (i32.const 0))"#;

#[test]
fn a_reload_of_nginx_loses_shared_data_and_keeps_metrics() {
    let module = module(COUNTS);
    for (mut process, kept) in [(Process::envoy(&module, 1), 1), (Process::nginx(&module, 1), 0)] {
        process = process.everything_to("10.0.0.1:80");
        process.start(&[Plugin::filter("f", "1")]).unwrap();
        process.request(Request::get("/")).unwrap();
        assert_eq!(process.shared_data().len(), 1);
        process.update(&[Plugin::filter("f", "2")]).unwrap();
        assert_eq!(process.shared_data().len(), kept);
        assert_eq!(process.metrics()["counter"], 1);
    }
}

#[test]
fn after_a_trap_envoy_waits_for_a_request_and_nginx_does_not() {
    let module = module(TICKS);
    let get = |process: &mut Process, worker| process.request(Request::get("/").at(worker)).unwrap().status;
    let mut envoy = Process::envoy(&module, 1).everything_to("10.0.0.1:80");
    envoy.start(&[Plugin::filter("f", "")]).unwrap();
    for worker in 0..3 {
        envoy.kill(worker);
    }
    assert_eq!(get(&mut envoy, 0), Some(503), "the back-off");
    assert_eq!(ticks(&mut envoy), 0, "nobody is left");
    assert_eq!(get(&mut envoy, 0), Some(200));
    let after = ticks(&mut envoy);
    assert!((9..=10).contains(&after), "{after}: one worker ticks again, the main thread never");

    let mut nginx = Process::nginx(&module, 1).everything_to("10.0.0.1:80");
    nginx.start(&[Plugin::filter("f", "")]).unwrap();
    nginx.trap(0);
    assert_eq!(get(&mut nginx, 0), Some(200));
    let after = ticks(&mut nginx);
    assert!((27..=30).contains(&after), "{after}: the timers of the worker that trapped have doubled");
}

#[test]
fn a_trap_in_a_request_fails_that_request() {
    let module = module(r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) unreachable)"#);
    for (mut process, status) in [(Process::envoy(&module, 1), 503), (Process::nginx(&module, 1), 500)] {
        process = process.everything_to("10.0.0.1:80");
        process.start(&[Plugin::filter("f", "")]).unwrap();
        assert_eq!(process.request(Request::get("/").at(0)).unwrap().status, Some(status));
        assert_eq!(process.traps().len(), 1);
        assert!(process.traps()[0].starts_with("proxy_on_request_headers trapped"));
    }
}

#[test]
fn a_trap_in_a_tick_is_the_end_of_an_nginx() {
    let module = module(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) (drop (call $tick (i32.const 50))) (i32.const 1))
           (func (export "proxy_on_tick") (param i32) unreachable)"#,
    );
    let mut nginx = Process::nginx(&module, 1);
    nginx.start(&[Plugin::filter("f", "")]).unwrap();
    assert!(nginx.run_for(SECOND).unwrap_err().rule.contains("doubles the timers"));
    let mut envoy = Process::envoy(&module, 1);
    envoy.start(&[Plugin::filter("f", "")]).unwrap();
    envoy.run_for(SECOND).unwrap();
    assert_eq!(envoy.traps().len(), 3);
}

#[test]
fn a_paused_worker_ticks_late_and_makes_up_for_nothing() {
    let module = module(TICKS);
    let mut process = Process::nginx(&module, 1).workers(1);
    process.start(&[Plugin::filter("f", "")]).unwrap();
    process.pause(0, 5 * SECOND);
    let ticks = ticks(&mut process);
    assert!((5..=6).contains(&ticks), "{ticks}");
    assert_eq!(said(&process).len(), ticks);
}

#[test]
fn a_killed_process_takes_its_requests_with_it_and_another_one_comes() {
    let module = module(COUNTS);
    let mut nginx = Process::nginx(&module, 1).everything_to("10.0.0.1:80");
    nginx.start(&[Plugin::filter("f", "")]).unwrap();
    nginx.request(Request::get("/").at(0)).unwrap();
    nginx.world().peer("10.0.0.1:80").behaviour = Behaviour::Hangs;
    let lost = nginx.send(Request::get("/").at(0));
    nginx.run_for(Duration::from_millis(5)).unwrap();
    nginx.kill(0);
    assert_eq!(nginx.outcome(lost).unwrap().status, None);
    nginx.run_for(Duration::from_millis(5)).unwrap();
    nginx.world().peer("10.0.0.1:80").behaviour = Behaviour::Answers;
    let outcome = nginx.request(Request::get("/").at(2)).unwrap();
    assert_eq!((outcome.status, outcome.worker), (Some(200), 2));
    assert_eq!(nginx.shared_data().len(), 1, "it is another process's as well");
}

#[test]
fn a_trial_of_a_configuration_writes_to_the_live_shared_data() {
    let module = module(
        r#"(data (i32.const 100) "key")
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $set (i32.const 100) (i32.const 3) (i32.const 100) (i32.const 3) (i32.const 0)))
             (i32.const 0))"#,
    );
    let mut envoy = Process::envoy(&module, 1);
    assert!(envoy.start(&[Plugin::filter("f", "")]).is_err());
    assert_eq!(envoy.shared_data().len(), 1);
}

#[test]
fn a_queue_wakes_every_vm_that_registered() {
    let module = module(
        r#"(data (i32.const 100) "queue")
           (func (export "proxy_on_configure") (param i32 i32) (result i32)
             (drop (call $register (i32.const 100) (i32.const 5) (i32.const 8)))
             (i32.const 1))
           (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
             (drop (call $enqueue (i32.load (i32.const 8)) (i32.const 100) (i32.const 5)))
             (i32.const 0))
           (func (export "proxy_on_queue_ready") (param i32 i32)
             (call $say (call $dequeue (i32.load (i32.const 8)) (i32.const 12) (i32.const 16))))"#,
    );
    let mut envoy = Process::envoy(&module, 1).everything_to("10.0.0.1:80");
    envoy.start(&[Plugin::filter("f", "")]).unwrap();
    envoy.request(Request::get("/")).unwrap();
    envoy.run_for(SECOND).unwrap();
    let mut said = said(&envoy).into_bytes();
    said.sort_unstable();
    assert_eq!(said, b"077", "one of the workers and the main thread gets the item, the others find the queue empty");
}

#[test]
fn an_old_nginx_worker_ends_at_its_next_tick_and_without_ticks_at_once() {
    for (text, at_once) in [(TICKS, 0), (PICKY, 2)] {
        let module = module(text);
        let mut nginx = Process::nginx(&module, 1);
        nginx.start(&[Plugin::filter("f", "1")]).unwrap();
        nginx.update(&[Plugin::filter("f", "2")]).unwrap();
        let ended = |nginx: &Process| nginx.trace().iter().filter(|line| line.ends_with(" ends")).count();
        assert_eq!(ended(&nginx), at_once);
        nginx.run_for(2 * SECOND).unwrap();
        assert_eq!(ended(&nginx), 2);
        assert_eq!(said(&nginx).len(), if at_once > 0 { 0 } else { 2 }, "only the new ones tick");
    }
}

/// Says `1` at a request's headers, `2` at an answer's, and with these writes to shared data; `3` if the headers had not been seen in
/// this VM.
const STEPS: &str = r#"
  (global $seen (mut i32) (i32.const 0))
  (data (i32.const 100) "key")
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (global.set $seen (i32.const 1)) (call $say (i32.const 1)) (i32.const 0))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32)
    (call $say (i32.sub (i32.const 3) (global.get $seen)))
    (drop (call $set (i32.const 100) (i32.const 3) (i32.const 100) (i32.const 3) (i32.const 0)))
    (i32.const 0))
  (func (export "proxy_on_log") (param i32) (call $say (i32.const 7)))"#;

/// A request that its peer answers in a second; it is under way.
fn slow(process: &mut Process) -> proxy_wasm_sim::RequestId {
    process.world().peer("10.0.0.1:80").latency = (SECOND / 3, SECOND / 3);
    let slow = process.send(Request::get("/").at(0));
    process.run_for(SECOND / 10).unwrap();
    process.world().peer("10.0.0.1:80").latency = (Duration::ZERO, SECOND / 1_000);
    slow
}

#[test]
fn requests_under_way_when_nginx_s_vm_traps_finish_in_contexts_that_never_saw_headers() {
    let module = module(STEPS);
    for (mut process, status, steps) in
        [(Process::envoy(&module, 1), 503, "1"), (Process::nginx(&module, 1), 200, "137")]
    {
        process = process.everything_to("10.0.0.1:80");
        process.start(&[Plugin::filter("f", "")]).unwrap();
        let slow = slow(&mut process);
        process.trap(0);
        process.run_for(2 * SECOND).unwrap();
        assert_eq!(process.outcome(slow).unwrap().status, Some(status));
        assert_eq!(said(&process), steps);
        assert_eq!(process.request(Request::get("/").at(0)).unwrap().status, Some(200));
        assert_eq!(said(&process), format!("{steps}127"));
    }
}

#[test]
fn old_workers_of_nginx_finish_what_they_have_beside_the_new_ones_in_shared_data_of_their_own() {
    let module = module(STEPS);
    let mut nginx = Process::nginx(&module, 1).everything_to("10.0.0.1:80");
    nginx.start(&[Plugin::filter("f", "1")]).unwrap();
    let slow = slow(&mut nginx);
    nginx.update(&[Plugin::filter("f", "2")]).unwrap();
    assert_eq!(nginx.request(Request::get("/elsewhere").at(2)).unwrap().worker, 2);
    assert_eq!(nginx.shared_data().len(), 1);
    assert_eq!(nginx.outcome(slow), None, "an old worker waits");
    nginx.update(&[Plugin::filter("f", "3")]).unwrap();
    nginx.run_for(2 * SECOND).unwrap();
    let outcome = nginx.outcome(slow).unwrap();
    assert_eq!((outcome.status, outcome.worker), (Some(200), 0));
    assert_eq!(said(&nginx), "112727", "the old one saw both headers, and the new one its own");
    assert_eq!(nginx.shared_data().len(), 0, "what it wrote is not for the new ones");
    assert!(nginx.trace().iter().any(|line| line.ends_with("worker 0 ends")));
}
