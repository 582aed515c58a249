//! What an agent said of its peer, all of its lines taken together.

use serde::{Deserialize, Serialize};

use crate::model::report::{AgentAdmin, AgentHealth, Report, Weight};
use crate::model::spec::MonitorSpec;
use crate::time::Timestamp;

/// What an agent said so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Agent {
    /// The id of the monitor that asked.
    pub(super) monitor: String,
    /// Tells that monitor from an earlier one of the same id.
    pub(super) number: u32,
    /// Its health.
    pub(crate) health: Option<AgentHealth>,
    /// What it wants.
    pub(crate) admin: Option<AgentAdmin>,
    /// The weight it wants.
    pub(crate) weight: Option<Weight>,
    /// The limit it wants.
    pub(crate) max_conns: Option<u32>,
    /// What it says to people.
    pub(crate) description: String,
    /// The words of its last line that mean nothing.
    pub(crate) unknown: Vec<String>,
    /// Since when its word on being used is the same.
    pub(crate) since: Timestamp,
}

impl Agent {
    /// Whether it is this monitor that asked last.
    pub(crate) fn is_of(&self, monitor: &MonitorSpec) -> bool {
        self.monitor == monitor.id && self.number == monitor.number
    }

    /// Takes in a line that a monitor was told.
    pub(crate) fn apply(&mut self, monitor: &MonitorSpec, report: &Report, now: Timestamp) {
        self.monitor.clone_from(&monitor.id);
        self.number = monitor.number;
        let before = (self.is_down(), self.is_draining());
        self.health = report.health.or(self.health);
        self.admin = report.admin.or(self.admin);
        self.weight = report.weight.or(self.weight);
        self.max_conns = report.max_conns.or(self.max_conns);
        self.unknown.clone_from(&report.unknown);
        if let Some(description) = &report.description {
            self.description.clone_from(description);
        }
        if before != (self.is_down(), self.is_draining()) {
            self.since = now;
        }
    }

    /// Whether it wants the peer out of use.
    #[must_use]
    pub(crate) fn is_down(&self) -> bool {
        self.admin == Some(AgentAdmin::Maint) || self.health.is_some_and(|health| health != AgentHealth::Up)
    }

    /// Whether it wants the peer to get nothing new.
    #[must_use]
    pub(crate) fn is_draining(&self) -> bool {
        self.admin == Some(AgentAdmin::Drain) || self.is_weightless()
    }

    /// Whether the weight that it wants is none.
    #[must_use]
    pub(crate) fn is_weightless(&self) -> bool {
        matches!(self.weight, Some(Weight::Percent(0) | Weight::Exactly(0)))
    }

    /// Its words, in short.
    #[must_use]
    pub(crate) fn summary(&self) -> String {
        let mut words = Vec::new();
        words.extend(self.health.map(|health| match health {
            AgentHealth::Up => "up",
            AgentHealth::Down => "down",
            AgentHealth::Stopped => "stopped",
            AgentHealth::Fail => "fail",
        }));
        words.extend(self.admin.map(|admin| match admin {
            AgentAdmin::Ready => "ready",
            AgentAdmin::Drain => "drain",
            AgentAdmin::Maint => "maint",
        }));
        let mut text = words.join(" ");
        if let Some(weight) = self.weight {
            text += &match weight {
                Weight::Percent(percent) => format!(" {percent}%"),
                Weight::Exactly(weight) => format!(" weight:{weight}"),
            };
        }
        if !self.description.is_empty() {
            text += &format!(" # {}", self.description);
        }
        text.trim_start().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn what_an_agent_does_not_mention_stays() {
        let mut agent = Agent::default();
        let mut apply = |line: &str, second: u64| {
            agent.apply(
                &MonitorSpec::default(),
                &Report::parse(line.as_bytes()),
                Timestamp::from_millis(second * 1_000),
            );
            (agent.is_down(), agent.is_draining(), agent.summary(), agent.since.as_millis() / 1_000)
        };
        assert_eq!(apply("up 50%", 1), (false, false, "up 50%".to_owned(), 0));
        assert_eq!(apply("drain", 2), (false, true, "up drain 50%".to_owned(), 2));
        assert_eq!(apply("down # disk", 3), (true, true, "down drain 50% # disk".to_owned(), 3));
        assert_eq!(apply("up", 4), (false, true, "up drain 50% # disk".to_owned(), 4));
        assert_eq!(apply("ready #", 5), (false, false, "up ready 50%".to_owned(), 5));
        assert_eq!(apply("0%", 6), (false, true, "up ready 0%".to_owned(), 6));
    }
}
