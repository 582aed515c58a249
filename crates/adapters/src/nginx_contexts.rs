//! The callbacks as nginx calls them.
//!
//! - A configuration is never refused, or nginx would lose its workers: the filter then answers 503.
//! - A root context whose configuration is [`CALLER`] has no filter. It makes calls for those that have one.
//! - The first tick comes before the first request, which nginx reads in the turn after the one in which it accepts the connection. That tick
//!   finds out whether there is shared data.
//! - Each tick asks for the next one. With a period nginx would go on by itself, and after the end of a VM the next VM's timers would
//!   come on top of that. The timer of a VM that has ended ticks once more; the next VM lets that tick pass.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use durpina_host::{Guest, Host, Outcome, Timestamp};
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use xxhash_rust::xxh64::xxh64;

use crate::environment;
use crate::nginx::Nginx;
use crate::queue::Over;
use crate::raw::{self, ProxyWasm};
use crate::zone;

/// The configuration of a root context that only makes calls.
const CALLER: &[u8] = b"caller";
/// The time between ticks, in milliseconds. A worker that has to end waits for the next one.
const TICK: u32 = 50;
/// The time to the first one, which only looks whether there is shared data.
const LOOK: u32 = 1;
/// The time from there to the second one: after those of a VM that has ended.
const FIRST: u32 = 60;
/// What comes sooner than this was asked for by a VM that has ended.
const OTHERS: Duration = Duration::from_millis(55);
/// Of several second ticks only the first one counts.
const SETTLING: Duration = Duration::from_millis(25);
/// No guest waits longer for its tick, so the clock was set back.
const LONGEST: Duration = Duration::from_secs(2);
/// How often it is logged that there is no shared data.
const PAUSE: Duration = Duration::from_secs(10);

/// What all contexts of a VM share.
pub(crate) struct Vm<G: Guest> {
    host: Nginx<ProxyWasm>,
    parts: Rc<G::Parts>,
    /// By root context.
    instances: RefCell<Vec<(u32, Rc<Instance<G>>)>>,
    /// When it was logged that there is no shared data.
    complained: Cell<Timestamp>,
}

/// A filter with one configuration.
struct Instance<G> {
    filter: RefCell<G>,
    /// When it wants its next tick.
    due: Cell<Timestamp>,
}

impl<G: Guest> Instance<G> {
    fn new(filter: G) -> Rc<Self> {
        Rc::new(Self { filter: RefCell::new(filter), due: Cell::new(Timestamp::default()) })
    }

    fn is_due(&self, now: Timestamp) -> bool {
        now >= self.due.get() || self.due.get().since(now) > LONGEST
    }
}

impl<G: Guest> Vm<G> {
    pub(crate) fn new(parts: Rc<G::Parts>) -> Self {
        let (instances, complained) = (RefCell::default(), Cell::default());
        Self { host: Nginx::new(ProxyWasm), parts, instances, complained }
    }

    /// Hands a reply to the filter that waits for it.
    fn deliver(&self, over: &Over) {
        let of = |(root, instance): &(u32, Rc<Instance<G>>)| (*root == over.owner).then(|| Rc::clone(instance));
        let Some(instance) = self.instances.borrow().iter().find_map(of) else { return };
        self.host.owner.set(over.owner);
        if let Ok(mut filter) = instance.filter.try_borrow_mut() {
            let due = self.host.now().after(filter.reply(&self.host, over.id, &over.reply));
            instance.due.set(instance.due.get().min(due));
        };
    }

    /// Says that there is no shared data, now and then.
    fn complain(&self, now: Timestamp) {
        if now < self.complained.get() || now.since(self.complained.get()) >= PAUSE {
            self.complained.set(now);
            log::error!("{}; requests that need a peer get 503", zone::NONE);
        }
    }
}

pub(crate) struct Root<G: Guest> {
    vm: Rc<Vm<G>>,
    id: u32,
    instance: Rc<Instance<G>>,
    is_caller: bool,
    begun: Begun,
}

/// How far a root context has come.
enum Begun {
    /// It waits for its first tick.
    Configured,
    /// That has come, at this time.
    Looked(Timestamp),
    /// The second one has come, at this time: its own, or that of another VM which ended soon after its first tick. The others of
    /// these come now, and ask for nothing more.
    Settling(Timestamp),
    /// A third one has come.
    Ticking,
}

impl<G: Guest> Root<G> {
    pub(crate) fn new(vm: &Rc<Vm<G>>, id: u32) -> Self {
        Self {
            vm: Rc::clone(vm),
            id,
            instance: Instance::new(G::refused()),
            is_caller: false,
            begun: Begun::Configured,
        }
    }
}

/// What the directive holds, or what it says to be in the environment.
fn configuration() -> Vec<u8> {
    let text = raw::plugin_configuration().unwrap_or_default();
    let Some(name) = environment::name(&text) else { return text };
    environment::read(name, &raw::environment().unwrap_or_default()).unwrap_or_else(|| {
        let name = String::from_utf8_lossy(name);
        log::error!(
            "configuration: the environment has neither {name}_1 nor {name}: an env directive of nginx gives it"
        );
        Vec::new()
    })
}

impl<G: Guest> Context for Root<G> {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, _body: usize, _trailers: usize) {
        let host = &self.vm.host;
        if let Some(over) = host.queue.reply(&host.abi, token) {
            self.vm.deliver(&over);
        }
    }
}

impl<G: Guest + 'static> RootContext for Root<G> {
    fn on_configure(&mut self, _size: usize) -> bool {
        let host = &self.vm.host;
        host.add_root();
        let text = configuration();
        self.is_caller = text.trim_ascii() == CALLER;
        if !self.is_caller {
            // A reload loses all that was shared, so nothing has to be found again by a name.
            let instance = format!("nginx-{:08x}", xxh64(&text, 0) as u32);
            // What is wrong with it is in the log.
            if let Ok(filter) = G::configure(&self.vm.parts, host, &instance, &text) {
                self.instance = Instance::new(filter);
            }
        }
        self.vm.instances.borrow_mut().push((self.id, Rc::clone(&self.instance)));
        raw::tick_once(LOOK);
        true
    }

    fn on_tick(&mut self) {
        let host = &self.vm.host;
        let now = host.now();
        match self.begun {
            Begun::Configured => {
                self.begun = Begun::Looked(now);
                if !host.zone.may_touch(&host.abi, || now, true) {
                    self.vm.complain(now);
                }
                // Not before that: the next VM would take a tick that comes so late for its own.
                raw::tick_once(FIRST);
                return;
            }
            Begun::Looked(at) if now >= at && now.since(at) < OTHERS => return,
            Begun::Looked(_) => self.begun = Begun::Settling(now),
            Begun::Settling(at) if now >= at && now.since(at) < SETTLING => return,
            Begun::Settling(_) => self.begun = Begun::Ticking,
            Begun::Ticking => {}
        }
        // What follows might end this VM, which goes on with this tick.
        raw::tick_once(TICK);
        if !host.zone.may_touch(&host.abi, || now, true) {
            self.vm.complain(now);
            return;
        }
        if !self.is_caller && self.instance.is_due(now) {
            host.owner.set(self.id);
            if let Ok(mut filter) = self.instance.filter.try_borrow_mut() {
                self.instance.due.set(now.after(filter.tick(host)));
            }
        }
        if let Some(over) = host.queue.make_next(&host.abi, self.id) {
            self.vm.deliver(&over);
        }
    }

    fn create_http_context(&self, _context: u32) -> Option<Box<dyn HttpContext>> {
        let (vm, instance) = (Rc::clone(&self.vm), Rc::clone(&self.instance));
        Some(Box::new(Stream { vm, instance, exchange: G::Exchange::default(), gathers: false }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

struct Stream<G: Guest> {
    vm: Rc<Vm<G>>,
    instance: Rc<Instance<G>>,
    exchange: G::Exchange,
    /// The body of a request that the guest answers is on its way.
    gathers: bool,
}

impl<G: Guest> Context for Stream<G> {}

impl<G: Guest> HttpContext for Stream<G> {
    fn on_http_request_headers(&mut self, _headers: usize, _end: bool) -> Action {
        let host = &self.vm.host;
        let Ok(mut filter) = self.instance.filter.try_borrow_mut() else { return Action::Pause };
        let (outcome, exchange) = filter.request(host, true);
        self.exchange = exchange;
        match outcome {
            Outcome::Continue => Action::Continue,
            Outcome::Answered => Action::Pause,
            Outcome::Body if host.has_body() => {
                self.gathers = true;
                Action::Continue
            }
            Outcome::Body => {
                filter.request_body(host, &[]);
                Action::Pause
            }
        }
    }

    /// Called once, with the whole body.
    fn on_http_request_body(&mut self, _size: usize, _end: bool) -> Action {
        if !std::mem::take(&mut self.gathers) {
            return Action::Continue;
        }
        let mut body = raw::request_body(G::LONGEST_BODY + 1).unwrap_or_default();
        if body.is_empty() {
            // It went into a file, which cannot be read here.
            body.resize(G::LONGEST_BODY + 1, 0);
        }
        if let Ok(mut filter) = self.instance.filter.try_borrow_mut() {
            filter.request_body(&self.vm.host, &body);
        }
        Action::Pause
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end: bool) -> Action {
        if let Ok(mut filter) = self.instance.filter.try_borrow_mut() {
            filter.response(&self.vm.host, &mut self.exchange);
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        if let Ok(mut filter) = self.instance.filter.try_borrow_mut() {
            filter.done(&self.vm.host, &mut self.exchange);
        }
    }
}
