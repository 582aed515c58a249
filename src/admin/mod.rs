//! The management API: upstreams seen and changed over HTTP, by scripts, by people in a browser, by Prometheus.
//!
//! The filter answers these requests itself; they reach no server. A request passes three gates, the client's address, the
//! token, and for changes the page it comes from; then `paths` says what it is for, and one of these answers:
//!
//! - `documents`: upstreams, peers and monitors as JSON;
//! - `changes`: what a request changes;
//! - `metrics`: figures for Prometheus;
//! - `page.html`: the status page.
//!
//! Everything works on shared state, so any worker can answer, and every worker has a change at its next request.
//! Errors are problem documents (RFC 9457). Nothing of the token, and nothing that monitors send, is in any answer or log.

mod changes;
mod documents;
mod metrics;
mod paths;

use serde::Serialize;

use crate::config::ConfigErrors;
use crate::host::{RequestHost, Response};
use crate::model::access::AdminAccess;
use crate::model::error::Error;
use crate::problem;
use crate::registry::Registry;
use crate::store::Store;
use paths::{Resource, Target};

/// The longest body of a request.
pub(crate) const LONGEST_BODY: usize = 64 * 1024;

/// The status page.
const PAGE: &str = include_str!("page.html");
/// What the page may do: its own style and script, and requests to where it came from. The hashes are those of the page's; a
/// browser shows nothing of it if they are wrong, and the tests in a browser fail.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'sha256-gqfr9ob/v7ZRwvC/s2PX7nv0AUUg2oCzHOIjWzbDYgg='; style-src 'sha256-WTX6OfjdRwQRJxrmckFKHsIOPhLYJIKT6ZSdc5NVWUc='; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";

/// The management API of one configuration.
pub(crate) struct Admin {
    access: AdminAccess,
    registry: Registry,
}

/// A request for the API that may be served.
struct ApiRequest<'r> {
    host: &'r dyn RequestHost,
    registry: &'r Registry,
    store: Store<'r>,
    /// How the paths of the API begin, for links to them.
    prefix: &'r str,
    target: &'r Target,
    method: Method,
    body: &'r [u8],
}

/// What a request wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Get,
    Post,
    Patch,
    Delete,
    Other,
}

impl Method {
    fn of(host: &dyn RequestHost) -> Self {
        match &*host.method() {
            // The host leaves out the body of an answer to HEAD.
            b"GET" | b"HEAD" => Self::Get,
            b"POST" => Self::Post,
            b"PATCH" => Self::Patch,
            b"DELETE" => Self::Delete,
            _ => Self::Other,
        }
    }
}

impl Admin {
    /// The API with this configuration.
    pub(crate) fn new(access: AdminAccess, registry: Registry) -> Self {
        Self { access, registry }
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
    pub(crate) fn answer(&self, host: &dyn RequestHost, body: &[u8]) -> Response {
        finished(self.serve(host, body).unwrap_or_else(Refusal::into_response))
    }

    /// Answers a request by its headers alone, if that is possible: nobody has to be waited for whose body changes nothing.
    pub(crate) fn refuse(&self, host: &dyn RequestHost) -> Option<Response> {
        let method = Method::of(host);
        let refusal = self.target(host, method).err().or_else(|| {
            let length = host.header("content-length")?;
            let length: usize = std::str::from_utf8(&length).ok()?.parse().unwrap_or(usize::MAX);
            (length > LONGEST_BODY).then(Refusal::too_long)
        });
        refusal.map(|refusal| finished(refusal.into_response()))
    }

    /// Lets a request in, and says what it is for; nothing for the prefix itself.
    fn target(&self, host: &dyn RequestHost, method: Method) -> Result<Option<Target>, Refusal> {
        let full = host.path();
        let rest = full.get(self.access.prefix.len()..).unwrap_or_default();
        self.admit(host, method, rest)?;
        if rest.is_empty() || rest.starts_with(b"?") {
            return Ok(None);
        }
        let target = Target::parse(rest).map_err(|why| Refusal::new(400, why))?;
        let allowed = target.resource.methods();
        if !allowed.contains(&method) {
            let names = allowed.iter().map(|method| method.names()).collect::<Vec<_>>().join(", ");
            return Err(Refusal { allow: Some(names), ..Refusal::new(405, "this address does not take that method") });
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
            Resource::Page => Ok(Response {
                status: 200,
                headers: vec![
                    ("content-type", "text/html; charset=utf-8".to_owned()),
                    ("content-security-policy", PAGE_POLICY.to_owned()),
                    ("referrer-policy", "no-referrer".to_owned()),
                ],
                body: PAGE.as_bytes().to_vec(),
            }),
            Resource::Metrics => Ok(metrics::render(&request)?),
            _ => documents::get(&request),
        }
    }

    /// Lets a request in, or not.
    fn admit(&self, host: &dyn RequestHost, method: Method, rest: &[u8]) -> Result<(), Refusal> {
        let client = host.client();
        if !client.is_some_and(|client| self.access.allow.iter().any(|network| network.contains(client))) {
            return Err(Refusal::new(403, "this address may not use the management API"));
        }
        let is_page = rest.split(|byte| *byte == b'?').next().is_none_or(|path| path.is_empty() || path == b"/");
        let is_read = method == Method::Get;
        match &self.access.token {
            // The page holds nothing that is worth a token, and a browser has none when it asks for it.
            _ if is_page && is_read => {}
            Some(token) => {
                let given = host.header("authorization").unwrap_or_default();
                let (scheme, given) = given.split_at_checked(7).unwrap_or_default();
                if !scheme.eq_ignore_ascii_case(b"bearer ") || !is_same(token.as_bytes(), given.trim_ascii()) {
                    let detail = "expected the token of the management API: Authorization: Bearer …";
                    return Err(Refusal::new(401, detail));
                }
            }
            None if !is_read => {
                return Err(Refusal::new(403, "the management API has no token, and is read-only without one"));
            }
            None => {}
        }
        if !is_read && !is_of_same_origin(host) {
            return Err(Refusal::new(403, "a page of another origin may not change anything"));
        }
        Ok(())
    }
}

/// An answer with the headers that all have.
fn finished(mut response: Response) -> Response {
    response.headers.push(("cache-control", "no-store".to_owned()));
    response.headers.push(("x-content-type-options", "nosniff".to_owned()));
    response
}

/// Whether two secrets are the same, in a time that tells nothing but their lengths.
fn is_same(ours: &[u8], given: &[u8]) -> bool {
    let differing = ours.iter().zip(given).fold(0, |bits, (a, b)| bits | (a ^ b));
    std::hint::black_box(differing) == 0 && ours.len() == given.len()
}

/// Whether a request comes from no browser's page, or from one of this very origin: browsers say so (Fetch, `Origin`; Fetch
/// Metadata, `Sec-Fetch-Site`).
fn is_of_same_origin(host: &dyn RequestHost) -> bool {
    let site = host.header("sec-fetch-site");
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return false;
    }
    let Some(origin) = host.header("origin") else { return true };
    let authority = host.authority();
    let (_, named) =
        origin.split_at_checked(origin.windows(3).position(|w| w == b"://").unwrap_or(0)).unwrap_or_default();
    !authority.is_empty() && named.strip_prefix(b"://").is_some_and(|named| named.eq_ignore_ascii_case(&authority))
}

/// Why a request is not served.
#[derive(Debug, Default)]
struct Refusal {
    status: u32,
    detail: String,
    allow: Option<String>,
    errors: Vec<(String, String)>,
}

impl Refusal {
    fn new(status: u32, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), ..Self::default() }
    }

    fn too_long() -> Self {
        Self::new(413, format!("a body can have at most {LONGEST_BODY} bytes"))
    }

    /// What is wrong with a body, each error with its place.
    fn invalid(errors: &ConfigErrors) -> Self {
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

    fn into_response(mut self) -> Response {
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

/// Texts, numbers and lists can always be written.
fn to_json(document: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(document).unwrap_or_default()
}

/// An answer with a JSON document.
fn json(status: u32, document: Vec<u8>) -> Response {
    Response { status, headers: vec![("content-type", "application/json".to_owned())], body: document }
}

#[cfg(test)]
mod tests;
