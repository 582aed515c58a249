//! The commands that call the management API: what each asks, and how it tells a person what came back.

use serde_json::json;
use ureq::http::Method;

use crate::api::{Answer, Api, Call, Failure};
use crate::peer::{self, Peer};
use crate::text::one_line;
use crate::upstream::{self, Upstream};

/// The states that an operator may give a peer.
const STATES: [&str; 4] = ["up", "down", "temporary_down", "drain"];

/// A command with its words. Names are as the API knows them, not encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Peers { upstream: String, selector: Option<String> },
    Info { upstream: Option<String> },
    Add { upstream: String, server: String },
    Remove { upstream: String, peer: String },
    Weight { upstream: String, peer: String, weight: u64 },
    State { upstream: String, peer: String, state: String },
}

impl Action {
    /// The command of that name with the words behind it.
    ///
    /// # Errors
    ///
    /// What was expected. Limits that are the API's matter are left to it.
    pub(crate) fn new(command: &str, words: &[&str], selector: Option<String>) -> Result<Self, String> {
        Ok(match (command, words) {
            ("peers", [upstream]) => Self::Peers { upstream: name(upstream)?, selector },
            ("peers", _) => return Err("expected UPSTREAM".to_owned()),
            ("info", []) => Self::Info { upstream: None },
            ("info", [upstream]) => Self::Info { upstream: Some(name(upstream)?) },
            ("info", _) => return Err("expected at most one UPSTREAM".to_owned()),
            // A directive without quotes is several words.
            ("add", [upstream, server @ ..]) if !server.is_empty() => {
                Self::Add { upstream: name(upstream)?, server: server.join(" ") }
            }
            ("add", _) => return Err("expected UPSTREAM and SERVER".to_owned()),
            ("remove", [upstream, peer]) => Self::Remove { upstream: name(upstream)?, peer: name(peer)? },
            ("remove", _) => return Err("expected UPSTREAM and PEER".to_owned()),
            ("weight", [upstream, peer, weight]) => {
                let expected = |_| format!("expected a weight, an integer of 1 or more, found {weight:?}");
                Self::Weight { upstream: name(upstream)?, peer: name(peer)?, weight: weight.parse().map_err(expected)? }
            }
            ("weight", _) => return Err("expected UPSTREAM, PEER and N".to_owned()),
            ("state", [upstream, peer, state]) if STATES.contains(state) => {
                Self::State { upstream: name(upstream)?, peer: name(peer)?, state: (*state).to_owned() }
            }
            ("state", [_, _, state]) => {
                return Err(format!("expected up, down, temporary_down or drain, found {state:?}"))
            }
            ("state", _) => return Err("expected UPSTREAM, PEER and a state".to_owned()),
            _ => return Err(format!("there is no command {command:?}")),
        })
    }

    /// Does it, and returns what to print: the API's JSON, or text for a person.
    pub(crate) fn perform(&self, api: &Api, json: bool) -> Result<String, Failure> {
        let answer = self.ask(api)?;
        if json {
            return Ok(answer.json());
        }
        Ok(match self {
            Self::Peers { .. } => peer::table(&answer.read::<Vec<Peer>>()?),
            Self::Info { upstream: None } => upstream::table(&answer.read::<Vec<Upstream>>()?),
            Self::Info { upstream: Some(_) } => answer.read::<Upstream>()?.describe(),
            Self::Add { .. } | Self::Weight { .. } | Self::State { .. } => peer::table(&[answer.read::<Peer>()?]),
            Self::Remove { upstream, peer } => format!("removed {} from {}\n", one_line(peer), one_line(upstream)),
        })
    }

    fn ask(&self, api: &Api) -> Result<Answer, Failure> {
        let get = |path: &[&str], query| api.call(Call { method: Method::GET, path, query, body: None });
        let patch = |upstream: &str, peer: &str, change: serde_json::Value| {
            let path = &["upstreams", upstream, "peers", peer];
            let body = Some(("application/json", change.to_string()));
            api.call(Call { method: Method::PATCH, path, query: None, body })
        };
        match self {
            Self::Peers { upstream, selector } => {
                get(&["upstreams", upstream, "peers"], selector.as_deref().map(|selector| ("selector", selector)))
            }
            Self::Info { upstream: None } => get(&["upstreams"], None),
            Self::Info { upstream: Some(upstream) } => get(&["upstreams", upstream], None),
            Self::Add { upstream, server } => {
                let body = Some(("text/plain", server.clone()));
                api.call(Call { method: Method::POST, path: &["upstreams", upstream, "peers"], query: None, body })
            }
            Self::Remove { upstream, peer } => {
                let path = &["upstreams", upstream, "peers", peer];
                api.call(Call { method: Method::DELETE, path, query: None, body: None })
            }
            Self::Weight { upstream, peer, weight } => patch(upstream, peer, json!({ "weight": weight })),
            Self::State { upstream, peer, state } => patch(upstream, peer, json!({ "state": state })),
        }
    }
}

/// A name that a path can hold. An empty one is a variable of the shell that is not set, and would address all peers where
/// one was meant; `.` and `..` are taken for steps in the path, encoded or not.
fn name(word: &str) -> Result<String, String> {
    match word {
        "" => Err("a name cannot be empty".to_owned()),
        "." | ".." => Err(format!("{word:?} cannot be a name in a URL")),
        _ => Ok(word.to_owned()),
    }
}
