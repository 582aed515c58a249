//! Which instances of the filter there are, which of their configurations is in force, and which upstreams that has.
//!
//! An instance is known by its name. Hosts keep the filter of a configuration that was replaced while its connections drain, make a new
//! one of it when its VM crashes, and go on with it, without a word, when the configuration comes back. What tells these apart is connections:
//! they are numbered in the order in which they are accepted, so one that is newer than a connection of its successor's
//! says that a configuration is in force again.
//!
//! Two filters of one name with different configurations, in two listeners say, look like one configuration that comes and
//! goes, time and again. When that happens too often, the one that came later stays in force while its filters are heard of.
//!
//! A filter serves its own upstreams as long as it lives. For others there are those of the configuration in force, and those of
//! replaced ones whose filters are heard of still: they may be in another listener, and not draining at all.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::effect::{Declared, Effect};
use crate::time::Timestamp;

/// How many configurations of an instance are remembered.
const MOST_CONFIGURATIONS: usize = 16;
/// When configurations come back this often within [`COMEBACK_TIME`], two filters have one name: people deploy and roll back,
/// but not that fast.
const MOST_COMEBACKS: usize = 6;
/// See [`MOST_COMEBACKS`].
const COMEBACK_TIME: Duration = Duration::from_secs(60);
/// After so long without a word the filters of a configuration are gone.
const SILENCE: Duration = Duration::from_secs(10);
/// How often filters of a replaced configuration are heard of.
const WORD: Duration = Duration::from_secs(4);

/// The instances of the filter, with the upstreams that they have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Index {
    instances: Vec<Instance>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Instance {
    name: String,
    /// The configuration in force.
    in_force: u64,
    /// Counts how often another configuration came into force.
    generation: u64,
    /// The configurations that it has had, in the order in which they came first.
    configurations: Vec<Configuration>,
    /// What tells the declarations of the upstreams in force from others, in their order.
    prints: Vec<u32>,
    /// When configurations came back.
    comebacks: Vec<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Configuration {
    number: u64,
    /// A connection that it served since it last came into force.
    connection: Option<u64>,
    /// Its upstreams; none once its filters are gone.
    upstreams: Vec<String>,
    /// When its filters were last heard of; while it is in force that is kept only where another one is beaten.
    heard: Timestamp,
    /// Another filter of this name is in force, and stays as long as it is heard of.
    is_beaten: bool,
}

/// Where a configuration stands among those of its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is not known.
    Unknown,
    /// It is in force.
    InForce,
    /// Another one is.
    Replaced,
    /// Another filter's of this name is, and stays as long as it is heard of.
    Beaten,
}

/// What becomes of a configuration whose filter got a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Comeback {
    /// It stays replaced.
    No,
    /// It is in force again.
    Yes,
    /// Another filter has the same name, with these upstreams. Whether this one's configuration is the later one and stays in force.
    Rival(Vec<String>, bool),
}

impl Index {
    /// Where a configuration stands.
    pub(crate) fn standing(&self, instance: &str, configuration: u64, now: Timestamp) -> Standing {
        let Some(entry) = self.instance(instance) else { return Standing::Unknown };
        match entry.find(configuration) {
            _ if entry.in_force == configuration => Standing::InForce,
            Some(known) if entry.is_beaten(known, now) => Standing::Beaten,
            // Where no connection is known the host may not count them, and whoever comes last counts.
            Some(_) if entry.configurations.iter().all(|known| known.connection.is_none()) => Standing::Unknown,
            Some(_) => Standing::Replaced,
            None => Standing::Unknown,
        }
    }

    /// A connection that the configuration in force serves.
    pub(crate) fn connection(&self, instance: &str) -> Option<u64> {
        let entry = self.instance(instance)?;
        entry.find(entry.in_force)?.connection
    }

    /// Whether there is an instance of that name.
    pub(crate) fn has(&self, instance: &str) -> bool {
        self.instance(instance).is_some()
    }

    /// What it will change if a configuration with these upstreams is the next that comes into force.
    pub(crate) fn effect(&self, instance: &str, upstreams: Declared<'_>) -> Effect {
        let entry = self.instance(instance);
        let known = entry.and_then(|entry| Some((&entry.prints, entry.find(entry.in_force)?)));
        let before = known.into_iter().flat_map(|(prints, known)| known.upstreams.iter().zip(prints));
        let generation = self.generation().wrapping_add(1);
        Effect { generation, is_first: self.instances.is_empty(), ..Effect::of(before, upstreams) }
    }

    /// Takes in a configuration that is new, with its upstreams. Returns whether it came into force by that.
    pub(crate) fn register(
        &mut self,
        instance: &str,
        configuration: u64,
        upstreams: Declared<'_>,
        now: Timestamp,
    ) -> bool {
        if self.standing(instance, configuration, now) != Standing::Unknown {
            return false;
        }
        let entry = match self.instances.iter_mut().position(|entry| entry.name == instance) {
            Some(at) => self.instances.get_mut(at),
            None => {
                self.instances.push(Instance::new(instance));
                self.instances.last_mut()
            }
        };
        if let Some(entry) = entry {
            entry.put_in_force(configuration, None, upstreams, now);
            // With a new one, what the others fought about is over.
            entry.end_contest();
        }
        true
    }

    /// Notes that a configuration serves a connection, if it is in force and none of its is known yet.
    pub(crate) fn note_connection(&mut self, instance: &str, configuration: u64, connection: u64) {
        let entry = self.instances.iter_mut().find(|entry| entry.name == instance && entry.in_force == configuration);
        let known = entry.and_then(|entry| entry.configurations.iter_mut().find(|known| known.number == configuration));
        if let Some(known) = known {
            known.connection.get_or_insert(connection);
        }
    }

    /// Decides what becomes of a configuration that is not in force, because its filter got this connection. `is_new` says that
    /// the filter is: it has not been in force since it was made.
    pub(crate) fn come_back(
        &mut self,
        instance: &str,
        configuration: u64,
        connection: u64,
        is_new: bool,
        upstreams: Declared<'_>,
        now: Timestamp,
    ) -> Comeback {
        let Some(entry) = self.instances.iter_mut().find(|entry| entry.name == instance) else { return Comeback::No };
        let rival = entry.in_force;
        let is_newer = match entry.find(rival).and_then(|rival| rival.connection) {
            Some(theirs) => connection > theirs,
            None => is_new,
        };
        let own = entry.find(configuration);
        if rival == configuration || !is_newer || own.is_some_and(|known| entry.is_beaten(known, now)) {
            return Comeback::No;
        }
        if own.is_some_and(|known| known.is_beaten) {
            // The other filter is gone, and with it the contest.
            entry.end_contest();
        }
        entry.comebacks.retain(|at| *at <= now && now.since(*at) < COMEBACK_TIME);
        entry.comebacks.push(now);
        let is_rival = entry.comebacks.len() >= MOST_COMEBACKS;
        // Whoever is not remembered was there before all that are.
        let came = |number| entry.configurations.iter().position(|known| known.number == number);
        let is_later = came(configuration) > came(rival);
        let theirs = entry.find(rival).map(|rival| rival.upstreams.clone()).unwrap_or_default();
        if !is_rival || is_later {
            entry.put_in_force(configuration, Some(connection), upstreams, now);
        }
        if !is_rival {
            return Comeback::Yes;
        }
        let (winner, loser) = if is_later { (configuration, rival) } else { (rival, configuration) };
        for known in &mut entry.configurations {
            known.is_beaten |= known.number == loser;
            known.heard = if known.number == winner { now } else { known.heard };
        }
        Comeback::Rival(theirs, is_later)
    }

    /// Whether a configuration whose filters are there has an upstream of that name.
    pub(crate) fn lists(&self, upstream: &str, now: Timestamp) -> bool {
        let configurations =
            self.instances.iter().flat_map(|entry| entry.configurations.iter().map(move |known| (entry, known)));
        let mut there = configurations.filter(|(entry, known)| entry.in_force == known.number || known.is_heard(now));
        there.any(|(_, known)| known.upstreams.iter().any(|name| name == upstream))
    }

    /// Whether filters of a configuration should be heard of again: of one that was replaced, or that beat another.
    pub(crate) fn is_word_due(&self, instance: &str, configuration: u64, now: Timestamp) -> bool {
        let is_asked = |entry: &&Instance| {
            entry.in_force != configuration || entry.configurations.iter().any(|known| known.is_beaten)
        };
        let known = self.instance(instance).filter(is_asked).and_then(|entry| entry.find(configuration));
        known.is_some_and(|known| now < known.heard || now.since(known.heard) >= WORD)
    }

    /// Takes in that filters of a configuration, which has these upstreams, are there still.
    pub(crate) fn hear(&mut self, instance: &str, configuration: u64, upstreams: &[&str], now: Timestamp) {
        let Some(entry) = self.instances.iter_mut().find(|entry| entry.name == instance) else { return };
        let in_force = entry.in_force;
        if let Some(known) = entry.configurations.iter_mut().find(|known| known.number == configuration) {
            known.heard = now;
            if known.upstreams.is_empty() {
                known.upstreams = upstreams.iter().map(|name| (*name).to_owned()).collect();
            }
        }
        for known in entry.configurations.iter_mut().filter(|known| known.number != in_force && !known.is_heard(now)) {
            known.upstreams.clear();
        }
    }

    /// The names of the upstreams in force, none twice.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let in_force = |entry: &&Instance, known: &&Configuration| entry.in_force == known.number || known.is_beaten;
        let counting = self
            .instances
            .iter()
            .flat_map(|entry| entry.configurations.iter().filter(move |known| in_force(&entry, known)));
        let names = counting.flat_map(|known| &known.upstreams).map(String::as_str);
        names.filter(|name| seen.insert(*name)).collect()
    }

    /// How many configurations came into force, of all instances together.
    pub(crate) fn generation(&self) -> u64 {
        self.instances.iter().map(|instance| instance.generation).sum()
    }

    fn instance(&self, name: &str) -> Option<&Instance> {
        self.instances.iter().find(|entry| entry.name == name)
    }
}

impl Instance {
    fn new(name: &str) -> Self {
        let (configurations, prints, comebacks) = (Vec::new(), Vec::new(), Vec::new());
        Self { name: name.to_owned(), in_force: 0, generation: 0, configurations, prints, comebacks }
    }

    fn find(&self, configuration: u64) -> Option<&Configuration> {
        self.configurations.iter().find(|known| known.number == configuration)
    }

    /// Whether a configuration gives way to the one in force: while that one's filters are heard of.
    fn is_beaten(&self, known: &Configuration, now: Timestamp) -> bool {
        known.is_beaten && self.find(self.in_force).is_some_and(|winner| winner.is_heard(now))
    }

    fn end_contest(&mut self) {
        self.comebacks.clear();
        self.configurations.iter_mut().for_each(|known| known.is_beaten = false);
    }

    fn put_in_force(&mut self, number: u64, connection: Option<u64>, upstreams: Declared<'_>, now: Timestamp) {
        self.prints = upstreams.names.iter().map(|name| (upstreams.print)(name).unwrap_or_default()).collect();
        let upstreams = upstreams.names.iter().map(|name| (*name).to_owned()).collect();
        // Its filters were there until now at least.
        let replaced = std::mem::replace(&mut self.in_force, number);
        self.configurations.iter_mut().filter(|known| known.number == replaced).for_each(|known| known.heard = now);
        self.generation = self.generation.wrapping_add(1);
        match self.configurations.iter_mut().find(|known| known.number == number) {
            Some(known) => (known.connection, known.upstreams, known.heard) = (connection, upstreams, now),
            None => {
                let new = Configuration { number, connection, upstreams, heard: now, is_beaten: false };
                self.configurations.push(new);
            }
        }
        let excess = self.configurations.len().saturating_sub(MOST_CONFIGURATIONS);
        self.configurations.drain(..excess);
    }
}

impl Configuration {
    fn is_heard(&self, now: Timestamp) -> bool {
        now.since(self.heard) < SILENCE && self.heard.since(now) < SILENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::test;

    /// Upstreams of these names that are declared as ever.
    fn own<'a>(names: &'a [&'a str]) -> Declared<'a> {
        Declared { names, print: &|_| Some(1) }
    }

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    #[test]
    fn a_configuration_is_replaced_by_a_new_one_and_comes_back_with_a_newer_connection() {
        let mut index = Index::default();
        assert!(index.register("a", 1, own(&["u", "v"]), NOW));
        assert!(!index.register("a", 1, own(&["u", "v"]), NOW), "another worker's");
        index.note_connection("a", 1, 10);
        assert!(index.register("a", 2, own(&["v"]), NOW) && index.register("b", 1, own(&["w", "v"]), NOW));
        assert_eq!((index.names(), index.generation()), (vec!["v", "w"], 3));
        assert_eq!(index.standing("a", 1, NOW), Standing::Replaced);
        assert_eq!(
            index.come_back("a", 1, 99, false, own(&["u", "v"]), NOW),
            Comeback::No,
            "its successor's are not known"
        );
        index.note_connection("a", 2, 20);
        index.note_connection("a", 2, 30);
        assert_eq!(index.come_back("a", 1, 19, true, own(&["u", "v"]), NOW), Comeback::No, "an old one");
        assert!(!index.register("a", 1, own(&["u", "v"]), NOW), "a VM that crashed while it drained");
        assert_eq!(index.come_back("a", 1, 21, false, own(&["u", "v"]), NOW), Comeback::Yes);
        assert_eq!((index.names(), index.standing("a", 2, NOW)), (vec!["u", "v", "w"], Standing::Replaced));
    }

    #[test]
    fn the_later_one_of_two_that_come_back_all_the_time_stays() {
        let mut index = Index::default();
        index.register("a", 1, own(&["u"]), NOW);
        index.note_connection("a", 1, 1);
        index.register("a", 2, own(&["v"]), NOW);
        index.note_connection("a", 2, 2);
        let mut came = (3..12).map(|n| index.come_back("a", 2 - n % 2, n, false, own(&["x"]), NOW)).collect::<Vec<_>>();
        let last = came.split_off(MOST_COMEBACKS);
        assert_eq!(came.pop(), Some(Comeback::Rival(vec!["x".to_owned()], true)));
        assert!(came.iter().all(|came| *came == Comeback::Yes), "{came:?}");
        assert!(last.iter().all(|came| *came == Comeback::No), "{last:?}");
        assert_eq!((index.standing("a", 1, NOW), index.standing("a", 2, NOW)), (Standing::Beaten, Standing::InForce));
        let later = NOW.after(WORD);
        assert!(index.is_word_due("a", 2, later), "the one that stays is asked for a word");
        index.hear("a", 2, &["y"], later);
        assert_eq!(index.standing("a", 1, NOW.after(SILENCE)), Standing::Beaten);
        assert_eq!(index.come_back("a", 1, 900, false, own(&["x"]), NOW.after(SILENCE)), Comeback::No);
        let gone = later.after(SILENCE);
        assert_eq!(index.standing("a", 1, gone), Standing::Replaced, "nobody hears of the other one any more");
        let mut without = index.clone();
        assert_eq!(without.come_back("a", 1, 900, false, own(&["x"]), gone), Comeback::Yes, "it was rolled back");
        assert!(index.register("a", 3, own(&["z"]), NOW), "a third one ends it");
        assert_eq!(index.standing("a", 1, NOW), Standing::Replaced);
        index.note_connection("a", 3, 20);
        let slowly = (0..9).map(|n| {
            let now = NOW.after(COMEBACK_TIME * (2 + n));
            index.come_back("a", u64::from(2 + n % 2), 21 + u64::from(n), false, own(&[]), now)
        });
        assert!(slowly.into_iter().all(|came| came == Comeback::Yes), "people roll back and forth");
    }

    #[test]
    fn a_replaced_configuration_s_upstreams_are_there_while_its_filters_are() {
        let mut index = Index::default();
        index.register("a", 1, own(&["red", "blue"]), NOW);
        index.register("a", 2, own(&["blue"]), NOW);
        let after = |seconds| NOW.after(Duration::from_secs(seconds));
        assert_eq!(index.names(), ["blue"]);
        assert!(index.lists("red", after(9)) && !index.is_word_due("a", 1, after(3)));
        assert!(index.is_word_due("a", 1, after(4)) && !index.is_word_due("a", 2, after(4)));
        index.hear("a", 1, &["red", "blue"], after(5));
        assert!(index.lists("red", after(14)) && !index.lists("red", after(15)));
        assert!(index.lists("blue", after(1_000)));
        index.register("a", 3, own(&["green"]), after(20));
        index.hear("a", 2, &["blue"], after(20));
        assert!(!index.lists("red", after(21)) && index.lists("blue", after(21)));
        index.hear("a", 1, &["red", "blue"], after(22));
        assert!(index.lists("red", after(22)), "it was only late");
    }

    #[test]
    fn without_connections_whoever_comes_last_counts() {
        let mut index = Index::default();
        let came = [1, 2, 1, 1, 2].map(|configuration| index.register("a", configuration, own(&["u"]), NOW));
        assert_eq!(came, [true, true, true, false, true]);
    }

    #[test]
    fn what_comes_into_force_is_compared_with_what_was() {
        let mut index = Index::default();
        let names = ["u", "w"];
        let print = |name: &str| names.contains(&name).then_some(if name == "u" { 2 } else { 1 });
        let next = Declared { names: &names, print: &print };
        assert!(index.effect("a", next).is_first);
        index.register("a", 1, own(&["u", "v"]), NOW);
        let (upstreams, is_first) = (2, false);
        let expected = Effect { generation: 2, upstreams, new: 1, changed: 1, removed: 1, is_first };
        assert_eq!(index.effect("a", next), expected);
        assert_eq!(index.effect("b", next).new, 2, "another filter's");
        index.register("a", 2, next, NOW);
        assert_eq!(index.effect("a", next), Effect { generation: 3, new: 0, changed: 0, removed: 0, ..expected });
    }
}
