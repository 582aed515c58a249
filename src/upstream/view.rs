//! An upstream as one worker sees it: a parsed copy of shared data, and a pool to pick from.
//!
//! A view is brought up to date before each pick. When nothing was announced and no peer's state changes by
//! the clock, that is a comparison of two numbers. Otherwise it reads what is stored and compares its
//! numbers; only what changed is parsed again.

use std::cell::Cell;
use std::rc::Rc;

use super::record::{Declaration, Record};
use crate::balancer::{self, Candidates, Kind, Options, Pick, RoundRobin};
use crate::config::BalancerConfig;
use crate::counters::{Counts, WORD};
use crate::health::{Failures, Health, PeerId};
use crate::host::Host;
use crate::load::Load;
use crate::peer::{self, PeerRecord, Positions};
use crate::pool::{Pool, Seat};
use crate::status::Status;
use crate::store::{Fresh, Store, StoreError};
use crate::template::Template;
use crate::time::Timestamp;

/// A worker's copy of an upstream.
pub(crate) struct View {
    name: Rc<str>,
    record: Record,
    record_cas: Option<u32>,
    health: Health,
    health_cas: Option<u32>,
    status: Status,
    status_cas: Option<u32>,
    /// The host's version when this copy was known to be up to date.
    version: Option<u64>,
    positions: Positions,
    /// What is kept for the record's peers from one change to the next; none for those without an address.
    seats: Vec<Option<Seat>>,
    /// The requests in flight at all peers, through this worker.
    in_flight: Rc<Cell<u32>>,
    /// When counts were last shared, and whether something was in flight then.
    counted: Timestamp,
    was_busy: bool,
    balancer: BalancerConfig,
    kind: Option<&'static Kind>,
    seed: u64,
    pool: Pool,
}

impl View {
    /// A copy of nothing yet. `seed` differs from worker to worker.
    pub(crate) fn new(name: &str, seed: u64) -> Self {
        Self {
            name: Rc::from(name),
            record: Record::new(name),
            record_cas: None,
            health: Health::default(),
            health_cas: None,
            status: Status::default(),
            status_cas: None,
            version: None,
            positions: Positions::default(),
            seats: Vec::new(),
            in_flight: Rc::default(),
            counted: Timestamp::default(),
            was_busy: false,
            balancer: BalancerConfig::default(),
            kind: None,
            seed,
            pool: Pool::new(|| Box::new(RoundRobin::weighted())),
        }
    }

    pub(crate) fn name(&self) -> &Rc<str> {
        &self.name
    }

    /// How many candidates a request gets.
    pub(crate) fn wanted(&self) -> usize {
        usize::from(self.record.config.retries).saturating_add(1)
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

    pub(crate) fn health(&self) -> &Health {
        &self.health
    }

    pub(crate) fn status(&self) -> &Status {
        &self.status
    }

    /// How peers are picked: the kind of balancer, and its key.
    pub(crate) fn balancer(&self) -> (Option<&'static Kind>, Option<&Template>) {
        (self.kind, self.balancer.key.as_ref())
    }

    /// Reads again at the next use, whatever the host's version says then.
    pub(crate) fn doubt(&mut self) {
        self.version = None;
    }

    /// Makes this copy what shared data holds now. An upstream that is not there is declared, where there is
    /// a declaration for it.
    pub(crate) fn refresh(&mut self, host: &dyn Host, declaration: Option<&Declaration<'_>>) -> Result<(), StoreError> {
        let version = host.version();
        let due = || self.pool.next_change().is_some_and(|change| host.now() >= change);
        if self.version == Some(version) && !due() {
            return Ok(());
        }
        match self.read(host, declaration) {
            // A host that cannot be read for a moment is no reason to refuse a request that the copy can serve.
            Err(StoreError::Host(_)) if self.record_cas.is_some() => self.version = None,
            Err(error) => return Err(error),
            // Taken before the reads: what was announced since then is read at the next request.
            Ok(()) => self.version = Some(version),
        }
        self.refill(host);
        if self.pool.is_unsettled() {
            self.settle(host);
        }
        Ok(())
    }

    fn read(&mut self, host: &dyn Host, declaration: Option<&Declaration<'_>>) -> Result<(), StoreError> {
        let store = Store::new(host);
        let mut fresh = store.record_since(&self.name, self.record_cas);
        if matches!(fresh, Ok(Fresh::Absent) | Err(StoreError::Corrupt(_))) {
            let Some(declaration) = declaration else {
                self.record_cas = None;
                return Err(fresh.err().unwrap_or_else(|| StoreError::NoSuchUpstream(self.name.to_string())));
            };
            store.declare(&self.name, declaration)?;
            fresh = store.record_since(&self.name, None);
        }
        match fresh? {
            Fresh::Same => {}
            Fresh::Absent => return Err(StoreError::NoSuchUpstream(self.name.to_string())),
            Fresh::New(record, cas) => {
                self.adopt(record);
                self.record_cas = Some(cas);
                // What is said is read for the peers and monitors that there are.
                self.status_cas = None;
            }
        }
        if let Fresh::New(status, cas) = store.status_turned(&self.record, &self.status, self.status_cas)? {
            self.status = status;
            self.status_cas = Some(cas);
            self.take_seats(host);
        }
        match store.health_since(&self.name, self.health_cas)? {
            Fresh::Same => {}
            Fresh::Absent => {
                self.health = Health::default();
                self.health_cas = None;
            }
            Fresh::New(health, cas) => {
                self.health = health;
                self.health_cas = Some(cas);
            }
        }
        Ok(())
    }

    fn adopt(&mut self, record: Record) {
        let before = &mut self.seats;
        let mut seat = |id| before.get_mut(self.positions.get(id)?)?.take();
        let seats = record.peers.iter().map(|peer| seat(peer.id)).collect();
        self.seats = seats;
        self.positions = Positions::of(&record.peers);
        if self.balancer != record.config.balancer || self.kind.is_none() {
            self.balancer = record.config.balancer.clone();
            self.kind = balancer::kind_named(&self.balancer.name);
            let options = Options { seed: self.seed, bound: self.balancer.bound };
            self.pool = Pool::new(|| {
                balancer::named(&self.balancer.name, &options).unwrap_or_else(|| Box::new(RoundRobin::weighted()))
            });
        }
        self.record = record;
    }

    /// Gives each peer whose address is known a seat, and keeps what there was where nothing changed.
    fn take_seats(&mut self, host: &dyn Host) {
        for (peer, seat) in self.record.peers.iter().zip(&mut self.seats) {
            let addresses: Vec<Rc<str>> = match peer.host_name() {
                Some(name) if host.resolves_names() => {
                    let port = peer.server.endpoint().map_or(0, |endpoint| endpoint.port);
                    vec![Rc::from(format!("{name}:{port}"))]
                }
                _ => {
                    let addresses = peer.addresses(self.status.of(peer.id));
                    addresses.iter().map(|address| Rc::from(address.to_string())).collect()
                }
            };
            match seat {
                _ if addresses.is_empty() => *seat = None,
                Some(seat) if *seat.addresses == *addresses => {}
                Some(seat) => seat.addresses = Rc::from(addresses),
                None => {
                    *seat = Some(Seat {
                        name: Rc::from(peer.server.name.as_str()),
                        addresses: Rc::from(addresses),
                        turn: Cell::default(),
                        load: Rc::new(Load::new(Rc::clone(&self.in_flight))),
                    });
                }
            }
        }
    }

    fn refill(&mut self, host: &dyn Host) {
        self.pool.fill(&self.record.peers, &self.seats, &self.health, &self.status, host.now());
    }

    /// Tells of the peers that are back, once for all workers.
    fn settle(&mut self, host: &dyn Host) {
        let store = Store::new(host);
        let now = host.now();
        // What cannot be written now is tried again at the next refresh: the request does not need it.
        for (id, failures) in store.settle(&self.record).unwrap_or_default() {
            let Some(peer) = self.find(id) else { continue };
            // As it was until a moment ago, by what was counted until then.
            let until = failures.until;
            let just_before = Timestamp::from_nanos(until.as_nanos().saturating_sub(1));
            let said = self.status.of(id);
            let before = peer::standing(peer, &failures, said, just_before).state;
            let after = peer::standing(peer, &Failures::default(), said, now).state;
            store.report(&self.name, &peer.server.name, [before, after], "passive", "fail_timeout passed");
        }
    }

    /// Adds what this worker counted to what all workers share. `worker` is this one's number.
    pub(crate) fn flush_counts(&mut self, host: &dyn Host, worker: u64) {
        let now = host.now();
        let mut is_new = false;
        let mut is_busy = false;
        let counted = self.record.peers.iter().zip(&self.seats).filter_map(|(peer, seat)| {
            let load = &seat.as_ref()?.load;
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
            if let Some(seat) = self.positions.get(id).and_then(|at| self.seats.get(at)?.as_ref()) {
                seat.load.count(|now| *now = counts);
            }
        }
    }

    /// Picks candidates, by their positions in the record.
    pub(crate) fn pick(&mut self, request: &Pick<'_>) -> Candidates {
        let wanted = self.wanted();
        self.pool.pick(request, wanted)
    }

    pub(crate) fn peer(&self, position: u32) -> Option<(&PeerRecord, &Seat)> {
        let position = position as usize;
        Some((self.record.peers.get(position)?, self.seats.get(position)?.as_ref()?))
    }
}
