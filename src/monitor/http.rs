//! `http`: an HTTP request whose answer has a good status, and a body that holds what it should.
//!
//! The request is what the options say and nothing more: no header of the filter or of the proxy goes with it. `Host` is the
//! peer's name, `host:port`, unless `header_Host` says otherwise. The whole answer has to arrive within `timeout`; its body is
//! looked at for `expect_body` alone, so without that `method` `HEAD` is cheaper where servers know it.

use super::{Finding, MonitorSpec, Probe};
use crate::host::{CallKind, Reply};

/// The monitor.
#[derive(Default)]
pub struct Http;

impl Probe for Http {
    fn ask(&self, config: &MonitorSpec, peer: &str) -> CallKind {
        request(config, peer)
    }

    fn judge(&self, config: &MonitorSpec, reply: &Reply) -> Finding {
        match answer(config, reply) {
            Ok(body) if holds(body, config.expect_body.as_bytes()) => Finding::Good,
            Ok(_) => Finding::Bad("expect_body is not in the answer's body".to_owned()),
            Err(why) => Finding::Bad(why),
        }
    }
}

/// Whether `part` is somewhere in `body`, byte by byte.
fn holds(body: &[u8], part: &[u8]) -> bool {
    part.is_empty() || body.windows(part.len()).any(|window| window == part)
}

/// The request of a monitor over HTTP.
pub(super) fn request(config: &MonitorSpec, peer: &str) -> CallKind {
    let is_host = |(name, _): &&(String, String)| name == "host";
    let host = config.headers.iter().find(is_host).map_or(peer, |(_, value)| value);
    CallKind::Http {
        method: config.method.clone(),
        path: config.url.clone(),
        authority: host.to_owned(),
        headers: config.headers.iter().filter(|header| !is_host(header)).cloned().collect(),
        body: config.body.clone().into_bytes(),
    }
}

/// The body of an answer with a good status; otherwise what is wrong with it.
pub(super) fn answer<'r>(config: &MonitorSpec, reply: &'r Reply) -> Result<&'r [u8], String> {
    match reply {
        Reply::Http(status, body) if config.ok_codes.contains(*status) => Ok(body),
        Reply::Http(status, _) => Err(format!("status {status}, expected {}", config.ok_codes)),
        Reply::Failed(failure) => Err(failure.to_string()),
        Reply::Grpc { .. } | Reply::Bytes(_) | Reply::Connected | Reply::NotMade(_) => {
            Err("not an HTTP answer".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Failure;
    use crate::testing::test;

    #[test]
    fn the_status_decides() {
        let config = MonitorSpec { ok_codes: "200 3xx".parse().unwrap(), ..MonitorSpec::default() };
        let judge = |reply| Http.judge(&config, &reply);
        assert_eq!(judge(Reply::Http(200, Vec::new())), Finding::Good);
        assert_eq!(judge(Reply::Http(302, Vec::new())), Finding::Good);
        assert_eq!(judge(Reply::Http(503, Vec::new())), Finding::Bad("status 503, expected 200 3xx".to_owned()));
        assert_eq!(judge(Reply::Failed(Failure::Timeout)), Finding::Bad("no answer in time".to_owned()));
    }

    #[test]
    fn the_body_holds_what_is_expected_somewhere() {
        let judge = |expected: &str, body: &[u8]| {
            let config = MonitorSpec { expect_body: expected.to_owned(), ..MonitorSpec::default() };
            Http.judge(&config, &Reply::Http(200, body.to_vec())) == Finding::Good
        };
        assert!(judge("", b"") && judge("ready", b"ready") && judge("ready", b"{\"is\": \"ready\"}\xff"));
        assert!(!judge("ready", b"") && !judge("ready", b"Ready") && !judge("ready", b"read"));
        let config = MonitorSpec { expect_body: "ready".to_owned(), ..MonitorSpec::default() };
        let why = "expect_body is not in the answer's body";
        assert_eq!(Http.judge(&config, &Reply::Http(200, b"no".to_vec())), Finding::Bad(why.to_owned()));
        let why = "status 503, expected 101 102 2xx 3xx";
        assert_eq!(Http.judge(&config, &Reply::Http(503, b"ready".to_vec())), Finding::Bad(why.to_owned()));
    }

    #[test]
    fn the_host_is_the_peer_s_name_unless_a_header_says_otherwise() {
        let host = |config: &MonitorSpec| match Http.ask(config, "web-1:8080") {
            CallKind::Http { authority, headers, .. } => (authority, headers.len()),
            _ => panic!("an HTTP request"),
        };
        let mut config = MonitorSpec { headers: vec![("x-a".to_owned(), "1".to_owned())], ..Default::default() };
        assert_eq!(host(&config), ("web-1:8080".to_owned(), 1));
        config.headers.push(("host".to_owned(), "www.example".to_owned()));
        assert_eq!(host(&config), ("www.example".to_owned(), 1));
    }
}
