//! How the host around a module is configured: where requests and calls go. A test describes it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::pairs::{self, Pairs};
use crate::request::Attempt;

/// The configuration of the proxy around the module, as far as it decides where things go.
///
/// ```
/// use proxy_wasm_sim::{Decision, Destination, Outgoing, Route, Routed, Wiring};
///
/// /// Requests go where a header says, calls to the address that is the cluster's name.
/// struct ByHeader;
///
/// impl Wiring for ByHeader {
///     fn route(&self, request: &Routed<'_>) -> Decision {
///         Decision::To(Route::to(request.header("x-peer").into_iter().collect()))
///     }
///
///     fn call(&self, call: &Outgoing<'_>) -> Destination {
///         Destination::Http(call.to.to_owned())
///     }
/// }
/// ```
pub trait Wiring {
    /// Where a request goes, asked after its request phase; on a host that starts failed requests again, each time.
    fn route(&self, request: &Routed<'_>) -> Decision;

    /// Where a call of the module goes.
    fn call(&self, call: &Outgoing<'_>) -> Destination;

    /// What a variable of the proxy is to a module that writes it.
    fn variable(&self, _name: &str) -> Variable {
        Variable::Undeclared
    }
}

/// A request as it leaves the module.
#[derive(Debug)]
pub struct Routed<'a> {
    /// Its headers, those that the module wrote included.
    pub headers: &'a Pairs,
    /// Properties and variables that the module wrote, by their path with dots.
    pub written: &'a BTreeMap<String, Vec<u8>>,
    /// The attempts so far.
    pub attempts: &'a [Attempt],
}

impl Routed<'_> {
    /// The first header of a name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        pairs::get(self.headers, name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// A property or a variable that the module wrote.
    #[must_use]
    pub fn variable(&self, path: &str) -> Option<String> {
        self.written.get(path).map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub enum Decision {
    /// To peers.
    To(Route),
    /// The proxy answers with this status.
    Status(u16),
}

/// To which peers a request goes.
#[derive(Clone, Debug)]
pub struct Route {
    /// Attempt n goes to the n-th address.
    pub addresses: Vec<String>,
    /// How many attempts may follow the first.
    pub retries: usize,
    /// Whether a broken connection is a reason for another attempt, and not just one that was never made.
    pub retries_resets: bool,
    /// For a connection.
    pub connect_timeout: Duration,
    /// For the request with all attempts.
    pub timeout: Duration,
    /// Headers that peers do not see.
    pub hidden: Vec<String>,
}

impl Route {
    /// To these addresses, in this order, with a second for a connection and 15 for everything.
    #[must_use]
    pub fn to(addresses: Vec<String>) -> Self {
        Self {
            retries: addresses.len().saturating_sub(1),
            addresses,
            retries_resets: true,
            connect_timeout: Duration::from_secs(1),
            timeout: Duration::from_secs(15),
            hidden: Vec::new(),
        }
    }
}

/// A call that the module makes.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The cluster or address that the module names.
    pub to: &'a str,
    /// Its headers, or the first metadata.
    pub headers: &'a Pairs,
    /// Whether it is gRPC.
    pub is_grpc: bool,
}

impl Outgoing<'_> {
    /// The first header of a name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        pairs::get(self.headers, name).map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// Where a call goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Over HTTP, or gRPC, to a peer.
    Http(String),
    /// The body as bytes over TCP to a peer; what it sends until it closes is the body of the reply. A gRPC stream is a
    /// connection and nothing more.
    Tcp(String),
    /// The same through a gateway: a proxy that speaks HTTP with this one and TCP with the peer. All that it answers bears these
    /// headers, and what goes wrong with the peer is told by the gateway, and so is an answer of a server.
    Gateway(String, Vec<(String, String)>),
    /// The host knows no such cluster.
    Unknown,
    /// The host cannot make this call now.
    Fails,
}

/// What a variable of the proxy is to a module that writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// It can be written.
    Writable,
    /// It cannot be changed.
    ReadOnly,
    /// There is none of this name.
    Undeclared,
}
