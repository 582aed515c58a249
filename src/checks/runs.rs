//! The monitors of one's own that this worker has made, and what they keep for each peer.

use super::check_key::{ByCheck, CheckKey};
use crate::model::id::PeerId;
use crate::model::spec::MonitorSpec;
use crate::model::upstream::Record;
use crate::monitor::kind::Make;
use crate::monitor::{check, Monitor, MonitorKind};
use crate::settings::Settings;

/// What there is of them. Nothing is kept of those that durpina brings.
#[derive(Default)]
pub(super) struct Runs {
    /// By the monitors' numbers in place of peers.
    monitors: ByCheck<Box<dyn Monitor>>,
    local: ByCheck<check::Local>,
    nothing: check::Local,
}

impl Runs {
    /// Runs something with a monitor of that kind, and with what it keeps for the peer.
    pub(super) fn with<R>(
        &mut self,
        kind: &MonitorKind,
        (upstream, peer): (usize, PeerId),
        spec: &MonitorSpec,
        run: impl FnOnce(&mut dyn Monitor, &mut check::Local) -> R,
    ) -> Option<R> {
        if let Make::BuiltIn(make) = &kind.make {
            return Some(run(&mut *make(), &mut self.nothing));
        }
        let key = CheckKey::new(upstream, PeerId(spec.number), &spec.id);
        if self.monitors.get(key).is_none() {
            self.monitors.set(key, kind.make(&mut Settings::stored(&spec.options)));
        }
        let of_peer = CheckKey::new(upstream, peer, &spec.id);
        if self.local.get(of_peer).is_none() {
            self.local.set(of_peer, None);
        }
        let (monitor, local) = (self.monitors.get_mut(key)?, self.local.get_mut(of_peer)?);
        Some(run(&mut **monitor, local))
    }

    /// Drops what is of monitors and peers that an upstream does not have any more.
    pub(super) fn restrict(&mut self, upstream: usize, record: &Record) {
        let is_there = |key: CheckKey| {
            record.monitors.iter().any(|spec| key == CheckKey::new(upstream, PeerId(spec.number), &spec.id))
        };
        self.monitors.retain(|key, _| key.upstream() != upstream || is_there(key));
        let is_there = |key: CheckKey| {
            let is_peer = record.peers.iter().any(|peer| peer.id == key.peer());
            is_peer && record.monitors.iter().any(|spec| key == CheckKey::new(upstream, key.peer(), &spec.id))
        };
        self.local.retain(|key, _| key.upstream() != upstream || is_there(key));
    }
}
