//! What the tests on a real Envoy, the demo and the benchmark have in common.
//!
//! Start here to read any of them:
//!
//! - [`config`]: one of the shipped files in `envoy/`, with the few places changed that a test has to
//!   change (ports, the filter's JSON, a shorter timeout);
//! - [`envoy`]: an Envoy process that runs such a configuration, with its admin pages, log and CPU time;
//! - [`callgrind`]: such a process whose instructions are counted;
//! - [`server`]: HTTP servers that answer, hang, reset or talk nonsense on command, in this process or
//!   in one of their own that can be killed;
//! - [`tcp`]: servers of other protocols; [`dns`]: a real name server;
//! - [`client`]: one HTTP/1.1 connection that can send any bytes; [`load`]: many of them at once;
//! - [`ports`]: addresses that nobody else takes while a test uses them.
//!
//! Everything stays on the loopback interface, is bounded in count and time, and ends when its owner is
//! dropped, on a panic too. Nothing is shared between tests, so that several runs can go on at once.

// Three programs include this module and each uses a part of it.
#![allow(dead_code, unreachable_pub)]

pub mod callgrind;
pub mod client;
pub mod config;
pub mod dns;
pub mod envoy;
pub mod load;
pub mod ports;
pub mod server;
pub mod tcp;

use std::time::{Duration, Instant};

/// Waits until `check` holds, and fails with `what` when it does not within `limit`.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
