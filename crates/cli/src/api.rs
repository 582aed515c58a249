//! A call of the management API: a request, and what its answer means.
//!
//! ureq does HTTP/1.1 with time limits and without a runtime, and is small without its features.

use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE};
use ureq::http::{HeaderValue, Method, Request};
use ureq::Agent;

use crate::invocation::Access;
use crate::problem::Problem;
use crate::text::one_line;
use crate::url::Base;

/// A peer's document has less than a kilobyte, and there are at most 10,000 in an upstream; this is for many of those. It
/// is there because what answers at a wrong URL may never end.
const LARGEST_ANSWER: u64 = 256 << 20;

/// Why a call did not succeed: one message, without a line feed at its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The API says that the request is wrong (4xx).
    Refused(String),
    /// Nothing answered, the API failed (5xx), or it was not the API that answered.
    Unavailable(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(message) | Self::Unavailable(message) => f.write_str(message),
        }
    }
}

/// A connection to the API, not made yet.
#[derive(Debug)]
pub(crate) struct Api {
    agent: Agent,
    url: Base,
    authorization: Option<HeaderValue>,
    timeout: Duration,
}

/// What to ask.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    /// Names below the prefix, not encoded.
    pub(crate) path: &'a [&'a str],
    pub(crate) query: Option<(&'a str, &'a str)>,
    /// Its content type, and it.
    pub(crate) body: Option<(&'static str, String)>,
}

/// An answer that is no error.
#[derive(Debug)]
pub(crate) struct Answer {
    /// JSON, or nothing (204).
    body: String,
    url: String,
}

impl Api {
    pub(crate) fn new(access: Access) -> Self {
        let Access { url, authorization, timeout } = access;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            // The API never redirects, and a proxy from the environment is not for it: neither shall see the token.
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("durpina/", env!("CARGO_PKG_VERSION")))
            .accept("application/json, application/problem+json")
            .build()
            .new_agent();
        Self { agent, url, authorization, timeout }
    }

    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    ///
    /// [`Failure`], also when the answer is not JSON.
    pub(crate) fn call(&self, call: Call<'_>) -> Result<Answer, Failure> {
        let changes = call.method != Method::GET;
        let url = self.url.join(call.path, call.query);
        let (status, content_type, body) = self.send(call, &url).map_err(|error| {
            Failure::Unavailable(match error {
                // What was asked may have been done, and only the answer be missing.
                ureq::Error::Timeout(_) if changes => {
                    format!("no answer from {} within {:?}; the change may have been made", self.url, self.timeout)
                }
                ureq::Error::Timeout(_) => format!("no answer from {} within {:?}", self.url, self.timeout),
                ureq::Error::Io(error) => format!("cannot reach {}: {error}", self.url),
                ureq::Error::HostNotFound => format!("cannot reach {}: no such host", self.url),
                error => format!("cannot reach {}: {error}", self.url),
            })
        })?;
        judge(status, content_type.as_deref(), body, url)
    }

    fn send(&self, call: Call<'_>, url: &str) -> Result<(u16, Option<String>, Vec<u8>), ureq::Error> {
        let mut request = Request::builder().method(call.method).uri(url);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let mut response = match call.body {
            None => self.agent.run(request.body(())?)?,
            Some((content_type, body)) => self.agent.run(request.header(CONTENT_TYPE, content_type).body(body)?)?,
        };
        let content_type =
            response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let body = response.body_mut().with_config().limit(LARGEST_ANSWER).read_to_vec()?;
        Ok((response.status().as_u16(), content_type, body))
    }
}

impl Answer {
    /// The API's JSON as it came, with a line feed at its end.
    pub(crate) fn json(self) -> String {
        let mut body = self.body;
        if !body.is_empty() && !body.ends_with('\n') {
            body.push('\n');
        }
        body
    }

    /// # Errors
    ///
    /// [`Failure::Unavailable`] when it is JSON, but not this document.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_str(&self.body).map_err(|error| {
            Failure::Unavailable(format!("{} answered JSON that is not the management API's: {error}", self.url))
        })
    }
}

/// What an answer means.
fn judge(status: u16, content_type: Option<&str>, body: Vec<u8>, url: String) -> Result<Answer, Failure> {
    let body = String::from_utf8(body).unwrap_or_default();
    match status {
        204 => return Ok(Answer { body: String::new(), url }),
        200..=299 if serde_json::from_str::<serde::de::IgnoredAny>(&body).is_ok() => return Ok(Answer { body, url }),
        // Whatever else listens there has such answers too, so only a problem document counts as the API's.
        400..=599 => {
            if let Some(message) = serde_json::from_str::<Problem>(&body).ok().and_then(|problem| problem.message()) {
                return Err(if status < 500 { Failure::Refused(message) } else { Failure::Unavailable(message) });
            }
        }
        _ => {}
    }
    let content_type = content_type.map_or_else(|| "no content type".to_owned(), one_line);
    Err(Failure::Unavailable(match status {
        500..=599 => format!("{url} answered with status {status}, and without a reason ({content_type})"),
        _ => format!("{url} is not the management API: status {status}, {content_type}. Is the URL right?"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str) -> Result<String, Failure> {
        judge(status, Some("text/x"), body.into(), "http://h/x".into()).map(Answer::json)
    }

    #[test]
    fn json_is_passed_on_as_it_came() {
        assert_eq!(judged(200, "{ \"a\":1.0 }").unwrap(), "{ \"a\":1.0 }\n");
        assert_eq!(judged(201, "[]\n").unwrap(), "[]\n");
        assert_eq!(judged(204, "").unwrap(), "");
    }

    #[test]
    fn a_problem_document_is_the_apis_word() {
        let problem = r#"{"title": "No", "detail": "never"}"#;
        assert_eq!(judged(409, problem), Err(Failure::Refused("No: never".into())));
        assert_eq!(judged(503, problem), Err(Failure::Unavailable("No: never".into())));
    }

    #[test]
    fn anything_else_is_not_the_api() {
        for (status, body) in
            [(200, "<html>"), (200, ""), (200, "{} {}"), (302, ""), (404, "<html>"), (401, r#"{"a": 1}"#)]
        {
            let expected = format!("http://h/x is not the management API: status {status}, text/x. Is the URL right?");
            assert_eq!(judged(status, body), Err(Failure::Unavailable(expected)));
        }
        assert_eq!(
            judged(503, "no healthy upstream"),
            Err(Failure::Unavailable("http://h/x answered with status 503, and without a reason (text/x)".into()))
        );
    }

    #[test]
    fn json_of_another_kind_is_not_the_document() {
        let answer = judge(200, None, b"{}".to_vec(), "http://h/x".into()).unwrap();
        let failure = answer.read::<Vec<u8>>().unwrap_err().to_string();
        assert!(failure.starts_with("http://h/x answered JSON that is not the management API's: "), "{failure}");
    }
}
