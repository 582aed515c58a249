//! The log lines of changes: one for each that somebody made, and one for each new state of a peer, as far as the budget for those goes.

use std::fmt;
use std::net::IpAddr;

use crate::model::ejection::Kept;
use crate::model::state::PeerState;
use crate::model::upstream_state::{Tally, ToldState, UpstreamState};
use crate::store::Store;

/// Who changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Author {
    /// A script in this filter.
    Script,
    /// A client of the management API, where its address is known.
    Client(Option<IpAddr>),
}

impl Author {
    /// By whose word a peer's state is what the author made it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Script => "script",
            Self::Client(_) => "operator",
        }
    }
}

/// Writes the line that tells of a change that somebody made.
pub(crate) fn change(author: Author, upstream: &str, what: &dyn fmt::Display) {
    match author {
        Author::Script => log::info!("script: upstream={upstream} {what}"),
        Author::Client(Some(client)) => log::info!("admin: client={client} upstream={upstream} {what}"),
        Author::Client(None) => log::info!("admin: client=unknown upstream={upstream} {what}"),
    }
}

/// The same for a change that stands in shared data alone, which ends with Envoy, and with each configuration of nginx. Whoever orders something by hand has to know
/// that; a script does it again when it starts again.
pub(crate) fn order(author: Author, upstream: &str, what: &dyn fmt::Display) {
    match author {
        Author::Script => change(author, upstream, what),
        Author::Client(_) => change(author, upstream, &format_args!("{what} (until Envoy restarts or nginx reloads)")),
    }
}

/// Writes the line that tells of a peer's new state, if it is one: by whose word, and why, and what keeps it in use nevertheless.
///
/// An outage is one line when it begins and one when it ends, whoever finds out about it, and however: what only changes in
/// between is for those who look for it.
pub(crate) fn report(upstream: &str, peer: &str, change: [PeerState; 2], by: &str, why: &str, kept: Option<Kept>) {
    let [from, to] = change;
    if from == to || (from.is_usable() && to.is_usable()) {
        return;
    }
    let level = level(change, by);
    let why = kept.map_or_else(|| why.to_owned(), |kept| format!("{why}; {kept}"));
    let by = quoted(by);
    log::log!(level, "peer state: upstream={upstream} peer={peer} from={from} to={to} by={by} why={why:?}");
}

/// The same for a state that nobody ordered: such changes may come by the thousand, and are logged as long as their common budget lasts.
pub(crate) fn observe(
    store: &Store<'_>,
    upstream: &str,
    peer: &str,
    change: [PeerState; 2],
    by: &str,
    why: &str,
    kept: Option<Kept>,
) {
    let [from, to] = change;
    let is_told = from != to && !(from.is_usable() && to.is_usable());
    if is_told && may_log(store, PEERS, level(change, by)) {
        report(upstream, peer, change, by, why, kept);
    }
}

/// How much a new state matters.
fn level([from, to]: [PeerState; 2], by: &str) -> log::Level {
    let is_out = |state| matches!(state, PeerState::Down | PeerState::TemporaryDown);
    match to.is_usable() {
        _ if is_out(from) && is_out(to) && by != "operator" && by != "script" => log::Level::Debug,
        true => log::Level::Info,
        false => log::Level::Warn,
    }
}

/// What lines about states are about. Each has a budget of its own: that of the peers must not silence the upstreams, of which there are fewer.
const PEERS: &str = "peer state";
const UPSTREAMS: &str = "upstream state";

/// Whether the budget has room for one more line.
fn may_log(store: &Store<'_>, subject: &str, level: log::Level) -> bool {
    if !log::log_enabled!(level) {
        return false;
    }
    let (now, mut may) = (store.now(), true);
    // Better one line too many than a silence that nobody knows of.
    store.change_log_budget(subject, &mut |budget| may = budget.take(now)).is_err() || may
}

/// Tells what was not logged of states, once a minute, whichever worker comes first.
pub(crate) fn tell_silence(store: &Store<'_>) {
    [PEERS, UPSTREAMS].into_iter().for_each(|subject| tell_silence_of(store, subject));
}

fn tell_silence_of(store: &Store<'_>, subject: &str) {
    let (now, mut silence) = (store.now(), None);
    let told = store.change_log_budget(subject, &mut |budget| silence = budget.tell(now));
    if let (Ok(()), Some((lines, time))) = (told, silence) {
        log::warn!(
            "{subject}: {lines} more changes were not logged in {}s: the status page and GET /upstreams have the states",
            time.as_secs()
        );
    }
}

/// How much an upstream's new state matters.
fn level_of_upstream(to: UpstreamState) -> log::Level {
    match to {
        UpstreamState::Up => log::Level::Info,
        UpstreamState::Degraded => log::Level::Warn,
        UpstreamState::Down => log::Level::Error,
    }
}

/// Whether the budget has room for a line that tells of an upstream's new state. To be asked before that is written: between the write and
/// the line others would come first with theirs.
pub(crate) fn may_tell(store: &Store<'_>, to: UpstreamState) -> bool {
    may_log(store, UPSTREAMS, level_of_upstream(to))
}

/// Writes the line that tells of an upstream's new state.
pub(crate) fn upstream_state(upstream: &str, from: UpstreamState, told: &ToldState, tally: &Tally) {
    let ToldState { state: to, by, why, .. } = told;
    let by = quoted(by);
    log::log!(
        level_of_upstream(*to),
        "upstream state: upstream={upstream} from={from} to={to} by={by} why={why:?} {tally}"
    );
}

/// In quotation marks where there is a space in it.
fn quoted(word: &str) -> String {
    if word.contains(char::is_whitespace) {
        format!("{word:?}")
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::test;
    use durpina_sim::Sim;

    #[test]
    fn all_workers_have_one_budget_and_what_is_ordered_is_always_told() {
        let sim = Sim::new();
        let hosts = [(); 3].map(|()| sim.worker());
        let went = [PeerState::Up, PeerState::TemporaryDown];
        let mut before = 0;
        for minute in 0..4 {
            // 100 peers that go and come all the time.
            for second in 0..60 {
                for change in 0..50 {
                    let host = &hosts[change % hosts.len()];
                    observe(
                        &Store::new(host),
                        "web",
                        &format!("10.0.0.{change}:80"),
                        went,
                        "passive",
                        "no connection",
                        None,
                    );
                }
                sim.advance(Duration::from_secs(1));
                hosts.iter().for_each(|host| tell_silence(&Store::new(host)));
                report("web", "10.0.0.1:80", went, "operator", &format!("ordered in second {second}"), None);
            }
            assert_eq!(sim.logged("by=operator").len(), 60 * (minute + 1));
            let lines = sim.logged("peer state").len() - sim.logged("by=operator").len();
            let most = if minute == 0 { 270 } else { 65 };
            assert!(lines - before <= most, "{} lines in minute {minute}", lines - before);
            before = lines;
        }
        let told = sim.logged("were not logged");
        assert!((3..=4).contains(&told.len()), "{told:?}");
        assert!(told[0].contains(" more changes were not logged in 60s: the status page"), "{told:?}");
    }

    #[test]
    fn upstreams_have_a_budget_of_their_own() {
        let sim = Sim::new();
        let host = sim.worker();
        let store = Store::new(&host);
        let record = crate::model::upstream::Record::new("web");
        let (table, status) = Default::default();
        let assessment = crate::model::ejection::Assessment::of(&record, &table, &status, store.now());
        let tally = Tally::of(&record, &assessment, store.now());
        let told = ToldState { state: UpstreamState::Down, since: store.now(), by: String::new(), why: String::new() };
        let went = [PeerState::Up, PeerState::TemporaryDown];
        (0..1_000).for_each(|_| observe(&store, "web", "10.0.0.1:80", went, "passive", "no connection", None));
        let tell = |_| upstream_state("web", UpstreamState::Up, &told, &tally);
        (0..1_000).filter(|_| may_tell(&store, told.state)).for_each(tell);
        assert_eq!((sim.logged("peer state").len(), sim.logged("upstream state").len()), (200, 200));
    }

    #[test]
    fn where_the_budget_cannot_be_kept_everything_is_told() {
        let sim = Sim::new();
        sim.fill_up(true);
        let host = sim.worker();
        let went = [PeerState::Up, PeerState::TemporaryDown];
        (0..1_000)
            .for_each(|_| observe(&Store::new(&host), "web", "10.0.0.1:80", went, "passive", "no connection", None));
        assert_eq!(sim.logged("peer state").len(), 1_000);
    }
}
