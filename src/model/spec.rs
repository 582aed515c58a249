//! What a configuration declares: upstreams, how their peers are picked, and how they are checked.

use std::net::SocketAddr;
use std::time::Duration;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::model::codes::StatusCodes;
use crate::model::selector::Selector;
use crate::model::server::Server;
use crate::model::template::Template;
use crate::time::as_millis;

/// How peers are picked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BalancerSpec {
    /// The balancer's name in the registry.
    pub name: String,
    /// What a hash balancer hashes.
    pub key: Option<Template>,
    /// The most that a peer may have in flight, in relation to its fair share.
    #[serde(deserialize_with = "finite")]
    pub bound: Option<f64>,
    /// How often its table is cut to a quarter, because the configuration has many of them: see `balancer::table`.
    pub reduction: u8,
    /// The options of a balancer of one's own, a JSON object; empty for none.
    pub options: String,
}

/// Shared data may hold anything; what is no number would not even be equal to itself.
fn finite<'de, D: Deserializer<'de>>(source: D) -> Result<Option<f64>, D::Error> {
    let bound = Option::<f64>::deserialize(source)?;
    if bound.is_some_and(|bound| !bound.is_finite()) {
        return Err(D::Error::custom("not a finite number"));
    }
    Ok(bound)
}

impl Default for BalancerSpec {
    fn default() -> Self {
        Self { name: "round-robin".to_owned(), key: None, bound: None, reduction: 0, options: String::new() }
    }
}

/// An upstream as it was declared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpstreamSpec {
    /// The servers, without placeholders.
    pub servers: Vec<Server>,
    /// How peers are picked.
    pub balancer: BalancerSpec,
    /// How many further peers are offered to the host for the same request, 0 to 2.
    pub retries: u8,
    /// Answers that count as failures.
    pub fail_codes: StatusCodes,
    /// How many peers of a hundred may be out of use because of failures, 0 to 100.
    pub max_ejected_percent: u8,
    /// The parameters of servers that say nothing else.
    pub server_defaults: Server,
    /// The port of servers that name none.
    pub default_port: u16,
    /// The monitors.
    pub monitors: Vec<MonitorSpec>,
    /// The name servers, where durpina has to ask them: not where the host resolves names by itself.
    pub resolver: Vec<SocketAddr>,
    /// Whether they are asked for IPv6 addresses too.
    pub resolve_ipv6: bool,
}

impl Default for UpstreamSpec {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            balancer: BalancerSpec::default(),
            retries: 2,
            fail_codes: StatusCodes::default(),
            max_ejected_percent: 50,
            server_defaults: Server::default(),
            default_port: 80,
            monitors: Vec::new(),
            resolver: Vec::new(),
            resolve_ipv6: true,
        }
    }
}

/// How many peers a monitor checks in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schedule {
    /// One, at the end of each interval: the predecessor's way, cheap for many peers.
    #[default]
    Rotate,
    /// All, spread over the interval.
    All,
}

impl Schedule {
    /// The names of the schedules.
    pub(crate) const NAMES: &'static [(&'static str, Self)] = &[("rotate", Self::Rotate), ("all", Self::All)];
}

/// The time between checks where neither a monitor nor a configuration says anything else.
pub(crate) const DEFAULT_INTERVAL: Duration = Duration::from_secs(5);
/// The shortest such time: what is checked more often is checked by a denial of service.
pub(crate) const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// A monitor as it was declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MonitorSpec {
    /// Tells it from the upstream's other monitors; by default its name.
    pub id: String,
    /// Tells it from earlier monitors of the same id, which found something else; 0 for one that no record has.
    pub(crate) number: u32,
    /// Its name in the registry.
    pub name: String,
    /// The time between checks; see [`Schedule`]. Default 5 s.
    #[serde(with = "as_millis")]
    pub interval: Duration,
    /// How long a check may take. Default 1 s.
    #[serde(with = "as_millis")]
    pub timeout: Duration,
    /// The cluster through which the host asks, where it has such things; empty: the usual one for what is asked.
    pub cluster: String,
    /// Over HTTP: whether a connection may be used for more than one check, where the host does that. Default `false`.
    pub keepalive: bool,
    /// The port to check instead of the peer's own.
    pub port: Option<u16>,
    /// Which peers are checked.
    pub peers: Selector,
    /// So many good checks in a row lift this monitor's verdict. Default 2.
    pub rise: u32,
    /// So many failed checks in a row make this monitor's verdict `down`. Default 3.
    pub fall: u32,
    /// How many peers are checked in an interval.
    pub schedule: Schedule,
    /// The path of an HTTP request, with the query. Default `/`.
    pub url: String,
    /// The good answers. Default `101 102 2xx 3xx`.
    pub ok_codes: StatusCodes,
    /// Headers of the request, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The request's method. Default `GET`.
    pub method: String,
    /// The request's body.
    pub body: String,
    /// What the beginning of an HTTP answer's body has to hold somewhere; empty: anything.
    pub expect_body: String,
    /// The gRPC service that is asked about; empty: the server as a whole.
    pub service: String,
    /// What an agent over TCP is sent first.
    pub send: String,
    /// The options of a monitor of one's own, a JSON object; empty for none.
    pub options: String,
}

impl Default for MonitorSpec {
    fn default() -> Self {
        Self {
            id: String::new(),
            number: 0,
            name: String::new(),
            interval: DEFAULT_INTERVAL,
            timeout: Duration::from_secs(1),
            cluster: String::new(),
            keepalive: false,
            port: None,
            peers: Selector::All,
            rise: 2,
            fall: 3,
            schedule: Schedule::Rotate,
            url: "/".to_owned(),
            ok_codes: "101 102 2xx 3xx".parse().unwrap_or_default(),
            headers: Vec::new(),
            method: "GET".to_owned(),
            body: String::new(),
            expect_body: String::new(),
            service: String::new(),
            send: String::new(),
            options: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::BalancerSpec;
    use crate::model::codec;

    #[test]
    fn a_stored_bound_that_is_no_number_makes_no_balancer() {
        let with = |bound| codec::encode(&BalancerSpec { bound: Some(bound), ..BalancerSpec::default() });
        assert_eq!(codec::decode::<BalancerSpec>(&with(f64::NAN)), None);
        assert_eq!(codec::decode::<BalancerSpec>(&with(f64::INFINITY)), None);
        assert_eq!(codec::decode::<BalancerSpec>(&with(1.5)).and_then(|balancer| balancer.bound), Some(1.5));
    }
}
