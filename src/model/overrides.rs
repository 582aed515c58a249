//! What was changed at a peer at run time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::admin_state::AdminState;
use crate::time::Timestamp;

/// What was changed at run time. What is `None` is as declared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overrides {
    /// The weight.
    pub weight: Option<u16>,
    /// What the operator wants, and when it was said.
    pub admin_state: Option<(AdminState, Timestamp)>,
    /// `max_fails`.
    pub max_fails: Option<u32>,
    /// `fail_timeout`.
    pub fail_timeout: Option<Duration>,
    /// `max_conns`.
    pub max_conns: Option<u32>,
    /// `slow_start`.
    pub slow_start: Option<Duration>,
}
