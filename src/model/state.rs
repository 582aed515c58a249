//! The state that a peer is in.

use std::fmt;

/// What a peer is in the eyes of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PeerState {
    /// In use.
    Up,
    /// In use, with a failure counted within `fail_timeout`.
    Failing,
    /// Out of use, and back by itself.
    TemporaryDown,
    /// Out of use until somebody says otherwise.
    Down,
    /// Gets no new requests.
    Draining,
}

impl PeerState {
    /// Whether the peer gets requests in this state.
    #[must_use]
    pub fn is_usable(self) -> bool {
        matches!(self, Self::Up | Self::Failing)
    }

    /// The name in answers and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Failing => "failing",
            Self::TemporaryDown => "temporary_down",
            Self::Down => "down",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for PeerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
