//! The keys of what is stored.
//!
//! They hold the layout's number. A filter with another layout finds nothing and starts from its configuration, beside the old one.

/// The layout of what is stored. Another number means other keys.
const FORMAT: u32 = 7;

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

pub(super) fn run(upstream: &str, monitor: &str) -> String {
    of_monitor("run", upstream, monitor)
}

pub(super) fn script(upstream: &str, monitor: &str) -> String {
    of_monitor("script", upstream, monitor)
}

/// Neither name has a control character in it, so one between them keeps all pairs apart.
fn of_monitor(what: &str, upstream: &str, monitor: &str) -> String {
    of(what, &format!("{upstream}\n{monitor}"))
}

pub(super) fn counters(upstream: &str) -> String {
    of("counters", upstream)
}

fn of(what: &str, upstream: &str) -> String {
    format!("durpina/{FORMAT}/{what}/{upstream}")
}
