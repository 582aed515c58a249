//! nginx with ngx_wasm_module, as measured at 3bed278 with nginx 1.27.5 and 1.30.4.

use std::time::Duration;

use super::{
    CallFacts, CasOfMissing, Effect, Ending, Integers, Keys, LifeFacts, MetricFacts, Personality, Refusal, Replies,
    RequestFacts, Retries, Return, Rule, SharedFacts, Situation, TickFacts, Update, Workers, ZeroCas,
};
use crate::status::Status;

/// nginx: processes, a VM in each, shared data in a zone.
pub const NGINX: Personality = Personality {
    name: "nginx",
    life: LifeFacts {
        canary: false,
        main_vm: false,
        workers: Workers::Processes,
        update: Update::NewWorkers,
        refusal: Refusal::EndsWorkers(
            "nginx: a configuration that is refused, or traps, ends every worker, on a reload too",
        ),
        drain: Duration::from_secs(600),
        return_after_trap: Return::AtOnce,
        trap_status: 500,
        requests_outlive_trap: true,
        timers_outlive_trap: true,
        endings: &[Ending::Done, Ending::Log, Ending::Delete],
    },
    shared: SharedFacts {
        zero_cas: ZeroCas::OnlyIfAbsent,
        cas_of_missing: CasOfMissing::Mismatch,
        keys: Keys::Crc32,
        torn_reads: true,
        capacity: Some(8 << 20),
    },
    metrics: MetricFacts { new_id_each_time: false },
    ticks: TickFacts { late: Duration::from_millis(1), replaces: false, delay_exit: true },
    requests: RequestFacts {
        end_at_headers: false,
        needs_body_callbacks: true,
        maps_stay: true,
        retries: Retries::NewContexts(10),
        integers: Integers::Text,
        client_port: false,
        own_answers_pass: true,
    },
    calls: CallFacts { slots: Some(64), replies: Replies::DispatchStatus },
    rules: &rules(Rule {
        situation: Situation::SharedDataFull,
        effect: Effect::Crashes,
        sentence: "nginx: a full zone of shared data evicts values, and crashes the worker",
    }),
};

/// The same with `shm_kv * 8m eviction=none`.
pub const NGINX_WITHOUT_EVICTION: Personality = Personality {
    rules: &rules(Rule {
        situation: Situation::SharedDataFull,
        effect: Effect::Traps,
        sentence: "nginx: a write into a full zone of shared data without eviction traps",
    }),
    ..NGINX
};

/// Its rules, with this one of a full zone.
const fn rules(full: Rule) -> [Rule; 20] {
    [
        Rule {
            situation: Situation::SecondTickPeriod,
            effect: Effect::Traps,
            sentence: "nginx: a second tick period that is not 0 traps",
        },
        Rule {
            situation: Situation::IncrementGauge,
            effect: Effect::Traps,
            sentence: "nginx: an increment of a gauge traps",
        },
        Rule {
            situation: Situation::ReadHistogram,
            effect: Effect::Traps,
            sentence: "nginx: reading a histogram traps",
        },
        Rule {
            situation: Situation::Grpc,
            effect: Effect::Traps,
            sentence: "nginx: calls over gRPC are not implemented and trap",
        },
        Rule {
            situation: Situation::Done,
            effect: Effect::Traps,
            sentence: "nginx: proxy_done is not implemented and traps",
        },
        Rule {
            situation: Situation::LogLevel,
            effect: Effect::Traps,
            sentence: "nginx: proxy_get_log_level is not implemented and traps",
        },
        Rule {
            situation: Situation::ResolveQueue,
            effect: Effect::Traps,
            sentence: "nginx: proxy_resolve_shared_queue is not implemented and traps",
        },
        Rule {
            situation: Situation::PluginNameInConfigure,
            effect: Effect::Crashes,
            sentence: "nginx: reading plugin_name in proxy_on_configure crashes every worker",
        },
        Rule {
            situation: Situation::CallFromReply,
            effect: Effect::Crashes,
            sentence: "nginx: a call dispatched from proxy_on_http_call_response of a root context crashes the worker",
        },
        Rule {
            situation: Situation::UpstreamAddress,
            effect: Effect::Crashes,
            sentence: "nginx: reading upstream.address or upstream.port crashes the worker",
        },
        Rule {
            situation: Situation::HostPropertyInRoot,
            effect: Effect::Answers(Status::NotFound),
            sentence: "nginx: properties ngx.* cannot be read in a root context",
        },
        Rule {
            situation: Situation::UndeclaredVariable,
            effect: Effect::Answers(Status::NotFound),
            sentence: "nginx: writing a variable that is not declared answers 1",
        },
        Rule {
            situation: Situation::ReadOnlyVariable,
            effect: Effect::Answers(Status::InternalFailure),
            sentence: "nginx: writing a variable that cannot be changed answers 10",
        },
        Rule {
            situation: Situation::LengthChanges,
            effect: Effect::Crashes,
            sentence: "nginx: a value in shared data whose length changes corrupts a VM that reads it at that moment; pad it, and have it change seldom",
        },
        full,
        Rule {
            situation: Situation::ValueGrowsInFull,
            effect: Effect::Crashes,
            sentence: "nginx: a value that grows in a full zone of shared data ends the worker with the lock held",
        },
        Rule {
            situation: Situation::Xds,
            effect: Effect::Answers(Status::NotFound),
            sentence: "nginx: properties xds.* are not there",
        },
        Rule {
            situation: Situation::NoBodyCallbacks,
            effect: Effect::Crashes,
            sentence: "nginx: a module that does not export the body callbacks crashes the worker",
        },
        Rule {
            situation: Situation::TrapInTick,
            effect: Effect::Crashes,
            sentence: "nginx: a trap in proxy_on_tick doubles the timers at each tick until the worker stops answering",
        },
        Rule {
            situation: Situation::NoSlot,
            effect: Effect::Crashes,
            sentence: "nginx: calls leaked every connection slot; make one call at a time from a root context",
        },
    ]
}
