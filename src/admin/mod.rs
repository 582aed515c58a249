//! The management API: upstreams seen and changed over HTTP, by scripts, by people in a browser, by Prometheus.
//!
//! The filter answers these requests itself; they reach no server. A request passes the `gates`; then `paths` says
//! what it is for, and one of these answers:
//!
//! - `documents`: upstreams, peers and monitors as JSON;
//! - `changes`: what a request changes;
//! - `metrics`: figures for Prometheus;
//! - `page`: the status page.
//!
//! What is refused is told of in the log, `refused`.
//!
//! Everything works on shared state, so any worker can answer, and every worker has a change at its next request.
//! Errors are problem documents (RFC 9457). Nothing of the token, and nothing that monitors send, is in any answer or log.

mod changes;
mod documents;
mod gates;
mod method;
mod metrics;
mod page;
mod paths;
mod refusal;
mod refused;
mod request;
mod snapshot;

use crate::host::{RequestHost, Response};
use crate::model::access::AdminAccess;
use crate::registry::Registry;
use crate::store::Store;
use crate::time::Timestamp;
use method::Method;
use paths::{Resource, Target};
use refusal::Refusal;
pub(crate) use refusal::LONGEST_BODY;
use refused::Refused;
use request::{finished, ApiRequest};

/// The management API of one configuration.
pub(crate) struct Admin {
    access: AdminAccess,
    registry: Registry,
    refused: Refused,
}

impl Admin {
    /// The API with this configuration.
    pub(crate) fn new(access: AdminAccess, registry: Registry) -> Self {
        Self { access, registry, refused: Refused::default() }
    }

    /// Whether a request for this path is one for the API. A path with `.` or `..` in it may be another one to whoever reads
    /// it next, and is left to the routes.
    pub(crate) fn is_for(&self, target: &[u8]) -> bool {
        let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
        let Some(rest) = path.strip_prefix(self.access.prefix.as_bytes()) else { return false };
        let is_dots = |step: &[u8]| {
            let step = step.to_ascii_lowercase();
            matches!(&*step, b"." | b".." | b"%2e" | b"%2e%2e" | b".%2e" | b"%2e.")
        };
        (rest.is_empty() || rest.starts_with(b"/")) && !rest.split(|byte| *byte == b'/').any(is_dots)
    }

    /// Answers a request. `body` is all of its body, or more of it than [`LONGEST_BODY`].
    pub(crate) fn answer(&mut self, host: &dyn RequestHost, body: &[u8]) -> Response {
        self.serve(host, body).map_or_else(|refusal| self.refuse_with(host, refusal), finished)
    }

    /// Answers a request by its headers alone, if that is possible: nobody has to be waited for whose body changes nothing.
    pub(crate) fn refuse(&mut self, host: &dyn RequestHost) -> Option<Response> {
        let method = Method::of(host);
        let refusal = self.target(host, method).err().or_else(|| {
            let length = host.header("content-length")?;
            let length: usize = std::str::from_utf8(&length).ok()?.parse().unwrap_or(usize::MAX);
            (length > LONGEST_BODY).then(Refusal::too_long)
        });
        refusal.map(|refusal| self.refuse_with(host, refusal))
    }

    fn refuse_with(&mut self, host: &dyn RequestHost, refusal: Refusal) -> Response {
        self.refused.say(host, &refusal);
        finished(refusal.into_response())
    }

    /// Tells how many refused requests were not logged.
    pub(crate) fn tell_refused(&mut self, now: Timestamp) {
        self.refused.tell(now);
    }

    /// Lets a request in, and says what it is for; nothing for the prefix itself.
    fn target(&self, host: &dyn RequestHost, method: Method) -> Result<Option<Target>, Refusal> {
        let full = host.path();
        let rest = full.get(self.access.prefix.len()..).unwrap_or_default();
        gates::admit(&self.access, host, method, rest)?;
        if rest.is_empty() || rest.starts_with(b"?") {
            return Ok(None);
        }
        let target = Target::parse(rest).map_err(|why| Refusal::new(400, why))?;
        let allowed = target.resource.methods();
        if !allowed.contains(&method) {
            return Err(Refusal::not_allowed(allowed));
        }
        Ok(Some(target))
    }

    fn serve(&self, host: &dyn RequestHost, body: &[u8]) -> Result<Response, Refusal> {
        let method = Method::of(host);
        let Some(target) = self.target(host, method)? else {
            // The page's own addresses are relative to the slash.
            let location = format!("{}/", self.access.prefix);
            return Ok(Response { status: 308, headers: vec![("location", location)], body: Vec::new() });
        };
        if body.len() > LONGEST_BODY {
            return Err(Refusal::too_long());
        }
        let revisions = host.header("if-match").map(|value| String::from_utf8_lossy(&value).into_owned());
        let store = Store::new(host).only_if(revisions.as_deref());
        let request = ApiRequest {
            host,
            registry: &self.registry,
            store,
            prefix: &self.access.prefix,
            target: &target,
            method,
            body,
        };
        if method != Method::Get {
            return changes::make(&request);
        }
        match target.resource {
            Resource::Page => page::get(&request),
            Resource::Metrics => Ok(metrics::render(&request)?),
            _ => documents::get(&request),
        }
    }
}

#[cfg(test)]
mod tests;
