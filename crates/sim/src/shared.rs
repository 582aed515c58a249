//! What all workers of a machine share, and the servers around it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;

use durpina_host::{Call, CallKind, Capabilities, Failure, Reply, Stored};

use crate::dns;

/// What a server does with an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Answers with this status.
    Answers(u16),
    /// Fails in this way.
    Fails(Failure),
    /// Answers with this status, and breaks off in the middle of its answer.
    Breaks(u16),
    /// Answers with this status, and the rest of its answer does not arrive for a reason that need not be the server's.
    Stalls(u16),
    /// Does nothing until the client goes away.
    Abandoned,
}

pub(crate) struct Shared {
    pub(crate) capabilities: Capabilities,
    pub(crate) now: Cell<u64>,
    pub(crate) random: Cell<u64>,
    pub(crate) data: RefCell<HashMap<String, Stored>>,
    pub(crate) next_cas: Cell<u32>,
    pub(crate) version: Cell<u64>,
    pub(crate) deaf: Cell<bool>,
    pub(crate) full: Cell<bool>,
    pub(crate) refusing: Cell<bool>,
    /// Clusters behind which nothing is: what the host says of each.
    pub(crate) missing: RefCell<HashMap<String, String>>,
    pub(crate) reports: Cell<bool>,
    pub(crate) writes: Cell<usize>,
    pub(crate) servers: RefCell<HashMap<String, Behaviour>>,
    pub(crate) talk: RefCell<HashMap<String, Vec<u8>>>,
    pub(crate) names: RefCell<HashMap<String, (Vec<IpAddr>, u32)>>,
    pub(crate) probes: RefCell<Vec<(u64, Call)>>,
    pub(crate) next_call: Cell<u32>,
    pub(crate) interference: RefCell<Option<Box<dyn FnMut()>>>,
}

impl Shared {
    pub(crate) fn reply(&self, call: &Call) -> Reply {
        let address = call.to.to_string();
        if let Some(why) = self.missing.borrow().get(&call.cluster) {
            return Reply::NotMade(why.clone());
        }
        let behaviour = self.servers.borrow().get(&address).copied().unwrap_or(Behaviour::Answers(200));
        match (behaviour, &call.kind) {
            (Behaviour::Fails(failure), _) => Reply::Failed(failure),
            (Behaviour::Breaks(_), CallKind::Http { .. } | CallKind::Grpc { .. }) => Reply::Failed(Failure::Reset),
            (Behaviour::Stalls(_) | Behaviour::Abandoned, CallKind::Http { .. } | CallKind::Grpc { .. }) => {
                Reply::Failed(Failure::Timeout)
            }
            (_, CallKind::Connect) => Reply::Connected,
            (Behaviour::Answers(status), CallKind::Http { .. }) => {
                Reply::Http(status, self.talk.borrow().get(&address).cloned().unwrap_or_default())
            }
            (Behaviour::Answers(200), CallKind::Grpc { .. }) => {
                let body = self.talk.borrow().get(&address).cloned().unwrap_or_default();
                Reply::Grpc { status: Some(0), message: String::new(), body }
            }
            (Behaviour::Answers(status), CallKind::Grpc { .. }) => Reply::Http(status, Vec::new()),
            (_, CallKind::Tcp(bytes)) if call.to.port() == 53 => Reply::Bytes(dns::answer(bytes, &self.names.borrow())),
            (_, CallKind::Tcp(_)) => Reply::Bytes(self.talk.borrow().get(&address).cloned().unwrap_or_default()),
        }
    }

    pub(crate) fn take_cas(&self) -> u32 {
        let cas = self.next_cas.get();
        self.next_cas.set(cas + 1);
        cas
    }
}
