//! What goes wrong by chance.

use std::time::Duration;

/// How often chance interferes. All zero is a host on a quiet day.
///
/// ```
/// use proxy_wasm_sim::Faults;
///
/// let faults = Faults { preempt: 10, ..Faults::default() };
/// assert_eq!(faults.trap, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// One in so many host calls waits while other workers go on; 0 for none.
    pub preempt: u32,
    /// How long such a host call waits, at the most. Mostly it is a few microseconds.
    pub longest_wait: Duration,
    /// One in so many host calls traps, as if the module had panicked there; 0 for none.
    pub trap: u32,
}

/// A host call before which a worker is to wait, once: the next one of this name whose first argument has these bytes in it.
///
/// Chance needs many runs to stop a worker at the one place that matters. This stops it there; [`Process::hold`](crate::Process::hold).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The function's name in the ABI, as `proxy_set_shared_data`.
    pub call: String,
    /// What its first argument contains: a key, a cluster, a path. Empty for whatever it is.
    pub about: Vec<u8>,
    /// How long the worker waits, in virtual time. The others go on.
    pub time: Duration,
}

impl Hold {
    /// Before this function, called about this, for this time.
    #[must_use]
    pub fn before(call: &str, about: &str, time: Duration) -> Self {
        Self { call: call.to_owned(), about: about.as_bytes().to_vec(), time }
    }
}

/// What is to be held, and what is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds {
    pub(crate) next: Option<Hold>,
    /// For whoever stops now.
    pub(crate) time: Option<Duration>,
    /// Until when the one before waits.
    pub(crate) until: Option<Duration>,
}
