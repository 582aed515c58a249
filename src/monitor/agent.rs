//! Agent checks: the peer says itself what it can take, in a line that [`Report`] describes.
//!
//! No line, or an empty one, is a failure but no verdict: the last one stays.
//!
//! Source: HAProxy, configuration manual, `agent-check`.

use super::{http, Finding, Probe};
use crate::host::{CallKind, Reply};
use crate::model::report::Report;
use crate::model::spec::MonitorSpec;

/// Asks an agent over TCP.
#[derive(Default)]
pub struct OverTcp;

impl Probe for OverTcp {
    fn ask(&self, config: &MonitorSpec, _peer: &str) -> CallKind {
        CallKind::Tcp(config.send.clone().into_bytes())
    }

    fn judge(&self, _config: &MonitorSpec, reply: &Reply) -> Finding {
        match reply {
            Reply::Bytes(bytes) => read(bytes),
            Reply::Failed(failure) => Finding::Silent(failure.to_string()),
            Reply::Http(..) | Reply::Grpc { .. } | Reply::Connected | Reply::NotMade(_) => {
                Finding::Silent("not an agent's answer".to_owned())
            }
        }
    }
}

/// Asks an agent that answers over HTTP.
#[derive(Default)]
pub struct OverHttp;

impl Probe for OverHttp {
    fn ask(&self, config: &MonitorSpec, peer: &str) -> CallKind {
        // What an agent wants to be told first is the body here.
        http::request(&MonitorSpec { body: config.send.clone(), ..config.clone() }, peer)
    }

    fn judge(&self, config: &MonitorSpec, reply: &Reply) -> Finding {
        http::answer(config, reply).map_or_else(Finding::Silent, read)
    }
}

fn read(bytes: &[u8]) -> Finding {
    let report = Report::parse(bytes);
    if report == Report::default() {
        Finding::Silent("the agent's answer is empty".to_owned())
    } else {
        Finding::Reported(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn no_answer_is_no_verdict() {
        let config = MonitorSpec::default();
        let silent = |reply| matches!(OverTcp.judge(&config, &reply), Finding::Silent(_));
        assert!(silent(Reply::Bytes(Vec::new())));
        assert!(silent(Reply::Bytes(b"\r\n".to_vec())));
        assert!(silent(Reply::Failed(crate::host::Failure::Timeout)));
        assert!(!silent(Reply::Bytes(b"up".to_vec())));
        assert!(matches!(OverHttp.judge(&config, &Reply::Http(500, b"up".to_vec())), Finding::Silent(_)));
        assert!(matches!(OverHttp.judge(&config, &Reply::Http(200, b"up".to_vec())), Finding::Reported(_)));
    }
}
