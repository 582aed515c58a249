//! What it changed that a configuration came into force.

use std::fmt;

/// The upstreams of a configuration.
#[derive(Clone, Copy)]
pub(crate) struct Declared<'a> {
    pub(crate) names: &'a [&'a str],
    /// What tells the declaration of one of them from others; none for a name that is not among them.
    pub(crate) print: &'a dyn Fn(&str) -> Option<u32>,
}

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
    pub(crate) fn of<'b>(before: impl Iterator<Item = (&'b String, &'b u32)>, after: Declared<'_>) -> Self {
        let mut effect = Self { upstreams: after.names.len(), new: after.names.len(), ..Self::default() };
        for (name, known) in before {
            match (after.print)(name) {
                None => effect.removed += 1,
                Some(print) => {
                    effect.new = effect.new.saturating_sub(1);
                    effect.changed += usize::from(print != *known);
                }
            }
        }
        effect
    }
}

/// An effect for people, with the number of the configuration's servers.
pub(crate) struct Summary<'e>(pub(crate) &'e Effect, pub(crate) usize);

/// Such as `generation 7, 12 upstreams, 40 servers, 3 changed (1 new, 0 removed)`.
impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Effect { generation, upstreams, new, changed, removed, is_first }, servers) = self;
        let all = new + changed + removed;
        let first = match is_first {
            true => "; shared data was empty, as after a restart: what the API changed before is gone",
            false => "",
        };
        write!(
            f,
            "generation {generation}, {upstreams} upstreams, {servers} servers, {all} changed ({new} new, {removed} removed){first}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    #[test]
    fn new_ones_changed_ones_and_those_that_are_gone_are_told_apart() {
        let before = ["a", "b", "c", "d"].map(str::to_owned);
        let after = ["a", "b", "x"];
        let print = |name: &str| after.contains(&name).then(|| if name == "b" { 2 } else { 1 });
        let effect = Effect::of(before.iter().zip(&[1; 4]), Declared { names: &after, print: &print });
        assert_eq!((effect.new, effect.changed, effect.removed), (1, 1, 2));
        let effect = Effect { generation: 7, ..effect };
        assert_eq!(
            Summary(&effect, 40).to_string(),
            "generation 7, 3 upstreams, 40 servers, 4 changed (1 new, 2 removed)"
        );
    }
}
