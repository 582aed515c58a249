//! What is said, but not again and again: that checks cannot be made or written at all, and that agents are not understood.

use std::time::Duration;

use xxhash_rust::xxh64::xxh64;

use super::check_key::{ByCheck, CheckKey};
use crate::repeats::Repeats;
use crate::time::Timestamp;

/// How often one thing is said.
const PAUSE: Duration = Duration::from_secs(60);
/// After that time it is not remembered any more what an agent said.
const MEMORY: Duration = Duration::from_secs(3_600);

/// What is wrong. Each is said for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The lease cannot be had.
    Lease,
    /// Calls through a cluster cannot be made; a hash of its name.
    Call(u64),
    /// What was found cannot be written.
    Write,
    /// The end of an outage cannot be written.
    Recovery,
}

impl Cause {
    /// Calls through this cluster cannot be made.
    pub(super) fn call(cluster: &str) -> Self {
        Self::Call(xxh64(cluster.as_bytes(), 0))
    }

    fn number(self) -> u64 {
        match self {
            Self::Lease => 0,
            Self::Write => 1,
            Self::Recovery => 2,
            Self::Call(cluster) => cluster,
        }
    }
}

/// What was said when.
pub(super) struct Complaints {
    said: Repeats,
    /// By agents: when their unknown words were reported last, and a hash of those.
    words: ByCheck<(Timestamp, u64)>,
}

impl Default for Complaints {
    fn default() -> Self {
        Self { said: Repeats::new(PAUSE), words: ByCheck::default() }
    }
}

impl Complaints {
    /// Says what is wrong, unless that was said just now.
    pub(super) fn say(&mut self, now: Timestamp, cause: Cause, what: &str) {
        self.said.say(now, cause.number(), log::Level::Error, &|| what.to_owned());
    }

    /// Whether an agent's unknown words are to be reported: if they are others than those that were reported last, and not
    /// just now. `known` are those in the status, which another worker may have reported.
    pub(super) fn is_to_report(&mut self, now: Timestamp, agent: CheckKey, words: &[String], known: &[String]) -> bool {
        if words.is_empty() {
            return false;
        }
        let hash = words.iter().fold(0, |hash, word| xxh64(word.as_bytes(), hash));
        let is_news = match self.words.get(agent) {
            Some((last, reported)) => *reported != hash && is_over(now, *last),
            None => words != known,
        };
        if is_news {
            self.words.retain(|_, (last, _)| now.since(*last) < MEMORY);
            self.words.set(agent, (now, hash));
        }
        is_news
    }
}

/// Whether the time for which one is silent after `last` is over. It is if the clock was turned back.
fn is_over(now: Timestamp, last: Timestamp) -> bool {
    now < last || now.since(last) >= PAUSE
}
