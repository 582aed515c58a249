//! An upstream as one worker sees it: a parsed copy of shared data, and a pool to pick from.
//!
//! A view is brought up to date before each pick. When nothing was announced and no peer's state changes by
//! the clock, that is a comparison of two numbers. Otherwise it reads what is stored and compares its
//! numbers; only what changed is parsed again.

use std::cell::Cell;
use std::rc::Rc;

use crate::balancer::load::Load;
use crate::balancer::{BalancerKind, Options, Pick, RoundRobin};
use crate::host::{Host, MOST_CANDIDATES};
use crate::model::counters::{Counts, WORD};
use crate::model::error::Error;
use crate::model::failure_table::FailureTable;
use crate::model::id::PeerId;
use crate::model::operator;
use crate::model::peer::PeerRecord;
use crate::model::positions::Positions;
use crate::model::spec::BalancerSpec;
use crate::model::status::Status;
use crate::model::template::Template;
use crate::model::upstream::{Declaration, Record};
use crate::registry::Registry;
use crate::store::{Read, Store};
use crate::time::Timestamp;
use crate::worker::candidate::Candidate;
use crate::worker::pool::{Addresses, Pool, WorkerPeer};

/// A worker's copy of an upstream.
pub(crate) struct View {
    name: Rc<str>,
    record: Record,
    record_cas: Option<u32>,
    health: FailureTable,
    health_cas: Option<u32>,
    status: Status,
    status_cas: Option<u32>,
    /// The host's version when this copy was known to be up to date.
    version: Option<u64>,
    positions: Positions,
    /// What is kept for the record's peers from one change to the next; none for those without an address.
    worker_peers: Vec<Option<WorkerPeer>>,
    /// The requests in flight at all peers, through this worker.
    in_flight: Rc<Cell<u32>>,
    /// When counts were last shared, and whether something was in flight then.
    counted: Timestamp,
    was_busy: bool,
    balancer: BalancerSpec,
    kind: Option<Rc<BalancerKind>>,
    registry: Registry,
    seed: u64,
    pool: Pool,
}

impl View {
    /// A copy of nothing yet. `seed` differs from worker to worker.
    pub(crate) fn new(name: &str, seed: u64, registry: Registry) -> Self {
        Self {
            name: Rc::from(name),
            record: Record::new(name),
            record_cas: None,
            health: FailureTable::default(),
            health_cas: None,
            status: Status::default(),
            status_cas: None,
            version: None,
            positions: Positions::default(),
            worker_peers: Vec::new(),
            in_flight: Rc::default(),
            counted: Timestamp::default(),
            was_busy: false,
            balancer: BalancerSpec::default(),
            kind: None,
            registry,
            seed,
            pool: Pool::new(|| Box::new(RoundRobin::weighted())),
        }
    }

    pub(crate) fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// How many candidates a request gets.
    pub(crate) fn wanted(&self) -> usize {
        usize::from(self.record.spec.retries).saturating_add(1)
    }

    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// The peer of that id.
    pub(crate) fn find(&self, id: PeerId) -> Option<&PeerRecord> {
        self.record.peers.get(self.positions.get(id)?)
    }

    /// The number of the record in shared data; none before it was read.
    pub(crate) fn record_number(&self) -> Option<u32> {
        self.record_cas
    }

    pub(crate) fn health(&self) -> &FailureTable {
        &self.health
    }

    pub(crate) fn status(&self) -> &Status {
        &self.status
    }

    /// How peers are picked: the kind of balancer, and its key.
    pub(crate) fn balancer(&self) -> (Option<&BalancerKind>, Option<&Template>) {
        (self.kind.as_deref(), self.balancer.key.as_ref())
    }

    /// Reads again at the next use, whatever the host's version says then.
    pub(crate) fn invalidate(&mut self) {
        self.version = None;
    }

    /// Makes this copy what shared data holds now. An upstream that is not there is declared, where there is
    /// a declaration for it.
    pub(crate) fn refresh(&mut self, host: &dyn Host, declaration: Option<&Declaration<'_>>) -> Result<(), Error> {
        let version = host.version();
        let due = || self.pool.next_change().is_some_and(|change| host.now() >= change);
        if self.version == Some(version) && !due() {
            return Ok(());
        }
        match self.read(host, declaration) {
            // A host that cannot be read for a moment is no reason to refuse a request that the copy can serve.
            Err(Error::Host(_)) if self.record_cas.is_some() => self.version = None,
            Err(error) => return Err(error),
            // Taken before the reads: what was announced since then is read at the next request.
            Ok(()) => self.version = Some(version),
        }
        self.refill(host);
        let now = host.now();
        if self.pool.is_unsettled() || self.record.peers.iter().any(|peer| operator::ended(peer, now).is_some()) {
            // What cannot be written now is tried again at the next refresh: the request does not need it.
            let _ = Store::new(host).expire(&self.record, &self.status);
        }
        Ok(())
    }

    fn read(&mut self, host: &dyn Host, declaration: Option<&Declaration<'_>>) -> Result<(), Error> {
        let store = Store::new(host);
        let mut fresh = store.record_since(&self.name, self.record_cas);
        if matches!(fresh, Ok(Read::Missing) | Err(Error::Corrupt(_))) {
            let Some(declaration) = declaration else {
                self.record_cas = None;
                return Err(fresh.err().unwrap_or_else(|| Error::NoSuchUpstream(self.name.to_string())));
            };
            store.declare(&self.name, declaration)?;
            fresh = store.record_since(&self.name, None);
        }
        match fresh? {
            Read::Unchanged => {}
            Read::Missing => return Err(Error::NoSuchUpstream(self.name.to_string())),
            Read::Changed(record, cas) => {
                self.adopt(record);
                self.record_cas = Some(cas);
                // What is said is read for the peers and monitors that there are.
                self.status_cas = None;
            }
        }
        if let Read::Changed(status, cas) = store.status_unless_current(&self.record, &self.status, self.status_cas)? {
            self.status = status;
            self.status_cas = Some(cas);
            self.update_worker_peers(host);
        }
        match store.health_since(&self.name, self.health_cas)? {
            Read::Unchanged => {}
            Read::Missing => {
                self.health = FailureTable::default();
                self.health_cas = None;
            }
            Read::Changed(health, cas) => {
                self.health = health;
                self.health_cas = Some(cas);
            }
        }
        Ok(())
    }

    fn adopt(&mut self, record: Record) {
        let before = &mut self.worker_peers;
        let mut worker_peer = |id| before.get_mut(self.positions.get(id)?)?.take();
        let worker_peers = record.peers.iter().map(|peer| worker_peer(peer.id)).collect();
        self.worker_peers = worker_peers;
        self.positions = Positions::of(&record.peers);
        if self.balancer != record.spec.balancer || self.kind.is_none() {
            self.balancer = record.spec.balancer.clone();
            self.kind = self.registry.balancer(&self.balancer.name).cloned();
            let options = Options { seed: self.seed, bound: self.balancer.bound, ..Options::default() };
            self.pool = Pool::new(|| match &self.kind {
                Some(kind) => (kind.new)(&options),
                None => Box::new(RoundRobin::weighted()),
            });
        }
        self.record = record;
    }

    /// Gives each peer whose address is known a place here, and keeps what there was where nothing changed.
    fn update_worker_peers(&mut self, host: &dyn Host) {
        for (peer, worker_peer) in self.record.peers.iter().zip(&mut self.worker_peers) {
            let addresses = match peer.host_name() {
                Some(name) if host.capabilities().resolves_names => {
                    let port = peer.server.endpoint().map_or(0, |endpoint| endpoint.port);
                    Addresses::new(std::iter::once(Rc::from(format!("{name}:{port}"))))
                }
                _ => {
                    let addresses = peer.addresses(self.status.of(peer.id));
                    Addresses::new(addresses.iter().map(|address| Rc::from(address.to_string())))
                }
            };
            match (addresses, &mut *worker_peer) {
                (None, _) => *worker_peer = None,
                (Some(addresses), Some(known)) if known.addresses == addresses => {}
                (Some(addresses), Some(known)) => known.addresses = addresses,
                (Some(addresses), None) => {
                    *worker_peer = Some(WorkerPeer {
                        name: Rc::from(peer.server.name.as_str()),
                        addresses,
                        next_address: Cell::default(),
                        load: Rc::new(Load::new(Rc::clone(&self.in_flight))),
                    });
                }
            }
        }
    }

    fn refill(&mut self, host: &dyn Host) {
        self.pool.fill(&self.record.peers, &self.worker_peers, &self.health, &self.status, host.now());
    }

    /// Adds what this worker counted to what all workers share. `worker` is this one's number.
    pub(crate) fn flush_counts(&mut self, host: &dyn Host, worker: u64) {
        let now = host.now();
        let mut is_new = false;
        let mut is_busy = false;
        let counted = self.record.peers.iter().zip(&self.worker_peers).filter_map(|(peer, worker_peer)| {
            let load = &worker_peer.as_ref()?.load;
            let (counts, in_flight) = (load.take_counts(), load.in_flight());
            is_new |= counts != Counts::default();
            is_busy |= in_flight > 0;
            (in_flight > 0 || counts != Counts::default()).then_some((peer.id, counts, in_flight))
        });
        let counted: Vec<_> = counted.collect();
        // A worker that had something in flight says once that it has nothing any more.
        let is_due = is_busy && now.since(self.counted) >= WORD;
        if !is_new && !is_due && is_busy == self.was_busy {
            return;
        }
        if Store::new(host).add_counters(&self.record, worker, &counted).is_ok() {
            (self.counted, self.was_busy) = (now, is_busy);
            return;
        }
        // Not written: counted again next time.
        for (id, counts, _) in counted {
            if let Some(worker_peer) = self.positions.get(id).and_then(|at| self.worker_peers.get(at)?.as_ref()) {
                worker_peer.load.count(|now| *now = counts);
            }
        }
    }

    /// Picks candidates, in the order in which they are to be tried.
    pub(crate) fn pick(&mut self, request: &Pick<'_>) -> [Option<Candidate>; MOST_CANDIDATES] {
        let picked = self.pool.pick(request, self.wanted());
        let mut candidates = [None, None, None];
        for (slot, position) in candidates.iter_mut().zip(picked.as_slice()) {
            let position = *position as usize;
            let peer = self.record.peers.get(position);
            let known = self.worker_peers.get(position).and_then(Option::as_ref);
            *slot = peer
                .zip(known)
                .map(|(peer, known)| Candidate::new(peer.id, Rc::clone(known.address()), Rc::clone(&known.load)));
        }
        candidates
    }
}
