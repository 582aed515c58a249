//! What goes wrong: by chance, or at the call that a test names.

use std::time::Duration;

use crate::process::Process;

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
/// Chance needs many runs to stop a worker at the one place that matters. This stops it there; [`Process::hold`].
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

impl Process {
    /// Whoever makes this host call next waits before it while the others go on. Another hold that was not met yet is forgotten.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use proxy_wasm_sim::{Hold, Module, Plugin, Process, Request};
    /// # let module = Module::load(&wat::parse_str(proxy_wasm_sim::EXAMPLE)?)?;
    /// let mut envoy = Process::envoy(&module, 3).everything_to("10.0.0.1:80");
    /// envoy.start(&[Plugin::filter("filter", "")])?;
    /// envoy.hold(Hold::before("proxy_increment_metric", "", Duration::from_secs(1)));
    /// let [held, other] = [0, 1].map(|worker| {
    ///     let request = envoy.send(Request::get("/").at(worker));
    ///     envoy.run_for(Duration::from_millis(100)).map(|()| request)
    /// });
    /// assert_eq!(envoy.under_way(), [held?]);
    /// assert_eq!(envoy.outcome(other?).unwrap().status, Some(200));
    /// assert!(envoy.held_until() > Some(envoy.now()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hold(&mut self, hold: Hold) {
        let mut core = self.core.borrow_mut();
        core.holds.next = Some(hold);
        core.holds.until = None;
    }

    /// Nobody is to be held any more who is not yet.
    pub fn hold_nobody(&mut self) {
        self.core.borrow_mut().holds.next = None;
    }

    /// Until when a worker waits, or waited, before the call that was to be held last; `None` while nobody has made it.
    #[must_use]
    pub fn held_until(&self) -> Option<Duration> {
        self.core.borrow().holds.until
    }
}
