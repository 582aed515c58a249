//! Who may use the management API.

use std::net::IpAddr;

/// What the management API is configured with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminAccess {
    /// How its paths begin, without a slash at the end.
    pub prefix: String,
    /// The secret that a client has to send with every request. Without it nobody may change anything.
    pub token: Option<String>,
    /// Whose requests are answered.
    pub allow: Vec<Network>,
    /// The names of the proxy, in lower case: how it may be addressed where there is no token.
    pub hosts: Vec<String>,
}

impl AdminAccess {
    /// Whether a client of this address may come in.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        self.allow.iter().any(|network| network.contains(address))
    }

    /// Whether a client of any address of this one's family may come in.
    #[must_use]
    pub fn allows_any(&self, like: IpAddr) -> bool {
        self.allow.iter().any(|network| network.bits == 0 && network.contains(like))
    }
}

/// Addresses that begin alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub(crate) address: IpAddr,
    pub(crate) bits: u16,
}

impl Network {
    /// Whether the address is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (ours, theirs, width) = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => (u128::from(u32::from(ours)), u128::from(u32::from(theirs)), 32),
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => (u128::from(ours), u128::from(theirs), 128),
            _ => return false,
        };
        // All bits shifted out means that all addresses are the same.
        let shift = |address: u128| address.checked_shr(width - u32::from(self.bits)).unwrap_or(0);
        shift(ours) == shift(theirs)
    }
}
