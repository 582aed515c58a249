//! What was changed at a peer at run time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::admin_state::AdminState;
use crate::time::{format_duration, Timestamp};

/// What was changed at run time. What is `None` is as declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Overrides {
    /// The weight.
    pub(crate) weight: Option<u16>,
    /// What the operator wants, and when it was said.
    pub(crate) admin_state: Option<(AdminState, Timestamp)>,
    /// `max_fails`.
    pub(crate) max_fails: Option<u32>,
    /// `fail_timeout`.
    pub(crate) fail_timeout: Option<Duration>,
    /// `max_conns`.
    pub(crate) max_conns: Option<u32>,
    /// `slow_start`.
    pub(crate) slow_start: Option<Duration>,
}

impl Overrides {
    /// What was changed, for the log.
    pub(crate) fn summary(&self) -> String {
        let mut words = Vec::new();
        words.extend(self.weight.map(|weight| format!("weight={weight}")));
        words.extend(self.admin_state.map(|(state, _)| format!("state={}", state.name())));
        words.extend(self.max_fails.map(|count| format!("max_fails={count}")));
        words.extend(self.fail_timeout.map(|time| format!("fail_timeout={}", format_duration(time))));
        words.extend(self.max_conns.map(|count| format!("max_conns={count}")));
        words.extend(self.slow_start.map(|time| format!("slow_start={}", format_duration(time))));
        if words.is_empty() {
            words.push("unchanged".to_owned());
        }
        words.join(" ")
    }
}
