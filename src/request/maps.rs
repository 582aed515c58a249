//! Maps: variables whose values are looked up by the values of others.
//!
//! A value is looked up as it is, byte by byte; where there is none, the default counts, and without one the empty string. Maps may use
//! each other, in no circle, which was seen to when they were read.
//!
//! Source: nginx, `ngx_http_map_module`; case matters here, and there are no patterns.

use std::collections::HashMap;

use crate::model::template::Template;

/// A map.
#[derive(Debug)]
pub(crate) struct Map {
    name: String,
    from: Template,
    values: Vec<Template>,
    /// The positions in `values`, one each. Of the type of the routes' shelves: every further one would add kilobytes to the filter.
    by_source: HashMap<Vec<u8>, Vec<usize>>,
    default: Option<Template>,
}

impl Map {
    /// A map from the values of `from`, of which the first of two equal ones counts.
    pub(crate) fn new(name: &str, from: Template, values: Vec<(String, Template)>, default: Option<Template>) -> Self {
        let mut by_source: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        let mut templates = Vec::new();
        for (source, value) in values {
            by_source.entry(source.into_bytes()).or_default().push(templates.len());
            templates.push(value);
        }
        Self { name: name.to_owned(), from, values: templates, by_source, default }
    }

    /// Its name, without the dollar sign.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// What is looked up.
    pub(crate) fn from(&self) -> &Template {
        &self.from
    }

    /// What stands for this value.
    pub(crate) fn value(&self, source: &[u8]) -> Option<&Template> {
        let found = self.by_source.get(source).and_then(|positions| self.values.get(*positions.first()?));
        found.or(self.default.as_ref())
    }

    /// All names that it may need the values of.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.iter().chain([&self.from]).chain(&self.default).flat_map(Template::names)
    }
}

/// The maps of a configuration.
#[derive(Debug)]
pub(crate) struct Maps(pub(crate) Vec<Map>);

impl Maps {
    /// The map of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Map> {
        self.0.iter().find(|map| map.name == name)
    }

    /// A map that needs itself, directly or through others, if there is one.
    pub(crate) fn in_a_circle(&self) -> Option<&Map> {
        let mut left: Vec<&Map> = self.0.iter().collect();
        loop {
            let before = left.len();
            let waiting: Vec<&str> = left.iter().map(|map| map.name()).collect();
            left.retain(|map| map.names().any(|name| waiting.contains(&name)));
            if left.len() == before {
                return left.first().copied();
            }
        }
    }
}
