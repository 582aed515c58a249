//! A request for the API, and what answers to it have in common.

use serde::Serialize;

use super::method::Method;
use super::paths::Target;
use crate::host::{RequestHost, Response};
use crate::registry::Registry;
use crate::store::Store;

/// A request for the API that may be served.
pub(super) struct ApiRequest<'r> {
    pub(super) host: &'r dyn RequestHost,
    pub(super) registry: &'r Registry,
    pub(super) store: Store<'r>,
    /// How the paths of the API begin, for links to them.
    pub(super) prefix: &'r str,
    pub(super) target: &'r Target,
    pub(super) method: Method,
    pub(super) body: &'r [u8],
}

/// An answer with the headers that all have.
pub(super) fn finished(mut response: Response) -> Response {
    response.headers.push(("cache-control", "no-store".to_owned()));
    response.headers.push(("x-content-type-options", "nosniff".to_owned()));
    response
}

/// Texts, numbers and lists can always be written.
pub(super) fn to_json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

/// An answer with a JSON document.
pub(super) fn json(status: u32, document: Vec<u8>) -> Response {
    Response { status, headers: vec![("content-type", "application/json".to_owned())], body: document }
}
