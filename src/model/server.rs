//! A server: what an upstream was told about one of its peers.
//!
//! A [`Server`] is a declaration, from the configuration or from `add_peer`, and never changes by
//! itself. What happens to it at run time is the business of `peer`.
//!
//! Servers are told apart by their name, `host:port`. It is normalised, so that `[0::1]:80` and
//! `[::1]:80` are one server: names in lower case, IPv6 in brackets and in its short form (RFC 5952).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The longest host name in octets (RFC 1035, section 2.3.4, without the root's dot).
const LONGEST_NAME: usize = 253;

/// How a server is addressed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ServerHost {
    /// A literal address.
    Ip(IpAddr),
    /// A name that must be resolved.
    Name(String),
}

/// A server's host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Endpoint {
    /// The host.
    pub(crate) host: ServerHost,
    /// The port, never 0.
    pub(crate) port: u16,
}

impl Endpoint {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`.
    ///
    /// # Errors
    ///
    /// A sentence that says what was expected.
    pub(crate) fn parse(text: &str, default_port: u16) -> Result<Self, String> {
        if text.strip_prefix("unix:").is_some() {
            return Err("expected host:port, a unix socket is not supported".to_owned());
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, tail) = rest.split_once(']').ok_or("expected a ] after the IPv6 address")?;
                let port = match tail {
                    "" => None,
                    _ => Some(tail.strip_prefix(':').ok_or("expected : and a port after the ]")?),
                };
                let address = host.parse::<Ipv6Addr>().map_err(|_| "expected an IPv6 address in the brackets")?;
                (ServerHost::Ip(IpAddr::V6(address)), port)
            }
            None if text.matches(':').count() > 1 => {
                return Err("expected an IPv6 address in brackets, such as [::1]:80".to_owned());
            }
            None => match text.split_once(':') {
                Some((host, port)) => (ServerHost::parse(host)?, Some(port)),
                None => (ServerHost::parse(text)?, None),
            },
        };
        let port = match port {
            None => default_port,
            Some(port) => parse_port(port).ok_or("expected a port from 1 to 65535")?,
        };
        Ok(Self { host, port })
    }

    /// `0.0.0.0`: written where a grammar demands a server and there is none.
    #[must_use]
    pub(crate) fn is_placeholder(&self) -> bool {
        self.host == ServerHost::Ip(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// The address, where no name server is needed to know it.
    ///
    /// `localhost` is one of those: it must mean the loopback address whatever name servers say (RFC
    /// 6761, section 6.3).
    #[must_use]
    pub(crate) fn literal(&self) -> Option<SocketAddr> {
        match &self.host {
            ServerHost::Ip(address) => Some(SocketAddr::new(*address, self.port)),
            ServerHost::Name(name) if name == "localhost" || name == "localhost." => {
                Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), self.port))
            }
            ServerHost::Name(_) => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            ServerHost::Ip(address) => SocketAddr::new(*address, self.port).fmt(f),
            ServerHost::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl ServerHost {
    /// Reads an IP address or a host name.
    ///
    /// # Errors
    ///
    /// A sentence that says what was expected.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(address));
        }
        let name = text.to_ascii_lowercase();
        let labels = name.strip_suffix('.').unwrap_or(&name);
        // What ends in a number is an IPv4 address with a mistake in it, not a name (WHATWG URL, 3.5).
        let numeric = labels.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
        let well_formed = labels.len() <= LONGEST_NAME
            && labels.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            });
        if well_formed && !numeric {
            Ok(Self::Name(name))
        } else {
            Err("expected an IP address or a host name".to_owned())
        }
    }
}

/// A decimal port, digits only (`str::parse` would take `+80`).
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}

/// The declared parameters of a server, in nginx's terms.
///
/// Sources: nginx, `ngx_http_upstream_module`, directive `server`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// The normalised name, `host:port`.
    pub name: String,
    /// The share of traffic, in relation to the other servers' weights; 1 to 65535, default 1.
    pub weight: u16,
    /// Failures within `fail_timeout` that make the peer temporarily down; 0 for never, default 1.
    pub max_fails: u32,
    /// Both the time in which failures are counted and the time for which the peer is then down; default 10 s.
    #[serde(with = "crate::time::as_millis")]
    pub fail_timeout: Duration,
    /// The most requests in flight; 0 for no limit, the default.
    pub max_conns: u32,
    /// The time over which a peer that comes back gets its weight back; default 0.
    #[serde(with = "crate::time::as_millis")]
    pub slow_start: Duration,
    /// Declared out of use.
    pub down: bool,
    /// Used only when no other server is usable.
    pub backup: bool,
    /// Gets no new requests.
    pub drain: bool,
    /// What the configuration says of it to balancers and monitors of one's own: names and values. Nothing else reads them.
    pub labels: Vec<(String, String)>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            name: String::new(),
            weight: 1,
            max_fails: 1,
            fail_timeout: Duration::from_secs(10),
            max_conns: 0,
            slow_start: Duration::ZERO,
            down: false,
            backup: false,
            drain: false,
            labels: Vec::new(),
        }
    }
}

impl Server {
    /// The server's host and port.
    #[must_use]
    pub(crate) fn endpoint(&self) -> Option<Endpoint> {
        // A name was made by `Endpoint`'s `Display` and reads back, unless shared data is corrupt.
        Endpoint::parse(&self.name, 0).ok().filter(|endpoint| endpoint.port != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn names_are_normalised() {
        for (text, name) in [
            ("localhost", "localhost:80"),
            ("Host1.Example:8080", "host1.example:8080"),
            ("10.0.0.2", "10.0.0.2:80"),
            ("[0::1]:443", "[::1]:443"),
            ("[::1]", "[::1]:80"),
            ("a_b-c.d.:1", "a_b-c.d.:1"),
        ] {
            let endpoint = Endpoint::parse(text, 80).unwrap();
            assert_eq!(endpoint.to_string(), name);
            assert_eq!(Endpoint::parse(name, 1).unwrap(), endpoint, "{name} reads back");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:+80",
            "a:8o",
            "::1",
            "::1:80",
            "[::1",
            "[::1]80",
            "[::1]:",
            "[a]:80",
            "1.2.3",
            "256.1.1.1",
            "1.2.3.4.5",
            "a b",
            "a/b",
            "-a",
            "a-",
            "a..b",
            ".",
            "é",
            "unix:/run/x",
            "a\0b",
            "127.1",
        ] {
            assert!(Endpoint::parse(text, 80).is_err(), "{text:?}");
        }
        assert!(Endpoint::parse(&"a".repeat(64), 80).is_err());
        assert!(Endpoint::parse(&"a.".repeat(127), 80).is_ok());
        assert!(Endpoint::parse(&"a.".repeat(128), 80).is_err());
    }

    #[test]
    fn localhost_needs_no_name_server() {
        let literal = |text| Endpoint::parse(text, 80).unwrap().literal().map(|a| a.to_string());
        assert_eq!(literal("LOCALHOST:1").as_deref(), Some("127.0.0.1:1"));
        assert_eq!(literal("[::1]:1").as_deref(), Some("[::1]:1"));
        assert_eq!(literal("example"), None);
    }
}
