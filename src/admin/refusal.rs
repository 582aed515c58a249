//! Why a request is not served.

use std::borrow::Cow;

use super::method::Method;
use crate::config::ConfigErrors;
use crate::host::Response;
use crate::model::error::Error;
use crate::problem;

/// The longest body of a request.
pub(crate) const LONGEST_BODY: usize = 64 * 1024;

/// Why a request is not served.
#[derive(Debug, Default)]
pub(super) struct Refusal {
    status: u32,
    detail: String,
    /// The methods that would have been taken.
    allow: Option<String>,
    errors: Vec<(String, String)>,
}

impl Refusal {
    pub(super) fn new(status: u32, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), ..Self::default() }
    }

    /// The address takes no method but these.
    pub(super) fn not_allowed(methods: &[Method]) -> Self {
        let names = methods.iter().map(|method| method.names()).collect::<Vec<_>>().join(", ");
        Self { allow: Some(names), ..Self::new(405, "this address does not take that method") }
    }

    /// The body is too long.
    pub(super) fn too_long() -> Self {
        Self::new(413, format!("a body can have at most {LONGEST_BODY} bytes"))
    }

    /// What is wrong with a body, each error with its place.
    pub(super) fn invalid(errors: &ConfigErrors) -> Self {
        let errors: Vec<(String, String)> =
            errors.errors().iter().map(|problem| (problem.place.clone(), problem.message.clone())).collect();
        let line = |(place, message): &(String, String)| {
            if place.is_empty() {
                message.clone()
            } else {
                format!("{place}: {message}")
            }
        };
        let detail = errors.iter().map(line).collect::<Vec<_>>().join("\n");
        Self { errors, ..Self::new(422, detail) }
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> u32 {
        self.status
    }

    /// Why, for the log. Of a body only the places of its errors are in it: what is found there may be a secret.
    pub(super) fn reason(&self) -> Cow<'_, str> {
        if self.errors.is_empty() {
            return Cow::Borrowed(&self.detail);
        }
        let place = |(place, _): &(String, String)| if place.is_empty() { "the body" } else { place }.to_owned();
        Cow::Owned(format!("not valid: {}", self.errors.iter().map(place).collect::<Vec<_>>().join(", ")))
    }

    /// The problem document.
    pub(super) fn into_response(mut self) -> Response {
        if self.status == 422 && self.errors.is_empty() {
            self.errors.push((String::new(), self.detail.clone()));
        }
        let mut response = problem::document(self.status, &self.detail, &self.errors);
        if let Some(allow) = self.allow {
            response.headers.push(("allow", allow));
        }
        if self.status == 401 {
            response.headers.push(("www-authenticate", "Bearer realm=\"durpina\"".to_owned()));
        }
        response
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::NoSuchUpstream(_) | Error::NoSuchPeer(_) | Error::NoSuchMonitor(_) => 404,
            Error::PeerExists(_) | Error::MonitorExists(_) => 409,
            Error::Invalid(_) | Error::TooManyPeers(_) | Error::TooManyMonitors(_) => 422,
            Error::Unresolved(_) => 422,
            Error::Revision(_) => 412,
            Error::Host(_) | Error::Corrupt(_) => 503,
        };
        Self::new(status, error.to_string())
    }
}
