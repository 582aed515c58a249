//! Monitors: what finds out that a peer is dead before a client does.
//!
//! A [`Monitor`] knows two things: what to ask a peer, and what its reply means. It has no state and does no I/O. When
//! peers are asked, by which worker, and what becomes of the findings is the business of `checks`; how many findings in a row
//! make a verdict is decided in `model::status`.
//!
//! | monitor | asks | is content with |
//! | --- | --- | --- |
//! | [`http`] | an HTTP request | a status in `ok_codes`, and `expect_body` in the body |
//! | [`grpc`] | the health service of gRPC | `SERVING` |
//! | [`tcp`] | a connection | a connection |
//! | [`agent`], over TCP | the agent of HAProxy for one line | any line; the line is a verdict of its own |
//! | [`agent`], over HTTP | the same line as the first of an HTTP answer | the same |
//!
//! To add one: a file with the type and its documentation, and a line in `registry.rs`.

use crate::host::{CallKind, Reply};
use crate::model::report::Report;
use crate::model::spec::MonitorSpec;

pub mod agent;
pub mod grpc;
pub mod http;
pub mod tcp;

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// The peer is well.
    Good,
    /// It is not; why.
    Bad(String),
    /// It has an agent that says what it thinks of itself.
    Reported(Report),
    /// Its agent cannot be understood or reached, which is a failure but no verdict; why.
    Silent(String),
}

/// A way to check a peer.
pub trait Monitor {
    /// What to ask the peer of this name.
    fn ask(&self, spec: &MonitorSpec, peer: &str) -> CallKind;

    /// What the peer's reply means.
    fn judge(&self, spec: &MonitorSpec, reply: &Reply) -> Finding;
}

/// Which options a monitor has besides those that all have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grammar {
    /// `url`, `ok_codes`, `header_*`.
    pub http: bool,
    /// `method`, `body`, `expect_body`.
    pub request: bool,
    /// `service`.
    pub grpc: bool,
    /// `send`.
    pub send: bool,
}

/// What is known of a monitor by its name.
pub struct MonitorKind {
    /// The name in the configuration.
    pub name: &'static str,
    /// Its options.
    pub grammar: Grammar,
    /// The monitor.
    pub monitor: Box<dyn Monitor>,
}
