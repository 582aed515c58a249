//! The calls under way: what they are for, until when they are waited for, and what their replies mean to the waiting.
//!
//! Nothing here calls: calls that were made go in, with replies and points in time, and what is over comes out.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::dns::Question;
use crate::host::{Call, CallId, CallKind, Failure, Reply};
use crate::model::id::PeerId;
use crate::model::spec::MonitorSpec;
use crate::time::Timestamp;

/// How long a lost reply is waited for after the host should have given up.
const GRACE: Duration = Duration::from_secs(1);
/// How long a server may take to close a connection over which nothing more will come. One that sends on instead is cut off:
/// the host keeps what it sends.
const CLOSING: Duration = Duration::from_millis(100);
/// A reply that says "not in time" and comes so much earlier than it could broke off.
const EARLY: Duration = Duration::from_millis(25);
/// How many monitors are kept for the next checks.
const MOST_SPECS: usize = 8;

/// The calls of one worker.
#[derive(Default)]
pub(super) struct Calls {
    under_way: Vec<(CallId, Flight)>,
    /// Connections that were made, until their servers close them or it takes too long.
    closing: Vec<(CallId, Timestamp)>,
    /// Calls of checks under way that wait for a tick, or for room.
    waiting: Vec<Waiting>,
    /// The monitors that asked last: checks share what is the same for all of them.
    specs: Vec<Rc<MonitorSpec>>,
}

type Waiting = (usize, PeerId, Call, Purpose);

/// A call under way.
pub(super) struct Flight {
    /// The upstream's position.
    pub(super) upstream: usize,
    pub(super) peer: PeerId,
    pub(super) call: Call,
    pub(super) purpose: Purpose,
    deadline: Timestamp,
}

/// Whom a check is about.
#[derive(Clone, Copy)]
pub(super) struct Subject {
    /// The upstream's position.
    pub(super) position: usize,
    pub(super) peer: PeerId,
    pub(super) to: SocketAddr,
}

/// How far a check is.
#[derive(Clone, Copy)]
pub(super) struct Progress {
    pub(super) began: Timestamp,
    /// How often it has asked.
    pub(super) asked: u32,
    /// What is asked was asked before, over a kept connection.
    pub(super) is_again: bool,
}

/// What a call is for.
pub(super) enum Purpose {
    /// A check by this monitor.
    Check(Rc<MonitorSpec>, Progress),
    /// A question of the lookup of this number.
    Lookup(u64, Question),
}

/// A call that is over.
pub(super) struct Ended {
    pub(super) flight: Flight,
    /// The reply says "not in time", and came long before: the answer broke off, or the host takes no answer so long.
    pub(super) is_broken_off: bool,
    /// Whether there was a connection; `None` where the reply does not tell.
    pub(super) is_connected: Option<bool>,
}

impl Purpose {
    /// The monitor that asks; `None` for the resolver.
    pub(super) fn monitor(&self) -> Option<Rc<MonitorSpec>> {
        match self {
            Self::Check(monitor, _) => Some(Rc::clone(monitor)),
            Self::Lookup(..) => None,
        }
    }
}

impl Calls {
    /// How many there are that the host counts.
    pub(super) fn count(&self) -> usize {
        self.under_way.len() + self.closing.len()
    }

    /// A monitor that is to ask.
    pub(super) fn spec(&mut self, monitor: &MonitorSpec) -> Rc<MonitorSpec> {
        if let Some(known) = self.specs.iter().find(|known| ***known == *monitor) {
            return Rc::clone(known);
        }
        if self.specs.len() >= MOST_SPECS {
            self.specs.remove(0);
        }
        let spec = Rc::new(monitor.clone());
        self.specs.push(Rc::clone(&spec));
        spec
    }

    /// Whether the peer is being checked by this monitor.
    pub(super) fn is_checking(&self, upstream: usize, peer: PeerId, monitor: &str) -> bool {
        let is_it = |at: usize, of: PeerId, purpose: &Purpose| {
            let is_of = matches!(purpose, Purpose::Check(spec, _) if spec.id == monitor);
            is_of && at == upstream && of == peer
        };
        self.under_way.iter().any(|(_, flight)| is_it(flight.upstream, flight.peer, &flight.purpose))
            || self.waiting.iter().any(|(at, of, _, purpose)| is_it(*at, *of, purpose))
    }

    /// A call has to wait.
    pub(super) fn wait(&mut self, upstream: usize, peer: PeerId, call: Call, purpose: Purpose) {
        self.waiting.push((upstream, peer, call, purpose));
    }

    /// Whether any call waits.
    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// One of them, which waits no more.
    pub(super) fn next_waiting(&mut self) -> Option<Waiting> {
        self.waiting.pop()
    }

    /// When something will be overdue.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        let deadlines = self.under_way.iter().map(|(_, flight)| flight.deadline);
        deadlines.chain(self.closing.iter().map(|(_, deadline)| *deadline)).min()
    }

    /// A call was made.
    pub(super) fn add(
        &mut self,
        id: CallId,
        call: Call,
        upstream: usize,
        peer: PeerId,
        purpose: Purpose,
        now: Timestamp,
    ) {
        // The host ends other calls by itself; only a reply that is lost has to be given up.
        let grace = if call.kind == CallKind::Connect { Duration::ZERO } else { GRACE };
        let deadline = now.after(call.timeout).after(grace);
        self.under_way.push((id, Flight { upstream, peer, call, purpose, deadline }));
    }

    /// The calls whose replies are overdue.
    pub(super) fn overdue(&self, now: Timestamp) -> Vec<CallId> {
        self.under_way.iter().filter(|(_, flight)| now >= flight.deadline).map(|(id, _)| *id).collect()
    }

    /// The connections that servers keep open for too long. They are forgotten.
    pub(super) fn drain_unclosed(&mut self, now: Timestamp) -> Vec<CallId> {
        let unclosed = self.closing.iter().filter(|(_, deadline)| now >= *deadline).map(|(id, _)| *id).collect();
        self.closing.retain(|(_, deadline)| now < *deadline);
        unclosed
    }

    /// A reply is there. `None` if it is to nothing that is waited for.
    pub(super) fn end(&mut self, id: CallId, reply: &Reply, now: Timestamp) -> Option<Ended> {
        let Some(at) = self.under_way.iter().position(|(known, _)| *known == id) else {
            self.closing.retain(|(known, _)| *known != id);
            return None;
        };
        let (_, flight) = self.under_way.swap_remove(at);
        let is_early = now.after(GRACE + EARLY) < flight.deadline && !matches!(id, CallId::Stream(_));
        let is_broken_off = is_early && *reply == Reply::Failed(Failure::Timeout);
        if *reply == Reply::Connected && matches!(id, CallId::Stream(_)) {
            self.closing.push((id, now.after(CLOSING)));
        }
        let is_connected = match (id, reply) {
            // A stream is only opened to see whether there is a connection.
            (_, Reply::Failed(Failure::Connect)) | (CallId::Stream(_), Reply::Failed(_)) => Some(false),
            (_, Reply::Failed(Failure::Timeout)) if !is_broken_off => None,
            (_, Reply::NotMade(_)) => None,
            _ => Some(true),
        };
        Some(Ended { flight, is_broken_off, is_connected })
    }
}
