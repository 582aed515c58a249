//! The API's document of an upstream, as a person reads it.

use serde::Deserialize;
use serde_json::Value;

use crate::peer::{self, Peer};
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

    /// Everything about one: what it is, its peers, its monitors.
    pub(crate) fn describe(&self) -> String {
        let mut text = one_line(&self.name);
        text += &format!(": revision {}", self.revision);
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
        text
    }
}

/// One upstream a row. `USABLE` counts the peers that get requests.
pub(crate) fn table(upstreams: &[Upstream]) -> String {
    let columns = [
        ("UPSTREAM", Align::Left),
        ("REVISION", Align::Right),
        ("PEERS", Align::Right),
        ("USABLE", Align::Right),
        ("MONITORS", Align::Right),
        ("BALANCER", Align::Left),
    ];
    let rows = upstreams.iter().map(|upstream| {
        [
            upstream.name.clone(),
            upstream.revision.to_string(),
            upstream.peers.len().to_string(),
            upstream.peers.iter().filter(|peer| peer.is_usable()).count().to_string(),
            upstream.monitors.len().to_string(),
            upstream.balancer(),
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
    fn the_predecessors_document_is_enough() {
        let web = upstream(r#"{"name": "web", "revision": 1, "peers": [], "monitors": [{"id": "a", "name": "http"}]}"#);
        assert_eq!(
            web.describe(),
            "\
web: revision 1

PEER  ADDRESS  STATE  WEIGHT  FAILS  IN-FLIGHT  PICKS  WHY

MONITOR  KIND  INTERVAL  TIMEOUT  RISE  FALL  SCHEDULE
a        http         -        -     -     -
"
        );
    }

    #[test]
    fn usable_are_those_that_get_requests() {
        let web = upstream(
            r#"{"name": "web", "revision": 12, "monitors": [], "balancer": {"name": "ketama", "key": "$1"}, "peers": [
                {"name": "a", "state": "up"}, {"name": "b", "state": "failing"}, {"name": "c", "state": "down"},
                {"name": "d", "state": "temporary_down"}, {"name": "e", "state": "draining"}]}"#,
        );
        assert_eq!(
            table(&[web]),
            "\
UPSTREAM  REVISION  PEERS  USABLE  MONITORS  BALANCER
web             12      5       2         0  ketama
"
        );
    }
}
