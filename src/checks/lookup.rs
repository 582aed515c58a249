//! The names under way: which name server is asked what, and what follows from the answers.
//!
//! A name is looked up for IPv4, and for IPv6 unless that is switched off, at one name server. Where that one fails, the next one is asked. Nothing here
//! calls: [`next_question`](Lookups::next_question) says what to ask, and [`answer`](Lookups::answer) takes in what came of it.

use std::net::IpAddr;
use std::time::Duration;

use super::dns::{Answer, Family};
use crate::model::id::PeerId;

/// The names that one worker looks up.
#[derive(Default)]
pub(super) struct Lookups {
    under_way: Vec<(u64, Lookup)>,
    /// The number of the latest.
    latest: u64,
}

/// A name that is being looked up.
struct Lookup {
    /// The upstream's position.
    upstream: usize,
    peer: PeerId,
    name: String,
    /// What is looked up.
    families: &'static [Family],
    /// Which name server is asked.
    server: usize,
    /// What is not asked yet.
    questions: Vec<Family>,
    /// How many answers are missing.
    missing: usize,
    answers: Vec<Result<Answer, String>>,
}

/// What is to be asked next.
pub(super) struct NextQuestion {
    /// The number of the lookup that wants to know.
    pub(super) lookup: u64,
    pub(super) upstream: usize,
    pub(super) peer: PeerId,
    pub(super) name: String,
    pub(super) family: Family,
    /// Which of the upstream's name servers is asked.
    pub(super) server: usize,
}

/// What became of a lookup.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Resolved {
    /// The addresses, how long they hold, and whether only one of the two questions was answered.
    Found(Vec<IpAddr>, Duration, bool),
    /// There is no such name, or it has no address; in words.
    Gone(String),
    /// Nobody knows; why.
    Failed(String),
}

impl Lookup {
    /// Asks all of it.
    fn ask(&mut self) {
        self.questions = self.families.to_vec();
        (self.missing, self.answers) = (self.families.len(), Vec::new());
    }
}

impl Lookups {
    /// Begins to look up a peer's name, for IPv6 too or not, unless it is being looked up.
    pub(super) fn begin(&mut self, upstream: usize, peer: PeerId, name: String, ipv6: bool) {
        if self.under_way.iter().any(|(_, known)| known.upstream == upstream && known.peer == peer) {
            return;
        }
        self.latest += 1;
        let families: &[Family] = if ipv6 { &[Family::V4, Family::V6] } else { &[Family::V4] };
        let (questions, answers) = (Vec::new(), Vec::new());
        let mut lookup = Lookup { upstream, peer, name, families, server: 0, questions, missing: 0, answers };
        lookup.ask();
        self.under_way.push((self.latest, lookup));
    }

    /// Whether there is anything to ask.
    pub(super) fn has_questions(&self) -> bool {
        self.under_way.iter().any(|(_, lookup)| !lookup.questions.is_empty())
    }

    /// What is to be asked next. It counts as asked.
    pub(super) fn next_question(&mut self) -> Option<NextQuestion> {
        let (number, lookup) = self.under_way.iter_mut().find(|(_, lookup)| !lookup.questions.is_empty())?;
        let family = lookup.questions.remove(0);
        let (name, server) = (lookup.name.clone(), lookup.server);
        Some(NextQuestion { lookup: *number, upstream: lookup.upstream, peer: lookup.peer, name, family, server })
    }

    /// Takes in what came of a question, where the upstream has so many name servers. When it was the last one, draws the
    /// conclusion for the peer or goes on to the next name server.
    pub(super) fn answer(
        &mut self,
        number: u64,
        answer: Result<Answer, String>,
        servers: usize,
    ) -> Option<(usize, PeerId, Resolved)> {
        let at = self.under_way.iter().position(|(known, _)| *known == number)?;
        let (_, lookup) = self.under_way.get_mut(at)?;
        lookup.answers.push(answer);
        lookup.missing = lookup.missing.saturating_sub(1);
        if lookup.missing > 0 {
            return None;
        }
        let outcome = conclude(&lookup.answers, lookup.families);
        lookup.server += 1;
        if matches!(outcome, Resolved::Failed(_)) && lookup.server < servers {
            lookup.ask();
            return None;
        }
        let (_, lookup) = self.under_way.swap_remove(at);
        Some((lookup.upstream, lookup.peer, outcome))
    }

    /// Gives up a lookup.
    pub(super) fn forget(&mut self, number: u64) {
        self.under_way.retain(|(known, _)| *known != number);
    }

    /// The upstream of the lookup of that number.
    pub(super) fn upstream(&self, number: u64) -> Option<usize> {
        self.under_way.iter().find(|(known, _)| *known == number).map(|(_, lookup)| lookup.upstream)
    }
}

/// What the answers say, one for each family that was asked for.
fn conclude(answers: &[Result<Answer, String>], families: &[Family]) -> Resolved {
    let mut found = Vec::new();
    let mut hold = None;
    let (mut no_such_name, mut error) = (false, None);
    for answer in answers {
        match answer {
            Ok(Answer::Addresses(addresses, time)) if !addresses.is_empty() => {
                found.extend_from_slice(addresses);
                hold = Some(hold.map_or(*time, |hold: Duration| hold.min(*time)));
            }
            Ok(Answer::Addresses(..)) => {}
            Ok(Answer::NoSuchName) => no_such_name = true,
            Err(why) => error = error.or(Some(why)),
        }
    }
    // In whatever order the two came.
    let (mut found, v6): (Vec<IpAddr>, Vec<IpAddr>) = found.into_iter().partition(IpAddr::is_ipv4);
    found.extend(v6);
    match (hold, error) {
        (Some(hold), error) => Resolved::Found(found, hold, error.is_some()),
        (None, _) if no_such_name => Resolved::Gone("the name does not exist".to_owned()),
        (None, Some(why)) => Resolved::Failed(why.clone()),
        (None, None) if families.contains(&Family::V6) => Resolved::Gone("the name has no address".to_owned()),
        (None, None) => Resolved::Gone("the name has no IPv4 address, and resolver_ipv6 is false".to_owned()),
    }
}
