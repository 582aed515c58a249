//! The proxy-wasm callbacks: they find the filter and call it, nothing more.
//!
//! A VM holds one [`Root`] per configuration of the filter and one [`Stream`] per request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

use crate::admin::LONGEST_BODY;
use crate::filter::{Exchange, Filter, Outcome};
use crate::host::envoy::{self, Envoy};
use crate::host::{raw, CallId, Failure, Host, Level, Reply};
use crate::time::millis;

/// Registers the filter with the host. Called once per VM, by the module's entry point.
pub(crate) fn start() {
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| -> Box<dyn RootContext> {
        if host().property(&["plugin_root_id"]).as_deref() == Some(FAILURE_LOG.as_bytes()) {
            return Box::new(FailureLog);
        }
        Box::new(Root { filter: Rc::new(RefCell::new(Filter::refused())), period: Duration::ZERO })
    });
}

/// The `root_id` of the access log in the reference configuration.
const FAILURE_LOG: &str = "durpina_log";

thread_local! {
    /// The host around this VM; what it found out is found out once.
    static HOST: Rc<Envoy> = Rc::new(Envoy::new());
    /// The request that ended last, until it is known whether the access log is called for it.
    static LAST: Cell<Option<(Rc<RefCell<Filter>>, Exchange)>> = const { Cell::new(None) };
}

fn host() -> Rc<Envoy> {
    HOST.with(Rc::clone)
}

struct Root {
    filter: Rc<RefCell<Filter>>,
    period: Duration,
}

impl Root {
    fn tick_after(&mut self, period: Duration) {
        if self.period != period {
            let millis = u32::try_from(millis(period)).unwrap_or(u32::MAX);
            if raw::set_tick_period(millis).is_ok() {
                self.period = period;
            }
        }
    }
}

impl Root {
    fn reply(&mut self, call: CallId, reply: &Reply) {
        let next = self.filter.try_borrow_mut().map(|mut filter| filter.reply(&*host(), call, reply));
        if let Ok(period) = next {
            self.tick_after(period);
        }
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, _body: usize, _trailers: usize) {
        let call = CallId::Reply(token);
        let is_http = self.filter.try_borrow().is_ok_and(|filter| filter.is_http(call));
        self.reply(call, &envoy::reply(headers, is_http));
    }

    fn on_grpc_stream_initial_metadata(&mut self, token: u32, headers: u32) {
        self.reply(CallId::Stream(token), &envoy::connected(headers));
    }

    fn on_grpc_stream_close(&mut self, token: u32, _status: u32) {
        self.reply(CallId::Stream(token), &Reply::Failed(Failure::Connect));
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        let host = host();
        let Ok(text) = raw::plugin_configuration() else {
            host.log(Level::Error, "the host does not hand out the configuration");
            return !host.survives_refusal();
        };
        let name = |step: &str| String::from_utf8_lossy(&host.property(&[step]).unwrap_or_default()).into_owned();
        let (plugin, root) = (name("plugin_name"), name("plugin_root_id"));
        let instance = if plugin.is_empty() || plugin == root { root } else { format!("{plugin}/{root}") };
        match Filter::configure(&*host, &instance, &text) {
            Ok(filter) => {
                self.filter = Rc::new(RefCell::new(filter));
                // Hosts also configure VMs that never tick, to try a configuration. Only a tick writes.
                self.tick_after(Duration::from_millis(10));
                true
            }
            Err(_) => !host.survives_refusal(),
        }
    }

    fn on_tick(&mut self) {
        let period = self.filter.try_borrow_mut().map(|mut filter| filter.tick(&*host()));
        if let Ok(period) = period {
            self.tick_after(period);
        }
    }

    fn create_http_context(&self, _context: u32) -> Option<Box<dyn HttpContext>> {
        let (host, filter) = (host(), Rc::clone(&self.filter));
        Some(Box::new(Stream { host, filter, exchange: Exchange::default(), gathers: false }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream {
    host: Rc<Envoy>,
    filter: Rc<RefCell<Filter>>,
    exchange: Exchange,
    /// The body of a request for the management API is on its way.
    gathers: bool,
}

impl Stream {
    /// Answers a request for the management API, now that its body is there.
    fn answer(&mut self) {
        self.gathers = false;
        let body = raw::request_body(LONGEST_BODY + 1).unwrap_or_default();
        if let Ok(mut filter) = self.filter.try_borrow_mut() {
            filter.request_body(&*self.host, &body);
        }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _headers: usize, end: bool) -> Action {
        // No host calls back while it is being called.
        let Ok(mut filter) = self.filter.try_borrow_mut() else { return Action::Pause };
        let (outcome, exchange) = filter.request(&*self.host, !end);
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
        if end || size > LONGEST_BODY {
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
            filter.response(&*self.host, &mut self.exchange);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        let kept = self.filter.try_borrow_mut().is_ok_and(|mut filter| filter.done(&*self.host, &mut self.exchange));
        let exchange = std::mem::take(&mut self.exchange);
        // Envoy calls its access logs right after the filters of the same request, or not at all.
        LAST.set(kept.then(|| (Rc::clone(&self.filter), exchange)));
    }
}

/// Envoy's access log, which it calls only for requests with a failed attempt.
struct FailureLog;

impl Context for FailureLog {}

impl RootContext for FailureLog {
    fn on_configure(&mut self, _size: usize) -> bool {
        host().set_reports_failures();
        true
    }

    fn on_log(&mut self) {
        if let Some((filter, mut exchange)) = LAST.take() {
            if let Ok(mut filter) = filter.try_borrow_mut() {
                filter.failed(&*host(), &mut exchange);
            }
        }
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}
