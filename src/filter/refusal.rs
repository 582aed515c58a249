//! Why a request gets no peer: the answer to the client, and the line in the log.
//!
//! The client learns little. The log has the route, the upstream and the reason, once for each cause, and then how many more there
//! were: a route that leads nowhere is told of at the first request, and by any number of them not much more.

use std::net::IpAddr;
use std::time::Duration;

use log::Level;

use crate::host::{Host, HostError, RequestHost, Response, Stray};
use crate::model::error::Error;
use crate::model::peer::PeerRecord;
use crate::model::state::PeerState;
use crate::model::verdict::effective_state;
use crate::problem::problem;
use crate::repeats::{quoted, Repeats};
use crate::request::routes::{Route, LONGEST_PATH};
use crate::request::Request;
use crate::store::Store;
use crate::time::Timestamp;

/// How often the same is logged.
const PAUSE: Duration = Duration::from_secs(10);
/// How much of a path, or of a name that may be a client's, a line has.
const SHOWN: usize = 100;
const NO_ROUTE: &str = "no route of the filter's configuration matches, but a route of the proxy leads to its cluster";

/// Why a request gets no peer.
pub(super) enum Why {
    /// The configuration was refused, and the host goes on with it nevertheless.
    Refused,
    /// Whether a route matches is not known.
    PathTooLong,
    /// The upstream that the route names is not there, or cannot be read.
    Upstream(Error),
    /// The upstream has no peer that may be tried.
    Nobody,
    /// The host takes no peer, or not the lack of one.
    Host(HostError),
    /// All attempts failed, or no other may be made; this is the status.
    Failed(u16),
}

impl Why {
    fn number(&self) -> u64 {
        match self {
            Self::Refused => 1,
            Self::PathTooLong => 2,
            Self::Upstream(Error::NoSuchUpstream(_)) => 3,
            Self::Upstream(_) => 4,
            Self::Nobody => 5,
            Self::Host(_) => 6,
            Self::Failed(_) => 7,
        }
    }

    fn status(&self) -> u32 {
        match self {
            Self::PathTooLong => 414,
            Self::Failed(status) => u32::from(*status),
            _ => 503,
        }
    }

    /// What the client is told.
    fn detail(&self) -> String {
        match self {
            Self::Refused => "the configuration of this proxy's upstreams was refused, see its log".to_owned(),
            Self::PathTooLong => format!("a path can have at most {LONGEST_PATH} bytes here"),
            Self::Upstream(Error::NoSuchUpstream(_)) => "no such upstream".to_owned(),
            Self::Nobody => "no peer of the upstream is usable".to_owned(),
            Self::Failed(_) => "the peers of the upstream that were tried failed".to_owned(),
            Self::Upstream(_) | Self::Host(_) => "the proxy cannot pick a peer, see its log".to_owned(),
        }
    }
}

/// A request that gets no peer.
pub(super) struct Refusal {
    pub(super) why: Why,
    /// The position of the route that matched.
    pub(super) route: Option<usize>,
    /// The name of the upstream, where it is known. The client may have had a say in it.
    pub(super) upstream: Option<String>,
}

impl From<Why> for Refusal {
    fn from(why: Why) -> Self {
        Self { why, route: None, upstream: None }
    }
}

impl Refusal {
    /// The answer.
    pub(super) fn response(&self) -> Response {
        problem(self.why.status(), &self.why.detail())
    }

    fn reason(&self, host: &dyn Host) -> String {
        match &self.why {
            Why::Nobody => {
                let peers = peers(&Store::new(host), self.upstream.as_deref().unwrap_or_default());
                self.why.detail() + &peers.unwrap_or_default()
            }
            Why::Upstream(Error::NoSuchUpstream(_)) | Why::Refused | Why::PathTooLong | Why::Failed(_) => {
                self.why.detail()
            }
            Why::Upstream(error) => error.to_string(),
            Why::Host(error) => error.to_string(),
        }
    }
}

/// How many peers an upstream has in each state.
fn peers(store: &Store<'_>, name: &str) -> Result<String, Error> {
    let Some((record, _)) = store.record(name)? else { return Ok(String::new()) };
    let (failures, status, now) = (store.health(name)?, store.status(&record)?, store.now());
    let state = |peer: &PeerRecord| effective_state(peer, &failures.of(peer), status.of(peer.id), now).state;
    let mut states: Vec<PeerState> = record.peers.iter().map(state).collect();
    let mut text = format!(": {} peers", states.len());
    while let Some(state) = states.first().copied() {
        let count = states.len();
        states.retain(|other| *other != state);
        text += &format!(", {} {state}", count - states.len());
        if state.is_usable() {
            text += " without room (max_conns)";
        }
    }
    Ok(text)
}

/// The lines about requests that got no peer.
pub(super) struct Refusals(Repeats);

impl Default for Refusals {
    fn default() -> Self {
        Self(Repeats::new(PAUSE))
    }
}

impl Refusals {
    /// Logs a request that gets no peer. `route` is the one that matched.
    pub(super) fn say(
        &mut self,
        host: &dyn RequestHost,
        request: &Request<'_>,
        refusal: &Refusal,
        route: Option<&Route>,
    ) {
        // Each failure is counted, and a peer that is taken out for it is told of.
        if matches!(refusal.why, Why::Failed(_)) {
            return;
        }
        // Nothing of the cause is a client's to choose.
        let cause = refusal.route.map_or(0, |route| route as u64 + 1) << 8 | refusal.why.number();
        self.0.say(host.now(), cause, Level::Warn, &|| {
            let name = refusal.route.zip(route).map(|(at, route)| format!("\"routes[{at}] ({route})\""));
            let upstream = route.and_then(|route| route.upstream.as_literal()).or(refusal.upstream.as_deref());
            let upstream = upstream.map(|name| format!(" upstream={}", quoted(name.as_bytes(), SHOWN)));
            let place = name.unwrap_or_else(|| "none".to_owned()) + &upstream.unwrap_or_default();
            line(refusal.why.status(), &place, host.client(), request.path(), &refusal.reason(host))
        });
    }

    /// Logs a request that no route matched and that the host sent to where only requests with a peer may go.
    pub(super) fn say_stray(&mut self, now: Timestamp, stray: &Stray) {
        self.0.say(now, 0, Level::Warn, &|| {
            let place = format!("none cluster={}", stray.cluster);
            let path = stray.path.split(|byte| *byte == b'?').next().unwrap_or_default();
            line(u32::from(stray.status), &place, stray.client, path, NO_ROUTE)
        });
    }

    /// Tells how many there were that were not logged.
    pub(super) fn tell(&mut self, now: Timestamp) {
        self.0.tell(now);
    }
}

fn line(status: u32, place: &str, client: Option<IpAddr>, path: &[u8], why: &str) -> String {
    let client = client.map_or_else(|| "unknown".to_owned(), |client| client.to_string());
    format!("refused: status={status} route={place} client={client} path={} why={why:?}", quoted(path, SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;
    use crate::host::{Capabilities, Guest};
    use crate::testing::test;
    use durpina_sim::{Answer, Sent, Sim};

    type Worker = durpina_sim::Worker<Filter>;

    const FILTER: &str = r#"{
        "upstreams": {"u": {"servers": ["10.0.0.1:80 down", "10.0.0.2:80 drain"]}},
        "routes": [{"regex": "^/v/(.*)", "upstream": "$1"}, {"prefix": "/u", "upstream": "u"}]
    }"#;

    fn refused(answer: &Answer, status: u32) {
        assert!(matches!(answer, Answer::Refused(found, _) if *found == status), "{answer:?}");
    }

    #[test]
    fn each_cause_is_a_line_and_its_repetitions_are_one_more() {
        let sim = Sim::new();
        let mut worker = Worker::start(&sim, FILTER).unwrap();
        worker.tick();
        for _ in 0..20 {
            refused(&worker.send(Sent::get("/u?secret").client("192.0.2.7")), 503);
        }
        let line = "refused: status=503 route=\"routes[1] (prefix /u)\" upstream=\"u\" client=192.0.2.7 path=\"/u\" why=\"no peer of the \
                    upstream is usable: 2 peers, 1 down, 1 draining\"";
        assert_eq!(sim.logged("refused"), [line]);
        sim.advance(PAUSE);
        worker.tick();
        assert_eq!(sim.logged("refused").last().unwrap(), &format!("{line}; 19 more in 10s"));
        // Names that clients make up are one cause, and stay in their line.
        for name in ["none", "other", "\n\u{1b}"] {
            refused(&worker.send(Sent::get(&format!("/v/{name}"))), 503);
        }
        refused(&worker.send(Sent::get(&format!("/v/{}", "x".repeat(3_000)))), 414);
        let lines = sim.logged("routes[0]");
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].contains("upstream=\"none\"") && lines[0].ends_with("why=\"no such upstream\""));
        assert!(lines[1].starts_with("refused: status=414") && lines[1].len() < 300, "{lines:?}");
    }

    #[test]
    fn what_cannot_be_read_and_what_was_refused_is_told_of_too() {
        let sim = Sim::new();
        let mut worker = Worker::start(&sim, FILTER).unwrap();
        worker.tick();
        let mut other = Worker::named(&sim, "other", r#"{"upstream": "$http_pool"}"#).unwrap();
        other.tick();
        let record = sim.keys().into_iter().find(|key| key.ends_with("/upstream/u")).unwrap();
        sim.corrupt(&record);
        refused(&other.send(Sent::get("/").header("pool", "u")), 503);
        assert_eq!(sim.logged("refused: status=503 route=\"routes[0] (all requests)\" upstream=\"u\"").len(), 1);

        let sim = Sim::with(Capabilities { survives_refusal: false, ..Capabilities::default() });
        let mut worker = Worker { host: sim.worker(), filter: Filter::refused() };
        (0..5).for_each(|_| refused(&worker.send(Sent::get("/")), 503));
        let lines = sim.logged("refused: ");
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("why=\"the configuration of this proxy"), "{lines:?}");
    }

    #[test]
    fn a_request_that_strays_is_told_of_and_one_that_goes_elsewhere_is_not() {
        for reports in [true, false] {
            let sim = Sim::new();
            if reports {
                sim.report_failures();
            }
            let text = FILTER.replacen('{', &format!(r#"{{"envoy": {{"access_log": {reports}}}, "#), 1);
            let mut worker = Worker::start(&sim, &text).unwrap();
            worker.tick();
            assert_eq!(worker.send(Sent::get("/x")), Answer::Untouched);
            assert_eq!(sim.logged("refused"), [""; 0]);
            worker.host.route_here();
            for path in ["/x?y", "/z"] {
                assert_eq!(worker.send(Sent::get(path).client("192.0.2.7")), Answer::Failed { attempts: 0 });
            }
            let lines = sim.logged("refused");
            assert_eq!(lines.len(), 1, "{lines:?}");
            let expected =
                "refused: status=503 route=none cluster=durpina client=192.0.2.7 path=\"/x\" why=\"no route of";
            assert!(lines[0].starts_with(expected), "{lines:?}");
            // Of those that nobody reports one in 64 is looked at.
            (0..640).for_each(|_| _ = worker.send(Sent::get("/x")));
            sim.advance(PAUSE);
            worker.tick();
            let more = if reports { 641 } else { 16 };
            assert_eq!(sim.logged(&format!("; {more} more in 10s")).len(), 1, "{:?}", sim.logged("more"));
        }
    }
}
