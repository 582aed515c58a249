//! What the tests on a real Envoy and a real nginx, the demo and the benchmark have in common.
//!
//! Start here to read any of them:
//!
//! - [`config`]: one of the shipped files in `envoy/`, with the few places changed that a test has to
//!   change (ports, the filter's JSON, a shorter timeout);
//! - [`envoy`]: an Envoy process that runs such a configuration, with its admin pages, log and CPU time;
//! - [`nginx`]: the same for nginx; [`proxy`]: what tests ask of either;
//! - [`callgrind`]: such a process whose instructions are counted;
//! - [`server`]: HTTP servers that answer, hang, reset or talk nonsense on command, in this process or
//!   in one of their own that can be killed;
//! - [`tcp`]: servers of other protocols; [`h2`]: of HTTP/2, frame by frame; [`dns`]: a real name server; [`tls`]: a certificate; [`hostile`]: peers that do
//!   their worst;
//! - [`client`]: one HTTP/1.1 connection that can send any bytes; [`load`]: many of them at once;
//! - [`ports`]: addresses that nobody else takes while a test uses them.
//!
//! Everything stays on the loopback interface, is bounded in count and time, and ends when its owner is
//! dropped, on a panic too. Nothing is shared between tests, so that several runs can go on at once.

#![cfg(not(target_arch = "wasm32"))]
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The core is not allowed to read a clock; tests measure with one.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod callgrind;
pub mod client;
pub mod config;
pub mod dns;
pub mod envoy;
pub mod h2;
pub mod hostile;
pub mod load;
pub mod nginx;
pub mod ports;
pub mod proxy;
pub mod server;
pub mod tcp;
pub mod tls;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The command line, which `cargo` builds beside the tests: the variable `DURPINA_CLI` names another one.
pub fn command_line() -> Command {
    let beside = || {
        let own = std::env::current_exe().expect("a program knows where it is");
        own.ancestors().nth(2).expect("target/PROFILE/deps").join("durpina")
    };
    let path = std::env::var_os("DURPINA_CLI").map_or_else(beside, PathBuf::from);
    assert!(path.is_file(), "{} is missing: `cargo build -p durpina-cli` makes it", path.display());
    Command::new(path)
}

/// Waits until `check` holds, and fails with `what` when it does not within `limit`.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut check: impl FnMut() -> bool) {
    let start = Instant::now();
    while !check() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
