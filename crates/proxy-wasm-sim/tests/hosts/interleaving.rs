//! A callback can be stopped at a host call while another worker goes on: only then can anything be lost.

use std::time::Duration;

use proxy_wasm_sim::{Faults, Hold, Module, Plugin, Process, Request};

use crate::filters::at_headers;

/// Adds one to a number in shared data. `number` is the one that the write names, `again` what is done where it was refused.
fn counts(number: &str, again: &str) -> Module {
    at_headers(
        r#"(data (i32.const 100) "key")"#,
        &format!(
            "(loop $again
               (i32.store (i32.const 16) (i32.const -1))
               (i32.store (i32.const 20) (i32.const 0))
               (if (i32.eqz (call $get (i32.const 100) (i32.const 3) (i32.const 8) (i32.const 12) (i32.const 16)))
                 (then (i32.store (i32.const 20) (i32.load (i32.load (i32.const 8))))))
               (i32.store (i32.const 20) (i32.add (i32.const 1) (i32.load (i32.const 20))))
               (if (call $set (i32.const 100) (i32.const 3) (i32.const 20) (i32.const 4) {number}) (then {again})))"
        ),
    )
}

fn counted(module: &Module, faults: Faults) -> u32 {
    let mut process = Process::envoy(module, 5).workers(4).everything_to("10.0.0.1:80");
    process.start(&[Plugin::filter("f", "")]).unwrap();
    process.set_faults(faults);
    for _ in 0..400 {
        process.send(Request::get("/"));
    }
    process.run_for(Duration::from_secs(1)).unwrap();
    assert!(process.under_way().is_empty());
    let value = process.shared_data().remove(b"key".as_slice()).unwrap();
    u32::from_le_bytes(value.try_into().unwrap())
}

#[test]
fn compare_and_swap_loses_nothing_and_a_plain_write_does() {
    let faults = Faults { preempt: 2, longest_wait: Duration::from_millis(1), ..Faults::default() };
    let with_cas = counts("(i32.load (i32.const 16))", "(br $again)");
    let without = counts("(i32.const 0)", "");
    assert_eq!(counted(&with_cas, faults), 400);
    assert!(counted(&without, faults) < 400);
    assert_eq!(counted(&without, Faults::default()), 400, "nothing is lost where nothing interleaves");
}

/// The first is held between its read and its write; the other goes on, and the first finds that out if it asks.
#[test]
fn a_held_worker_writes_when_others_have() {
    for (module, counted, took) in
        [(counts("(i32.load (i32.const 16))", "(br $again)"), 2, true), (counts("(i32.const 0)", ""), 1, false)]
    {
        let mut envoy = Process::envoy(&module, 5).everything_to("10.0.0.1:80");
        envoy.start(&[Plugin::filter("f", "")]).unwrap();
        envoy.hold(Hold::before("proxy_set_shared_data", "another key", Duration::from_secs(9)));
        assert_eq!(envoy.request(Request::get("/").at(1)).unwrap().status, Some(200));
        assert_eq!(envoy.held_until(), None, "that was not what it was about");
        envoy.hold(Hold::before("proxy_set_shared_data", "ke", Duration::from_secs(2)));
        let first = envoy.send(Request::get("/").at(0));
        envoy.run_for(Duration::from_millis(10)).unwrap();
        let until = envoy.held_until().unwrap();
        assert!(envoy.now() < until && until < Duration::from_secs(3));
        assert_eq!(envoy.request(Request::get("/").at(1)).unwrap().status, Some(200));
        envoy.run_for(Duration::from_secs(3)).unwrap();
        assert!(envoy.outcome(first).unwrap().ended >= until);
        let value = envoy.shared_data().remove(b"key".as_slice()).unwrap();
        assert_eq!(u32::from_le_bytes(value.try_into().unwrap()), counted + 1, "whether it asked: {took}");
    }
}
