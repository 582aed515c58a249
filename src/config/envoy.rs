//! Reading what concerns Envoy alone.

use super::error::{ConfigErrors, Place};
use super::json::{Json, Object};
use super::read;
use crate::host::CalloutClusters;

/// Reads the names of clusters, and whether its access log reports failed attempts.
pub(super) fn envoy(at: &Place<'_>, value: &Json, clusters: &mut CalloutClusters, errors: &mut ConfigErrors) -> bool {
    let Some(mut object) = Object::open(at, value, "an object", errors) else { return false };
    let access_log = object.get("access_log");
    for (key, slot) in [("probe_cluster", &mut clusters.probe), ("tcp_cluster", &mut clusters.tcp)] {
        let Some(value) = object.get(key) else { continue };
        let place = at.key(key);
        let Some(name) = read::string(&place, value, "the name of a cluster", errors) else { continue };
        if name.is_empty() || name.len() > 120 {
            errors.expected(&place, "the name of a cluster of 1 to 120 bytes", value);
        }
        name.clone_into(slot);
    }
    object.close(None, errors);
    access_log.and_then(|value| read::boolean(&at.key("access_log"), value, errors)).unwrap_or(false)
}
