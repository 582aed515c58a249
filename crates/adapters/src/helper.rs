//! The helper: a server of the same nginx that does what nginx's calls over HTTP cannot.
//!
//! It has two locations, at which it connects to the `peer` of the query. `/agent` answers with what the server sends before it
//! closes, or with `!`, a status and `connect=` a time. `/tcp` answers with `connect=`, `header=` and `status=`. A time is `-` for what did
//! not happen.

use durpina_host::{Call, CallKind, Failure, Reply};

/// What a call asks.
pub(crate) enum Asked<'c> {
    /// The server itself.
    Http { method: &'c str, path: &'c str, authority: &'c str, headers: &'c [(String, String)], body: &'c [u8] },
    /// The helper, for a line.
    Agent(&'c [u8]),
    /// The helper, for a connection.
    Tcp,
    /// What nginx cannot ask.
    Nothing,
}

impl<'c> Asked<'c> {
    pub(crate) fn of(call: &'c Call) -> Self {
        match &call.kind {
            CallKind::Http { method, path, authority, headers, body } => {
                Self::Http { method, path, authority, headers, body }
            }
            CallKind::Tcp(bytes) => Self::Agent(bytes),
            CallKind::Connect => Self::Tcp,
            CallKind::Grpc { .. } => Self::Nothing,
        }
    }
}

/// The path at which the helper is asked, if it is.
pub(crate) fn path(asked: &Asked<'_>, peer: &str) -> Option<String> {
    match asked {
        Asked::Agent(send) => Some(format!("/agent?peer={peer}&send={}", encoded(send))),
        Asked::Tcp => Some(format!("/tcp?peer={peer}")),
        Asked::Http { .. } | Asked::Nothing => None,
    }
}

/// Percent-encoded as a value of a query.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(*byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// What the helper's answer says of the server.
pub(crate) fn read(asked: &Asked<'_>, body: Vec<u8>) -> Reply {
    let words = String::from_utf8_lossy(&body);
    let value = |name: &str| {
        let (_, rest) = words.split_once(name)?;
        rest.split([' ', ',', '\n']).next().filter(|word| !word.is_empty())
    };
    let connected = value("connect=");
    match asked {
        Asked::Agent(_) if body.first() == Some(&b'!') => {
            let is_silent = words.starts_with("!504");
            Reply::Failed(match connected {
                None | Some("-") => Failure::Connect,
                Some(_) if is_silent => Failure::Timeout,
                Some(_) => Failure::Reset,
            })
        }
        Asked::Agent(_) => Reply::Bytes(body),
        // A server that speaks first is heard before nginx has noted that it is connected.
        Asked::Tcp if value("header=").is_some_and(|time| time != "-") => Reply::Connected,
        Asked::Tcp => match (connected, value("status=")) {
            (None, _) => Reply::NotMade("what answers there is not the helper".to_owned()),
            (Some("-"), Some("504")) => Reply::Failed(Failure::Timeout),
            (Some("-"), _) => Reply::Failed(Failure::Connect),
            (Some(_), _) => Reply::Connected,
        },
        Asked::Http { .. } | Asked::Nothing => Reply::Failed(Failure::Protocol),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_answers_is_connected_whatever_nginx_noted() {
        let said = |words: &str| read(&Asked::Tcp, words.as_bytes().to_vec());
        assert_eq!(said("connect=- header=0.000 status=200\n"), Reply::Connected);
        assert_eq!(said("connect=0.001 header=- status=504\n"), Reply::Connected);
        assert_eq!(said("connect=- header=- status=502\n"), Reply::Failed(Failure::Connect));
        assert!(matches!(said("connect= header= status=\n"), Reply::NotMade(_)), "the helper takes no such address");
    }
}
