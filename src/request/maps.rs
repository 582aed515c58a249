//! Maps: variables whose values are looked up by the values of others.
//!
//! A value is looked up as it is, byte by byte; where there is none, the default counts, and without one the empty string. Maps may use
//! each other, in no circle, which is seen to when they are read.
//!
//! Source: nginx, `ngx_http_map_module`; case matters here, and there are no patterns.

use crate::model::template::Template;

/// The most that a text with variables comes to, with all the maps that it needs: each variable is one, and the client waits for all of them.
/// Maps that use others twice would otherwise double it with each of them.
pub(crate) const MOST_VARIABLES: usize = 1_000;

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

    /// How many variables it comes to at the most, where this is known of all that it needs.
    fn size(&self, of: &dyn Fn(&str) -> Option<usize>) -> Option<usize> {
        let mut sizes = self.templates.iter().map(|template| template.size(of));
        let from = sizes.next().flatten()?;
        sizes.try_fold(0, |most: usize, size| Some(most.max(size?))).map(|most| most.saturating_add(from))
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

    /// A map that needs itself, directly or through others, or that comes to more than [`MOST_VARIABLES`], if there is one.
    pub(crate) fn endless(&self) -> Option<&Map> {
        // 0 while it is not known.
        let mut sizes = vec![0; self.0.len()];
        loop {
            let (mut unknown, mut is_news) = (None, false);
            for (at, map) in self.0.iter().enumerate() {
                let known = |name: &str| match self.0.iter().position(|map| map.name == name) {
                    Some(at) => sizes.get(at).copied().filter(|size| *size > 0),
                    // A group.
                    None => Some(1),
                };
                match (map.size(&known), sizes.get_mut(at)) {
                    (Some(size), _) if size > MOST_VARIABLES => return Some(map),
                    (Some(size), Some(slot)) => is_news |= std::mem::replace(slot, size) != size,
                    // It needs one that is not known yet.
                    _ => unknown = unknown.or(Some(map)),
                }
            }
            if !is_news {
                return unknown;
            }
        }
    }
}
