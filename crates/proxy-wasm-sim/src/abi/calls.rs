//! Calls over HTTP and gRPC.

use std::rc::Rc;
use std::time::Duration;

use super::{Args, Import};
use crate::core::Core;
use crate::guest::Guest;
use crate::host::call::{Call, CallKind};
use crate::host::events::Event;
use crate::pairs::{self, Pairs};
use crate::personality::Situation;
use crate::status::{Answer, Status, Stop};
use crate::wiring::{Destination, Outgoing};
use crate::world::{Received, CONNECT_TIMEOUT};

pub(super) static IMPORTS: &[Import] = &[
    Import::env("proxy_http_call", "iiiiiiiiii", http_call).yields(),
    Import::env("proxy_grpc_call", "iiiiiiiiiiii", grpc_call).yields(),
    Import::env("proxy_grpc_stream", "iiiiiiiii", grpc_stream).yields(),
    Import::env("proxy_grpc_send", "iiii", grpc_send).yields(),
    Import::env("proxy_grpc_close", "i", grpc_close).yields(),
    Import::env("proxy_grpc_cancel", "i", grpc_cancel).yields(),
];

/// A stream has no end of its own.
const FOR_EVER: Duration = Duration::from_secs(1 << 32);

/// What a module wants called.
struct Wanted {
    to: String,
    headers: Pairs,
    body: Vec<u8>,
    timeout: Duration,
    kind: CallKind,
}

/// The way that a call takes.
struct Way {
    address: String,
    is_tcp: bool,
    gateway: Option<Pairs>,
}

fn http_call(guest: &mut Guest<'_>, args: &Args) -> Answer {
    let &[to, to_size, headers, headers_size, body, body_size, _, _, timeout, token, ..] = args;
    let Some(found) = pairs::decode(&guest.read(headers, headers_size)?) else { return Ok(Status::ParseFailure) };
    let is_whole = [":method", ":path", ":authority"].iter().all(|name| pairs::get(&found, name).is_some());
    if !is_whole {
        return Ok(Status::BadArgument);
    }
    let wanted = Wanted {
        to: guest.text(to, to_size)?,
        headers: found,
        body: guest.read(body, body_size)?,
        timeout: Duration::from_millis(timeout),
        kind: CallKind::Http,
    };
    dispatch(guest, wanted, token)
}

fn grpc_call(guest: &mut Guest<'_>, args: &Args) -> Answer {
    let &[to, to_size, _, _, _, _, headers, headers_size, body, body_size, timeout, token] = args;
    if let Some(status) = guest.rule(Situation::Grpc)? {
        return Ok(status);
    }
    let Some(found) = pairs::decode(&guest.read(headers, headers_size)?) else { return Ok(Status::ParseFailure) };
    let wanted = Wanted {
        to: service(&guest.read(to, to_size)?),
        headers: found,
        body: guest.read(body, body_size)?,
        timeout: Duration::from_millis(timeout),
        kind: CallKind::GrpcCall,
    };
    dispatch(guest, wanted, token)
}

fn grpc_stream(guest: &mut Guest<'_>, args: &Args) -> Answer {
    let &[to, to_size, _, _, _, _, headers, headers_size, token, ..] = args;
    if let Some(status) = guest.rule(Situation::Grpc)? {
        return Ok(status);
    }
    let Some(found) = pairs::decode(&guest.read(headers, headers_size)?) else { return Ok(Status::ParseFailure) };
    let to = service(&guest.read(to, to_size)?);
    let wanted = Wanted { to, headers: found, body: Vec::new(), timeout: FOR_EVER, kind: CallKind::GrpcStream };
    dispatch(guest, wanted, token)
}

/// The cluster of an `envoy.config.core.v3.GrpcService`: `envoy_grpc.cluster_name`, field 1 in field 1. A name that is not such a
/// message is a name.
fn service(bytes: &[u8]) -> String {
    let inner = |bytes: &[u8]| -> Option<Vec<u8>> {
        let (&tag, rest) = bytes.split_first()?;
        let (&size, rest) = rest.split_first()?;
        (tag == 0x0a && size < 128).then(|| rest.get(..usize::from(size)).map(<[u8]>::to_vec))?
    };
    let name = inner(bytes).and_then(|message| inner(&message)).unwrap_or_else(|| bytes.to_vec());
    String::from_utf8_lossy(&name).into_owned()
}

fn dispatch(guest: &mut Guest<'_>, wanted: Wanted, token_at: u64) -> Answer {
    let (vm, now, root) = (guest.vm(), guest.now(), guest.root()?);
    if now.callback == "proxy_on_http_call_response" && now.context == root {
        if let Some(status) = guest.rule(Situation::CallFromReply)? {
            return Ok(status);
        }
    }
    take_slot(guest)?;
    let destination = {
        let wiring = Rc::clone(&guest.core().wiring);
        let outgoing = Outgoing { to: &wanted.to, headers: &wanted.headers, is_grpc: wanted.kind != CallKind::Http };
        wiring.call(&outgoing)
    };
    let way = match destination {
        Destination::Http(address) => Way { address, is_tcp: false, gateway: None },
        Destination::Tcp(address) => Way { address, is_tcp: true, gateway: None },
        Destination::Gateway(address, marks) => Way { address, is_tcp: true, gateway: Some(pairs::of(&marks)) },
        Destination::Unknown | Destination::Fails => {
            // The connection that was taken for it is never given back.
            guest.facts()?.lost_slots += 1;
            let is_unknown = destination == Destination::Unknown;
            return Ok(if is_unknown { Status::BadArgument } else { Status::InternalFailure });
        }
    };
    let token = {
        let mut core = guest.core();
        begin(&mut core, wanted, (vm, now.context, root), way)
    };
    guest.write_u32(token_at, token)
}

/// Where a worker has so many connections for calls, one of them.
fn take_slot(guest: &Guest<'_>) -> Result<(), Stop> {
    let vm = guest.vm();
    let is_full = {
        let core = guest.core();
        let lost = core.vms.get(&vm).map_or(0, |facts| facts.lost_slots);
        let pending = u32::try_from(core.calls.values().filter(|call| call.vm == vm).count()).unwrap_or(u32::MAX);
        core.personality.calls.slots.is_some_and(|slots| lost.saturating_add(pending) >= slots)
    };
    if is_full {
        guest.rule(Situation::NoSlot)?;
    }
    Ok(())
}

fn begin(
    core: &mut Core,
    wanted: Wanted,
    (vm, context, root): (crate::vm::VmId, u32, u32),
    Way { address, is_tcp, gateway }: Way,
) -> u32 {
    let received = Received { at: core.now(), is_call: true, headers: wanted.headers, body: wanted.body.clone() };
    let mut rng = core.rng.clone();
    let course = core.world.course(&mut rng, &address, received, CONNECT_TIMEOUT, wanted.timeout, is_tcp);
    core.rng = rng;
    let token = core.next_call;
    core.next_call += 1;
    let who = core.who(vm);
    core.note(who, format_args!("call {token} {:?} to {address}", wanted.kind));
    if wanted.kind == CallKind::GrpcStream {
        if let Some(connected) = course.connected {
            core.after(connected, Event::CallConnected(token));
        }
    }
    core.after(course.end.0, Event::CallEnded(token));
    let call = Call {
        vm,
        context,
        root,
        kind: wanted.kind,
        is_tcp,
        gateway,
        address,
        course,
        headers: Pairs::new(),
        trailers: Pairs::new(),
        body: Vec::new(),
        status: (0, String::new()),
    };
    core.calls.insert(token, call);
    token
}

/// The call of this token if it is this VM's, and gRPC.
fn is_ours(guest: &Guest<'_>, token: u64) -> Option<u32> {
    let token = u32::try_from(token).ok()?;
    let vm = guest.vm();
    let core = guest.core();
    core.calls.get(&token).filter(|call| call.vm == vm && call.kind != CallKind::Http).map(|_| token)
}

fn grpc_send(guest: &mut Guest<'_>, &[token, data, size, ..]: &Args) -> Answer {
    let message = guest.read(data, size)?;
    let Some(token) = is_ours(guest, token) else { return Ok(Status::BadArgument) };
    let mut core = guest.core();
    let (at, address) = (core.now(), core.calls.get(&token).map(|call| call.address.clone()));
    let received = Received { at, is_call: true, headers: Pairs::new(), body: message };
    if let Some(peer) = address.and_then(|address| core.world.peers.get_mut(&address)) {
        peer.received.push(received);
    }
    Ok(Status::Ok)
}

fn grpc_close(guest: &mut Guest<'_>, args: &Args) -> Answer {
    grpc_cancel(guest, args)
}

fn grpc_cancel(guest: &mut Guest<'_>, &[token, ..]: &Args) -> Answer {
    let Some(token) = is_ours(guest, token) else { return Ok(Status::NotFound) };
    guest.core().calls.remove(&token);
    Ok(Status::Ok)
}

#[cfg(test)]
mod tests {
    use super::service;

    #[test]
    fn a_grpc_service_names_its_cluster() {
        assert_eq!(service(b"\n\x05\n\x03abc"), "abc");
        assert_eq!(service(b"\n\x05\n\x03abc\"\x02\x08\x01"), "abc");
        assert_eq!(service(b"abc"), "abc");
    }
}
