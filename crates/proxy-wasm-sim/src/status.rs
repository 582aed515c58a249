//! What a host call answers, and how it can end otherwise.

use std::fmt;

/// The status of a host call: the numbers of the ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)] // The names are the ABI's own.
pub enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    SerializationFailure = 3,
    ParseFailure = 4,
    Empty = 7,
    CasMismatch = 8,
    InternalFailure = 10,
    Unimplemented = 12,
}

/// Why a module did not get on in the middle of a host call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The host ends the module's call, as after a panic.
    Trap(String),
    /// The host itself does not survive this.
    Crash(String),
    /// Others go first: the call is made later.
    Wait,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trap(why) | Self::Crash(why) => f.write_str(why),
            Self::Wait => f.write_str("others go first"),
        }
    }
}

impl std::error::Error for Stop {}
impl wasmi::errors::HostError for Stop {}

/// What a host call comes to.
pub(crate) type Answer = Result<Status, Stop>;
