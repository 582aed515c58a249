//! Which upstreams there are: shared data cannot be listed.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// The upstreams of all instances of the filter, because shared data cannot be listed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    pub(crate) instances: Vec<Instance>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) configuration: u64,
    /// Counts its configurations.
    generation: u64,
    /// A connection that this configuration served: connections are numbered in the order in which they are accepted.
    pub(crate) connection: Option<u64>,
    upstreams: Vec<String>,
}

impl Index {
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        postcard::from_bytes(bytes).ok()
    }

    /// Takes in a configuration, if it is a new one.
    pub(crate) fn register(&mut self, name: &str, configuration: u64, connection: Option<u64>, upstreams: &[&str]) {
        let upstreams: Vec<String> = upstreams.iter().map(|name| (*name).to_owned()).collect();
        match self.instances.iter_mut().find(|instance| instance.name == name) {
            Some(known) if known.configuration == configuration => {}
            Some(known) => {
                (known.configuration, known.upstreams, known.connection) = (configuration, upstreams, connection);
                known.generation = known.generation.wrapping_add(1);
            }
            None => {
                let name = name.to_owned();
                self.instances.push(Instance { name, configuration, generation: 1, connection, upstreams });
            }
        }
    }

    /// The configuration that an instance has by now, with a connection that it is known to have served.
    pub(crate) fn configuration(&self, instance: &str) -> Option<(u64, Option<u64>)> {
        let entry = self.instances.iter().find(|entry| entry.name == instance)?;
        Some((entry.configuration, entry.connection))
    }

    /// Their names, none twice.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let names = self.instances.iter().flat_map(|instance| &instance.upstreams).map(String::as_str);
        names.filter(|name| seen.insert(*name)).collect()
    }

    /// How many configurations there were, of all instances together.
    pub(crate) fn generation(&self) -> u64 {
        self.instances.iter().map(|instance| instance.generation).sum()
    }
}
