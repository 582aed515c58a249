//! Requests as tests send them, and what became of them.

use std::time::Duration;

/// A request's number, in the order in which requests were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// A request of a client.
///
/// ```
/// use proxy_wasm_sim::Request;
///
/// let request = Request::get("/shop").header("x-user", "7").client("192.0.2.9:5000");
/// assert_eq!(request.path, "/shop");
/// ```
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: String,
    /// The path with the query.
    pub path: String,
    /// The host asked for.
    pub authority: String,
    /// Further headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body; empty if there is none.
    pub body: Vec<u8>,
    /// The client's address and port.
    pub client: String,
    /// The number of the client's connection.
    pub connection: u64,
    /// When the client goes away, if it gets no answer before.
    pub aborts_after: Option<Duration>,
    /// The worker that gets it; by chance if `None`.
    pub worker: Option<usize>,
    /// Further properties of the request, by their path.
    pub properties: Vec<(Vec<String>, Vec<u8>)>,
}

impl Request {
    /// A request with a method and no body.
    #[must_use]
    pub fn new(method: &str, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            authority: "sim.example".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
            client: "192.0.2.1:40000".to_owned(),
            connection: 1,
            aborts_after: None,
            worker: None,
            properties: Vec::new(),
        }
    }

    /// A `GET`.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// A `POST` with a body.
    #[must_use]
    pub fn post(path: &str, body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..Self::new("POST", path) }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// From this client, `address:port`.
    #[must_use]
    pub fn client(mut self, client: &str) -> Self {
        client.clone_into(&mut self.client);
        self
    }

    /// At this worker.
    #[must_use]
    pub const fn at(mut self, worker: usize) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Whose client goes away after this time.
    #[must_use]
    pub const fn aborts_after(mut self, patience: Duration) -> Self {
        self.aborts_after = Some(patience);
        self
    }

    /// With one more property.
    #[must_use]
    pub fn property(mut self, path: &[&str], value: &[u8]) -> Self {
        self.properties.push((path.iter().map(|step| (*step).to_owned()).collect(), value.to_vec()));
        self
    }
}

/// How an attempt to reach a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The whole answer came, with this status.
    Answered(u16),
    /// No connection was made.
    Refused,
    /// No connection was made in time.
    ConnectTimeout,
    /// The connection broke before an answer.
    Reset,
    /// What came is not HTTP.
    Garbage,
    /// Connected, and no answer in time.
    Silent,
    /// The answer broke off in the middle.
    CutOff,
    /// The answer stalled in the middle, until the time was over.
    Stalled,
    /// The client went away first.
    Aborted,
    /// There was no address to go to.
    NoPeer,
}

impl End {
    /// Whether the peer failed.
    #[must_use]
    pub const fn is_failure(self) -> bool {
        !matches!(self, Self::Answered(_) | Self::Aborted | Self::NoPeer)
    }
}

/// An attempt of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Where it went.
    pub address: String,
    /// When it began, in virtual time.
    pub began: Duration,
    /// How it ended.
    pub end: End,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The status that the client got; `None` if it went away before.
    pub status: Option<u16>,
    /// The headers that the client got, without `:status`.
    pub headers: Vec<(String, String)>,
    /// The body that the client got.
    pub body: Vec<u8>,
    /// The attempts at peers.
    pub attempts: Vec<Attempt>,
    /// The host's flags, as a number.
    pub flags: u64,
    /// The host's details.
    pub details: String,
    /// Whether the module answered.
    pub by_module: bool,
    /// The worker.
    pub worker: usize,
    /// When it was over, in virtual time.
    pub ended: Duration,
}
