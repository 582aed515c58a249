//! What is known of a balancer by its name.

use std::rc::Rc;

use super::{Balancer, Candidates, Entry, Labels, Options, Pick, TableKind};
use crate::host::subject::about;
use crate::settings::{Reading, Settings};

/// What a balancer's key is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// It hashes nothing.
    Nothing,
    /// The client's address.
    Client,
    /// The option `key`.
    Template,
    /// The option `key`, if there is one.
    Perhaps,
}

/// How a balancer is made.
pub(crate) enum Make {
    BuiltIn(fn(&Options) -> Box<dyn Balancer>),
    Own(Box<dyn Own>),
}

/// A kind of balancer of one's own. A trait, so that a filter without such balancers does not hold what these need.
pub(crate) trait Own {
    /// Reads its options.
    fn read(&self, reading: &mut Reading<'_>);

    /// The labels of a peer, as its balancers get them.
    fn labels(&self, labels: &[(String, String)]) -> Labels;

    /// Makes one, from options that were read before.
    fn make(&self, options: &Options, own: &str) -> Box<dyn Balancer>;
}

struct Made<F>(F);

impl<F: Fn(&Options, &mut Settings) -> Box<dyn Balancer>> Own for Made<F> {
    fn read(&self, reading: &mut Reading<'_>) {
        about(reading.at.to_string(), || reading.read(|settings| drop((self.0)(&Options::default(), settings))));
    }

    fn labels(&self, labels: &[(String, String)]) -> Labels {
        (!labels.is_empty()).then(|| Rc::from(labels))
    }

    fn make(&self, options: &Options, own: &str) -> Box<dyn Balancer> {
        Box::new(Guarded { own: (self.0)(options, &mut Settings::stored(own)), entries: Vec::new() })
    }
}

/// Picks nobody.
struct Nobody;

impl Balancer for Nobody {
    fn set_entries(&mut self, _entries: &[Entry]) {}

    fn pick(&mut self, _request: &Pick<'_>, _candidates: &mut Candidates) {}
}

/// A balancer of one's own, whose word is not taken for it that an entry is there and open.
struct Guarded {
    own: Box<dyn Balancer>,
    entries: Vec<Entry>,
}

impl Balancer for Guarded {
    fn set_entries(&mut self, entries: &[Entry]) {
        self.entries = entries.to_vec();
        self.own.set_entries(entries);
    }

    fn pick(&mut self, request: &Pick<'_>, candidates: &mut Candidates) {
        let mut named = *candidates;
        self.own.pick(request, &mut named);
        let is_open = |position: &&u32| self.entries.get(**position as usize).is_some_and(Entry::is_open);
        named.as_slice().iter().filter(is_open).for_each(|position| candidates.push(*position));
    }
}

/// A balancer that configurations can name.
///
/// ```
/// use durpina::balancer::{Balancer, BalancerKind, Candidates, Entry, Pick};
/// use durpina::Registry;
///
/// /// The first one that is open.
/// struct First(Vec<Entry>);
///
/// impl Balancer for First {
///     fn set_entries(&mut self, entries: &[Entry]) {
///         self.0 = entries.to_vec();
///     }
///
///     fn pick(&mut self, _request: &Pick<'_>, candidates: &mut Candidates) {
///         (0..).zip(&self.0).filter(|(_, entry)| entry.is_open()).for_each(|(at, _)| candidates.push(at));
///     }
/// }
///
/// let registry = Registry::default().with_balancer(BalancerKind::new("first", |_, _| Box::new(First(Vec::new()))));
/// ```
pub struct BalancerKind {
    /// The name in the configuration.
    pub name: &'static str,
    /// What its key is made of.
    pub key: KeySource,
    /// Whether it needs response times, and the time with each pick.
    pub timed: bool,
    /// The table that it has, if it has one whose size is worth a thought.
    pub table: Option<&'static TableKind>,
    pub(crate) make: Make,
}

impl BalancerKind {
    /// A balancer of one's own, under a name: 1 to 64 lower-case letters, digits, `-`, `_` and `.`.
    ///
    /// `make` makes one without entries, from the options of its own; what is wrong with them goes into the settings. That is done when a
    /// configuration is read, to find mistakes, and by each worker that needs the balancer.
    #[must_use]
    pub fn new(name: &'static str, make: impl Fn(&Options, &mut Settings) -> Box<dyn Balancer> + 'static) -> Self {
        let make = Make::Own(Box::new(Made(make)));
        Self { name, key: KeySource::Nothing, timed: false, table: None, make }
    }

    /// A balancer of this name whose options are not looked at, and which picks nobody: for tools that read the configuration of a filter
    /// and do not have its balancers.
    #[must_use]
    pub fn unchecked(name: &'static str) -> Self {
        let make = |_: &Options, settings: &mut Settings| -> Box<dyn Balancer> {
            settings.accept_all();
            Box::new(Nobody)
        };
        Self { key: KeySource::Perhaps, ..Self::new(name, make) }
    }

    /// The same balancer with a key: the option `key` becomes a must, and [`Pick::key`](super::Pick::key) is its text for the request.
    #[must_use]
    pub fn keyed(self) -> Self {
        Self { key: KeySource::Template, ..self }
    }

    /// The same balancer with [`Pick::now`](super::Pick::now) set, and with response times in the entries' [loads](super::load).
    #[must_use]
    pub fn timed(self) -> Self {
        Self { timed: true, ..self }
    }

    pub(crate) fn built_in(name: &'static str, key: KeySource, make: fn(&Options) -> Box<dyn Balancer>) -> Self {
        Self { name, key, timed: false, table: None, make: Make::BuiltIn(make) }
    }

    /// Makes one, without entries. `own` are the options of its own, a JSON object; empty for none.
    #[must_use]
    pub fn make(&self, options: &Options, own: &str) -> Box<dyn Balancer> {
        match &self.make {
            Make::BuiltIn(make) => make(options),
            Make::Own(make) => make.make(options, own),
        }
    }

    pub(crate) fn own(&self) -> Option<&dyn Own> {
        match &self.make {
            Make::BuiltIn(_) => None,
            Make::Own(own) => Some(&**own),
        }
    }
}
