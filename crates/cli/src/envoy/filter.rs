//! The filter JSON: what it needs of an Envoy.

use durpina::config::Config;
use durpina::host::Capabilities;
use durpina::Registry;
use serde_json::Value;

use super::edit;
use super::part::Part;
use super::parts::{Checks, KEEPALIVE, PROBE, PROBE_H2, PROBE_H2_KEEPALIVE, PROBE_KEEPALIVE, PROBE_TLS, TCP};
use super::splice::splice;
use super::yaml::Doc;

/// A filter JSON that is good.
#[derive(Debug)]
pub(crate) struct Filter {
    /// As it is to be written.
    pub(crate) text: String,
    pub(crate) access_log: bool,
    /// The names of the headers for the peers, if it says which.
    pub(crate) peer_headers: Option<[String; 3]>,
    pub(crate) checks: Checks,
    /// Clusters that it names and that are none of the parts.
    pub(crate) others: Vec<String>,
}

/// Where the filter JSON says that there is an access log.
const ACCESS_LOG: &str = "/envoy/access_log";

/// The clusters of the filter JSON's key `envoy`, and whether there is an access log.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) probe: String,
    pub(crate) grpc: String,
    pub(crate) tcp: String,
    pub(crate) access_log: bool,
}

impl Names {
    pub(crate) fn of(json: &Value) -> Self {
        let envoy = json.get("envoy");
        let name =
            |key: &str, default: &str| envoy.and_then(|envoy| envoy.get(key)?.as_str()).unwrap_or(default).to_owned();
        Self {
            probe: name("probe_cluster", PROBE),
            grpc: name("grpc_cluster", PROBE_H2),
            tcp: name("tcp_cluster", TCP),
            access_log: json.pointer(ACCESS_LOG).and_then(Value::as_bool).unwrap_or(false),
        }
    }
}

/// The clusters that checks and look-ups go through.
pub(crate) fn clusters(json: &Value) -> Vec<String> {
    let names = Names::of(json);
    let text = |monitor: &Value, key: &str| monitor.get(key).and_then(Value::as_str).map(str::to_owned);
    let upstreams = json.get("upstreams").and_then(Value::as_object).into_iter().flatten();
    let monitors = upstreams.filter_map(|(_, upstream)| upstream.get("monitors")?.as_array()).flatten();
    let mut found: Vec<String> = monitors
        .flat_map(|monitor| {
            if let Some(cluster) = text(monitor, "cluster") {
                return vec![cluster];
            }
            let usual = match text(monitor, "name").unwrap_or_default().as_str() {
                "grpc" => &names.grpc,
                "tcp" | "haproxy-agent-check" => return vec![names.tcp.clone()],
                _ => &names.probe,
            };
            // A check whose kept connection was closed asks again through the usual one.
            let is_kept = monitor.get("keepalive").and_then(Value::as_bool).unwrap_or(false);
            let kept = is_kept.then(|| format!("{usual}{KEEPALIVE}"));
            std::iter::once(usual.clone()).chain(kept).collect()
        })
        .collect();
    if json.get("resolver").is_some_and(|resolver| !resolver.is_null()) {
        found.push(names.tcp);
    }
    found.sort();
    found.dedup();
    found
}

impl Filter {
    /// Reads a filter JSON, and says in it that there is an access log unless it says anything of that itself.
    ///
    /// # Errors
    ///
    /// What the filter would say of it, a line for each.
    pub(crate) fn read(text: &str) -> Result<Self, Vec<String>> {
        let lines = |text: String| text.lines().map(str::to_owned).collect::<Vec<_>>();
        Config::parse(text.as_bytes(), Capabilities::default(), &Registry::default())
            .map_err(|errors| lines(errors.to_string()))?;
        let mut text = text.replace("\r\n", "\n");
        let read = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| vec![error.to_string()]);
        let mut json = read(&text)?;
        if json.pointer(ACCESS_LOG).is_none() {
            if let Some(with) = with(&text, "access_log", &Part::Word("true".to_owned()), &Value::Bool(true)) {
                json = read(&with)?;
                text = with;
            }
        }
        let mut checks = Checks::default();
        let mut others = Vec::new();
        for cluster in clusters(&json) {
            match cluster.as_str() {
                PROBE => checks.http = true,
                PROBE_KEEPALIVE => checks.http_keepalive = true,
                PROBE_TLS => checks.tls = true,
                PROBE_H2 => checks.http2 = true,
                PROBE_H2_KEEPALIVE => checks.http2_keepalive = true,
                TCP => checks.tcp = true,
                _ => others.push(cluster),
            }
        }
        let names = json.pointer("/envoy/peer_headers").and_then(Value::as_array);
        let names = names.map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>());
        let peer_headers = names.and_then(|names| names.try_into().ok());
        Ok(Self { text, access_log: Names::of(&json).access_log, peer_headers, checks, others })
    }

    /// The text with the names of these headers, if they can be put in.
    pub(crate) fn with_peer_headers(&self, names: &[String; 3]) -> Option<String> {
        let list = Part::List(names.iter().map(Part::text).collect());
        with(&self.text, "peer_headers", &list, &Value::from(names.to_vec()))
    }
}

/// The same text with this entry in `envoy`, if it can be put in.
fn with(text: &str, key: &str, part: &Part, value: &Value) -> Option<String> {
    let doc = Doc::parse(text).ok()?;
    let edit = match doc.get(doc.root(), "envoy") {
        Some(envoy) => edit::append_entry(&doc, envoy, key, part),
        None => edit::append_entry(&doc, doc.root(), "envoy", &Part::map([(key, part.clone())])),
    };
    let with = splice(text, vec![edit.ok()?]);
    let entry = format!("/envoy/{key}");
    let is_same = serde_json::from_str::<Value>(&with).is_ok_and(|json| json.pointer(&entry) == Some(value));
    is_same.then_some(with)
}
