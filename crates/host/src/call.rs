//! Calls to servers that are no client's requests: checks, and questions to name servers.

use std::net::SocketAddr;
use std::time::Duration;

use crate::Failure;

/// What a call sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// An HTTP request: method, path, headers with names in lower case, body. The host sends nothing else but what HTTP
    /// itself needs.
    Http {
        /// The method.
        method: String,
        /// The path, with the query.
        path: String,
        /// The `Host`.
        authority: String,
        /// Further headers.
        headers: Vec<(String, String)>,
        /// The body.
        body: Vec<u8>,
    },
    /// Bytes over TCP; the reply is what comes back until the server closes.
    Tcp(Vec<u8>),
    /// A TCP connection, and nothing over it.
    Connect,
}

/// A call to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The server.
    pub to: SocketAddr,
    /// How long the whole may take.
    pub timeout: Duration,
    /// What is sent.
    pub kind: CallKind,
}

/// The names of the clusters through which Envoy makes calls. Other hosts have no use for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalloutClusters {
    /// For HTTP.
    pub probe: String,
    /// For TCP.
    pub tcp: String,
}

impl Default for CalloutClusters {
    fn default() -> Self {
        Self { probe: "durpina_probe".to_owned(), tcp: "durpina_tcp".to_owned() }
    }
}

/// Tells one call from the others that are under way in the same VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallId {
    /// A call that ends with a reply.
    Reply(u32),
    /// A connection that is open until one side closes it.
    Stream(u32),
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// An HTTP answer: its status, and as much of its body as [`LONGEST_REPLY`].
    Http(u16, Vec<u8>),
    /// The bytes that came back, as many as [`LONGEST_REPLY`].
    Bytes(Vec<u8>),
    /// The connection is there.
    Connected,
    /// The server failed.
    Failed(Failure),
}

/// How a call is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCall {
    /// Nothing more will be sent; the server may close in its own time.
    Close,
    /// At once.
    Cancel,
}

/// As much of a reply as is looked at, in bytes: a message of DNS over TCP has no more (RFC 1035, section 4.2.2).
pub const LONGEST_REPLY: usize = 65_537;
