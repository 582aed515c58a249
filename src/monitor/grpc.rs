//! `grpc`: the server says of itself, or of one of its services, that it serves.
//!
//! The question is `Check` of the service `grpc.health.v1.Health`, over HTTP/2, with `service` as the name that is asked about;
//! without one it is about the server as a whole. `SERVING` is good, and nothing else is. The `:authority` is the peer's name.
//!
//! Source: gRPC Health Checking Protocol, <https://github.com/grpc/grpc/blob/master/doc/health-checking.md>; gRPC over HTTP/2 for
//! the five bytes before a message; Protocol Buffers, Encoding, for the messages, of which each has one field.

use super::{Finding, MonitorSpec, Probe};
use crate::host::{CallKind, Reply};

/// The monitor.
#[derive(Default)]
pub struct Grpc;

impl Probe for Grpc {
    fn ask(&self, config: &MonitorSpec, peer: &str) -> CallKind {
        CallKind::Grpc {
            path: "/grpc.health.v1.Health/Check".to_owned(),
            authority: peer.to_owned(),
            message: request(&config.service),
        }
    }

    fn judge(&self, _config: &MonitorSpec, reply: &Reply) -> Finding {
        match reply {
            // A host that knows the trailers has said so; of another one the message has to do.
            Reply::Grpc { status: None | Some(0), body, .. } => match serving_status(body) {
                Some(1) => Finding::Good,
                Some(status) => Finding::Bad(format!("the health service says {}", name(SERVING_STATUSES, status))),
                None => Finding::Bad("not an answer of the health service".to_owned()),
            },
            Reply::Grpc { status: Some(status), message, .. } => Finding::Bad(failure(*status, message)),
            Reply::Http(status, _) => Finding::Bad(format!("status {status}, which is not of gRPC")),
            Reply::Failed(failure) => Finding::Bad(failure.to_string()),
            Reply::Bytes(_) | Reply::Connected | Reply::NotMade(_) => Finding::Bad("not a gRPC answer".to_owned()),
        }
    }
}

/// `HealthCheckResponse.ServingStatus`, from 0.
const SERVING_STATUSES: &str = "UNKNOWN SERVING NOT_SERVING SERVICE_UNKNOWN";

/// The statuses of calls, from 0 (gRPC, "Status codes and their use").
const STATUSES: &str =
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED \
                        RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE \
                        DATA_LOSS UNAUTHENTICATED";
const UNIMPLEMENTED: u32 = 12;

/// The longest part of a server's message that is told.
const LONGEST_MESSAGE: usize = 200;

/// The name of a status and its number, for numbers without a name.
fn name(names: &str, number: u64) -> String {
    let known = usize::try_from(number).ok().and_then(|number| names.split(' ').nth(number));
    format!("{} ({number})", known.unwrap_or("an unknown status"))
}

/// What a call failed of.
fn failure(status: u32, message: &str) -> String {
    let name = name(STATUSES, status.into());
    // As it was sent: only characters beyond ASCII are encoded in it.
    let message: String = message.chars().take(LONGEST_MESSAGE).collect();
    let colon = if message.is_empty() { "" } else { ": " };
    let hint = if status == UNIMPLEMENTED { " (the server has no service grpc.health.v1.Health)" } else { "" };
    format!("gRPC status {name}{colon}{message}{hint}")
}

/// A `HealthCheckRequest`: the name is its field 1.
fn request(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if service.is_empty() {
        return message;
    }
    message.push(1 << 3 | LENGTH_DELIMITED as u8);
    let mut length = service.len();
    while length >= 0x80 {
        message.push(length as u8 | 0x80);
        length >>= 7;
    }
    message.push(length as u8);
    message.extend_from_slice(service.as_bytes());
    message
}

/// Wire types of fields.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED_32: u64 = 5;

/// The status, field 1, of the `HealthCheckResponse` that a body begins with: 0 if it is left out. `None` if the body is none.
fn serving_status(body: &[u8]) -> Option<u64> {
    let (compressed, rest) = body.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    let mut message = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    if *compressed != 0 {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        let skipped = match (tag >> 3, tag & 7) {
            (0, _) => return None,
            (1, VARINT) => {
                status = varint(&mut message)?;
                0
            }
            (1, _) => return None,
            // Fields that are not known yet.
            (_, VARINT) => varint(&mut message).map(|_| 0)?,
            (_, FIXED_64) => 8,
            (_, LENGTH_DELIMITED) => usize::try_from(varint(&mut message)?).ok()?,
            (_, FIXED_32) => 4,
            _ => return None,
        };
        message = message.get(skipped..)?;
    }
    Some(status)
}

/// Takes a number off the beginning: seven bits in a byte, the lowest first, ten bytes at most.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if *byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Failure;
    use crate::testing::test;

    fn judge(status: Option<u32>, message: &str, body: &[u8]) -> Result<(), String> {
        let reply = Reply::Grpc { status, message: message.to_owned(), body: body.to_vec() };
        match Grpc.judge(&MonitorSpec::default(), &reply) {
            Finding::Good => Ok(()),
            Finding::Bad(why) => Err(why),
            _ => panic!("a verdict"),
        }
    }

    #[test]
    fn only_serving_is_good() {
        let says = |status| judge(None, "", &[0, 0, 0, 0, 2, 8, status]);
        assert_eq!(says(1), Ok(()));
        for (status, name) in
            [(0, "UNKNOWN (0)"), (2, "NOT_SERVING (2)"), (3, "SERVICE_UNKNOWN (3)"), (9, "an unknown status (9)")]
        {
            assert_eq!(says(status), Err(format!("the health service says {name}")));
        }
        assert_eq!(
            judge(Some(0), "", &[0; 5]),
            Err("the health service says UNKNOWN (0)".to_owned()),
            "a default is not sent"
        );
        assert_eq!(
            judge(Some(0), "", b"\0\0\0\0\x07\x12\x01x\x1a\0\x08\x01"),
            Ok(()),
            "with fields of a later version"
        );
    }

    #[test]
    fn a_status_of_the_call_counts_more_than_a_message() {
        let serving = [0, 0, 0, 0, 2, 8, 1];
        let unimplemented =
            "gRPC status UNIMPLEMENTED (12): unknown service (the server has no service grpc.health.v1.Health)";
        assert_eq!(judge(Some(12), "unknown service", &serving), Err(unimplemented.to_owned()));
        assert_eq!(judge(Some(5), "", &[]), Err("gRPC status NOT_FOUND (5)".to_owned()));
        assert_eq!(judge(Some(99), "%", &[]), Err("gRPC status an unknown status (99): %".to_owned()));
        let long = judge(Some(2), &"ä".repeat(10_000), &[]).unwrap_err();
        assert_eq!(long.chars().filter(|c| *c == 'ä').count(), LONGEST_MESSAGE);
    }

    #[test]
    fn what_is_no_message_is_no_answer() {
        let bad = Err("not an answer of the health service".to_owned());
        let whole = b"\0\0\0\0\x02\x08\x01";
        for cut in 0..whole.len() {
            assert_eq!(judge(Some(0), "", &whole[..cut]), bad, "{cut} bytes");
        }
        for (what, body) in [
            ("compressed", &b"\x01\0\0\0\x02\x08\x01"[..]),
            ("longer than anything", b"\0\xff\xff\xff\xff\x08\x01"),
            ("a status that is a text", b"\0\0\0\0\x03\x0a\x01\x01"),
            ("a field with the number 0", b"\0\0\0\0\x02\0\x01"),
            ("a field that is longer than the message", b"\0\0\0\0\x0b\x12\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x01"),
            ("a group", b"\0\0\0\0\x02\x13\x14"),
            ("a number without an end", b"\0\0\0\0\x0c\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
            ("HTML", b"<html><body>hello</body></html>"),
        ] {
            assert_eq!(judge(None, "", body), bad, "{what}");
        }
        let judge = |reply| Grpc.judge(&MonitorSpec::default(), &reply);
        assert_eq!(judge(Reply::Http(404, Vec::new())), Finding::Bad("status 404, which is not of gRPC".to_owned()));
        assert_eq!(judge(Reply::Failed(Failure::Connect)), Finding::Bad("no connection".to_owned()));
    }

    #[test]
    fn the_question_names_the_service() {
        let ask = |service: &str| match Grpc
            .ask(&MonitorSpec { service: service.to_owned(), ..Default::default() }, "web-1:50051")
        {
            CallKind::Grpc { authority, message, .. } => (authority, message),
            _ => panic!("a gRPC call"),
        };
        assert_eq!(ask(""), ("web-1:50051".to_owned(), Vec::new()));
        assert_eq!(ask("shop").1, b"\x0a\x04shop");
        assert_eq!(ask(&"x".repeat(300)).1[..4], [0x0a, 0xac, 0x02, b'x']);
    }
}
