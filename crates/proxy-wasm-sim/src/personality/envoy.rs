//! Envoy, as measured on 1.40.0 with a composite cluster, `FAIL_RELOAD` and one `vm_id`.

use std::time::Duration;

use super::{
    CallFacts, CasOfMissing, Effect, Ending, Integers, Keys, LifeFacts, MetricFacts, Personality, Refusal, Replies,
    RequestFacts, Retries, Return, Rule, SharedFacts, Situation, TickFacts, Update, Workers, ZeroCas,
};
use crate::status::Status;

/// Envoy: threads of one process, a VM in each and one in the main thread.
pub const ENVOY: Personality = Personality {
    name: "envoy",
    life: LifeFacts {
        canary: true,
        main_vm: true,
        workers: Workers::Threads,
        update: Update::SameVms,
        refusal: Refusal::KeepsOld,
        drain: Duration::from_secs(600),
        return_after_trap: Return::NextRequest(Duration::from_secs(1)),
        trap_status: 503,
        requests_outlive_trap: false,
        timers_outlive_trap: false,
        // The logs come when the stream is complete, before its filters are destroyed.
        endings: &[Ending::Log, Ending::Done, Ending::Delete],
    },
    shared: SharedFacts {
        zero_cas: ZeroCas::Unconditional,
        cas_of_missing: CasOfMissing::Creates,
        keys: Keys::Whole,
        torn_reads: false,
        capacity: None,
    },
    metrics: MetricFacts { new_id_each_time: true },
    ticks: TickFacts { late: Duration::from_millis(3), replaces: true, delay_exit: false },
    requests: RequestFacts {
        end_at_headers: true,
        needs_body_callbacks: false,
        maps_stay: false,
        retries: Retries::Addresses,
        integers: Integers::Binary,
        client_port: true,
        own_answers_pass: true,
    },
    calls: CallFacts { slots: None, replies: Replies::Status },
    rules: &[Rule {
        situation: Situation::ReadHistogram,
        effect: Effect::Answers(Status::BadArgument),
        sentence: "envoy: a histogram has no value to read",
    }],
};
