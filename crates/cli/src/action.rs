//! The commands that call the management API: what each asks, and how it tells a person what came back.

use serde_json::json;
use ureq::http::Method;

use crate::api::{Answer, Api, Call, Failure};
use crate::arguments::Action;
use crate::peer::{self, Peer};
use crate::text::{self, one_line};
use crate::upstream::{self, Upstream};

impl Action {
    /// Does it, and returns what to print: the API's JSON, or text for a person.
    pub(crate) fn perform(&self, api: &Api, json: bool) -> Result<String, Failure> {
        let answer = self.ask(api)?;
        if json {
            return Ok(text::json(&answer.json()).into_owned());
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
                // A directive without quotes is several words.
                let body = Some(("text/plain", server.join(" ")));
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
