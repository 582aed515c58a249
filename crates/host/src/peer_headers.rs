//! The request headers in which Envoy finds the addresses of picked servers.

use crate::MOST_CANDIDATES;

/// The names, and what else has to be gone from every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHeaders {
    names: [String; MOST_CANDIDATES],
    /// Default names that are not in use.
    others: Vec<&'static str>,
}

impl PeerHeaders {
    /// The names unless a configuration has others. Calls to servers keep the first one, whatever the configuration has.
    pub const DEFAULT: [&'static str; MOST_CANDIDATES] = ["x-durpina-peer", "x-durpina-peer-2", "x-durpina-peer-3"];

    /// Headers of these names, in lower case, in the order of the candidates.
    #[must_use]
    pub fn new(names: [String; MOST_CANDIDATES]) -> Self {
        let others = Self::DEFAULT.into_iter().filter(|name| !names.iter().any(|used| used == name)).collect();
        Self { names, others }
    }

    /// The names in the order of the candidates.
    #[must_use]
    pub const fn names(&self) -> &[String; MOST_CANDIDATES] {
        &self.names
    }

    /// The default names that are not in use. A proxy that reads those in spite of the configuration must find nothing in them.
    #[must_use]
    pub fn others(&self) -> &[&'static str] {
        &self.others
    }
}

impl Default for PeerHeaders {
    fn default() -> Self {
        Self::new(Self::DEFAULT.map(str::to_owned))
    }
}
