//! What one worker has under way at a peer, and how fast the peer answered it.
//!
//! Loads are counted by each worker for itself: they change with every request, and sharing them would cost more
//! than it tells. A worker's own requests are a fair sample of all.
//!
//! A request that is under way is an [`InFlight`]. It ends when that is dropped, so nothing that ends a request
//! early, a client that goes away or a worker's configuration that is replaced, leaves a count behind.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

use crate::model::counters::Counts;
use crate::time::Timestamp;

/// How long a response time is remembered: after this time it counts 1/e. The value of Finagle and linkerd2.
const DECAY: Duration = Duration::from_secs(10);

/// What a failure counts as, at least: a peer that refuses does so quickly, and must not look fast.
const FAILURE: Duration = Duration::from_secs(1);

/// Positions of entries whose load changed, for a balancer that keeps them in order.
pub(super) type Changed = Rc<RefCell<Vec<u32>>>;

/// One worker's view of how busy a peer is.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: Cell<u32>,
    limit: Cell<u32>,
    /// The requests in flight at all peers of the upstream.
    total: Rc<Cell<u32>>,
    latency: Cell<Latency>,
    /// What was counted since the last [`take_counts`](Self::take_counts).
    counts: Cell<Counts>,
    /// Who wants to know of changes, as long as there is such a one, and by which position it knows this peer.
    watcher: RefCell<(Weak<RefCell<Vec<u32>>>, u32)>,
}

/// A peak-sensitive moving average of response times: it rises at once to a slow one, and falls with time.
///
/// Source: "Peak EWMA" in Finagle and linkerd, `linkerd2-proxy/linkerd/ewma` and `tower/src/load/peak_ewma.rs`.
#[derive(Clone, Copy, Debug, Default)]
struct Latency {
    /// Nanoseconds; 0 before the first response.
    average: f64,
    at: Timestamp,
}

impl Latency {
    fn at(self, now: Timestamp) -> f64 {
        let age = now.since(self.at).as_secs_f64() / DECAY.as_secs_f64();
        self.average * (-age).exp()
    }

    fn and(self, took: f64, now: Timestamp) -> Self {
        let kept = (-(now.since(self.at).as_secs_f64() / DECAY.as_secs_f64())).exp();
        let average = if took > self.at(now) { took } else { self.average * kept + took * (1.0 - kept) };
        Self { average, at: now.max(self.at) }
    }
}

impl Load {
    /// The load of a peer with nothing under way. `total` counts for all peers of the upstream.
    #[must_use]
    pub fn new(total: Rc<Cell<u32>>) -> Self {
        Self { total, ..Self::default() }
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Requests in flight at all peers of the upstream.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.total.get()
    }

    /// Sets the most requests in flight; 0 for no limit.
    pub fn set_limit(&self, limit: u32) {
        self.limit.set(limit);
    }

    /// Whether there is a most.
    #[must_use]
    pub fn has_limit(&self) -> bool {
        self.limit.get() != 0
    }

    /// Whether there are as many requests in flight as there may be.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.limit.get() != 0 && self.in_flight.get() >= self.limit.get()
    }

    /// The average response time in nanoseconds; `None` before the first response.
    #[must_use]
    pub fn latency(&self, now: Timestamp) -> Option<f64> {
        let latency = self.latency.get();
        (latency.average > 0.0).then(|| latency.at(now))
    }

    /// Whether there is an average response time, an assumed one included.
    #[must_use]
    pub fn has_latency(&self) -> bool {
        self.latency.get().average > 0.0
    }

    /// Takes over an average, for a peer that has none of its own yet.
    pub fn assume_latency(&self, average: f64, now: Timestamp) {
        self.latency.set(Latency { average, at: now });
    }

    /// Counts a response that took so long.
    pub fn responded(&self, took: Duration, now: Timestamp) {
        self.latency.set(self.latency.get().and(took.as_nanos().max(1) as f64, now));
    }

    /// Counts a failure after so long.
    pub fn failed(&self, took: Duration, now: Timestamp) {
        self.responded(took.max(FAILURE), now);
    }

    /// Counts something.
    pub fn count(&self, count: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        count(&mut counts);
        self.counts.set(counts);
    }

    /// Whether anything was counted since the counts were last taken.
    #[must_use]
    pub fn has_counts(&self) -> bool {
        self.counts.get() != Counts::default()
    }

    /// What was counted since this was last called.
    pub fn take_counts(&self) -> Counts {
        self.counts.take()
    }

    /// Notes `position` in `changed` whenever a request begins or ends here, until that is dropped or another one watches.
    pub(super) fn watch(&self, changed: &Changed, position: u32) {
        *self.watcher.borrow_mut() = (Rc::downgrade(changed), position);
    }

    fn change(&self, by: i32) {
        let add = |count: &Cell<u32>| count.set(count.get().saturating_add_signed(by));
        add(&self.in_flight);
        add(&self.total);
        let Ok(watcher) = self.watcher.try_borrow() else { return };
        if let Some(changed) = watcher.0.upgrade() {
            if let Ok(mut changed) = changed.try_borrow_mut() {
                changed.push(watcher.1);
            }
        }
    }
}

/// A request that is under way at a peer.
#[derive(Debug)]
pub struct InFlight {
    load: Rc<Load>,
    /// When it began.
    pub since: Timestamp,
}

impl InFlight {
    /// A request begins.
    #[must_use]
    pub fn begin(load: Rc<Load>, now: Timestamp) -> Self {
        load.change(1);
        load.count(|counts| counts.picks = counts.picks.saturating_add(1));
        Self { load, since: now }
    }

    /// The peer's load.
    #[must_use]
    pub fn load(&self) -> &Load {
        &self.load
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.load.change(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    #[test]
    fn what_is_dropped_is_not_in_flight_any_more() {
        let total = Rc::new(Cell::new(0));
        let (one, two) = (Rc::new(Load::new(Rc::clone(&total))), Rc::new(Load::new(Rc::clone(&total))));
        let request = InFlight::begin(Rc::clone(&one), NOW);
        let other = InFlight::begin(Rc::clone(&two), NOW);
        assert_eq!((one.in_flight(), two.in_flight(), total.get()), (1, 1, 2));
        drop((request, other));
        assert_eq!((one.in_flight(), two.in_flight(), total.get()), (0, 0, 0));
    }

    #[test]
    fn the_average_rises_at_once_and_falls_with_time() {
        let load = Load::default();
        assert_eq!(load.latency(NOW), None);
        load.responded(Duration::from_millis(10), NOW);
        load.responded(Duration::from_millis(500), NOW);
        assert!(load.latency(NOW).unwrap() > 0.49e9);
        let later = NOW.after(Duration::from_secs(10));
        assert!((0.17e9..0.2e9).contains(&load.latency(later).unwrap()), "1/e after ten seconds");
    }

    #[test]
    fn a_quick_refusal_does_not_look_fast() {
        let load = Load::default();
        load.failed(Duration::from_micros(50), NOW);
        assert!(load.latency(NOW).unwrap() >= 1e9);
    }
}
