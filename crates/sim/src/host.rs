//! The host as one worker sees it.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use durpina_host::{
    Attempt, Call, CallId, CallKind, Capabilities, End, EndCall, Expect, Failure, Host, HostError, Outcome,
    RequestHost, Response, ResponseHost, Stored, Stray, Timestamp, Visited,
};

use crate::sent::{Answer, Sent};
use crate::shared::{Behaviour, Shared};

/// A host as one worker sees it, with the request that it is handling.
pub struct SimHost {
    pub(crate) shared: Rc<Shared>,
    pub(crate) skew: Cell<i64>,
    pub(crate) calls: RefCell<Vec<(CallId, Call)>>,
    /// A reply is being handled.
    pub(crate) replying: Cell<bool>,
    /// The time to the next tick, as the filter asked for it last.
    pub(crate) wait: Cell<Duration>,
    pub(crate) sent: RefCell<Sent>,
    pub(crate) offered: RefCell<Option<Vec<String>>>,
    pub(crate) answer: RefCell<Option<Response>>,
    pub(crate) ended: RefCell<Attempts>,
    pub(crate) elsewhere: RefCell<Option<Attempts>>,
    pub(crate) leads_here: Cell<bool>,
    /// What became of the request in hand before it came to the filter again.
    pub(crate) visited: RefCell<Visited>,
}

/// What became of a request's attempts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempts {
    pub(crate) all: Vec<Attempt>,
    /// Of the answer, the proxy's own included; none if the client was gone before there was one.
    pub(crate) status: Option<u16>,
    /// Something is to be said of the last one.
    pub(crate) is_flagged: bool,
}

impl SimHost {
    /// A request arrives.
    pub fn receive(&self, sent: Sent) {
        *self.sent.borrow_mut() = sent;
        *self.offered.borrow_mut() = None;
        *self.answer.borrow_mut() = None;
    }

    /// The time to the next tick, as the filter asked for it last.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.wait.get()
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

    /// The next requests go elsewhere than to what is offered, as the proxy's own routes say: so many times to this
    /// address, where the last attempt ends like this.
    pub fn route_elsewhere(&self, address: Option<&str>, attempts: usize, end: End, status: u16) {
        let attempt = |end| Attempt { address: address.map(str::to_owned), end };
        let mut all = vec![attempt(End::Failed(Failure::Retried)); attempts.saturating_sub(1)];
        all.push(attempt(end));
        let is_flagged = matches!(end, End::Failed(_));
        *self.elsewhere.borrow_mut() = Some(Attempts { all, status: Some(status), is_flagged });
    }

    /// The proxy's own routes send all requests to where only what was offered can be found, whether anything was or not.
    pub fn route_here(&self) {
        self.leads_here.set(true);
    }

    /// Tries the candidates in order, as a proxy with two retries does.
    pub(crate) fn attempt(&self, outcome: Outcome) -> Answer {
        *self.ended.borrow_mut() = Attempts::default();
        if let (Outcome::Answered, Some(response)) = (outcome, self.answer.borrow().as_ref()) {
            return Answer::Refused(response.status, String::from_utf8_lossy(&response.body).into_owned());
        }
        let offered = self.offered.borrow().clone().expect("the filter leaves what clients sent in place");
        if offered.is_empty() && self.leads_here.get() {
            *self.ended.borrow_mut() = Attempts { all: Vec::new(), status: Some(503), is_flagged: true };
            return Answer::Failed { attempts: 0 };
        }
        if offered.is_empty() {
            return Answer::Untouched;
        }
        if let Some(elsewhere) = self.elsewhere.borrow().clone() {
            *self.ended.borrow_mut() = elsewhere;
            return Answer::Untouched;
        }
        let (ended, answer) = self.attempts_at(offered);
        *self.ended.borrow_mut() = ended;
        answer
    }

    pub(crate) fn attempts_at(&self, offered: Vec<String>) -> (Attempts, Answer) {
        let mut all = Vec::new();
        for address in offered {
            let servers = self.shared.servers.borrow();
            let behaviour = servers.get(&address).copied().unwrap_or(Behaviour::Answers(200));
            let (end, status) = match behaviour {
                Behaviour::Answers(status) | Behaviour::Stalls(status) => (End::Answered(status), status),
                Behaviour::Breaks(status) => (End::Failed(Failure::Reset), status),
                Behaviour::Fails(failure) => {
                    all.push(Attempt { address: Some(address), end: End::Failed(failure) });
                    continue;
                }
                Behaviour::Abandoned => {
                    all.push(Attempt { address: Some(address), end: End::Nobodys });
                    let attempts = all.len();
                    return (Attempts { all, status: None, is_flagged: true }, Answer::Failed { attempts });
                }
            };
            all.push(Attempt { address: Some(address.clone()), end });
            let answer = Answer::Served { by: address, status, attempts: all.len() };
            let is_flagged = !matches!(behaviour, Behaviour::Answers(_));
            return (Attempts { all, status: Some(status), is_flagged }, answer);
        }
        let attempts = all.len();
        (Attempts { all, status: Some(503), is_flagged: true }, Answer::Failed { attempts })
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

    fn call(&self, call: &Call) -> Result<CallId, HostError> {
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

    fn connection_address(&self) -> Option<IpAddr> {
        let sent = self.sent.borrow();
        sent.client.filter(|_| !sent.is_forwarded)
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

    fn visited(&self) -> Visited {
        self.visited.borrow().clone()
    }
}

impl ResponseHost for SimHost {
    fn earlier_attempts(&self, offered: &[&str]) -> Vec<Attempt> {
        let mut attempts = self.attempts(offered);
        attempts.pop();
        attempts
    }

    fn response_status(&self) -> Option<u16> {
        self.ended.borrow().status
    }

    fn ended_well(&self) -> bool {
        !self.ended.borrow().is_flagged
    }

    /// Of an attempt that was repeated the host says no more than that it failed.
    fn attempts(&self, _offered: &[&str]) -> Vec<Attempt> {
        let mut attempts = self.ended.borrow().all.clone();
        let earlier = attempts.len().saturating_sub(1);
        attempts.iter_mut().take(earlier).for_each(|attempt| attempt.end = End::Failed(Failure::Retried));
        attempts
    }

    fn stray(&self) -> Option<Stray> {
        let (sent, status) = (self.sent.borrow(), self.ended.borrow().status?);
        let stray = || Stray { cluster: "durpina".to_owned(), status, path: sent.path.clone(), client: sent.client };
        self.leads_here.get().then(stray)
    }
}
