//! Figures for Prometheus, in its text format 0.0.4.
//!
//! The names follow HAProxy's exporter where it has the same figure (`haproxy_server_weight`, `…_http_responses_total`), with a
//! peer instead of a server.

use std::fmt::Write;

use super::request::ApiRequest;
use super::snapshot::{Assessed, AssessedPeer, Snapshot};
use crate::host::Response;
use crate::model::counters::REASONS;
use crate::model::error::Error;
use crate::model::peer_status::PeerStatus;
use crate::model::state::PeerState;
use crate::model::upstream_state::UpstreamState;

const STATES: [PeerState; 5] =
    [PeerState::Up, PeerState::Failing, PeerState::TemporaryDown, PeerState::Down, PeerState::Draining];

/// All metrics.
pub(super) fn render(request: &ApiRequest<'_>) -> Result<Response, Error> {
    let index = request.store.index()?;
    let snapshots = Snapshot::all(&request.store, &index)?;
    let upstreams: Vec<Assessed<'_>> = snapshots.iter().map(Snapshot::assess).collect();
    let mut page = Page { text: String::new(), upstreams: &upstreams };
    page.peers();
    let help = "0 where a verdict is against every peer that no operator took out, or there is none.";
    page.family("durpina_upstream_up", "gauge", help);
    for Assessed { snapshot, tally, .. } in &upstreams {
        let is_up = tally.state != UpstreamState::Down;
        page.line("durpina_upstream_up", &[("upstream", &snapshot.record.name)], whole(is_up));
    }
    page.family("durpina_upstream_peers", "gauge", "How many peers are in each state.");
    for all in &upstreams {
        for state in STATES {
            let labels = [("upstream", all.snapshot.record.name.as_str()), ("state", state.name())];
            let count = all.peers().filter(|peer| peer.effective.state == state).count();
            page.line("durpina_upstream_peers", &labels, whole(count as u64));
        }
    }
    let help = "How many peers an operator or the configuration took out: maintenance, no outage.";
    page.family("durpina_upstream_peers_out", "gauge", help);
    for Assessed { snapshot, tally, .. } in &upstreams {
        page.line("durpina_upstream_peers_out", &[("upstream", &snapshot.record.name)], whole(tally.out as u64));
    }
    page.family("durpina_upstream_revision", "gauge", "Counts the changes to an upstream.");
    for snapshot in &snapshots {
        page.line("durpina_upstream_revision", &[("upstream", &snapshot.record.name)], whole(snapshot.record.revision));
    }
    let help = "When the last check of the upstream was made, by any worker; 0 before the first. Up to a second late.";
    page.family("durpina_checks_last_timestamp_seconds", "gauge", help);
    for snapshot in snapshots.iter().filter(|snapshot| !snapshot.record.monitors.is_empty()) {
        let labels = [("upstream", snapshot.record.name.as_str())];
        page.line("durpina_checks_last_timestamp_seconds", &labels, snapshot.status.last_check().as_millis());
    }
    page.family("durpina_configuration_generation", "gauge", "Counts the configurations of this process.");
    page.line("durpina_configuration_generation", &[], whole(index.generation()));
    page.family("durpina_build_info", "gauge", "The version of the filter, with the value 1.");
    page.line("durpina_build_info", &[("version", env!("CARGO_PKG_VERSION"))], whole(1_u8));
    Ok(Response {
        status: 200,
        headers: vec![("content-type", "text/plain; version=0.0.4; charset=utf-8".to_owned())],
        body: page.text.into_bytes(),
    })
}

struct Page<'s> {
    text: String,
    upstreams: &'s [Assessed<'s>],
}

/// The lines of one peer in one family: the further labels with their values, and the figure in thousandths.
///
/// Formatting floating-point numbers would take a fiftieth of the filter.
type Figures<'s> = Vec<(Vec<(&'static str, &'s str)>, u64)>;

/// A whole figure.
fn whole(figure: impl Into<u64>) -> u64 {
    figure.into().saturating_mul(1_000)
}

impl Page<'_> {
    fn peers(&mut self) {
        let help = "Whether nothing is against the peer: its state is up or failing.";
        self.each("durpina_peer_up", "gauge", help, |_, peer| vec![(vec![], whole(peer.effective.state.is_usable()))]);
        let help = "Whether requests may go there, in spite of its state or not.";
        self.each("durpina_peer_in_use", "gauge", help, |_, peer| vec![(vec![], whole(peer.usage.is_in_use()))]);
        self.each("durpina_peer_status", "gauge", "1 for the state that the peer is in.", |_, peer| {
            let figure = |one: PeerState| (vec![("state", one.name())], whole(one == peer.effective.state));
            STATES.into_iter().map(figure).collect()
        });
        self.each("durpina_peer_weight", "gauge", "The weight in force.", |all, peer| {
            let (snapshot, peer) = (all.snapshot, peer.record);
            let agent = snapshot.status.of(peer.id).and_then(|said| said.agent.as_ref());
            vec![(vec![], whole(peer.whole_weight(agent)))]
        });
        let help = "The weight with slow start and the agent's word, 0 for a peer that gets no requests.";
        self.each("durpina_peer_effective_weight", "gauge", help, |all, peer| {
            vec![(vec![], (all.effective_weight(peer) * 1e3) as u64)]
        });
        self.each("durpina_peer_in_flight_requests", "gauge", "Requests in flight.", |all, peer| {
            let (snapshot, peer) = (all.snapshot, peer.record);
            vec![(vec![], whole(snapshot.counters.in_flight(peer.id, snapshot.now)))]
        });
        self.each("durpina_peer_picks_total", "counter", "Attempts of requests that went there.", |all, peer| {
            let (snapshot, peer) = (all.snapshot, peer.record);
            vec![(vec![], whole(snapshot.counters.of(peer.id).picks))]
        });
        let help = "Answers by the class of their status.";
        self.each("durpina_peer_http_responses_total", "counter", help, |all, peer| {
            let (snapshot, peer) = (all.snapshot, peer.record);
            let counts = snapshot.counters.of(peer.id).responses;
            let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(counts);
            classes.map(|(class, count)| (vec![("code", class)], whole(count))).collect()
        });
        let help = "Failed attempts and checks, by reason.";
        self.each("durpina_peer_failures_total", "counter", help, |all, peer| {
            let (snapshot, peer) = (all.snapshot, peer.record);
            let checks = snapshot.status.of(peer.id).map_or(0, PeerStatus::failed_checks);
            let counts = REASONS.into_iter().zip(snapshot.counters.of(peer.id).failures);
            counts.chain([("check", checks)]).map(|(why, count)| (vec![("reason", why)], whole(count))).collect()
        });
        let help = "How often failures of requests or checks took the peer out of use.";
        self.each("durpina_peer_ejections_total", "counter", help, |all, peer| {
            let (snapshot, peer) = (all.snapshot, peer.record);
            let by_checks: u64 =
                snapshot.status.of(peer.id).iter().flat_map(|said| &said.checks).map(|check| check.ejections).sum();
            vec![(vec![], whole(snapshot.counters.of(peer.id).ejections + by_checks))]
        });
        self.each("durpina_peer_checks_total", "counter", "Checks by their result.", |all, peer| {
            let (snapshot, peer) = (all.snapshot, peer.record);
            let checks = snapshot.status.of(peer.id).into_iter().flat_map(|said| &said.checks);
            let results = checks.flat_map(|check| {
                [("ok", check.passed), ("failed", check.failed)].map(|(result, count)| {
                    (vec![("monitor", check.monitor.as_str()), ("result", result)], whole(count))
                })
            });
            results.collect()
        });
        let help = "How long the last check took.";
        self.each("durpina_peer_check_duration_seconds", "gauge", help, |all, peer| {
            let (snapshot, peer) = (all.snapshot, peer.record);
            let checks = snapshot.status.of(peer.id).into_iter().flat_map(|said| &said.checks);
            checks.map(|check| (vec![("monitor", check.monitor.as_str())], u64::from(check.took))).collect()
        });
    }

    fn each(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        figures: impl for<'s> Fn(&Assessed<'s>, &AssessedPeer<'s>) -> Figures<'s>,
    ) {
        self.family(name, kind, help);
        for all in self.upstreams {
            for peer in all.peers() {
                for (further, figure) in figures(all, &peer) {
                    let mut labels =
                        vec![("upstream", &*all.snapshot.record.name), ("peer", &*peer.record.server.name)];
                    labels.extend(further);
                    self.line(name, &labels, figure);
                }
            }
        }
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], thousandths: u64) {
        self.text.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{label}=\"{value}\"", if at == 0 { '{' } else { ',' });
        }
        let _ = write!(self.text, "{} {}", if labels.is_empty() { "" } else { "}" }, thousandths / 1_000);
        if thousandths % 1_000 != 0 {
            let _ = write!(self.text, ".{:03}", thousandths % 1_000);
        }
        self.text.push('\n');
    }
}
