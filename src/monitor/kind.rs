//! What is known of a monitor by its name.

use std::rc::Rc;
use std::time::Duration;

use super::check::Check;
use super::own::{Made, Own};
use super::{Monitor, Probe, Step};
use crate::host::Reply;
use crate::model::spec::{DEFAULT_INTERVAL, SHORTEST_INTERVAL};
use crate::settings::Settings;
use crate::time::LONGEST;

/// Which of durpina's own options a monitor has besides those that all have.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grammar {
    /// `url`, `ok_codes`, `header_*`, `keepalive`.
    pub http: bool,
    /// `method`, `body`, `expect_body`.
    pub request: bool,
    /// `service`, `keepalive`.
    pub grpc: bool,
    /// `send`.
    pub send: bool,
}

/// How a monitor is made for an upstream.
pub(crate) enum Make {
    /// One that durpina brings: it keeps nothing.
    BuiltIn(&'static dyn Probe),
    /// One of somebody's own: it is made once in a worker, and kept.
    Own(Box<dyn Own>),
}

/// A monitor that configurations can name.
///
/// ```
/// use durpina::host::Reply;
/// use durpina::monitor::{Finding, MonitorKind, Step};
/// use durpina::Registry;
///
/// // Good is what answers at all, whatever it says.
/// let kind = MonitorKind::with_check("answers", |check, reply| match reply {
///     None => Ok(Step::Ask(check.request("/"))),
///     Some(Reply::Http(..)) => Ok(Step::Done(Finding::Good)),
///     Some(_) => Ok(Step::Done(Finding::Bad("no answer".to_owned()))),
/// });
/// let mut registry = Registry::default();
/// registry.add_monitor(kind.interval(std::time::Duration::from_secs(2))).unwrap();
/// ```
pub struct MonitorKind {
    pub(crate) name: &'static str,
    pub(crate) grammar: Grammar,
    pub(crate) interval: Duration,
    pub(crate) make: Make,
}

impl MonitorKind {
    /// A monitor of this type, under a name: 1 to 64 lower-case letters, digits, `-`, `_` and `.`.
    #[must_use]
    pub fn new<M: Monitor + 'static>(name: &'static str) -> Self {
        Self::made(name, |settings| Box::new(M::init(settings)))
    }

    /// A monitor that is a closure and has no options of its own; see [`options`](Self::options).
    #[must_use]
    pub fn with_check(
        name: &'static str,
        check: impl Fn(&mut Check<'_>, Option<&Reply>) -> Result<Step, String> + 'static,
    ) -> Self {
        let check: CheckFn = Rc::new(check);
        Self::made(name, move |_| Box::new(Closure { check: Rc::clone(&check) }))
    }

    /// A monitor of this name whose options are not looked at, and which finds out nothing: for tools that read the configuration of a
    /// filter and do not have its monitors.
    #[must_use]
    pub fn unchecked(name: &'static str) -> Self {
        Self::made(name, |settings| {
            settings.accept_all();
            Box::new(Closure::init(settings))
        })
    }

    /// The same monitor with more options of its own, which are not looked at: [`Check::option`] has them. A type asks for those that it
    /// looks at in [`Monitor::init`].
    #[must_use]
    pub fn options(self, keys: &'static [&'static str]) -> Self {
        let Make::Own(own) = self.make else { return self };
        let declare = move |settings: &mut Settings| -> Box<dyn Monitor> {
            keys.iter().for_each(|key| drop(settings.get(key)));
            own.make(settings)
        };
        Self { make: Make::Own(Box::new(Made(declare))), ..self }
    }

    /// The same monitor with this interval, where a configuration says nothing else. 5 s otherwise; never less than 100 ms.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval: interval.clamp(SHORTEST_INTERVAL, LONGEST), ..self }
    }

    /// The same monitor with more of durpina's own options, which [`Check::spec`] holds.
    #[must_use]
    pub fn grammar(self, grammar: Grammar) -> Self {
        Self { grammar, ..self }
    }

    /// The name in configurations.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn built_in(name: &'static str, grammar: Grammar, probe: &'static dyn Probe) -> Self {
        Self { name, grammar, interval: DEFAULT_INTERVAL, make: Make::BuiltIn(probe) }
    }

    fn made(name: &'static str, make: impl Fn(&mut Settings) -> Box<dyn Monitor> + 'static) -> Self {
        let make = Make::Own(Box::new(Made(make)));
        Self { name, grammar: Grammar::default(), interval: DEFAULT_INTERVAL, make }
    }

    pub(crate) fn own(&self) -> Option<&dyn Own> {
        match &self.make {
            Make::BuiltIn(_) => None,
            Make::Own(own) => Some(&**own),
        }
    }
}

type CheckFn = Rc<dyn Fn(&mut Check<'_>, Option<&Reply>) -> Result<Step, String>>;

struct Closure {
    check: CheckFn,
}

impl Monitor for Closure {
    fn init(_settings: &mut Settings) -> Self {
        Self { check: Rc::new(|_, _| Err("no check".to_owned())) }
    }

    fn check(&mut self, check: &mut Check<'_>, reply: Option<&Reply>) -> Result<Step, String> {
        (self.check)(check, reply)
    }
}
