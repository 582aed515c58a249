//! A check of a peer, as the monitor sees it that makes it.

use std::any::Any;
use std::fmt;

use super::http;
use crate::host::subject::OneLine;
use crate::host::{CallKind, Reply};
use crate::json::Json;
use crate::model::error::Error;
use crate::model::failures::Failures;
use crate::model::peer::PeerRecord;
use crate::model::peer_status::PeerStatus;
use crate::model::spec::MonitorSpec;
use crate::model::state::PeerState;
use crate::model::verdict::effective_state;
use crate::settings::Settings;
use crate::store::Store;
use crate::time::Timestamp;

/// What a monitor keeps for one peer in one worker.
pub(crate) type Local = Option<Box<dyn Any>>;

/// A check of a peer: whom it is about, what there is to know, and what is kept from one check to the next.
pub struct Check<'c> {
    pub(crate) spec: &'c MonitorSpec,
    pub(crate) upstream: &'c str,
    pub(crate) peer: &'c PeerRecord,
    pub(crate) status: Option<&'c PeerStatus>,
    pub(crate) failures: Failures,
    pub(crate) store: Store<'c>,
    /// What handles are made with. It stands above this room, so here it has no type.
    pub(crate) registry: &'c dyn Any,
    pub(crate) local: &'c mut Local,
    pub(crate) asked: u32,
}

impl<'c> Check<'c> {
    /// The upstream's name.
    #[must_use]
    pub fn upstream(&self) -> &str {
        self.upstream
    }

    /// The peer's name, `host:port`.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer.server.name
    }

    /// The peer's host: its address or its name, IPv6 without brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.peer.server.name.rsplit_once(':').map_or("", |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// The peer's port. What is asked goes to the option `port`, if the monitor has it.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.peer.server.name.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0)
    }

    /// A label of the peer, as the configuration gives it; empty if it has none of that name.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        let found = self.peer.server.labels.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }

    /// The peer's weight in force; what an agent made a fraction is rounded up.
    #[must_use]
    pub fn weight(&self) -> u16 {
        self.peer.whole_weight(self.status.and_then(|status| status.agent.as_ref()))
    }

    /// The weight with which the peer was declared.
    #[must_use]
    pub fn initial_weight(&self) -> u16 {
        self.peer.server.weight
    }

    /// The state in which the peer is.
    #[must_use]
    pub fn state(&self) -> PeerState {
        effective_state(self.peer, &self.failures, self.status, self.now()).state
    }

    /// The monitor's options, those of its own apart: see [`option`](Self::option).
    #[must_use]
    pub fn spec(&self) -> &MonitorSpec {
        self.spec
    }

    /// An option of the monitor's own, for closures; a type reads its options once, when it is made.
    #[must_use]
    pub fn option(&self, key: &'static str) -> Option<Json> {
        Settings::stored(&self.spec.options).get(key)
    }

    /// How many answers this check has got: 0 at its beginning.
    #[must_use]
    pub fn answers(&self) -> u32 {
        self.asked
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.store.now()
    }

    /// A random number. Not for secrets.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.store.host().random()
    }

    /// A request for this path, with the monitor's `method`, `header_*` and `body`, where it has these options.
    #[must_use]
    pub fn request(&self, path: &str) -> CallKind {
        http::request(&MonitorSpec { url: path.to_owned(), ..self.spec.clone() }, self.peer())
    }

    /// The body of an answer over HTTP whose status is in the monitor's `ok_codes`.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for a [`Finding::Bad`](super::Finding::Bad).
    pub fn body<'r>(&self, reply: &'r Reply) -> Result<&'r [u8], String> {
        http::answer(self.spec, reply)
    }

    /// What this monitor keeps for this peer in this worker, from one step to the next and from one check to the next. It is gone
    /// with the peer, the monitor and the worker; a check that goes on in another worker begins anew there.
    pub fn local<T: Any + Default>(&mut self) -> &mut T {
        if !self.local.as_ref().is_some_and(|local| local.is::<T>()) {
            *self.local = Some(Box::<T>::default());
        }
        match self.local.as_mut().and_then(|local| local.downcast_mut()) {
            Some(local) => local,
            // It is of that type by now.
            None => Box::leak(Box::default()),
        }
    }

    /// What this monitor keeps for all workers, whatever peer it looks at; empty while there is nothing.
    ///
    /// # Errors
    ///
    /// What stands in the way of reading it.
    pub fn shared(&self) -> Result<Vec<u8>, Error> {
        self.store.script_value(self.upstream, self.spec)
    }

    /// Changes what this monitor keeps for all workers, 65,536 bytes at most. No change is lost: `change` is asked again if another worker was
    /// faster. It outlives configurations that leave the monitor as it is.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for more bytes, and what stands in the way of writing it. Then nothing has changed.
    pub fn update_shared(&self, mut change: impl FnMut(&mut Vec<u8>)) -> Result<(), Error> {
        self.store.update_script_value(self.upstream, self.spec, &mut change)
    }

    /// The state that all workers share, for handles: see [`Upstream::get`](crate::handle::upstream::Upstream::get).
    #[must_use]
    pub fn store(&self) -> Store<'c> {
        self.store
    }

    /// Writes a line into the proxy's log that begins with the upstream, the peer and the monitor, as what is written with `log::info!` does.
    pub fn log(&self, level: log::Level, text: impl fmt::Display) {
        let (upstream, peer, monitor) = (self.upstream, self.peer(), &self.spec.id);
        let text = text.to_string();
        log::log!(level, "upstream={upstream} peer={peer} monitor={monitor:?}: {}", OneLine(&text));
    }
}
