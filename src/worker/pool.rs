//! A pool: the peers of an upstream that can be picked at one moment, behind a balancer.
//!
//! Peers are picked by rank. A backup is offered only behind all others, and becomes the first choice when no
//! other is usable. Those who are only temporarily down come last of all: one of them may be back, and a client
//! that would get an error otherwise can lose nothing. A peer that an operator took out of use is never tried. One on trial gets
//! one request at a time: it has a place, and a limit of 1. The further attempts of a request are not at such a one while there is another.

use std::rc::Rc;

use crate::balancer::{Balancer, BalancerKind, Candidates, Entry, Options, Pick, RoundRobin};
use crate::model::ejection::{Assessment, Kept, Usage};
use crate::model::failure_table::FailureTable;
use crate::model::peer::PeerRecord;
use crate::model::slow_start::{self, FULL_FACTOR};
use crate::model::state::PeerState;
use crate::model::status::Status;
use crate::model::upstream::Record;
use crate::model::upstream_state::{Tally, UpstreamState};
use crate::model::verdict::Owner;
use crate::time::Timestamp;
use crate::worker::peer::{Proof, WorkerPeer};

/// What a pool is made of: each rank's entries, and where their peers stand in the record.
#[derive(Clone, Debug, Default, PartialEq)]
struct Members {
    entries: Vec<Entry>,
    /// For each entry, the peer's position in the record.
    positions: Vec<u32>,
    /// The peers among them that are on trial, in ascending order.
    tried: Vec<u32>,
}

impl Members {
    fn add(&mut self, position: usize, entry: Entry) {
        self.entries.push(entry);
        self.positions.push(u32::try_from(position).unwrap_or(u32::MAX));
    }

    fn is_tried(&self, peer: u32) -> bool {
        self.tried.binary_search(&peer).is_ok()
    }
}

/// Those who are tried before or after others.
#[derive(Default)]
struct Rank {
    /// Told of the members when it is asked next; none before it was asked first.
    balancer: Option<Box<dyn Balancer>>,
    members: Members,
    /// Whether the balancer was told of other members.
    is_stale: bool,
}

impl Rank {
    fn set(&mut self, members: Members) {
        self.is_stale |= self.members.entries != members.entries;
        self.members = members;
    }

    fn pick(&mut self, request: &Pick<'_>, candidates: &mut Candidates, make: impl FnOnce() -> Box<dyn Balancer>) {
        if self.members.entries.is_empty() {
            return;
        }
        let balancer = self.balancer.get_or_insert_with(make);
        if self.is_stale {
            balancer.set_entries(&self.members.entries);
            self.is_stale = false;
        }
        balancer.pick(request, candidates);
    }

    /// Adds peers that are open and not on trial, beginning at the next of them each time.
    fn add_others(&self, number: usize, picked: &mut Candidates) {
        let members = self.members.entries.iter().zip(&self.members.positions);
        let others = members.filter(|(entry, peer)| entry.is_open() && !self.members.is_tried(**peer));
        let start = number.checked_rem(others.clone().count()).unwrap_or(0);
        let in_turn = others.clone().skip(start).chain(others.take(start));
        in_turn.for_each(|(_, peer)| picked.push(*peer));
    }
}

/// The pickable peers of an upstream.
pub(crate) struct Pool {
    /// The kind of its balancers; round robin where there is none.
    kind: Option<Rc<BalancerKind>>,
    options: Options,
    /// In the order in which they are tried.
    ranks: [Rank; 3],
    /// When a peer's state will change by itself.
    next_change: Option<Timestamp>,
    /// Counts the requests that got others in the place of peers on trial.
    spare: usize,
}

impl Pool {
    /// An empty pool, with balancers of a kind.
    pub(crate) fn new(kind: Option<Rc<BalancerKind>>, options: Options) -> Self {
        Self { kind, options, ranks: Default::default(), next_change: None, spare: 0 }
    }

    /// When the pool must be filled again although nothing was announced.
    pub(crate) fn next_change(&self) -> Option<Timestamp> {
        self.next_change
    }

    /// Fills the pool with those of the record's peers that can be picked at this moment. `worker_peers` are theirs; a peer whose
    /// address is not known has none and cannot be picked. Returns the upstream's state.
    pub(crate) fn fill(
        &mut self,
        record: &Record,
        worker_peers: &[Option<WorkerPeer>],
        health: &FailureTable,
        status: &Status,
        now: Timestamp,
    ) -> UpstreamState {
        let peers = &record.peers;
        let mut ranks = [Members::default(), Members::default(), Members::default()];
        self.next_change = None;
        let weight = |peer: &PeerRecord| peer.hundredths(status.of(peer.id).and_then(|status| status.agent.as_ref()));
        // Whole weights stay as they are written; where an agent made a fraction of one, all are in hundredths.
        let weights: Vec<u32> = peers.iter().map(weight).collect();
        let weight_scale = if weights.iter().all(|weight| weight % 100 == 0) { 1 } else { 100 };
        let assessment = Assessment::of(record, health, status, now);
        let own = self.kind.as_ref().and_then(|kind| kind.own());
        let all = peers.iter().zip(worker_peers).zip(weights).zip(&assessment.peers).enumerate();
        for (at, (((peer, worker_peer), weight), (effective, usage))) in all {
            let said = status.of(peer.id);
            let (slow_start_factor, growth) = slow_start::factor(peer, &health.of(peer), said, now);
            self.next_change = [self.next_change, effective.until, growth].into_iter().flatten().min();
            let Some(worker_peer) = worker_peer else { continue };
            let limit = said.and_then(|status| status.agent.as_ref()).and_then(|agent| agent.max_conns);
            let limit = limit.unwrap_or_else(|| peer.max_conns());
            let is_tried = *usage == Usage::Kept(Kept::OnTrial);
            let limit = if is_tried { 1 } else { limit };
            let proof = match (usage, effective.owner) {
                (Usage::Kept(Kept::OnTrial), _) => Proof::Trial,
                (Usage::Kept(_), Owner::Passive(..)) => Proof::Kept,
                _ => Proof::None,
            };
            worker_peer.set_limit(proof, limit);
            // Who is out of use stays among the entries: those who hash keys hold its place for it.
            let slow_start_factor = if usage.is_in_use() { slow_start_factor } else { 0 };
            let [primary, backup, resting] = &mut ranks;
            let members = if peer.server.backup { backup } else { primary };
            let (name, load) = (Rc::clone(&worker_peer.name), Rc::clone(&worker_peer.load));
            let entry = Entry {
                name,
                weight: if weight_scale == 1 { weight / 100 } else { weight },
                weight_scale,
                slow_start_factor,
                is_limited: limit != 0,
                load,
                labels: own.and_then(|own| own.labels(&peer.server.labels)),
            };
            if effective.state == PeerState::TemporaryDown && !usage.is_in_use() {
                resting.add(at, Entry { slow_start_factor: FULL_FACTOR, ..entry.clone() });
            }
            members.add(at, entry);
            if is_tried {
                members.tried.push(u32::try_from(at).unwrap_or(u32::MAX));
            }
        }
        for (rank, members) in self.ranks.iter_mut().zip(ranks) {
            rank.set(members);
        }
        Tally::of(record, &assessment, now).state
    }

    /// Up to `wanted` peers in the order in which they are to be tried, none twice, by their positions in
    /// the record. `own_options` are those of a balancer of one's own.
    pub(crate) fn pick(&mut self, request: &Pick<'_>, wanted: usize, own_options: &str) -> Candidates {
        let mut picked = Candidates::with_room_for(wanted);
        let mut tried = Candidates::with_room_for(wanted);
        for rank in &mut self.ranks {
            if picked.is_full() {
                break;
            }
            let mut candidates = Candidates::with_room_for(picked.room());
            rank.pick(request, &mut candidates, || match &self.kind {
                Some(kind) => kind.make(&self.options, own_options),
                None => Box::new(RoundRobin::weighted()),
            });
            let positions = candidates.as_slice().iter();
            for peer in positions.filter_map(|position| rank.members.positions.get(*position as usize)) {
                let is_further = !picked.as_slice().is_empty();
                if is_further && rank.members.is_tried(*peer) {
                    tried.push(*peer);
                } else {
                    picked.push(*peer);
                }
            }
            if !tried.as_slice().is_empty() {
                self.spare = self.spare.wrapping_add(1);
                rank.add_others(self.spare, &mut picked);
            }
        }
        tried.as_slice().iter().for_each(|peer| picked.push(*peer));
        picked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::load::Load;
    use crate::model::failures::Failures;
    use crate::model::id::PeerId;
    use crate::model::server::Server;
    use crate::testing::test;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn down(seconds: u64) -> Failures {
        let last = Timestamp::from_nanos(NOW.after(Duration::from_secs(seconds)).as_nanos() - 10_000_000_000);
        Failures { count: 1, is_outage: true, of_requests: false, since: NOW, last, ..Failures::default() }
    }

    /// Who is picked, from servers in the grammar of the configuration and the failures of some of them.
    fn picks(servers: &[Server], failures: &[(usize, Failures)], now: Timestamp, wanted: usize) -> Vec<u32> {
        let peer = |(id, server): (u32, &Server)| PeerRecord::new(PeerId(id), server.clone(), true);
        let mut record = Record::new("u");
        record.spec.max_ejected_percent = 100;
        record.peers = (0..).zip(servers).map(peer).collect();
        let worker_peer = |server: &Server| WorkerPeer::new(&server.name, Load::default(), vec![server.name.clone()]);
        let worker_peers: Vec<Option<WorkerPeer>> = servers.iter().map(worker_peer).collect();
        let mut health = FailureTable::default();
        failures.iter().for_each(|(at, failures)| health.set(&record.peers[*at], *failures));
        let mut pool = Pool::new(None, Options::default());
        pool.fill(&record, &worker_peers, &health, &Status::default(), now);
        pool.pick(&Pick::default(), wanted, "").as_slice().to_vec()
    }

    /// A balancer of one's own that names these positions, whoever is there.
    fn picks_of_own(servers: &[Server], named: &'static [u32], wanted: usize) -> Vec<u32> {
        struct Own(&'static [u32]);
        impl Balancer for Own {
            fn set_entries(&mut self, _: &[Entry]) {}

            fn pick(&mut self, _: &Pick<'_>, candidates: &mut Candidates) {
                self.0.iter().for_each(|at| candidates.push(*at));
            }
        }
        let kind = Rc::new(BalancerKind::new("own", move |_, _| Box::new(Own(named))));
        let mut record = Record::new("u");
        record.peers =
            (0..).zip(servers).map(|(id, server)| PeerRecord::new(PeerId(id), server.clone(), true)).collect();
        let worker_peer = |server: &Server| WorkerPeer::new(&server.name, Load::default(), vec![server.name.clone()]);
        let worker_peers: Vec<Option<WorkerPeer>> = servers.iter().map(worker_peer).collect();
        let mut pool = Pool::new(Some(kind), Options::default());
        pool.fill(&record, &worker_peers, &FailureTable::default(), &Status::default(), NOW);
        pool.pick(&Pick::default(), wanted, "").as_slice().to_vec()
    }

    #[test]
    fn what_a_balancer_of_ones_own_names_is_there_and_open() {
        let servers = [server("a"), server("b"), Server { down: true, ..server("c") }, server("d")];
        assert_eq!(picks_of_own(&servers, &[3, 0], 3), [3, 0]);
        assert_eq!(picks_of_own(&servers, &[1, 1, 1, 0], 3), [1, 0], "nobody twice");
        assert_eq!(picks_of_own(&servers, &[2, 0], 3), [0], "nobody who is down");
        assert_eq!(picks_of_own(&servers, &[17, u32::MAX, 0], 3), [0], "nobody who is not there");
        assert_eq!(picks_of_own(&servers, &[], 3), [0; 0]);
    }

    fn server(name: &str) -> Server {
        Server { name: name.to_owned(), ..Server::default() }
    }

    #[test]
    fn backups_come_last() {
        let servers = [Server { backup: true, ..server("b") }, server("p"), server("q")];
        assert_eq!(picks(&servers, &[], NOW, 3), [1, 2, 0]);
        assert_eq!(picks(&servers, &[], NOW, 2), [1, 2]);
        assert_eq!(picks(&servers, &[(1, down(5)), (2, down(5))], NOW, 3), [0, 1, 2]);
    }

    #[test]
    fn who_is_temporarily_down_is_the_last_resort() {
        let servers = [server("a"), Server { backup: true, ..server("b") }, Server { down: true, ..server("c") }];
        assert_eq!(picks(&servers, &[(0, down(5)), (1, down(5))], NOW, 3), [1, 0], "but never who was taken down");
        assert_eq!(picks(&servers, &[(0, down(5))], NOW, 3), [1, 0], "and behind everybody who is usable");
        assert_eq!(picks(&servers, &[(0, down(5))], NOW.after(Duration::from_secs(5)), 3), [0, 1]);
        let servers = [server("a"), Server { down: true, ..server("b") }];
        assert_eq!(picks(&servers, &[(0, down(5))], NOW, 3), [0], "and the last one that is left");
        let drained = [Server { drain: true, ..server("a") }, Server { down: true, ..server("b") }];
        assert!(picks(&drained, &[], NOW, 3).is_empty());
    }
}
