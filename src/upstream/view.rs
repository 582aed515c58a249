//! An upstream as one worker sees it: a parsed copy of shared data, and a pool to pick from.
//!
//! A view is brought up to date before each pick. When nothing was announced and no peer's state changes by
//! the clock, that is a comparison of two numbers. Otherwise it reads what is stored and compares its
//! numbers; only what changed is parsed again.

use std::rc::Rc;

use super::record::{Declaration, Record};
use crate::balancer::{self, Candidates};
use crate::health::Health;
use crate::host::Host;
use crate::peer::{PeerRecord, PeerState};
use crate::pool::Pool;
use crate::store::{Fresh, Store, StoreError};
use crate::template::Template;

/// A worker's copy of an upstream.
pub(crate) struct View {
    name: Rc<str>,
    record: Record,
    record_cas: Option<u32>,
    health: Health,
    health_cas: Option<u32>,
    /// The host's version when this copy was known to be up to date.
    version: Option<u64>,
    /// The addresses of the record's peers, as the host wants them.
    addresses: Vec<Option<Rc<str>>>,
    balancer: String,
    pool: Pool,
}

impl View {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: Rc::from(name),
            record: Record::new(name),
            record_cas: None,
            health: Health::default(),
            health_cas: None,
            version: None,
            addresses: Vec::new(),
            balancer: String::new(),
            pool: Pool::new(|| Box::new(balancer::RoundRobin::weighted())),
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

    /// What the balancer hashes.
    pub(crate) fn key(&self) -> Option<&Template> {
        self.record.config.balancer.key.as_ref()
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
        let address = |peer: &PeerRecord| peer.server.endpoint()?.literal();
        self.addresses = record.peers.iter().map(|peer| address(peer).map(|a| Rc::from(a.to_string()))).collect();
        let name = record.config.balancer.name.as_str();
        if self.balancer != name {
            self.balancer = name.to_owned();
            self.pool =
                Pool::new(|| balancer::named(name).unwrap_or_else(|| Box::new(balancer::RoundRobin::weighted())));
        }
        self.record = record;
    }

    fn refill(&mut self, host: &dyn Host) {
        self.pool.fill(&self.record.peers, &self.addresses, &self.health, host.now());
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
    pub(crate) fn pick(&mut self, key: &[u8]) -> Candidates {
        let wanted = self.wanted();
        self.pool.pick(key, wanted)
    }

    pub(crate) fn peer(&self, position: u32) -> Option<&PeerRecord> {
        self.record.peers.get(position as usize)
    }

    pub(crate) fn address(&self, position: u32) -> Option<&str> {
        self.addresses.get(position as usize)?.as_deref()
    }
}
