//! The ends of a module's calls.

use super::worker::{Callback, Job, Then};
use crate::host::call::{dispatch_status, flags_and_details, own_answer, CallKind};
use crate::pairs::{self, Pairs};
use crate::personality::Replies;
use crate::process::Process;
use crate::request::End;
use crate::vm::VmId;

/// gRPC's `UNAVAILABLE`.
const UNAVAILABLE: u32 = 14;

impl Process {
    /// A callback about a call, in the context that made it.
    fn call_job(&self, token: u32, name: &'static str, args: Vec<u32>, then: Then) -> Option<Job> {
        let core = self.core.borrow();
        let call = core.calls.get(&token)?;
        let request = core.vms.get(&call.vm)?.streams.get(&call.context).map(|stream| stream.request);
        let mut all = vec![token];
        all.extend(args);
        let callback =
            Callback { vm: call.vm, name, context: call.context, args: all, request, call: Some(token), then };
        Some(Job::Callback(callback))
    }

    /// A stream's connection is there.
    pub(super) fn call_connected(&mut self, index: usize, token: u32) {
        let count = {
            let mut core = self.core.borrow_mut();
            let Some(call) = core.calls.get_mut(&token) else { return };
            call.headers = vec![(":status".to_owned(), b"200".to_vec())];
            call.headers.extend(call.gateway.iter().flatten().cloned());
            u32::try_from(call.headers.len()).unwrap_or(u32::MAX)
        };
        let job = self.call_job(token, "proxy_on_grpc_receive_initial_metadata", vec![count], Then::Nothing);
        self.next_jobs(index, job.into_iter().collect());
    }

    /// A call is over.
    pub(super) fn call_ended(&mut self, index: usize, token: u32) {
        let found = {
            let mut core = self.core.borrow_mut();
            let replies = core.personality.calls.replies;
            core.calls.get_mut(&token).map(|call| {
                let (end, kind) = (call.course.end.1, call.kind);
                let answer = call.course.answer.take().map(|(_, answer)| answer);
                let (mut headers, body) = match (end, answer) {
                    (End::Answered(status), Some(answer)) => (reply(status, &answer.headers), answer.body),
                    (end, _) if replies == Replies::Status => match own_answer(end) {
                        Some((status, body)) => (reply(status, &[]), body.as_bytes().to_vec()),
                        None => (Pairs::new(), Vec::new()),
                    },
                    _ => (Pairs::new(), Vec::new()),
                };
                // What a gateway says of a peer is a server's answer to this proxy.
                let is_servers = matches!(end, End::Answered(_)) || call.gateway.is_some();
                if replies == Replies::Status && is_servers && !headers.is_empty() {
                    headers.extend(call.gateway.iter().flatten().cloned());
                    headers.push(("x-envoy-upstream-service-time".to_owned(), b"0".to_vec()));
                }
                if replies == Replies::DispatchStatus {
                    headers.insert(0, (":dispatch_status".to_owned(), dispatch_status(end).as_bytes().to_vec()));
                }
                call.headers = headers;
                call.body = body;
                let sizes = (call.headers.len(), call.body.len());
                (kind, call.is_tcp, end, sizes)
            })
        };
        let Some((kind, is_tcp, end, (headers, size))) = found else { return };
        let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        let is_good = matches!(end, End::Answered(200));
        let jobs = match kind {
            CallKind::Http => vec![self.call_job(
                token,
                "proxy_on_http_call_response",
                vec![number(headers), number(size), 0],
                Then::CallTold,
            )],
            CallKind::GrpcCall if is_good => {
                vec![self.call_job(token, "proxy_on_grpc_receive", vec![number(size)], Then::CallTold)]
            }
            CallKind::GrpcStream if is_good && size == 0 && is_tcp => Vec::new(),
            CallKind::GrpcStream if is_good => {
                let message = self.call_job(token, "proxy_on_grpc_receive", vec![number(size)], Then::Nothing);
                vec![message, self.call_job(token, "proxy_on_grpc_close", vec![0], Then::CallTold)]
            }
            CallKind::GrpcCall | CallKind::GrpcStream => {
                let last = self.failed_grpc(token, end);
                let first = self.call_job(token, "proxy_on_grpc_receive_initial_metadata", vec![0], Then::Nothing);
                let last = self.call_job(token, "proxy_on_grpc_receive_trailing_metadata", vec![last], Then::Nothing);
                let is_stream = kind == CallKind::GrpcStream;
                let close = self.call_job(token, "proxy_on_grpc_close", vec![UNAVAILABLE], Then::CallTold);
                vec![first.filter(|_| is_stream), last.filter(|_| is_stream), close]
            }
        };
        self.next_jobs(index, jobs.into_iter().flatten().collect());
    }

    /// A gRPC call that came to no good: an answer that is nothing but headers, which are the last metadata, and the status by which it
    /// is closed. How many headers that are.
    fn failed_grpc(&self, token: u32, end: End) -> u32 {
        let mut core = self.core.borrow_mut();
        let Some(call) = core.calls.get_mut(&token) else { return 0 };
        let words = own_answer(end).map_or("", |(_, words)| words);
        let details = if call.gateway.is_some() { "via_upstream" } else { flags_and_details(end).1 };
        call.headers.clear();
        call.trailers = pairs::of(
            &[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "14"), ("grpc-message", words)]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        call.trailers.extend(call.gateway.iter().flatten().cloned());
        call.status = (UNAVAILABLE, format!("{words}{{{details}}}"));
        u32::try_from(call.trailers.len()).unwrap_or(u32::MAX)
    }

    /// The module was told of the end of a call.
    pub(super) fn call_told(&mut self, vm: VmId, token: Option<u32>) {
        let mut core = self.core.borrow_mut();
        let Some(call) = token.and_then(|token| core.calls.remove(&token)) else { return };
        let has_slots = core.personality.calls.slots.is_some();
        let another = core.calls.values().any(|other| other.vm == vm && other.root == call.root);
        if let Some(facts) = core.vms.get_mut(&vm).filter(|_| has_slots && another) {
            facts.lost_slots += 1;
        }
    }
}

/// The headers of an answer.
fn reply(status: u16, headers: &[(String, String)]) -> Pairs {
    let mut all = vec![(":status".to_owned(), status.to_string().into_bytes())];
    all.extend(pairs::of(headers));
    all
}
