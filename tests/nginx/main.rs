//! The filter in a real nginx, between real sockets: what a user would miss if it broke.
//!
//! Cases that mean the same on Envoy are the very files of `tests/envoy`:
//!
//! - [`balancing`], [`balancers`]: who gets how much; [`routing`]: which requests go to which upstream.
//!
//! What is nginx's own:
//!
//! - [`picks`]: the same keys go to the same servers as on Envoy;
//! - [`failover`]: servers die under load, in each of the configurations of `nginx-wasm/`, and no client notices;
//! - [`failures`]: what counts against a peer, what is repeated and what is not;
//! - [`clients`]: those that upgrade, dawdle and go away;
//! - [`hygiene`]: what clients send chooses no peer, and what is not routed is left alone;
//! - [`admin`]: the management API, the page, the metrics, the command line;
//! - [`monitors`]: dead servers are found without traffic, each is asked once for all workers;
//! - [`names`]: servers that are given by a name;
//! - [`scripting`]: the filters of `examples/`, and requests that crash;
//! - [`lifecycle`]: reloads, killed workers, refused configurations, full and missing zones.
//!
//! `make test-nginx NGINX=/path/to/nginx` runs this, on an nginx with ngx_wasm_module.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The core is not allowed to read a clock; tests measure with one.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod admin;
#[path = "../envoy/balancers.rs"]
mod balancers;
#[path = "../envoy/balancing.rs"]
mod balancing;
mod clients;
mod failover;
mod failures;
mod hygiene;
mod lifecycle;
mod monitors;
mod names;
mod picks;
#[path = "../envoy/routing.rs"]
mod routing;
mod scripting;
use durpina_e2e as support;

use std::fmt::Display;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::{json, Value};

use support::nginx::{Conf, Nginx, Setup};
use support::proxy::Proxy as _;
use support::server::{serve_until_orphaned, Server, ServerProcess};

/// Longer than anything takes that is going to happen at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// A filter JSON that sends everything to one upstream of these servers.
fn one_upstream<S: Display>(servers: &[S]) -> Value {
    let servers: Vec<String> = servers.iter().map(S::to_string).collect();
    json!({ "upstreams": { "web": { "servers": servers } }, "upstream": "web" })
}

/// The server's address with parameters, as in nginx's `server` directive.
fn server(server: &Server, parameters: &str) -> String {
    format!("{} {parameters}", server.addr()).trim_end().to_owned()
}

/// An nginx that keeps connections, with this filter JSON, one worker.
#[track_caller]
fn start(filter: &Value) -> Nginx {
    start_workers(filter, 1)
}

/// The same with so many workers.
#[track_caller]
fn start_workers(filter: &Value, workers: u32) -> Nginx {
    Setup::new(Conf::Keepalive, filter).workers(workers).start()
}

/// What [`start`] gives: the cases that `tests/envoy` has too do not know which proxy they are on.
type Started = Nginx;

/// The answer to a request that the filter does not route.
const UNROUTED: &str = "503";

/// Who answers so many requests that one connection sends one after the other.
#[track_caller]
fn served_in_turn(nginx: &Nginx, requests: usize) -> Vec<String> {
    let mut client = nginx.client();
    (0..requests).map(|_| client.get("/").expect("an answer").served_by().to_owned()).collect()
}

/// A server in a process of its own: this very test program, told to run the test `server_process` alone.
fn spawn_server(name: &str) -> ServerProcess {
    ServerProcess::start(name, |name, addr| {
        let mut command = Command::new(std::env::current_exe().expect("the path of the running test program"));
        command.args(["server_process", "--exact", "--nocapture"]);
        command.env(SERVER_PROCESS, format!("{name}@{addr}"));
        command
    })
}

const SERVER_PROCESS: &str = "DURPINA_TEST_SERVER";

/// Not a test but the body of the server processes; without their variable it does nothing.
#[test]
fn server_process() {
    let Ok(task) = std::env::var(SERVER_PROCESS) else { return };
    let (name, addr) = task.split_once('@').expect("a name and an address");
    let addr: SocketAddr = addr.parse().expect("an address");
    serve_until_orphaned(name, addr);
}
