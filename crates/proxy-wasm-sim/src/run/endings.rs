//! The end of a request, as the module is told of it.

use super::outcome;
use super::worker::{Callback, Job, Then};
use crate::host::exchange::Phase;
use crate::personality::Ending;
use crate::plugin::Plugin;
use crate::process::Process;
use crate::request::{End, Outcome, RequestId};
use crate::vm::VmId;

impl Process {
    /// The request is over: the host tells the module in its order.
    pub(super) fn finish(&mut self, index: usize, request: RequestId, end: End) {
        let endings = self.core.borrow().personality.life.endings;
        let now = self.now();
        let found = self.exchange(request, |exchange| {
            exchange.phase = Phase::Ending;
            exchange.end = Some(end);
            exchange.open = [true; 4];
            exchange.ended = now;
            (exchange.contexts.len(), exchange.vm, exchange.earlier.clone(), outcome(exchange))
        });
        let Some((filters, vm, earlier, seen)) = found else { return };
        let mut jobs = Vec::new();
        for ending in endings.iter().filter(|_| vm.is_some()) {
            let (name, then) = match ending {
                Ending::Log => ("proxy_on_log", Then::Nothing),
                Ending::Done => ("proxy_on_done", Then::Nothing),
                Ending::Delete => ("proxy_on_delete", Then::Deleted),
            };
            for position in 0..filters {
                let mut more = self.request_jobs(request, position, name, Vec::new(), then);
                if *ending != Ending::Log && more.len() > 1 {
                    // Only a log makes a context that there never was.
                    more.clear();
                }
                jobs.append(&mut more);
            }
            if *ending == Ending::Log {
                jobs.append(&mut self.access_logs(index, request, vm, &seen));
            }
        }
        for old in earlier {
            let delete = Callback {
                vm: vm.unwrap_or_default(),
                name: "proxy_on_delete",
                context: old.context,
                args: Vec::new(),
                request: Some(request),
                call: None,
                then: Then::Deleted,
            };
            jobs.push(Job::Callback(delete));
        }
        jobs.push(Job::Over(request));
        self.next_jobs(index, jobs);
    }

    fn access_logs(&self, index: usize, request: RequestId, vm: Option<VmId>, seen: &Outcome) -> Vec<Job> {
        let (Some(worker), Some(vm)) = (self.workers.get(index), vm) else { return Vec::new() };
        let reporting = |plugin: &Plugin| plugin.reports.as_ref().is_some_and(|reports| reports(seen));
        let logs = self.plugins.iter().zip(&worker.roots).filter(|(plugin, _)| reporting(plugin));
        logs.map(|(_, root)| {
            Job::Callback(Callback {
                vm,
                name: "proxy_on_log",
                context: *root,
                args: Vec::new(),
                request: Some(request),
                call: None,
                then: Then::Nothing,
            })
        })
        .collect()
    }

    pub(super) fn context_deleted(&mut self, vm: VmId, context: u32) {
        let mut core = self.core.borrow_mut();
        if let Some(facts) = core.vms.get_mut(&vm) {
            facts.streams.remove(&context);
        }
        core.calls.retain(|_, call| call.vm != vm || call.context != context);
    }

    pub(super) fn over(&mut self, request: RequestId) {
        let line = self.exchange(request, |exchange| {
            exchange.phase = Phase::Over;
            exchange.course = None;
            let status = exchange.status().map_or_else(|| "no status".to_owned(), |status| status.to_string());
            (exchange.worker, format!("{status}, flags {}, {}", exchange.flags, exchange.details))
        });
        if let Some((worker, line)) = line {
            self.note(format_args!("request {} is over: {line}", request.0));
            self.leave_if_idle(worker, false);
        }
    }
}
