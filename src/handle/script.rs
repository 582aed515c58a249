//! Handles for monitors of one's own: what they look at, with the means to change it.

use crate::handle::peer::Peer;
use crate::handle::upstream::Upstream;
use crate::model::error::Error;
use crate::monitor::Check;
use crate::registry::Registry;

impl<'c> Check<'c> {
    /// The upstream that the peer is of.
    ///
    /// # Errors
    ///
    /// As for [`Upstream::get`].
    pub fn get_upstream(&self) -> Result<Option<Upstream<'c>>, Error> {
        let default = Registry::default();
        let registry = self.registry.downcast_ref::<Registry>().unwrap_or(&default);
        Upstream::get(self.store, registry, self.upstream)
    }

    /// The peer that is checked. What is changed of it counts as a script's order: a monitor that only tells how a peer is returns a
    /// [`Finding`](crate::monitor::Finding).
    ///
    /// # Errors
    ///
    /// As for [`Upstream::get`].
    pub fn get_peer(&self) -> Result<Option<Peer<'c>>, Error> {
        Ok(self.get_upstream()?.and_then(|upstream| upstream.get_peer(self.peer())))
    }
}
