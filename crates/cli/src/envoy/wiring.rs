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
pub(crate) enum Wiring {
    /// Headers, which a filter of Envoy's turns into dynamic metadata and takes out. For all peers.
    Metadata,
    /// Headers that Envoy does not send on. Peers that speak HTTP/2 would get them.
    #[allow(dead_code, reason = "the filter JSON has no names for headers yet")]
    Headers,
}

/// The headers of the contract, for the first to the third candidate.
pub(crate) const PEER_HEADERS: [&str; 3] = ["x-durpina-peer", "x-durpina-peer-2", "x-durpina-peer-3"];

/// Where the metadata of the candidates are.
pub(crate) const NAMESPACE: &str = "durpina";
pub(crate) const KEYS: [&str; 3] = ["peer", "peer_2", "peer_3"];

impl Wiring {
    /// The one for peers that speak this.
    pub(crate) fn of(_http2: bool) -> Self {
        Self::Metadata
    }

    /// The filter right behind durpina, if there is one.
    pub(crate) fn filter(self) -> Option<Part> {
        match self {
            Self::Metadata => Some(header_to_metadata()),
            Self::Headers => None,
        }
    }

    /// How the cluster of the candidate with this number, from 0, finds its peer.
    pub(crate) fn lookup(self, candidate: usize) -> Part {
        match self {
            Self::Metadata => {
                let key = KEYS.get(candidate).copied().unwrap_or_default();
                let path = Part::List(vec![Part::map([("key", Part::text(key))])]);
                Part::map([("metadata_key", Part::map([("key", Part::text(NAMESPACE)), ("path", path)]))])
            }
            Self::Headers => by_header(PEER_HEADERS.get(candidate).copied().unwrap_or_default()),
        }
    }
}

/// A cluster that goes by a header.
pub(crate) fn by_header(name: &str) -> Part {
    Part::map([("use_http_header", Part::Word("true".to_owned())), ("http_header_name", Part::text(name))])
}

/// The type of the filter that makes metadata of headers.
pub(crate) const HEADER_TO_METADATA: &str =
    "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config";

fn header_to_metadata() -> Part {
    let rule = |(header, key): (&str, &str)| {
        let present = Part::map([("metadata_namespace", Part::text(NAMESPACE)), ("key", Part::text(key))]);
        Part::map([
            ("header", Part::text(header)),
            ("on_header_present", present),
            ("remove", Part::Word("true".to_owned())),
        ])
    };
    let rules = PEER_HEADERS.into_iter().zip(KEYS).map(rule).collect();
    Part::map([
        ("name", Part::text("envoy.filters.http.header_to_metadata")),
        ("typed_config", Part::map([("@type", Part::text(HEADER_TO_METADATA)), ("request_rules", Part::List(rules))])),
    ])
}
