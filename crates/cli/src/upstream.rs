//! The API's document of an upstream, as a person reads it.

use serde::Deserialize;
use serde_json::Value;

use crate::peer::{self, whose_and_why, Peer};
use crate::table::{self, Align};
use crate::text::one_line;

/// What is read of an upstream's document. Only what the API promises must be there.
#[derive(Debug, Deserialize)]
pub(crate) struct Upstream {
    name: String,
    revision: u64,
    peers: Vec<Peer>,
    #[serde(default)]
    monitors: Vec<Monitor>,
    balancer: Option<Value>,
    retries: Option<u64>,
    state: Option<String>,
    since: Option<String>,
    by: Option<String>,
    why: Option<String>,
    peers_up: Option<usize>,
    peers_out: Option<usize>,
    problem: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Monitor {
    id: String,
    name: String,
    interval: Option<String>,
    timeout: Option<String>,
    schedule: Option<String>,
    rise: Option<u64>,
    fall: Option<u64>,
    problem: Option<String>,
}

impl Upstream {
    /// The balancer's name; the API may tell its options, too.
    fn balancer(&self) -> String {
        match &self.balancer {
            Some(Value::String(name)) => name.clone(),
            Some(Value::Object(balancer)) => {
                balancer.get("name").and_then(Value::as_str).unwrap_or_default().to_owned()
            }
            _ => String::new(),
        }
    }

    /// How many peers nothing is against; counted here where the API does not say.
    fn peers_up(&self) -> usize {
        self.peers_up.unwrap_or_else(|| self.peers.iter().filter(|peer| peer.is_up()).count())
    }

    /// The state in a sentence; nothing where the API has none.
    fn condition(&self) -> Option<String> {
        let mut text = format!("{} ({} of {} up", self.state.as_ref()?, self.peers_up(), self.peers.len());
        if let Some(out @ 1..) = self.peers_out {
            text += &format!(", {out} in maintenance");
        }
        text.push(')');
        if let Some(since) = &self.since {
            text += &format!(" since {since}");
        }
        match (&self.by, &self.why) {
            (Some(by), Some(why)) => text += &format!(", by {by}: {why}"),
            (Some(by), None) => text += &format!(", by {by}"),
            (None, Some(why)) => text += &format!(": {why}"),
            (None, None) => {}
        }
        Some(text)
    }

    /// Everything about one: its state, what it is, its peers, its monitors.
    pub(crate) fn describe(&self) -> String {
        let mut text = one_line(&self.name) + ": ";
        if let Some(condition) = self.condition() {
            text += &one_line(&condition);
            text.push('\n');
        }
        text += &format!("revision {}", self.revision);
        let balancer = self.balancer();
        if !balancer.is_empty() {
            text += &format!(", balancer {}", one_line(&balancer));
        }
        if let Some(retries) = self.retries {
            text += &format!(", retries {retries}");
        }
        text += "\n\n";
        text += &peer::table(&self.peers);
        if !self.monitors.is_empty() {
            text.push('\n');
            text += &monitor_table(&self.monitors);
        }
        text + &self.problems()
    }

    /// What keeps checks from being made, and names from being looked up, a line each; nothing if nothing does.
    fn problems(&self) -> String {
        let names = self.problem.iter().map(|why| format!("names cannot be looked up: {why}"));
        let checks = self.monitors.iter().filter_map(|monitor| {
            let why = monitor.problem.as_ref()?;
            Some(format!("monitor {} cannot check: {why}", monitor.id))
        });
        let lines: String = names.chain(checks).map(|line| one_line(&line) + "\n").collect();
        if lines.is_empty() {
            lines
        } else {
            format!("\n{lines}")
        }
    }
}

/// One upstream a row. `UP` is how many peers nothing is against, of how many; `OUT` counts those in maintenance.
pub(crate) fn table(upstreams: &[Upstream]) -> String {
    let columns = [
        ("UPSTREAM", Align::Left),
        ("STATE", Align::Left),
        ("UP", Align::Right),
        ("OUT", Align::Right),
        ("REVISION", Align::Right),
        ("MONITORS", Align::Right),
        ("BALANCER", Align::Left),
        ("WHY", Align::Left),
    ];
    let rows = upstreams.iter().map(|upstream| {
        [
            upstream.name.clone(),
            upstream.state.clone().unwrap_or_default(),
            format!("{}/{}", upstream.peers_up(), upstream.peers.len()),
            upstream.peers_out.map(|out| out.to_string()).unwrap_or_default(),
            upstream.revision.to_string(),
            upstream.monitors.len().to_string(),
            upstream.balancer(),
            whose_and_why(upstream.by.as_deref(), upstream.why.as_deref()),
        ]
    });
    table::render(columns, rows)
}

fn monitor_table(monitors: &[Monitor]) -> String {
    let columns = [
        ("MONITOR", Align::Left),
        ("KIND", Align::Left),
        ("INTERVAL", Align::Right),
        ("TIMEOUT", Align::Right),
        ("RISE", Align::Right),
        ("FALL", Align::Right),
        ("SCHEDULE", Align::Left),
    ];
    let number = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    let rows = monitors.iter().map(|monitor| {
        [
            monitor.id.clone(),
            monitor.name.clone(),
            monitor.interval.clone().unwrap_or_default(),
            monitor.timeout.clone().unwrap_or_default(),
            number(monitor.rise),
            number(monitor.fall),
            monitor.schedule.clone().unwrap_or_default(),
        ]
    });
    table::render(columns, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(json: &str) -> Upstream {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn what_keeps_checks_from_being_made_is_told_last() {
        let web = upstream(
            r#"{"name": "web", "revision": 1, "peers": [], "problem": "no\nanswer", "monitors": [
                {"id": "a", "name": "tcp", "problem": "the gateway is not there"}, {"id": "b", "name": "http", "problem": null}]}"#,
        );
        let text = web.describe();
        assert!(
            text.ends_with(
                "\n\nnames cannot be looked up: no answer\nmonitor a cannot check: the gateway is not there\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn the_predecessors_document_is_enough() {
        let web = upstream(r#"{"name": "web", "revision": 1, "peers": [], "monitors": [{"id": "a", "name": "http"}]}"#);
        assert_eq!(
            web.describe(),
            "\
web: revision 1

PEER  ADDRESS  STATE  IN-USE  WEIGHT  FAILS  IN-FLIGHT  PICKS  WHY

MONITOR  KIND  INTERVAL  TIMEOUT  RISE  FALL  SCHEDULE
a        http         -        -     -     -
"
        );
    }

    #[test]
    fn up_are_those_without_a_verdict_where_the_api_does_not_count() {
        let web = upstream(
            r#"{"name": "web", "revision": 12, "monitors": [], "balancer": {"name": "ketama", "key": "$1"}, "peers": [
                {"name": "a", "state": "up"}, {"name": "b", "state": "failing"}, {"name": "c", "state": "down"},
                {"name": "d", "state": "temporary_down"}, {"name": "e", "state": "draining"}]}"#,
        );
        assert_eq!(
            table(&[web]),
            "\
UPSTREAM  STATE   UP  OUT  REVISION  MONITORS  BALANCER  WHY
web       -      2/5    -        12         0  ketama
"
        );
    }

    #[test]
    fn the_state_comes_with_what_is_known_of_it() {
        let condition = |members: &str| {
            upstream(&format!(
                r#"{{"name": "web", "revision": 1, "peers": [{{"name": "a"}}, {{"name": "b"}}]{members}}}"#
            ))
            .condition()
        };
        let since = r#", "since": "10:45", "by": "passive", "why": "peer a: refused""#;
        for (members, said) in [
            (r#", "state": "up", "peers_up": 2, "peers_out": 0"#.to_owned(), Some("up (2 of 2 up)")),
            (r#", "state": "up", "peers_up": 1, "peers_out": 1"#.to_owned(), Some("up (1 of 2 up, 1 in maintenance)")),
            (
                format!(r#", "state": "degraded", "peers_up": 1, "peers_out": 0{since}"#),
                Some("degraded (1 of 2 up) since 10:45, by passive: peer a: refused"),
            ),
            (
                r#", "state": "down", "peers_up": 0, "peers_out": 2, "by": "operator""#.to_owned(),
                Some("down (0 of 2 up, 2 in maintenance), by operator"),
            ),
            (r#", "state": "down", "why": "no peer""#.to_owned(), Some("down (0 of 2 up): no peer")),
            (String::new(), None),
        ] {
            assert_eq!(condition(&members).as_deref(), said);
        }
    }

    #[test]
    fn a_state_is_shown_on_one_line() {
        let web = upstream(r#"{"name": "web", "revision": 1, "peers": [], "state": "down", "why": "a\nb"}"#);
        assert!(web.describe().starts_with("web: down (0 of 0 up): a b\nrevision 1\n\n"), "{}", web.describe());
    }
}
