//! What name servers say of a name.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// What name servers say of a peer's name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Resolution {
    /// Its addresses, the last that were known.
    pub(crate) addresses: Vec<IpAddr>,
    /// When to ask again.
    pub(crate) expires: Timestamp,
    /// Name servers say that there is no such name, or that it has no address: since when.
    pub(crate) gone: Option<Timestamp>,
    /// Why the last question was not answered; empty if it was.
    pub(crate) error: String,
}

/// What is said of a name that nobody has resolved yet.
const PENDING: &str = "the name is not resolved yet";

impl Resolution {
    /// Of a name that nobody has resolved yet.
    pub(crate) fn pending() -> Self {
        Self { error: PENDING.to_owned(), ..Self::default() }
    }

    /// Whether nobody has resolved it yet.
    #[must_use]
    pub(crate) fn is_pending(&self) -> bool {
        self.error == PENDING
    }
}
