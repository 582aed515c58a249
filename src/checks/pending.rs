//! What is found and not written yet.
//!
//! A [`PendingStatus`] is a copy of an upstream's [`Status`] in shared data, with new events on top of it. Writing is read,
//! decide, swap: where somebody else wrote in the meantime, what they wrote takes the place of the copy, the events are
//! applied to that, and the write is tried again. Good checks wait for a while: a thousand of them cost one write. What
//! changes the use of a peer is written at once.

use std::time::Duration;

use super::by_position::ByPosition;
use super::findings::{Effect, Event};
use crate::host::HostError;
use crate::model::ejection::Assessment;
use crate::model::error::Error;
use crate::model::id::PeerId;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::state::PeerState;
use crate::model::status::Status;
use crate::model::upstream::Record;
use crate::model::verdict;
use crate::store::upstream_state::Cause;
use crate::store::{journal, Read, Store};
use crate::time::Timestamp;
use crate::worker::directory::Directory;
use crate::worker::view::View;

/// How often good checks are written down.
const WRITE: Duration = Duration::from_secs(1);
/// How long a verdict waits for others of the same moment: half of a thousand peers may die at once.
pub(super) const BATCH: Duration = Duration::from_millis(10);
/// The most events that are remembered while they cannot be written.
const MOST_EVENTS: usize = 20_000;
/// How often a write against others' writes is tried.
const TRIES: usize = 100;

/// A copy of what is said of an upstream's peers, and what is new in it.
#[derive(Default)]
pub(super) struct PendingStatus {
    status: Status,
    /// The number of the shared value that this is a copy of.
    number: u32,
    events: Vec<Noted>,
    /// Something is left out that still stands in shared data.
    is_restricted: bool,
    /// The use of a peer changed: everybody has to know.
    is_urgent: bool,
    written: Timestamp,
}

/// An event that is not written yet.
struct Noted {
    peer: PeerId,
    event: Event,
    applied: Applied,
}

/// What an event changed in the copy as that is now.
struct Applied {
    effect: Effect,
    /// What the log says of that once it counts.
    change: Option<StateChange>,
}

/// A line of the log about a peer's state.
struct StateChange {
    peer: String,
    /// The state before and after.
    change: [PeerState; 2],
    /// Whose word that is.
    by: String,
    why: String,
}

/// What is pending of all upstreams, by their positions.
#[derive(Default)]
pub(super) struct Pending(ByPosition<PendingStatus>);

impl Pending {
    pub(super) fn get(&self, position: usize) -> Option<&PendingStatus> {
        self.0.get(position)
    }

    pub(super) fn get_mut(&mut self, position: usize) -> Option<&mut PendingStatus> {
        self.0.get_mut(position)
    }

    /// Drops what is pending of an upstream.
    pub(super) fn remove(&mut self, position: usize) {
        self.0.remove(position);
    }

    /// Whether anything has to be written soon.
    pub(super) fn is_urgent(&self) -> bool {
        self.0.values().any(|pending| pending.is_urgent)
    }

    /// Takes in what others wrote about an upstream's peers. Returns whether there was anything.
    pub(super) fn reload(&mut self, store: &Store<'_>, position: usize, view: &View) -> bool {
        let known = self.get(position).map(|pending| pending.number);
        let Ok(Read::Changed(status, number)) = store.status_since(view.record(), known) else { return false };
        if known.is_none() {
            self.0.set(position, PendingStatus::default());
        }
        if let Some(pending) = self.0.get_mut(position) {
            pending.replace(status, number, view);
        }
        true
    }

    /// Writes what has waited long enough, or all of it; then nothing is kept.
    pub(super) fn write(&mut self, store: &Store<'_>, directory: &Directory, all: bool) -> Result<(), Error> {
        let now = store.now();
        let mut written = Ok(());
        for (position, pending) in self.0.iter_mut() {
            let Some(view) = directory.view(position) else { continue };
            if all || pending.is_due(now) {
                written = pending.write(store, view).and(written);
            }
        }
        if all {
            self.0.clear();
        }
        written
    }
}

impl PendingStatus {
    pub(super) fn status(&self) -> &Status {
        &self.status
    }

    /// What is said of a peer.
    pub(super) fn of(&self, peer: PeerId) -> Option<&PeerStatus> {
        self.status.of(peer)
    }

    /// Takes in an event at a peer, and returns what it changed.
    pub(super) fn note(&mut self, view: &View, peer: &PeerRecord, event: &Event) -> Effect {
        let applied = Applied::of(event, &mut self.status, view, peer);
        let effect = applied.effect;
        self.is_urgent |= effect == Effect::Changed;
        self.events.push(Noted { peer: peer.id, event: event.clone(), applied });
        if self.events.len() > MOST_EVENTS {
            // Shared data has taken no writes for long: all of it stands in the copy, which is written in the end.
            self.events.clear();
        }
        effect
    }

    /// Leaves out what concerns peers and monitors that are gone, also in what is written next.
    pub(super) fn restrict(&mut self, record: &Record) {
        self.status.restrict(record);
        self.events.retain(|noted| noted.event.is_of(record));
        self.is_restricted = true;
    }

    /// Puts in place what others wrote, with what is not written yet on top of it. That may change other things now.
    fn replace(&mut self, status: Status, number: u32, view: &View) {
        (self.status, self.number, self.is_urgent) = (status, number, false);
        for noted in &mut self.events {
            let Some(peer) = view.find(noted.peer) else { continue };
            if noted.event.is_outdated(self.status.of(noted.peer)) {
                noted.applied = Applied { effect: Effect::Noted, change: None };
                continue;
            }
            noted.applied = Applied::of(&noted.event, &mut self.status, view, peer);
            self.is_urgent |= noted.applied.effect == Effect::Changed;
        }
    }

    /// Whether it is time to write.
    fn is_due(&self, now: Timestamp) -> bool {
        let wait = if self.is_urgent { BATCH } else { WRITE };
        now < self.written || now.since(self.written) >= wait
    }

    /// Writes what is not written yet, if there is anything.
    fn write(&mut self, store: &Store<'_>, view: &View) -> Result<(), Error> {
        if !self.is_urgent && !self.is_restricted && self.events.is_empty() {
            return Ok(());
        }
        let record = view.record();
        for _ in 0..TRIES {
            if self.is_urgent {
                self.status.advance();
            }
            match store.write_status(&record.name, &self.status, self.number) {
                Ok(bytes) => {
                    // Where the number cannot be read now, the next write finds out that it is another one.
                    let number = store.status_number(&record.name, &bytes, self.number);
                    self.number = number.unwrap_or(self.number);
                    if self.is_urgent {
                        store.host().announce();
                    }
                    // What an order put an end to meanwhile is not told: it counts for nobody.
                    let latest = match self.is_urgent.then(|| store.record_since(&record.name, view.record_number())) {
                        Some(Ok(Read::Changed(latest, _))) => Some(latest),
                        _ => None,
                    };
                    let counts = |noted: &Noted| {
                        let find = |record: &Record| {
                            record.peers.iter().find(|peer| peer.id == noted.peer).map(|peer| peer.era)
                        };
                        latest.as_ref().is_none_or(|latest| find(latest) == find(record))
                    };
                    let was_urgent = self.is_urgent;
                    (self.is_restricted, self.is_urgent, self.written) = (false, false, store.now());
                    let told = self.events.drain(..).filter(counts);
                    let changes: Vec<(PeerId, StateChange)> =
                        told.filter_map(|noted| Some((noted.peer, noted.applied.change?))).collect();
                    if was_urgent {
                        report(store, view, &self.status, &changes);
                    }
                    return Ok(());
                }
                Err(Error::Host(HostError::Conflict)) => {
                    if let Read::Changed(status, number) = store.status_since(record, Some(self.number))? {
                        self.replace(status, number, view);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::Host(HostError::Conflict))
    }
}

/// Has the log tell of changes that count now, and of what they make of the upstream.
fn report(store: &Store<'_>, view: &View, status: &Status, changes: &[(PeerId, StateChange)]) {
    let record = view.record();
    let assessment = Assessment::of(record, view.health(), status, store.now());
    let [mut latest, mut lifted]: [Option<Cause<'_>>; 2] = [None, None];
    for (id, StateChange { peer, change, by, why }) in changes {
        let kept = view.position(*id).and_then(|at| assessment.get(at)?.1.note());
        journal::observe(store, &record.name, peer, *change, by, why, kept);
        let [from, to] = change;
        if from.is_usable() != to.is_usable() {
            latest = Some(Cause { by, peer, why });
        } else if *from == PeerState::Down {
            // What else was against the peer may have ended by the same check.
            lifted = Some(Cause { by, peer, why });
        }
    }
    // Where all stay in use nothing becomes of the upstream, and to find that out takes a look at all of its peers.
    if changes.is_empty() || changes.iter().any(|(_, noted)| !noted.change.iter().all(|state| state.is_usable())) {
        store.reconcile_state(&record.name, latest.or(lifted));
    }
}

impl Applied {
    fn of(event: &Event, status: &mut Status, view: &View, peer: &PeerRecord) -> Self {
        // What was found before an order that put an end to it does not count.
        status.enter_era_of(peer);
        let (failures, now) = (view.health().of(peer), event.at());
        let before = verdict::effective_state(peer, &failures, status.of(peer.id), now).state;
        let effect = event.apply(status, peer, &failures);
        let change = (effect == Effect::Changed).then(|| {
            let effective = verdict::effective_state(peer, &failures, status.of(peer.id), now);
            let (by, why) = event.reason();
            // What is temporary is no word of those who have one here: theirs was lifted.
            let is_lifted = effective.state.is_usable() || effective.state == PeerState::TemporaryDown;
            let why = if is_lifted { why } else { effective.why().unwrap_or(why) };
            StateChange { peer: peer.server.name.clone(), change: [before, effective.state], by, why }
        });
        Self { effect, change }
    }
}
