//! An upstream as one worker sees it: a parsed copy of shared data, and a pool to pick from.
//!
//! A view is brought up to date before each pick. When nothing was announced and no peer's state changes by
//! the clock, that is a comparison of two numbers. Otherwise it reads what is stored and compares its
//! numbers; only what changed is parsed again.
//!
//! Most upstreams of a large configuration are never used by most workers. Those cost their record: what picks need is made by the
//! first pick, brought up to date by the next one after a change, and let go when there were none for a while.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use crate::balancer::load::Load;
use crate::balancer::{BalancerKind, Options, Pick};
use crate::host::{Host, MOST_CANDIDATES};
use crate::model::admin_state::AdminState;
use crate::model::counters::{Counts, WORD};
use crate::model::error::Error;
use crate::model::failure_table::FailureTable;
use crate::model::id::PeerId;
use crate::model::operator;
use crate::model::peer::PeerRecord;
use crate::model::positions::Positions;
use crate::model::status::Status;
use crate::model::template::Template;
use crate::model::upstream::{Declaration, Record};
use crate::model::upstream_state::UpstreamState;
use crate::registry::Registry;
use crate::store::{Read, Store};
use crate::time::Timestamp;
use crate::worker::candidate::Candidate;
use crate::worker::peer::WorkerPeer;
use crate::worker::pool::Pool;

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
    kind: Option<Rc<BalancerKind>>,
    registry: Registry,
    seed: u64,
    /// What is kept for the record's peers from one change to the next; none for those without an address, and none at all while
    /// nobody picks.
    worker_peers: Vec<Option<WorkerPeer>>,
    /// The peers or their addresses changed since.
    worker_peers_are_stale: bool,
    /// The requests in flight at all peers, through this worker.
    in_flight: Rc<Cell<u32>>,
    /// None while nobody picks.
    pool: Option<Pool>,
    /// Something that picks depend on changed since the pool was filled.
    pool_is_stale: bool,
    /// The upstream's state that this worker last saw to, while none is told.
    state: Option<UpstreamState>,
    /// Somebody picked since it was last asked whether the pool can go, and since when nobody did.
    was_picked: bool,
    unused_since: Timestamp,
    /// When counts were last shared, and whether something was in flight then.
    counted: Timestamp,
    was_busy: bool,
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
            kind: None,
            registry,
            seed,
            worker_peers: Vec::new(),
            worker_peers_are_stale: false,
            in_flight: Rc::default(),
            pool: None,
            pool_is_stale: false,
            state: None,
            was_picked: false,
            unused_since: Timestamp::default(),
            counted: Timestamp::default(),
            was_busy: false,
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
        self.record.peers.get(self.position(id)?)
    }

    /// Where the peer of that id stands in the record.
    pub(crate) fn position(&self, id: PeerId) -> Option<usize> {
        self.positions.get(id)
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
        (self.kind.as_deref(), self.record.spec.balancer.key.as_ref())
    }

    /// Reads again at the next use, whatever the host's version says then.
    pub(crate) fn invalidate(&mut self) {
        self.version = None;
    }

    /// Makes this copy what shared data holds now. An upstream that is not there is declared, where there is
    /// a declaration for it.
    pub(crate) fn refresh(&mut self, host: &dyn Host, declaration: Option<&Declaration<'_>>) -> Result<(), Error> {
        let version = host.version();
        let next_change = self.pool.as_ref().filter(|_| !self.pool_is_stale).and_then(Pool::next_change);
        if self.version == Some(version) && next_change.is_none_or(|change| host.now() < change) {
            return Ok(());
        }
        // What changes by the clock is looked at anew, because clocks are set, too.
        self.pool_is_stale |= next_change.is_some();
        match self.read(host, declaration) {
            // A host that cannot be read for a moment is no reason to refuse a request that the copy can serve.
            Err(Error::Host(_)) if self.record_cas.is_some() => self.version = None,
            Err(error) => return Err(error),
            // Taken before the reads: what was announced since then is read at the next request.
            Ok(()) => self.version = Some(version),
        }
        if self.is_unsettled(host) {
            // What cannot be written now is tried again at the next refresh: the request does not need it.
            let _ = Store::new(host).expire(&self.record, &self.status);
        }
        Ok(())
    }

    /// Whether failures are kept that no longer count, or those of peers that are gone, or an order that has ended by itself.
    fn is_unsettled(&self, host: &dyn Host) -> bool {
        let ends = |peer: &&PeerRecord| matches!(peer.overrides.admin_state, Some((AdminState::TemporaryDown, _)));
        if self.health.len() == 0 && !self.record.peers.iter().any(|peer| ends(&peer)) {
            return false;
        }
        let now = host.now();
        let counts = |peer: &PeerRecord| self.health.of(peer).counts(now, peer.fail_timeout(), peer.slow_start());
        self.health.peers().any(|id| !self.find(id).is_some_and(counts))
            || self.record.peers.iter().filter(ends).any(|peer| operator::ended(peer, now).is_some())
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
            (self.worker_peers_are_stale, self.pool_is_stale) = (true, true);
        }
        match store.health_since(&self.name, self.health_cas)? {
            Read::Unchanged => {}
            Read::Missing => {
                self.pool_is_stale |= self.health_cas.is_some();
                (self.health, self.health_cas) = (FailureTable::default(), None);
            }
            Read::Changed(health, cas) => {
                (self.health, self.health_cas) = (health, Some(cas));
                self.pool_is_stale = true;
            }
        }
        Ok(())
    }

    fn adopt(&mut self, record: Record) {
        if !self.worker_peers.is_empty() {
            let before = &mut self.worker_peers;
            let mut worker_peer = |id| before.get_mut(self.positions.get(id)?)?.take();
            self.worker_peers = record.peers.iter().map(|peer| worker_peer(peer.id)).collect();
        }
        (self.worker_peers_are_stale, self.pool_is_stale) = (true, true);
        self.positions = Positions::of(&record.peers);
        if self.record.spec.balancer != record.spec.balancer || self.kind.is_none() {
            self.kind = self.registry.balancer(&record.spec.balancer.name).cloned();
            self.pool = None;
        }
        self.record = record;
    }

    /// Gives each peer whose address is known a place here, and keeps what there was where nothing changed.
    fn update_worker_peers(&mut self, host: &dyn Host) {
        self.worker_peers.resize_with(self.record.peers.len(), || None);
        for (peer, worker_peer) in self.record.peers.iter().zip(&mut self.worker_peers) {
            let addresses: Vec<String> = match peer.host_name() {
                Some(name) if host.capabilities().resolves_names => {
                    let port = peer.server.endpoint().map_or(0, |endpoint| endpoint.port);
                    vec![format!("{name}:{port}")]
                }
                _ => peer.addresses(self.status.of(peer.id)).iter().map(ToString::to_string).collect(),
            };
            *worker_peer = match worker_peer.take() {
                Some(known) => known.at(addresses),
                None => WorkerPeer::new(&peer.server.name, Load::new(Rc::clone(&self.in_flight)), addresses),
            };
        }
    }

    /// Makes the pool what it has to be for a pick at this moment.
    #[inline(never)]
    fn fill(&mut self, host: &dyn Host) {
        if self.worker_peers_are_stale || self.worker_peers.is_empty() {
            self.update_worker_peers(host);
            self.worker_peers_are_stale = false;
        }
        let balancer = &self.record.spec.balancer;
        let options = Options { seed: self.seed, bound: balancer.bound, reduction: balancer.reduction };
        let pool = self.pool.get_or_insert_with(|| Pool::new(self.kind.clone(), options));
        let state = pool.fill(&self.record, &self.worker_peers, &self.health, &self.status, host.now());
        self.pool_is_stale = false;
        let store = Store::new(host);
        // Others told of other states meanwhile; and the worker that made it so may not have got round to telling of it.
        let told = store.told_state(&self.name).ok().flatten().map(|told| told.state);
        if told.or(self.state) != Some(state) {
            self.state = store.reconcile_state(&self.name, None);
        }
    }

    /// Lets go of what picks need, if there were none for so long. To be called now and then.
    pub(crate) fn let_go(&mut self, now: Timestamp, after: Duration) {
        if self.pool.is_none() && self.worker_peers.is_empty() {
            return;
        }
        if std::mem::take(&mut self.was_picked) || now < self.unused_since {
            self.unused_since = now;
        }
        if now.since(self.unused_since) < after {
            return;
        }
        self.pool = None;
        // What is under way is still counted, and what was counted is still to be shared.
        let is_counted = |worker_peer: &WorkerPeer| worker_peer.load.has_counts();
        if self.in_flight.get() == 0 && !self.was_busy && !self.worker_peers.iter().flatten().any(is_counted) {
            self.worker_peers = Vec::new();
        }
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
            if let Some(worker_peer) = self.worker_peer(id) {
                worker_peer.load.count(|now| *now = counts);
            }
        }
    }

    /// Picks candidates, in the order in which they are to be tried.
    pub(crate) fn pick(&mut self, host: &dyn Host, request: &Pick<'_>) -> [Option<Candidate>; MOST_CANDIDATES] {
        let mut candidates = [None, None, None];
        if self.pool_is_stale || self.pool.is_none() {
            self.fill(host);
        }
        self.was_picked = true;
        let wanted = self.wanted();
        let Some(pool) = &mut self.pool else { return candidates };
        let picked = pool.pick(request, wanted, &self.record.spec.balancer.options);
        for (slot, position) in candidates.iter_mut().zip(picked.as_slice()) {
            let position = *position as usize;
            let peer = self.record.peers.get(position);
            let known = self.worker_peers.get(position).and_then(Option::as_ref);
            *slot = peer.zip(known).map(|(peer, known)| Candidate::of(peer.id, known, || host.now()));
        }
        candidates
    }

    /// Notes that a request goes to a peer on trial.
    pub(crate) fn begin_trial(&self, host: &dyn Host, id: PeerId) {
        if let Some(peer) = self.find(id) {
            // Where that cannot be written the trial may be forgotten early: the peer is in use then.
            let _ = Store::new(host).begin_trial(&self.name, peer);
        }
    }

    /// The peer at that address, as far as picks know it.
    pub(crate) fn candidate_at(&self, address: &str) -> Option<Candidate> {
        self.record.peers.iter().zip(&self.worker_peers).find_map(|(peer, worker_peer)| {
            let worker_peer = worker_peer.as_ref()?;
            Some(Candidate::at(peer.id, worker_peer, worker_peer.known_address(address)?))
        })
    }

    /// What is kept for the peer of that id.
    pub(crate) fn worker_peer(&self, id: PeerId) -> Option<&WorkerPeer> {
        self.worker_peers.get(self.position(id)?)?.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::load::InFlight;
    use crate::model::server::Server;
    use crate::model::spec::{BalancerSpec, UpstreamSpec};
    use crate::testing::test;
    use durpina_sim::{Sim, SimHost};

    const AFTER: Duration = Duration::from_secs(5);

    /// A view of an upstream of three peers that was read, as for checks.
    fn view(host: &SimHost, balancer: &str) -> View {
        let servers = ["a:1", "b:1", "c:1"].map(|name| Server { name: name.to_owned(), ..Server::default() });
        let balancer = BalancerSpec { name: balancer.to_owned(), ..BalancerSpec::default() };
        let spec = UpstreamSpec { servers: servers.to_vec(), balancer, ..UpstreamSpec::default() };
        let mut view = View::new("u", 1, Registry::default());
        view.refresh(host, Some(&Declaration { instance: "i", spec: &spec, fingerprint: 1 })).unwrap();
        view
    }

    fn host(sim: &Sim) -> SimHost {
        sim.worker()
    }

    fn picked(view: &mut View, host: &SimHost) -> Vec<Candidate> {
        view.refresh(host, None).unwrap();
        view.pick(host, &Pick::default()).into_iter().flatten().collect()
    }

    #[test]
    fn who_is_not_used_has_a_record_and_no_more() {
        let sim = Sim::with(crate::host::Capabilities { resolves_names: true, ..Default::default() });
        let host = host(&sim);
        let mut view = view(&host, "round-robin");
        assert_eq!(view.record().peers.len(), 3);
        assert!(view.pool.is_none() && view.worker_peers.capacity() == 0);
        assert_eq!(picked(&mut view, &host).len(), 3);
        assert!(view.pool.is_some() && view.worker_peers.len() == 3);
    }

    #[test]
    fn what_picks_need_is_let_go_after_a_while_and_made_again() {
        let sim = Sim::with(crate::host::Capabilities { resolves_names: true, ..Default::default() });
        let host = host(&sim);
        let mut view = view(&host, "least-conn");
        let candidate = picked(&mut view, &host).swap_remove(0);
        let request = InFlight::begin(Rc::clone(&candidate.load), host.now());
        let pass = |view: &mut View, seconds: u64| {
            for _ in 0..seconds {
                sim.advance(Duration::from_secs(1));
                view.flush_counts(&host, 1);
                view.let_go(host.now(), AFTER);
            }
        };
        pass(&mut view, 5);
        assert!(view.pool.is_some(), "it was used at the beginning of the first second");
        pass(&mut view, 1);
        assert!(view.pool.is_none() && view.worker_peers.len() == 3, "a request is under way");
        let again = picked(&mut view, &host);
        assert_ne!(again[0].peer, candidate.peer);
        assert!(again.iter().any(|again| Rc::ptr_eq(&again.load, &candidate.load)), "and still counted");
        drop(request);
        pass(&mut view, 6);
        assert!(view.pool.is_none() && view.worker_peers.capacity() == 0);
        assert_eq!(Store::new(&host).counters("u").unwrap().of(candidate.peer).picks, 1, "nothing counted is lost");
        assert_eq!(picked(&mut view, &host).len(), 3);
    }
}
