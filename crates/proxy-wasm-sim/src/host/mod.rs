//! What a host keeps: shared data, metrics, queues, requests, calls, time.

pub(crate) mod call;
pub(crate) mod events;
pub(crate) mod exchange;
pub(crate) mod metrics;
pub(crate) mod properties;
pub(crate) mod queues;
pub(crate) mod shared_data;
