//! Header maps.

use super::{Args, Import};
use crate::guest::Guest;
use crate::pairs::{self, Pairs};
use crate::status::{Answer, Status};

pub(super) static IMPORTS: &[Import] = &[
    Import::env("proxy_get_header_map_pairs", "iii", pairs_of),
    Import::env("proxy_set_header_map_pairs", "iii", set_pairs),
    Import::env("proxy_get_header_map_value", "iiiii", value_of),
    Import::env("proxy_add_header_map_value", "iiiii", add),
    Import::env("proxy_replace_header_map_value", "iiiii", replace),
    Import::env("proxy_remove_header_map_value", "iii", remove),
];

/// The maps of a request, and those of a reply behind them.
const OF_REQUEST: usize = 4;

/// A map that can be read now.
fn map(guest: &Guest<'_>, kind: u64) -> Option<Pairs> {
    let at = usize::try_from(kind).ok()?;
    if at < OF_REQUEST {
        let exchange = guest.exchange()?;
        let is_open = exchange.open.get(at).copied().unwrap_or_default();
        return is_open.then(|| exchange.maps.get(at).cloned())?;
    }
    let token = guest.now().call?;
    let core = guest.core();
    let call = core.calls.get(&token)?;
    match at {
        4 | 6 => Some(call.headers.clone()),
        5 | 7 => Some(call.trailers.clone()),
        _ => None,
    }
}

/// Changes a map that can be changed now.
fn change(guest: &Guest<'_>, kind: u64, change: impl FnOnce(&mut Pairs)) -> Status {
    let Some(mut exchange) = guest.exchange() else { return Status::BadArgument };
    let at = usize::try_from(kind).unwrap_or(usize::MAX);
    if !exchange.open.get(at).copied().unwrap_or_default() {
        return Status::BadArgument;
    }
    match exchange.maps.get_mut(at) {
        Some(map) => {
            change(map);
            Status::Ok
        }
        None => Status::BadArgument,
    }
}

fn pairs_of(guest: &mut Guest<'_>, &[kind, data, size, ..]: &Args) -> Answer {
    match map(guest, kind) {
        Some(found) => guest.give(&pairs::encode(&found), data, size),
        None => Ok(Status::BadArgument),
    }
}

fn set_pairs(guest: &mut Guest<'_>, &[kind, data, size, ..]: &Args) -> Answer {
    let Some(new) = pairs::decode(&guest.read(data, size)?) else { return Ok(Status::ParseFailure) };
    Ok(change(guest, kind, |map| *map = new))
}

fn value_of(guest: &mut Guest<'_>, &[kind, name, name_size, data, size, ..]: &Args) -> Answer {
    let name = guest.text(name, name_size)?;
    match map(guest, kind) {
        Some(found) => guest.give_if(pairs::get(&found, &name).map(<[u8]>::to_vec), data, size),
        None => Ok(Status::BadArgument),
    }
}

fn add(guest: &mut Guest<'_>, &[kind, name, name_size, value, value_size, ..]: &Args) -> Answer {
    let (name, value) = (guest.text(name, name_size)?, guest.read(value, value_size)?);
    Ok(change(guest, kind, |map| map.push((name.to_ascii_lowercase(), value))))
}

fn replace(guest: &mut Guest<'_>, &[kind, name, name_size, value, value_size, ..]: &Args) -> Answer {
    let (name, value) = (guest.text(name, name_size)?, guest.read(value, value_size)?);
    Ok(change(guest, kind, |map| pairs::replace(map, &name, &value)))
}

fn remove(guest: &mut Guest<'_>, &[kind, name, name_size, ..]: &Args) -> Answer {
    let name = guest.text(name, name_size)?;
    Ok(change(guest, kind, |map| pairs::remove(map, &name)))
}
