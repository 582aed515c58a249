//! The state of an upstream as it was told last.
//!
//! What the state is follows from what is stored, at any moment. Since when it is that, and that it changed, does not: so the state
//! that was told is a value of its own. Whoever changed what the state follows from compares the two, and the one who swaps the
//! value writes the line in the log. Nothing depends on that: what a worker did not get round to, the next one finds.

use crate::host::{Expect, HostError};
use crate::model::codec;
use crate::model::ejection::Assessment;
use crate::model::error::Error;
use crate::model::upstream_state::{Tally, ToldState, UpstreamState};
use crate::store::{journal, keys, Store};

/// What made a change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause<'c> {
    /// Whose word it is.
    pub(crate) by: &'c str,
    /// The peer that changed.
    pub(crate) peer: &'c str,
    pub(crate) why: &'c str,
}

impl Store<'_> {
    /// The state that was told last, if any was.
    pub(crate) fn told_state(&self, upstream: &str) -> Result<Option<ToldState>, Error> {
        Ok(self.host().read(&keys::state(upstream))?.and_then(|stored| codec::decode(&stored.value)))
    }

    /// Tells of an upstream's state, if it is another one than was told last: in shared data and in the log. Returns the state; none
    /// where it cannot be worked out now.
    pub(crate) fn reconcile_state(&self, upstream: &str, cause: Option<Cause<'_>>) -> Option<UpstreamState> {
        let (mut state, mut cause) = (None, cause);
        // What cannot be told now is told when somebody compares again.
        let _ = self.retry(&mut || {
            let stored = self.host().read(&keys::state(upstream))?;
            let told: Option<ToldState> = stored.as_ref().and_then(|stored| codec::decode(&stored.value));
            let expect = stored.map_or(Expect::Nothing, |stored| Expect::Cas(stored.cas));
            let Some((record, _)) = self.record(upstream)? else { return Ok(()) };
            let (table, status) = (self.health(upstream)?, self.status(&record)?);
            let now = self.now();
            let assessment = Assessment::of(&record, &table, &status, now);
            let tally = Tally::of(&record, &assessment, now);
            state = Some(tally.state);
            if tally.is_pending || told.as_ref().is_some_and(|told| told.state == tally.state) {
                return Ok(());
            }
            let (by, why) = match cause {
                Some(cause) => (cause.by.to_owned(), format!("peer {}: {}", cause.peer, cause.why)),
                None => tally.reason(&record, &assessment),
            };
            let new = ToldState { state: tally.state, since: now, by, why };
            let before = told.map_or(UpstreamState::Up, |told| told.state);
            let is_told = before != new.state && journal::may_tell(self, new.state);
            self.host().write(&keys::state(upstream), &codec::encode(&new), expect)?;
            if is_told {
                journal::upstream_state(upstream, before, &new, &tally);
            }
            // What it follows from may have changed before this was written, by somebody who found that there was nothing to tell.
            cause = None;
            Err(HostError::Conflict.into())
        });
        state
    }
}
