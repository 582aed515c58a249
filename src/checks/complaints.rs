//! What is said, but not again and again: that checks cannot be made or written at all.

use std::time::Duration;

use crate::time::Timestamp;

/// How often it is said.
const PAUSE: Duration = Duration::from_secs(60);

/// The last complaint.
#[derive(Default)]
pub(super) struct Complaints {
    last: Option<Timestamp>,
}

impl Complaints {
    /// Says what is wrong, unless that was said just now.
    pub(super) fn say(&mut self, now: Timestamp, what: &str) {
        if self.last.is_none_or(|last| now.since(last) >= PAUSE || now < last) {
            self.last = Some(now);
            log::error!("{what}");
        }
    }
}
