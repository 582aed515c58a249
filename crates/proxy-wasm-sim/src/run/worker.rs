//! A worker: a thread or a process that does one thing after the other.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::host::events::Event;
use crate::request::RequestId;
use crate::vm::{Suspended, VmId};

/// A call of a module.
#[derive(Clone, Debug)]
pub(crate) struct Callback {
    pub(crate) vm: VmId,
    pub(crate) name: &'static str,
    pub(crate) context: u32,
    /// What comes after the context.
    pub(crate) args: Vec<u32>,
    pub(crate) request: Option<RequestId>,
    pub(crate) call: Option<u32>,
    pub(crate) then: Then,
}

/// What a callback's result means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Nothing,
    /// Its context is there.
    Created,
    /// The VM started, or not.
    Started,
    /// The configuration was taken, or not.
    Configured,
    /// A timer.
    Ticked(u32),
    /// Whether the root context may go.
    RootDone,
    RootDeleted,
    /// The request goes on.
    RequestHeaders,
    RequestBody,
    ResponseHeaders,
    ResponseBody,
    /// The context of a request is gone.
    Deleted,
    /// The call was told of.
    CallTold,
}

/// Something that a worker is to do.
#[derive(Clone, Debug)]
pub(crate) enum Job {
    /// A VM, and the configuration in it.
    Start,
    /// The configuration as further root contexts.
    Configure,
    Event(Event),
    Callback(Callback),
    /// The request is over.
    Over(RequestId),
}

/// Whether a worker gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Serves,
    /// It has a VM and gets none.
    Main,
    /// It ends when its requests have.
    Drains,
    Gone,
}

pub(crate) struct Worker {
    pub(crate) role: Role,
    pub(crate) zone: usize,
    pub(crate) vm: Option<VmId>,
    /// The root contexts of the configuration in force, one for each plugin.
    pub(crate) roots: Vec<u32>,
    pub(crate) queue: VecDeque<Job>,
    pub(crate) suspended: Option<(Callback, Suspended)>,
    pub(crate) paused_until: Duration,
    /// Whether there is an event that will look into the queue.
    pub(crate) is_scheduled: bool,
    /// Whether its configuration is in force.
    pub(crate) is_ready: bool,
    pub(crate) lost_at: Option<Duration>,
    /// Requests that wait for the module.
    pub(crate) paused: BTreeSet<RequestId>,
    /// Timers of a VM that trapped, by the position of their plugin.
    pub(crate) old_timers: Vec<usize>,
}

impl Worker {
    pub(crate) const fn new(role: Role, zone: usize) -> Self {
        Self {
            role,
            zone,
            vm: None,
            roots: Vec::new(),
            queue: VecDeque::new(),
            suspended: None,
            paused_until: Duration::ZERO,
            is_scheduled: false,
            is_ready: false,
            lost_at: None,
            paused: BTreeSet::new(),
            old_timers: Vec::new(),
        }
    }
}
