//! What keeps checks and lookups from being made: that a cluster is missing, or the gateway behind it. Nobody's failure, and told in
//! the log and by the API.

use std::time::Duration;

use super::by_position::ByPosition;
use super::complaints::{Cause, Complaints};
use crate::host::HostError;
use crate::model::id::PeerId;
use crate::model::spec::MonitorSpec;
use crate::store::Store;
use crate::time::Timestamp;
use crate::worker::view::View;

/// A call that was to be made.
pub(super) struct Asked<'a> {
    /// The upstream's position.
    pub(super) position: usize,
    pub(super) peer: PeerId,
    /// Who asks; `None` for the resolver.
    pub(super) monitor: Option<&'a MonitorSpec>,
    pub(super) cluster: &'a str,
}

/// Why a call cannot be made.
pub(super) fn reason(error: &HostError) -> String {
    match error {
        HostError::Lacking(what) => (*what).to_owned(),
        error => format!("{error}; is it there, and below its limits?"),
    }
}

/// For how long it is known that nothing keeps an upstream's monitors from asking. A worker that had the lease before may say
/// something a little later.
const KNOWN: Duration = Duration::from_secs(1);

/// When it was known of which upstreams that nothing keeps their monitors and the resolver from asking: then a good check has
/// nothing to read and nothing to say.
#[derive(Default)]
pub(super) struct Free(ByPosition<Timestamp>);

impl Free {
    /// Whether it is known.
    fn contains(&self, position: usize, now: Timestamp) -> bool {
        self.0.get(position).is_some_and(|known| *known <= now && now < known.after(KNOWN))
    }

    fn set(&mut self, position: usize, is_free: bool, now: Timestamp) {
        if is_free {
            self.0.set(position, now);
        } else {
            self.0.remove(position);
        }
    }
}

/// Notes why a call did not get as far as the server, and has the log tell it; or that it did. Returns a sentence for people.
pub(super) fn note(
    store: &Store<'_>,
    (complaints, free): (&mut Complaints, &mut Free),
    view: &View,
    asked: &Asked<'_>,
    why: Option<&str>,
) -> Option<String> {
    let now = store.now();
    if why.is_none() && free.contains(asked.position, now) {
        return None;
    }
    let has_clusters = store.host().capabilities().has_clusters;
    let through = |why: &str| match asked.cluster {
        "" => why.to_owned(),
        cluster if has_clusters => format!("calls go through the cluster {cluster:?}: {why}"),
        helper => format!("calls go through the helper {helper:?}: {why}"),
    };
    let why = why.map(through);
    if let Some(why) = &why {
        let upstream = view.name();
        let peer = view.find(asked.peer).map_or("", |peer| &peer.server.name);
        let (what, by) = asked.monitor.map_or(("looked up by", "resolver"), |spec| ("checked by monitor", &spec.id));
        let line = format!("upstream={upstream} peer={peer} cannot be {what} {by:?}: {why}");
        complaints.say(now, Cause::call(asked.cluster), &line);
    }
    // What cannot be written now is tried again with the next check; where nothing can, others say so.
    let is_free = store.set_obstacle(view.name(), asked.monitor, why.as_deref()).unwrap_or(false);
    free.set(asked.position, is_free, now);
    why
}
