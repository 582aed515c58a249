//! Shared data and shared queues.

use super::{Args, Import};
use crate::core::Core;
use crate::guest::Guest;
use crate::host::events::Event;
use crate::host::shared_data::Written;
use crate::personality::Situation;
use crate::status::{Answer, Status, Stop};
use crate::vm::VmId;

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
    if begins(&mut guest.core(), vm, &key) {
        return Err(Stop::Wait);
    }
    let found = {
        let mut core = guest.core();
        let (facts, mut rng) = (core.personality.shared.clone(), core.rng.clone());
        let begun = core.vms.get_mut(&vm).and_then(|facts| facts.reading.take());
        let found = match (core.zone(vm), begun) {
            (Some(zone), Some(begun)) => Some(zone.copied(&facts, &key, begun, &mut rng)),
            (zone, _) => zone.and_then(|zone| zone.get(&facts, &key)),
        };
        core.rng = rng;
        found
    };
    let Some(found) = found else { return Ok(Status::NotFound) };
    if found.is_other_length {
        guest.rule(Situation::LengthChanges)?;
    }
    guest.write_u32(cas, found.cas)?;
    guest.give(&found.value, data, size)
}

/// Where a read does not copy under the lock: whether others go on between its look at the value and the copy, by chance.
fn begins(core: &mut Core, vm: VmId, key: &[u8]) -> bool {
    let (facts, preempt) = (core.personality.shared.clone(), core.faults.preempt);
    let may_tear = facts.torn_reads && core.may_wait && preempt > 0;
    if !may_tear || core.vms.get(&vm).is_none_or(|facts| facts.reading.is_some()) || !core.rng.one_in(preempt) {
        return false;
    }
    let found = core.zone(vm).and_then(|zone| zone.get(&facts, key));
    let begins = found.is_some();
    if let Some(vm) = core.vms.get_mut(&vm) {
        vm.reading = found;
    }
    begins
}

fn set(guest: &mut Guest<'_>, &[key, key_size, data, size, cas, ..]: &Args) -> Answer {
    let (key, value, vm) = (guest.read(key, key_size)?, guest.read(data, size)?, guest.vm());
    let cas = u32::try_from(cas).unwrap_or_default();
    let written = {
        let mut core = guest.core();
        let facts = core.personality.shared.clone();
        let written = core.zone(vm).map(|zone| zone.set(&facts, &key, &value, cas));
        let who = core.who(vm);
        core.note(who, format_args!("set {} ({} bytes, cas {cas}): {written:?}", key.escape_ascii(), value.len()));
        written
    };
    match written {
        Some(Written::Status(status)) => Ok(status),
        Some(Written::Full) => Ok(guest.rule(Situation::SharedDataFull)?.unwrap_or(Status::InternalFailure)),
        Some(Written::Grows) => Ok(guest.rule(Situation::ValueGrowsInFull)?.unwrap_or(Status::InternalFailure)),
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
