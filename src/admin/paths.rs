//! What a path of the management API means.

use percent_encoding::{percent_decode_str, utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};

use super::method::Method;

/// What a request is for, below the API's prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) resource: Resource,
    /// The query, decoded.
    pub(super) query: Vec<(String, String)>,
}

/// A thing that has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resource {
    Page,
    Metrics,
    Upstreams,
    Upstream(String),
    Peers(String),
    Peer(String, String),
    /// Counts a failure of a peer.
    Fail(String, String),
    /// Looks up a peer's name.
    Resolve(String, String),
    Monitors(String),
    Monitor(String, String),
    Nothing,
}

impl Target {
    /// Reads what follows the prefix.
    pub(super) fn parse(rest: &[u8]) -> Result<Self, &'static str> {
        const ENCODING: &str = "the address is not percent-encoded UTF-8";
        let text = std::str::from_utf8(rest).map_err(|_| ENCODING)?;
        let (path, query) = text.split_once('?').unwrap_or((text, ""));
        let steps: Option<Vec<String>> = path.split('/').skip(1).map(|step| decode(step, false)).collect();
        let steps = steps.ok_or(ENCODING)?;
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let own = |name: &&str| (*name).to_owned();
        let resource = match steps.as_slice() {
            [""] => Resource::Page,
            ["metrics"] => Resource::Metrics,
            ["upstreams"] => Resource::Upstreams,
            ["upstreams", upstream] => Resource::Upstream(own(upstream)),
            ["upstreams", upstream, "peers"] => Resource::Peers(own(upstream)),
            ["upstreams", upstream, "peers", peer] => Resource::Peer(own(upstream), own(peer)),
            ["upstreams", upstream, "peers", peer, "fail"] => Resource::Fail(own(upstream), own(peer)),
            ["upstreams", upstream, "peers", peer, "resolve"] => Resource::Resolve(own(upstream), own(peer)),
            ["upstreams", upstream, "monitors"] => Resource::Monitors(own(upstream)),
            ["upstreams", upstream, "monitors", id] => Resource::Monitor(own(upstream), own(id)),
            _ => Resource::Nothing,
        };
        let pair = |pair: &str| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key, true)?, decode(value, true)?))
        };
        let query: Option<_> = query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect();
        Ok(Self { resource, query: query.ok_or(ENCODING)? })
    }

    /// The value of a parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Resource {
    /// The methods that it takes.
    pub(super) fn methods(&self) -> &'static [Method] {
        match self {
            Self::Page | Self::Metrics | Self::Upstreams | Self::Upstream(_) => &[Method::Get],
            Self::Peers(_) | Self::Monitors(_) => &[Method::Get, Method::Post],
            Self::Peer(..) => &[Method::Get, Method::Patch, Method::Delete],
            Self::Monitor(..) => &[Method::Get, Method::Delete],
            Self::Fail(..) | Self::Resolve(..) => &[Method::Post],
            Self::Nothing => &[Method::Get, Method::Post, Method::Patch, Method::Delete, Method::Other],
        }
    }
}

/// Undoes percent-encoding (RFC 3986, section 2.1); in queries a plus is a space.
fn decode(text: &str, is_query: bool) -> Option<String> {
    // The crate takes a percent sign that encodes nothing for itself; here it is an error.
    let encodes = |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(encodes) {
        return None;
    }
    let text = if is_query { text.replace('+', " ") } else { text.to_owned() };
    String::from_utf8(percent_decode_str(&text).collect()).ok()
}

/// Percent-encodes all that may mean something in a path.
pub(super) fn encode(text: &str) -> String {
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':');
    utf8_percent_encode(text, ENCODED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn names_in_paths_are_decoded() {
        let resource = |path: &str| Target::parse(path.as_bytes()).map(|target| target.resource);
        let peer = |upstream: &str, peer: &str| Ok(Resource::Peer(upstream.to_owned(), peer.to_owned()));
        assert_eq!(resource("/upstreams/web/peers/%5B%3a%3A1%5D:80"), peer("web", "[::1]:80"));
        assert_eq!(resource("/upstreams/a%2Fb/peers/x?y"), peer("a/b", "x"));
        assert_eq!(resource("/"), Ok(Resource::Page));
        for nothing in ["/upstreams/", "/upstreams/web/", "//", "/peers", "/metrics/x", "/upstreams/w/peers/p/q"] {
            let found = resource(nothing);
            assert!(matches!(found, Ok(Resource::Nothing | Resource::Upstream(_))), "{nothing}: {found:?}");
        }
        for bad in ["/upstreams/%", "/upstreams/%4", "/upstreams/%zz", "/upstreams/%ff", "/?a=%x"] {
            assert!(resource(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_encoded_reads_back() {
        for name in ["web", "[::1]:80", "a/b?c#d%e f", "ü", "unix:/run/x", "+"] {
            let path = format!("/upstreams/{}", encode(name));
            assert_eq!(Target::parse(path.as_bytes()).unwrap().resource, Resource::Upstream(name.to_owned()));
        }
    }
}
