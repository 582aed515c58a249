//! Attempts of a request at servers, and how they fail.

use std::fmt;
use std::net::IpAddr;

/// An attempt of a request that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The address that it went to, whether it was offered or not; `None` where the host cannot say.
    pub address: Option<String>,
    /// How it ended.
    pub end: End,
}

/// A request for which nothing was offered, and which the host's own routes sent to where only what was offered can be found: it
/// was answered by the host, with an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    /// Where it was sent, by the host's name of it.
    pub cluster: String,
    /// The status of the answer.
    pub status: u16,
    /// The path as the client sent it, with the query.
    pub path: Vec<u8>,
    /// The client's address, as the host has it.
    pub client: Option<IpAddr>,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The server answered, with this status. Also when the rest of its answer did not arrive for a reason that need not be
    /// the server's: a timeout of the whole, a client that went away, an upgraded connection that ended.
    Answered(u16),
    /// The server failed.
    Failed(Failure),
    /// Neither: the host answered by itself, or the client went away before the server had answered.
    Nobodys,
}

/// How an attempt at a server failed.
///
/// These are the failures that count against a server. An answer is not one of them, whatever its status,
/// and neither is a client that goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, or not in time.
    Connect,
    /// The connection broke off before or within the answer.
    Reset,
    /// No beginning of an answer in time.
    Timeout,
    /// An answer that is not HTTP.
    Protocol,
    /// A status that counts as a failure.
    Status(u16),
    /// An earlier attempt of the request; the host does not say how it ended.
    Retried,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("no connection"),
            Self::Reset => f.write_str("connection reset"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Protocol => f.write_str("not an HTTP answer"),
            Self::Status(code) => write!(f, "status {code}"),
            Self::Retried => f.write_str("attempt failed and was retried"),
        }
    }
}
