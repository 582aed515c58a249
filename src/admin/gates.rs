//! The gates before the API: who may come in, and who may change something.
//!
//! 1. The client's address is in `allow`. An address that a header named counts for nothing: who can reach the proxy can write
//!    the header, and the filter cannot see whether the proxy had reason to trust it.
//! 2. Where there is no token, the request is for the proxy by a name that is known to be its own.
//! 3. Where there is a token, the request has it.
//! 4. A change comes from no page of another origin.

use std::net::IpAddr;

use subtle::ConstantTimeEq;

use super::method::Method;
use super::refusal::Refusal;
use crate::host::RequestHost;
use crate::model::access::AdminAccess;
use crate::request::Request;

/// Lets a request for `rest`, what follows the API's prefix, in or not.
pub(super) fn admit(access: &AdminAccess, host: &dyn RequestHost, method: Method, rest: &[u8]) -> Result<(), Refusal> {
    admit_client(access, host)?;
    let is_page = rest.split(|byte| *byte == b'?').next().is_none_or(|path| path.is_empty() || path == b"/");
    let is_read = method == Method::Get;
    match &access.token {
        // The page holds nothing that is worth a token, and a browser has none when it asks for it.
        Some(_) if is_page && is_read => {}
        Some(token) => {
            let given = host.header("authorization").unwrap_or_default();
            let (scheme, given) = given.split_at_checked(7).unwrap_or_default();
            // In a time that tells nothing of the token but its length.
            let is_token = bool::from(token.as_bytes().ct_eq(given.trim_ascii()));
            if !scheme.eq_ignore_ascii_case(b"bearer ") || !is_token {
                let detail = "expected the token of the management API: Authorization: Bearer …";
                return Err(Refusal::new(401, detail));
            }
        }
        None if !is_own_name(access, host) => {
            let detail =
                "without a token, the management API is there under the proxy's IP address, as localhost, and under \
                          the names in admin.hosts";
            return Err(Refusal::new(403, detail));
        }
        None if !is_read => {
            return Err(Refusal::new(403, "the management API has no token, and is read-only without one"));
        }
        None => {}
    }
    if !is_read && !is_of_same_origin(host) {
        return Err(Refusal::new(403, "a page of another origin may not change anything"));
    }
    Ok(())
}

fn admit_client(access: &AdminAccess, host: &dyn RequestHost) -> Result<(), Refusal> {
    let stranger = || Refusal::new(403, "this address may not use the management API");
    if let Some(address) = host.connection_address() {
        return if access.allows(address) { Ok(()) } else { Err(stranger()) };
    }
    let named = host.client().ok_or_else(stranger)?;
    // Where everybody may come, nobody gains anything by a wrong address.
    if access.allows_any(named) {
        return Ok(());
    }
    let detail = "the proxy has the client's address from a header, which anybody can write; give the management API a listener \
                  with use_remote_address: true and without xff_num_trusted_hops, or set a token and allow every address \
                  (0.0.0.0/0, ::/0)";
    Err(Refusal::new(403, detail))
}

/// Whether the request names the proxy by an address, as this machine, or by a name from the configuration.
///
/// A web page can have its own name looked up as this proxy's address ("DNS rebinding"). Its requests are then of one origin for
/// the browser, which lets the page read the answers, and come from an address that is allowed; but they name the page's host.
/// Where there is a token this need not be asked: the page does not know it, and the browser keeps it for another origin.
fn is_own_name(access: &AdminAccess, host: &dyn RequestHost) -> bool {
    let request = Request::new(host);
    let Ok(name) = std::str::from_utf8(request.host()) else { return false };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    // No browser leaves the name out.
    name.is_empty()
        || name == "localhost"
        || bare.parse::<IpAddr>().is_ok()
        || access.hosts.iter().any(|known| known == name)
}

/// Whether a request comes from no browser's page, or from one of this very origin: browsers say so (Fetch, `Origin`; Fetch
/// Metadata, `Sec-Fetch-Site`).
fn is_of_same_origin(host: &dyn RequestHost) -> bool {
    let site = host.header("sec-fetch-site");
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return false;
    }
    let Some(origin) = host.header("origin") else { return true };
    let authority = host.authority();
    let (_, named) =
        origin.split_at_checked(origin.windows(3).position(|w| w == b"://").unwrap_or(0)).unwrap_or_default();
    !authority.is_empty() && named.strip_prefix(b"://").is_some_and(|named| named.eq_ignore_ascii_case(&authority))
}
