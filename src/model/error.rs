//! Why something cannot be read or changed.

use std::fmt;

use crate::host::HostError;

/// Why shared state could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The host refused.
    Host(HostError),
    /// There is no upstream of that name.
    NoSuchUpstream(String),
    /// The upstream has no peer of that name.
    NoSuchPeer(String),
    /// The upstream has a peer of that name already.
    PeerExists(String),
    /// The upstream has as many peers as it can have.
    TooManyPeers(usize),
    /// The upstream has no monitor of that id.
    NoSuchMonitor(String),
    /// The upstream has a monitor of that id already.
    MonitorExists(String),
    /// The upstream has as many monitors as it can have.
    TooManyMonitors(usize),
    /// A value that cannot be; the sentence says why.
    Invalid(String),
    /// The peer's name has no address yet.
    Unresolved(String),
    /// What stands under the key is not ours.
    Corrupt(String),
    /// The upstream is of another revision than was expected: this one.
    Revision(u64),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(error) => error.fmt(f),
            Self::NoSuchUpstream(name) => write!(f, "there is no upstream {name:?}"),
            Self::NoSuchPeer(name) => write!(f, "the upstream has no peer {name:?}"),
            Self::PeerExists(name) => write!(f, "the upstream already has a peer {name:?}"),
            Self::TooManyPeers(most) => write!(f, "an upstream can have at most {most} peers"),
            Self::NoSuchMonitor(id) => write!(f, "the upstream has no monitor {id:?}"),
            Self::MonitorExists(id) => write!(f, "the upstream already has a monitor {id:?}"),
            Self::TooManyMonitors(most) => write!(f, "an upstream can have at most {most} monitors"),
            Self::Invalid(message) => f.write_str(message),
            Self::Unresolved(name) => write!(f, "{name:?} has no address yet"),
            Self::Revision(found) => write!(f, "the upstream is at revision {found} now"),
            Self::Corrupt(key) => write!(f, "the value of {key:?} in shared data is not one of this filter's"),
        }
    }
}

impl std::error::Error for Error {}

impl From<HostError> for Error {
    fn from(error: HostError) -> Self {
        Self::Host(error)
    }
}
