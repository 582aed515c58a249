//! The management API, as asked at a worker.

use proxy_wasm_sim::{Outcome, Process, Request};
use serde_json::Value;

/// The filter JSON's `admin`.
pub(crate) fn admin() -> Value {
    serde_json::json!({ "prefix": "/durpina", "token": "t", "allow": ["0.0.0.0/0"] })
}

/// A request to the API.
pub(crate) fn request(method: &str, path: &str, body: &Value) -> Request {
    let request = Request::new(method, &format!("/durpina{path}")).header("authorization", "Bearer t");
    if body.is_null() {
        return request;
    }
    Request { body: body.to_string().into_bytes(), ..request.header("content-type", "application/json") }
}

/// What a worker says of the upstream `web`.
pub(crate) fn upstream(process: &mut Process, worker: usize) -> Value {
    let outcome = ask(process, worker, "/upstreams/web");
    serde_json::from_slice(&outcome.body).unwrap_or_else(|error| panic!("{error}: {outcome:?}"))
}

/// The failures that a worker knows of.
pub(crate) struct Failures(Vec<(String, f64)>);

/// What a worker says of failures.
pub(crate) fn failures(process: &mut Process, worker: usize) -> Failures {
    let outcome = ask(process, worker, "/metrics");
    let text = String::from_utf8(outcome.body).expect("text");
    let read = |line: &str| {
        let (labels, number) = line.rsplit_once(' ').unwrap();
        (labels.to_owned(), number.parse().expect("a number"))
    };
    Failures(text.lines().filter(|line| line.starts_with("durpina_peer_failures_total{")).map(read).collect())
}

impl Failures {
    /// Those counted against a peer, of requests or of checks.
    pub(crate) fn of(&self, peer: &str, are_of_checks: bool) -> f64 {
        let is_meant = |labels: &str| {
            labels.contains(&format!("peer=\"{peer}\"")) && labels.contains("reason=\"check\"") == are_of_checks
        };
        self.0.iter().filter(|(labels, _)| is_meant(labels)).map(|(_, count)| count).sum()
    }
}

fn ask(process: &mut Process, worker: usize, path: &str) -> Outcome {
    let outcome = process.request(request("GET", path, &Value::Null).at(worker)).expect("the process lives");
    assert_eq!(outcome.status, Some(200), "{path} at worker {worker}: {outcome:?}");
    outcome
}
