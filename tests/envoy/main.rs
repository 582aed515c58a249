//! The filter in a real Envoy, between real sockets: what a user would miss if it broke.
//!
//! - [`access`]: who may use the management API;
//! - [`admin`]: the management API, the status page, the metrics;
//! - [`adopted`]: configurations of many kinds, with the filter put in by `durpina envoy`;
//! - [`balancing`]: who gets how much;
//! - [`balancers`]: the same for the balancers beyond round robin;
//! - [`declarations`]: which upstreams there are;
//! - [`deploy`]: the manifests for Kubernetes, applied as the controllers do;
//! - [`failover`]: servers die under load and come back, and no client notices;
//! - [`failures`]: what counts against a peer and what does not; [`blame`]: each way in which a request can end, and whose fault it is;
//! - [`hostile`]: peers that send without an end cost little;
//! - [`hygiene`]: what clients send chooses no peer and crashes nothing, what servers get holds nothing of ours;
//! - [`keepalive`]: checks over kept connections;
//! - [`log`]: what it says of answers that no server gave, of refusals, of configurations;
//! - [`monitors`]: dead servers are found without traffic, agents are heard;
//! - [`names`]: names of servers are looked up, again and again;
//! - [`routing`]: which requests go to which upstream;
//! - [`scripting`]: filters of one's own: the examples, and one that crashes;
//! - [`soak`]: healthy servers are blamed for nothing, whatever clients do;
//! - [`state`]: what is shown is what is the case;
//! - [`configuration`]: what is accepted, what is refused, and what an update leaves alone.
//!
//! `make test` builds the filter, fetches Envoy and runs this. By hand: `make build`, then
//! `cargo test -p durpina-e2e --test envoy`; the environment variables `ENVOY` and `DURPINA_WASM` name other files.
//! Servers, Envoys and clients are in `tests/support`.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The core is not allowed to read a clock; tests measure with one.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod access;
mod admin;
mod adopted;
mod balancers;
mod balancing;
mod blame;
mod configuration;
mod declarations;
mod deploy;
mod failover;
mod failures;
mod files;
mod forgeries;
mod hostile;
mod hygiene;
mod keepalive;
mod log;
mod monitors;
mod names;
mod probes;
mod routing;
mod scripting;
mod soak;
mod state;
use durpina_e2e as support;

use std::fmt::Display;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use serde_json::{json, Value};

use support::config::Config;
use support::envoy::{Envoy, Setup};
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

/// An Envoy with the reference configuration and this filter JSON, one worker.
#[track_caller]
fn start(filter: &Value) -> Envoy {
    Setup::new(Config::reference(filter)).start()
}

/// The same with so many workers.
#[track_caller]
fn start_workers(filter: &Value, workers: u32) -> Envoy {
    Setup::new(Config::reference(filter)).workers(workers).start()
}

/// What [`start`] gives: the cases that `tests/nginx` has too do not know which proxy they are on.
type Started = Envoy;

/// The answer to a request that the filter does not route.
const UNROUTED: &str = "503";

/// Who answers so many requests that one connection sends one after the other.
#[track_caller]
fn served_in_turn(envoy: &Envoy, requests: usize) -> Vec<String> {
    let mut client = envoy.client();
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
