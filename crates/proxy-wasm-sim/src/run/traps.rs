//! VMs and workers end before their time.

use super::worker::{Callback, Job, Role, Then, Worker};
use crate::host::exchange::Phase;
use crate::personality::{Refusal, Return, Situation};
use crate::process::Process;
use crate::status::Stop;

impl Process {
    /// A callback trapped, so its VM is of no use any more.
    pub(crate) fn trapped(&mut self, index: usize, callback: &Callback, why: &str) {
        let why = format!("{} trapped: {why}", callback.name);
        if !why.contains("a fault of the simulation") {
            self.traps.push(why.clone());
        }
        self.end_vm(index, &why);
        let (refusal, tick) = {
            let core = self.core.borrow();
            (core.personality.life.refusal, core.personality.rule(Situation::TrapInTick))
        };
        let is_start = matches!(callback.then, Then::Started | Then::Configured);
        match (refusal, tick) {
            (Refusal::EndsWorkers(rule), _) if is_start => self.crash(&format!("{rule}: {why}")),
            (_, Err(Stop::Crash(rule))) if callback.name == "proxy_on_tick" => self.crash(&rule),
            _ => self.unavailable(index, callback),
        }
    }

    /// The VM of a worker is gone.
    pub(crate) fn end_vm(&mut self, index: usize, why: &str) {
        let now = self.now();
        let Some(worker) = self.workers.get_mut(index) else { return };
        let Some(vm) = worker.vm.take() else { return };
        let roots = std::mem::take(&mut worker.roots);
        worker.lost_at = Some(now);
        worker.is_ready = true;
        worker.paused.clear();
        let interrupted = worker.suspended.take().map(|(callback, _)| callback);
        self.vms.remove(&vm);
        let mut core = self.core.borrow_mut();
        let who = core.who(vm);
        core.note(who, format_args!("its VM ended: {why}"));
        let facts = core.vms.remove(&vm);
        core.calls.retain(|_, call| call.vm != vm);
        let life = core.personality.life.clone();
        // A request that waits for a module which is gone gets no further by itself.
        let waiting: Vec<_> = core
            .exchanges
            .iter()
            .filter(|(_, exchange)| exchange.vm == Some(vm) && exchange.is_paused && exchange.phase == Phase::Request)
            .map(|(id, _)| *id)
            .collect();
        drop(core);
        if let (Some(worker), true) = (self.workers.get_mut(index), life.timers_outlive_trap) {
            let timers =
                |root| facts.as_ref().and_then(|facts| facts.roots.get(root)).map_or(0, |root| root.timers.len());
            let all = roots.iter().enumerate();
            worker.old_timers = all.flat_map(|(plugin, root)| std::iter::repeat_n(plugin, timers(root))).collect();
        }
        if self.return_after_trap == Return::AtOnce {
            self.next_jobs(index, vec![Job::Start]);
        }
        for request in waiting {
            self.fail(index, request);
        }
        if let Some(callback) = interrupted {
            self.unavailable(index, &callback);
        }
    }

    /// A process ends at once, and another one takes its place.
    pub(crate) fn kill_process(&mut self, index: usize) {
        let Some(worker) = self.workers.get_mut(index).filter(|worker| worker.role == Role::Serves) else { return };
        let (zone, vm) = (worker.zone, worker.vm.take());
        *worker = Worker::new(Role::Gone, zone);
        self.note(format_args!("worker {index} was killed"));
        let now = self.now();
        let mut core = self.core.borrow_mut();
        for exchange in core.exchanges.values_mut() {
            if exchange.worker == index && exchange.phase != Phase::Over {
                exchange.phase = Phase::Over;
                exchange.ended = now;
                exchange.details = "the worker was killed".to_owned();
            }
        }
        if let Some(vm) = vm {
            self.vms.remove(&vm);
            core.vms.remove(&vm);
            core.calls.retain(|_, call| call.vm != vm);
        }
        drop(core);
        let next = self.workers.len();
        self.workers.push(Worker::new(Role::Serves, zone));
        self.enqueue(next, Job::Start);
    }

    /// A callback was due in a VM that is gone.
    pub(crate) fn unavailable(&mut self, index: usize, callback: &Callback) {
        let Some(request) = callback.request else { return };
        match callback.then {
            Then::RequestHeaders | Then::RequestBody | Then::ResponseHeaders | Then::ResponseBody => {
                self.fail(index, request);
            }
            _ => {}
        }
    }
}
