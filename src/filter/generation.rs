//! Whether a filter's configuration is the one in force.
//!
//! Hosts keep the filter of a configuration while its old connections drain, and when that configuration comes back they may go
//! on with this very filter, without a word. So one that was replaced watches the connections: one that is newer than a
//! connection of its successor's says that it is in force again.

use crate::host::{Host, RequestHost};
use crate::store::Store;
use crate::worker::directory::Directory;

/// Whether a configuration is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// It is, and no connection of its is known yet.
    New,
    /// It is.
    InForce,
    /// Another one is.
    Replaced,
}

/// One configuration of an instance of the filter, among those that came before and after it.
pub(super) struct Generation {
    /// What tells this configuration from others.
    configuration: u64,
    activity: Activity,
    /// The upstreams are listed in shared data.
    is_registered: bool,
}

impl Generation {
    /// A new configuration.
    pub(super) fn new(configuration: u64) -> Self {
        Self { configuration, activity: Activity::New, is_registered: false }
    }

    /// One that has no upstreams, and nothing to list.
    pub(super) fn refused() -> Self {
        Self { configuration: 0, activity: Activity::InForce, is_registered: true }
    }

    /// Whether connections have to be watched.
    pub(super) fn is_in_force(&self) -> bool {
        self.activity == Activity::InForce
    }

    /// Whether another one is in force.
    pub(super) fn is_replaced(&self) -> bool {
        self.activity == Activity::Replaced
    }

    /// Declares some more of the upstreams, and lists them when that was the last of them.
    ///
    /// `connection` is one that this configuration serves, where that is known.
    pub(super) fn declare(&mut self, host: &dyn Host, directory: &mut Directory, most: usize, connection: Option<u64>) {
        if !directory.declare(host, most) || self.is_registered {
            return;
        }
        let (instance, names) = (directory.instance(), directory.own_names());
        match Store::new(host).register(instance, self.configuration, connection, &names) {
            Ok(()) => self.is_registered = true,
            Err(error) => log::error!("the upstreams cannot be listed in shared data: {error}"),
        }
    }

    /// Finds out whether another configuration is in force by now.
    pub(super) fn look_for_successor(&mut self, host: &dyn Host, instance: &str) {
        if !self.is_registered || self.configuration == 0 {
            return;
        }
        let index = Store::new(host).index().unwrap_or_default();
        match index.configuration(instance) {
            Some((configuration, _)) if configuration != self.configuration => self.activity = Activity::Replaced,
            _ if self.activity == Activity::Replaced => self.activity = Activity::InForce,
            _ => {}
        }
    }

    /// Tells others of the first connection, and finds out whether this configuration is back.
    pub(super) fn watch_connections(&mut self, host: &dyn RequestHost, directory: &mut Directory) {
        let Some(id) = host.connection().filter(|_| self.is_registered) else { return };
        let store = Store::new(host);
        if self.activity == Activity::New {
            self.activity = Activity::InForce;
            if let Err(error) = store.note_connection(directory.instance(), self.configuration, id) {
                log::error!("a connection cannot be noted in shared data: {error}");
            }
            return;
        }
        let index = store.index().unwrap_or_default();
        let Some((configuration, Some(theirs))) = index.configuration(directory.instance()) else { return };
        if configuration != self.configuration && id > theirs {
            log::info!("an earlier configuration of {:?} is in force again", directory.instance());
            directory.declare_again();
            (self.is_registered, self.activity) = (false, Activity::InForce);
            self.declare(host, directory, usize::MAX, Some(id));
        }
    }
}
