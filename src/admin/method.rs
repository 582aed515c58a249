//! What a request wants done.

use crate::host::RequestHost;

/// What a request wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Post,
    Patch,
    Delete,
    Other,
}

impl Method {
    /// Of the request that `host` is handling.
    pub(super) fn of(host: &dyn RequestHost) -> Self {
        match &*host.method() {
            // The host leaves out the body of an answer to HEAD.
            b"GET" | b"HEAD" => Self::Get,
            b"POST" => Self::Post,
            b"PATCH" => Self::Patch,
            b"DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }

    /// The names of the methods that are treated like this one.
    pub(super) fn names(self) -> &'static str {
        match self {
            Self::Get => "GET, HEAD",
            Self::Post => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Other => "",
        }
    }
}
