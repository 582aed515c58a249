//! What monitors, an agent and name servers say of one peer.

use serde::{Deserialize, Serialize};

use crate::model::agent::Agent;
use crate::model::check::Check;
use crate::model::resolution::Resolution;

/// What is said of a peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// What monitors found.
    pub checks: Vec<Check>,
    /// What its agent says.
    pub agent: Option<Agent>,
    /// What name servers say of its name.
    pub name: Option<Resolution>,
}

impl PeerStatus {
    /// Lifts all verdicts; what was counted stays.
    pub fn reset(&mut self) {
        for check in &mut self.checks {
            (check.is_down, check.streak) = (false, 0);
            check.why.clear();
        }
        self.agent = None;
    }

    /// What a monitor found.
    #[must_use]
    pub fn check(&self, monitor: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.monitor == monitor)
    }

    /// Overrides what a monitor found.
    pub fn change_check<R>(&mut self, monitor: &str, kind: &str, change: impl FnOnce(&mut Check) -> R) -> R {
        self.checks.retain(|check| check.monitor != monitor || check.kind == kind);
        if let Some(check) = self.checks.iter_mut().find(|check| check.monitor == monitor) {
            return change(check);
        }
        let mut check = Check::new(monitor, kind);
        let result = change(&mut check);
        self.checks.push(check);
        result
    }

    /// How many checks failed, by all monitors.
    #[must_use]
    pub fn failed_checks(&self) -> u64 {
        self.checks.iter().map(|check| check.failed).sum()
    }

    /// The monitor that has had a verdict against it for the longest time.
    #[must_use]
    pub fn down_by(&self) -> Option<&Check> {
        self.checks.iter().filter(|check| check.is_down).min_by_key(|check| check.since)
    }
}
