//! The host as one worker sees it.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;

use durpina_host::{
    Attempt, Call, CallId, CallKind, CalloutClusters, Capabilities, EndCall, Expect, Failure, Host, HostError, Outcome,
    RequestHost, Response, ResponseHost, Stored, Timestamp,
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
    pub(crate) sent: RefCell<Sent>,
    pub(crate) offered: RefCell<Option<Vec<String>>>,
    pub(crate) answer: RefCell<Option<Response>>,
    pub(crate) failed: Cell<usize>,
    pub(crate) last: Cell<Option<Failure>>,
    pub(crate) status: Cell<Option<u16>>,
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
    pub(crate) fn attempt(&self, outcome: Outcome) -> Answer {
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
