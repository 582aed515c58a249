//! In what hosts differ, as data.
//!
//! A [`Personality`] is a table of facts. The simulation reads the facts and never asks which host it is, so a third host is a third
//! table. What a host does to a module that asks for something special is a [`Rule`].

mod envoy;
mod nginx;

use std::time::Duration;

pub use envoy::ENVOY;
pub use nginx::{NGINX, NGINX_WITHOUT_EVICTION};

use crate::status::{Status, Stop};

/// A host.
///
/// ```
/// use proxy_wasm_sim::{Situation, ENVOY, NGINX};
///
/// // What a module may do on one host and not on the other is a row of a table.
/// assert!(ENVOY.sentence(Situation::CallFromReply).is_none());
/// assert_eq!(
///     NGINX.sentence(Situation::CallFromReply),
///     Some("nginx: a call dispatched from proxy_on_http_call_response of a root context crashes the worker"),
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Personality {
    /// As in traces.
    pub name: &'static str,
    /// What becomes of VMs and workers.
    pub life: LifeFacts,
    /// Shared data.
    pub shared: SharedFacts,
    /// Metrics.
    pub metrics: MetricFacts,
    /// Ticks.
    pub ticks: TickFacts,
    /// Requests.
    pub requests: RequestFacts,
    /// Calls of a module.
    pub calls: CallFacts,
    /// What happens in situations of which hosts differ. A situation without a rule is nothing special.
    pub rules: &'static [Rule],
}

/// What becomes of VMs and workers.
#[derive(Clone, Debug)]
pub struct LifeFacts {
    /// Whether a configuration is tried in a VM of its own first, on the live shared data.
    pub canary: bool,
    /// Whether there is a VM besides those of the workers, which ticks and gets no request.
    pub main_vm: bool,
    /// What a worker is, and so what it means to kill one.
    pub workers: Workers,
    /// What a new configuration is put into.
    pub update: Update,
    /// What happens when a configuration is refused.
    pub refusal: Refusal,
    /// How long the old configuration goes on ticking, at the most.
    pub drain: Duration,
    /// When a worker whose VM trapped gets a new one.
    pub return_after_trap: Return,
    /// The status of a request whose VM trapped or is missing.
    pub trap_status: u16,
    /// Whether the VM that trapped goes on with requests that are under way, in contexts of a new instance.
    pub requests_outlive_trap: bool,
    /// Whether timers go on after a trap, beside those that the new instance asks for.
    pub timers_outlive_trap: bool,
    /// How the end of a request is told, in this order.
    pub endings: &'static [Ending],
}

/// What a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// A thread. It cannot be killed alone: what ends is its VM.
    Threads,
    /// A process. Its requests end with it, and another one takes its place.
    Processes,
}

/// What a new configuration is put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// The same VMs, as further root contexts.
    SameVms,
    /// New workers with new VMs and empty shared data.
    NewWorkers,
}

/// What happens when a configuration is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The old one stays in force; at the start the host does not start.
    KeepsOld,
    /// All workers end: there are no more answers.
    EndsWorkers(&'static str),
}

/// When a worker whose VM trapped gets a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// At its next request, but not before this has passed.
    NextRequest(Duration),
    /// At once.
    AtOnce,
}

/// A step of the end of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// `proxy_on_log`.
    Log,
    /// `proxy_on_done`.
    Done,
    /// `proxy_on_delete`.
    Delete,
}

/// Shared data.
#[derive(Clone, Debug)]
pub struct SharedFacts {
    /// What a write whose number is 0 does.
    pub zero_cas: ZeroCas,
    /// What a write with a number does where there is no value.
    pub cas_of_missing: CasOfMissing,
    /// How keys are told apart.
    pub keys: Keys,
    /// Whether a read may see a mixture of two values while another worker writes. Its number and its length are
    /// those of the value that was there when it began.
    pub torn_reads: bool,
    /// How many bytes of keys and values there is room for; `None` where there is no limit.
    pub capacity: Option<usize>,
}

/// What a write whose compare-and-swap number is 0 does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroCas {
    /// It replaces whatever is there.
    Unconditional,
    /// It creates a value, and never replaces one.
    OnlyIfAbsent,
}

/// What a write with a compare-and-swap number does where there is no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CasOfMissing {
    /// It creates the value.
    Creates,
    /// Nothing: the numbers differ.
    Mismatch,
}

/// How keys of shared data are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// By all of their bytes.
    Whole,
    /// By their CRC32 alone.
    Crc32,
}

/// Metrics.
#[derive(Clone, Debug)]
pub struct MetricFacts {
    /// Whether defining a name again gives another id.
    pub new_id_each_time: bool,
}

/// Ticks.
#[derive(Clone, Debug)]
pub struct TickFacts {
    /// How much later than asked for a tick comes, at the most.
    pub late: Duration,
    /// Whether another period takes the place of the timer that runs. Where it does not, a period after a period of 0 is one
    /// more timer.
    pub replaces: bool,
    /// Whether a worker that is to end waits for the next tick.
    pub delay_exit: bool,
}

/// Requests.
#[derive(Clone, Debug)]
pub struct RequestFacts {
    /// Whether the headers of a request without a body say that it is over.
    pub end_at_headers: bool,
    /// Whether the body callback comes also for a request without a body, and the host needs it.
    pub needs_body_callbacks: bool,
    /// Whether header maps can be read at any time of a request, and not just in their own phase.
    pub maps_stay: bool,
    /// Who tries the next peer.
    pub retries: Retries,
    /// How integer properties look.
    pub integers: Integers,
    /// Whether the client's address has its port.
    pub client_port: bool,
    /// Whether the answers that the host makes itself pass the response callbacks.
    pub own_answers_pass: bool,
}

/// Who tries the next peer when an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retries {
    /// The host itself, through the addresses that were decided once.
    Addresses,
    /// The request starts again in new contexts, at most this often.
    NewContexts(u32),
}

/// How integer properties look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Integers {
    /// Eight bytes, little endian.
    Binary,
    /// Decimal digits.
    Text,
}

/// Calls of a module.
#[derive(Clone, Debug)]
pub struct CallFacts {
    /// Connection slots of a worker; a call that ends while another of the same root context is pending keeps its slot for good.
    pub slots: Option<u32>,
    /// How the end of a call is told.
    pub replies: Replies,
}

/// How the end of a call that got no answer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replies {
    /// By a status, as an answer of the host.
    Status,
    /// By a header `:dispatch_status`.
    DispatchStatus,
}

/// Something of which hosts differ that a module may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// A period that is not 0 is asked for while another one runs.
    SecondTickPeriod,
    /// A gauge is incremented.
    IncrementGauge,
    /// A histogram is read.
    ReadHistogram,
    /// A call or a stream of gRPC.
    Grpc,
    /// `proxy_done`.
    Done,
    /// `proxy_get_log_level`.
    LogLevel,
    /// `proxy_resolve_shared_queue`.
    ResolveQueue,
    /// `plugin_name` is read in `proxy_on_configure`.
    PluginNameInConfigure,
    /// A call is dispatched from `proxy_on_http_call_response` of a root context.
    CallFromReply,
    /// `upstream.address` or `upstream.port` is read.
    UpstreamAddress,
    /// A property of the proxy's own is read in a root context.
    HostPropertyInRoot,
    /// A variable that was never declared is written.
    UndeclaredVariable,
    /// A variable that cannot be changed is written.
    ReadOnlyVariable,
    /// A value in shared data is read while it is overwritten by one of another length. Where that is nothing special, the reader gets as
    /// many bytes as there were, some of them from either.
    LengthChanges,
    /// Shared data has no room for another value.
    SharedDataFull,
    /// Shared data has no room for a value that is there already, and is to grow.
    ValueGrowsInFull,
    /// The properties `xds…` are read.
    Xds,
    /// A request is served by a module without body callbacks.
    NoBodyCallbacks,
    /// `proxy_on_tick` trapped.
    TrapInTick,
    /// No slot is left for a call.
    NoSlot,
}

/// What a host does in a situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The host call answers this.
    Answers(Status),
    /// The module's call ends, as after a panic.
    Traps,
    /// The worker ends, and with it the simulation.
    Crashes,
}

/// What a host does in a situation, and how a failing test says so.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// When.
    pub situation: Situation,
    /// What.
    pub effect: Effect,
    /// As a sentence.
    pub sentence: &'static str,
}

impl Personality {
    /// The sentence of the rule for a situation; `None` if it is nothing special here.
    #[must_use]
    pub fn sentence(&self, situation: Situation) -> Option<&'static str> {
        self.rules.iter().find(|rule| rule.situation == situation).map(|rule| rule.sentence)
    }

    /// What a situation comes to; `None` if it is nothing special here.
    pub(crate) fn rule(&self, situation: Situation) -> Result<Option<Status>, Stop> {
        match self.rules.iter().find(|rule| rule.situation == situation) {
            None => Ok(None),
            Some(Rule { effect: Effect::Answers(status), .. }) => Ok(Some(*status)),
            Some(Rule { effect: Effect::Traps, sentence, .. }) => Err(Stop::Trap((*sentence).to_owned())),
            Some(Rule { effect: Effect::Crashes, sentence, .. }) => Err(Stop::Crash((*sentence).to_owned())),
        }
    }
}
