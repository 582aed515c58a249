//! What an operator wants of a peer.

use serde::{Deserialize, Serialize};

use crate::model::server::Server;

/// What an operator wants of a peer: its administrative state, in HAProxy's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// Use it.
    #[default]
    Up,
    /// Do not use it.
    Down,
    /// Do not use it for its `fail_timeout`.
    TemporaryDown,
    /// Give it no new requests.
    Drain,
}

impl AdminState {
    /// The names of the states.
    pub(crate) const NAMES: &'static [(&'static str, Self)] =
        &[("up", Self::Up), ("down", Self::Down), ("temporary_down", Self::TemporaryDown), ("drain", Self::Drain)];

    /// The name in requests and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, order)| *order == self).map_or("", |(name, _)| name)
    }

    /// What a server's declaration says.
    #[must_use]
    pub(crate) fn declared(server: &Server) -> Self {
        match (server.down, server.drain) {
            (true, _) => Self::Down,
            (false, true) => Self::Drain,
            (false, false) => Self::Up,
        }
    }
}
