//! The lines of the log about requests that were refused: who tried what, and why it did not happen.
//!
//! Every change that did not happen is one, and every request of whoever may not come in. A read of something that is not there is
//! none. The same of the same client is counted and told of later.

use std::net::IpAddr;
use std::time::Duration;

use log::Level;
use xxhash_rust::xxh64::xxh64;

use super::method::Method;
use super::refusal::Refusal;
use crate::host::RequestHost;
use crate::repeats::{quoted, Repeats};
use crate::request::Request;
use crate::time::Timestamp;

/// How often the same is logged.
const PAUSE: Duration = Duration::from_secs(10);
/// How much of a path, and of a reason, a line has.
const SHOWN: usize = 200;

/// What was logged of refused requests.
pub(super) struct Refused(Repeats);

impl Default for Refused {
    fn default() -> Self {
        Self(Repeats::new(PAUSE))
    }
}

impl Refused {
    /// Logs a request that is refused, if anybody has to know.
    pub(super) fn say(&mut self, host: &dyn RequestHost, refusal: &Refusal) {
        let is_entry = matches!(refusal.status(), 401 | 403);
        if !is_entry && refusal.status() < 500 && Method::of(host) == Method::Get {
            return;
        }
        let client = host.client();
        let address = client.map(|client| match client {
            IpAddr::V4(client) => client.to_ipv6_mapped().octets(),
            IpAddr::V6(client) => client.octets(),
        });
        let cause = xxh64(&address.unwrap_or_default(), u64::from(refusal.status()));
        self.0.say(host.now(), cause, Level::Warn, &|| {
            format!(
                "admin: client={} refused: status={} method={} path={} why={}",
                client.map_or_else(|| "unknown".to_owned(), |client| client.to_string()),
                refusal.status(),
                quoted(&host.method(), SHOWN),
                quoted(Request::new(host).path(), SHOWN),
                quoted(refusal.reason().as_bytes(), SHOWN),
            )
        });
    }

    /// Tells how many there were that were not logged.
    pub(super) fn tell(&mut self, now: Timestamp) {
        self.0.tell(now);
    }
}
