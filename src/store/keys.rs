//! The keys of what is stored.
//!
//! They hold the layout's number. A filter with another layout finds nothing and starts from its configuration, beside the old one.

/// The layout of what is stored. Another number means other keys.
const FORMAT: u32 = 5;

pub(super) fn index() -> String {
    format!("durpina/{FORMAT}/index")
}

pub(super) fn log_budget(subject: &str) -> String {
    of("log", subject)
}

pub(super) fn record(upstream: &str) -> String {
    of("upstream", upstream)
}

pub(super) fn failures(upstream: &str) -> String {
    of("health", upstream)
}

pub(super) fn status(upstream: &str) -> String {
    of("status", upstream)
}

pub(super) fn state(upstream: &str) -> String {
    of("state", upstream)
}

pub(super) fn obstacles(upstream: &str) -> String {
    of("obstacles", upstream)
}

pub(super) fn counters(upstream: &str) -> String {
    of("counters", upstream)
}

fn of(what: &str, upstream: &str) -> String {
    format!("durpina/{FORMAT}/{what}/{upstream}")
}
