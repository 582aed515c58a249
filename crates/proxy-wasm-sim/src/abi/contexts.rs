//! Logs, time, ticks, contexts, local answers.

use std::time::Duration;

use super::{Args, Import};
use crate::guest::Guest;
use crate::host::exchange::Asked;
use crate::pairs;
use crate::personality::Situation;
use crate::status::{Answer, Status};
use crate::trace::LogLine;
use crate::vm::Now;

pub(super) static IMPORTS: &[Import] = &[
    Import::env("proxy_log", "iii", log),
    Import::env("proxy_get_log_level", "i", log_level),
    Import::env("proxy_get_current_time_nanoseconds", "i", time).yields(),
    Import::env("proxy_set_tick_period_milliseconds", "i", tick_period),
    Import::env("proxy_set_effective_context", "i", effective_context),
    Import::env("proxy_done", "", done),
    Import::env("proxy_continue_stream", "i", continue_stream),
    Import::env("proxy_close_stream", "i", close_stream),
    Import::env("proxy_send_local_response", "iiiiiiii", local_response),
    Import::env("proxy_get_status", "iii", status),
    Import::env("proxy_call_foreign_function", "iiiiii", foreign_function),
    // Names of ABI 0.1.0 that old SDKs still import.
    Import::env("proxy_continue_request", "", |guest, _| continue_stream(guest, &Args::default())),
    Import::env("proxy_continue_response", "", |guest, _| continue_stream(guest, &Args::default())),
];

fn log(guest: &mut Guest<'_>, &[level, text, size, ..]: &Args) -> Answer {
    let text = guest.text(text, size)?;
    let Ok(level) = u32::try_from(level) else { return Ok(Status::BadArgument) };
    let vm = guest.vm();
    let mut core = guest.core();
    if level >= core.log_level {
        let who = core.who(vm);
        core.note(who, format_args!("log {level}: {text}"));
        let worker = core.vms.get(&vm).and_then(|facts| facts.worker);
        let at = core.now();
        core.logs.push(LogLine { at, worker, level, text });
    }
    Ok(Status::Ok)
}

fn log_level(guest: &mut Guest<'_>, &[level, ..]: &Args) -> Answer {
    if let Some(status) = guest.rule(Situation::LogLevel)? {
        return Ok(status);
    }
    let found = guest.core().log_level;
    guest.write_u32(level, found)
}

fn time(guest: &mut Guest<'_>, &[time, ..]: &Args) -> Answer {
    let now = guest.core().events.wall();
    guest.write_u64(time, now)
}

fn tick_period(guest: &mut Guest<'_>, &[millis, ..]: &Args) -> Answer {
    let (vm, id) = (guest.vm(), guest.root()?);
    let facts = guest.core().personality.ticks.clone();
    let period = Duration::from_millis(millis);
    let running = {
        let mut core = guest.core();
        let Some(root) = core.root(vm, id) else { return Ok(Status::BadArgument) };
        !root.period.is_zero()
    };
    if running && !period.is_zero() {
        if let Some(status) = guest.rule(Situation::SecondTickPeriod)? {
            return Ok(status);
        }
    }
    let mut core = guest.core();
    let Some(root) = core.root(vm, id) else { return Ok(Status::BadArgument) };
    root.period = period;
    if facts.replaces {
        root.timers.clear();
    }
    if !period.is_zero() {
        core.start_timer(vm, id, None);
    }
    Ok(Status::Ok)
}

fn effective_context(guest: &mut Guest<'_>, &[context, ..]: &Args) -> Answer {
    let Ok(context) = u32::try_from(context) else { return Ok(Status::BadArgument) };
    let facts = guest.facts()?;
    let request = match (facts.streams.get(&context), facts.roots.contains_key(&context)) {
        (Some(stream), _) => Some(stream.request),
        (None, true) => None,
        (None, false) => return Ok(Status::BadArgument),
    };
    drop(facts);
    let now = guest.now();
    guest.set_now(Now { context, request, ..now });
    Ok(Status::Ok)
}

fn done(guest: &mut Guest<'_>, _: &Args) -> Answer {
    if let Some(status) = guest.rule(Situation::Done)? {
        return Ok(status);
    }
    let (vm, root) = (guest.vm(), guest.root()?);
    let mut core = guest.core();
    match core.root(vm, root) {
        Some(found) if found.is_ending => {
            core.after(Duration::ZERO, crate::host::events::Event::Drained { vm, root });
            Ok(Status::Ok)
        }
        _ => Ok(Status::NotFound),
    }
}

fn continue_stream(guest: &mut Guest<'_>, _: &Args) -> Answer {
    let Some(mut exchange) = guest.exchange() else { return Ok(Status::BadArgument) };
    exchange.asked.get_or_insert(Asked::Continue);
    Ok(Status::Ok)
}

fn close_stream(guest: &mut Guest<'_>, _: &Args) -> Answer {
    let Some(mut exchange) = guest.exchange() else { return Ok(Status::BadArgument) };
    exchange.asked = Some(Asked::Close);
    Ok(Status::Ok)
}

fn local_response(guest: &mut Guest<'_>, args: &Args) -> Answer {
    let &[status, details, details_size, body, body_size, headers, headers_size, ..] = args;
    let details = guest.text(details, details_size)?;
    let body = guest.read(body, body_size)?;
    let Some(headers) = pairs::decode(&guest.read(headers, headers_size)?) else { return Ok(Status::ParseFailure) };
    let Some(status) = u16::try_from(status).ok().filter(|status| (100..600).contains(status)) else {
        return Ok(Status::BadArgument);
    };
    let Some(mut exchange) = guest.exchange() else { return Ok(Status::BadArgument) };
    exchange.asked = Some(Asked::Answer { status, headers, body, details });
    Ok(Status::Ok)
}

fn status(guest: &mut Guest<'_>, &[code, data, size, ..]: &Args) -> Answer {
    let call = guest.now().call;
    let found = call.and_then(|call| guest.core().calls.get(&call).map(|call| call.status.clone()));
    let (number, message) = found.unwrap_or_default();
    guest.write_u32(code, number)?;
    guest.give(message.as_bytes(), data, size)
}

fn foreign_function(guest: &mut Guest<'_>, &[name, size, ..]: &Args) -> Answer {
    let name = guest.text(name, size)?;
    let vm = guest.vm();
    let mut core = guest.core();
    let who = core.who(vm);
    core.note(who, format_args!("foreign function {name}: not known"));
    Ok(Status::NotFound)
}
