//! Shared data and shared queues.

use super::{Args, Import};
use crate::guest::Guest;
use crate::host::events::Event;
use crate::host::shared_data::Written;
use crate::personality::Situation;
use crate::status::{Answer, Status};

pub(super) static IMPORTS: &[Import] = &[
    Import::env("proxy_get_shared_data", "iiiii", get).yields(),
    Import::env("proxy_set_shared_data", "iiiii", set).yields(),
    Import::env("proxy_register_shared_queue", "iii", register),
    Import::env("proxy_resolve_shared_queue", "iiiii", resolve),
    Import::env("proxy_enqueue_shared_queue", "iii", enqueue).yields(),
    Import::env("proxy_dequeue_shared_queue", "iii", dequeue).yields(),
];

fn get(guest: &mut Guest<'_>, &[key, key_size, data, size, cas, ..]: &Args) -> Answer {
    let (key, vm) = (guest.read(key, key_size)?, guest.vm());
    let found = {
        let mut core = guest.core();
        let (facts, now) = (core.personality.shared.clone(), core.now());
        let mut rng = core.rng.clone();
        let found = core.zone(vm).and_then(|zone| zone.get(&facts, &key, now, &mut rng));
        core.rng = rng;
        found
    };
    let Some((value, number)) = found else { return Ok(Status::NotFound) };
    guest.write_u32(cas, number)?;
    guest.give(&value, data, size)
}

fn set(guest: &mut Guest<'_>, &[key, key_size, data, size, cas, ..]: &Args) -> Answer {
    let (key, value, vm) = (guest.read(key, key_size)?, guest.read(data, size)?, guest.vm());
    let cas = u32::try_from(cas).unwrap_or_default();
    let written = {
        let mut core = guest.core();
        let (facts, now) = (core.personality.shared.clone(), core.now());
        let written = core.zone(vm).map(|zone| zone.set(&facts, &key, &value, cas, now));
        let who = core.who(vm);
        core.note(who, format_args!("set {} ({} bytes, cas {cas}): {written:?}", key.escape_ascii(), value.len()));
        written
    };
    match written {
        Some(Written::Status(status)) => Ok(status),
        Some(Written::OtherLength) => Ok(guest.rule(Situation::LengthChanges)?.unwrap_or(Status::Ok)),
        Some(Written::Full) => Ok(guest.rule(Situation::SharedDataFull)?.unwrap_or(Status::InternalFailure)),
        None => Ok(Status::InternalFailure),
    }
}

fn register(guest: &mut Guest<'_>, &[name, name_size, id, ..]: &Args) -> Answer {
    let (name, vm, root) = (guest.text(name, name_size)?, guest.vm(), guest.root()?);
    let queue = guest.core().queues.register(&name, vm, root);
    guest.write_u32(id, queue)
}

fn resolve(guest: &mut Guest<'_>, &[_, _, name, name_size, id, ..]: &Args) -> Answer {
    if let Some(status) = guest.rule(Situation::ResolveQueue)? {
        return Ok(status);
    }
    let name = guest.text(name, name_size)?;
    let found = guest.core().queues.resolve(&name);
    match found {
        Some(queue) => guest.write_u32(id, queue),
        None => Ok(Status::NotFound),
    }
}

fn enqueue(guest: &mut Guest<'_>, &[id, data, size, ..]: &Args) -> Answer {
    let item = guest.read(data, size)?;
    let mut core = guest.core();
    let Some(listeners) = core.queues.push(id, item) else { return Ok(Status::NotFound) };
    let queue = u32::try_from(id).unwrap_or_default();
    for (vm, root) in listeners {
        core.after(std::time::Duration::ZERO, Event::Queue { vm, root, queue });
    }
    Ok(Status::Ok)
}

fn dequeue(guest: &mut Guest<'_>, &[id, data, size, ..]: &Args) -> Answer {
    let item = guest.core().queues.pop(id);
    match item {
        None => Ok(Status::NotFound),
        Some(None) => Ok(Status::Empty),
        Some(Some(item)) => guest.give(&item, data, size),
    }
}
