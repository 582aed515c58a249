//! The lease: which worker makes the checks.
//!
//! Every worker ticks, and one of them checks: the holder of a lease in shared data, which it renews while it lives. When it
//! dies, hangs or is replaced, the lease runs out and another takes it. A value in shared data is all that is needed for that,
//! with compare-and-swap: two can want the lease at the same moment, one gets it.
//!
//! The lease also says up to which time checks were taken, and renewing it takes them: what was due since then is
//! the holder's to do, and nobody else's ever after, even if it dies right away.
//!
//! When a configuration is replaced, workers of the old one and of the new one tick beside each other for a while. A new
//! configuration takes the lease over at once, with the time; workers of the old one see that it is not theirs any more.
//!
//! Layout, all integers little endian: `DPL` and the format's number 1 (4 bytes), the holder (8), the configuration (8), until
//! when it holds in milliseconds (8), up to when checks are taken in nanoseconds (8), the machine's number (8). By hand and of one length, unlike all
//! else that is stored: filters of different versions hold it in turn while one replaces the other, and have to agree on it.

use std::time::Duration;

use crate::host::{Expect, Host, HostError};
use crate::time::Timestamp;

/// For how long a lease is taken. With [`POLL`], less than two seconds pass from the death of a holder to its successor's first
/// check.
const TERM: Duration = Duration::from_millis(1_200);
/// How often the holder renews it at the least, and others look whether it ran out.
pub(crate) const POLL: Duration = Duration::from_millis(400);
/// Checks that were due longer ago than that are left out: the machine slept, or the clock was turned.
const LATEST: Duration = Duration::from_secs(3);

const MAGIC: [u8; 4] = *b"DPL\x01";

/// A worker's hold on the lease of one instance of the filter.
pub(crate) struct Lease {
    key: String,
    me: u64,
    configuration: u64,
    /// This worker has not looked at the lease yet: its configuration may be newer than the holder's.
    is_new: bool,
}

/// What the holder may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// What was due after this time, and until now.
    pub(crate) after: Timestamp,
    /// The time at which they were taken: what is due later is the next grant's.
    pub(crate) now: Timestamp,
    /// A number that all workers of this machine share, and no other machine.
    pub(crate) machine: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    by: u64,
    configuration: u64,
    until: Timestamp,
    taken: Timestamp,
    machine: u64,
}

impl Lease {
    /// For an instance of the filter: `me` tells this worker from others, `configuration` its configuration from others.
    pub(crate) fn new(instance: &str, me: u64, configuration: u64) -> Self {
        Self { key: key(instance), me, configuration, is_new: true }
    }

    /// The number that tells this worker from others.
    pub(crate) fn worker(&self) -> u64 {
        self.me
    }

    /// Takes the lease or renews it, if this worker may have it.
    pub(crate) fn acquire(&mut self, host: &dyn Host) -> Result<Option<Grant>, HostError> {
        let now = host.now();
        let stored = host.read(&self.key)?;
        let expect = stored.as_ref().map_or(Expect::Nothing, |stored| Expect::Cas(stored.cas));
        let held = stored.and_then(|stored| Held::decode(&stored.value));
        let is_mine = held.is_some_and(|held| {
            let ran_out = now >= held.until || held.until > now.after(TERM * 2);
            let is_replaced = self.is_new && held.configuration != self.configuration;
            ran_out || is_replaced || (held.by == self.me && held.configuration == self.configuration)
        });
        if !is_mine && held.is_some() {
            self.is_new = false;
            return Ok(None);
        }
        // A clock that was turned back leaves a time in the future: then nothing is due yet.
        let after = held.map_or(now, |held| held.taken).min(now);
        let machine = held.map_or_else(|| host.random(), |held| held.machine);
        let (by, configuration, until) = (self.me, self.configuration, now.after(TERM));
        let renewed = Held { by, configuration, until, taken: now, machine };
        match host.write(&self.key, &renewed.encode(), expect) {
            Ok(()) => {
                self.is_new = false;
                let earliest = Timestamp::from_nanos(now.as_nanos().saturating_sub(LATEST.as_nanos() as u64));
                Ok(Some(Grant { after: after.max(earliest), now, machine }))
            }
            // Somebody else was faster.
            Err(HostError::Conflict) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn key(instance: &str) -> String {
    format!("durpina/lease/{instance}")
}

/// Whether any worker of this instance of the filter makes checks.
pub(crate) fn is_held(host: &dyn Host, instance: &str) -> bool {
    let now = host.now();
    let held = host.read(&key(instance)).ok().flatten().and_then(|stored| Held::decode(&stored.value));
    held.is_some_and(|held| now < held.until && held.until <= now.after(TERM * 2))
}

impl Held {
    fn encode(self) -> Vec<u8> {
        let numbers =
            [self.by, self.configuration, self.until.as_millis(), self.taken.as_nanos(), self.machine].into_iter();
        MAGIC.into_iter().chain(numbers.flat_map(u64::to_le_bytes)).collect()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let mut numbers = rest.chunks_exact(8).filter_map(|chunk| Some(u64::from_le_bytes(chunk.try_into().ok()?)));
        if *magic != MAGIC || rest.len() != 40 {
            return None;
        }
        Some(Self {
            by: numbers.next()?,
            configuration: numbers.next()?,
            until: Timestamp::from_millis(numbers.next()?),
            taken: Timestamp::from_nanos(numbers.next()?),
            machine: numbers.next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;
    use durpina_sim::Sim;

    fn lease(me: u64, configuration: u64) -> Lease {
        Lease::new("test", me, configuration)
    }

    #[test]
    fn one_of_many_holds_it_and_another_after_its_death() {
        let sim = Sim::new();
        let host = sim.worker();
        let mut workers: Vec<Lease> = (1..5).map(|me| lease(me, 7)).collect();
        let holders = |workers: &mut [Lease]| {
            let grants = workers.iter_mut().map(|worker| worker.acquire(&host).unwrap());
            grants.map(|grant| grant.is_some()).collect::<Vec<_>>()
        };
        assert_eq!(holders(&mut workers), [true, false, false, false]);
        sim.advance(POLL);
        assert_eq!(holders(&mut workers), [true, false, false, false]);
        let mut waited = Duration::ZERO;
        while !holders(&mut workers[1..]).contains(&true) {
            sim.advance(POLL);
            waited += POLL;
        }
        assert!(waited < Duration::from_secs(2), "{waited:?}");
        assert_eq!(workers[0].acquire(&host), Ok(None), "the dead one comes back as any other");
    }

    #[test]
    fn what_is_due_is_granted_once() {
        let sim = Sim::new();
        let host = sim.worker();
        let (mut one, mut two) = (lease(1, 7), lease(2, 7));
        let start = host.now();
        assert_eq!(one.acquire(&host).unwrap().unwrap().after, start);
        sim.advance(Duration::from_millis(300));
        assert_eq!(one.acquire(&host).unwrap().unwrap().after, start);
        let taken = host.now();
        sim.advance(Duration::from_millis(1_500));
        assert_eq!(two.acquire(&host).unwrap().unwrap().after, taken);
        sim.advance(Duration::from_secs(3600));
        let late = one.acquire(&host).unwrap().unwrap().after;
        assert_eq!(host.now().since(late), LATEST, "what a sleeping machine missed is not made up for");
    }

    #[test]
    fn a_new_configuration_takes_over_at_once_and_the_old_one_stays_away() {
        let sim = Sim::new();
        let host = sim.worker();
        let (mut old, mut old_idle, mut new) = (lease(1, 7), lease(2, 7), lease(3, 8));
        let machine = old.acquire(&host).unwrap().unwrap().machine;
        assert_eq!(old_idle.acquire(&host), Ok(None));
        assert_eq!(new.acquire(&host).unwrap().unwrap().machine, machine);
        assert_eq!(old.acquire(&host), Ok(None));
        assert_eq!(old_idle.acquire(&host), Ok(None));
        sim.advance(TERM);
        assert!(old_idle.acquire(&host).unwrap().is_some(), "but checks go on when nobody of the new one is left");
        assert_eq!(new.acquire(&host), Ok(None));
    }

    #[test]
    fn a_clock_turned_back_does_not_stop_the_checks() {
        let sim = Sim::new();
        let host = sim.worker();
        let (mut one, mut two) = (lease(1, 7), lease(2, 7));
        one.acquire(&host).unwrap();
        sim.turn_back(Duration::from_secs(3600));
        assert_eq!(two.acquire(&host).unwrap().unwrap().after, host.now());
    }

    #[test]
    fn of_two_at_the_same_moment_one_gets_it() {
        let sim = Sim::new();
        let host = sim.worker();
        let other = sim.worker();
        let mut rival = lease(2, 7);
        sim.interfere(move || assert!(rival.acquire(&other).unwrap().is_some()));
        assert_eq!(lease(1, 7).acquire(&host), Ok(None));
    }
}
