//! Metrics.

use super::{Args, Import};
use crate::guest::Guest;
use crate::host::metrics::Kind;
use crate::personality::Situation;
use crate::status::{Answer, Status};

pub(super) static IMPORTS: &[Import] = &[
    Import::env("proxy_define_metric", "iiii", define),
    Import::env("proxy_increment_metric", "iI", increment).yields(),
    Import::env("proxy_record_metric", "iI", record).yields(),
    Import::env("proxy_get_metric", "ii", get).yields(),
];

fn define(guest: &mut Guest<'_>, &[kind, name, name_size, id, ..]: &Args) -> Answer {
    let name = guest.text(name, name_size)?;
    let Some(kind) = Kind::of(kind) else { return Ok(Status::BadArgument) };
    let defined = {
        let mut core = guest.core();
        let new_id = core.personality.metrics.new_id_each_time;
        core.metrics.define(kind, &name, new_id)
    };
    match defined {
        Some(number) => guest.write_u32(id, number),
        None => Ok(Status::BadArgument),
    }
}

fn increment(guest: &mut Guest<'_>, &[id, by, ..]: &Args) -> Answer {
    let kind = guest.core().metrics.kind(id);
    let by = by as i64;
    match kind {
        None => return Ok(Status::NotFound),
        Some(Kind::Histogram) => return Ok(Status::BadArgument),
        Some(Kind::Counter) if by < 0 => return Ok(Status::BadArgument),
        Some(Kind::Counter) => {}
        Some(Kind::Gauge) => {
            if let Some(status) = guest.rule(Situation::IncrementGauge)? {
                return Ok(status);
            }
        }
    }
    guest.core().metrics.change(id, |value| value.saturating_add_signed(by));
    Ok(Status::Ok)
}

fn record(guest: &mut Guest<'_>, &[id, value, ..]: &Args) -> Answer {
    let mut core = guest.core();
    match core.metrics.kind(id) {
        None => return Ok(Status::NotFound),
        Some(Kind::Counter) => core.metrics.change(id, |found| found.saturating_add(value)),
        Some(Kind::Gauge | Kind::Histogram) => core.metrics.change(id, |_| value),
    };
    Ok(Status::Ok)
}

fn get(guest: &mut Guest<'_>, &[id, value, ..]: &Args) -> Answer {
    let (kind, found) = {
        let core = guest.core();
        (core.metrics.kind(id), core.metrics.get(id))
    };
    if kind == Some(Kind::Histogram) {
        if let Some(status) = guest.rule(Situation::ReadHistogram)? {
            return Ok(status);
        }
    }
    match found {
        Some(found) => guest.write_u64(value, found),
        None => Ok(Status::NotFound),
    }
}
