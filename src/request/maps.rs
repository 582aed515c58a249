//! Maps: variables whose values are looked up by the values of others.
//!
//! A value is looked up as it is, byte by byte; where there is none, the default counts, and without one the empty string. Maps may use
//! each other, in no circle, which is seen to when they are read.
//!
//! Source: nginx, `ngx_http_map_module`; case matters here, and there are no patterns.

use crate::model::template::Template;

/// A map.
#[derive(Debug)]
pub(crate) struct Map {
    /// Its name, without the dollar sign.
    pub(crate) name: String,
    /// What is looked up; the default; then what stands for each of the sources.
    pub(crate) templates: Vec<Template>,
    pub(crate) sources: Vec<String>,
}

impl Map {
    /// What is looked up.
    pub(crate) fn from(&self) -> Option<&Template> {
        self.templates.first()
    }

    /// What stands for this value.
    pub(crate) fn value(&self, source: &[u8]) -> Option<&Template> {
        let found = self.sources.iter().position(|known| known.as_bytes() == source);
        self.templates.get(found.map_or(1, |at| at.saturating_add(2)))
    }
}

/// The maps of a configuration.
#[derive(Debug, Default)]
pub(crate) struct Maps(pub(crate) Vec<Map>);

impl Maps {
    /// The map of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Map> {
        self.0.iter().find(|map| map.name == name)
    }

    /// A map that needs itself, directly or through others, if there is one.
    pub(crate) fn in_a_circle(&self) -> Option<&Map> {
        let mut left: Vec<&Map> = self.0.iter().collect();
        // Who needs none of those that are left is in no circle.
        while let Some(free) = left.iter().position(|map| {
            let needs = |other: &&Map| map.templates.iter().any(|template| template.has_name(&other.name));
            !left.iter().any(needs)
        }) {
            left.swap_remove(free);
        }
        left.first().copied()
    }
}
