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
    /// A gRPC call of one message for one message, over HTTP/2.
    Grpc {
        /// The path: `/`, the service, `/`, the method.
        path: String,
        /// The `:authority`.
        authority: String,
        /// The message, without the five bytes before it.
        message: Vec<u8>,
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
    /// Its `host:port`, where the host resolves names by itself and it has one; then `to` says nothing.
    pub name: Option<String>,
    /// How long the whole may take.
    pub timeout: Duration,
    /// Through what it goes: on Envoy the name of a cluster, on nginx, for what is not HTTP, the address of the helper.
    pub cluster: String,
    /// What is sent.
    pub kind: CallKind,
}

/// Through what calls go that name nothing themselves: on Envoy clusters, on nginx the helper, and nothing for HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalloutClusters {
    /// For HTTP.
    pub probe: String,
    /// For gRPC.
    pub grpc: String,
    /// For TCP.
    pub tcp: String,
}

impl CalloutClusters {
    /// The one for calls of this kind.
    #[must_use]
    pub fn of(&self, kind: &CallKind) -> &str {
        match kind {
            CallKind::Http { .. } => &self.probe,
            CallKind::Grpc { .. } => &self.grpc,
            CallKind::Tcp(_) | CallKind::Connect => &self.tcp,
        }
    }
}

impl Default for CalloutClusters {
    fn default() -> Self {
        let name = str::to_owned;
        Self { probe: name("durpina_probe"), grpc: name("durpina_probe_h2"), tcp: name("durpina_tcp") }
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
    /// An answer over HTTP with status 200 to a gRPC call.
    Grpc {
        /// The status of the call (`grpc-status`), where the host says what it is.
        status: Option<u32>,
        /// What the server says of it (`grpc-message`), percent-encoded; often empty.
        message: String,
        /// The body: the answer's message with the five bytes before it, as much of it as [`LONGEST_REPLY`].
        body: Vec<u8>,
    },
    /// The bytes that came back, as many as [`LONGEST_REPLY`].
    Bytes(Vec<u8>),
    /// The connection is there.
    Connected,
    /// The server failed.
    Failed(Failure),
    /// The host did not get as far as the server, so this says nothing of it; why.
    NotMade(String),
}

/// How a call is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCall {
    /// Nothing more will be sent; the server may close in its own time.
    Close,
    /// At once.
    Cancel,
}

/// As much of a reply is looked at, in bytes: what the reference configuration lets Envoy take of an answer. A message of DNS over
/// TCP has no more than 65,537 (RFC 1035, section 4.2.2).
pub const LONGEST_REPLY: usize = 262_144;
