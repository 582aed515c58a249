//! Whom a check is for, and at which address.

use std::net::SocketAddr;

use super::addresses::{self, Addresses};
use super::schedule::{Job, Task};
use crate::model::peer::PeerRecord;
use crate::model::spec::MonitorSpec;
use crate::model::status::Status;
use crate::model::verdict;
use crate::time::Timestamp;
use crate::worker::view::View;

/// What a check asks.
pub(super) struct Target<'v> {
    pub(super) monitor: &'v MonitorSpec,
    pub(super) peer: &'v PeerRecord,
    pub(super) to: SocketAddr,
    /// Its name and port, where the host resolves it.
    pub(super) name: Option<String>,
}

impl<'v> Target<'v> {
    /// The target of a check that is due now. `status` is what is said of the upstream's peers; `None` if nobody is meant.
    pub(super) fn of(
        job: &Job,
        view: &'v View,
        status: Option<&Status>,
        known: &Addresses,
        host_resolves: bool,
        now: Timestamp,
    ) -> Option<Self> {
        let record = view.record();
        let task = &job.task;
        let id = match task {
            Task::Check { monitor, .. } | Task::Rotate { monitor, .. } => monitor,
            Task::Resolve { .. } => return None,
        };
        let monitor = record.monitors.iter().find(|monitor| *monitor.id == **id)?;
        let peer_status = |peer: &PeerRecord| status.and_then(|status| status.of(peer.id));
        // Whom its own verdict took out of the selection is checked on: nobody else can lift that.
        let is_meant = |peer: &&PeerRecord| {
            let own = peer_status(peer).and_then(|peer_status| peer_status.check(&monitor.id));
            let state = || verdict::effective_state(peer, &view.health().of(peer), peer_status(peer), now).state;
            own.is_some_and(|check| check.is_down) || monitor.peers.matches(state())
        };
        let peer = match task {
            Task::Check { peer, .. } => view.find(*peer).filter(is_meant)?,
            Task::Rotate { slot, .. } => {
                let meant: Vec<&PeerRecord> = record.peers.iter().filter(is_meant).collect();
                let next = slot.checked_rem(meant.len() as u64)?;
                meant.get(usize::try_from(next).ok()?).copied()?
            }
            Task::Resolve { .. } => return None,
        };
        if let Some(name) = peer.host_name().filter(|_| host_resolves) {
            let port =
                monitor.port.or_else(|| peer.server.endpoint().map(|endpoint| endpoint.port)).unwrap_or_default();
            let (to, name) = (SocketAddr::from(([0; 4], port)), Some(format!("{name}:{port}")));
            return Some(Self { monitor, peer, to, name });
        }
        // A name without an address is the resolver's to tell of.
        let addresses = addresses::of(peer, monitor, status);
        let made = peer_status(peer).and_then(|peer_status| peer_status.check(&monitor.id));
        let made = made.map_or(0, |check| check.passed.saturating_add(check.failed));
        let to = known.choose(job.upstream, peer.id, &addresses, made, now)?;
        Some(Self { monitor, peer, to, name: None })
    }
}
