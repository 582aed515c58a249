//! A callback can be stopped at a host call while another worker goes on: only then can anything be lost.

use std::time::Duration;

use proxy_wasm_sim::{Faults, Module, Plugin, Process, Request};

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
