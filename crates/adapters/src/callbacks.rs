//! The proxy-wasm callbacks: they find the filter and call it, nothing more.
//!
//! A VM holds one [`Root`] per configuration of the filter and one [`Stream`] per request. What all of them share is the [`Vm`]. These are
//! Envoy's; nginx has [its own](crate::nginx_contexts).

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use durpina_host::{millis, CallId, Capabilities, EndCall, Failure, Guest, Host, Outcome, Reply};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};

use crate::abi::is_nginx;
use crate::entries;
use crate::envoy::Envoy;
use crate::lines;
use crate::nginx_contexts;
use crate::raw::{self, ProxyWasm};
use crate::requests::{ById, Requests};

/// The `root_id` of the access log in the reference configuration.
const FAILURE_LOG: &str = "durpina_log";

/// The first tick comes soon: only a tick writes, because hosts also configure VMs that never tick, to try a configuration.
const FIRST_TICK: Duration = Duration::from_millis(10);

thread_local! {
    /// The [`Start`], whatever guests it has.
    static START: RefCell<Option<Rc<dyn Any>>> = const { RefCell::new(None) };
}

/// Registers a filter with the host. Called once per VM, by the module's entry point.
pub fn start<G: Guest + 'static>(parts: G::Parts) {
    lines::start();
    START.set(Some(Rc::new(Start::<G> { parts: Rc::new(parts), vm: OnceCell::new() })));
    proxy_wasm::set_root_context(new_root::<G>);
}

fn new_root<G: Guest + 'static>(context: u32) -> Box<dyn RootContext> {
    let start = START.with_borrow(Clone::clone).and_then(|start| start.downcast::<Start<G>>().ok());
    match start.as_ref().map(|start| start.vm()) {
        Some(AnyVm::Nginx(vm)) => Box::new(nginx_contexts::Root::new(vm, context)),
        Some(AnyVm::Envoy(vm)) if vm.host.text(b"plugin_root_id") == FAILURE_LOG => {
            Box::new(FailureLog { vm: Rc::clone(vm) })
        }
        Some(AnyVm::Envoy(vm)) => {
            let (vm, filter) = (Rc::clone(vm), Rc::new(RefCell::new(G::refused())));
            let root = Root { vm, id: context, filter, period: Duration::ZERO };
            root.register();
            Box::new(root)
        }
        None => Box::new(Nothing),
    }
}

/// What a VM is started with. Which host is around it is known when the first root context is made.
struct Start<G: Guest> {
    parts: Rc<G::Parts>,
    vm: OnceCell<AnyVm<G>>,
}

/// The one place where the two hosts differ.
enum AnyVm<G: Guest> {
    Envoy(Rc<Vm<G>>),
    Nginx(Rc<nginx_contexts::Vm<G>>),
}

impl<G: Guest + 'static> Start<G> {
    fn vm(&self) -> &AnyVm<G> {
        self.vm.get_or_init(|| {
            let parts = Rc::clone(&self.parts);
            if is_nginx(&ProxyWasm) {
                if entries::are_used() {
                    log::error!("this is the module for Envoy, which ends nginx's workers: load durpina-nginx.wasm");
                }
                return AnyVm::Nginx(Rc::new(nginx_contexts::Vm::new(parts)));
            }
            // Envoy drops what it does not log. Which level that is cannot be asked in a module that is for nginx too.
            lines::set_level(log::LevelFilter::Debug);
            let (roots, streams) = (RefCell::default(), RefCell::default());
            let vm = Rc::new(Vm { host: Envoy::new(ProxyWasm), parts, last: Cell::new(None), roots, streams });
            if entries::are_used() {
                entries::set(Rc::new(Requests(Rc::clone(&vm))));
            }
            AnyVm::Envoy(vm)
        })
    }
}

/// A VM that was never started, which no host makes.
struct Nothing;
impl Context for Nothing {}
impl RootContext for Nothing {}

pub(crate) type Shared<G> = Rc<RefCell<G>>;

/// What all contexts of a VM share.
pub(crate) struct Vm<G: Guest> {
    /// The host around this VM; what it found out is found out once.
    host: Envoy<ProxyWasm>,
    parts: Rc<G::Parts>,
    /// The request that ended last, until it is known whether the access log is called for it.
    last: Cell<Option<(Shared<G>, G::Exchange)>>,
    /// The filters by their root contexts, and the requests by theirs, where the module's [entries] are used.
    pub(crate) roots: RefCell<Vec<(u32, Shared<G>)>>,
    pub(crate) streams: RefCell<ById<Stream<G>>>,
}

struct Root<G: Guest> {
    vm: Rc<Vm<G>>,
    id: u32,
    filter: Shared<G>,
    period: Duration,
}

impl<G: Guest> Drop for Root<G> {
    fn drop(&mut self) {
        if let Ok(mut roots) = self.vm.roots.try_borrow_mut() {
            roots.retain(|(id, _)| *id != self.id);
        }
    }
}

impl<G: Guest> Root<G> {
    /// From here on its requests are for its filter.
    fn register(&self) {
        if let Ok(mut roots) = self.vm.roots.try_borrow_mut() {
            roots.retain(|(id, _)| *id != self.id);
            roots.push((self.id, Rc::clone(&self.filter)));
        }
    }

    fn tick_after(&mut self, period: Duration) {
        if self.period != period {
            let millis = u32::try_from(millis(period)).unwrap_or(u32::MAX);
            if raw::set_tick_period(millis).is_ok() {
                self.period = period;
            }
        }
    }

    fn reply(&mut self, call: CallId, reply: &Reply) {
        let next = self.filter.try_borrow_mut().map(|mut filter| filter.reply(&self.vm.host, call, reply));
        if let Ok(period) = next {
            self.tick_after(period);
        }
    }
}

impl<G: Guest> Context for Root<G> {
    fn on_http_call_response(&mut self, token: u32, headers: usize, _body: usize, trailers: usize) {
        let reply = self.vm.host.reply(token, headers, trailers);
        self.reply(CallId::Reply(token), &reply);
    }

    fn on_grpc_stream_initial_metadata(&mut self, token: u32, headers: u32) {
        if let Some(reply) = self.vm.host.connected(headers) {
            self.reply(CallId::Stream(token), &reply);
        }
    }

    fn on_grpc_stream_trailing_metadata(&mut self, token: u32, headers: u32) {
        if let Some(reply) = self.vm.host.ended(headers) {
            self.reply(CallId::Stream(token), &reply);
        }
    }

    /// The server speaks on a connection that was only opened to see whether it can be: it gets no further word.
    fn on_grpc_stream_message(&mut self, token: u32, _size: usize) {
        self.vm.host.end_call(CallId::Stream(token), EndCall::Cancel);
        self.reply(CallId::Stream(token), &Reply::Failed(Failure::Connect));
    }

    fn on_grpc_stream_close(&mut self, token: u32, _status: u32) {
        let reply = self.vm.host.closed();
        self.reply(CallId::Stream(token), &reply);
    }
}

impl<G: Guest + 'static> RootContext for Root<G> {
    fn on_configure(&mut self, _size: usize) -> bool {
        let Capabilities { survives_refusal, .. } = self.vm.host.capabilities();
        let Ok(text) = raw::plugin_configuration() else {
            log::error!("the host does not hand out the configuration");
            return !survives_refusal;
        };
        let (plugin, root) = (self.vm.host.text(b"plugin_name"), self.vm.host.text(b"plugin_root_id"));
        let instance = if plugin.is_empty() || plugin == root { root } else { format!("{plugin}/{root}") };
        match G::configure(&self.vm.parts, &self.vm.host, &instance, &text) {
            Ok(filter) => {
                self.filter = Rc::new(RefCell::new(filter));
                self.register();
                self.tick_after(FIRST_TICK);
                true
            }
            Err(_) => !survives_refusal,
        }
    }

    fn on_tick(&mut self) {
        let period = self.filter.try_borrow_mut().map(|mut filter| filter.tick(&self.vm.host));
        if let Ok(period) = period {
            self.tick_after(period);
        }
    }

    fn create_http_context(&self, _context: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(&self.vm, &self.filter)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// A request.
pub(crate) struct Stream<G: Guest> {
    vm: Rc<Vm<G>>,
    filter: Shared<G>,
    exchange: G::Exchange,
    /// The body of a request that the guest answers is on its way.
    gathers: bool,
    /// How many parts of the answer's body have come, the last one apart.
    parts: u8,
    /// The answer has begun, and nobody has looked since whether it goes on.
    pub(crate) goes_on: bool,
}

impl<G: Guest> Stream<G> {
    pub(crate) fn new(vm: &Rc<Vm<G>>, filter: &Shared<G>) -> Self {
        let (vm, filter) = (Rc::clone(vm), Rc::clone(filter));
        Self { vm, filter, exchange: G::Exchange::default(), gathers: false, parts: 0, goes_on: false }
    }

    /// The answer goes on.
    pub(crate) fn streaming(&mut self) {
        if let Ok(mut filter) = self.filter.try_borrow_mut() {
            filter.streaming(&self.vm.host, &mut self.exchange);
        }
    }

    /// Answers a request, now that its body is there.
    fn answer(&mut self) {
        self.gathers = false;
        let body = raw::request_body(G::LONGEST_BODY + 1).unwrap_or_default();
        if let Ok(mut filter) = self.filter.try_borrow_mut() {
            filter.request_body(&self.vm.host, &body);
        }
    }
}

impl<G: Guest> Context for Stream<G> {}

impl<G: Guest> HttpContext for Stream<G> {
    fn on_http_request_headers(&mut self, _headers: usize, end: bool) -> Action {
        // No host calls back while it is being called.
        let Ok(mut filter) = self.filter.try_borrow_mut() else { return Action::Pause };
        let (outcome, exchange) = filter.request(&self.vm.host, !end);
        self.exchange = exchange;
        self.gathers = outcome == Outcome::Body;
        match outcome {
            Outcome::Continue => Action::Continue,
            Outcome::Answered | Outcome::Body => Action::Pause,
        }
    }

    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        if !self.gathers {
            return Action::Continue;
        }
        if end || size > G::LONGEST_BODY {
            self.answer();
        }
        Action::Pause
    }

    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        if !self.gathers {
            return Action::Continue;
        }
        self.answer();
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end: bool) -> Action {
        if let Ok(mut filter) = self.filter.try_borrow_mut() {
            filter.response(&self.vm.host, &mut self.exchange);
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        if size > 0 && !end {
            self.parts = self.parts.saturating_add(1);
            // The first part is of every answer; to look at each would cost all of them.
            if self.parts == 2 {
                self.streaming();
            }
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        let done = |mut filter: std::cell::RefMut<'_, G>| filter.done(&self.vm.host, &mut self.exchange);
        let kept = self.filter.try_borrow_mut().is_ok_and(done);
        // Envoy calls its access logs right after the filters of the same request, or not at all.
        self.vm.last.set(kept.then(|| (Rc::clone(&self.filter), std::mem::take(&mut self.exchange))));
    }
}

/// Envoy's access log, which it calls only for requests with a failed attempt.
struct FailureLog<G: Guest> {
    vm: Rc<Vm<G>>,
}

impl<G: Guest> Context for FailureLog<G> {}

impl<G: Guest> RootContext for FailureLog<G> {
    fn on_configure(&mut self, _size: usize) -> bool {
        self.vm.host.set_reports_failures();
        true
    }

    fn on_log(&mut self) {
        if let Some((filter, mut exchange)) = self.vm.last.take() {
            if let Ok(mut filter) = filter.try_borrow_mut() {
                filter.failed(&self.vm.host, &mut exchange);
            }
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
