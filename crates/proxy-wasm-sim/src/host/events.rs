//! What is to happen, by the time at which it is, and the clock.
//!
//! Events of the same time come in an order that chance decides.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::request::RequestId;
use crate::vm::VmId;

/// 2026-01-01T00:00:00Z, when every run starts, in nanoseconds since the Unix epoch.
const START: i128 = 1_767_225_600_000_000_000;

/// Something that is to happen.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// A worker does the next thing in its queue.
    Work(usize),
    /// A worker goes on with a callback.
    Resume(usize),
    /// A timer of a root context.
    Tick { vm: VmId, root: u32, timer: u32 },
    /// A request arrives.
    Arrive(RequestId),
    /// The answer's headers of an attempt.
    Answer { request: RequestId, attempt: usize },
    /// The end of an attempt.
    Ended { request: RequestId, attempt: usize },
    /// A further attempt.
    Retry(RequestId),
    /// The client goes away.
    Abort(RequestId),
    /// A call goes on: its connection is there.
    CallConnected(u32),
    /// A call is over.
    CallEnded(u32),
    /// The old configuration is to end in a VM.
    Drained { vm: VmId, root: u32 },
    /// A queue has something for a root context.
    Queue { vm: VmId, root: u32, queue: u32 },
}

/// The events that are to come.
#[derive(Debug, Default)]
pub(crate) struct Events {
    now: Duration,
    /// How far the wall clock is ahead of its start and the virtual time, in nanoseconds.
    step: i128,
    order: BTreeMap<(Duration, u64, u64), Event>,
    count: u64,
}

impl Events {
    /// Virtual time since the start.
    pub(crate) const fn now(&self) -> Duration {
        self.now
    }

    /// The wall clock, in nanoseconds since the Unix epoch.
    pub(crate) fn wall(&self) -> u64 {
        let now = i128::try_from(self.now.as_nanos()).unwrap_or(i128::MAX);
        u64::try_from((START + self.step).saturating_add(now)).unwrap_or_default()
    }

    /// The wall clock steps.
    pub(crate) const fn step_clock(&mut self, nanos: i128) {
        self.step = self.step.saturating_add(nanos);
    }

    pub(crate) fn add(&mut self, after: Duration, chance: u64, event: Event) {
        self.count += 1;
        self.order.insert((self.now.saturating_add(after), chance, self.count), event);
    }

    /// The next event that is not after `end`; time moves on to it, or to `end`.
    pub(crate) fn next(&mut self, end: Duration) -> Option<Event> {
        match self.order.first_key_value() {
            Some((&(due, ..), _)) if due <= end => {
                self.now = self.now.max(due);
                self.order.pop_first().map(|(_, event)| event)
            }
            _ => {
                self.now = self.now.max(end);
                None
            }
        }
    }
}
