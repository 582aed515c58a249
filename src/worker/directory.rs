//! The upstreams that a worker knows: those of its configuration, and those of others that its requests went to.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use crate::host::{Host, RequestHost};
use crate::model::error::Error;
use crate::model::index::Index;
use crate::model::spec::UpstreamSpec;
use crate::model::upstream::{Declaration, Record};
use crate::registry::Registry;
use crate::store::{Read, Store};
use crate::time::Timestamp;
use crate::worker::view::View;

/// An upstream that this worker has used or could use.
pub(crate) struct Entry {
    pub(crate) view: View,
    /// This configuration's word on it, and what tells that from another one; none for those that another instance of the
    /// filter defines.
    declaration: Option<(UpstreamSpec, u64)>,
}

impl Entry {
    /// Whether this configuration defines it.
    pub(crate) fn is_own(&self) -> bool {
        self.declaration.is_some()
    }

    /// Makes the view what shared data holds now.
    pub(crate) fn refresh(&mut self, host: &dyn Host, instance: &str) -> Result<(), Error> {
        let declaration = declaration(self.declaration.as_ref(), instance);
        self.view.refresh(host, declaration.as_ref())
    }
}

fn declaration<'d>(declared: Option<&'d (UpstreamSpec, u64)>, instance: &'d str) -> Option<Declaration<'d>> {
    let (spec, fingerprint) = declared?;
    Some(Declaration { instance, spec, fingerprint: *fingerprint })
}

/// The upstreams that a worker knows, by position and by name.
pub(crate) struct Directory {
    /// The instance of the filter that has this configuration.
    instance: String,
    registry: Registry,
    entries: Vec<Entry>,
    by_name: HashMap<Rc<str>, usize>,
    /// How many of the entries are known to be declared in shared data, from the first on.
    declared: usize,
    listed: Listed,
}

/// The upstreams that some configuration in force has.
#[derive(Default)]
struct Listed {
    index: Index,
    /// Its number in shared data.
    number: Option<u32>,
    /// The host's version when the list was known to be up to date.
    version: Option<u64>,
}

impl Listed {
    /// Whether an upstream is one of them. Nothing is read while nothing was announced.
    fn contains(&mut self, name: &str, host: &dyn Host) -> Result<bool, Error> {
        let version = host.version();
        if self.version != Some(version) {
            match Store::new(host).index_since(self.number) {
                Ok(Read::Changed(index, number)) => {
                    (self.index, self.number) = (index, Some(number));
                }
                // A list that was lost is made again soon, and goes on to count until then.
                Ok(Read::Unchanged | Read::Missing) => {}
                Err(error) if self.number.is_none() => return Err(error),
                Err(_) => {}
            }
            self.version = Some(version);
        }
        Ok(self.index.lists(name, host.now()))
    }
}

impl Directory {
    /// The upstreams of a configuration, each with what tells it from another one.
    pub(crate) fn new(
        instance: &str,
        registry: &Registry,
        upstreams: impl Iterator<Item = (String, UpstreamSpec, u64)>,
        host: &dyn Host,
    ) -> Self {
        let entry = |(name, spec, fingerprint): (String, UpstreamSpec, u64)| {
            let view = View::new(&name, host.random(), registry.clone());
            Entry { view, declaration: Some((spec, fingerprint)) }
        };
        let entries: Vec<Entry> = upstreams.map(entry).collect();
        let by_name = entries.iter().zip(0..).map(|(entry, at)| (Rc::clone(entry.view.name()), at)).collect();
        Self {
            instance: instance.to_owned(),
            registry: registry.clone(),
            entries,
            by_name,
            declared: 0,
            listed: Listed::default(),
        }
    }

    /// None at all.
    pub(crate) fn empty() -> Self {
        Self {
            instance: String::new(),
            registry: Registry::default(),
            entries: Vec::new(),
            by_name: HashMap::new(),
            declared: 0,
            listed: Listed::default(),
        }
    }

    /// The instance of the filter that has this configuration.
    pub(crate) fn instance(&self) -> &str {
        &self.instance
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn get_mut(&mut self, position: usize) -> Option<&mut Entry> {
        self.entries.get_mut(position)
    }

    /// The upstream's view at that position.
    pub(crate) fn view(&self, position: usize) -> Option<&View> {
        Some(&self.entries.get(position)?.view)
    }

    /// The upstream's record at that position, as it was when it was last read.
    pub(crate) fn record(&self, position: usize) -> Option<&Record> {
        Some(self.view(position)?.record())
    }

    /// The position of an upstream that is known by this name.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Brings an upstream of this configuration up to date.
    ///
    /// # Errors
    ///
    /// What stands in the way of reading it.
    pub(crate) fn refresh(&mut self, position: usize, host: &dyn Host) -> Result<(), Error> {
        self.entries.get_mut(position).map_or(Ok(()), |entry| entry.refresh(host, &self.instance))
    }

    /// Finds an upstream by its name, brings it up to date, and returns its position.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchUpstream`], and what stands in the way of reading it.
    pub(crate) fn find(&mut self, name: &str, host: &dyn RequestHost) -> Result<usize, Error> {
        let known = self.by_name.get(name).copied();
        // Its own ones a filter serves as long as it lives; those of others while a configuration in force has them.
        let is_own = known.and_then(|position| self.entries.get(position)).is_some_and(Entry::is_own);
        if !is_own && !self.listed.contains(name, host)? {
            return Err(Error::NoSuchUpstream(name.to_owned()));
        }
        if let Some(position) = known {
            if let Some(entry) = self.entries.get_mut(position) {
                entry.refresh(host, &self.instance)?;
            }
            return Ok(position);
        }
        // One of another instance in the same process. Only names that exist are remembered: clients may have a say in them.
        let mut view = View::new(name, host.random(), self.registry.clone());
        view.refresh(host, None)?;
        let position = self.entries.len();
        self.by_name.insert(Rc::clone(view.name()), position);
        self.entries.push(Entry { view, declaration: None });
        Ok(position)
    }

    /// Declares some more of the configuration's upstreams in shared data. Returns whether all are declared now.
    pub(crate) fn declare(&mut self, host: &dyn Host, most: usize) -> bool {
        let store = Store::new(host);
        for entry in self.entries.iter_mut().skip(self.declared).take(most) {
            if let Some(declaration) = declaration(entry.declaration.as_ref(), &self.instance) {
                let name = entry.view.name();
                if let Err(error) = store.declare(name, &declaration) {
                    log::error!("upstream {name:?} cannot be written to shared data: {error}");
                }
            }
            self.declared = self.declared.saturating_add(1);
        }
        self.is_declared()
    }

    /// Whether all of the configuration's upstreams are declared in shared data.
    pub(crate) fn is_declared(&self) -> bool {
        self.declared >= self.entries.len()
    }

    /// Leaves those upstreams undeclared that are not yet: another configuration counts.
    pub(crate) fn leave_undeclared(&mut self) {
        self.declared = self.entries.len();
    }

    /// Declares all again, with the next [`declare`](Self::declare).
    pub(crate) fn declare_again(&mut self) {
        self.declared = 0;
    }

    /// The names of the configuration's upstreams.
    pub(crate) fn own_names(&self) -> Vec<&str> {
        self.entries.iter().filter(|entry| entry.is_own()).map(|entry| &**entry.view.name()).collect()
    }

    /// What tells the configuration's declaration of an upstream from others.
    pub(crate) fn print(&self, name: &str) -> Option<u32> {
        let (_, print) = self.entries.get(self.position(name)?)?.declaration.as_ref()?;
        Some(*print as u32)
    }

    /// How many servers the configuration has.
    pub(crate) fn own_servers(&self) -> usize {
        let specs = self.entries.iter().filter_map(|entry| entry.declaration.as_ref());
        specs.map(|(spec, _)| spec.servers.len()).sum()
    }

    /// Has all views read again, whatever the host's version says.
    pub(crate) fn invalidate(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.view.invalidate());
        self.listed.version = None;
    }

    /// Lets go of what picks need in upstreams where there were none for so long.
    pub(crate) fn let_go(&mut self, now: Timestamp, after: Duration) {
        self.entries.iter_mut().for_each(|entry| entry.view.let_go(now, after));
    }

    /// Adds what this worker counted to what all workers share. `worker` tells this one from others.
    pub(crate) fn flush_counts(&mut self, host: &dyn Host, worker: u64) {
        for entry in &mut self.entries {
            entry.view.flush_counts(host, worker);
        }
    }
}
