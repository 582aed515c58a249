//! How a process runs: events come to workers, workers do what is in their queues.

mod calls;
mod endings;
mod life;
mod requests;
mod responses;
mod traps;
pub(crate) mod worker;

use std::time::Duration;

use self::worker::{Callback, Job, Role, Then};
use crate::host::events::Event;
use crate::host::exchange::Exchange;
use crate::plugin::Crash;
use crate::process::Process;
use crate::request::Outcome;
use crate::vm::{Now, Ran, VmId};

/// How long a worker takes for a thing.
const STEP: (Duration, Duration) = (Duration::from_micros(1), Duration::from_micros(10));

/// How long a host call waits when chance stops it, mostly.
const SHORT_WAIT: Duration = Duration::from_micros(20);

/// Once in so many it waits for up to [`Faults::longest_wait`](crate::Faults::longest_wait).
const LONG_WAITS: u32 = 20;

/// What became of a request that is over.
pub(crate) fn outcome(exchange: &Exchange) -> Outcome {
    let headers = exchange.response_headers().iter().filter(|(name, _)| name != ":status");
    Outcome {
        status: exchange.status(),
        headers: headers.map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned())).collect(),
        body: exchange.response_body.clone(),
        attempts: exchange.attempts.clone(),
        flags: exchange.flags,
        details: exchange.details.clone(),
        by_module: exchange.by_module,
        worker: exchange.worker,
        ended: exchange.ended,
    }
}

impl Process {
    pub(crate) fn run_until(&mut self, end: Duration) -> Result<(), Crash> {
        loop {
            if let Some(crash) = &self.crash {
                return Err(crash.clone());
            }
            let event = self.core.borrow_mut().events.next(end);
            match event {
                Some(event) => self.handle(event),
                None => return Ok(()),
            }
        }
    }

    pub(crate) fn crash(&mut self, rule: &str) {
        let at = self.now();
        self.note(format_args!("CRASH {rule}"));
        self.crash.get_or_insert(Crash { at, rule: rule.to_owned() });
    }

    fn handle(&mut self, event: Event) {
        let index = match &event {
            Event::Work(index) => return self.work(*index),
            Event::Resume(index) => return self.resume(*index),
            Event::Arrive(request) => self.place(*request),
            Event::Abort(request) => {
                let placed = self.core.borrow().exchanges.get(request).map(|exchange| exchange.worker);
                if placed == Some(usize::MAX) {
                    // It goes away when it has just come.
                    self.core.borrow_mut().after(STEP.1, event);
                    return;
                }
                placed
            }
            Event::Answer { request, .. } | Event::Ended { request, .. } | Event::Retry(request) => {
                self.core.borrow().exchanges.get(request).map(|exchange| exchange.worker)
            }
            Event::Tick { vm, .. } | Event::Drained { vm, .. } | Event::Queue { vm, .. } => self.worker_of(*vm),
            Event::CallConnected(token) | Event::CallEnded(token) => {
                let vm = self.core.borrow().calls.get(token).map(|call| call.vm);
                vm.and_then(|vm| self.worker_of(vm))
            }
        };
        if let Some(index) = index {
            self.enqueue(index, Job::Event(event));
        }
    }

    fn worker_of(&self, vm: VmId) -> Option<usize> {
        self.core.borrow().vms.get(&vm)?.worker
    }

    pub(crate) fn enqueue(&mut self, index: usize, job: Job) {
        if let Some(worker) = self.workers.get_mut(index).filter(|worker| worker.role != Role::Gone) {
            worker.queue.push_back(job);
        }
        self.schedule(index);
    }

    /// These come next, in their order.
    pub(crate) fn next_jobs(&mut self, index: usize, jobs: Vec<Job>) {
        if let Some(worker) = self.workers.get_mut(index) {
            for job in jobs.into_iter().rev() {
                worker.queue.push_front(job);
            }
        }
        self.schedule(index);
    }

    fn schedule(&mut self, index: usize) {
        let Some(worker) = self.workers.get_mut(index) else { return };
        if worker.is_scheduled || worker.queue.is_empty() || worker.suspended.is_some() {
            return;
        }
        worker.is_scheduled = true;
        let mut core = self.core.borrow_mut();
        let step = core.rng.between(STEP.0, STEP.1);
        let pause = worker.paused_until.saturating_sub(core.now());
        core.after(step.max(pause), Event::Work(index));
    }

    fn work(&mut self, index: usize) {
        let now = self.now();
        let Some(worker) = self.workers.get_mut(index) else { return };
        worker.is_scheduled = false;
        if worker.suspended.is_none() && worker.paused_until <= now {
            match worker.queue.pop_front() {
                Some(Job::Start) => self.start_vm(index),
                Some(Job::Configure) => self.configure(index),
                Some(Job::Event(event)) => self.happen(index, event),
                Some(Job::Callback(callback)) => self.call(index, callback),
                Some(Job::Over(request)) => self.over(request),
                None => {}
            }
        }
        self.schedule(index);
    }

    fn happen(&mut self, index: usize, event: Event) {
        match event {
            Event::Work(_) | Event::Resume(_) => {}
            Event::Arrive(request) => self.arrive(index, request),
            Event::Answer { request, attempt } => self.answered(index, request, attempt),
            Event::Ended { request, attempt } => self.attempt_ended(index, request, attempt),
            Event::Retry(request) => self.attempt(index, request),
            Event::Abort(request) => self.client_left(index, request),
            Event::Tick { vm, root, timer } => self.tick(index, vm, root, timer),
            Event::CallConnected(token) => self.call_connected(index, token),
            Event::CallEnded(token) => self.call_ended(index, token),
            Event::Drained { vm, root } => self.drained(index, vm, root),
            Event::Queue { vm, root, queue } => {
                self.root_callback(index, vm, root, "proxy_on_queue_ready", vec![queue], Then::Nothing)
            }
        }
    }

    pub(crate) fn root_callback(
        &mut self,
        index: usize,
        vm: VmId,
        context: u32,
        name: &'static str,
        args: Vec<u32>,
        then: Then,
    ) {
        let callback = Callback { vm, name, context, args, request: None, call: None, then };
        self.next_jobs(index, vec![Job::Callback(callback)]);
    }

    /// Calls the module.
    fn call(&mut self, index: usize, callback: Callback) {
        let Some(vm) = self.vms.get_mut(&callback.vm) else { return self.unavailable(index, &callback) };
        let now =
            Now { callback: callback.name, context: callback.context, request: callback.request, call: callback.call };
        let mut args = vec![callback.context];
        args.extend(&callback.args);
        {
            let mut core = self.core.borrow_mut();
            core.may_wait = true;
            core.may_fault = true;
            let who = core.who(callback.vm);
            if vm.has(callback.name) {
                core.note(who, format_args!("{}({args:?})", callback.name));
            }
        }
        let ran = vm.call(now, &args);
        self.ran(index, callback, ran.unwrap_or(Ran::Returned(None)));
    }

    fn resume(&mut self, index: usize) {
        let now = self.now();
        let Some(worker) = self.workers.get_mut(index) else { return };
        if worker.paused_until > now {
            let wait = worker.paused_until - now;
            self.core.borrow_mut().after(wait, Event::Resume(index));
            return;
        }
        let Some((callback, suspended)) = worker.suspended.take() else { return };
        if let Some(vm) = self.vms.get_mut(&callback.vm) {
            {
                let mut core = self.core.borrow_mut();
                core.may_wait = true;
                core.may_fault = true;
            }
            let ran = vm.resume(suspended);
            self.ran(index, callback, ran);
        } else {
            self.unavailable(index, &callback);
        }
        self.schedule(index);
    }

    fn ran(&mut self, index: usize, callback: Callback, ran: Ran) {
        match ran {
            Ran::Returned(number) => self.returned(index, &callback, number),
            Ran::Waits(suspended) => {
                let mut core = self.core.borrow_mut();
                let longest = core.faults.longest_wait;
                let most = if core.rng.one_in(LONG_WAITS) { longest.max(SHORT_WAIT) } else { SHORT_WAIT };
                let wait = core.holds.time.take().unwrap_or_else(|| core.rng.between(Duration::ZERO, most));
                core.after(wait, Event::Resume(index));
                let who = core.who(callback.vm);
                core.note(who, format_args!("waits for {wait:?} in {}", callback.name));
                drop(core);
                if let Some(worker) = self.workers.get_mut(index) {
                    worker.suspended = Some((callback, suspended));
                }
            }
            Ran::Trapped(why) => self.trapped(index, &callback, &why),
            Ran::Crashed(rule) => self.crash(&rule),
        }
    }

    fn returned(&mut self, index: usize, callback: &Callback, number: Option<u64>) {
        let (vm, context) = (callback.vm, callback.context);
        let is_true = number != Some(0);
        let pauses = number.is_some_and(|action| action != 0);
        match (callback.then, callback.request) {
            (Then::Started | Then::Configured, _) if !is_true => self.refused_in(index, callback.name),
            (Then::Configured, _) => self.configured(index, vm),
            (Then::Ticked(timer), _) => {
                let mut core = self.core.borrow_mut();
                let goes_on =
                    core.root(vm, context).is_some_and(|root| root.timers.contains(&timer) && !root.period.is_zero());
                if goes_on {
                    core.start_timer(vm, context, Some(timer));
                }
            }
            (Then::RootDone, _) => self.root_done(index, vm, context, is_true),
            (Then::RootDeleted, _) => self.root_deleted(vm, context),
            (Then::RequestHeaders, Some(request)) => self.request_headers_done(index, request, pauses),
            (Then::RequestBody, Some(request)) => self.request_body_done(index, request, pauses),
            (Then::ResponseHeaders, Some(request)) => self.response_headers_done(index, request),
            (Then::ResponseBody, Some(request)) => self.response_body_done(index, request),
            (Then::Deleted, _) => self.context_deleted(vm, context),
            (Then::CallTold, _) => self.call_told(vm, callback.call),
            (Then::Created, Some(request)) => {
                if let Some(exchange) = self.core.borrow_mut().exchanges.get_mut(&request) {
                    let found = exchange.contexts.iter_mut().find(|found| found.context == context);
                    if let Some(found) = found {
                        found.is_created = true;
                    }
                }
            }
            _ => {}
        }
        self.wake_paused(index);
    }
}
