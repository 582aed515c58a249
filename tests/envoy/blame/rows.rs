//! The table: each way in which an attempt can end.

use std::io::{Read, Write};
use std::time::Duration;

use super::clients::*;
use super::servers::*;
use crate::support::h2;

/// A way in which an attempt ends.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) server: Peer,
    pub(super) client: fn(&mut Visit),
    /// Envoy's status, flags, and the beginning of its details.
    pub(super) says: (u16, &'static str, &'static str),
    /// The reason under which it counts against the server.
    pub(super) counts: Option<&'static str>,
}

impl Row {
    /// Whether it takes the route's time.
    pub(super) fn is_timed(&self) -> bool {
        self.says.1 == "UT" || ["slow-upload", "websocket-beyond-the-time"].contains(&self.name)
    }
}

/// Over HTTP/1.1.
#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    // Real failures.
    Row { name: "refused", server: Peer::Refuses, client: gets,
        says: (503, "UF", "upstream_reset_before_response_started{remote_connection_failure"), counts: Some("connect") },
    Row { name: "no-connection-in-time", server: Peer::Silent, client: gets,
        says: (503, "UF", "upstream_reset_before_response_started{connection_timeout"), counts: Some("connect") },
    Row { name: "closed-before-the-answer", client: gets, server: Peer::Serves(|mut stream| { read_head(&mut stream); }),
        says: (503, "UC", "upstream_reset_before_response_started{connection_termination"), counts: Some("reset") },
    Row { name: "reset-before-the-answer", client: gets, server: Peer::Serves(|mut stream| { read_head(&mut stream); reset(stream); }),
        says: (503, "UC", "upstream_reset_before_response_started{connection_termination"), counts: Some("reset") },
    Row { name: "closed-in-the-head", client: gets, server: Peer::Serves(|mut stream| says(&mut stream, b"HTTP/1.1 200 OK\r\nx: ")),
        says: (502, "UPE", "upstream_reset_before_response_started{protocol_error"), counts: Some("protocol") },
    Row { name: "no-answer-in-time", client: gets, server: Peer::Serves(|mut stream| wait(&mut stream)),
        says: (504, "UT", "response_timeout"), counts: Some("timeout") },
    Row { name: "early-hints-and-no-answer", client: gets,
        server: Peer::Serves(|mut stream| { says(&mut stream, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"); wait(&mut stream); }),
        says: (504, "UT", "response_timeout"), counts: Some("timeout") },
    Row { name: "not-http", client: gets, server: Peer::Serves(|mut stream| says(&mut stream, b"\x00\xffthis is not HTTP\r\n\r\n")),
        says: (502, "UPE", "upstream_reset_before_response_started{protocol_error"), counts: Some("protocol") },
    Row { name: "cut-off", client: gets, server: Peer::Serves(|mut stream| says(&mut stream, BEGUN)),
        says: (200, "UPE", "upstream_reset_after_response_started{protocol_error"), counts: Some("reset") },
    Row { name: "reset-in-the-body", client: gets, server: Peer::Serves(|mut stream| {
            says(&mut stream, BEGUN); until_the_client_has_the_beginning(stream.local_addr().unwrap()); reset(stream);
        }),
        says: (200, "UPE", "upstream_reset_after_response_started{protocol_error"), counts: Some("reset") },
    Row { name: "cut-off-between-chunks", client: gets, server: Peer::Serves(|mut stream| says(&mut stream, BEGUN_CHUNKED)),
        says: (200, "UPE", "upstream_reset_after_response_started{protocol_error"), counts: Some("reset") },
    Row { name: "not-http-in-the-body", client: gets, server: Peer::Serves(|mut stream| {
            says(&mut stream, BEGUN_CHUNKED); let _ = stream.write_all(b"this is no chunk\r\n"); wait(&mut stream);
        }),
        says: (200, "UPE", "upstream_reset_after_response_started{protocol_error"), counts: Some("reset") },
    // Once the answer began.
    Row { name: "stalls", server: Peer::Serves(begins_and_stalls), client: gets, says: (200, "UT", "response_timeout"), counts: None },
    Row { name: "stalls-after-a-504", client: gets, server: Peer::Serves(|mut stream| {
            says(&mut stream, b"HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 1000\r\n\r\n0123456789"); wait(&mut stream);
        }),
        says: (504, "UT", "response_timeout"), counts: None },
    Row { name: "events", server: Peer::Serves(sends_events), client: gets, says: (200, "UT", "response_timeout"), counts: None },
    Row { name: "slow-reader", server: Peer::Serves(answers_a_lot), client: reads_slowly, says: (200, "UT", "response_timeout"), counts: None },
    Row { name: "body-until-closed", client: gets, server: Peer::Serves(|mut stream| says(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n0123456789")),
        says: (200, "-", "via_upstream"), counts: None },
    Row { name: "body-until-reset", client: gets, server: Peer::Serves(|mut stream| {
            says(&mut stream, b"HTTP/1.1 200 OK\r\n\r\n0123456789"); until_the_client_has_the_beginning(stream.local_addr().unwrap()); reset(stream);
        }),
        says: (200, "-", "via_upstream"), counts: None },
    // Clients.
    Row { name: "client-leaves-before", server: Peer::Serves(|mut stream| wait(&mut stream)), client: leaves_before_the_answer,
        says: (0, "DC", "downstream_remote_disconnect"), counts: None },
    Row { name: "client-leaves-during", server: Peer::Serves(begins_and_stalls), client: leaves_during_the_answer,
        says: (200, "DC", "downstream_remote_disconnect"), counts: None },
    Row { name: "client-resets-during", server: Peer::Serves(begins_and_stalls), client: resets_during_the_answer,
        says: (200, "DC", "downstream_remote_disconnect"), counts: None },
    Row { name: "slow-upload", server: Peer::Serves(answers_all), client: uploads_slowly, says: (200, "-", "via_upstream"), counts: None },
    Row { name: "aborted-upload", server: Peer::Serves(answers_all), client: aborts_its_upload,
        says: (0, "DC", "downstream_remote_disconnect"), counts: None },
    Row { name: "early-answer-to-an-upload", client: uploads_a_lot, server: Peer::Serves(|mut stream| {
            says(&mut stream, b"HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"); wait(&mut stream);
        }),
        says: (413, "-", "via_upstream"), counts: None },
    // Upgrades.
    Row { name: "websocket-closed-by-the-server", client: upgrades, server: Peer::Serves(|mut stream| {
            says(&mut stream, SWITCHES); let _ = stream.read(&mut [0; 5]);
        }),
        says: (101, "UC", "upstream_reset_after_response_started{connection_termination"), counts: None },
    Row { name: "websocket-reset-by-the-server", client: upgrades, server: Peer::Serves(|mut stream| {
            says(&mut stream, SWITCHES); let _ = stream.read(&mut [0; 5]); reset(stream);
        }),
        says: (101, "UC", "upstream_reset_after_response_started{connection_termination"), counts: None },
    Row { name: "websocket-closed-by-the-client", server: Peer::Serves(echoes), client: upgrades_and_leaves,
        says: (101, "DC", "downstream_remote_disconnect"), counts: None },
    Row { name: "websocket-reset-by-the-client", server: Peer::Serves(echoes), client: upgrades_and_resets,
        says: (101, "DC", "downstream_remote_disconnect"), counts: None },
    Row { name: "websocket-beyond-the-time", server: Peer::Serves(echoes), client: upgrades_and_stays,
        says: (101, "DC", "downstream_remote_disconnect"), counts: None },
    Row { name: "websocket-refused", client: upgrades, server: Peer::Serves(|mut stream| {
            says(&mut stream, b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"); wait(&mut stream);
        }),
        says: (403, "-", "via_upstream"), counts: None },
    Row { name: "websocket-without-an-answer", client: upgrades, server: Peer::Serves(|mut stream| { read_head(&mut stream); }),
        says: (503, "UC", "upstream_reset_before_response_started{connection_termination"), counts: Some("reset") },
    Row { name: "tunnel-closed-by-the-server", client: tunnels, server: Peer::Serves(|mut stream| { let _ = stream.read(&mut [0; 5]); }),
        says: (200, "-", "via_upstream"), counts: None },
    Row { name: "tunnel-reset-by-the-server", client: tunnels, server: Peer::Serves(|mut stream| { let _ = stream.read(&mut [0; 5]); reset(stream); }),
        says: (200, "UC", "upstream_reset_after_response_started{connection_termination"), counts: None },
    Row { name: "tunnel-refused", client: tunnels, server: Peer::Refuses,
        says: (503, "UF", "upstream_reset_before_response_started{remote_connection_failure"), counts: Some("connect") },
    // Plain answers.
    Row { name: "answer", server: Peer::Serves(answers), client: gets, says: (200, "-", "via_upstream"), counts: None },
    Row { name: "head", client: heads, server: Peer::Serves(|mut stream| {
            says(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"); wait(&mut stream);
        }),
        says: (200, "-", "via_upstream"), counts: None },
    Row { name: "head-and-closed", client: heads, server: Peer::Serves(|mut stream| says(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")),
        says: (200, "-", "via_upstream"), counts: None },
    Row { name: "no-content", client: gets, server: Peer::Serves(|mut stream| says(&mut stream, b"HTTP/1.1 204 No Content\r\n\r\n")),
        says: (204, "-", "via_upstream"), counts: None },
    Row { name: "early-hints", client: gets, server: Peer::Serves(|mut stream| {
            says(&mut stream, b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"); wait(&mut stream);
        }),
        says: (200, "-", "via_upstream"), counts: None },
    Row { name: "continue", client: expects_to_continue, server: Peer::Serves(|mut stream| {
            says(&mut stream, b"HTTP/1.1 100 Continue\r\n\r\n"); let _ = stream.read_exact(&mut [0; 2]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"); wait(&mut stream);
        }),
        says: (200, "-", "via_upstream"), counts: None },
    Row { name: "an-answer-of-503", client: gets, server: Peer::Serves(|mut stream| {
            says(&mut stream, b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"); wait(&mut stream);
        }),
        says: (503, "-", "via_upstream"), counts: None },
];

/// Over HTTP/2, to the servers.
#[rustfmt::skip]
pub(super) const H2_ROWS: &[Row] = &[
    Row { name: "answer", client: gets, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            session.headers(request, H2_BEGUN, false)?; session.data(request, b"ok", true)?; session.rest(); Ok(())
        })),
        says: (200, "-", "via_upstream"), counts: None },
    Row { name: "refused", client: gets, server: Peer::Refuses,
        says: (503, "UF", "upstream_reset_before_response_started{remote_connection_failure"), counts: Some("connect") },
    Row { name: "rst-before", client: gets, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            session.reset(request, h2::INTERNAL_ERROR)?; session.rest(); Ok(())
        })),
        says: (503, "UR", "upstream_reset_before_response_started{remote_reset"), counts: Some("reset") },
    Row { name: "refused-stream", client: gets, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            session.reset(request, h2::REFUSED_STREAM)?; session.rest(); Ok(())
        })),
        says: (503, "UR", "upstream_reset_before_response_started{remote_refused_stream_reset"), counts: Some("reset") },
    Row { name: "rst-during", client: gets, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            session.headers(request, H2_BEGUN, false)?; session.data(request, b"begun", false)?;
            session.reset(request, h2::INTERNAL_ERROR)?; session.rest(); Ok(())
        })),
        says: (200, "UR", "upstream_reset_after_response_started{remote_reset"), counts: Some("reset") },
    Row { name: "rst-after-the-answer", client: uploads_a_lot, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            session.headers(request, H2_BEGUN, false)?; session.data(request, b"enough", true)?;
            session.reset(request, h2::NO_ERROR)?; session.rest(); Ok(())
        })),
        says: (200, "-", "via_upstream"), counts: None },
    Row { name: "goaway-before", client: gets, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            session.go_away(0, h2::NO_ERROR)?; let _ = request; session.rest(); Ok(())
        })),
        says: (503, "UR", "upstream_reset_before_response_started{remote_refused_stream_reset"), counts: Some("reset") },
    Row { name: "goaway-and-answer", client: gets, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            session.go_away(request, h2::NO_ERROR)?; session.headers(request, H2_BEGUN, false)?; session.data(request, b"ok", true)?; session.rest(); Ok(())
        })),
        says: (200, "-", "via_upstream"), counts: None },
    Row { name: "goaway-and-closed-during", client: gets, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            session.headers(request, H2_BEGUN, false)?; session.data(request, b"begun", false)?;
            until_the_client_has_the_beginning(session.addr()); session.go_away(request, h2::INTERNAL_ERROR)
        })),
        says: (200, "UC", "upstream_reset_after_response_started{connection_termination"), counts: Some("reset") },
    Row { name: "closed-before", client: gets, server: Peer::Serves(|stream| serves_h2(stream, |_, _| Ok(()))),
        says: (503, "UC", "upstream_reset_before_response_started{connection_termination"), counts: Some("reset") },
    Row { name: "not-http2", client: gets, server: Peer::Serves(|mut stream| says(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")),
        says: (502, "UPE", "upstream_reset_before_response_started{protocol_error"), counts: Some("protocol") },
    Row { name: "grpc-answer", client: calls, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            session.headers(request, H2_BEGUN, false)?; session.data(request, &[0; 5], false)?;
            session.headers(request, &[("grpc-status", "0")], true)?; session.rest(); Ok(())
        })),
        says: (200, "-", "via_upstream"), counts: None },
    Row { name: "grpc-error", client: calls, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            session.headers(request, &[(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "14")], true)?; session.rest(); Ok(())
        })),
        says: (200, "-", "via_upstream"), counts: None },
    Row { name: "grpc-no-answer-in-time", client: calls, server: Peer::Serves(|stream| serves_h2(stream, |session, _| { session.rest(); Ok(()) })),
        says: (200, "UT", "response_timeout"), counts: Some("timeout") },
    Row { name: "grpc-stream-beyond-the-time", client: calls, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            session.headers(request, H2_BEGUN, false)?; session.data(request, &[0; 5], false)?; session.rest(); Ok(())
        })),
        says: (200, "UT", "response_timeout"), counts: None },
    Row { name: "grpc-rst-before", client: calls, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            session.reset(request, h2::INTERNAL_ERROR)?; session.rest(); Ok(())
        })),
        says: (200, "UR", "upstream_reset_before_response_started{remote_reset"), counts: Some("reset") },
    Row { name: "grpc-deadline-before", client: calls_with_a_deadline, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            std::thread::sleep(Duration::from_millis(150)); session.reset(request, h2::CANCEL)?; session.rest(); Ok(())
        })),
        says: (200, "UR", "upstream_reset_before_response_started{remote_reset"), counts: None },
    Row { name: "grpc-deadline-during", client: calls_with_a_deadline, server: Peer::Serves(|stream| serves_h2(stream, |session, request| {
            session.headers(request, H2_BEGUN, false)?; session.data(request, &[0; 5], false)?;
            std::thread::sleep(Duration::from_millis(150)); session.reset(request, h2::CANCEL)?; session.rest(); Ok(())
        })),
        says: (200, "UR", "upstream_reset_after_response_started{remote_reset"), counts: None },
];
