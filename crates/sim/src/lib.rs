//! A simulated host, for tests: workers, shared data with compare-and-swap, a clock that the test turns, and
//! servers that answer, refuse, hang or break off on command.
//!
//! Everything happens on one thread in an order that the test decides, so a failure is found again. What a
//! proxy's workers do at the same time is played by [`Sim::interfere`]: it runs something between one worker's
//! read and its write.
//!
//! A [`Worker`] drives any [`Guest`]. What is logged through the crate `log` is kept for [`Sim::logged`], for each thread
//! apart.
// A test must not go on when the filter left in place what a client sent.
#![allow(clippy::expect_used)]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use durpina_host::{
    millis, Attempt, Call, CallId, CallKind, CalloutClusters, Capabilities, EndCall, Expect, Failure, Guest, Host,
    HostError, Outcome, Reply, RequestHost, Response, ResponseHost, Stored, Timestamp,
};

mod log;

/// What a server does with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers with this status.
    Answers(u16),
    /// Fails in this way.
    Fails(Failure),
}

/// A machine with a proxy on it. Clones are the same machine.
#[derive(Clone)]
pub struct Sim {
    shared: Rc<Shared>,
}

struct Shared {
    capabilities: Capabilities,
    now: Cell<u64>,
    random: Cell<u64>,
    data: RefCell<HashMap<String, Stored>>,
    next_cas: Cell<u32>,
    version: Cell<u64>,
    deaf: Cell<bool>,
    full: Cell<bool>,
    refusing: Cell<bool>,
    reports: Cell<bool>,
    writes: Cell<usize>,
    servers: RefCell<HashMap<String, Behaviour>>,
    talk: RefCell<HashMap<String, Vec<u8>>>,
    names: RefCell<HashMap<String, (Vec<IpAddr>, u32)>>,
    probes: RefCell<Vec<(u64, Call)>>,
    next_call: Cell<u32>,
    interference: RefCell<Option<Box<dyn FnMut()>>>,
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
            sent: RefCell::new(Sent::get("/")),
            offered: RefCell::new(None),
            answer: RefCell::new(None),
            failed: Cell::new(0),
            last: Cell::new(None),
            status: Cell::new(None),
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

impl Shared {
    fn reply(&self, call: &Call) -> Reply {
        let address = call.to.to_string();
        let behaviour = self.servers.borrow().get(&address).copied().unwrap_or(Behaviour::Answers(200));
        match (behaviour, &call.kind) {
            (Behaviour::Fails(failure), _) => Reply::Failed(failure),
            (_, CallKind::Connect) => Reply::Connected,
            (Behaviour::Answers(status), CallKind::Http { .. }) => {
                Reply::Http(status, self.talk.borrow().get(&address).cloned().unwrap_or_default())
            }
            (_, CallKind::Tcp(bytes)) if call.to.port() == 53 => Reply::Bytes(self.look_up(bytes)),
            (_, CallKind::Tcp(_)) => Reply::Bytes(self.talk.borrow().get(&address).cloned().unwrap_or_default()),
        }
    }

    /// A name server's answer to a question, both with their lengths before them.
    fn look_up(&self, question: &[u8]) -> Vec<u8> {
        let mut labels = Vec::new();
        let mut rest = question.get(14..).unwrap_or_default();
        while let Some((length, tail)) = rest.split_first().filter(|(length, _)| **length > 0) {
            let (label, tail) = tail.split_at_checked(usize::from(*length)).unwrap_or_default();
            labels.push(String::from_utf8_lossy(label).into_owned());
            rest = tail;
        }
        let wants_v4 = rest.get(2) == Some(&1);
        let names = self.names.borrow();
        let known = names.get(&labels.join("."));
        let mut answer = question.get(2..).unwrap_or_default().to_vec();
        let mut records = Vec::new();
        let mut count = 0;
        let (addresses, seconds) = known.map_or((&[][..], 0), |(addresses, seconds)| (addresses, *seconds));
        for address in addresses.iter().filter(|address| address.is_ipv4() == wants_v4) {
            let (kind, data) = match address {
                IpAddr::V4(address) => (1, address.octets().to_vec()),
                IpAddr::V6(address) => (28, address.octets().to_vec()),
            };
            records.extend_from_slice(&[0xc0, 0x0c, 0, kind, 0, 1]);
            records.extend_from_slice(&seconds.to_be_bytes());
            records.extend_from_slice(&[0, data.len() as u8]);
            records.extend_from_slice(&data);
            count += 1;
        }
        for (at, byte) in [(2, 0x81), (3, if known.is_some() { 0x80 } else { 0x83 }), (7, count)] {
            if let Some(slot) = answer.get_mut(at) {
                *slot = byte;
            }
        }
        answer.extend_from_slice(&records);
        let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
        framed.append(&mut answer);
        framed
    }

    fn take_cas(&self) -> u32 {
        let cas = self.next_cas.get();
        self.next_cas.set(cas + 1);
        cas
    }
}

/// A request, as a client sends it.
#[derive(Clone, Debug)]
pub struct Sent {
    path: Vec<u8>,
    method: String,
    authority: String,
    headers: Vec<(String, String)>,
    client: Option<IpAddr>,
    body: Vec<u8>,
    connection: Option<u64>,
}

impl Sent {
    /// A request for this path and query.
    #[must_use]
    pub fn get(path: &str) -> Self {
        Self::bytes(path.as_bytes())
    }

    /// A request for a path of any bytes.
    #[must_use]
    pub fn bytes(path: &[u8]) -> Self {
        let method = "GET".to_owned();
        Self {
            path: path.to_vec(),
            method,
            authority: String::new(),
            headers: Vec::new(),
            client: None,
            body: Vec::new(),
            connection: None,
        }
    }

    /// With this method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        Self { method: method.to_owned(), ..self }
    }

    /// To this host.
    #[must_use]
    pub fn authority(self, authority: &str) -> Self {
        Self { authority: authority.to_owned(), ..self }
    }

    /// With this header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(self, body: &[u8]) -> Self {
        Self { body: body.to_vec(), ..self }
    }

    /// Over the connection of this number.
    #[must_use]
    pub fn connection(self, id: u64) -> Self {
        Self { connection: Some(id), ..self }
    }

    /// From this address.
    #[must_use]
    pub fn client(self, address: &str) -> Self {
        Self { client: address.parse().ok(), ..self }
    }
}

/// What a client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A server's answer, after that many attempts.
    Served {
        /// The server's address.
        by: String,
        /// The status.
        status: u16,
        /// How many servers were tried.
        attempts: usize,
    },
    /// The proxy's own answer after all attempts failed.
    Failed {
        /// How many servers were tried.
        attempts: usize,
    },
    /// The filter's own answer: the status and the body.
    Refused(u32, String),
    /// Passed on without a peer.
    Untouched,
}

impl Answer {
    /// A server's answer at the first attempt.
    #[must_use]
    pub fn served(by: &str, status: u16) -> Self {
        Self::Served { by: by.to_owned(), status, attempts: 1 }
    }

    /// Whose answer it is.
    #[must_use]
    pub fn by(&self) -> &str {
        match self {
            Self::Served { by, .. } => by,
            _ => "",
        }
    }
}

/// A worker of the proxy with the filter in it.
pub struct Worker<G> {
    /// The worker's host.
    pub host: SimHost,
    /// The worker's filter.
    pub filter: G,
}

impl<G: Guest> Worker<G> {
    /// Starts a worker with a configuration.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub fn start(sim: &Sim, config: &str) -> Result<Self, G::Refusal>
    where
        G::Parts: Default,
    {
        Self::named(sim, "test", config)
    }

    /// Starts a worker with a configuration for an instance of the filter.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub fn named(sim: &Sim, instance: &str, config: &str) -> Result<Self, G::Refusal>
    where
        G::Parts: Default,
    {
        Self::with(&G::Parts::default(), sim, instance, config)
    }

    /// The same, with a filter that is made of these parts.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub fn with(parts: &G::Parts, sim: &Sim, instance: &str, config: &str) -> Result<Self, G::Refusal> {
        let host = sim.worker();
        let filter = G::configure(parts, &host, instance, config.as_bytes())?;
        Ok(Self { host, filter })
    }

    /// Ticks.
    pub fn tick(&mut self) -> Duration {
        self.filter.tick(&self.host)
    }

    /// Lets the replies to this worker's calls arrive. Returns how many there were.
    pub fn deliver(&mut self) -> usize {
        let calls = self.host.calls.take();
        for (id, call) in &calls {
            let reply = self.host.shared.reply(call);
            self.host.replying.set(true);
            self.filter.reply(&self.host, *id, &reply);
            self.host.replying.set(false);
        }
        calls.len()
    }

    /// Loses the replies to this worker's calls.
    pub fn lose_calls(&mut self) -> usize {
        self.host.calls.take().len()
    }

    /// Sends a request through this worker, from its arrival to its end.
    pub fn send(&mut self, sent: Sent) -> Answer {
        let (answer, mut exchange) = self.begin(sent);
        self.end(&mut exchange);
        answer
    }

    /// Sends a request through this worker as far as its answer: what the filter would learn at its end it does
    /// not know yet.
    pub fn begin(&mut self, sent: Sent) -> (Answer, Ended<G::Exchange>) {
        self.host.receive(sent);
        let body = self.host.sent.borrow().body.clone();
        let (mut outcome, exchange) = self.filter.request(&self.host, !body.is_empty());
        if outcome == Outcome::Body {
            self.filter.request_body(&self.host, &body);
            outcome = Outcome::Answered;
        }
        let answer = self.host.attempt(outcome);
        let host = &self.host;
        (answer, Ended { exchange, failed: host.failed.get(), last: host.last.get(), status: host.status.get() })
    }

    /// Tells the filter of a request's end.
    pub fn end(&mut self, ended: &mut Ended<G::Exchange>) {
        self.host.failed.set(ended.failed);
        self.host.last.set(ended.last);
        self.host.status.set(ended.status);
        self.filter.response(&self.host, &mut ended.exchange);
        let kept = self.filter.done(&self.host, &mut ended.exchange);
        let is_success = ended.status.is_none_or(|status| status < 300);
        if kept && (ended.failed > 0 || ended.last.is_some() || !is_success) {
            self.filter.failed(&self.host, &mut ended.exchange);
        }
    }
}

/// A request whose end the filter does not know of yet.
pub struct Ended<E> {
    exchange: E,
    failed: usize,
    last: Option<Failure>,
    status: Option<u16>,
}

/// A host as one worker sees it, with the request that it is handling.
pub struct SimHost {
    shared: Rc<Shared>,
    skew: Cell<i64>,
    calls: RefCell<Vec<(CallId, Call)>>,
    /// A reply is being handled.
    replying: Cell<bool>,
    sent: RefCell<Sent>,
    offered: RefCell<Option<Vec<String>>>,
    answer: RefCell<Option<Response>>,
    failed: Cell<usize>,
    last: Cell<Option<Failure>>,
    status: Cell<Option<u16>>,
}

impl SimHost {
    /// A request arrives.
    pub fn receive(&self, sent: Sent) {
        *self.sent.borrow_mut() = sent;
        *self.offered.borrow_mut() = None;
        *self.answer.borrow_mut() = None;
    }

    /// This worker's clock is off by that many milliseconds.
    pub fn skew(&self, millis: i64) {
        self.skew.set(millis);
    }

    /// The filter's own answer to the request in hand, if it gave one.
    #[must_use]
    pub fn answer(&self) -> Option<Response> {
        self.answer.borrow().clone()
    }

    /// The addresses that were offered for the request in hand.
    #[must_use]
    pub fn offered(&self) -> Vec<String> {
        self.offered.borrow().clone().unwrap_or_default()
    }

    /// Tries the candidates in order, as a proxy with two retries does.
    fn attempt(&self, outcome: Outcome) -> Answer {
        self.failed.set(0);
        self.last.set(None);
        self.status.set(None);
        if let (Outcome::Answered, Some(response)) = (outcome, self.answer.borrow().as_ref()) {
            return Answer::Refused(response.status, String::from_utf8_lossy(&response.body).into_owned());
        }
        let offered = self.offered.borrow().clone().expect("the filter leaves what clients sent in place");
        if offered.is_empty() {
            return Answer::Untouched;
        }
        let count = offered.len();
        for (at, address) in offered.into_iter().enumerate() {
            let servers = self.shared.servers.borrow();
            match servers.get(&address).copied().unwrap_or(Behaviour::Answers(200)) {
                Behaviour::Answers(status) => {
                    self.failed.set(at);
                    self.last.set(None);
                    self.status.set(Some(status));
                    return Answer::Served { by: address, status, attempts: at + 1 };
                }
                Behaviour::Fails(failure) => self.last.set(Some(failure)),
            }
            self.failed.set(at);
        }
        self.status.set(Some(503));
        Answer::Failed { attempts: count }
    }
}

impl Host for SimHost {
    fn capabilities(&self) -> Capabilities {
        self.shared.capabilities
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.shared.now.get().saturating_add_signed(self.skew.get()))
    }

    fn random(&self) -> u64 {
        self.shared.random.set(self.shared.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        self.shared.random.get()
    }

    fn version(&self) -> u64 {
        self.shared.version.get()
    }

    fn announce(&self) {
        if !self.shared.deaf.get() {
            self.shared.version.set(self.shared.version.get() + 1);
        }
    }

    fn read(&self, key: &str) -> Result<Option<Stored>, HostError> {
        Ok(self.shared.data.borrow().get(key).cloned())
    }

    fn write(&self, key: &str, value: &[u8], expect: Expect) -> Result<(), HostError> {
        let interference = self.shared.interference.borrow_mut().take();
        if let Some(mut interference) = interference {
            interference();
        }
        if self.shared.full.get() {
            return Err(HostError::Full);
        }
        let mut data = self.shared.data.borrow_mut();
        let found = data.get(key).map(|stored| stored.cas);
        let expected = match expect {
            Expect::Nothing => None,
            Expect::Cas(cas) => Some(cas),
        };
        if found != expected {
            return Err(HostError::Conflict);
        }
        self.shared.writes.set(self.shared.writes.get() + 1);
        data.insert(key.to_owned(), Stored { value: value.to_vec(), cas: self.shared.take_cas() });
        Ok(())
    }

    fn call(&self, _clusters: &CalloutClusters, call: &Call) -> Result<CallId, HostError> {
        let Capabilities { most_calls, calls_from_replies, .. } = self.shared.capabilities;
        assert!(calls_from_replies || !self.replying.get(), "a call from a reply, which this host does not survive");
        assert!(self.calls.borrow().len() < most_calls, "more calls at a time than this host can make");
        if self.shared.refusing.get() {
            return Err(HostError::Status("call", 1));
        }
        let number = self.shared.next_call.get();
        self.shared.next_call.set(number + 1);
        let id = if call.kind == CallKind::Connect { CallId::Stream(number) } else { CallId::Reply(number) };
        self.shared.probes.borrow_mut().push((self.now().as_millis(), call.clone()));
        self.calls.borrow_mut().push((id, call.clone()));
        Ok(id)
    }

    fn end_call(&self, call: CallId, _how: EndCall) {
        self.calls.borrow_mut().retain(|(id, _)| *id != call);
    }

    fn reports_failures(&self) -> bool {
        self.shared.reports.get()
    }
}

impl RequestHost for SimHost {
    fn path(&self) -> Vec<u8> {
        self.sent.borrow().path.clone()
    }

    fn method(&self) -> Vec<u8> {
        self.sent.borrow().method.clone().into_bytes()
    }

    fn authority(&self) -> Vec<u8> {
        self.sent.borrow().authority.clone().into_bytes()
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        let sent = self.sent.borrow();
        sent.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone().into_bytes())
    }

    fn client(&self) -> Option<IpAddr> {
        self.sent.borrow().client
    }

    fn connection(&self) -> Option<u64> {
        self.sent.borrow().connection
    }

    fn property(&self, _path: &[&str]) -> Option<Vec<u8>> {
        None
    }

    fn cluster_name(&self) -> Option<Vec<u8>> {
        None
    }

    fn route_name(&self) -> Option<Vec<u8>> {
        None
    }

    fn offer(&self, addresses: &[&str]) -> Result<(), HostError> {
        *self.offered.borrow_mut() = Some(addresses.iter().map(|address| (*address).to_owned()).collect());
        Ok(())
    }

    fn respond(&self, response: &Response) {
        *self.answer.borrow_mut() = Some(response.clone());
    }
}

impl ResponseHost for SimHost {
    fn earlier_attempts(&self, offered: &[&str]) -> Vec<Attempt> {
        let failed = |address: &&str| Attempt { address: Some((*address).to_owned()), failure: Some(Failure::Retried) };
        offered.iter().take(self.failed.get()).map(failed).collect()
    }

    fn last_attempt(&self, offered: &[&str]) -> Attempt {
        let address = offered.get(self.failed.get()).map(|address| (*address).to_owned());
        Attempt { address, failure: self.last.get() }
    }

    fn response_status(&self) -> Option<u16> {
        self.status.get()
    }

    fn final_status(&self) -> Option<u16> {
        self.status.get()
    }
}
