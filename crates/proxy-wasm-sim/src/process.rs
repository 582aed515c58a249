//! A simulated proxy process, as tests drive it.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::core::Core;
use crate::faults::Faults;
use crate::fuel::Fuel;
use crate::host::events::Event;
use crate::host::exchange::{Exchange, Phase};
use crate::module::Module;
use crate::personality::{Personality, Return, Workers, ENVOY, NGINX};
use crate::plugin::{Crash, Plugin, Refused};
use crate::request::{Outcome, Request, RequestId};
use crate::rng::Rng;
use crate::run::worker::Worker;
use crate::trace::{LogLine, Who};
use crate::vm::{self, Vm, VmData, VmId};
use crate::wiring::{Decision, Destination, Outgoing, Route, Routed, Wiring};
use crate::world::World;

/// Where a process has no wiring yet: requests get 404, calls go nowhere.
struct Unwired;

impl Wiring for Unwired {
    fn route(&self, _: &Routed<'_>) -> Decision {
        Decision::Status(404)
    }

    fn call(&self, _: &Outgoing<'_>) -> Destination {
        Destination::Unknown
    }
}

/// Requests and calls all go to one peer.
struct Everything(String);

impl Wiring for Everything {
    fn route(&self, _: &Routed<'_>) -> Decision {
        Decision::To(Route::to(vec![self.0.clone()]))
    }

    fn call(&self, _: &Outgoing<'_>) -> Destination {
        Destination::Http(self.0.clone())
    }
}

/// A simulated proxy process: workers with a VM each, a world around them, one clock.
///
/// All that chance decides follows from the seed.
///
/// ```
/// use std::time::Duration;
///
/// use proxy_wasm_sim::{Module, Plugin, Process, Request};
///
/// # let module = Module::load(&wat::parse_str(proxy_wasm_sim::EXAMPLE)?)?;
/// let mut nginx = Process::nginx(&module, 3).workers(4).everything_to("10.0.0.1:80");
/// nginx.start(&[Plugin::filter("filter", "one configuration")])?;
///
/// // Requests go on when time does. A worker that pauses answers later, one that is killed never.
/// let requests: Vec<_> = (0..4).map(|worker| nginx.send(Request::get("/").at(worker))).collect();
/// nginx.run_for(Duration::from_micros(20))?;
/// nginx.pause(1, Duration::from_secs(1));
/// nginx.kill(2);
/// nginx.run_for(Duration::from_millis(500))?;
/// assert_eq!(nginx.under_way(), [requests[1]]);
/// assert_eq!(nginx.outcome(requests[2]).unwrap().status, None);
/// nginx.run_for(Duration::from_secs(1))?;
/// assert_eq!(nginx.outcome(requests[1]).unwrap().status, Some(200));
///
/// // A reload: new workers, and metrics survive it.
/// nginx.update(&[Plugin::filter("filter", "another configuration")])?;
/// assert_eq!(nginx.metrics()["requests"], 3);
///
/// // Ticks do not care for steps of the wall clock.
/// nginx.step_clock(-3_600_000_000_000);
/// nginx.run_for(Duration::from_secs(10))?;
/// assert!(nginx.fuel()["proxy_on_tick"].calls > 30);
/// assert!(nginx.traps().is_empty());
/// assert!(nginx.trace().iter().any(|line| line.ends_with("a new configuration")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Process {
    pub(crate) module: Module,
    pub(crate) linker: wasmi::Linker<VmData>,
    pub(crate) core: Rc<RefCell<Core>>,
    pub(crate) vms: BTreeMap<VmId, Vm>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) plugins: Vec<Rc<Plugin>>,
    pub(crate) crash: Option<Crash>,
    pub(crate) drain: Duration,
    pub(crate) return_after_trap: Return,
    pub(crate) next_vm: u32,
    /// How many callbacks trapped.
    pub(crate) traps: Vec<String>,
    worker_count: usize,
    next_request: u64,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("now", &self.now()).field("crash", &self.crash).finish_non_exhaustive()
    }
}

impl Process {
    /// An Envoy with two workers.
    #[must_use]
    pub fn envoy(module: &Module, seed: u64) -> Self {
        Self::of(&ENVOY, module, seed)
    }

    /// An nginx with two workers.
    #[must_use]
    pub fn nginx(module: &Module, seed: u64) -> Self {
        Self::of(&NGINX, module, seed)
    }

    /// A host of any personality, with two workers.
    #[must_use]
    pub fn of(personality: &'static Personality, module: &Module, seed: u64) -> Self {
        // A module that was loaded has only imports that are known.
        let linker = vm::linker(module).unwrap_or_else(|_| wasmi::Linker::new(&module.engine));
        Self {
            module: module.clone(),
            linker,
            core: Rc::new(RefCell::new(Core::new(personality, seed, Rc::new(Unwired)))),
            vms: BTreeMap::new(),
            workers: Vec::new(),
            plugins: Vec::new(),
            crash: None,
            drain: personality.life.drain,
            return_after_trap: personality.life.return_after_trap,
            next_vm: 0,
            traps: Vec::new(),
            worker_count: 2,
            next_request: 0,
        }
    }

    /// With so many workers, from the next start on.
    #[must_use]
    pub fn workers(mut self, count: usize) -> Self {
        self.worker_count = count.max(1);
        self
    }

    /// With a proxy around the module that is configured like this.
    #[must_use]
    pub fn wiring(self, wiring: impl Wiring + 'static) -> Self {
        self.core.borrow_mut().wiring = Rc::new(wiring);
        self
    }

    /// With one peer, to which everything goes.
    #[must_use]
    pub fn everything_to(self, address: &str) -> Self {
        self.core.borrow_mut().world.peer(address);
        self.wiring(Everything(address.to_owned()))
    }

    /// Without a trace: faster.
    #[must_use]
    pub fn untraced(self) -> Self {
        self.core.borrow_mut().trace.is_off = true;
        self
    }

    /// How long an old configuration goes on after a new one, instead of the host's default.
    pub const fn set_drain(&mut self, drain: Duration) {
        self.drain = drain;
    }

    /// How long a worker whose VM trapped waits at least before it gets another one at a request.
    pub const fn set_reload_backoff(&mut self, wait: Duration) {
        if let Return::NextRequest(_) = self.return_after_trap {
            self.return_after_trap = Return::NextRequest(wait);
        }
    }

    /// What goes wrong by chance from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.core.borrow_mut().faults = faults;
    }

    /// The lowest level that is logged: trace 0, debug 1, info 2 (the default), warn 3, error 4, critical 5.
    pub fn set_log_level(&mut self, level: u32) {
        self.core.borrow_mut().log_level = level;
    }

    /// Starts the process: returns when all workers have their configuration.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub fn start(&mut self, plugins: &[Plugin]) -> Result<(), Refused> {
        self.take_plugins(plugins)?;
        self.spawn_workers(self.worker_count);
        self.until_ready()
    }

    /// Gives the process another configuration, as a real one is: an update of a listener, a reload.
    ///
    /// # Errors
    ///
    /// [`Refused`]; a host that survives that goes on with what it had.
    pub fn update(&mut self, plugins: &[Plugin]) -> Result<(), Refused> {
        self.take_plugins(plugins)?;
        self.replace_configuration(self.worker_count);
        self.until_ready()
    }

    /// Sends a request. It goes on when time does.
    pub fn send(&mut self, request: Request) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let mut core = self.core.borrow_mut();
        let now = core.now();
        if let Some(patience) = request.aborts_after {
            core.after(patience, Event::Abort(id));
        }
        core.exchanges.insert(id, Exchange::new(request, usize::MAX, now));
        core.after(Duration::ZERO, Event::Arrive(id));
        id
    }

    /// Sends a request and waits for its end.
    ///
    /// # Errors
    ///
    /// [`Crash`].
    pub fn request(&mut self, request: Request) -> Result<Outcome, Crash> {
        let id = self.send(request);
        for _ in 0..1_000_000 {
            if let Some(outcome) = self.outcome(id) {
                return Ok(outcome);
            }
            self.run_for(Duration::from_micros(100))?;
        }
        Err(Crash { at: self.now(), rule: "a request never ended".to_owned() })
    }

    /// The client of a request goes away now.
    pub fn abort(&mut self, id: RequestId) {
        self.core.borrow_mut().after(Duration::ZERO, Event::Abort(id));
    }

    /// What became of a request; `None` while it is under way.
    #[must_use]
    pub fn outcome(&self, id: RequestId) -> Option<Outcome> {
        self.core.borrow().exchanges.get(&id).filter(|exchange| exchange.phase == Phase::Over).map(crate::run::outcome)
    }

    /// The requests that are under way.
    #[must_use]
    pub fn under_way(&self) -> Vec<RequestId> {
        let core = self.core.borrow();
        core.exchanges.iter().filter(|(_, exchange)| exchange.phase != Phase::Over).map(|(id, _)| *id).collect()
    }

    /// Lets time pass.
    ///
    /// # Errors
    ///
    /// [`Crash`]: also when it happened earlier.
    pub fn run_for(&mut self, time: Duration) -> Result<(), Crash> {
        let end = self.now() + time;
        self.run_until(end)
    }

    /// A worker does nothing for this time, as when its processor is busy elsewhere.
    pub fn pause(&mut self, worker: usize, time: Duration) {
        let until = self.now() + time;
        if let Some(worker) = self.workers.get_mut(worker) {
            worker.paused_until = worker.paused_until.max(until);
        }
        self.note(format_args!("worker {worker} pauses for {time:?}"));
    }

    /// A worker is killed. Of a thread it is the VM that ends, as if the module had panicked; of a process everything does, and
    /// another process takes its place.
    pub fn kill(&mut self, worker: usize) {
        let workers = self.core.borrow().personality.life.workers;
        match workers {
            Workers::Threads => self.end_vm(worker, "it was killed"),
            Workers::Processes => self.kill_process(worker),
        }
    }

    /// The VM of a worker ends, as if the module had panicked.
    pub fn trap(&mut self, worker: usize) {
        self.end_vm(worker, "it trapped");
    }

    /// The wall clock steps by so many nanoseconds; ticks and timeouts do not care.
    pub fn step_clock(&mut self, nanos: i128) {
        self.core.borrow_mut().events.step_clock(nanos);
        self.note(format_args!("the clock steps by {nanos} ns"));
    }

    /// What is around the host. Not to be held while time passes.
    #[must_use]
    pub fn world(&self) -> RefMut<'_, World> {
        RefMut::map(self.core.borrow_mut(), |core| &mut core.world)
    }

    /// The run's source of chance, for what a test decides by chance.
    #[must_use]
    pub fn rng(&self) -> RefMut<'_, Rng> {
        RefMut::map(self.core.borrow_mut(), |core| &mut core.rng)
    }

    /// Virtual time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.core.borrow().now()
    }

    /// How many workers there are and were, the main thread included, which comes last.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// What happened, a line each. Equal for equal seeds.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.core.borrow().trace.lines().to_vec()
    }

    /// A line of the test's own in the trace.
    pub fn note(&mut self, what: fmt::Arguments<'_>) {
        self.core.borrow_mut().note(Who::World, what);
    }

    /// What modules logged.
    #[must_use]
    pub fn logs(&self) -> Vec<LogLine> {
        self.core.borrow().logs.clone()
    }

    /// Metrics by name.
    #[must_use]
    pub fn metrics(&self) -> BTreeMap<String, u64> {
        self.core.borrow().metrics.dump()
    }

    /// How many ids of metrics were given out, which no host takes back.
    #[must_use]
    pub fn metric_ids(&self) -> usize {
        self.core.borrow().metrics.ids()
    }

    /// Shared data as the newest workers see it.
    #[must_use]
    pub fn shared_data(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.core.borrow().zones.last().map(|zone| zone.dump()).unwrap_or_default()
    }

    /// How many bytes of keys and values there are in shared data.
    #[must_use]
    pub fn shared_bytes(&self) -> usize {
        self.core.borrow().zones.last().map_or(0, |zone| zone.bytes())
    }

    /// What each callback cost.
    #[must_use]
    pub fn fuel(&self) -> BTreeMap<&'static str, Fuel> {
        self.core.borrow().fuel.0.clone()
    }

    /// Traps that chance did not make, with their reasons.
    #[must_use]
    pub fn traps(&self) -> Vec<String> {
        self.traps.clone()
    }
}
