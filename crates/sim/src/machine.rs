//! A machine: what its workers share, and what the test says of the world around it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use durpina_host::{millis, Capabilities, Stored};

use crate::host::SimHost;
use crate::log;
use crate::sent::Sent;
use crate::shared::{Behaviour, Shared};

/// A machine with a proxy on it. Clones are the same machine.
#[derive(Clone)]
pub struct Sim {
    shared: Rc<Shared>,
}

impl Default for Sim {
    fn default() -> Self {
        Self::new()
    }
}

impl Sim {
    /// A machine on which nothing has happened.
    #[must_use]
    pub fn new() -> Self {
        Self::with(Capabilities::default())
    }

    /// The same, with a proxy that can do this.
    #[must_use]
    pub fn with(capabilities: Capabilities) -> Self {
        log::begin();
        Self {
            shared: Rc::new(Shared {
                capabilities,
                now: Cell::new(1_700_000_000_000),
                random: Cell::new(0),
                data: RefCell::default(),
                next_cas: Cell::new(1),
                version: Cell::new(0),
                deaf: Cell::new(false),
                full: Cell::new(false),
                refusing: Cell::new(false),
                missing: RefCell::default(),
                reports: Cell::new(false),
                writes: Cell::new(0),
                servers: RefCell::default(),
                talk: RefCell::default(),
                names: RefCell::default(),
                probes: RefCell::default(),
                next_call: Cell::new(1),
                interference: RefCell::default(),
            }),
        }
    }

    /// A host as one worker sees it.
    #[must_use]
    pub fn worker(&self) -> SimHost {
        SimHost {
            shared: Rc::clone(&self.shared),
            skew: Cell::new(0),
            calls: RefCell::default(),
            replying: Cell::new(false),
            wait: Cell::default(),
            sent: RefCell::new(Sent::get("/")),
            offered: RefCell::new(None),
            answer: RefCell::new(None),
            ended: RefCell::default(),
            elsewhere: RefCell::default(),
            leads_here: Cell::new(false),
            visited: RefCell::default(),
        }
    }

    /// Turns the clock.
    pub fn advance(&self, by: Duration) {
        self.shared.now.set(self.shared.now.get() + millis(by));
    }

    /// Turns the clock back.
    pub fn turn_back(&self, by: Duration) {
        self.shared.now.set(self.shared.now.get() - millis(by));
    }

    /// Says what a server does from now on. Servers of which nothing is said answer 200.
    pub fn server(&self, address: &str, behaviour: Behaviour) {
        self.shared.servers.borrow_mut().insert(address.to_owned(), behaviour);
    }

    /// Says what a server sends to whoever connects over TCP, before it closes.
    pub fn says(&self, address: &str, text: &str) {
        self.shared.talk.borrow_mut().insert(address.to_owned(), text.as_bytes().to_vec());
    }

    /// Says what name servers answer from now on: the name's addresses, and the seconds for which they hold. Of other
    /// names they say that they do not exist.
    pub fn name(&self, name: &str, addresses: &[&str], seconds: u32) {
        let addresses = addresses.iter().filter_map(|address| address.parse().ok()).collect();
        self.shared.names.borrow_mut().insert(name.to_owned(), (addresses, seconds));
    }

    /// The calls that were made to this address, each with the time in milliseconds.
    #[must_use]
    pub fn calls(&self, address: &str) -> Vec<u64> {
        let calls = self.shared.probes.borrow();
        calls.iter().filter(|(_, call)| call.to.to_string() == address).map(|(at, _)| *at).collect()
    }

    /// Announcements reach nobody until further notice.
    pub fn lose_announcements(&self, lost: bool) {
        self.shared.deaf.set(lost);
    }

    /// Shared data takes no writes until further notice.
    pub fn fill_up(&self, full: bool) {
        self.shared.full.set(full);
    }

    /// Calls cannot be made until further notice.
    pub fn refuse_calls(&self, refuse: bool) {
        self.shared.refusing.set(refuse);
    }

    /// Calls through this cluster get nowhere from now on, and this is why; or they do again.
    pub fn lose_cluster(&self, cluster: &str, why: Option<&str>) {
        let mut missing = self.shared.missing.borrow_mut();
        match why {
            Some(why) => missing.insert(cluster.to_owned(), why.to_owned()),
            None => missing.remove(cluster),
        };
    }

    /// The host reports failed attempts from now on, if the configuration wants that.
    pub fn report_failures(&self) {
        self.shared.reports.set(true);
    }

    /// Loses all shared data, as nginx does when it is reloaded.
    pub fn lose_data(&self) {
        self.shared.data.borrow_mut().clear();
        self.shared.version.set(self.shared.version.get() + 1);
    }

    /// Overwrites a value in shared data with something foreign.
    pub fn corrupt(&self, key: &str) {
        let cas = self.shared.take_cas();
        self.shared.data.borrow_mut().insert(key.to_owned(), Stored { value: b"\xff foreign".to_vec(), cas });
        self.shared.version.set(self.shared.version.get() + 1);
    }

    /// The keys in shared data.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.shared.data.borrow().keys().cloned().collect();
        keys.sort();
        keys
    }

    /// How many values were written.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.shared.writes.get()
    }

    /// Runs `interference` before the next write, of which it knows nothing.
    pub fn interfere(&self, interference: impl FnMut() + 'static) {
        *self.shared.interference.borrow_mut() = Some(Box::new(interference));
    }

    /// The lines of the log that contain `text`: of this thread, since the last `Sim` was made in it.
    #[must_use]
    pub fn logged(&self, text: &str) -> Vec<String> {
        log::lines().into_iter().filter(|line| line.contains(text)).collect()
    }
}
