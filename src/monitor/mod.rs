//! Monitors: what finds out that a peer is dead before a client does.
//!
//! A [`Monitor`] takes one step after the other: it says what to ask a peer, is told the reply, and asks again or says what it
//! found. It does no I/O. When peers are asked, by which worker, and what becomes of the findings is the business of `checks`;
//! how many findings in a row make a verdict is decided in `model::status`. Most monitors ask once: those are [`Probe`]s, and have no state.
//!
//! | monitor | asks | is content with |
//! | --- | --- | --- |
//! | [`http`] | an HTTP request | a status in `ok_codes`, and `expect_body` in the body |
//! | [`grpc`] | the health service of gRPC | `SERVING` |
//! | [`tcp`] | a connection | a connection |
//! | [`agent`], over TCP | the agent of HAProxy for one line | any line; the line is a verdict of its own |
//! | [`agent`], over HTTP | the same line as the first of an HTTP answer | the same |
//!
//! To add one: a file with the type and its documentation, and a line in `registry.rs`. One of your own stands in your own crate, and
//! goes into the [`Registry`](crate::Registry) as these do; `docs/scripting.md` shows how.

use crate::host::{CallKind, Reply};
use crate::model::report::Report;
use crate::model::spec::MonitorSpec;
use crate::settings::Settings;

pub mod agent;
pub(crate) mod check;
pub mod grpc;
pub mod http;
pub(crate) mod kind;
pub(crate) mod own;
pub mod tcp;

pub use check::Check;
pub use kind::{Grammar, MonitorKind};

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

/// What a monitor wants to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Ask the peer, and be told its reply.
    Ask(CallKind),
    /// End the check: this was found.
    Done(Finding),
}

/// A way to check peers: one for each monitor of an upstream, in each worker.
///
/// ```
/// use durpina::host::Reply;
/// use durpina::monitor::{Check, Finding, Monitor, Step};
/// use durpina::settings::Settings;
///
/// /// Good is who answers with this status.
/// struct Teapot(u16);
///
/// impl Monitor for Teapot {
///     fn init(settings: &mut Settings) -> Self {
///         Self(settings.number("status", 100.0..=599.0).map_or(418, |status| status as u16))
///     }
///
///     fn check(&mut self, check: &mut Check<'_>, reply: Option<&Reply>) -> Result<Step, String> {
///         match reply {
///             None => Ok(Step::Ask(check.request("/pot"))),
///             Some(Reply::Http(status, _)) if *status == self.0 => Ok(Step::Done(Finding::Good)),
///             Some(other) => Ok(Step::Done(Finding::Bad(format!("no teapot: {other:?}")))),
///         }
///     }
/// }
/// ```
pub trait Monitor {
    /// Makes one, from the options of its own. What is wrong with them goes into `settings`; then the monitor is not used.
    ///
    /// This is done when a configuration is read, to find mistakes, and again by each worker that needs the monitor. Nobody may be asked here.
    fn init(settings: &mut Settings) -> Self
    where
        Self: Sized;

    /// Takes the next step of a check: the first without a reply, the others with the reply to what was asked.
    ///
    /// All of a check's questions go to the same address of the peer. Together they may take the option `timeout`; what takes longer ends as a failed
    /// check. Checks of different peers go on at the same time, so what belongs to one of them is for [`Check::local`], not for `self`.
    ///
    /// # Errors
    ///
    /// What kept the monitor from finding out anything, which is not the peer's fault. The check counts as failed, but for no verdict; log and API
    /// tell the reason.
    fn check(&mut self, check: &mut Check<'_>, reply: Option<&Reply>) -> Result<Step, String>;
}

/// One question, and what its answer means: a monitor without options of its own and without state.
pub trait Probe {
    /// What to ask the peer of this name.
    fn ask(&self, spec: &MonitorSpec, peer: &str) -> CallKind;

    /// What the peer's reply means.
    fn judge(&self, spec: &MonitorSpec, reply: &Reply) -> Finding;
}

impl<P: Probe + Default> Monitor for P {
    fn init(_settings: &mut Settings) -> Self {
        P::default()
    }

    fn check(&mut self, check: &mut Check<'_>, reply: Option<&Reply>) -> Result<Step, String> {
        Ok(match reply {
            None => Step::Ask(self.ask(check.spec(), check.peer())),
            Some(reply) => Step::Done(self.judge(check.spec(), reply)),
        })
    }
}
