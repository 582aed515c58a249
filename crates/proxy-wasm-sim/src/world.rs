//! What is around the host: peers at addresses.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use crate::pairs::Pairs;
use crate::request::End;
use crate::rng::Rng;

/// How a peer behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behaviour {
    /// It answers.
    #[default]
    Answers,
    /// It refuses connections.
    Refuses,
    /// Connections to it are never made: a partition.
    BlackHole,
    /// It takes connections and says nothing.
    Hangs,
    /// It breaks connections before it answers.
    Resets,
    /// It breaks connections in the middle of an answer.
    CutsOff,
    /// It stops in the middle of an answer, and keeps the connection.
    Stalls,
    /// It answers what is not HTTP.
    Garbage,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// An answer with a status and a short body.
    #[must_use]
    pub fn of(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: b"a body\n".to_vec() }
    }
}

/// What reached a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// When, in virtual time.
    pub at: Duration,
    /// Whether it is a call of a module, and not a request.
    pub is_call: bool,
    /// What was sent: headers (none over TCP).
    pub headers: Pairs,
    /// What was sent: the body.
    pub body: Vec<u8>,
}

/// For a connection of a call.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

type Http = Rc<dyn Fn(&Received) -> Answer>;
type Tcp = Rc<dyn Fn(&[u8]) -> Vec<u8>>;

/// A peer.
///
/// ```
/// use proxy_wasm_sim::{Answer, Behaviour, Peer};
///
/// let mut peer = Peer::default();
/// peer.behaviour = Behaviour::Refuses;
/// let slow = Peer::answering(|_| Answer::of(204)).taking(20);
/// assert!(slow.latency.1 > peer.latency.1);
/// ```
#[derive(Clone)]
pub struct Peer {
    /// How it behaves now.
    pub behaviour: Behaviour,
    /// How long a connection takes, and how long an answer: from, to.
    pub latency: (Duration, Duration),
    /// Whether a TCP peer closes after its answer.
    pub closes: bool,
    /// All that reached it.
    pub received: Vec<Received>,
    http: Http,
    tcp: Option<Tcp>,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("behaviour", &self.behaviour)
            .field("latency", &self.latency)
            .finish_non_exhaustive()
    }
}

impl Default for Peer {
    /// Answers 200 within a millisecond.
    fn default() -> Self {
        Self::answering(|_| Answer::of(200))
    }
}

impl Peer {
    /// A peer that answers over HTTP.
    pub fn answering(http: impl Fn(&Received) -> Answer + 'static) -> Self {
        Self {
            behaviour: Behaviour::Answers,
            latency: (Duration::from_micros(50), Duration::from_millis(1)),
            closes: true,
            received: Vec::new(),
            http: Rc::new(http),
            tcp: None,
        }
    }

    /// A peer that takes bytes over TCP and sends bytes: a name server, an agent.
    pub fn speaking(tcp: impl Fn(&[u8]) -> Vec<u8> + 'static) -> Self {
        Self { tcp: Some(Rc::new(tcp)), ..Self::default() }
    }

    /// That takes up to this many milliseconds for everything.
    #[must_use]
    pub fn taking(mut self, millis: u64) -> Self {
        self.latency.1 = Duration::from_millis(millis).max(self.latency.0);
        self
    }

    pub(crate) fn http(&self, received: &Received) -> Answer {
        (self.http)(received)
    }

    pub(crate) fn tcp(&self, bytes: &[u8]) -> Vec<u8> {
        self.tcp.as_ref().map(|tcp| tcp(bytes)).unwrap_or_default()
    }
}

/// How an attempt will go: what comes when, counted from its beginning.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    /// When the connection is there.
    pub(crate) connected: Option<Duration>,
    /// When the answer's headers come, and the answer.
    pub(crate) answer: Option<(Duration, Answer)>,
    /// When it is over, and how.
    pub(crate) end: (Duration, End),
}

/// What is around the host.
///
/// ```
/// use proxy_wasm_sim::{Answer, Behaviour, Peer, World};
///
/// let mut world = World::default();
/// world.peers.insert("10.0.0.1:80".to_owned(), Peer::answering(|request| Answer::of(if request.is_call { 204 } else { 200 })));
/// world.peers.insert("10.0.0.53:53".to_owned(), Peer::speaking(|question| question.to_vec()));
/// world.peer("10.0.0.1:80").behaviour = Behaviour::CutsOff;
/// ```
#[derive(Clone, Debug, Default)]
pub struct World {
    /// By `ip:port`. Where there is none, connections are refused.
    pub peers: BTreeMap<String, Peer>,
}

impl World {
    /// A peer at an address, which is put there if there is none.
    pub fn peer(&mut self, address: &str) -> &mut Peer {
        self.peers.entry(address.to_owned()).or_default()
    }

    /// What an attempt at an address comes to.
    pub(crate) fn course(
        &mut self,
        rng: &mut Rng,
        address: &str,
        received: Received,
        connect_timeout: Duration,
        timeout: Duration,
        is_tcp: bool,
    ) -> Course {
        let refused = |after| Course { connected: None, answer: None, end: (after, End::Refused) };
        let Some(peer) = self.peers.get_mut(address) else { return refused(Duration::from_micros(50)) };
        let (connect, think, rest) = {
            let mut wait = || rng.between(peer.latency.0, peer.latency.1);
            (wait(), wait(), wait())
        };
        let late = |end: (Duration, End), otherwise: End| if end.0 > timeout { (timeout, otherwise) } else { end };
        match peer.behaviour {
            Behaviour::Refuses => return refused(connect),
            Behaviour::BlackHole => {
                let end = late((connect_timeout, End::ConnectTimeout), End::Silent);
                return Course { connected: None, answer: None, end };
            }
            _ => {}
        }
        peer.received.push(received.clone());
        let headers = connect + think;
        let before = |end| Course { connected: Some(connect), answer: None, end };
        let after = |answer, end| {
            let end = late((headers + rest, end), End::Stalled);
            Course { connected: Some(connect), answer: Some((headers, answer)), end }
        };
        match peer.behaviour {
            // Over TCP there is nothing but bytes: silence is an answer that has not come to its end.
            Behaviour::Hangs if is_tcp => before((timeout, End::Stalled)),
            Behaviour::Hangs => before((timeout, End::Silent)),
            _ if headers > timeout => before((timeout, End::Silent)),
            Behaviour::Resets => before((headers, End::Reset)),
            Behaviour::Garbage if !is_tcp => before((headers, End::Garbage)),
            other => {
                let answer = if is_tcp {
                    Answer { body: peer.tcp(&received.body), ..Answer::of(200) }
                } else {
                    peer.http(&received)
                };
                let status = answer.status;
                match other {
                    Behaviour::CutsOff => after(answer, End::CutOff),
                    _ if other == Behaviour::Stalls || is_tcp && !peer.closes => Course {
                        connected: Some(connect),
                        answer: Some((headers, answer)),
                        end: (timeout, End::Stalled),
                    },
                    _ => after(answer, End::Answered(status)),
                }
            }
        }
    }
}
