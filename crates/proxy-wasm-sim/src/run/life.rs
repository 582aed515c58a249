//! VMs come and go: starts, configurations, drains.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::worker::{Callback, Job, Role, Then, Worker};
use crate::core::{Root, VmFacts};
use crate::host::events::Event;
use crate::host::exchange::Phase;
use crate::host::shared_data::SharedData;
use crate::personality::{Refusal, Update};
use crate::plugin::{Plugin, Refused};
use crate::process::Process;
use crate::trace::Who;
use crate::vm::{Now, Ran, Vm, VmId};

/// A configuration that no worker took in this time never will be.
const READY_WITHIN: Duration = Duration::from_secs(60);

impl Process {
    /// Tries the configuration, where the host does so, and keeps it.
    pub(crate) fn take_plugins(&mut self, plugins: &[Plugin]) -> Result<(), Refused> {
        if let Some(crash) = &self.crash {
            return Err(Refused::Crashed(crash.clone()));
        }
        let tries = self.core.borrow().personality.life.canary;
        for plugin in plugins.iter().filter(|_| tries) {
            self.try_plugin(plugin)?;
        }
        self.plugins = plugins.iter().cloned().map(Rc::new).collect();
        Ok(())
    }

    /// Configures a VM of its own, which is then thrown away.
    fn try_plugin(&mut self, plugin: &Plugin) -> Result<(), Refused> {
        let logs = self.core.borrow().logs.len();
        let zone = self.core.borrow().zones.len().saturating_sub(1);
        let (id, mut vm) = self.new_vm(None, zone).map_err(Refused::ByModule)?;
        let root = self.new_root(id, &Rc::new(plugin.clone()));
        {
            let mut core = self.core.borrow_mut();
            core.may_wait = false;
            core.may_fault = false;
            core.note(Who::Canary, format_args!("tries {}", plugin.name));
        }
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let calls: [(&'static str, Vec<u32>); 5] = [
            ("_initialize", vec![]),
            ("_start", vec![]),
            ("proxy_on_context_create", vec![root, 0]),
            ("proxy_on_vm_start", vec![root, size(&plugin.vm_configuration)]),
            ("proxy_on_configure", vec![root, size(&plugin.configuration)]),
        ];
        let mut outcome = Ok(());
        for (callback, args) in calls {
            let now = Now { callback, context: root, request: None, call: None };
            let is_verdict = matches!(callback, "proxy_on_vm_start" | "proxy_on_configure");
            match vm.call(now, &args) {
                Some(Ran::Returned(Some(0))) if is_verdict => {
                    let core = self.core.borrow();
                    let errors = core.logs.iter().skip(logs).filter(|line| line.level >= 4);
                    let why: Vec<&str> = errors.map(|line| line.text.as_str()).collect();
                    outcome = Err(Refused::ByModule(format!("{callback} returned false. {}", why.join(" "))));
                }
                Some(Ran::Trapped(why)) => outcome = Err(Refused::ByModule(why)),
                Some(Ran::Crashed(rule)) => {
                    self.crash(&rule);
                    outcome = self.crash.clone().map_or(Ok(()), |crash| Err(Refused::Crashed(crash)));
                }
                _ => {}
            }
            if outcome.is_err() {
                break;
            }
        }
        self.core.borrow_mut().vms.remove(&id);
        outcome
    }

    pub(crate) fn spawn_workers(&mut self, count: usize) {
        let (zone, has_main) = {
            let core = self.core.borrow();
            (core.zones.len().saturating_sub(1), core.personality.life.main_vm)
        };
        let first = self.workers.len();
        for _ in 0..count {
            self.workers.push(Worker::new(Role::Serves, zone));
        }
        if has_main {
            self.workers.push(Worker::new(Role::Main, zone));
        }
        for index in first..self.workers.len() {
            self.enqueue(index, Job::Start);
        }
    }

    /// Puts the configuration into force, in the way of the host.
    pub(crate) fn replace_configuration(&mut self, count: usize) {
        let update = self.core.borrow().personality.life.update;
        self.note(format_args!("a new configuration"));
        match update {
            Update::SameVms => {
                for index in 0..self.workers.len() {
                    let Some(worker) = self.workers.get_mut(index) else { continue };
                    worker.is_ready = worker.vm.is_none();
                    if worker.vm.is_some() {
                        self.enqueue(index, Job::Configure);
                    }
                }
            }
            Update::NewWorkers => {
                self.core.borrow_mut().zones.push(SharedData::default());
                for worker in self.workers.iter_mut().filter(|worker| worker.role == Role::Serves) {
                    worker.role = Role::Drains;
                }
                self.spawn_workers(count);
                for index in 0..self.workers.len() {
                    self.leave_if_idle(index, false);
                }
            }
        }
    }

    pub(crate) fn until_ready(&mut self) -> Result<(), Refused> {
        let end = self.now() + READY_WITHIN;
        while self.workers.iter().any(|worker| !worker.is_ready && matches!(worker.role, Role::Serves | Role::Main)) {
            if self.now() >= end {
                return Err(Refused::ByModule("a worker was never ready".to_owned()));
            }
            self.run_for(Duration::from_micros(100)).map_err(Refused::Crashed)?;
        }
        Ok(())
    }

    fn new_vm(&mut self, worker: Option<usize>, zone: usize) -> Result<(VmId, Vm), String> {
        self.next_vm += 1;
        let id = VmId(self.next_vm);
        let facts = VmFacts {
            worker,
            zone,
            roots: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_context: 1,
            lost_slots: 0,
            reading: None,
        };
        self.core.borrow_mut().vms.insert(id, facts);
        let vm = Vm::new(&self.module, &self.linker, &self.core, id)?;
        Ok((id, vm))
    }

    fn new_root(&mut self, vm: VmId, plugin: &Rc<Plugin>) -> u32 {
        let mut core = self.core.borrow_mut();
        let Some(facts) = core.vms.get_mut(&vm) else { return 0 };
        let root = facts.next_context;
        facts.next_context += 1;
        let new = Root { plugin: Rc::clone(plugin), period: Duration::ZERO, timers: BTreeSet::new(), is_ending: false };
        facts.roots.insert(root, new);
        root
    }

    /// A worker gets a VM.
    pub(crate) fn start_vm(&mut self, index: usize) {
        let Some(zone) = self.workers.get(index).map(|worker| worker.zone) else { return };
        match self.new_vm(Some(index), zone) {
            Ok((id, vm)) => {
                self.vms.insert(id, vm);
                if let Some(worker) = self.workers.get_mut(index) {
                    worker.vm = Some(id);
                    worker.lost_at = None;
                }
                let start = |name| {
                    Job::Callback(Callback {
                        vm: id,
                        name,
                        context: 0,
                        args: Vec::new(),
                        request: None,
                        call: None,
                        then: Then::Nothing,
                    })
                };
                self.next_jobs(index, vec![start("_initialize"), start("_start"), Job::Configure]);
            }
            Err(why) => self.crash(&format!("a VM could not be made: {why}")),
        }
    }

    /// A worker's VM gets a root context for each plugin; those that it had end when they have drained.
    pub(crate) fn configure(&mut self, index: usize) {
        let Some(worker) = self.workers.get_mut(index) else { return };
        let Some(vm) = worker.vm else { return };
        let old = std::mem::take(&mut worker.roots);
        worker.is_ready = self.plugins.is_empty();
        for root in old {
            let drain = self.drain;
            self.core.borrow_mut().after(drain, Event::Drained { vm, root });
        }
        let mut jobs = Vec::new();
        let mut roots = Vec::new();
        for plugin in self.plugins.clone() {
            let root = self.new_root(vm, &plugin);
            roots.push(root);
            let size = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            for (name, arg, then) in [
                ("proxy_on_context_create", 0, Then::Created),
                ("proxy_on_vm_start", size(&plugin.vm_configuration), Then::Started),
                ("proxy_on_configure", size(&plugin.configuration), Then::Configured),
            ] {
                let callback = Callback { vm, name, context: root, args: vec![arg], request: None, call: None, then };
                jobs.push(Job::Callback(callback));
            }
        }
        if let Some(worker) = self.workers.get_mut(index) {
            worker.roots = roots;
        }
        self.next_jobs(index, jobs);
    }

    /// A root context has its configuration.
    pub(crate) fn configured(&mut self, index: usize, vm: VmId) {
        let Some(worker) = self.workers.get_mut(index) else { return };
        let is_last = worker.queue.iter().all(
            |job| !matches!(job, Job::Callback(callback) if callback.vm == vm && callback.then == Then::Configured),
        );
        if is_last {
            worker.is_ready = true;
            // Timers of a VM that trapped go on, for the same plugins.
            let old = std::mem::take(&mut worker.old_timers);
            let roots = worker.roots.clone();
            let mut core = self.core.borrow_mut();
            for root in old.into_iter().filter_map(|plugin| roots.get(plugin)) {
                if core.root(vm, *root).is_some_and(|root| !root.period.is_zero()) {
                    core.start_timer(vm, *root, None);
                }
            }
        }
    }

    /// A worker's own VM refused what a trial took, or there was no trial.
    pub(crate) fn refused_in(&mut self, index: usize, callback: &str) {
        let refusal = self.core.borrow().personality.life.refusal;
        match refusal {
            Refusal::EndsWorkers(rule) => self.crash(rule),
            Refusal::KeepsOld => {
                self.end_vm(index, &format!("{callback} returned false"));
                if let Some(worker) = self.workers.get_mut(index) {
                    worker.is_ready = true;
                }
            }
        }
    }

    /// A timer of a root context.
    pub(crate) fn tick(&mut self, index: usize, vm: VmId, root: u32, timer: u32) {
        let is_due = self.core.borrow_mut().root(vm, root).is_some_and(|root| root.timers.contains(&timer));
        if self.leave_if_idle(index, true) || !is_due {
            return;
        }
        self.root_callback(index, vm, root, "proxy_on_tick", Vec::new(), Then::Ticked(timer));
    }

    /// A worker that drains ends when nothing is left to do, on some hosts not before its next tick.
    pub(crate) fn leave_if_idle(&mut self, index: usize, is_tick: bool) -> bool {
        let Some(worker) = self.workers.get(index).filter(|worker| worker.role == Role::Drains) else { return false };
        let (vm, busy) = {
            let core = self.core.borrow();
            let busy =
                core.exchanges.values().any(|it| it.worker == index && it.phase != Phase::Over && it.vm.is_some());
            let roots = worker.vm.and_then(|vm| core.vms.get(&vm)).map(|facts| &facts.roots);
            let ticks = roots.is_some_and(|roots| roots.values().any(|root| !root.timers.is_empty()));
            let waits = core.personality.ticks.delay_exit && ticks && !is_tick;
            (worker.vm, busy || waits)
        };
        if busy {
            return false;
        }
        self.note(format_args!("worker {index} ends"));
        if let Some(worker) = self.workers.get_mut(index) {
            worker.role = Role::Gone;
            worker.queue.clear();
            worker.suspended = None;
            worker.vm = None;
        }
        if let Some(vm) = vm {
            self.vms.remove(&vm);
            let mut core = self.core.borrow_mut();
            core.vms.remove(&vm);
            core.calls.retain(|_, call| call.vm != vm);
        }
        true
    }

    /// An old root context is to end.
    pub(crate) fn drained(&mut self, index: usize, vm: VmId, root: u32) {
        let is_ending = {
            let mut core = self.core.borrow_mut();
            let Some(found) = core.root(vm, root) else { return };
            std::mem::replace(&mut found.is_ending, true)
        };
        if is_ending {
            // The module asked for more time, and now it is done.
            self.root_callback(index, vm, root, "proxy_on_delete", Vec::new(), Then::RootDeleted);
        } else {
            self.root_callback(index, vm, root, "proxy_on_done", Vec::new(), Then::RootDone);
        }
    }

    pub(crate) fn root_done(&mut self, index: usize, vm: VmId, root: u32, may_go: bool) {
        if may_go {
            self.root_callback(index, vm, root, "proxy_on_delete", Vec::new(), Then::RootDeleted);
        }
    }

    pub(crate) fn root_deleted(&mut self, vm: VmId, root: u32) {
        let mut core = self.core.borrow_mut();
        if let Some(facts) = core.vms.get_mut(&vm) {
            facts.roots.remove(&root);
        }
        core.calls.retain(|_, call| call.vm != vm || call.root != root);
    }
}
