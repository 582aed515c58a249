//! Bodies and configurations.

use super::{Args, Import};
use crate::guest::Guest;
use crate::status::{Answer, Status};

pub(super) static IMPORTS: &[Import] = &[
    Import::env("proxy_get_buffer_bytes", "iiiii", get),
    Import::env("proxy_set_buffer_bytes", "iiiii", set),
    Import::env("proxy_get_buffer_status", "iii", size_of),
];

const REQUEST_BODY: u64 = 0;
const RESPONSE_BODY: u64 = 1;

/// A buffer that can be read now.
fn buffer(guest: &Guest<'_>, kind: u64) -> Option<Vec<u8>> {
    let now = guest.now();
    match kind {
        REQUEST_BODY => guest.exchange().map(|exchange| exchange.request_body.clone()),
        RESPONSE_BODY => guest.exchange().map(|exchange| exchange.response_body.clone()),
        4 | 5 => Some(guest.core().calls.get(&now.call?)?.body.clone()),
        6 | 7 => {
            let root = guest.root().ok()?;
            let facts = guest.facts().ok()?;
            let plugin = &facts.roots.get(&root)?.plugin;
            Some(if kind == 6 { plugin.vm_configuration.clone() } else { plugin.configuration.clone() })
        }
        _ => None,
    }
}

fn get(guest: &mut Guest<'_>, &[kind, start, most, data, size, ..]: &Args) -> Answer {
    let Some(bytes) = buffer(guest, kind) else { return Ok(Status::NotFound) };
    let start = usize::try_from(start).unwrap_or(usize::MAX).min(bytes.len());
    let end = start.saturating_add(usize::try_from(most).unwrap_or(usize::MAX)).min(bytes.len());
    guest.give(bytes.get(start..end).unwrap_or_default(), data, size)
}

fn set(guest: &mut Guest<'_>, &[kind, start, size, data, data_size, ..]: &Args) -> Answer {
    let new = guest.read(data, data_size)?;
    let Some(mut exchange) = guest.exchange() else { return Ok(Status::BadArgument) };
    let body = match kind {
        REQUEST_BODY => &mut exchange.request_body,
        RESPONSE_BODY => &mut exchange.response_body,
        _ => return Ok(Status::BadArgument),
    };
    let start = usize::try_from(start).unwrap_or(usize::MAX).min(body.len());
    let end = start.saturating_add(usize::try_from(size).unwrap_or(usize::MAX)).min(body.len());
    body.splice(start..end, new);
    Ok(Status::Ok)
}

fn size_of(guest: &mut Guest<'_>, &[kind, size, flags, ..]: &Args) -> Answer {
    let Some(bytes) = buffer(guest, kind) else { return Ok(Status::NotFound) };
    guest.write_u32(size, u32::try_from(bytes.len()).unwrap_or(u32::MAX))?;
    guest.write_u32(flags, 0)
}
