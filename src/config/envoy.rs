//! Reading what concerns Envoy alone.

use super::error::{ConfigErrors, Place};
use super::json::{Json, Object};
use super::read;
use crate::host::CalloutClusters;

/// Reads the names of clusters, and whether its access log reports failed attempts.
pub(super) fn envoy(at: &Place<'_>, value: &Json, clusters: &mut CalloutClusters, errors: &mut ConfigErrors) -> bool {
    let Some(mut object) = Object::open(at, value, "an object", errors) else { return false };
    let access_log = object.get("access_log");
    let slots = [
        ("probe_cluster", &mut clusters.probe),
        ("grpc_cluster", &mut clusters.grpc),
        ("tcp_cluster", &mut clusters.tcp),
    ];
    for (key, slot) in slots {
        if let Some(name) = object.get(key).and_then(|value| cluster(&at.key(key), value, errors)) {
            name.clone_into(slot);
        }
    }
    object.close(None, errors);
    access_log.and_then(|value| read::boolean(&at.key("access_log"), value, errors)).unwrap_or(false)
}

/// Reads the name of a cluster.
pub(super) fn cluster<'v>(at: &Place<'_>, value: &'v Json, errors: &mut ConfigErrors) -> Option<&'v str> {
    read::sized(at, value, "the name of a cluster", 1..=120, errors)
}
