//! The checks: which worker asks which peer and which name server when, and what becomes of the answers.
//!
//! - The worker that holds the [`lease`] has a [`schedule`]: jobs by time. A job that is due makes a call, or begins to look up a
//!   name ([`lookup`]).
//! - The monitor says what to ask, and is told the reply by the worker that made the call, until it says what it found ([`steps`], [`calls`],
//!   [`findings`]).
//! - What was found goes into a copy of what is said of the upstream's peers ([`pending`]). That is written to shared data at
//!   once when a verdict changes, and otherwise once in a while: a thousand good checks cost one write. What else follows,
//!   such as a failure that counts, is in [`consequences`].
//! - Where a call did not get as far as a server, nothing was found; what it was that it did not get past is told of
//!   ([`obstacles`], [`complaints`]).
//!
//! All of these are told the time and what happened, and say what to do next. What is done is done by the [`driver`]: the
//! calls, the reads and the writes. A tick costs what is due, whatever the number of peers; after a change, it costs a look at each
//! upstream.

mod addresses;
mod by_position;
mod calls;
mod check_key;
mod complaints;
mod consequences;
mod dns;
mod driver;
mod findings;
mod lease;
mod lookup;
mod obstacles;
mod pending;
mod schedule;
mod slots;
mod steps;
mod target;

use std::time::Duration;

use crate::host::{CallId, CalloutClusters, Host, Reply};
use crate::time::Timestamp;
use crate::worker::directory::Directory;
use driver::{Driver, State};
use lease::POLL;
use pending::BATCH;

/// The least time between ticks for checks: those that are due within it are made together. A tick renews the lease, which is a
/// write, and sets the host's timer; and what is done in one go is done from the processor's caches.
const PACE: Duration = Duration::from_millis(50);

/// Reads bytes as an answer to a question for the fuzzer. Returns whether it was one.
#[cfg(feature = "fuzzing")]
pub(crate) fn read_dns(bytes: &[u8]) -> bool {
    let ask = |family| dns::Question { name: "shop.example".to_owned(), family, id: 0x1234 };
    [dns::Family::V4, dns::Family::V6].map(|family| ask(family).read(bytes).is_ok()).contains(&true)
}

/// The checks of one instance of the filter, as one worker sees them.
pub(crate) struct Checks(State);

impl Checks {
    /// For an instance of the filter with this configuration.
    pub(crate) fn new(host: &dyn Host, instance: &str, configuration: u64, clusters: CalloutClusters) -> Self {
        Self(State::new(host, instance, configuration, clusters))
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, host: &dyn Host, directory: &mut Directory) {
        let mut driver = Driver { state: &mut self.0, host, directory };
        driver.expire();
        driver.follow_up();
        // Where there is room for few calls, checks and questions take turns.
        if !driver.state.has_asked {
            driver.ask();
        }
        driver.check();
        driver.ask();
    }

    /// Takes in a reply.
    pub(crate) fn reply(&mut self, host: &dyn Host, directory: &mut Directory, call: CallId, reply: &Reply) {
        Driver { state: &mut self.0, host, directory }.reply(call, reply);
    }

    /// How long until there is something to do; none if nothing is ever to be done.
    pub(crate) fn wait(&self, host: &dyn Host) -> Option<Duration> {
        let now = host.now();
        let until = |at: Timestamp| at.since(now);
        let urgent = self.0.pending.is_urgent().then_some(BATCH);
        let work = match &self.0.schedule {
            // Where a check failed, the next one comes in time: the verdict hangs on it.
            Some(schedule) => {
                let pace = if schedule.has_rechecks() { Duration::ZERO } else { PACE };
                schedule.next_due().map(until).into_iter().chain([POLL]).min().map(|wait| wait.max(pace))
            }
            None => self.0.idle.is_none().then_some(POLL),
        };
        // What waits for room, or for a tick, is asked at the next one.
        let question = (self.0.lookups.has_questions() || self.0.calls.has_waiting()).then_some(BATCH);
        [self.0.calls.next_due().map(until), work, urgent, question].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests;
