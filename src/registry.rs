//! The balancers and monitors that a filter knows, by the names that configurations use.

use std::fmt;
use std::rc::Rc;

use crate::balancer::{BalancerKind, Ketama, KeySource, LeastConn, LeastTime, Random, Rendezvous, RoundRobin};
use crate::monitor::{agent, grpc, http, tcp, Grammar, MonitorKind};

/// The balancers and monitors that there are.
///
/// One that is made by [`Registry::default`] holds those that durpina brings. Clones are cheap and share what they hold.
///
/// ```
/// use durpina::monitor::{Finding, MonitorKind, Step};
/// use durpina::Registry;
///
/// let always = |name| MonitorKind::with_check(name, |_, _| Ok(Step::Done(Finding::Good)));
/// let mut registry = Registry::default();
/// assert!(registry.add_monitor(always("always")).is_ok());
/// let error = registry.add_monitor(always("http")).unwrap_err();
/// assert_eq!(error.to_string(), "there is a monitor \"http\" already");
/// assert!(registry.add_monitor(always("not a name")).is_err());
/// ```
#[derive(Clone)]
pub struct Registry(Rc<Kinds>);

#[derive(Clone, Default)]
struct Kinds {
    balancers: Vec<Rc<BalancerKind>>,
    monitors: Vec<Rc<MonitorKind>>,
    /// What could not be added.
    errors: Vec<RegistryError>,
}

impl Kinds {
    fn add_balancer(&mut self, kind: BalancerKind) -> Result<(), RegistryError> {
        check("balancer", kind.name, self.balancers.iter().any(|known| known.name == kind.name))?;
        self.balancers.push(Rc::new(kind));
        Ok(())
    }

    fn add_monitor(&mut self, kind: MonitorKind) -> Result<(), RegistryError> {
        check("monitor", kind.name, self.monitors.iter().any(|known| known.name == kind.name))?;
        self.monitors.push(Rc::new(kind));
        Ok(())
    }
}

/// Why a balancer or a monitor cannot be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryError {
    what: &'static str,
    name: &'static str,
    is_taken: bool,
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, name, is_taken } = self;
        if *is_taken {
            return write!(f, "there is a {what} {name:?} already");
        }
        write!(f, "expected a {what}'s name of 1 to 64 lower-case letters, digits, -, _ and ., found {name:?}")
    }
}

impl std::error::Error for RegistryError {}

impl Registry {
    /// Adds a balancer.
    ///
    /// # Errors
    ///
    /// That there is one of that name, or that the name cannot be one.
    pub fn add_balancer(&mut self, kind: BalancerKind) -> Result<(), RegistryError> {
        Rc::make_mut(&mut self.0).add_balancer(kind)
    }

    /// Adds a monitor.
    ///
    /// # Errors
    ///
    /// That there is one of that name, or that the name cannot be one.
    pub fn add_monitor(&mut self, kind: MonitorKind) -> Result<(), RegistryError> {
        Rc::make_mut(&mut self.0).add_monitor(kind)
    }

    /// The same registry with one more balancer. For the start of a filter, where nobody can take an error: a balancer that
    /// [cannot be added](Self::add_balancer) has every configuration refused, and the proxy's log tells why.
    #[must_use]
    pub fn with_balancer(mut self, kind: BalancerKind) -> Self {
        let added = self.add_balancer(kind);
        self.note(added)
    }

    /// The same registry with one more monitor. For the start of a filter, where nobody can take an error: a monitor that
    /// [cannot be added](Self::add_monitor) has every configuration refused, and the proxy's log tells why.
    #[must_use]
    pub fn with_monitor(mut self, kind: MonitorKind) -> Self {
        let added = self.add_monitor(kind);
        self.note(added)
    }

    fn note(mut self, added: Result<(), RegistryError>) -> Self {
        if let Err(error) = added {
            Rc::make_mut(&mut self.0).errors.push(error);
        }
        self
    }

    /// What could not be added.
    pub(crate) fn errors(&self) -> &[RegistryError] {
        &self.0.errors
    }

    /// The balancer of that name.
    #[must_use]
    pub(crate) fn balancer(&self, name: &str) -> Option<&Rc<BalancerKind>> {
        self.0.balancers.iter().find(|kind| kind.name == name)
    }

    /// The monitor of that name.
    #[must_use]
    pub(crate) fn monitor(&self, name: &str) -> Option<&Rc<MonitorKind>> {
        self.0.monitors.iter().find(|kind| kind.name == name)
    }

    /// The balancers.
    pub fn balancers(&self) -> impl Iterator<Item = &BalancerKind> {
        self.0.balancers.iter().map(|kind| &**kind)
    }

    /// The monitors.
    pub fn monitors(&self) -> impl Iterator<Item = &MonitorKind> {
        self.0.monitors.iter().map(|kind| &**kind)
    }
}

/// Whether a name can be that of one more.
fn check(what: &'static str, name: &'static str, is_taken: bool) -> Result<(), RegistryError> {
    let is_good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if is_taken || !(1..=64).contains(&name.len()) || !name.bytes().all(is_good) {
        return Err(RegistryError { what, name, is_taken });
    }
    Ok(())
}

impl Default for Registry {
    fn default() -> Self {
        let mut kinds = Kinds::default();
        // None of these is refused, which a test sees to.
        balancers().into_iter().for_each(|kind| drop(kinds.add_balancer(kind)));
        monitors().into_iter().for_each(|kind| drop(kinds.add_monitor(kind)));
        Self(Rc::new(kinds))
    }
}

/// The balancers that durpina brings.
fn balancers() -> [BalancerKind; 8] {
    use KeySource::{Client, Nothing, Template};
    let kind = BalancerKind::built_in;
    let hash = |kind| BalancerKind { table: Some(&Rendezvous::TABLE), ..kind };
    [
        kind("round-robin", Nothing, |_| Box::new(RoundRobin::weighted())),
        kind("unweighted-round-robin", Nothing, |_| Box::new(RoundRobin::unweighted())),
        hash(kind("ip-hash", Client, |options| Box::new(Rendezvous::new(options)))),
        hash(kind("consistent-hash", Template, |options| Box::new(Rendezvous::new(options)))),
        BalancerKind {
            table: Some(&Ketama::RING),
            ..kind("ketama", Template, |options| Box::new(Ketama::new(options)))
        },
        kind("random", Nothing, |options| Box::new(Random::new(options))),
        kind("least-conn", Nothing, |_| Box::new(LeastConn::default())),
        BalancerKind { timed: true, ..kind("least-time", Nothing, |options| Box::new(LeastTime::new(options))) },
    ]
}

/// The monitors that durpina brings.
fn monitors() -> [MonitorKind; 5] {
    let none = Grammar::default();
    let http = Grammar { http: true, ..none };
    let kind = MonitorKind::built_in;
    [
        kind("http", Grammar { request: true, ..http }, &http::Http),
        kind("grpc", Grammar { grpc: true, ..none }, &grpc::Grpc),
        kind("tcp", none, &tcp::Tcp),
        kind("haproxy-agent-check", Grammar { send: true, ..none }, &agent::OverTcp),
        kind("http-haproxy-agent-check", Grammar { send: true, ..http }, &agent::OverHttp),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn all_that_durpina_brings_is_there() {
        let registry = Registry::default();
        assert_eq!((registry.balancers().count(), registry.monitors().count()), (8, 5));
        assert!(registry.balancer("least-time").is_some_and(|kind| kind.timed && kind.own().is_none()));
        assert!(registry.monitor("grpc").is_some_and(|kind| kind.own().is_none()));
    }

    #[test]
    fn a_clone_does_not_get_what_is_added_later() {
        let before = Registry::default();
        let mut after = before.clone();
        after.add_balancer(BalancerKind::new("own", |_, _| Box::new(RoundRobin::weighted()))).unwrap();
        assert!(before.balancer("own").is_none() && after.balancer("own").is_some());
        assert!(after.add_balancer(BalancerKind::new("own", |_, _| Box::new(RoundRobin::weighted()))).is_err());
    }
}
