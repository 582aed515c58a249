//! Reading what a PATCH changes of a peer.

use super::error::{ConfigErrors, Place};
use super::json::{Json, Object};
use super::{read, server};
use crate::model::admin_state::AdminState;
use crate::model::overrides::Overrides;
use crate::model::server::Server;
use crate::time::Timestamp;

/// Reads changes of a peer: any of `weight`, `state`, `max_fails`, `fail_timeout`, `max_conns`, `slow_start`. The
/// caller sets the time of the new state.
pub(crate) fn read_changes(json: &Json) -> Result<Overrides, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let root = Place::ROOT;
    let mut changes = Overrides::default();
    if let Some(mut object) = Object::open(&root, json, "an object", &mut errors) {
        let mut server = Server::default();
        let mut changed = |key: &'static str, server: &mut Server| {
            let value = object.get(key)?;
            server::parameter(&root.key(key), key, value, server, &mut errors);
            Some(())
        };
        changes.weight = changed("weight", &mut server).map(|()| server.weight);
        changes.max_fails = changed("max_fails", &mut server).map(|()| server.max_fails);
        changes.fail_timeout = changed("fail_timeout", &mut server).map(|()| server.fail_timeout);
        changes.max_conns = changed("max_conns", &mut server).map(|()| server.max_conns);
        changes.slow_start = changed("slow_start", &mut server).map(|()| server.slow_start);
        if let Some(value) = object.get("state") {
            let admin_state = read::word(&root.key("state"), value, AdminState::NAMES, &mut errors);
            changes.admin_state = admin_state.map(|state| (state, Timestamp::default()));
        }
        object.close(None, &mut errors);
    }
    if errors.is_empty() {
        Ok(changes)
    } else {
        Err(errors)
    }
}
