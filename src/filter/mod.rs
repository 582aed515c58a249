//! The filter: what happens to a request, on any host.
//!
//! A [`Filter`] is one configuration in one worker. When a request arrives it finds the route, brings the upstream's
//! view up to date, picks candidates and hands them to the host, which tries them in order. What it
//! must remember of the request is an [`Exchange`]. When the attempts are over, each failed one is counted
//! against the peer that failed it.
//!
//! A configuration is only read in [`Filter::configure`], and written to shared data later, when the first
//! request needs an upstream or at the next tick: hosts try configurations that they then refuse for other
//! reasons, and they do that with the shared data of the running one.
//!
//! [Ticks](Filter::tick) drive the checks of peers, which are a part of their own, `checks`.

mod checks;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use xxhash_rust::xxh64::xxh64;

use crate::admin::{problem, Admin};
use crate::balancer::{KeySource, Pick};
use crate::config::{Capabilities, Config, Problems, UpstreamConfig};
use crate::health::PeerId;
use crate::host::{CallId, Failure, Host, Level, Reply, MOST_CANDIDATES};
use crate::load::{InFlight, Load};
use crate::peer::PeerRecord;
use crate::request::Request;
use crate::route::Routes;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;
use crate::upstream::{Declaration, View};
use checks::Checks;

/// The time to the next tick while there is something left to write to shared data.
const SOON: Duration = Duration::from_millis(10);
/// The time between ticks otherwise.
const TICK: Duration = Duration::from_secs(1);
/// The status that answers are counted as of which the host reports nothing.
const ASSUMED: u16 = 200;
/// How many upstreams are declared in one tick, so that no tick holds up a worker's requests for long.
const DECLARED_AT_ONCE: usize = 100;

/// One configuration in one worker.
pub struct Filter {
    instance: String,
    routes: Routes,
    upstreams: Vec<Upstream>,
    by_name: HashMap<Rc<str>, usize>,
    /// How many of the upstreams are known to be declared in shared data, from the first on.
    declared: usize,
    /// When all views were told to read again, whatever the host's version says.
    doubted: Timestamp,
    checks: Option<Checks>,
    admin: Option<Admin>,
    /// Tells this worker from others, and this configuration from others.
    worker: u64,
    configuration: u64,
    /// The upstreams are listed in shared data.
    is_registered: bool,
    /// Whether this configuration is the one that its instance has.
    standing: Standing,
    /// Whether the configuration counts on the host to report failed attempts.
    reports: bool,
    /// The configuration was refused, and the host goes on with it nevertheless.
    refused: bool,
}

/// Whether a filter's configuration is in force.
///
/// Hosts keep the filter of a configuration while its old connections drain, and when that configuration comes back they may go
/// on with this very filter, without a word. So one that was replaced watches the connections: one that is newer than a
/// connection of its successor's says that it is in force again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It is, and no connection of its is known yet.
    New,
    /// It is.
    InForce,
    /// Another one is.
    Replaced,
}

/// An upstream that this worker has used or could use.
struct Upstream {
    view: View,
    /// This configuration's word on it; none for those that another instance of the filter defines.
    declaration: Option<(UpstreamConfig, u64)>,
}

/// What the filter remembers of a request until it is over.
#[derive(Debug, Default)]
pub struct Exchange {
    /// The upstream's position, and those of its peers that were offered to the host.
    upstream: usize,
    candidates: [Option<(PeerId, Rc<Load>)>; MOST_CANDIDATES],
    offered: usize,
    /// The attempt that is under way; dropped with the exchange, however that ends.
    in_flight: Option<InFlight>,
    /// Whether response times are measured.
    timed: bool,
    /// How many of the candidates' failures are counted already.
    judged: usize,
    /// Whether the host reports failed attempts, so that nothing has to be asked for the others.
    reported: bool,
    /// Whether the attempts before the answered one are counted.
    responded: bool,
    /// The status of the answer, where it might be one of the upstream's `fail_codes`.
    status: Option<u16>,
}

impl Exchange {
    /// The request is at its candidate of that number now, or at none.
    fn go_to(&mut self, candidate: usize, now: Timestamp) {
        let load = self.candidates.get(candidate).and_then(Option::as_ref).map(|(_, load)| Rc::clone(load));
        self.in_flight = load.map(|load| InFlight::begin(load, now));
    }
}

/// What is to become of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The host goes on with it.
    Continue,
    /// The filter answered it.
    Answered,
    /// It is one for the management API, and the filter waits for its whole body: see
    /// [`request_body`](Filter::request_body).
    Body,
}

impl Filter {
    /// Reads a configuration for the instance of the filter that goes by the name `instance`. Errors and warnings
    /// go to the host's log. Nothing shared is written.
    ///
    /// # Errors
    ///
    /// All that is wrong with the configuration. Where the host does not survive a refusal, go on with
    /// [`Filter::refused`].
    pub fn configure(host: &dyn Host, instance: &str, text: &[u8]) -> Result<Self, Problems> {
        let parsed = Config::parse(text, Capabilities { resolves_names: host.resolves_names() });
        let config = parsed.inspect_err(|problems| {
            host.log(Level::Error, &format!("configuration refused, {} errors", problems.count()));
            problems.to_string().lines().for_each(|line| host.log(Level::Error, line));
        })?;
        for warning in &config.warnings {
            host.log(Level::Warn, &warning.to_string());
        }
        let upstream = |(name, config): (String, UpstreamConfig)| {
            let print = xxh64(&postcard::to_allocvec(&config).unwrap_or_default(), 0);
            Upstream { view: View::new(&name, host.random()), declaration: Some((config, print)) }
        };
        let upstreams: Vec<Upstream> = config.upstreams.into_iter().map(upstream).collect();
        let configuration = xxh64(text, 0);
        let checks = Checks::new(host, instance, configuration, config.gateways);
        let by_name =
            upstreams.iter().enumerate().map(|(at, upstream)| (Rc::clone(upstream.view.name()), at)).collect();
        let instance = instance.to_owned();
        let (routes, reports) = (config.routes, config.reports);
        Ok(Self {
            instance,
            routes,
            upstreams,
            by_name,
            declared: 0,
            doubted: Timestamp::default(),
            checks: Some(checks),
            admin: config.admin.map(Admin::new),
            worker: host.random(),
            configuration,
            is_registered: false,
            standing: Standing::New,
            reports,
            refused: false,
        })
    }

    /// The filter that answers every request with 503, for hosts that do not survive a refused configuration.
    #[must_use]
    pub fn refused() -> Self {
        Self {
            instance: String::new(),
            routes: Routes::default(),
            upstreams: Vec::new(),
            by_name: HashMap::new(),
            declared: 0,
            doubted: Timestamp::default(),
            checks: None,
            admin: None,
            worker: 0,
            configuration: 0,
            is_registered: true,
            standing: Standing::InForce,
            reports: false,
            refused: true,
        }
    }

    /// Does what is due besides requests. Returns the time after which it wants to be called again.
    pub fn tick(&mut self, host: &dyn Host) -> Duration {
        self.declare(host, DECLARED_AT_ONCE, None);
        let now = host.now();
        if now.since(self.doubted) >= TICK || now < self.doubted {
            self.doubted = now;
            self.upstreams.iter_mut().for_each(|upstream| upstream.view.doubt());
            self.flush_counts(host);
            self.look_for_successor(host);
        }
        if self.declared < self.upstreams.len() {
            return SOON;
        }
        if let Some(checks) = &mut self.checks {
            checks.tick(host, &self.instance, &mut self.upstreams);
        }
        self.wait(host)
    }

    /// Declares some more of the upstreams, and lists them when that was the last of them.
    ///
    /// `connection` is one that this configuration serves, where that is known.
    fn declare(&mut self, host: &dyn Host, most: usize, connection: Option<u64>) {
        let store = Store::new(host);
        for upstream in self.upstreams.iter_mut().skip(self.declared).take(most) {
            if let Some(declaration) = declaration(upstream.declaration.as_ref(), &self.instance) {
                let name = upstream.view.name();
                if let Err(error) = store.declare(name, &declaration) {
                    host.log(Level::Error, &format!("upstream {name:?} cannot be written to shared data: {error}"));
                }
            }
            self.declared = self.declared.saturating_add(1);
        }
        if self.is_registered || self.declared < self.upstreams.len() {
            return;
        }
        let own = self.upstreams.iter().filter(|upstream| upstream.declaration.is_some());
        let names: Vec<&str> = own.map(|upstream| &**upstream.view.name()).collect();
        match store.register(&self.instance, self.configuration, connection, &names) {
            Ok(()) => self.is_registered = true,
            Err(error) => host.log(Level::Error, &format!("the upstreams cannot be listed in shared data: {error}")),
        }
    }

    /// Finds out whether another configuration is in force by now.
    fn look_for_successor(&mut self, host: &dyn Host) {
        if !self.is_registered || self.refused {
            return;
        }
        let index = Store::new(host).index().unwrap_or_default();
        match index.configuration(&self.instance) {
            Some((configuration, _)) if configuration != self.configuration => self.standing = Standing::Replaced,
            _ if self.standing == Standing::Replaced => self.standing = Standing::InForce,
            _ => {}
        }
    }

    /// Tells others of the first connection, and finds out whether this configuration is back.
    fn watch_connections(&mut self, host: &dyn Host) {
        let Some(id) = host.connection().filter(|_| self.is_registered) else { return };
        let store = Store::new(host);
        if self.standing == Standing::New {
            self.standing = Standing::InForce;
            if let Err(error) = store.note_connection(&self.instance, self.configuration, id) {
                host.log(Level::Error, &format!("a connection cannot be noted in shared data: {error}"));
            }
            return;
        }
        let index = store.index().unwrap_or_default();
        let Some((configuration, Some(theirs))) = index.configuration(&self.instance) else { return };
        if configuration != self.configuration && id > theirs {
            host.log(Level::Info, &format!("an earlier configuration of {:?} is in force again", self.instance));
            (self.declared, self.is_registered, self.standing) = (0, false, Standing::InForce);
            self.declare(host, usize::MAX, Some(id));
        }
    }

    /// A call has ended, or is as far as it had to be. Returns the time after which the filter wants its next tick.
    pub fn reply(&mut self, host: &dyn Host, call: CallId, reply: &Reply) -> Duration {
        if let Some(checks) = &mut self.checks {
            checks.reply(host, &self.instance, &mut self.upstreams, call, reply);
        }
        self.wait(host)
    }

    /// Whether a call under way is an HTTP request: what comes back over HTTP from others is only wrapped in it.
    #[must_use]
    pub fn is_http(&self, call: CallId) -> bool {
        self.checks.as_ref().is_some_and(|checks| checks.is_http(call))
    }

    fn wait(&self, host: &dyn Host) -> Duration {
        let checks = self.checks.as_ref().and_then(|checks| checks.wait(host));
        checks.unwrap_or(TICK).clamp(SOON, TICK)
    }

    /// Sends a request on its way. `has_body` says whether a body follows its headers.
    pub fn request(&mut self, host: &dyn Host, has_body: bool) -> (Outcome, Exchange) {
        if self.standing != Standing::InForce {
            self.watch_connections(host);
        }
        // What a route needs as well is read once.
        let mut request = Request::new(host);
        if self.admin.as_ref().is_some_and(|admin| admin.is_for(request.target())) {
            let _ = host.offer(&[]);
            let refusal = self.admin.as_ref().filter(|_| has_body).and_then(|admin| admin.refuse(host));
            if let Some(refusal) = refusal {
                host.respond(&refusal);
                return (Outcome::Answered, Exchange::default());
            }
            if has_body {
                return (Outcome::Body, Exchange::default());
            }
            self.request_body(host, &[]);
            return (Outcome::Answered, Exchange::default());
        }
        match self.route(host, &mut request) {
            Ok(exchange) => (Outcome::Continue, exchange),
            Err(refusal) => {
                // Should the host go on with the request in spite of the answer, no peer may be left in its place.
                let _ = host.offer(&[]);
                if let Some(fault) = refusal.fault {
                    host.log(Level::Error, &fault);
                }
                host.respond(&problem(503, &refusal.detail));
                (Outcome::Answered, Exchange::default())
            }
        }
    }

    /// Answers a request for the management API. `body` is the whole of its body, or more of it than
    /// [`LONGEST_BODY`](crate::admin::LONGEST_BODY).
    pub fn request_body(&mut self, host: &dyn Host, body: &[u8]) {
        // Whoever asks this worker sees all that it knows: upstreams that no tick has declared yet, and its counts.
        self.declare(host, usize::MAX, None);
        self.flush_counts(host);
        if let Some(admin) = &self.admin {
            host.respond(&admin.answer(host, body));
        }
    }

    fn flush_counts(&mut self, host: &dyn Host) {
        for upstream in &mut self.upstreams {
            upstream.view.flush_counts(host, self.worker);
        }
    }

    fn route(&mut self, host: &dyn Host, request: &mut Request<'_>) -> Result<Exchange, Refusal> {
        if self.refused {
            return Err(Refusal::because("the configuration of this proxy's upstreams was refused, see its log"));
        }
        let Some((_, route)) = self.routes.find(request) else {
            host.offer(&[]).map_err(|error| Refusal::fault("the request cannot be passed on", &error))?;
            return Ok(Exchange::default());
        };
        let name = match route.upstream.as_literal() {
            Some(name) => Cow::Borrowed(name),
            None => {
                let mut name = Vec::new();
                request.render(&route.upstream, &mut name);
                Cow::Owned(String::from_utf8_lossy(&name).into_owned())
            }
        };
        let known = self.by_name.get(name.as_ref()).copied();
        let position = known.or_else(|| Self::find(&mut self.upstreams, &mut self.by_name, host, &name));
        let upstream = position.and_then(|at| Some((at, self.upstreams.get_mut(at)?)));
        let Some((position, upstream)) = upstream else { return Err(Refusal::because("no such upstream")) };

        upstream
            .refresh(host, &self.instance)
            .map_err(|error| Refusal::fault(&format!("upstream {name:?} cannot be read"), &error))?;
        let view = &mut upstream.view;

        let mut key = Vec::new();
        let mut timed = false;
        if let (Some(kind), template) = view.balancer() {
            timed = kind.timed;
            match (kind.key, template) {
                (KeySource::Client, _) => key = client_key(host),
                (KeySource::Template, Some(template)) => request.render(template, &mut key),
                (KeySource::Template, None) | (KeySource::Nothing, _) => {}
            }
        }
        let now = if timed { host.now() } else { Timestamp::default() };
        let picked = view.pick(&Pick { key: &key, now });
        // A response time says nothing of a peer without the attempts before it.
        let reported = self.reports && host.reports_failures() && !timed;
        let mut exchange = Exchange { upstream: position, timed, reported, ..Exchange::default() };
        let mut addresses = [""; MOST_CANDIDATES];
        for position in picked.as_slice() {
            let Some((peer, seat)) = view.peer(*position) else { continue };
            let slots = (addresses.get_mut(exchange.offered), exchange.candidates.get_mut(exchange.offered));
            if let (Some(to), Some(candidate)) = slots {
                *to = seat.address();
                *candidate = Some((peer.id, Rc::clone(&seat.load)));
                exchange.offered += 1;
            }
        }
        let addresses = addresses.get(..exchange.offered).unwrap_or_default();
        if addresses.is_empty() {
            return Err(Refusal::because("no peer of the upstream is usable"));
        }
        host.offer(addresses)
            .map_err(|error| Refusal::fault("the picked peer cannot be handed to the proxy", &error))?;
        exchange.go_to(0, now);
        Ok(exchange)
    }

    /// An upstream that is not of this configuration but of another instance's in the same process.
    fn find(
        upstreams: &mut Vec<Upstream>,
        by_name: &mut HashMap<Rc<str>, usize>,
        host: &dyn Host,
        name: &str,
    ) -> Option<usize> {
        // Only names that exist are remembered: clients may have a say in them.
        let mut view = View::new(name, host.random());
        match view.refresh(host, None) {
            Ok(()) => {}
            Err(StoreError::NoSuchUpstream(_)) => return None,
            Err(error) => {
                host.log(Level::Error, &format!("upstream {name:?} cannot be read: {error}"));
                return None;
            }
        }
        let position = upstreams.len();
        by_name.insert(Rc::clone(view.name()), position);
        upstreams.push(Upstream { view, declaration: None });
        Some(position)
    }

    /// Counts the attempts that failed before the one that is being answered.
    pub fn response(&mut self, host: &dyn Host, exchange: &mut Exchange) {
        if exchange.offered == 0 {
            return;
        }
        if !exchange.reported {
            self.count_retried(host, exchange);
            exchange.responded = true;
        }
        if let Some(request) = exchange.in_flight.as_ref().filter(|_| exchange.timed && exchange.judged == 0) {
            let now = host.now();
            request.load().responded(now.since(request.since), now);
        }
        let watched = self.upstreams.get(exchange.upstream);
        let matters = watched.is_some_and(|upstream| !upstream.view.record().config.fail_codes.is_empty());
        if matters || !exchange.reported {
            exchange.status = host.response_status();
        }
    }

    /// The request is over. Counts the attempts that failed, unless the host reports them.
    ///
    /// Returns whether the exchange is to be kept for [`failed`](Self::failed).
    pub fn done(&mut self, host: &dyn Host, exchange: &mut Exchange) -> bool {
        if exchange.offered == 0 {
            return false;
        }
        if exchange.reported && self.failing_status(exchange).is_none() {
            // All that is no success is reported right after this, and counted as what it is then.
            if let Some((_, load)) = exchange.candidates.first().and_then(Option::as_ref) {
                load.count(|counts| counts.answered(ASSUMED));
            }
            exchange.in_flight = None;
            return true;
        }
        self.judge(host, exchange);
        false
    }

    /// The host reports that a request did not end well: an attempt failed, or its status is no success. Asked for once the request is over.
    pub fn failed(&mut self, host: &dyn Host, exchange: &mut Exchange) {
        if let Some((_, load)) = exchange.candidates.first().and_then(Option::as_ref) {
            load.count(|counts| counts.unanswered(ASSUMED));
        }
        exchange.status = exchange.status.or_else(|| host.final_status());
        self.judge(host, exchange);
    }

    fn judge(&mut self, host: &dyn Host, exchange: &mut Exchange) {
        if !exchange.responded {
            self.count_retried(host, exchange);
        }
        let failure = host.last_attempt();
        if let (None, Some(status)) = (failure, exchange.status) {
            if let Some((_, load)) = exchange.candidates.get(exchange.judged).and_then(Option::as_ref) {
                load.count(|counts| counts.answered(status));
            }
        }
        if let Some(failure) = failure.or_else(|| self.failing_status(exchange)) {
            self.count(host, exchange, failure);
        }
        exchange.in_flight = None;
    }

    /// The answer's status, if the upstream counts it as a failure.
    fn failing_status(&self, exchange: &Exchange) -> Option<Failure> {
        let code = exchange.status?;
        let config = &self.upstreams.get(exchange.upstream)?.view.record().config;
        config.fail_codes.contains(code).then_some(Failure::Status(code))
    }

    fn count_retried(&mut self, host: &dyn Host, exchange: &mut Exchange) {
        let failed = host.failed_attempts().min(exchange.offered);
        while exchange.judged < failed {
            self.count(host, exchange, Failure::Retried);
        }
        if failed > 0 {
            let now = if exchange.timed { host.now() } else { Timestamp::default() };
            exchange.go_to(failed, now);
        }
    }

    /// Counts a failure against the first candidate that was not judged yet. An attempt beyond the last candidate
    /// is nobody's failure.
    fn count(&mut self, host: &dyn Host, exchange: &mut Exchange, failure: Failure) {
        let candidate = exchange.candidates.get(exchange.judged).cloned().flatten();
        exchange.judged = exchange.judged.saturating_add(1);
        let (Some((id, load)), Some(upstream)) = (candidate, self.upstreams.get_mut(exchange.upstream)) else { return };
        if exchange.timed {
            let now = host.now();
            let began = exchange.in_flight.as_ref().map_or(now, |request| request.since);
            load.failed(now.since(began), now);
        }
        let view = &mut upstream.view;
        // A peer that was removed in the meantime has no counter any more.
        let Some(peer): Option<&PeerRecord> = view.find(id) else { return };
        load.count(|counts| counts.failed(failure));
        match Store::new(host).fail(view.record(), peer, view.status(), &failure, false) {
            Ok(is_ejected) => load.count(|counts| counts.ejections += u64::from(is_ejected)),
            Err(error) => {
                let (upstream, peer) = (view.name(), &peer.server.name);
                let what = format!("a failure of {peer} in upstream {upstream:?} cannot be counted: {error}");
                host.log(Level::Error, &what);
            }
        }
    }
}

impl Upstream {
    /// Makes the view what shared data holds now.
    fn refresh(&mut self, host: &dyn Host, instance: &str) -> Result<(), StoreError> {
        let declaration = declaration(self.declaration.as_ref(), instance);
        self.view.refresh(host, declaration.as_ref())
    }
}

fn declaration<'d>(declared: Option<&'d (UpstreamConfig, u64)>, instance: &'d str) -> Option<Declaration<'d>> {
    let (config, fingerprint) = declared?;
    Some(Declaration { instance, config, fingerprint: *fingerprint })
}

/// Why a request gets no peer.
struct Refusal {
    /// For the client.
    detail: String,
    /// For the log, where something is broken.
    fault: Option<String>,
}

impl Refusal {
    fn because(detail: &str) -> Self {
        Self { detail: detail.to_owned(), fault: None }
    }

    fn fault(what: &str, error: &dyn std::fmt::Display) -> Self {
        Self { detail: "the proxy cannot pick a peer, see its log".to_owned(), fault: Some(format!("{what}: {error}")) }
    }
}

/// What `ip-hash` hashes: the octets of the client's address, four or sixteen. An IPv4 address within IPv6 is an IPv4
/// address. An unknown client is the empty key.
fn client_key(host: &dyn Host) -> Vec<u8> {
    match host.client().map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets().to_vec(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
