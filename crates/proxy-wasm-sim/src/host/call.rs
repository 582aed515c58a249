//! A call that a module made.

use crate::pairs::Pairs;
use crate::request::End;
use crate::vm::VmId;
use crate::world::Course;

/// What kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallKind {
    Http,
    /// One question, one answer.
    GrpcCall,
    GrpcStream,
}

/// A call under way.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) vm: VmId,
    pub(crate) context: u32,
    pub(crate) root: u32,
    pub(crate) kind: CallKind,
    pub(crate) is_tcp: bool,
    /// What a gateway between here and the peer sets on all that it answers.
    pub(crate) gateway: Option<Pairs>,
    pub(crate) address: String,
    pub(crate) course: Course,
    /// Headers of the reply, or the first metadata.
    pub(crate) headers: Pairs,
    /// Trailers of the reply, or the last metadata.
    pub(crate) trailers: Pairs,
    pub(crate) body: Vec<u8>,
    /// The status and message of gRPC.
    pub(crate) status: (u32, String),
}

/// The host's own answer to a call that came to no good: status and body, or nothing.
pub(crate) const fn own_answer(end: End) -> Option<(u16, &'static str)> {
    match end {
        End::Refused => Some((
            503,
            "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure, \
             transport failure reason: delayed connect error: Connection refused",
        )),
        End::ConnectTimeout => {
            Some((503, "upstream connect error or disconnect/reset before headers. reset reason: connection timeout"))
        }
        End::Reset => Some((
            503,
            "upstream connect error or disconnect/reset before headers. reset reason: connection termination",
        )),
        End::Garbage => {
            Some((502, "upstream connect error or disconnect/reset before headers. reset reason: protocol error"))
        }
        End::Silent => Some((504, "upstream request timeout")),
        End::NoPeer => Some((503, "no healthy upstream")),
        End::Answered(_) | End::CutOff | End::Stalled | End::Aborted => None,
    }
}

/// What nginx's module calls the end of a call.
pub(crate) const fn dispatch_status(end: End) -> &'static str {
    match end {
        End::Answered(_) | End::CutOff => "ok",
        End::Refused | End::Reset | End::Aborted | End::NoPeer => "broken connection",
        End::ConnectTimeout | End::Silent | End::Stalled => "timeout",
        End::Garbage => "reader failure",
    }
}

/// Envoy's flags and details of an end of a request's attempt.
pub(crate) const fn flags_and_details(end: End) -> (u64, &'static str) {
    match end {
        End::Answered(_) => (0, "via_upstream"),
        End::Refused => (
            32,
            "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}",
        ),
        End::ConnectTimeout => (32, "upstream_reset_before_response_started{connection_timeout}"),
        End::Reset => (64, "upstream_reset_before_response_started{connection_termination}"),
        End::Garbage => (0x0080_0000, "upstream_reset_before_response_started{protocol_error}"),
        End::Silent => (4, "response_timeout"),
        End::CutOff => (64, "upstream_reset_after_response_started{connection_termination}"),
        End::Stalled => (4, "response_timeout"),
        End::Aborted => (16_384, "downstream_remote_disconnect"),
        End::NoPeer => (2, "no_healthy_upstream"),
    }
}
