//! Replies to calls, and who gave them.
//!
//! - What a server answered over HTTP has come through this Envoy, which says in `x-envoy-upstream-service-time` how long that
//!   took. An answer without it is Envoy's own, and mostly tells what went wrong with the server.
//! - What came through the gateway has come through two Envoys in turn, and when something went wrong, both say it in the same
//!   words: the gateway of the server, and the other one of the gateway. So the gateway leaves a [`MARK`] on all that it answers.
//!   What is not marked says nothing of the server.
//! - An answer of Envoy's own to gRPC has status 200, and its words are in `grpc-message`.

use std::cell::Cell;

use durpina_host::{Failure, Reply, LONGEST_REPLY};

use crate::abi::{status, Abi, Map};

/// The header by which the gateway's answers are known.
pub(crate) const MARK: &str = "x-durpina-gateway";
/// How long a server took, by Envoy.
const TOOK: &str = "x-envoy-upstream-service-time";

/// What a call sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// An HTTP request to the server.
    Http,
    /// A gRPC call of the server.
    Grpc,
    /// Bytes to the gateway, for the server.
    Tcp,
}

/// What is to be read from a reply, in its callback.
pub(crate) struct Answers<'a, A> {
    pub(crate) abi: &'a A,
    /// It was said that the gateway does not mark its answers.
    pub(crate) has_told_of_mark: &'a Cell<bool>,
}

impl<A: Abi> Answers<'_, A> {
    fn has(&self, map: Map, name: &str) -> bool {
        matches!(self.abi.header(map, name), Ok(Some(_)))
    }

    fn text(&self, map: Map, name: &str) -> Option<String> {
        let value = self.abi.header(map, name).ok()??;
        Some(String::from_utf8_lossy(&value).into_owned())
    }

    /// What a reply says to a call that did not open a stream.
    pub(crate) fn reply(&self, sent: Sent, headers: usize, trailers: usize) -> Reply {
        let Some(status) = status(self.abi, Map::Call).filter(|_| headers > 0) else {
            return Reply::Failed(Failure::Timeout);
        };
        let body = self.abi.call_body(LONGEST_REPLY).unwrap_or_default();
        let is_servers = self.has(Map::Call, TOOK);
        match (sent, status) {
            (Sent::Tcp, 200) => {
                self.expect_mark(Map::Call);
                Reply::Bytes(body)
            }
            (Sent::Tcp, _) => self.of_gateway(status, &String::from_utf8_lossy(&body)),
            (Sent::Grpc, 200) if is_servers => {
                let end = if trailers > 0 { Map::CallEnd } else { Map::Call };
                let status = self.text(end, "grpc-status").and_then(|status| status.parse().ok());
                Reply::Grpc { status, message: self.text(end, "grpc-message").unwrap_or_default(), body }
            }
            (Sent::Http | Sent::Grpc, _) if is_servers => Reply::Http(status, body),
            (Sent::Http | Sent::Grpc, _) => {
                let words = self.text(Map::Call, "grpc-message");
                failure(status, &words.unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned()))
            }
        }
    }

    /// What the first headers of a stream say. Where there are none, the last ones will tell.
    pub(crate) fn connected(&self, headers: u32) -> Option<Reply> {
        let is_connected = headers > 0 && matches!(status(self.abi, Map::Stream), None | Some(200));
        is_connected.then(|| {
            self.expect_mark(Map::Stream);
            Reply::Connected
        })
    }

    /// What the last headers of a stream say. Where they are not the gateway's, its end will tell.
    pub(crate) fn ended(&self, headers: u32) -> Option<Reply> {
        let words = || self.text(Map::StreamEnd, "grpc-message").unwrap_or_default();
        (headers > 0 && self.has(Map::StreamEnd, MARK)).then(|| failure(503, &words()))
    }

    /// What the end of a stream says of which nothing was said before. Envoy knows more of it than it tells elsewhere: the error, and
    /// the gateway's address.
    pub(crate) fn closed(&self) -> Reply {
        let words = self.abi.stream_status().unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        if behind(&words, "via_upstream").is_some() {
            not_the_gateway()
        } else {
            no_gateway(&words)
        }
    }

    /// Tells of a success without the mark. It is taken as one, so that what names resolve to is not lost with a configuration of
    /// before there was a mark.
    fn expect_mark(&self, map: Map) {
        if !self.has(map, MARK) && !self.has_told_of_mark.replace(true) {
            log::warn!(
                "the gateway for TCP does not set {MARK}: a dead server looks like a missing gateway, and fails no check. Add the \
                 response_headers_to_add of envoy/durpina.yaml"
            );
        }
    }

    /// What a failure through the gateway means.
    fn of_gateway(&self, status: u16, words: &str) -> Reply {
        if self.has(Map::Call, MARK) {
            failure(status, words)
        } else if self.has(Map::Call, TOOK) {
            not_the_gateway()
        } else {
            no_gateway(words)
        }
    }
}

fn not_the_gateway() -> Reply {
    Reply::NotMade(format!("what answers there is not the gateway for TCP, or does not set {MARK}"))
}

fn no_gateway(words: &str) -> Reply {
    Reply::NotMade(format!("the gateway for TCP is not there ({}): is its listener?", reason(words)))
}

/// What an answer means that an Envoy gave itself in place of the server.
fn failure(status: u16, words: &str) -> Reply {
    let says = |part: &str| behind(words, part).is_some();
    // The first two tell of the cluster: its limits are reached, or it does not go by the header.
    if says("overflow") || says("no healthy upstream") {
        return Reply::NotMade(reason(words).to_owned());
    }
    Reply::Failed(match status {
        504 => Failure::Timeout,
        502 => Failure::Protocol,
        _ if says("request timeout") => Failure::Timeout,
        _ if says("protocol error") => Failure::Protocol,
        _ if says("connection termination") || says("remote reset") => Failure::Reset,
        _ => Failure::Connect,
    })
}

/// The end of Envoy's words, which is what matters: a reason, or all that it knows in braces.
fn reason(words: &str) -> &str {
    let words = behind(words, "reset reason: ").unwrap_or(words);
    let words = behind(words, "{").unwrap_or(words).trim_end_matches('}');
    words.get(..300).unwrap_or(words)
}

/// What follows the last `part` in `words`, if there is one. Envoy's words are short, and the search of the standard library is not.
fn behind<'w>(words: &'w str, part: &str) -> Option<&'w str> {
    let at = words.as_bytes().windows(part.len()).rposition(|window| window == part.as_bytes())?;
    words.get(at + part.len()..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    /// What a reply with these headers and this body means.
    fn replied(sent: Sent, headers: &[(&str, &str)], body: &str) -> Reply {
        let (abi, has_told_of_mark) = (Fake::default(), Cell::default());
        headers.iter().for_each(|(name, value)| abi.set_header(Map::Call, name, value));
        *abi.call_body.borrow_mut() = body.as_bytes().to_vec();
        Answers { abi: &abi, has_told_of_mark: &has_told_of_mark }.reply(sent, headers.len(), 0)
    }

    fn failed(failure: Failure) -> Reply {
        Reply::Failed(failure)
    }

    const REFUSED: &str =
        "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure";
    const SERVERS: (&str, &str) = (TOOK, "3");
    const GATEWAYS: (&str, &str) = (MARK, "1");

    #[test]
    fn a_server_s_answer_is_told_from_envoy_s_own() {
        let envoys = |status, body| replied(Sent::Http, &[(":status", status)], body);
        let busy = replied(Sent::Http, &[(":status", "503"), SERVERS], "busy");
        assert_eq!(busy, Reply::Http(503, b"busy".to_vec()));
        assert_eq!(envoys("503", REFUSED), failed(Failure::Connect));
        assert_eq!(envoys("503", "reset reason: connection termination"), failed(Failure::Reset));
        assert_eq!(envoys("504", ""), failed(Failure::Timeout));
        assert_eq!(envoys("502", ""), failed(Failure::Protocol));
        assert_eq!(envoys("503", "… reset reason: overflow"), Reply::NotMade("overflow".to_owned()));
        assert_eq!(envoys("503", "no healthy upstream"), Reply::NotMade("no healthy upstream".to_owned()));
        assert_eq!(replied(Sent::Http, &[(":status", "x"), SERVERS], ""), failed(Failure::Timeout));
        assert_eq!(replied(Sent::Http, &[], ""), failed(Failure::Timeout));
    }

    #[test]
    fn the_gateway_s_word_on_a_server_is_told_from_a_word_on_the_gateway() {
        let tcp = |headers: &[_], body| replied(Sent::Tcp, headers, body);
        assert_eq!(tcp(&[(":status", "200"), SERVERS, GATEWAYS], "up"), Reply::Bytes(b"up".to_vec()));
        assert_eq!(tcp(&[(":status", "200"), SERVERS], "up"), Reply::Bytes(b"up".to_vec()));
        assert_eq!(tcp(&[(":status", "503"), SERVERS, GATEWAYS], REFUSED), failed(Failure::Connect));
        let overflow = tcp(&[(":status", "503"), SERVERS, GATEWAYS], "reset reason: overflow");
        assert_eq!(overflow, Reply::NotMade("overflow".to_owned()));
        let missing = "the gateway for TCP is not there (remote connection failure): is its listener?";
        assert_eq!(tcp(&[(":status", "503")], REFUSED), Reply::NotMade(missing.to_owned()));
        for status in ["503", "404", "403"] {
            assert_eq!(tcp(&[(":status", status), SERVERS], REFUSED), not_the_gateway());
        }
    }

    #[test]
    fn a_connection_is_there_at_the_first_headers_of_its_stream() {
        let (abi, has_told_of_mark) = (Fake::default(), Cell::default());
        let answers = Answers { abi: &abi, has_told_of_mark: &has_told_of_mark };
        assert_eq!((answers.connected(0), answers.ended(0)), (None, None), "others follow");
        assert_eq!(answers.connected(1), Some(Reply::Connected));
        assert!(has_told_of_mark.get());
        abi.set_header(Map::Stream, ":status", "200");
        assert_eq!(answers.connected(3), Some(Reply::Connected));
        abi.set_header(Map::Stream, ":status", "404");
        assert_eq!(answers.connected(3), None);
        abi.set_header(Map::StreamEnd, "grpc-message", REFUSED);
        assert_eq!(answers.ended(1), None);
        abi.set_header(Map::StreamEnd, MARK, "1");
        assert_eq!(answers.ended(2), Some(failed(Failure::Connect)));
    }

    #[test]
    fn the_end_of_a_stream_tells_who_ended_it() {
        let closed = |words: &str| {
            let abi = Fake::default();
            *abi.call_body.borrow_mut() = words.as_bytes().to_vec();
            Answers { abi: &abi, has_told_of_mark: &Cell::default() }.closed()
        };
        assert_eq!(closed(&format!("{REFUSED}{{via_upstream}}")), not_the_gateway());
        let detail =
            "remote_connection_failure|immediate_connect_error:_No_such_file_or_directory|remote_address:/run/tcp.sock";
        let why = format!("the gateway for TCP is not there ({detail}): is its listener?");
        let words = format!("{REFUSED}{{upstream_reset_before_response_started{{{detail}}}}}");
        assert_eq!(closed(&words), Reply::NotMade(why));
        assert!(matches!(closed(""), Reply::NotMade(_)));
    }

    #[test]
    fn the_status_of_a_grpc_call_is_in_its_trailers_or_alone_in_its_headers() {
        let abi = Fake::default();
        let answers = Answers { abi: &abi, has_told_of_mark: &Cell::default() };
        let grpc = |status, message: &str| Reply::Grpc { status, message: message.to_owned(), body: Vec::new() };
        [(":status", "200"), SERVERS].iter().for_each(|(name, value)| abi.set_header(Map::Call, name, value));
        assert_eq!(answers.reply(Sent::Grpc, 2, 0), grpc(None, ""));
        abi.set_header(Map::CallEnd, "grpc-status", "5");
        abi.set_header(Map::CallEnd, "grpc-message", "unknown service");
        assert_eq!(answers.reply(Sent::Grpc, 2, 2), grpc(Some(5), "unknown service"));
        abi.set_header(Map::Call, "grpc-status", "12");
        assert_eq!(answers.reply(Sent::Grpc, 3, 0), grpc(Some(12), ""));
        abi.set_header(Map::Call, ":status", "404");
        assert_eq!(answers.reply(Sent::Grpc, 3, 0), Reply::Http(404, Vec::new()));
        let own =
            |words| replied(Sent::Grpc, &[(":status", "200"), ("grpc-status", "14"), ("grpc-message", words)], "");
        assert_eq!(own(REFUSED), failed(Failure::Connect));
        assert_eq!(own("upstream request timeout"), failed(Failure::Timeout));
        assert_eq!(own("reset reason: protocol error"), failed(Failure::Protocol));
    }
}
