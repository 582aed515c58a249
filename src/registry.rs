//! The balancers and monitors that a filter knows, by the names that configurations use.

use std::rc::Rc;

use crate::balancer::{BalancerKind, Ketama, KeySource, LeastConn, LeastTime, Random, Rendezvous, RoundRobin};
use crate::monitor::{agent, grpc, http, tcp, Grammar, MonitorKind};

/// The balancers and monitors that there are.
///
/// One that is made by [`Registry::default`] holds those that durpina brings. Clones are cheap and share what they hold.
#[derive(Clone)]
pub struct Registry {
    balancers: Rc<[Rc<BalancerKind>]>,
    monitors: Rc<[Rc<MonitorKind>]>,
}

impl Registry {
    /// The balancer of that name.
    #[must_use]
    pub(crate) fn balancer(&self, name: &str) -> Option<&Rc<BalancerKind>> {
        self.balancers.iter().find(|kind| kind.name == name)
    }

    /// The monitor of that name.
    #[must_use]
    pub(crate) fn monitor(&self, name: &str) -> Option<&Rc<MonitorKind>> {
        self.monitors.iter().find(|kind| kind.name == name)
    }

    /// The balancers.
    pub fn balancers(&self) -> impl Iterator<Item = &BalancerKind> {
        self.balancers.iter().map(|kind| &**kind)
    }

    /// The monitors.
    pub fn monitors(&self) -> impl Iterator<Item = &MonitorKind> {
        self.monitors.iter().map(|kind| &**kind)
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self { balancers: balancers().map(Rc::new).into(), monitors: monitors().map(Rc::new).into() }
    }
}

/// The balancers that durpina brings.
fn balancers() -> [BalancerKind; 8] {
    use KeySource::{Client, Nothing, Template};
    let kind = |name, key, new| BalancerKind { name, key, timed: false, table: None, new };
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
    let http = Grammar { http: true, ..Grammar::default() };
    let send = Grammar { send: true, ..Grammar::default() };
    [
        MonitorKind { name: "http", grammar: Grammar { request: true, ..http }, monitor: Box::new(http::Http) },
        MonitorKind {
            name: "grpc",
            grammar: Grammar { grpc: true, ..Grammar::default() },
            monitor: Box::new(grpc::Grpc),
        },
        MonitorKind { name: "tcp", grammar: Grammar::default(), monitor: Box::new(tcp::Tcp) },
        MonitorKind { name: "haproxy-agent-check", grammar: send, monitor: Box::new(agent::OverTcp) },
        MonitorKind {
            name: "http-haproxy-agent-check",
            grammar: Grammar { send: true, ..http },
            monitor: Box::new(agent::OverHttp),
        },
    ]
}
