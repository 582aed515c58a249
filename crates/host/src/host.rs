//! What a guest may ask of its proxy, by the moment at which it may.

use std::net::IpAddr;

use crate::{Attempt, Call, CallId, EndCall, Expect, HostError, PeerHeaders, Stored, Stray, Timestamp};

/// How many servers a request can be offered: the first choice and two retries.
pub const MOST_CANDIDATES: usize = 3;

/// What a host can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Whether the host resolves host names by itself, so that a server's name can be offered in place of its address.
    pub resolves_names: bool,
    /// Whether the host survives a refused configuration. Where it does not, the guest goes on and answers every routed request
    /// with 503.
    pub survives_refusal: bool,
    /// How many calls may be under way in one VM.
    pub most_calls: usize,
    /// Whether a call may be made while a reply to another one is being handled. Where it may not, it waits for the next tick.
    pub calls_from_replies: bool,
    /// Whether a call goes through a cluster that has a name. Where it does not, such names are ignored.
    pub has_clusters: bool,
}

/// Envoy's.
impl Default for Capabilities {
    fn default() -> Self {
        // Each call is a connection and a file descriptor.
        let (resolves_names, survives_refusal, calls_from_replies, has_clusters) = (false, true, true, true);
        Self { resolves_names, survives_refusal, most_calls: 500, calls_from_replies, has_clusters }
    }
}

/// An answer that the guest gives itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u32,
    /// Header names in lower case, with their values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The proxy, as it can be asked at any time. See the [crate's documentation](crate).
///
/// What a proxy refuses is an error, not a panic.
pub trait Host {
    /// What the host can do.
    fn capabilities(&self) -> Capabilities;

    /// What time it is. May jump, in both directions.
    fn now(&self) -> Timestamp;

    /// A random number, from the host's own source: the clock may be the same in two workers. Not for secrets.
    fn random(&self) -> u64;

    /// A number that differs after any [`announce`](Self::announce) by any worker, and is cheap to read.
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

    /// Begins a call to a server. Its reply comes to [`Guest::reply`](crate::Guest::reply), and not before this function
    /// returned.
    ///
    /// # Errors
    ///
    /// [`HostError::Status`] when the host cannot make such a call: there will be no reply.
    fn call(&self, call: &Call) -> Result<CallId, HostError>;

    /// Ends a call whose reply is not waited for any more, or a connection that was only opened to see whether it can be.
    fn end_call(&self, call: CallId, how: EndCall);

    /// Whether the host calls [`Guest::failed`](crate::Guest::failed) for each request with a failed attempt or a status
    /// that is no success. Asking after every request would cost more.
    fn reports_failures(&self) -> bool;
}

/// The proxy while a request's headers are at hand.
pub trait RequestHost: Host {
    /// The path of the request as the client sent it, with the query.
    fn path(&self) -> Vec<u8>;

    /// The request method.
    fn method(&self) -> Vec<u8>;

    /// The requested host with its port, if any.
    fn authority(&self) -> Vec<u8>;

    /// A request header, by its name in lower case.
    fn header(&self, name: &str) -> Option<Vec<u8>>;

    /// The client's address as the host has it: the connection's own, or one that a header such as `x-forwarded-for` names.
    fn client(&self) -> Option<IpAddr>;

    /// The client's address where it is the connection's own. `None` where a header named it: the host may have reason to trust
    /// the header, but nothing here can tell it from one that the client wrote.
    fn connection_address(&self) -> Option<IpAddr>;

    /// The number of the request's connection, which is higher than those of all connections that were accepted before
    /// it; `None` where the host does not count them.
    fn connection(&self) -> Option<u64>;

    /// A property of the host.
    fn property(&self, path: &[&str]) -> Option<Vec<u8>>;

    /// The name of the host's cluster, where it has such things.
    fn cluster_name(&self) -> Option<Vec<u8>>;

    /// The name of the host's route, where it has such things.
    fn route_name(&self) -> Option<Vec<u8>>;

    /// Hands the addresses of the picked servers to the host, in the order in which they are to be tried: at
    /// most [`MOST_CANDIDATES`]. What a client or an earlier filter put in their places is gone
    /// afterwards, also with no address at all.
    ///
    /// # Errors
    ///
    /// [`HostError::Status`]: nothing may be assumed about where the request would go.
    fn offer(&self, addresses: &[&str]) -> Result<(), HostError>;

    /// The same on a host that finds the addresses in request headers of these names. All others have no use for the names.
    ///
    /// # Errors
    ///
    /// As of [`offer`](Self::offer).
    fn offer_in(&self, _headers: &PeerHeaders, addresses: &[&str]) -> Result<(), HostError> {
        self.offer(addresses)
    }

    /// Answers the request.
    fn respond(&self, response: &Response);

    /// What became of the request before it came here. Hosts that send a request to the filter again, to retry it, tell of the
    /// attempts so far; all others have nothing to tell.
    fn visited(&self) -> Visited {
        Visited::default()
    }
}

/// The attempts of a request that comes to the filter again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Visited {
    /// All attempts so far, in their order.
    pub attempts: Vec<Attempt>,
    /// How many of them, from the first one, the filter was told of before.
    pub known: usize,
}

/// The proxy from the answer's headers to the request's end.
///
/// `offered` is what [`RequestHost::offer`] was given for this request: of attempts that were repeated some hosts know no more
/// than how many there were. A request that [visited](RequestHost::visited) the filter before has the attempts of those visits too.
pub trait ResponseHost: Host {
    /// The attempts before the one that is answered, in their order, while the answer's headers are at hand. All of them
    /// failed. Empty also when there was none, and when they went elsewhere than to what was offered.
    fn earlier_attempts(&self, offered: &[&str]) -> Vec<Attempt>;

    /// The status of the answer, while its headers are at hand.
    fn response_status(&self) -> Option<u16>;

    /// The status of the answer of a request that is over, if it had just one attempt and that is cheaper to tell than all of
    /// [`attempts`](Self::attempts). Hosts that have told of it before need not tell again.
    fn final_status(&self) -> Option<u16> {
        None
    }

    /// Whether the request, which is over, ended as it should: a cheap question, to save the next one.
    fn ended_well(&self) -> bool;

    /// All attempts of a request that is over, in their order, those that [`earlier_attempts`](Self::earlier_attempts) told of
    /// included.
    fn attempts(&self, offered: &[&str]) -> Vec<Attempt>;

    /// What became of a request for which nothing was offered, if it strayed; asked when it is over.
    fn stray(&self) -> Option<Stray>;
}
