//! Whether a filter's configuration is the one in force.
//!
//! What makes it so is decided in [`model::index`](crate::model::index). Here one filter does what follows: it declares its
//! upstreams while it is in force, and watches its connections while it is not.

use crate::host::{Host, RequestHost};
use crate::model::effect::{Declared, Effect, Summary};
use crate::model::index::{Comeback, Standing};
use crate::store::Store;
use crate::worker::directory::Directory;

/// How many names of upstreams a line of the log holds.
const MOST_NAMES: usize = 5;

/// Whether a configuration is in force, as this filter knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Activity {
    /// The filter is new and has not looked yet.
    New,
    /// It is, and no connection of its is known yet.
    Unconnected,
    /// It is.
    InForce,
    /// Another one is. Whether this filter's has been since the filter was made.
    Replaced(bool),
    /// Another filter's of the same name is, and stays as long as that one is heard of.
    Beaten,
}

/// One configuration of an instance of the filter, among those that came before and after it.
pub(super) struct Generation {
    /// What tells this configuration from others.
    configuration: u64,
    activity: Activity,
    /// A connection of the configuration in force, when this one is not: older ones need no look at shared data.
    theirs: Option<u64>,
    /// The upstreams are listed in shared data.
    is_registered: bool,
}

impl Generation {
    /// A new configuration.
    pub(super) fn new(configuration: u64) -> Self {
        Self { configuration, activity: Activity::New, theirs: None, is_registered: false }
    }

    /// One that has no upstreams, and nothing to list.
    pub(super) fn refused() -> Self {
        Self { configuration: 0, activity: Activity::InForce, theirs: None, is_registered: true }
    }

    /// Whether connections need not be watched.
    pub(super) fn is_settled(&self) -> bool {
        matches!(self.activity, Activity::InForce | Activity::Beaten)
    }

    /// Whether another one is in force.
    pub(super) fn is_replaced(&self) -> bool {
        matches!(self.activity, Activity::Replaced(_) | Activity::Beaten)
    }

    /// Declares some more of the upstreams, and lists them when that was the last of them; unless another configuration is in
    /// force.
    pub(super) fn declare(&mut self, host: &dyn Host, directory: &mut Directory, most: usize) {
        if self.activity == Activity::New {
            // A VM that crashed while its configuration drained starts with that one again.
            let index = Store::new(host).index().unwrap_or_default();
            self.activity = match index.standing(directory.instance(), self.configuration, host.now()) {
                Standing::Replaced => Activity::Replaced(false),
                Standing::Beaten => Activity::Beaten,
                Standing::InForce | Standing::Unknown => Activity::Unconnected,
            };
        }
        if self.is_replaced() {
            directory.leave_undeclared();
            return;
        }
        if !directory.declare(host, most) || self.is_registered {
            return;
        }
        let own = Declared { names: &directory.own_names(), print: &|name| directory.print(name) };
        match Store::new(host).register(directory.instance(), self.configuration, own) {
            Ok(effect) => {
                self.is_registered = true;
                if let Some(effect) = effect {
                    tell(directory, &effect);
                }
            }
            Err(error) => log::error!("the upstreams cannot be listed in shared data: {error}"),
        }
    }

    /// Finds out whether another configuration is in force by now, and has others hear of this one if that is so.
    pub(super) fn look_for_successor(&mut self, host: &dyn Host, directory: &Directory) {
        let instance = directory.instance();
        let is_replaced = self.is_replaced();
        if self.configuration == 0 || !(self.is_registered || is_replaced) {
            return;
        }
        let Ok(index) = Store::new(host).index() else { return };
        self.theirs = index.connection(instance);
        if index.is_word_due(instance, self.configuration, host.now()) {
            // What cannot be said now is said at the next tick.
            let _ = Store::new(host).hear(instance, self.configuration, &directory.own_names());
        }
        match index.standing(instance, self.configuration, host.now()) {
            Standing::InForce if is_replaced => (self.activity, self.is_registered) = (Activity::InForce, true),
            Standing::Beaten => self.activity = Activity::Beaten,
            Standing::InForce => {}
            Standing::Replaced if matches!(self.activity, Activity::Replaced(_)) => {}
            Standing::Replaced => self.activity = Activity::Replaced(true),
            Standing::Unknown if index.has(instance) => self.activity = Activity::Replaced(true),
            // The list was lost. The configuration in force makes it again.
            Standing::Unknown => self.is_registered = is_replaced,
        }
        if !matches!(self.activity, Activity::Replaced(_)) {
            self.theirs = None;
        }
    }

    /// Tells others of the first connection, and finds out whether this configuration is back.
    pub(super) fn watch_connections(&mut self, host: &dyn RequestHost, directory: &mut Directory) {
        let is_old = |id: &u64| self.theirs.is_some_and(|theirs| *id <= theirs);
        let Some(connection) = host.connection().filter(|id| !is_old(id)) else { return };
        let (store, instance) = (Store::new(host), directory.instance());
        let is_new = match self.activity {
            Activity::Replaced(was_in_force) => !was_in_force,
            Activity::Unconnected if self.is_registered => {
                self.activity = Activity::InForce;
                if let Err(error) = store.note_connection(instance, self.configuration, connection) {
                    log::error!("a connection cannot be noted in shared data: {error}");
                }
                // Another one may be in force already.
                true
            }
            Activity::New | Activity::Unconnected | Activity::InForce | Activity::Beaten => return,
        };
        let names = directory.own_names();
        let own = Declared { names: &names, print: &|name| directory.print(name) };
        match store.come_back(instance, self.configuration, connection, is_new, own) {
            Ok((Comeback::No, _)) => return,
            Ok((Comeback::Yes, effect)) => {
                log::info!("an earlier configuration of {instance:?} is in force again");
                tell(directory, &effect);
            }
            Ok((Comeback::Rival(theirs, is_ours_later), effect)) => {
                warn_of_rival(instance, &names, &theirs, is_ours_later);
                if !is_ours_later {
                    self.activity = Activity::Beaten;
                    return;
                }
                tell(directory, &effect);
            }
            Err(error) => {
                log::error!("a configuration that is back cannot be noted in shared data: {error}");
                return;
            }
        }
        (self.is_registered, self.activity, self.theirs) = (true, Activity::InForce, None);
        directory.declare_again();
        self.declare(host, directory, usize::MAX);
    }
}

/// Tells that the configuration came into force, and what that changed.
fn tell(directory: &Directory, effect: &Effect) {
    let (summary, filter) = (Summary(effect, directory.own_servers()), directory.instance());
    log::info!("configuration: {summary}; filter {filter:?}");
}

/// Tells of two filters of one name by what differs between them.
fn warn_of_rival(instance: &str, ours: &[&str], theirs: &[String], is_ours_later: bool) {
    let theirs: Vec<&str> = theirs.iter().map(String::as_str).collect();
    let (earlier, later) = if is_ours_later { (&*theirs, ours) } else { (ours, &*theirs) };
    let alone = |names: &[&str], others: &[&str]| {
        let alone: Vec<String> =
            names.iter().filter(|name| !others.contains(name)).map(|name| format!("{name:?}")).collect();
        let shown = alone.get(..MOST_NAMES).unwrap_or(&alone).join(", ");
        match alone.len() {
            0 => "none".to_owned(),
            all if all > MOST_NAMES => format!("{shown} and {} more", all - MOST_NAMES),
            _ => shown,
        }
    };
    log::error!(
        "two filters go by the name {instance:?} with different configurations: an earlier one with {} upstreams, of which \
         the other lacks {}, and a later one with {}, of which the other lacks {}. The later one counts, for both; give each \
         filter a root_id of its own",
        earlier.len(),
        alone(earlier, later),
        later.len(),
        alone(later, earlier),
    );
}

#[cfg(test)]
mod tests;
