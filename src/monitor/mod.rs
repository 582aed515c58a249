//! Monitors: what finds out that a peer is dead before a client does.
//!
//! A [`Monitor`] knows two things: what to ask a peer, and what its reply means. It has no state and does no I/O. When
//! peers are asked, by which worker, and what becomes of the findings is the business of the filter's checks
//! ([`crate::filter`]); how many findings in a row make a verdict is decided in [`crate::status`].
//!
//! | monitor | asks | is content with |
//! | --- | --- | --- |
//! | [`http`] | an HTTP request | a status in `ok_codes` |
//! | [`tcp`] | a connection | a connection |
//! | [`agent`], over TCP | the agent of HAProxy for one line | any line; the line is a verdict of its own |
//! | [`agent`], over HTTP | the same line as the first of an HTTP answer | the same |
//!
//! To add one: a file with the type and its documentation, and a line in [`MONITORS`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::codes::StatusCodes;
use crate::host::{Ask, Reply};
use crate::peer::Selector;
use crate::time::as_millis;

pub mod agent;
pub mod http;
mod slots;
pub mod tcp;

pub(crate) use slots::Slots;

/// How many peers a monitor checks in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    /// One, at the end of each interval: the predecessor's way, cheap for many peers.
    #[default]
    Rotate,
    /// All, spread over the interval.
    All,
}

impl Schedule {
    /// The names of the schedules.
    pub const NAMES: &'static [(&'static str, Self)] = &[("rotate", Self::Rotate), ("all", Self::All)];
}

/// A monitor as it was declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorConfig {
    /// Tells it from the upstream's other monitors; by default its name.
    pub id: String,
    /// Its name in the registry.
    pub name: String,
    /// The time between checks; see [`Schedule`]. Default 5 s.
    #[serde(with = "as_millis")]
    pub interval: Duration,
    /// How long a check may take. Default 1 s.
    #[serde(with = "as_millis")]
    pub timeout: Duration,
    /// The port to check instead of the peer's own.
    pub port: Option<u16>,
    /// Which peers are checked.
    pub peers: Selector,
    /// So many good checks in a row lift this monitor's verdict. Default 2.
    pub rise: u32,
    /// So many failed checks in a row make this monitor's verdict `down`. Default 3.
    pub fall: u32,
    /// How many peers are checked in an interval.
    pub schedule: Schedule,
    /// The path of an HTTP request, with the query. Default `/`.
    pub url: String,
    /// The good answers. Default `101 102 2xx 3xx`.
    pub ok_codes: StatusCodes,
    /// Headers of the request, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The request's method. Default `GET`.
    pub method: String,
    /// The request's body.
    pub body: String,
    /// What an agent over TCP is sent first.
    pub send: String,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self {
            id: String::new(),
            name: String::new(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            port: None,
            peers: Selector::All,
            rise: 2,
            fall: 3,
            schedule: Schedule::Rotate,
            url: "/".to_owned(),
            ok_codes: "101 102 2xx 3xx".parse().unwrap_or_default(),
            headers: Vec::new(),
            method: "GET".to_owned(),
            body: String::new(),
            send: String::new(),
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// The peer is well.
    Good,
    /// It is not; why.
    Bad(String),
    /// It has an agent that says what it thinks of itself.
    Said(agent::Report),
    /// Its agent cannot be understood or reached, which is a failure but no verdict; why.
    Silent(String),
}

/// A way to check a peer.
pub trait Monitor: Sync {
    /// What to ask the peer of this name.
    fn ask(&self, config: &MonitorConfig, peer: &str) -> Ask;

    /// What the peer's reply means.
    fn judge(&self, config: &MonitorConfig, reply: &Reply) -> Finding;
}

/// Which options a monitor has besides those that all have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grammar {
    /// `url`, `ok_codes`, `header_*`.
    pub http: bool,
    /// `method`, `body`.
    pub request: bool,
    /// `send`.
    pub send: bool,
}

/// What is known of a monitor by its name.
pub struct Kind {
    /// The name in the configuration.
    pub name: &'static str,
    /// Its options.
    pub grammar: Grammar,
    /// The monitor.
    pub monitor: &'static dyn Monitor,
}

/// The monitors, by name.
pub const MONITORS: &[Kind] = &[
    Kind { name: "http", grammar: Grammar { http: true, request: true, send: false }, monitor: &http::Http },
    Kind { name: "tcp", grammar: Grammar { http: false, request: false, send: false }, monitor: &tcp::Tcp },
    Kind {
        name: "haproxy-agent-check",
        grammar: Grammar { http: false, request: false, send: true },
        monitor: &agent::OverTcp,
    },
    Kind {
        name: "http-haproxy-agent-check",
        grammar: Grammar { http: true, request: false, send: true },
        monitor: &agent::OverHttp,
    },
];

/// The kind of that name.
#[must_use]
pub fn kind_named(name: &str) -> Option<&'static Kind> {
    MONITORS.iter().find(|kind| kind.name == name)
}
