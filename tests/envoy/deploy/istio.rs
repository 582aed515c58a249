//! What istiod makes of an `EnvoyFilter`, as far as ours has it: <https://istio.io/latest/docs/reference/config/networking/envoy-filter/>.
//!
//! A merge is that of protocol buffers: lists are appended to, messages merged, all else replaced. What is added to a kind of resource is
//! added after the others were patched.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{json, Value};

use super::{Manifest, Resources};

/// Those that a gateway has.
const CONTEXT: &str = "GATEWAY";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Spec {
    workload_selector: Selector,
    config_patches: Vec<Patch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Selector {
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Patch {
    apply_to: ApplyTo,
    r#match: Match,
    patch: Change,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ApplyTo {
    Cluster,
    ExtensionConfig,
    HttpFilter,
    HttpRoute,
    Listener,
    NetworkFilter,
    VirtualHost,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Match {
    context: String,
    proxy: Proxy,
    listener: Option<Listener>,
    route_configuration: Option<Routes>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Proxy {
    proxy_version: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Listener {
    filter_chain: Chain,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Chain {
    filter: Filter,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Filter {
    name: String,
    sub_filter: Option<SubFilter>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SubFilter {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Routes {
    vhost: Host,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Host {
    domain_name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    operation: Operation,
    value: Value,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Operation {
    Add,
    Merge,
    InsertBefore,
    InsertFirst,
}

pub(super) fn read(manifest: &Value) -> Result<Manifest<Spec>, serde_json::Error> {
    serde_json::from_value(manifest.clone())
}

/// Applies the patches.
pub(super) fn apply(manifest: &Value, resources: &mut Resources) {
    let manifest = read(manifest).unwrap();
    assert_eq!(
        (manifest.api_version.as_str(), manifest.kind.as_str()),
        ("networking.istio.io/v1alpha3", "EnvoyFilter")
    );
    assert_eq!(manifest.spec.workload_selector.labels["istio"], "ingressgateway");
    let patches = manifest.spec.config_patches;
    for patch in &patches {
        assert_eq!(patch.r#match.context, CONTEXT);
        let version = regex_lite::Regex::new(&patch.r#match.proxy.proxy_version).unwrap();
        for (proxy, takes) in [("1.28.4", false), ("1.29.0", true), ("1.30.2", true), ("1.2", false)] {
            assert_eq!(version.is_match(proxy), takes, "{proxy}");
        }
    }
    // What is merged first, what is inserted then, what is added last.
    for (apply_to, operation) in [
        (ApplyTo::NetworkFilter, Operation::Merge),
        (ApplyTo::HttpFilter, Operation::InsertBefore),
        (ApplyTo::VirtualHost, Operation::Merge),
        (ApplyTo::HttpRoute, Operation::InsertFirst),
        (ApplyTo::Listener, Operation::Add),
        (ApplyTo::Cluster, Operation::Add),
        (ApplyTo::ExtensionConfig, Operation::Add),
    ] {
        for patch in patches.iter().filter(|patch| patch.apply_to == apply_to) {
            assert_eq!(patch.patch.operation, operation, "{patch:?}");
            assert!(change(patch, resources) > 0, "nothing matches {patch:?}");
        }
    }
}

/// Applies a patch, and tells how often it could be.
fn change(patch: &Patch, resources: &mut Resources) -> usize {
    let value = &patch.patch.value;
    let add = |list: &mut Vec<Value>| list.push(value.clone());
    match patch.apply_to {
        ApplyTo::Cluster => add(&mut resources.clusters),
        ApplyTo::Listener => add(&mut resources.listeners),
        ApplyTo::ExtensionConfig => resources.extensions.push(fetched(value)),
        ApplyTo::NetworkFilter | ApplyTo::HttpFilter => {
            let wanted = &patch.r#match.listener.as_ref().unwrap().filter_chain.filter;
            let chains =
                resources.listeners.iter_mut().flat_map(|listener| listener["filter_chains"].as_array_mut().unwrap());
            let filters = chains.flat_map(|chain| chain["filters"].as_array_mut().unwrap());
            let mut changed = 0;
            for filter in filters.filter(|filter| filter["name"] == wanted.name) {
                match &wanted.sub_filter {
                    None => merge(filter, value),
                    Some(before) => {
                        let filters = filter["typed_config"]["http_filters"].as_array_mut().unwrap();
                        let at = filters.iter().position(|filter| filter["name"] == before.name).unwrap();
                        filters.insert(at, value.clone());
                    }
                }
                changed += 1;
            }
            return changed;
        }
        ApplyTo::VirtualHost | ApplyTo::HttpRoute => {
            let domain = &patch.r#match.route_configuration.as_ref().unwrap().vhost.domain_name;
            let hosts = resources.routes.iter_mut().flat_map(|routes| routes["virtual_hosts"].as_array_mut().unwrap());
            let has = |host: &Value| host["domains"].as_array().unwrap().iter().any(|name| name == domain.as_str());
            let mut changed = 0;
            for host in hosts.filter(|host| has(host)) {
                if patch.patch.operation == Operation::Merge {
                    merge(host, value);
                } else {
                    host["routes"].as_array_mut().unwrap().insert(0, value.clone());
                }
                changed += 1;
            }
            return changed;
        }
    }
    1
}

/// Merges `from` into `into` as messages are.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            if let (Some(one), Some(other)) = (into.get("@type"), from.get("@type")) {
                assert_eq!(one, other, "two kinds of messages");
            }
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(into), Value::Array(from)) => into.extend(from.iter().cloned()),
        (into, from) => *into = from.clone(),
    }
}

/// What the agent in the proxy's pod does: it fetches the image, and names the file.
fn fetched(extension: &Value) -> Value {
    let mut extension = extension.clone();
    let code = &mut extension["typed_config"]["config"]["vm_config"]["code"];
    let remote = &code["remote"];
    assert!(remote["http_uri"]["uri"].as_str().unwrap().starts_with("oci://"), "{remote}");
    assert!(remote["http_uri"]["cluster"].is_string() && remote["sha256"] == "nil", "{remote}");
    *code = json!({ "local": { "filename": "/var/lib/istio/data/durpina.wasm" } });
    extension
}
