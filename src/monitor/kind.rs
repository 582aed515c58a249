//! What is known of a monitor by its name.

use std::rc::Rc;
use std::time::Duration;

use super::check::Check;
use super::{Monitor, Step};
use crate::host::Reply;
use crate::model::spec::MonitorSpec;
use crate::settings::Settings;

/// Which of durpina's own options a monitor has besides those that all have.
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

/// How a monitor is made for an upstream.
pub(crate) enum Make {
    /// One that durpina brings: it keeps nothing, and is made for each step.
    BuiltIn(fn() -> Box<dyn Monitor>),
    /// One of somebody's own: it is made once in a worker, and kept.
    Own(Box<dyn Fn(&mut Settings) -> Box<dyn Monitor>>),
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
        Self::made(name, Make::Own(Box::new(|settings| Box::new(M::init(settings)))))
    }

    /// A monitor that is a closure and has no options of its own; see [`options`](Self::options).
    #[must_use]
    pub fn with_check(
        name: &'static str,
        check: impl Fn(&mut Check<'_>, Option<&Reply>) -> Result<Step, String> + 'static,
    ) -> Self {
        let check: CheckFn = Rc::new(check);
        Self::made(name, Make::Own(Box::new(move |_| Box::new(Closure(Rc::clone(&check))))))
    }

    /// The same monitor with these options of its own, which are not looked at: [`Check::option`] has them.
    #[must_use]
    pub fn options(self, keys: &'static [&'static str]) -> Self {
        let Make::Own(make) = self.make else { return self };
        let make = Make::Own(Box::new(move |settings: &mut Settings| {
            keys.iter().for_each(|key| drop(settings.get(key)));
            make(settings)
        }));
        Self { make, ..self }
    }

    /// The same monitor with this interval, where a configuration says nothing else. 5 s otherwise.
    #[must_use]
    pub fn interval(self, interval: Duration) -> Self {
        Self { interval, ..self }
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

    pub(crate) fn built_in(name: &'static str, grammar: Grammar, make: fn() -> Box<dyn Monitor>) -> Self {
        Self { grammar, ..Self::made(name, Make::BuiltIn(make)) }
    }

    fn made(name: &'static str, make: Make) -> Self {
        Self { name, grammar: Grammar::default(), interval: MonitorSpec::default().interval, make }
    }

    /// Makes one.
    pub(crate) fn make(&self, settings: &mut Settings) -> Box<dyn Monitor> {
        match &self.make {
            Make::BuiltIn(make) => make(),
            Make::Own(make) => make(settings),
        }
    }

    pub(crate) fn is_built_in(&self) -> bool {
        matches!(self.make, Make::BuiltIn(_))
    }
}

type CheckFn = Rc<dyn Fn(&mut Check<'_>, Option<&Reply>) -> Result<Step, String>>;

struct Closure(CheckFn);

impl Monitor for Closure {
    fn init(_settings: &mut Settings) -> Self {
        Self(Rc::new(|_, _| Err("no check".to_owned())))
    }

    fn check(&mut self, check: &mut Check<'_>, reply: Option<&Reply>) -> Result<Step, String> {
        (self.0)(check, reply)
    }
}
