//! The host: the proxy that runs the filter.
//!
//! Everything that the core needs from outside goes through the one trait [`Host`]: the clock, the
//! log, shared data, and the request in hand. Envoy and nginx are two implementations of it, and
//! `sim` (with the feature `sim`, and in tests) is a third that no traffic has to be sent through.
//!
//! The seams are where the hosts differ: how the picked peers are handed over ([`Host::offer`]), what
//! an attempt's end looks like ([`Host::failed_attempts`], [`Host::last_attempt`]), how a change is
//! noticed cheaply ([`Host::version`]), who resolves names, and what a refused configuration does. An
//! implementation answers for what its host does to shared data: a value comes back whole and
//! under its own key, or not at all.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::time::Timestamp;

#[cfg(target_arch = "wasm32")]
#[cfg(feature = "filter")]
pub mod envoy;
#[cfg(target_arch = "wasm32")]
#[cfg(feature = "filter")]
pub(crate) mod raw;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

/// How many peers a request can be offered: the first choice and two retries.
pub const MOST_CANDIDATES: usize = 3;

/// How grave a line in the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For whoever looks for a fault in the filter.
    Debug,
    /// What an operator may want to know later.
    Info,
    /// What an operator should look at.
    Warn,
    /// What is broken.
    Error,
}

/// A value in shared data, with the number that a later write must name to replace just this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The value as it was written.
    pub value: Vec<u8>,
    /// Its compare-and-swap number.
    pub cas: u32,
}

/// What a write to shared data expects to find there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No value under this key yet.
    Nothing,
    /// The value that came with this number.
    Cas(u32),
}

/// Why a host call did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostError {
    /// Somebody else wrote in the meantime: read again, decide again.
    Conflict,
    /// Shared data has no room.
    Full,
    /// The host answered with a status that it should not have; the call and the status.
    Status(&'static str, u32),
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => f.write_str("the value was changed in the meantime"),
            Self::Full => f.write_str("the host's shared data is full"),
            Self::Status(call, status) => write!(f, "the host refused {call} with status {status}"),
        }
    }
}

impl std::error::Error for HostError {}

/// How an attempt at a peer failed.
///
/// These are the failures that count against a peer. An answer is not one of them, whatever its status,
/// and neither is a client that goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No connection: refused, or not in time.
    Connect,
    /// The connection broke off before or within the answer.
    Reset,
    /// No answer in time, or it stopped half way.
    Timeout,
    /// An answer that is not HTTP.
    Protocol,
    /// One of the upstream's `fail_codes`.
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

/// An answer that the filter gives itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u32,
    /// Header names in lower case, with their values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// What a call to a server is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
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
    Exchange(Vec<u8>),
    /// A TCP connection, and nothing over it.
    Connect,
}

/// A call to a server that is no client's request: a check, or a question to a name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The server.
    pub to: SocketAddr,
    /// How long the whole may take.
    pub timeout: Duration,
    /// What is sent.
    pub ask: Ask,
}

/// The names of what the host makes calls through: Envoy's clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateways {
    /// For HTTP.
    pub probe: String,
    /// For TCP.
    pub tcp: String,
}

impl Default for Gateways {
    fn default() -> Self {
        Self { probe: "durpina_probe".to_owned(), tcp: "durpina_tcp".to_owned() }
    }
}

/// Tells one call from the others that are under way in the same VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CallId {
    /// A call that ends with a reply.
    Reply(u32),
    /// A connection that is open until somebody closes it.
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

/// As much of a reply as is looked at: a message of DNS over TCP has no more.
pub const LONGEST_REPLY: usize = 65_537;

/// The proxy that runs the filter. See the [module's documentation](self).
///
/// No call panics, whatever the host answers. Calls about a request are made from that request's
/// callbacks only.
pub trait Host {
    /// What time it is. May jump, in both directions.
    fn now(&self) -> Timestamp;

    /// A number that differs from worker to worker and from call to call. Not for secrets.
    fn random(&self) -> u64;

    /// Writes one line to the host's log.
    fn log(&self, level: Level, message: &str);

    /// A number that differs after any [`announce`](Self::announce) by anybody, and is cheap to read.
    fn version(&self) -> u64;

    /// Makes [`version`](Self::version) differ for all workers, after a change to shared data.
    fn announce(&self);

    /// Reads a value from shared data.
    ///
    /// # Errors
    ///
    /// [`HostError::Status`].
    fn read(&self, key: &str) -> Result<Option<Stored>, HostError>;

    /// Writes a value to shared data, if what is there is what was expected.
    ///
    /// # Errors
    ///
    /// [`HostError::Conflict`] when it is not; [`HostError::Full`], [`HostError::Status`].
    fn write(&self, key: &str, value: &[u8], expect: Expect) -> Result<(), HostError>;

    /// Whether this host resolves host names by itself.
    fn resolves_names(&self) -> bool;

    /// Whether the host survives a refused configuration. Where it does not, the filter goes on and
    /// answers every routed request with 503.
    fn survives_refusal(&self) -> bool;

    /// Begins a call to a server. Its reply comes to [`Filter::reply`](crate::filter::Filter::reply), and not before
    /// this function returned.
    ///
    /// # Errors
    ///
    /// [`HostError::Status`] when the host cannot make such a call: there will be no reply.
    fn call(&self, gateways: &Gateways, call: &Call) -> Result<CallId, HostError>;

    /// Ends a call whose reply is not waited for any more, or a connection that was only opened to see whether it can be.
    fn end_call(&self, call: CallId, how: EndCall);

    /// The path of the request as the client sent it, with the query.
    fn path(&self) -> Vec<u8>;

    /// The request method.
    fn method(&self) -> Vec<u8>;

    /// The requested host with its port, if any.
    fn authority(&self) -> Vec<u8>;

    /// A request header, by its name in lower case.
    fn header(&self, name: &str) -> Option<Vec<u8>>;

    /// The client's address.
    fn client(&self) -> Option<IpAddr>;

    /// The number of the request's connection, which is higher than those of all connections that were accepted before
    /// it; `None` where the host does not count them.
    fn connection(&self) -> Option<u64>;

    /// A property of the host.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;

    /// The name of the host's cluster and route, where it has such things.
    fn cluster_name(&self) -> Option<Vec<u8>>;

    /// The name of the host's route, where it has such things.
    fn route_name(&self) -> Option<Vec<u8>>;

    /// Hands the addresses of the picked peers to the host, in the order in which they are to be tried: at
    /// most [`MOST_CANDIDATES`]. What a client or an earlier filter put in their places is gone
    /// afterwards, also with no address at all.
    ///
    /// # Errors
    ///
    /// [`HostError::Status`]: nothing may be assumed about where the request would go.
    fn offer(&self, addresses: &[&str]) -> Result<(), HostError>;

    /// Answers the request.
    fn respond(&self, response: &Response);

    /// Whether the host calls [`Filter::failed`](crate::filter::Filter::failed) for each request with a failed attempt
    /// or a status that is no success, where the configuration says that it should. Asking after every request would cost more.
    fn reports_failures(&self) -> bool;

    /// How many attempts of this request failed before the last one. Zero also when there was none.
    fn failed_attempts(&self) -> usize;

    /// How the last attempt failed; `None` when it did not, or when it was not the peer's fault. Can be
    /// asked when the request is over.
    fn last_attempt(&self) -> Option<Failure>;

    /// The status of the answer, in the response's phase.
    fn response_status(&self) -> Option<u16>;

    /// The status of the answer, when the request is over; `None` if there was none.
    fn final_status(&self) -> Option<u16>;
}
