//! What modules import from WASI: enough for a module that wants the time, random numbers and a place for its panics.

use super::{Args, Import, Returns};
use crate::guest::Guest;
use crate::status::{Answer, Status, Stop};
use crate::trace::LogLine;

pub(super) static IMPORTS: &[Import] = &[
    Import::wasi("random_get", "ii", random),
    Import::wasi("clock_time_get", "iIi", clock),
    Import::wasi("fd_write", "iiii", write),
    Import::wasi("environ_sizes_get", "ii", none),
    Import::wasi("environ_get", "ii", nothing),
    Import::wasi("args_sizes_get", "ii", none),
    Import::wasi("args_get", "ii", nothing),
    Import::wasi("sched_yield", "", nothing),
    Import::wasi("fd_close", "i", refuse),
    Import::wasi("fd_seek", "iIii", refuse),
    Import::wasi("fd_read", "iiii", refuse),
    Import::wasi("fd_fdstat_get", "ii", refuse),
    Import::wasi("fd_prestat_get", "ii", refuse),
    Import::wasi("fd_prestat_dir_name", "iii", refuse),
    Import { result: Returns::Nothing, ..Import::wasi("proc_exit", "i", exit) },
];

fn random(guest: &mut Guest<'_>, &[at, size, ..]: &Args) -> Answer {
    let bytes: Vec<u8> = {
        let mut core = guest.core();
        (0..size).map(|_| u8::try_from(core.rng.below(256)).unwrap_or_default()).collect()
    };
    guest.write(at, &bytes).map(|()| Status::Ok)
}

fn clock(guest: &mut Guest<'_>, &[_, _, at, ..]: &Args) -> Answer {
    let now = guest.core().events.wall();
    guest.write_u64(at, now)
}

/// Standard output is logged at info, standard error at error, as Envoy does.
fn write(guest: &mut Guest<'_>, &[file, pieces, count, written, ..]: &Args) -> Answer {
    let mut text = Vec::new();
    for piece in 0..count.min(1024) {
        let found = guest.read(pieces + piece * 8, 8)?;
        let (at, size) = found.split_at_checked(4).unwrap_or_default();
        let number = |bytes: &[u8]| bytes.try_into().map(u32::from_le_bytes).unwrap_or_default();
        text.extend(guest.read(u64::from(number(at)), u64::from(number(size)))?);
    }
    let level = match file {
        1 => 2,
        2 => 4,
        _ => return Ok(Status::BadArgument),
    };
    let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
    let (vm, text) = (guest.vm(), String::from_utf8_lossy(&text).into_owned());
    {
        let mut core = guest.core();
        let (who, at) = (core.who(vm), core.now());
        core.note(who, format_args!("log {level}: {}", text.trim_end()));
        let worker = core.vms.get(&vm).and_then(|facts| facts.worker);
        core.logs.push(LogLine { at, worker, level, text });
    }
    guest.write_u32(written, size)
}

fn none(guest: &mut Guest<'_>, &[count, size, ..]: &Args) -> Answer {
    guest.write_u32(count, 0)?;
    guest.write_u32(size, 0)
}

fn nothing(_: &mut Guest<'_>, _: &Args) -> Answer {
    Ok(Status::Ok)
}

fn refuse(_: &mut Guest<'_>, _: &Args) -> Answer {
    Ok(Status::BadArgument)
}

fn exit(_: &mut Guest<'_>, &[code, ..]: &Args) -> Answer {
    Err(Stop::Trap(format!("the module ended itself: proc_exit({code})")))
}
