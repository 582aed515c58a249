//! `tcp`: a connection to the peer can be made.
//!
//! Nothing is sent, and nothing has to come back: connected is good.

use super::{Finding, MonitorSpec, Probe};
use crate::host::{CallKind, Failure, Reply};

/// The monitor.
#[derive(Default)]
pub struct Tcp;

impl Probe for Tcp {
    fn ask(&self, _config: &MonitorSpec, _peer: &str) -> CallKind {
        CallKind::Connect
    }

    fn judge(&self, _config: &MonitorSpec, reply: &Reply) -> Finding {
        match reply {
            Reply::Connected => Finding::Good,
            // All that can time out here is the connection.
            Reply::Failed(Failure::Timeout) => Finding::Bad("no connection in time".to_owned()),
            Reply::Failed(failure) => Finding::Bad(failure.to_string()),
            Reply::Http(..) | Reply::Grpc { .. } | Reply::Bytes(_) | Reply::NotMade(_) => {
                Finding::Bad("not a connection".to_owned())
            }
        }
    }
}
