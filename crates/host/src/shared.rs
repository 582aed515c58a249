//! Data that all workers share: values under keys, with compare-and-swap.

use std::fmt;

/// A value in shared data, with the number that a later write must name to replace just this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The value as it was written.
    pub value: Vec<u8>,
    /// Its compare-and-swap number.
    pub cas: u32,
}

/// What a write to shared data expects to find there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// No value under this key yet.
    Nothing,
    /// The value that came with this number.
    Cas(u32),
}

/// Why a host call did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostError {
    /// Another worker wrote in the meantime: read again, decide again.
    Conflict,
    /// Shared data has no room.
    Full,
    /// The host lacks what this takes; what that is, and what to do about it.
    Lacking(&'static str),
    /// The host answered with a status that it should not have; the call and the status.
    Status(&'static str, u32),
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => f.write_str("the value was changed in the meantime"),
            Self::Full => f.write_str("the host's shared data is full"),
            Self::Lacking(what) => f.write_str(what),
            Self::Status(call, status) => write!(f, "the host refused {call} with status {status}"),
        }
    }
}

impl std::error::Error for HostError {}
