//! Selectors: which peers of an upstream are meant.

use serde::{Deserialize, Serialize};

use crate::model::state::PeerState;

/// Which peers of an upstream are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// All.
    #[default]
    All,
    /// In use, with failures.
    Failing,
    /// Out of use, for whatever reason; those that drain are not.
    Down,
    /// Out of use, and back by themselves.
    TemporaryDown,
    /// Out of use until somebody says otherwise.
    PermanentDown,
}

impl Selector {
    /// The names of the selectors.
    pub(crate) const NAMES: &'static [(&'static str, Self)] = &[
        ("all", Self::All),
        ("failing", Self::Failing),
        ("down", Self::Down),
        ("temporary_down", Self::TemporaryDown),
        ("permanent_down", Self::PermanentDown),
    ];

    /// Whether a peer in this state is meant.
    #[must_use]
    pub(crate) fn matches(self, state: PeerState) -> bool {
        match self {
            Self::All => true,
            Self::Failing => state == PeerState::Failing,
            Self::Down => matches!(state, PeerState::Down | PeerState::TemporaryDown),
            Self::TemporaryDown => state == PeerState::TemporaryDown,
            Self::PermanentDown => state == PeerState::Down,
        }
    }
}
