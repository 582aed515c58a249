//! Properties.

use super::{Args, Import};
use crate::guest::Guest;
use crate::host::properties;
use crate::personality::Situation;
use crate::status::{Answer, Status};
use crate::wiring::Variable;

pub(super) static IMPORTS: &[Import] =
    &[Import::env("proxy_get_property", "iiii", get), Import::env("proxy_set_property", "iiii", set)];

/// A path: steps separated by zero bytes.
fn path(guest: &Guest<'_>, at: u64, size: u64) -> Result<Vec<String>, crate::status::Stop> {
    let path = guest.text(at, size)?;
    Ok(path.trim_end_matches('\0').split('\0').map(str::to_owned).collect())
}

fn get(guest: &mut Guest<'_>, &[at, at_size, data, size, ..]: &Args) -> Answer {
    let path = path(guest, at, at_size)?;
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let now = guest.now();
    let situation = match path.as_slice() {
        ["plugin_name"] if now.callback == "proxy_on_configure" => Some(Situation::PluginNameInConfigure),
        ["upstream", "address" | "port"] => Some(Situation::UpstreamAddress),
        ["ngx", ..] if now.request.is_none() => Some(Situation::HostPropertyInRoot),
        ["xds", ..] => Some(Situation::Xds),
        _ => None,
    };
    if let Some(status) = situation.map(|situation| guest.rule(situation)).transpose()?.flatten() {
        return Ok(status);
    }
    let root = guest.root()?;
    let plugin = guest.facts()?.roots.get(&root).map(|root| root.plugin.clone());
    let found = {
        let core = guest.core();
        let exchange = now.request.and_then(|request| core.exchanges.get(&request));
        match (path.as_slice(), plugin) {
            (["plugin_name"], Some(plugin)) => Some(plugin.name.clone().into_bytes()),
            (["plugin_root_id"], Some(plugin)) => Some(plugin.root_id.clone().into_bytes()),
            (["plugin_vm_id"], Some(plugin)) => Some(plugin.vm_id.clone().into_bytes()),
            (path, _) => exchange.and_then(|exchange| {
                properties::of(exchange, &core.personality.requests, path, core.now(), core.events.wall())
            }),
        }
    };
    // The steps of a path that a host has for every VM are found also without a request.
    match found {
        None if path == ["xds"] => Ok(Status::SerializationFailure),
        found => guest.give_if(found, data, size),
    }
}

fn set(guest: &mut Guest<'_>, &[at, at_size, value, value_size, ..]: &Args) -> Answer {
    let path = path(guest, at, at_size)?;
    let value = guest.read(value, value_size)?;
    if let [first, name] = path.as_slice() {
        if first == "ngx" {
            let kind = {
                let wiring = std::rc::Rc::clone(&guest.core().wiring);
                wiring.variable(name)
            };
            let situation = match kind {
                Variable::Writable => None,
                Variable::ReadOnly => Some(Situation::ReadOnlyVariable),
                Variable::Undeclared => Some(Situation::UndeclaredVariable),
            };
            if let Some(status) = situation.map(|situation| guest.rule(situation)).transpose()?.flatten() {
                return Ok(status);
            }
        }
    }
    let Some(mut exchange) = guest.exchange() else { return Ok(Status::NotFound) };
    exchange.written.insert(path.join("."), value);
    Ok(Status::Ok)
}
