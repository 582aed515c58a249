//! What it changed that a configuration came into force.

use std::collections::HashMap;
use std::fmt;

/// An upstream of a configuration: its name, and what tells its declaration from others.
pub(crate) type Declared<'a> = (&'a str, u32);

/// What it changed that a configuration came into force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effect {
    /// How many configurations came into force, of all filters together.
    pub(crate) generation: u64,
    /// How many upstreams it has.
    pub(crate) upstreams: usize,
    /// How many of them were not there before.
    pub(crate) new: usize,
    /// How many are declared otherwise than before.
    pub(crate) changed: usize,
    /// How many are there no more.
    pub(crate) removed: usize,
    /// It is the first of all in this shared data, which ends with the proxy.
    pub(crate) is_first: bool,
}

impl Effect {
    /// That of these upstreams after those.
    pub(crate) fn of<'a>(before: impl Iterator<Item = Declared<'a>>, after: &[Declared<'_>]) -> Self {
        let mut before: HashMap<&str, u32> = before.collect();
        let mut effect = Self { upstreams: after.len(), ..Self::default() };
        for (name, print) in after {
            match before.remove(name) {
                None => effect.new += 1,
                Some(known) if known != *print => effect.changed += 1,
                Some(_) => {}
            }
        }
        Self { removed: before.len(), ..effect }
    }
}

/// An effect for people, with the number of the configuration's servers.
pub(crate) struct Summary<'e>(pub(crate) &'e Effect, pub(crate) usize);

/// Such as `generation 7, 12 upstreams, 40 servers, 3 changed (1 new)`, with the number of servers.
impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Effect { generation, upstreams, new, changed, removed, is_first }, servers) = self;
        let (all, s) = (new + changed + removed, |count: usize| if count == 1 { "" } else { "s" });
        let (more, most) = (s(*upstreams), s(*servers));
        write!(f, "generation {generation}, {upstreams} upstream{more}, {servers} server{most}, {all} changed")?;
        match (new, removed) {
            (0, 0) => {}
            (_, 0) => write!(f, " ({new} new)")?,
            (0, _) => write!(f, " ({removed} removed)")?,
            _ => write!(f, " ({new} new, {removed} removed)")?,
        }
        if *is_first {
            f.write_str("; shared data was empty, as after a restart: what the API changed before is gone")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn new_ones_changed_ones_and_those_that_are_gone_are_told_apart() {
        let before = [("a", 1), ("b", 1), ("c", 1), ("d", 1)];
        let effect = Effect::of(before.into_iter(), &[("a", 1), ("b", 2), ("x", 1)]);
        assert_eq!((effect.new, effect.changed, effect.removed), (1, 1, 2));
        let effect = Effect { generation: 7, ..effect };
        assert_eq!(
            Summary(&effect, 40).to_string(),
            "generation 7, 3 upstreams, 40 servers, 4 changed (1 new, 2 removed)"
        );
        let same = Effect::of(before.into_iter(), &before);
        assert_eq!(Summary(&same, 4).to_string(), "generation 0, 4 upstreams, 4 servers, 0 changed");
    }
}
