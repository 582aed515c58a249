//! The state of an upstream: one of all its peers' states.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::admin_state::AdminState;
use crate::model::ejection::Assessment;
use crate::model::upstream::Record;
use crate::model::verdict::{EffectiveState, Owner};
use crate::time::Timestamp;

/// What an upstream is in the eyes of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum UpstreamState {
    /// No verdict is against any peer.
    Up,
    /// Verdicts are against some of the peers.
    Degraded,
    /// A verdict is against every peer that no operator took out, or there is none.
    Down,
}

impl UpstreamState {
    /// The name in answers and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

impl fmt::Display for UpstreamState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How many of an upstream's peers are well. Peers that an operator, or the configuration, took out are maintenance, not an outage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tally {
    /// The upstream's state.
    pub(crate) state: UpstreamState,
    /// Peers without a verdict.
    pub(crate) up: usize,
    /// Peers that nobody took out.
    pub(crate) in_service: usize,
    /// Peers that are taken out.
    pub(crate) out: usize,
    /// The peer against which the latest of the verdicts stands.
    pub(crate) latest: Option<usize>,
    /// What a peer's name means is not known yet, and with it the state.
    pub(crate) is_pending: bool,
}

impl Tally {
    /// Of an upstream's peers.
    pub(crate) fn of(record: &Record, assessment: &Assessment<'_>, now: Timestamp) -> Self {
        let (mut up, mut out, mut is_pending) = (0, 0, false);
        let mut latest: Option<(Option<Timestamp>, usize)> = None;
        for (at, (peer, (effective, _))) in record.peers.iter().zip(&assessment.peers).enumerate() {
            if peer.admin_state(now).0 != AdminState::Up {
                out += 1;
            } else if effective.state.is_usable() {
                up += 1;
            } else {
                is_pending |= is_unresolved(effective);
                latest = latest.max(Some((effective.since, at)));
            }
        }
        let in_service = record.peers.len().saturating_sub(out);
        let state = match up {
            0 => UpstreamState::Down,
            _ if up == in_service => UpstreamState::Up,
            _ => UpstreamState::Degraded,
        };
        Self { state, up, in_service, out, latest: latest.map(|(_, at)| at), is_pending }
    }

    /// Whose word that state is, and why, as far as the peers' states tell.
    pub(crate) fn reason(&self, record: &Record, assessment: &Assessment<'_>) -> (String, String) {
        let latest = self.latest.and_then(|at| Some((record.peers.get(at)?, &assessment.get(at)?.0)));
        match latest {
            Some((peer, effective)) => (
                effective.by().unwrap_or_default(),
                format!("peer {}: {}", peer.server.name, effective.why().unwrap_or_default()),
            ),
            None if record.peers.is_empty() => ("configuration".to_owned(), "there is no peer".to_owned()),
            None if self.in_service == 0 => ("operator".to_owned(), "every peer is taken out".to_owned()),
            None => ("nobody".to_owned(), "no verdict is against any peer".to_owned()),
        }
    }
}

fn is_unresolved(effective: &EffectiveState<'_>) -> bool {
    matches!(effective.owner, Owner::Resolver(name) if name.is_pending())
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} peers left", self.up, self.in_service)?;
        if self.out > 0 {
            write!(f, ", {} taken out", self.out)?;
        }
        Ok(())
    }
}

/// The state that was told last, as shared data holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ToldState {
    pub(crate) state: UpstreamState,
    pub(crate) since: Timestamp,
    /// Whose word it is.
    pub(crate) by: String,
    pub(crate) why: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::failure_table::FailureTable;
    use crate::model::server::Server;
    use crate::model::status::Status;
    use crate::testing::test;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    /// The tally of peers that are ordered `up` or `down`, or fail.
    fn tally(peers: &[&str]) -> (UpstreamState, String) {
        let mut record = Record::new("u");
        let mut table = FailureTable::default();
        for (n, word) in peers.iter().enumerate() {
            let peer = record.add(Server { name: format!("10.0.0.{n}:80"), ..Server::default() }).unwrap();
            match *word {
                "fails" => table.set(&peer, table.of(&peer).and_one(NOW, 1, peer.fail_timeout(), true)),
                "down" => record.peers[n].overrides.admin_state = Some((AdminState::Down, NOW)),
                _ => {}
            }
        }
        let status = Status::default();
        let assessment = Assessment::of(&record, &table, &status, NOW);
        let tally = Tally::of(&record, &assessment, NOW);
        (tally.state, tally.to_string())
    }

    #[test]
    fn an_upstream_is_down_when_a_verdict_is_against_all_that_are_in_service() {
        let text = |state, text: &str| (state, text.to_owned());
        assert_eq!(tally(&["up", "up"]), text(UpstreamState::Up, "2 of 2 peers left"));
        assert_eq!(tally(&["up", "fails"]), text(UpstreamState::Degraded, "1 of 2 peers left"));
        assert_eq!(tally(&["fails", "fails"]), text(UpstreamState::Down, "0 of 2 peers left"));
        assert_eq!(tally(&["fails"]), text(UpstreamState::Down, "0 of 1 peers left"));
        assert_eq!(tally(&["up", "down"]), text(UpstreamState::Up, "1 of 1 peers left, 1 taken out"));
        assert_eq!(tally(&["fails", "down"]), text(UpstreamState::Down, "0 of 1 peers left, 1 taken out"));
        assert_eq!(tally(&["down"]), text(UpstreamState::Down, "0 of 0 peers left, 1 taken out"));
        assert_eq!(tally(&[]), text(UpstreamState::Down, "0 of 0 peers left"));
    }
}
