//! An upstream as one worker sees it: a parsed copy of shared data, and a pool to pick from.
//!
//! A view is brought up to date before each pick. When nothing was announced and no peer's state changes by
//! the clock, that is a comparison of two numbers. Otherwise it reads what is stored and compares its
//! numbers; only what changed is parsed again.

use std::cell::Cell;
use std::collections::HashMap;
use std::rc::Rc;

use super::record::{Declaration, Record};
use crate::balancer::{self, Candidates, Options, Pick, RoundRobin};
use crate::config::BalancerConfig;
use crate::health::{Health, PeerId};
use crate::host::Host;
use crate::load::Load;
use crate::peer::{PeerRecord, PeerState};
use crate::pool::{Pool, Seat};
use crate::store::{Fresh, Store, StoreError};

/// A worker's copy of an upstream.
pub(crate) struct View {
    name: Rc<str>,
    record: Record,
    record_cas: Option<u32>,
    health: Health,
    health_cas: Option<u32>,
    /// The host's version when this copy was known to be up to date.
    version: Option<u64>,
    /// What is kept for the record's peers from one change to the next; none for those without an address.
    seats: Vec<Option<Seat>>,
    /// The requests in flight at all peers, through this worker.
    in_flight: Rc<Cell<u32>>,
    balancer: BalancerConfig,
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
            version: None,
            seats: Vec::new(),
            in_flight: Rc::default(),
            balancer: BalancerConfig::default(),
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

    /// How peers are picked.
    pub(crate) fn balancer(&self) -> &BalancerConfig {
        &self.record.config.balancer
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
            }
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
        let before: HashMap<PeerId, Seat> = self
            .record
            .peers
            .iter()
            .map(|peer| peer.id)
            .zip(self.seats.drain(..))
            .filter_map(|(id, seat)| Some((id, seat?)))
            .collect();
        let seat = |peer: &PeerRecord| {
            let address = peer.server.endpoint()?.literal()?;
            let known = before.get(&peer.id).cloned();
            Some(known.unwrap_or_else(|| Seat {
                name: Rc::from(peer.server.name.as_str()),
                address: Rc::from(address.to_string()),
                load: Rc::new(Load::new(Rc::clone(&self.in_flight))),
            }))
        };
        self.seats = record.peers.iter().map(seat).collect();
        if self.balancer != record.config.balancer {
            self.balancer = record.config.balancer.clone();
            let options = Options { seed: self.seed, bound: self.balancer.bound };
            self.pool = Pool::new(|| {
                balancer::named(&self.balancer.name, &options).unwrap_or_else(|| Box::new(RoundRobin::weighted()))
            });
        }
        self.record = record;
    }

    fn refill(&mut self, host: &dyn Host) {
        self.pool.fill(&self.record.peers, &self.seats, &self.health, host.now());
    }

    /// Tells of the peers that are back, once for all workers.
    fn settle(&mut self, host: &dyn Host) {
        let store = Store::new(host);
        // What cannot be written now is tried again at the next refresh: the request does not need it.
        for peer in store.settle(&self.record).unwrap_or_default() {
            store.report(&self.name, &peer, PeerState::TemporaryDown, PeerState::Up, "passive", "fail_timeout passed");
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
