//! Who runs a monitor of one's own right now, and how often it took its VM with it.
//!
//! A panic ends a VM without a word. So before such a monitor runs that is written down, and afterwards that it is over. Whoever
//! finds it running for longer than any code may run knows that the VM died of it, or hangs in it; then the monitor rests: 10 s at
//! first, twice as long each time that it happens again, 10 minutes at the most. A monitor that lasts for 10 minutes after a rest starts anew.
//!
//! Layout, all integers little endian: the monitor's number (4 bytes), the worker (8), since when it runs in milliseconds (8), the
//! peer's id (4), how often it crashed (4), until when it rests in milliseconds (8).

use std::time::Duration;

use crate::host::Expect;
use crate::model::error::Error;
use crate::model::id::PeerId;
use crate::model::spec::MonitorSpec;
use crate::store::{keys, Store};
use crate::time::Timestamp;

/// A monitor that runs for longer has crashed, or hangs.
const STALE: Duration = Duration::from_millis(500);
const FIRST_REST: Duration = Duration::from_secs(10);
const LONGEST_REST: Duration = Duration::from_secs(600);

/// Whether a monitor may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// It may, and that it does is written down.
    Runs,
    /// It rests.
    Rests,
    /// It rests from now on: it crashed at this peer, so many times by now, and rests for so long.
    Crashed(PeerId, u32, Duration),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Run {
    monitor: u32,
    /// 0 while it does not run.
    worker: u64,
    since: Timestamp,
    peer: u32,
    crashes: u32,
    rests_until: Timestamp,
}

impl Run {
    fn encode(self) -> Vec<u8> {
        let mut bytes = self.monitor.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.worker.to_le_bytes());
        bytes.extend_from_slice(&self.since.as_millis().to_le_bytes());
        bytes.extend_from_slice(&self.peer.to_le_bytes());
        bytes.extend_from_slice(&self.crashes.to_le_bytes());
        bytes.extend_from_slice(&self.rests_until.as_millis().to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (monitor, rest) = bytes.split_first_chunk()?;
        let (worker, rest) = rest.split_first_chunk()?;
        let (since, rest) = rest.split_first_chunk()?;
        let (peer, rest) = rest.split_first_chunk()?;
        let (crashes, rest) = rest.split_first_chunk()?;
        Some(Self {
            monitor: u32::from_le_bytes(*monitor),
            worker: u64::from_le_bytes(*worker),
            since: Timestamp::from_millis(u64::from_le_bytes(*since)),
            peer: u32::from_le_bytes(*peer),
            crashes: u32::from_le_bytes(*crashes),
            rests_until: Timestamp::from_millis(u64::from_le_bytes(rest.try_into().ok()?)),
        })
    }

    /// What becomes of it when this worker wants to run the monitor at this peer.
    fn begin(&mut self, worker: u64, peer: PeerId, now: Timestamp) -> Begun {
        let is_stale = now < self.since || now.since(self.since) >= STALE;
        if self.worker != 0 && self.worker != worker && is_stale {
            let lasted = self.since.since(self.rests_until) >= LONGEST_REST;
            self.crashes = if lasted { 1 } else { self.crashes.saturating_add(1) };
            let doubled = FIRST_REST.saturating_mul(1 << self.crashes.saturating_sub(1).min(16));
            let rest = doubled.min(LONGEST_REST);
            (self.worker, self.rests_until) = (0, now.after(rest));
            return Begun::Crashed(PeerId(self.peer), self.crashes, rest);
        }
        // A clock that was turned back does not make a rest longer.
        if now < self.rests_until && self.rests_until <= now.after(LONGEST_REST) {
            return Begun::Rests;
        }
        (self.worker, self.since, self.peer) = (worker, now, peer.0);
        Begun::Runs
    }
}

impl Store<'_> {
    /// Says that a worker runs a monitor at a peer, if it may.
    pub(crate) fn begin_run(
        &self,
        upstream: &str,
        monitor: &MonitorSpec,
        worker: u64,
        peer: PeerId,
    ) -> Result<Begun, Error> {
        let mut begun = Begun::Rests;
        self.update_run(upstream, monitor, &mut |run| begun = run.begin(worker, peer, self.now()))?;
        Ok(begun)
    }

    /// Says that it is over.
    pub(crate) fn end_run(&self, upstream: &str, monitor: &MonitorSpec, worker: u64) -> Result<(), Error> {
        self.update_run(upstream, monitor, &mut |run| {
            if run.worker == worker {
                run.worker = 0;
            }
        })
    }

    fn update_run(&self, upstream: &str, monitor: &MonitorSpec, change: &mut dyn FnMut(&mut Run)) -> Result<(), Error> {
        let key = keys::run(upstream, &monitor.id);
        self.retry(&mut || {
            let stored = self.host().read(&key)?;
            let expect = stored.as_ref().map_or(Expect::Nothing, |stored| Expect::Cas(stored.cas));
            let known = stored.and_then(|stored| Run::decode(&stored.value));
            let before = known.filter(|run| run.monitor == monitor.number).unwrap_or_default();
            let mut after = Run { monitor: monitor.number, ..before };
            change(&mut after);
            if after != before {
                self.host().write(&key, &after.encode(), expect)?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;
    use durpina_sim::Sim;

    #[test]
    fn a_monitor_that_takes_its_vm_with_it_rests_for_longer_and_longer() {
        let sim = Sim::new();
        let host = sim.worker();
        let store = Store::new(&host);
        let spec = MonitorSpec { id: "m".to_owned(), number: 7, ..MonitorSpec::default() };
        let begin = |worker| store.begin_run("u", &spec, worker, PeerId(3)).unwrap();
        for (times, rest) in [(1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 320), (7, 600), (8, 600)] {
            assert_eq!(begin(times), Begun::Runs);
            sim.advance(STALE);
            assert_eq!(begin(99), Begun::Crashed(PeerId(3), times as u32, Duration::from_secs(rest)));
            sim.advance(Duration::from_secs(rest) - Duration::from_millis(1));
            assert_eq!(begin(99), Begun::Rests);
            sim.advance(Duration::from_millis(1));
        }
        sim.advance(LONGEST_REST);
        assert_eq!(begin(1), Begun::Runs);
        sim.advance(STALE);
        assert!(matches!(begin(2), Begun::Crashed(_, 1, FIRST_REST)), "it lasted for long, and starts anew");
        let other = MonitorSpec { number: 8, ..spec.clone() };
        assert_eq!(store.begin_run("u", &other, 2, PeerId(3)), Ok(Begun::Runs), "another monitor of that id");
    }

    #[test]
    fn what_ends_has_not_crashed() {
        let sim = Sim::new();
        let host = sim.worker();
        let store = Store::new(&host);
        let spec = MonitorSpec { id: "m".to_owned(), ..MonitorSpec::default() };
        assert_eq!(store.begin_run("u", &spec, 1, PeerId(1)), Ok(Begun::Runs));
        assert_eq!(store.begin_run("u", &spec, 2, PeerId(1)), Ok(Begun::Runs), "of two at the same moment none has");
        store.end_run("u", &spec, 1).unwrap();
        store.end_run("u", &spec, 2).unwrap();
        sim.advance(Duration::from_secs(60));
        assert_eq!(store.begin_run("u", &spec, 3, PeerId(1)), Ok(Begun::Runs));
    }
}
