//! The filter: what happens to a request, on any host.
//!
//! A [`Filter`] is one configuration in one worker. When a request arrives it finds the route, brings the upstream's
//! view up to date, picks candidates and hands them to the host, which tries them in order. What it
//! must remember of the request is an [`Exchange`]. When the attempts are over, each failed one is counted
//! against the peer that failed it.
//!
//! A configuration is only read in [`Filter::configure`], and written to shared data later, when the first
//! request needs an upstream or at the next tick: hosts try configurations that they then refuse for other
//! reasons, and they do that with the shared data of the running one. Which configuration is in force is the business of
//! `generation`.
//!
//! [Ticks](Filter::tick) drive the checks of peers, which are a room of their own, `checks`.

mod exchange;
mod generation;
mod refusal;
mod retry;

use std::borrow::Cow;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use xxhash_rust::xxh64::xxh64;

use crate::admin::Admin;
use crate::balancer::{KeySource, Pick};
use crate::checks::Checks;
use crate::config::{Config, ConfigErrors};
use crate::host::{CallId, Guest, Host, Outcome, PeerHeaders, Reply, RequestHost, ResponseHost};
use crate::registry::Registry;
use crate::request::maps::Maps;
use crate::request::routes::{PathTooLong, Route, Routes};
use crate::request::Request;
use crate::store::{journal, Store};
use crate::time::Timestamp;
use crate::worker::candidate::with_addresses;
use crate::worker::directory::Directory;
use crate::worker::peer::Proof;
pub(crate) use exchange::Exchange;
use generation::Generation;
use refusal::{Refusal, Refusals, Why};

/// The time to the next tick while there is something left to write to shared data.
const SOON: Duration = Duration::from_millis(10);
/// The time between ticks otherwise.
const TICK: Duration = Duration::from_secs(1);
/// How long what picks need of an upstream is kept for the next request.
const UNUSED: Duration = Duration::from_secs(60);
/// The same where another configuration is in force.
const UNUSED_AND_REPLACED: Duration = Duration::from_secs(5);
/// After how many requests that no route matched it is asked where they went: of the first ones, and of one in so many later.
const ASKED_FIRST: u32 = 8;
/// See [`ASKED_FIRST`].
const ASKED_EVERY: u32 = 64;
/// How many upstreams are declared in one tick, so that no tick holds up a worker's requests for long.
const DECLARED_AT_ONCE: usize = 100;

/// One configuration in one worker.
pub struct Filter {
    routes: Routes,
    /// For each route, the position of the upstream that it names, where it names one of this configuration's.
    targets: Vec<Option<usize>>,
    maps: Rc<Maps>,
    /// Where a host that has them from headers finds candidates.
    peer_headers: PeerHeaders,
    directory: Directory,
    generation: Generation,
    /// When all views were told to read again, whatever the host's version says.
    invalidated: Timestamp,
    checks: Option<Checks>,
    admin: Option<Admin>,
    /// Tells this worker from others, and this configuration from others.
    worker: u64,
    /// Whether the configuration counts on the host to report failed attempts.
    reports: bool,
    /// The configuration was refused, and the host goes on with it nevertheless.
    refused: bool,
    refusals: Refusals,
    /// How many requests no route matched.
    unrouted: u32,
}

impl Guest for Filter {
    type Parts = Registry;
    type Refusal = ConfigErrors;
    type Exchange = Exchange;

    const LONGEST_BODY: usize = crate::admin::LONGEST_BODY;

    fn configure(registry: &Registry, host: &dyn Host, instance: &str, text: &[u8]) -> Result<Self, ConfigErrors> {
        let parsed = Config::parse(text, host.capabilities(), registry);
        let config = parsed.inspect_err(|errors| {
            log::error!("configuration refused, {} errors", errors.count());
            errors.to_string().lines().for_each(|line| log::error!("{line}"));
        })?;
        for warning in &config.warnings {
            log::warn!("{warning}");
        }
        let configuration = xxh64(text, 0);
        let upstreams = config.upstreams.into_iter().map(|(name, spec)| {
            let fingerprint = xxh64(&postcard::to_allocvec(&spec).unwrap_or_default(), 0);
            (name, spec, fingerprint)
        });
        let directory = Directory::new(instance, registry, upstreams, host);
        let target = |route: &Route| directory.position(route.upstream.as_literal()?);
        Ok(Self {
            targets: config.routes.iter().map(target).collect(),
            routes: config.routes,
            maps: config.maps,
            peer_headers: config.peer_headers,
            directory,
            generation: Generation::new(configuration),
            invalidated: Timestamp::default(),
            checks: Some(Checks::new(host, instance, configuration, config.clusters)),
            admin: config.admin.map(|access| Admin::new(access, registry.clone())),
            worker: host.random(),
            reports: config.reports,
            refused: false,
            refusals: Refusals::default(),
            unrouted: 0,
        })
    }

    fn refused() -> Self {
        Self {
            routes: Routes::default(),
            targets: Vec::new(),
            maps: Rc::default(),
            peer_headers: PeerHeaders::default(),
            directory: Directory::empty(),
            generation: Generation::refused(),
            invalidated: Timestamp::default(),
            checks: None,
            admin: None,
            worker: 0,
            reports: false,
            refused: true,
            refusals: Refusals::default(),
            unrouted: 0,
        }
    }

    fn tick(&mut self, host: &dyn Host) -> Duration {
        self.generation.declare(host, &mut self.directory, DECLARED_AT_ONCE);
        let now = host.now();
        if now.since(self.invalidated) >= TICK || now < self.invalidated {
            self.invalidated = now;
            self.directory.invalidate();
            self.directory.flush_counts(host, self.worker);
            self.directory.let_go(now, if self.generation.is_replaced() { UNUSED_AND_REPLACED } else { UNUSED });
            self.generation.look_for_successor(host, &self.directory);
            self.refusals.tell(now);
            journal::tell_silence(&Store::new(host));
            if let Some(admin) = &mut self.admin {
                admin.tell_refused(now);
            }
        }
        if !self.directory.is_declared() {
            return SOON;
        }
        if let Some(checks) = &mut self.checks {
            checks.tick(host, &mut self.directory);
        }
        self.wait(host)
    }

    fn reply(&mut self, host: &dyn Host, call: CallId, reply: &Reply) -> Duration {
        if let Some(checks) = &mut self.checks {
            checks.reply(host, &mut self.directory, call, reply);
        }
        self.wait(host)
    }

    fn request(&mut self, host: &dyn RequestHost, has_body: bool) -> (Outcome, Exchange) {
        if !self.generation.is_settled() {
            self.generation.watch_connections(host, &mut self.directory);
        }
        // What a route needs as well is read once.
        let maps = Rc::clone(&self.maps);
        let request = Request::new(host).with_maps(&maps);
        if let Some(admin) = self.admin.as_mut().filter(|admin| admin.is_for(request.target())) {
            let _ = host.offer_in(&self.peer_headers, &[]);
            if let Some(refusal) = has_body.then(|| admin.refuse(host)).flatten() {
                host.respond(&refusal);
                return (Outcome::Answered, Exchange::default());
            }
            if has_body {
                return (Outcome::Body, Exchange::default());
            }
            self.request_body(host, &[]);
            return (Outcome::Answered, Exchange::default());
        }
        match self.route(host, &request) {
            Ok(exchange) => (Outcome::Continue, exchange),
            Err(refusal) => {
                // Should the host go on with the request in spite of the answer, no peer may be left in its place.
                let _ = host.offer_in(&self.peer_headers, &[]);
                host.respond(&refusal.response());
                let route = refusal.route.and_then(|route| self.routes.get(route));
                self.refusals.say(host, &request, &refusal, route);
                (Outcome::Answered, Exchange::default())
            }
        }
    }

    fn request_body(&mut self, host: &dyn RequestHost, body: &[u8]) {
        // Whoever asks this worker sees all that it knows: upstreams that no tick has declared yet, and its counts.
        self.generation.declare(host, &mut self.directory, usize::MAX);
        self.directory.flush_counts(host, self.worker);
        if let Some(admin) = &mut self.admin {
            host.respond(&admin.answer(host, body));
        }
    }

    fn response(&mut self, host: &dyn ResponseHost, exchange: &mut Exchange) {
        exchange.response(host, &self.directory);
    }

    fn streaming(&mut self, host: &dyn ResponseHost, exchange: &mut Exchange) {
        exchange.streaming(host, &self.directory);
    }

    fn done(&mut self, host: &dyn ResponseHost, exchange: &mut Exchange) -> bool {
        if exchange.may_stray() {
            // Whatever goes wrong is reported right after this. Where it is not, asking after each would cost a twentieth of a request.
            self.unrouted = self.unrouted.wrapping_add(1);
            let is_sample = self.unrouted <= ASKED_FIRST || self.unrouted % ASKED_EVERY == 0;
            return self.is_reported(host) || is_sample && self.look_for_stray(host);
        }
        exchange.done(host, &self.directory)
    }

    fn failed(&mut self, host: &dyn ResponseHost, exchange: &mut Exchange) {
        if exchange.may_stray() {
            self.look_for_stray(host);
            return;
        }
        exchange.failed(host, &self.directory);
    }
}

impl Filter {
    fn wait(&self, host: &dyn Host) -> Duration {
        let checks = self.checks.as_ref().and_then(|checks| checks.wait(host));
        checks.unwrap_or(TICK).clamp(SOON, TICK)
    }

    /// Whether the host reports failed attempts, and all that is no success.
    fn is_reported(&self, host: &dyn Host) -> bool {
        self.reports && host.reports_failures()
    }

    /// Tells of a request that no route matched if the host sent it to where only requests with a peer may go. It is not kept.
    fn look_for_stray(&mut self, host: &dyn ResponseHost) -> bool {
        if let Some(stray) = host.stray() {
            self.refusals.say_stray(host.now(), &stray);
        }
        false
    }

    /// Offers the host peers for a request, if a route matches.
    fn route(&mut self, host: &dyn RequestHost, request: &Request<'_>) -> Result<Exchange, Refusal> {
        if self.refused {
            return Err(Why::Refused.into());
        }
        let found = self
            .routes
            .find(request)
            .map_err(|PathTooLong(route)| Refusal { route: Some(route), ..Refusal::from(Why::PathTooLong) })?;
        let Some((number, route)) = found else {
            host.offer_in(&self.peer_headers, &[]).map_err(Why::Host)?;
            return Ok(Exchange::unrouted());
        };
        let literal = route.upstream.as_literal();
        let refusal = |name: &str, why| Refusal { why, route: Some(number), upstream: Some(name.to_owned()) };
        let position = match self.targets.get(number).copied().flatten() {
            Some(position) => {
                let refreshed = self.directory.refresh(position, host);
                refreshed.map_err(|error| refusal(literal.unwrap_or_default(), Why::Upstream(error)))?;
                position
            }
            None => {
                let name = match literal {
                    Some(name) => Cow::Borrowed(name),
                    None => {
                        let mut name = Vec::new();
                        request.render(&route.upstream, &mut name);
                        Cow::Owned(String::from_utf8_lossy(&name).into_owned())
                    }
                };
                self.directory.find(&name, host).map_err(|error| refusal(&name, Why::Upstream(error)))?
            }
        };
        let Some(entry) = self.directory.get_mut(position) else { return Err(Why::Nobody.into()) };
        let mut view = &mut entry.view;

        let mut key = Vec::new();
        let mut timed = false;
        if let (Some(kind), template) = view.balancer() {
            timed = kind.timed;
            match (kind.key, template) {
                (KeySource::Client, _) => key = client_key(host),
                (KeySource::Template | KeySource::Perhaps, Some(template)) => request.render(template, &mut key),
                (KeySource::Template | KeySource::Perhaps, None) | (KeySource::Nothing, _) => {}
            }
        }
        let now = if timed { host.now() } else { Timestamp::default() };
        let mut candidates = view.pick(host, &Pick { key: &key, now, request: Some(request) });
        let visited = host.visited();
        if !visited.attempts.is_empty() {
            candidates = retry::go_on(host, request, &self.directory, position, &visited, candidates)?;
            let Some(entry) = self.directory.get_mut(position) else { return Err(Why::Nobody.into()) };
            view = &mut entry.view;
        }
        if candidates.iter().flatten().next().is_none() {
            return Err(refusal(view.name(), Why::Nobody));
        }
        if let Some(first) = candidates.first().and_then(Option::as_ref).filter(|first| first.proof == Proof::Trial) {
            view.begin_trial(host, first.peer);
        }
        with_addresses(&candidates, |addresses| host.offer_in(&self.peer_headers, addresses))
            .map_err(|error| refusal(view.name(), Why::Host(error)))?;
        // A response time says nothing of a peer without the attempts before it.
        let reported = self.is_reported(host) && !timed;
        Ok(Exchange::new(position, candidates, timed, reported, now).after(visited.attempts.len()))
    }
}

/// What `ip-hash` hashes: the octets of the client's address, four or sixteen. An IPv4 address within IPv6 is an IPv4
/// address. An unknown client is the empty key.
fn client_key(host: &dyn RequestHost) -> Vec<u8> {
    match host.client().map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets().to_vec(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
