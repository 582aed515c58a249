//! Where the management API is, and the addresses below it.
//!
//! Only `http`. The API answers clients on its own machine unless the configuration says otherwise, so TLS would encrypt
//! what never leaves it, and its libraries would be most of this program. From elsewhere a tunnel (`ssh -L`) does both:
//! it encrypts, and it ends at the proxy's loopback, from where the API may be called.

use std::fmt;

use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};
use ureq::http::Uri;

/// All but the unreserved characters of RFC 3986: whatever a name holds, it stays one segment of the path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The address of the API: scheme, authority, and `admin.prefix` without a slash at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Base(String);

impl Base {
    /// Reads what a person gave.
    ///
    /// # Errors
    ///
    /// A sentence. It does not repeat what may hold a password.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected a URL such as http://127.0.0.1:8000/durpina";
        if text.contains('@') {
            return Err(format!("{expected}; the URL cannot hold a user or a password, there is DURPINA_TOKEN"));
        }
        let uri: Uri = text.parse().map_err(|error| format!("{expected}, found {text:?} ({error})"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(format!("{expected}, found {text:?}: there is no TLS, reach the API through `ssh -L`"))
            }
            _ => return Err(format!("{expected}, found {text:?}")),
        }
        if text.contains(['?', '#']) {
            return Err(format!("{expected}, without a query or a fragment, found {text:?}"));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }

    /// The address of what these names lead to, each percent-encoded.
    pub(crate) fn join(&self, segments: &[&str], query: Option<(&str, &str)>) -> String {
        let mut url = self.0.clone();
        for segment in segments {
            url.push('/');
            url.extend(utf8_percent_encode(segment, SEGMENT));
        }
        if let Some((key, value)) = query {
            url.extend(["?", key, "="]);
            url.extend(utf8_percent_encode(value, SEGMENT));
        }
        url
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_whatever_they_hold() {
        let base = Base::parse("http://[::1]:8000/durpina/").unwrap();
        for (name, encoded) in [
            ("10.0.0.1:80", "10.0.0.1%3A80"),
            ("[::1]:80", "%5B%3A%3A1%5D%3A80"),
            ("a/b?c#d%e f", "a%2Fb%3Fc%23d%25e%20f"),
            ("Zürich~1_2-3", "Z%C3%BCrich~1_2-3"),
        ] {
            let url = base.join(&["upstreams", "web", "peers", name], None);
            assert_eq!(url, format!("http://[::1]:8000/durpina/upstreams/web/peers/{encoded}"));
        }
        assert_eq!(base.join(&["x"], Some(("selector", "a&b=c"))), "http://[::1]:8000/durpina/x?selector=a%26b%3Dc");
    }

    #[test]
    fn the_prefix_may_be_nothing() {
        for text in ["http://localhost:8000", "http://localhost:8000/"] {
            assert_eq!(Base::parse(text).unwrap().join(&["upstreams"], None), "http://localhost:8000/upstreams");
        }
    }

    #[test]
    fn what_cannot_be_the_api_is_refused() {
        for text in
            ["", "localhost:8000", "/durpina", "ftp://h/", "http://", "http://h/a b", "http://h/?x", "http://h/#x"]
        {
            let error = Base::parse(text).expect_err(text);
            assert!(error.starts_with("expected a URL such as http://127.0.0.1:8000/durpina"), "{text}: {error}");
        }
        assert!(Base::parse("https://h/").unwrap_err().contains("no TLS"));
        assert!(!Base::parse("http://user:secret@h/").unwrap_err().contains("secret"));
    }
}
