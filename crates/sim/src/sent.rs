//! What a client sends, and what it gets.

use std::net::IpAddr;

/// A request, as a client sends it.
#[derive(Clone, Debug)]
pub struct Sent {
    pub(crate) path: Vec<u8>,
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) client: Option<IpAddr>,
    /// Whether a header names the client's address.
    pub(crate) is_forwarded: bool,
    pub(crate) body: Vec<u8>,
    pub(crate) connection: Option<u64>,
}

impl Sent {
    /// A request for this path and query.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::bytes(path.as_bytes())
    }

    /// A request for a path of any bytes.
    #[must_use]
    pub fn bytes(path: &[u8]) -> Self {
        let method = "GET".to_owned();
        Self {
            path: path.to_vec(),
            method,
            authority: String::new(),
            headers: Vec::new(),
            client: None,
            is_forwarded: false,
            body: Vec::new(),
            connection: None,
        }
    }

    /// With this method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        Self { method: method.to_owned(), ..self }
    }

    /// To this host.
    #[must_use]
    pub fn authority(self, authority: &str) -> Self {
        Self { authority: authority.to_owned(), ..self }
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(self, body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..self }
    }

    /// Over the connection of this number.
    #[must_use]
    pub fn connection(self, id: u64) -> Self {
        Self { connection: Some(id), ..self }
    }

    /// From this address.
    #[must_use]
    pub fn client(self, address: &str) -> Self {
        Self { client: address.parse().ok(), ..self }
    }

    /// From this address, says a header.
    #[must_use]
    pub fn forwarded(self, address: &str) -> Self {
        Self { is_forwarded: true, ..self.client(address) }
    }
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A server's answer, after that many attempts.
    Served {
        /// The server's address.
        by: String,
        /// The status.
        status: u16,
        /// How many servers were tried.
        attempts: usize,
    },
    /// The proxy's own answer after all attempts failed.
    Failed {
        /// How many servers were tried.
        attempts: usize,
    },
    /// The filter's own answer: the status and the body.
    Refused(u32, String),
    /// Passed on without a peer.
    Untouched,
}

impl Answer {
    /// A server's answer at the first attempt.
    #[must_use]
    pub fn served(by: &str, status: u16) -> Self {
        Self::Served { by: by.to_owned(), status, attempts: 1 }
    }

    /// Whose answer it is.
    #[must_use]
    pub fn by(&self) -> &str {
        match self {
            Self::Served { by, .. } => by,
            _ => "",
        }
    }
}
