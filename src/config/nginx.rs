//! Reading what concerns nginx alone.

use super::error::{quoted, ConfigErrors, Place};
use super::json::{Json, Object};
use super::read;

/// The longest address of a Unix socket is 107 bytes (`sun_path` of unix(7)).
const LONGEST: usize = "unix:".len() + 107;

/// Reads the address of the helper.
pub(super) fn nginx(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Option<String> {
    const WHAT: &str = "the address of a Unix socket, as in \"unix:/run/durpina.sock\"";
    let mut object = Object::open(at, value, "an object", errors)?;
    let helper = object.get("helper");
    object.close(None, errors);
    let place = at.key("helper");
    let helper = read::string(&place, helper?, WHAT, errors)?;
    // nginx loses a connection slot for good at each call to an address that it cannot read.
    let path = helper.strip_prefix("unix:").filter(|path| path.starts_with('/'));
    let is_plain = |path: &str| path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
    if !path.is_some_and(is_plain) || helper.len() > LONGEST {
        errors.expected(&place, WHAT, quoted(helper));
        return None;
    }
    Some(helper.to_owned())
}
