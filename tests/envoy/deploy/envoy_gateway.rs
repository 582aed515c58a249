//! What Envoy Gateway makes of an `EnvoyPatchPolicy`, as far as ours has it:
//! <https://gateway.envoyproxy.io/docs/tasks/extensibility/envoy-patch-policy/>.
//!
//! Its patches are those of RFC 6902, with two differences: a JSONPath stands for all pointers that it finds, with `path` behind each; and what
//! is missing on the way of an `add` is made.

use serde::Deserialize;
use serde_json::{json, Value};

use super::{Manifest, Resources};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct Spec {
    target_ref: Target,
    r#type: String,
    json_patches: Vec<Patch>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    group: String,
    kind: String,
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    r#type: Type,
    name: String,
    operation: Operation,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Type {
    #[serde(rename = "type.googleapis.com/envoy.config.cluster.v3.Cluster")]
    Cluster,
    #[serde(rename = "type.googleapis.com/envoy.config.listener.v3.Listener")]
    Listener,
    #[serde(rename = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration")]
    Routes,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Operation {
    op: Op,
    json_path: Option<String>,
    path: Option<String>,
    value: Value,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Op {
    Add,
}

pub(super) fn read(manifest: &Value) -> Result<Manifest<Spec>, serde_json::Error> {
    serde_json::from_value(manifest.clone())
}

/// Applies the patches.
pub(super) fn apply(manifest: &Value, resources: &mut Resources) {
    let manifest = read(manifest).unwrap();
    let kind = (manifest.api_version.as_str(), manifest.kind.as_str());
    assert_eq!(kind, ("gateway.envoyproxy.io/v1alpha1", "EnvoyPatchPolicy"));
    let target = &manifest.spec.target_ref;
    let named = (target.group.as_str(), target.kind.as_str(), target.name.as_str());
    assert_eq!(named, ("gateway.networking.k8s.io", "Gateway", "eg"));
    assert_eq!(manifest.spec.r#type, "JSONPatch");
    for patch in &manifest.spec.json_patches {
        let Op::Add = patch.operation.op;
        let list = match patch.r#type {
            Type::Cluster => &mut resources.clusters,
            Type::Listener => &mut resources.listeners,
            Type::Routes => &mut resources.routes,
        };
        let Operation { json_path, path, value, .. } = &patch.operation;
        let path = path.as_deref().unwrap_or_default();
        if json_path.is_none() && path.is_empty() {
            assert_eq!(value["name"], patch.name.as_str());
            assert!(list.iter().all(|one| one["name"] != value["name"]), "{} is there", patch.name);
            list.push(value.clone());
            continue;
        }
        let resource = list.iter_mut().find(|one| one["name"] == patch.name.as_str());
        let resource = resource.unwrap_or_else(|| panic!("no resource {}", patch.name));
        let mut pointers = vec![String::new()];
        if let Some(json_path) = json_path {
            pointers = found(resource, json_path);
            assert!(!pointers.is_empty(), "nothing is found by {json_path}");
        }
        for pointer in pointers {
            let separator = if path.is_empty() || path.starts_with('/') { "" } else { "/" };
            add(resource, &format!("{pointer}{separator}{path}"), value);
        }
    }
}

/// The pointers that a JSONPath of the form `..LIST[?(@.name=='NAME')].KEY…` stands for.
fn found(resource: &Value, json_path: &str) -> Vec<String> {
    let form = regex_lite::Regex::new(r"^\.\.(\w+)\[\?\(@\.name=='([^']+)'\)\]((?:\.\w+)*)$").unwrap();
    let (_, [list, name, keys]) = form.captures(json_path).unwrap_or_else(|| panic!("{json_path}")).extract();
    let mut found = Vec::new();
    descend(resource, "", &mut |pointer, key, value| {
        for (at, item) in value.as_array().into_iter().flatten().enumerate() {
            if key == list && item["name"] == name {
                found.push(format!("{pointer}/{at}{}", keys.replace('.', "/")));
            }
        }
    });
    found.retain(|pointer| resource.pointer(pointer).is_some());
    found
}

fn descend(value: &Value, pointer: &str, see: &mut impl FnMut(&str, &str, &Value)) {
    let token = |key: &str| format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                see(&token(key), key, value);
                descend(value, &token(key), see);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                descend(value, &format!("{pointer}/{at}"), see);
            }
        }
        _ => {}
    }
}

/// The operation `add`.
pub(super) fn add(resource: &mut Value, pointer: &str, value: &Value) {
    let tokens: Vec<String> =
        pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect();
    let (last, way) = tokens.split_last().unwrap();
    let mut at = resource;
    for (token, next) in way.iter().zip(tokens.iter().skip(1)) {
        at = match at {
            Value::Array(items) => &mut items[token.parse::<usize>().unwrap()],
            Value::Object(object) => {
                let is_index = next == "-" || next.parse::<usize>().is_ok();
                object.entry(token).or_insert_with(|| if is_index { json!([]) } else { json!({}) })
            }
            other => panic!("{pointer} leads through {other}"),
        };
    }
    match at {
        Value::Array(items) if last == "-" => items.push(value.clone()),
        Value::Array(items) => items.insert(last.parse().unwrap(), value.clone()),
        Value::Object(object) => drop(object.insert(last.clone(), value.clone())),
        other => panic!("{pointer} leads into {other}"),
    }
}
