//! The reference configuration, `envoy/durpina.yaml`, as far as it decides where requests and calls go.

use proxy_wasm_sim::{Decision, Destination, Module, Outcome, Outgoing, Plugin, Process, Route, Routed, Wiring};
use serde_json::Value;

/// The headers of the candidates, which the clusters of the file read and Envoy's encoder drops.
const PEER_HEADERS: [&str; 3] = [":durpina-1", ":durpina-2", ":durpina-3"];

/// Methods whose requests are also retried when a connection breaks.
const SAFE: [&str; 6] = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"];

/// What the gateway for TCP sets on its answers.
const MARK: &str = "x-durpina-gateway";

/// A path that leads to another cluster, though the filter offers peers for it, and the only address there, which refuses.
pub(crate) const ELSEWHERE: &str = "/elsewhere";
const NOBODY: &str = "10.9.9.9:80";

struct Reference;

impl Wiring for Reference {
    fn route(&self, request: &Routed<'_>) -> Decision {
        if request.header(":path").is_some_and(|path| path == ELSEWHERE) {
            return Decision::To(Route { retries: 0, ..Route::to(vec![NOBODY.to_owned()]) });
        }
        let addresses = PEER_HEADERS.iter().map_while(|name| request.header(name)).collect();
        let mut route = Route::to(addresses);
        let wanted = request.header("x-envoy-max-retries").and_then(|retries| retries.parse().ok());
        route.retries = wanted.unwrap_or(2);
        route.retries_resets = request.header(":method").is_some_and(|method| SAFE.contains(&method.as_str()));
        route.hidden = PEER_HEADERS.iter().map(|name| (*name).to_owned()).collect();
        Decision::To(route)
    }

    fn call(&self, call: &Outgoing<'_>) -> Destination {
        let peer = call.header("x-durpina-peer").filter(|peer| peer.parse::<std::net::SocketAddr>().is_ok());
        match (call.to, peer) {
            ("durpina_probe", Some(peer)) => Destination::Http(peer),
            ("durpina_tcp", Some(peer)) => Destination::Gateway(peer, vec![(MARK.to_owned(), "1".to_owned())]),
            ("durpina_probe" | "durpina_tcp", None) => Destination::Fails,
            _ => Destination::Unknown,
        }
    }
}

/// An Envoy with the reference configuration around the filter; it is not started yet.
pub(crate) fn envoy(module: &Module, seed: u64) -> Process {
    let mut process = Process::envoy(module, seed).wiring(Reference);
    process.set_reload_backoff(std::time::Duration::from_millis(100));
    process
}

/// The filter with this JSON, and its access log.
pub(crate) fn plugins(filter: &Value) -> [Plugin; 2] {
    let mut filter = filter.clone();
    filter["envoy"]["peer_headers"] = PEER_HEADERS.to_vec().into();
    let is_reported =
        |seen: &Outcome| seen.flags != 0 || seen.status.is_some_and(|status| status >= 300) || seen.attempts.len() != 1;
    [Plugin::filter("durpina", &filter.to_string()), Plugin::access_log("durpina_log", "", is_reported)]
}
