//! What keeps checks and lookups from being made: that a cluster is missing, or the gateway behind it. Nobody's failure, and told in
//! the log and by the API.

use super::complaints::{Cause, Complaints};
use crate::host::HostError;
use crate::model::id::PeerId;
use crate::model::spec::MonitorSpec;
use crate::store::Store;
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

/// Notes why a call did not get as far as the server, and has the log tell it; or that it did. Returns a sentence for people.
pub(super) fn note(
    store: &Store<'_>,
    complaints: &mut Complaints,
    view: &View,
    asked: &Asked<'_>,
    why: Option<&str>,
) -> Option<String> {
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
        complaints.say(store.now(), Cause::call(asked.cluster), &line);
    }
    // What cannot be written now is tried again with the next check; where nothing can, others say so.
    let _ = store.set_obstacle(view.name(), asked.monitor, why.as_deref());
    why
}
