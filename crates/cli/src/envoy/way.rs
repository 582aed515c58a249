//! The way from the root of a text to something in it.

use super::yaml::{Doc, Id};

/// A step from a node to one below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Doc {
    /// The way from the root to the node.
    pub(crate) fn steps(&self, id: Id) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut id = id;
        while let Some(parent) = self.parent(id) {
            if self.is_list(parent) {
                steps.push(Step::Index(self.items(parent).iter().position(|item| *item == id).unwrap_or_default()));
            } else {
                let key = self.entries(parent).iter().find(|(key, value)| *key == id || *value == id);
                steps.push(Step::Key(key.and_then(|(key, _)| self.scalar(*key)).unwrap_or_default().to_owned()));
            }
            id = parent;
        }
        steps.reverse();
        steps
    }

    /// What is at the end of this way.
    pub(crate) fn find(&self, steps: &[Step]) -> Option<Id> {
        steps.iter().try_fold(self.root(), |id, step| match step {
            Step::Key(key) => self.get(id, key),
            // A list of one may be written without brackets and dashes, and is no step then.
            Step::Index(at) => self.items(id).get(*at).copied(),
        })
    }

    /// The way from the root as a person reads it: `static_resources.listeners[0]`.
    pub(crate) fn path(&self, id: Id) -> String {
        let mut path = String::new();
        for step in self.steps(id) {
            match step {
                Step::Index(at) => path += &format!("[{at}]"),
                Step::Key(key) if path.is_empty() => path += &key,
                Step::Key(key) => path += &format!(".{key}"),
            }
        }
        path
    }
}
