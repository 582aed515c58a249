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
    fn the_helper_is_asked_for_what_is_not_http() {
        let peer = "[::1]:80";
        assert_eq!(
            path(&Asked::Agent(b"hi there&x=1\n"), peer).unwrap(),
            "/agent?peer=[::1]:80&send=hi%20there%26x%3D1%0A"
        );
        assert_eq!(path(&Asked::Tcp, peer).unwrap(), "/tcp?peer=[::1]:80");
        assert_eq!(path(&Asked::Nothing, peer), None);
    }

    #[test]
    fn an_agent_s_line_is_told_from_the_helper_s_own_words() {
        let agent = |body: &str| read(&Asked::Agent(b""), body.as_bytes().to_vec());
        assert_eq!(agent("up 50%\n"), Reply::Bytes(b"up 50%\n".to_vec()));
        assert_eq!(agent(""), Reply::Bytes(Vec::new()));
        for (body, failure) in [
            ("!502 connect=-", Failure::Connect),
            ("!504 connect=-", Failure::Connect),
            ("!504 connect=0.000", Failure::Timeout),
            ("!502 connect=0.000", Failure::Reset),
            ("!", Failure::Connect),
        ] {
            assert_eq!(agent(body), Reply::Failed(failure), "{body}");
        }
    }

    #[test]
    fn a_connection_is_one_that_took_some_time_to_make() {
        let tcp = |body: &str| read(&Asked::Tcp, body.as_bytes().to_vec());
        assert_eq!(tcp("connect=0.000 header=- status=504\n"), Reply::Connected);
        assert_eq!(tcp("connect=0.001 header=0.002 status=200\n"), Reply::Connected);
        assert_eq!(tcp("connect=- header=- status=502\n"), Reply::Failed(Failure::Connect));
        assert_eq!(tcp("connect=- header=- status=504\n"), Reply::Failed(Failure::Timeout));
        assert!(matches!(tcp("hello"), Reply::NotMade(_)));
        assert!(matches!(tcp("connect= header= status="), Reply::NotMade(_)));
    }
}
