//! A request on its way in: its arrival, its request callbacks.

use super::worker::{Callback, Job, Role, Then};
use crate::host::exchange::{Asked, Exchange, Phase, StreamContext};
use crate::personality::{Return, Situation};
use crate::process::Process;
use crate::request::{End, RequestId};
use crate::status::Stop;

impl Process {
    /// The worker that gets a request.
    pub(super) fn place(&mut self, request: RequestId) -> Option<usize> {
        let serving: Vec<usize> = (0..self.workers.len())
            .filter(|index| self.workers.get(*index).is_some_and(|worker| worker.role == Role::Serves))
            .collect();
        let mut core = self.core.borrow_mut();
        let wanted = core.exchanges.get(&request)?.request.worker.filter(|index| serving.contains(index));
        let index = wanted.or_else(|| core.rng.choose(&serving).copied())?;
        core.exchanges.get_mut(&request)?.worker = index;
        Some(index)
    }

    pub(super) fn exchange<T>(&mut self, request: RequestId, change: impl FnOnce(&mut Exchange) -> T) -> Option<T> {
        self.core.borrow_mut().exchanges.get_mut(&request).map(change)
    }

    /// A request arrives at its worker.
    pub(super) fn arrive(&mut self, index: usize, request: RequestId) {
        let is_new = self.exchange(request, |exchange| exchange.phase == Phase::Request) == Some(true);
        let Some(worker) = self.workers.get(index) else { return };
        let (vm, lost_at) = (worker.vm, worker.lost_at);
        if !is_new {
            return;
        }
        if vm.is_none() {
            let may_return = match (self.return_after_trap, lost_at) {
                (Return::NextRequest(wait), Some(lost_at)) => self.now() >= lost_at + wait,
                _ => false,
            };
            if may_return {
                let arrival = crate::host::events::Event::Arrive(request);
                return self.next_jobs(index, vec![Job::Start, Job::Event(arrival)]);
            }
            return self.fail(index, request);
        }
        self.note(format_args!("request {} arrives at worker {index}", request.0));
        if let Some(Err(Stop::Crash(rule))) = self.lacks_body_callbacks() {
            return self.crash(&rule);
        }
        self.open_contexts(index, request);
        self.exchange(request, |exchange| exchange.open[0] = true);
        self.advance(index, request);
    }

    fn lacks_body_callbacks(&self) -> Option<Result<Option<crate::status::Status>, Stop>> {
        let core = self.core.borrow();
        let is_needed = core.personality.requests.needs_body_callbacks;
        let is_there = ["proxy_on_request_body", "proxy_on_response_body"].iter().all(|name| self.module.exports(name));
        (is_needed && !is_there).then(|| core.personality.rule(Situation::NoBodyCallbacks))
    }

    /// A context for each filter, in the VM of the worker.
    pub(super) fn open_contexts(&mut self, index: usize, request: RequestId) {
        let Some(worker) = self.workers.get(index) else { return };
        let Some(vm) = worker.vm else { return };
        let filters = self.plugins.iter().zip(&worker.roots).filter(|(plugin, _)| plugin.reports.is_none());
        let roots: Vec<u32> = filters.map(|(_, root)| *root).collect();
        let mut core = self.core.borrow_mut();
        let Some(facts) = core.vms.get_mut(&vm) else { return };
        let contexts: Vec<StreamContext> = roots
            .into_iter()
            .map(|root| {
                let context = facts.next_context;
                facts.next_context += 1;
                facts.streams.insert(context, crate::core::Stream { root, request });
                StreamContext { context, root, is_created: false }
            })
            .collect();
        if let Some(exchange) = core.exchanges.get_mut(&request) {
            if exchange.vm.replace(vm).is_some_and(|old| old != vm) {
                // Those of a VM that ended are no more.
                exchange.contexts.clear();
                exchange.earlier.clear();
            }
            exchange.earlier.append(&mut exchange.contexts);
            exchange.contexts = contexts;
        }
    }

    /// A callback of a request in the context of a filter, and before it the one that makes the context.
    pub(super) fn request_jobs(
        &mut self,
        request: RequestId,
        position: usize,
        name: &'static str,
        args: Vec<u32>,
        then: Then,
    ) -> Vec<Job> {
        let found =
            self.exchange(request, |exchange| Some((exchange.vm?, *exchange.contexts.get(position)?))).flatten();
        let Some((vm, stream)) = found else { return Vec::new() };
        let callback = |name, args, then| {
            Job::Callback(Callback {
                vm,
                name,
                context: stream.context,
                args,
                request: Some(request),
                call: None,
                then,
            })
        };
        let mut jobs = Vec::new();
        if !stream.is_created {
            jobs.push(callback("proxy_on_context_create", vec![stream.root], Then::Created));
        }
        jobs.push(callback(name, args, then));
        jobs
    }

    /// The next request callback, or on to the peers.
    fn advance(&mut self, index: usize, request: RequestId) {
        let facts = self.core.borrow().personality.requests.clone();
        let next = self.exchange(request, |exchange| {
            let headers = u32::try_from(exchange.request_headers().len()).unwrap_or(u32::MAX);
            let end = u32::from(!exchange.has_body() && facts.end_at_headers);
            (exchange.position, exchange.contexts.len(), headers, end)
        });
        let Some((position, filters, headers, end)) = next else { return };
        if position >= filters {
            return self.upstream(index, request);
        }
        let jobs =
            self.request_jobs(request, position, "proxy_on_request_headers", vec![headers, end], Then::RequestHeaders);
        self.next_jobs(index, jobs);
    }

    pub(super) fn request_headers_done(&mut self, index: usize, request: RequestId, pauses: bool) {
        self.exchange(request, |exchange| exchange.is_paused = pauses);
        if self.obey(index, request) {
            return;
        }
        let has_body = self.exchange(request, |exchange| exchange.has_body()) == Some(true);
        if has_body {
            self.body_next(index, request);
        } else if pauses {
            self.wait_for_module(index, request);
        } else {
            self.next_filter(index, request);
        }
    }

    fn body_next(&mut self, index: usize, request: RequestId) {
        let next = self.exchange(request, |exchange| {
            (exchange.position, u32::try_from(exchange.request_body.len()).unwrap_or(u32::MAX))
        });
        let Some((position, size)) = next else { return };
        let jobs = self.request_jobs(request, position, "proxy_on_request_body", vec![size, 1], Then::RequestBody);
        self.next_jobs(index, jobs);
    }

    pub(super) fn request_body_done(&mut self, index: usize, request: RequestId, pauses: bool) {
        self.exchange(request, |exchange| {
            exchange.is_paused = pauses;
            exchange.has_body_passed = true;
        });
        if self.obey(index, request) {
            return;
        }
        if pauses {
            self.wait_for_module(index, request);
        } else {
            self.next_filter(index, request);
        }
    }

    fn next_filter(&mut self, index: usize, request: RequestId) {
        self.exchange(request, |exchange| {
            exchange.position += 1;
            exchange.has_body_passed = false;
            exchange.is_paused = false;
        });
        self.advance(index, request);
    }

    fn wait_for_module(&mut self, index: usize, request: RequestId) {
        if let Some(worker) = self.workers.get_mut(index) {
            worker.paused.insert(request);
        }
    }

    /// Does what the module asked of a request; whether the request is out of its request phase by that.
    fn obey(&mut self, index: usize, request: RequestId) -> bool {
        let asked = self.exchange(request, |exchange| exchange.asked.take()).flatten();
        match asked {
            None => false,
            Some(Asked::Continue) => {
                self.exchange(request, |exchange| exchange.is_paused = false);
                false
            }
            Some(Asked::Answer { status, headers, body, details }) => {
                self.exchange(request, |exchange| {
                    exchange.by_module = true;
                    exchange.details = details;
                });
                self.own_answer(index, request, status, headers, body);
                true
            }
            Some(Asked::Close) => {
                self.client_left(index, request);
                true
            }
        }
    }

    /// Requests that wait go on if the module said so, in whatever callback.
    pub(super) fn wake_paused(&mut self, index: usize) {
        let Some(worker) = self.workers.get(index).filter(|worker| !worker.paused.is_empty()) else { return };
        for request in worker.paused.clone() {
            let asked = self.exchange(request, |exchange| exchange.asked.is_some()) == Some(true);
            if !asked {
                continue;
            }
            if let Some(worker) = self.workers.get_mut(index) {
                worker.paused.remove(&request);
            }
            if !self.obey(index, request) {
                let next = self.exchange(request, |exchange| exchange.has_body() && !exchange.has_body_passed);
                match next {
                    Some(true) => self.body_next(index, request),
                    _ => self.next_filter(index, request),
                }
            }
        }
    }

    /// The module that a request needs is gone.
    pub(super) fn fail(&mut self, index: usize, request: RequestId) {
        let life = self.core.borrow().personality.life.clone();
        let phase = self.exchange(request, |exchange| {
            if exchange.phase == Phase::Request || exchange.phase == Phase::Response {
                exchange.vm = None;
                exchange.details = "wasm_fail_stream".to_owned();
            }
            exchange.phase
        });
        match phase {
            Some(Phase::Response) if life.requests_outlive_trap => {
                // The answer goes out, past the module.
                let end = self.exchange(request, |exchange| exchange.end.unwrap_or(End::Aborted));
                self.finish(index, request, end.unwrap_or(End::Aborted));
            }
            Some(Phase::Request | Phase::Response) => {
                let status = life.trap_status;
                self.exchange(request, |exchange| exchange.answer(status, Vec::new(), Vec::new()));
                self.finish(index, request, End::Aborted);
            }
            _ => {}
        }
    }
}
