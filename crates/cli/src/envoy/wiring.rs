//! How the peers that the filter picked come to the clusters that connect to them.
//!
//! The only place that knows: the parts and the check ask here.

use super::part::Part;

/// What the peers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Peers {
    /// HTTP/1.1
    Http1,
    /// HTTP/2 without TLS
    Http2,
    /// HTTP/1.1 over TLS; any certificate is accepted
    Tls,
}

impl Peers {
    /// What the command line calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Tls => "tls",
        }
    }
}

/// The way of a pick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Headers, which a filter of Envoy's turns into dynamic metadata and takes out. For all peers.
    Metadata,
    /// Headers that Envoy neither takes from clients nor sends on to peers that speak HTTP/1. Those that speak HTTP/2 would get them.
    Headers,
}

/// The way of a pick, and the headers on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wiring {
    way: Way,
    headers: [String; CANDIDATES],
}

const CANDIDATES: usize = 3;

/// The headers of the contract, for the first to the third candidate.
pub(crate) const PEER_HEADERS: [&str; CANDIDATES] = ["x-durpina-peer", "x-durpina-peer-2", "x-durpina-peer-3"];
/// Those that no server of HTTP/1 sees.
const HIDDEN_HEADERS: [&str; CANDIDATES] = [":durpina-1", ":durpina-2", ":durpina-3"];

/// Where the metadata of the candidates are.
pub(crate) const NAMESPACE: &str = "durpina";
pub(crate) const KEYS: [&str; CANDIDATES] = ["peer", "peer_2", "peer_3"];

/// Whether Envoy takes no such header from a client, and writes none to a server that speaks HTTP/1.
pub(crate) fn is_hidden(header: &str) -> bool {
    header.starts_with(':')
}

impl Wiring {
    /// The one for requests that may come to servers of HTTP/2 or not, with the headers that the filter JSON names, if it does.
    pub(crate) fn of(http2: bool, named: Option<[String; CANDIDATES]>) -> Self {
        let usual = if http2 { PEER_HEADERS } else { HIDDEN_HEADERS };
        let headers = named.unwrap_or_else(|| usual.map(str::to_owned));
        let hidden = headers.iter().all(|header| is_hidden(header));
        Self { way: if hidden && !http2 { Way::Headers } else { Way::Metadata }, headers }
    }

    /// The headers in which the filter writes.
    pub(crate) fn headers(&self) -> &[String; CANDIDATES] {
        &self.headers
    }

    /// Whether the filter JSON has to name the headers.
    pub(crate) fn is_to_be_named(&self) -> bool {
        self.headers != PEER_HEADERS
    }

    /// The filter right behind durpina, if there is one.
    pub(crate) fn filter(&self) -> Option<Part> {
        match self.way {
            Way::Metadata => Some(self.header_to_metadata()),
            Way::Headers => None,
        }
    }

    /// How the cluster of the candidate with this number, from 0, finds its peer.
    pub(crate) fn lookup(&self, candidate: usize) -> Part {
        match self.way {
            Way::Metadata => {
                let key = KEYS.get(candidate).copied().unwrap_or_default();
                let path = Part::List(vec![Part::map([("key", Part::text(key))])]);
                Part::map([("metadata_key", Part::map([("key", Part::text(NAMESPACE)), ("path", path)]))])
            }
            Way::Headers => by_header(self.headers.get(candidate).map_or("", String::as_str)),
        }
    }

    fn header_to_metadata(&self) -> Part {
        let rule = |(header, key): (&String, &str)| {
            let present = Part::map([("metadata_namespace", Part::text(NAMESPACE)), ("key", Part::text(key))]);
            Part::map([
                ("header", Part::text(header)),
                ("on_header_present", present),
                ("remove", Part::Word("true".to_owned())),
            ])
        };
        let rules = self.headers.iter().zip(KEYS).map(rule).collect();
        let typed = Part::map([("@type", Part::text(HEADER_TO_METADATA)), ("request_rules", Part::List(rules))]);
        Part::map([("name", Part::text("envoy.filters.http.header_to_metadata")), ("typed_config", typed)])
    }
}

/// Whether what is said of a cluster lets it speak HTTP/2 or HTTP/3 to its servers.
pub(crate) fn may_speak_http2(cluster: &Part) -> bool {
    const SAYS_SO: [&str; 5] = [
        "http2_protocol_options",
        "http3_protocol_options",
        "auto_config",
        "use_downstream_protocol_config",
        "protocol_selection",
    ];
    SAYS_SO.into_iter().any(|key| cluster.has_key(key))
}

/// A cluster that goes by a header.
pub(crate) fn by_header(name: &str) -> Part {
    Part::map([("use_http_header", Part::Word("true".to_owned())), ("http_header_name", Part::text(name))])
}

/// The type of the filter that makes metadata of headers.
pub(crate) const HEADER_TO_METADATA: &str =
    "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config";
