//! What monitors, an agent and name servers say of one peer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::agent::Agent;
use crate::model::check::Check;
use crate::model::era::Era;
use crate::model::resolution::Resolution;
use crate::model::spec::MonitorSpec;
use crate::time::Timestamp;

/// What is said of a peer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct PeerStatus {
    /// The era in which it was said.
    pub(crate) era: Era,
    /// What monitors found.
    pub(crate) checks: Vec<Check>,
    /// What its agent says.
    pub(crate) agent: Option<Agent>,
    /// What name servers say of its name.
    pub(crate) name: Option<Resolution>,
}

impl PeerStatus {
    /// Leaves out what was said in an era before this one, and what of that does not end with it stays: what was counted, and
    /// where the peer's name leads.
    pub(crate) fn enter(&mut self, era: Era) {
        if self.era.verdicts < era.verdicts {
            for check in &mut self.checks {
                check.clear();
            }
            self.agent = None;
        }
        if self.era.weight < era.weight {
            if let Some(agent) = self.agent.as_mut().filter(|agent| !agent.is_weightless()) {
                agent.weight = None;
            }
        }
        // A later one than this is one that the record, read earlier, does not know of yet.
        self.era.verdicts = self.era.verdicts.max(era.verdicts);
        self.era.weight = self.era.weight.max(era.weight);
    }

    /// What a monitor found.
    #[must_use]
    pub(crate) fn check(&self, monitor: &str) -> Option<&Check> {
        self.checks.iter().find(|check| check.monitor == monitor)
    }

    /// Changes what a monitor found. What an earlier one of its id found is left out.
    pub(crate) fn change_check<R>(&mut self, monitor: &MonitorSpec, change: impl FnOnce(&mut Check) -> R) -> R {
        self.checks.retain(|check| check.monitor != monitor.id || check.number == monitor.number);
        if let Some(check) = self.checks.iter_mut().find(|check| check.monitor == monitor.id) {
            return change(check);
        }
        let mut check = Check::new(&monitor.id, monitor.number);
        let result = change(&mut check);
        self.checks.push(check);
        result
    }

    /// How many checks failed, by all monitors.
    #[must_use]
    pub(crate) fn failed_checks(&self) -> u64 {
        self.checks.iter().map(|check| check.failed).sum()
    }

    /// The monitor whose failed checks count for the longest time.
    #[must_use]
    pub(crate) fn failing_by(&self, now: Timestamp, window: Duration) -> Option<&Check> {
        let failing = self.checks.iter().filter(|check| check.is_failing(now, window));
        failing.min_by_key(|check| check.fails(now, window).1)
    }

    /// The monitor that has had a verdict against it for the longest time.
    #[must_use]
    pub(crate) fn down_by(&self) -> Option<&Check> {
        self.checks.iter().filter(|check| check.is_down).min_by_key(|check| check.since)
    }
}
