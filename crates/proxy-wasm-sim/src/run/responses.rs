//! A request on its way out: attempts at peers, its response callbacks.

use std::rc::Rc;
use std::time::Duration;

use super::worker::{Job, Then};
use crate::core::Core;
use crate::host::call::{flags_and_details, own_answer};
use crate::host::events::Event;
use crate::host::exchange::Phase;
use crate::pairs::Pairs;
use crate::personality::Retries;
use crate::process::Process;
use crate::request::{Attempt, End, RequestId};
use crate::wiring::{Decision, Routed};
use crate::world::Received;

/// Between attempts.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(10));

/// Envoy's flag of a request whose retries are used up.
const NO_RETRY_LEFT: u64 = 1 << 15;

impl Core {
    /// Begins the next attempt; `Some(false)` if there is no peer to go to, `None` if the request does not go to peers now.
    fn begin_attempt(&mut self, index: usize, request: RequestId) -> Option<bool> {
        let now = self.events.now();
        let exchange = self.exchanges.get_mut(&request)?;
        let (Phase::Upstream, Some(route)) = (exchange.phase, exchange.route.as_ref()) else { return None };
        exchange.attempt_count += 1;
        let of_route = match self.personality.requests.retries {
            Retries::Addresses => exchange.attempts.len(),
            Retries::NewContexts(_) => 0,
        };
        let Some(address) = route.addresses.get(of_route).cloned() else {
            return Some(false);
        };
        let hidden = |name: &str| route.hidden.iter().any(|hidden| hidden == name);
        let headers = exchange.request_headers().iter().filter(|(name, _)| !hidden(name)).cloned().collect();
        let received = Received { at: now, is_call: false, headers, body: exchange.request_body.clone() };
        let (connect, rest) = (route.connect_timeout, exchange.deadline.saturating_sub(now));
        let course = self.world.course(&mut self.rng, &address, received, connect, rest, false);
        exchange.attempts.push(Attempt { address: address.clone(), began: now, end: End::Aborted });
        let attempt = exchange.attempts.len() - 1;
        let (answer, end) = (course.answer.as_ref().map(|(at, _)| *at), course.end.0);
        exchange.course = Some(course);
        if let Some(at) = answer {
            self.after(at, Event::Answer { request, attempt });
        }
        self.after(end, Event::Ended { request, attempt });
        self.note(crate::trace::Who::Worker(index), format_args!("request {} goes to {address}", request.0));
        Some(true)
    }
}

impl Process {
    /// All filters let the request pass: now the proxy decides where it goes.
    pub(super) fn upstream(&mut self, index: usize, request: RequestId) {
        let (wiring, stay) = {
            let core = self.core.borrow();
            (Rc::clone(&core.wiring), core.personality.requests.maps_stay)
        };
        let decision = self.exchange(request, |exchange| {
            exchange.phase = Phase::Upstream;
            exchange.open[0] = stay;
            let routed = Routed {
                headers: exchange.request_headers(),
                written: &exchange.written,
                attempts: &exchange.attempts,
            };
            wiring.route(&routed)
        });
        match decision {
            Some(Decision::Status(status)) => {
                self.exchange(request, |exchange| exchange.details = "direct_response".to_owned());
                self.own_answer(index, request, status, Pairs::new(), Vec::new());
            }
            Some(Decision::To(route)) => {
                let now = self.now();
                self.exchange(request, |exchange| {
                    if exchange.restarts == 0 {
                        exchange.deadline = now + route.timeout;
                    }
                    exchange.route = Some(route);
                });
                self.attempt(index, request);
            }
            None => {}
        }
    }

    /// The next attempt.
    pub(super) fn attempt(&mut self, index: usize, request: RequestId) {
        if self.core.borrow_mut().begin_attempt(index, request) == Some(false) {
            self.no_peer(index, request);
        }
    }

    fn no_peer(&mut self, index: usize, request: RequestId) {
        let (flags, details) = flags_and_details(End::NoPeer);
        self.exchange(request, |exchange| {
            exchange.flags |= flags;
            exchange.details = details.to_owned();
        });
        let (status, body) = own_answer(End::NoPeer).unwrap_or((503, ""));
        self.own_answer(index, request, status, Pairs::new(), body.as_bytes().to_vec());
    }

    /// The answer's headers came.
    pub(super) fn answered(&mut self, index: usize, request: RequestId, attempt: usize) {
        let now = self.now();
        let is_current = self.exchange(request, |exchange| {
            let is_current = exchange.phase == Phase::Upstream && exchange.attempts.len() == attempt + 1;
            let answer = exchange.course.as_ref().and_then(|course| course.answer.clone());
            let (true, Some((_, answer))) = (is_current, answer) else { return false };
            let took = exchange.attempts.last().map_or(Duration::ZERO, |attempt| now.saturating_sub(attempt.began));
            let mut headers = crate::pairs::of(&answer.headers);
            headers.push(("x-envoy-upstream-service-time".to_owned(), took.as_millis().to_string().into_bytes()));
            exchange.answer(answer.status, headers, answer.body);
            exchange.details = "via_upstream".to_owned();
            true
        });
        if is_current == Some(true) {
            self.respond(index, request);
        }
    }

    /// An attempt is over.
    pub(super) fn attempt_ended(&mut self, index: usize, request: RequestId, attempt: usize) {
        let found = self.exchange(request, |exchange| {
            let end = exchange.course.as_ref().map_or(End::Aborted, |course| course.end.1);
            let is_current = matches!(exchange.phase, Phase::Upstream | Phase::Response)
                && exchange.attempts.len() == attempt + 1
                && exchange.end.is_none();
            if let Some(last) = exchange.attempts.get_mut(attempt).filter(|_| is_current) {
                last.end = end;
            }
            is_current.then_some((exchange.phase, end, exchange.position))
        });
        match found.flatten() {
            Some((Phase::Response, end, position)) => {
                self.exchange(request, |exchange| exchange.end = Some(end));
                // The headers have passed all filters already.
                if position == 0 {
                    self.complete(index, request, end);
                }
            }
            Some((Phase::Upstream, end, _)) => self.failed(index, request, end),
            _ => {}
        }
    }

    /// An attempt came to nothing: another one, or an answer of the host's own.
    fn failed(&mut self, index: usize, request: RequestId, end: End) {
        let retries = self.core.borrow().personality.requests.retries;
        let now = self.now();
        let (flags, details) = flags_and_details(end);
        let goes_on = self.exchange(request, |exchange| {
            let Some(route) = exchange.route.as_ref() else { return false };
            let is_reason = match end {
                End::Refused | End::ConnectTimeout => true,
                End::Reset | End::Garbage => route.retries_resets,
                End::Silent => retries != Retries::Addresses,
                _ => false,
            };
            let left = match retries {
                Retries::Addresses => exchange.attempts.len() <= route.retries,
                Retries::NewContexts(most) => route.retries > 0 && exchange.restarts < most,
            };
            if is_reason && left && now < exchange.deadline {
                return true;
            }
            exchange.flags |= flags;
            exchange.details = details.to_owned();
            if is_reason && !left && route.retries > 0 {
                exchange.flags |= NO_RETRY_LEFT;
            }
            false
        });
        match (goes_on, retries) {
            (Some(true), Retries::Addresses) => {
                let mut core = self.core.borrow_mut();
                let wait = core.rng.between(BACK_OFF.0, BACK_OFF.1);
                core.after(wait, Event::Retry(request));
            }
            (Some(true), Retries::NewContexts(_)) => {
                self.exchange(request, |exchange| {
                    exchange.restarts += 1;
                    exchange.phase = Phase::Request;
                    exchange.position = 0;
                });
                self.next_jobs(index, vec![Job::Event(Event::Arrive(request))]);
            }
            _ => {
                let (status, body) = own_answer(end).unwrap_or((502, ""));
                let status = if retries == Retries::Addresses || status == 504 { status } else { 502 };
                let status = if end == End::ConnectTimeout && retries != Retries::Addresses { 504 } else { status };
                self.own_answer(index, request, status, Pairs::new(), body.as_bytes().to_vec());
            }
        }
    }

    /// An answer that no peer gave.
    pub(super) fn own_answer(&mut self, index: usize, request: RequestId, status: u16, headers: Pairs, body: Vec<u8>) {
        let passes = self.core.borrow().personality.requests.own_answers_pass;
        let end = self.exchange(request, |exchange| {
            exchange.answer(status, headers, body);
            let end = End::Answered(status);
            exchange.end = Some(end);
            end
        });
        if passes {
            self.respond(index, request);
        } else {
            self.finish(index, request, end.unwrap_or(End::Aborted));
        }
    }

    /// The response callbacks, from the last filter to the first.
    fn respond(&mut self, index: usize, request: RequestId) {
        let outlives = self.core.borrow().personality.life.requests_outlive_trap;
        let vm = self.exchange(request, |exchange| exchange.vm).flatten();
        if outlives && vm.is_some_and(|vm| !self.vms.contains_key(&vm)) {
            // In contexts that never saw the request.
            self.open_contexts(index, request);
        }
        self.exchange(request, |exchange| {
            exchange.phase = Phase::Response;
            exchange.open[2] = true;
            exchange.position = exchange.contexts.len();
        });
        self.next_response_headers(index, request);
    }

    fn next_response_headers(&mut self, index: usize, request: RequestId) {
        let next = self.exchange(request, |exchange| {
            let headers = u32::try_from(exchange.response_headers().len()).unwrap_or(u32::MAX);
            (exchange.position, headers, u32::from(exchange.response_body.is_empty()), exchange.end, exchange.vm)
        });
        match next {
            Some((position, headers, end, _, Some(_))) if position > 0 => {
                let name = "proxy_on_response_headers";
                let jobs = self.request_jobs(request, position - 1, name, vec![headers, end], Then::ResponseHeaders);
                self.next_jobs(index, jobs);
            }
            Some((_, _, _, Some(end), _)) => self.complete(index, request, end),
            Some(_) => {
                self.exchange(request, |exchange| exchange.position = 0);
            }
            None => {}
        }
    }

    pub(super) fn response_headers_done(&mut self, index: usize, request: RequestId) {
        self.exchange(request, |exchange| {
            exchange.position = exchange.position.saturating_sub(1);
            // Nothing else can be asked of an answer here: it goes on.
            exchange.asked = None;
        });
        self.next_response_headers(index, request);
    }

    /// The answer's headers passed, and its end is known.
    fn complete(&mut self, index: usize, request: RequestId, end: End) {
        let (flags, details) = flags_and_details(end);
        let is_whole = matches!(end, End::Answered(_));
        let jobs = self.exchange(request, |exchange| {
            if !is_whole {
                exchange.flags |= flags;
                exchange.details = details.to_owned();
                exchange.response_body.clear();
            }
            exchange.position = exchange.contexts.len();
            exchange.response_body.len()
        });
        match jobs {
            Some(size) if is_whole && size > 0 => self.response_body_next(index, request),
            _ => self.finish(index, request, end),
        }
    }

    fn response_body_next(&mut self, index: usize, request: RequestId) {
        let next = self.exchange(request, |exchange| {
            let size = u32::try_from(exchange.response_body.len()).unwrap_or(u32::MAX);
            (exchange.position, size, exchange.end, exchange.vm)
        });
        match next {
            Some((position, size, _, Some(_))) if position > 0 => {
                let name = "proxy_on_response_body";
                let jobs = self.request_jobs(request, position - 1, name, vec![size, 1], Then::ResponseBody);
                self.next_jobs(index, jobs);
            }
            Some((_, _, end, _)) => self.finish(index, request, end.unwrap_or(End::Aborted)),
            None => {}
        }
    }

    pub(super) fn response_body_done(&mut self, index: usize, request: RequestId) {
        self.exchange(request, |exchange| exchange.position = exchange.position.saturating_sub(1));
        self.response_body_next(index, request);
    }

    /// The client went away.
    pub(super) fn client_left(&mut self, index: usize, request: RequestId) {
        let (flags, details) = flags_and_details(End::Aborted);
        let is_open = self.exchange(request, |exchange| {
            let is_open = !matches!(exchange.phase, Phase::Ending | Phase::Over);
            if is_open {
                exchange.flags |= flags;
                exchange.details = details.to_owned();
            }
            is_open
        });
        if is_open == Some(true) {
            if let Some(worker) = self.workers.get_mut(index) {
                worker.paused.remove(&request);
            }
            self.finish(index, request, End::Aborted);
        }
    }
}
