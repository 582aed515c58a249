//! Whose fault it was: each way in which an attempt can end, with a real client and a real server.
//!
//! A row of a table is a server, a client, what Envoy says of the request when it is over, and what durpina counts. Each is tried
//! with the server as the only, the second and the third candidate and as the first one before a good one, with and without Envoy's access log. What Envoy says is asserted as
//! well: docs/states.md tells users of it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{json, Map, Value};
use socket2::{Domain, SockRef, Socket, Type};

use crate::support::client::{connect, Request};
use crate::support::config::Config;
use crate::support::envoy::{Envoy, Setup};
use crate::support::eventually;
use crate::support::h2::{self, Session};
use crate::support::ports::Port;
use crate::support::tcp::TcpServer;
use crate::PATIENCE;

/// The time that a request has whose row is about that, in seconds. All others have so much that no busy machine needs it.
const ROUTE: f64 = 1.5;
/// Longer than that.
const BEYOND: Duration = Duration::from_millis(2_200);
/// The time that a connection has, in seconds.
const CONNECT: f64 = 0.3;

/// A way in which an attempt ends.
struct Row {
    name: &'static str,
    server: Peer,
    client: fn(&mut Visit),
    /// Envoy's status, flags, and the beginning of its details.
    says: (u16, &'static str, &'static str),
    /// The reason under which it counts against the server.
    counts: Option<&'static str>,
}

impl Row {
    /// Whether it takes the route's time.
    fn is_timed(&self) -> bool {
        self.says.1 == "UT" || ["slow-upload", "websocket-beyond-the-time"].contains(&self.name)
    }
}

enum Peer {
    /// Nobody listens.
    Refuses,
    /// A listener whose queue is full: no connection in time.
    Silent,
    /// Does this with each connection.
    Serves(fn(TcpStream)),
}

/// A running peer.
enum Running {
    Refuses(Port),
    Silent(Port, #[allow(dead_code)] Socket, #[allow(dead_code)] Vec<Socket>),
    Serves(TcpServer),
}

impl Peer {
    fn start(&self) -> Running {
        match self {
            Peer::Refuses => Running::Refuses(Port::free()),
            Peer::Silent => {
                let port = Port::free();
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_reuse_port(true).unwrap();
                socket.bind(&port.addr().into()).unwrap();
                socket.listen(0).unwrap();
                // Linux queues one connection more than it is told to, and drops the first packets of all others.
                let fill = || {
                    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                    client.set_nonblocking(true).unwrap();
                    let _ = client.connect(&port.addr().into());
                    client
                };
                let waiting = (0..3).map(|_| fill()).collect();
                Running::Silent(port, socket, waiting)
            }
            Peer::Serves(serve) => Running::Serves(TcpServer::start(*serve)),
        }
    }
}

impl Running {
    fn addr(&self) -> SocketAddr {
        match self {
            Running::Refuses(port) | Running::Silent(port, ..) => port.addr(),
            Running::Serves(server) => server.addr(),
        }
    }

    fn connections(&self) -> usize {
        match self {
            Running::Serves(server) => server.connections(),
            _ => 0,
        }
    }
}

/// A client's request.
struct Visit<'e> {
    envoy: SocketAddr,
    path: String,
    server: &'e Running,
}

impl Visit<'_> {
    /// A connection over which these bytes went, with the path in place of `PATH`.
    fn send(&self, bytes: &str) -> TcpStream {
        let mut stream = connect(self.envoy).expect("a connection to Envoy");
        stream.write_all(bytes.replace("PATH", &self.path).as_bytes()).expect("Envoy reads");
        stream
    }

    fn get(&self) -> TcpStream {
        self.send(GET)
    }

    /// Ends the wait of the server, if it waits for that: see [`until_the_client_has_the_beginning`].
    fn tell_that_the_answer_began(&self) {
        BEGAN.lock().unwrap().insert(self.server.addr());
    }

    /// Waits until the server has a connection.
    fn until_the_server_is_reached(&self) {
        eventually("the server is reached", PATIENCE, || self.server.connections() > 0);
    }
}

// Clients.

const GET: &str = "GET PATH HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";

/// Reads what comes, to its end.
fn gets(visit: &mut Visit) {
    let mut stream = visit.get();
    read_head(&mut stream);
    visit.tell_that_the_answer_began();
    read_all(stream);
}

fn heads(visit: &mut Visit) {
    read_all(visit.send("HEAD PATH HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"));
}

fn read_all(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// Reads at 4 MB/s until the route's time is over.
fn reads_slowly(visit: &mut Visit) {
    let mut stream = connect_with_little_room(visit.envoy);
    stream.write_all(GET.replace("PATH", &visit.path).as_bytes()).expect("Envoy reads");
    let until = Instant::now() + BEYOND;
    let mut chunk = [0; 40_000];
    while Instant::now() < until && stream.read(&mut chunk).is_ok_and(|read| read > 0) {
        std::thread::sleep(Duration::from_millis(10));
    }
    read_all(stream);
}

/// Reads an answer without a body, or the beginning of one.
fn read_answer(mut stream: TcpStream) {
    read_head(&mut stream);
}

/// A connection whose other side cannot get far ahead.
fn connect_with_little_room(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&addr.into()).expect("a connection to Envoy");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

fn leaves_before_the_answer(visit: &mut Visit) {
    let stream = visit.get();
    visit.until_the_server_is_reached();
    drop(stream);
}

fn leaves_during_the_answer(visit: &mut Visit) {
    let mut stream = visit.get();
    stream.read_exact(&mut [0; 15]).expect("the beginning of an answer");
}

fn resets_during_the_answer(visit: &mut Visit) {
    let mut stream = visit.get();
    stream.read_exact(&mut [0; 15]).expect("the beginning of an answer");
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Takes longer than the route's time to send its body.
fn uploads_slowly(visit: &mut Visit) {
    let mut stream = visit.send("POST PATH HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 10\r\n\r\n");
    for _ in 0..10 {
        std::thread::sleep(BEYOND / 10);
        stream.write_all(b"x").expect("Envoy reads");
    }
    read_all(stream);
}

fn aborts_its_upload(visit: &mut Visit) {
    let stream = visit.send("POST PATH HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n0123456789");
    visit.until_the_server_is_reached();
    drop(stream);
}

fn uploads_a_lot(visit: &mut Visit) {
    let mut stream = visit.send("POST PATH HTTP/1.1\r\nhost: test\r\ncontent-length: 400000\r\n\r\n");
    let _ = stream.write_all(&[b'x'; 200_000]);
    read_answer(stream);
}

fn expects_to_continue(visit: &mut Visit) {
    read_all(visit.send(
        "POST PATH HTTP/1.1\r\nhost: test\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nok",
    ));
}

const UPGRADE: &str = "GET PATH HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

/// A WebSocket over which something went; the server ends it.
fn upgrades(visit: &mut Visit) {
    let mut stream = visit.send(UPGRADE);
    read_head(&mut stream);
    let _ = stream.write_all(b"hello");
    read_all(stream);
}

/// A WebSocket that is still open when the route's time is over.
fn upgrades_and_stays(visit: &mut Visit) {
    let mut stream = visit.send(UPGRADE);
    read_head(&mut stream);
    std::thread::sleep(BEYOND);
    stream.write_all(b"hello").expect("Envoy reads");
    stream.read_exact(&mut [0; 5]).expect("an echo");
}

fn upgrades_and_leaves(visit: &mut Visit) {
    let mut stream = visit.send(UPGRADE);
    read_head(&mut stream);
    stream.write_all(b"hello").expect("Envoy reads");
    stream.read_exact(&mut [0; 5]).expect("an echo");
}

fn upgrades_and_resets(visit: &mut Visit) {
    let mut stream = visit.send(UPGRADE);
    read_head(&mut stream);
    stream.write_all(b"hello").expect("Envoy reads");
    stream.read_exact(&mut [0; 5]).expect("an echo");
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A tunnel to the server. The path is in the host's place, as `CONNECT` has none.
fn tunnels(visit: &mut Visit) {
    let host = visit.path.trim_matches('/');
    let mut stream = visit.send(&format!("CONNECT {host}:80 HTTP/1.1\r\nhost: {host}:80\r\n\r\n"));
    read_head(&mut stream);
    let _ = stream.write_all(b"hello");
    read_all(stream);
}

/// A call with a deadline of its own, shorter than what the route allows.
fn calls_with_a_deadline(visit: &mut Visit) {
    read_all(visit.send(
        "POST PATH HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/grpc\r\nte: trailers\r\ngrpc-timeout: 100m\r\n\
         content-length: 0\r\n\r\n",
    ));
}

fn calls(visit: &mut Visit) {
    read_all(visit.send(
        "POST PATH HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/grpc\r\nte: trailers\r\ngrpc-timeout: 1H\r\n\
         content-length: 0\r\n\r\n",
    ));
}

// Servers.

/// Reads a message's head, byte by byte, so that nothing of what follows is missing later.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Reads until the other side closes.
fn wait(stream: &mut TcpStream) {
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).is_ok_and(|read| read > 0) {}
}

/// The servers whose clients have the beginning of an answer.
static BEGAN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());

/// A connection that is reset takes with it what the other side has not read yet.
fn until_the_client_has_the_beginning(server: SocketAddr) {
    eventually("the client has the beginning", PATIENCE, || BEGAN.lock().unwrap().contains(&server));
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Reads the request and sends these bytes.
fn says(stream: &mut TcpStream, bytes: &[u8]) {
    read_head(stream);
    let _ = stream.write_all(bytes);
}

const BEGUN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123456789";
const BEGUN_CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n";
const EVENTS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const SWITCHES: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// Answers one request after the other.
fn answers(mut stream: TcpStream) {
    while !read_head(&mut stream).is_empty() {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    }
}

fn answers_all(mut stream: TcpStream) {
    let head = read_head(&mut stream);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|text| text.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    let _ = stream.read_exact(&mut body);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    wait(&mut stream);
}

fn answers_a_lot(mut stream: TcpStream) {
    // More than fits into all buffers on the way.
    let length = 20_000_000;
    says(&mut stream, format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes());
    let _ = stream.write_all(&vec![b'x'; length]);
    wait(&mut stream);
}

fn sends_events(mut stream: TcpStream) {
    says(&mut stream, EVENTS);
    let until = Instant::now() + BEYOND;
    while Instant::now() < until && stream.write_all(b"a\r\ndata: 123\n\r\n").is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    wait(&mut stream);
}

fn begins_and_stalls(mut stream: TcpStream) {
    says(&mut stream, BEGUN);
    wait(&mut stream);
}

fn echoes(mut stream: TcpStream) {
    says(&mut stream, SWITCHES);
    let mut bytes = [0; 5];
    if stream.read_exact(&mut bytes).is_ok() {
        let _ = stream.write_all(&bytes);
    }
    wait(&mut stream);
}

/// What is done with an HTTP/2 request, on its stream.
fn serves_h2(stream: TcpStream, serve: impl FnOnce(&mut Session, u32) -> std::io::Result<()>) {
    let Ok(mut session) = Session::begin(stream) else { return };
    if let Ok(request) = session.request() {
        let _ = serve(&mut session, request);
    }
}

const H2_BEGUN: &[(&str, &str)] = &[(":status", "200"), ("content-type", "application/grpc")];

/// Over HTTP/1.1.
#[rustfmt::skip]
const ROWS: &[Row] = &[
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
const H2_ROWS: &[Row] = &[
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

const TOKEN: &str = "s3cret-t0ken";

/// What Envoy says of each request, for [`Config::lines`].
const LINE: &str =
    "%REQ(:path)%|%REQ(:authority)%|%RESPONSE_CODE%|%RESPONSE_FLAGS%|%RESPONSE_CODE_DETAILS%|%UPSTREAM_HOST%|%UPSTREAM_REQUEST_ATTEMPT_COUNT%";

/// What durpina counted: failures by upstream, peer and reason.
fn failures(envoy: &Envoy) -> BTreeMap<(String, String, String), u64> {
    let request = Request::get("/durpina/metrics").header("authorization", format!("Bearer {TOKEN}"));
    let page = envoy.client().send(&request).expect("the metrics").text();
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\"")).expect("a label");
        rest.split('"').next().unwrap_or_default().to_owned()
    };
    let lines = page.lines().filter(|line| line.starts_with("durpina_peer_failures_total{"));
    let figures = lines.map(|line| {
        let count = line.rsplit(' ').next().and_then(|figure| figure.parse().ok()).expect("a figure");
        ((label(line, "upstream"), label(line, "peer"), label(line, "reason")), count)
    });
    figures.filter(|(_, count)| *count > 0).collect()
}

/// A server of a row, with the refusing peers that are tried before it, or a good one after it.
struct Stand<'r> {
    row: &'r Row,
    upstream: String,
    before: Vec<Running>,
    server: Running,
    after: Option<Running>,
}

impl Stand<'_> {
    fn failures(&self) -> BTreeMap<(String, String, String), u64> {
        let failure =
            |peer: &Running, reason: &str| ((self.upstream.clone(), peer.addr().to_string(), reason.to_owned()), 1);
        let before = self.before.iter().map(|peer| failure(peer, "retried"));
        before.chain(self.row.counts.map(|reason| failure(&self.server, reason))).collect()
    }
}

/// A good server, of either protocol, for whatever comes.
fn obliges(stream: TcpStream) {
    let mut start = [0; 5];
    if !stream.peek(&mut start).is_ok_and(|read| read > 0) || start == *b"hello" {
        return;
    }
    if start == *b"PRI *" {
        serves_h2(stream, |session, request| {
            session.headers(request, H2_BEGUN, true)?;
            session.rest();
            Ok(())
        });
    } else {
        answers(stream);
    }
}

fn prepare(config: impl Fn(&Value) -> Config, stands: &[Stand], access_log: bool) -> Config {
    let mut upstreams = Map::new();
    let mut routes = Vec::new();
    for stand in stands {
        let peers = stand
            .before
            .iter()
            .chain([&stand.server])
            .chain(&stand.after)
            .map(|peer| format!("{} max_fails=0", peer.addr()));
        let upstream = json!({ "servers": peers.collect::<Vec<_>>(), "retries": stand.before.len() + usize::from(stand.after.is_some()) });
        upstreams.insert(stand.upstream.clone(), upstream);
        routes.push(json!({ "path": format!("/{}/", stand.upstream), "upstream": stand.upstream }));
        routes.push(json!({ "host": stand.upstream, "upstream": stand.upstream }));
    }
    let filter = json!({
        "upstreams": upstreams, "routes": routes,
        "envoy": { "access_log": access_log },
        "admin": { "prefix": "/durpina", "token": TOKEN },
    });
    let retries = json!({ "retry_on": "connect-failure,refused-stream,reset", "num_retries": 2 });
    let timed = json!({ "cluster": "durpina", "timeout": format!("{ROUTE}s"), "retry_policy": retries });
    let timed = json!({ "match": { "prefix": "/timed-" }, "route": timed });
    config(&filter).route(&timed).connect_timeout(CONNECT).lines(LINE)
}

fn check(rows: &'static [Row], access_log: bool, config: impl Fn(&Value) -> Config) {
    // At position 0 it is the first one of two, the other of which is good.
    let stand = |row: &'static Row, position: usize| Stand {
        row,
        upstream: format!("{}{}-{position}", if row.is_timed() { "timed-" } else { "" }, row.name),
        before: (1..position).map(|_| Peer::Refuses.start()).collect(),
        server: row.server.start(),
        after: (position == 0).then(|| Peer::Serves(obliges).start()),
    };
    let stands: Vec<Stand> = rows.iter().flat_map(|row| (0..=3).map(move |position| stand(row, position))).collect();
    let envoy = Setup::new(prepare(config, &stands, access_log)).start();
    std::thread::scope(|scope| {
        for stand in &stands {
            let mut visit = Visit { envoy: envoy.addr(), path: format!("/{}/", stand.upstream), server: &stand.server };
            scope.spawn(move || (stand.row.client)(&mut visit));
        }
    });
    let line = |stand: &Stand| {
        let lines = envoy.lines();
        let is_its = |line: &&String| {
            line.split('|').take(2).any(|word| word.trim_matches('/').trim_end_matches(":80") == stand.upstream)
        };
        lines.iter().find(is_its).cloned()
    };
    eventually("all requests are over", PATIENCE, || stands.iter().all(|stand| line(stand).is_some()));
    let mut wrong = Vec::new();
    for stand in stands.iter().filter(|stand| stand.after.is_none()) {
        let line = line(stand).expect("a line");
        let words: Vec<&str> = line.split('|').collect();
        let (status, flags, details) = stand.row.says;
        // Set beside the others when no retry is left.
        let flags_found = words[3].trim_start_matches("URX,");
        if words[2] != status.to_string() || flags_found != flags || !words[4..].join("|").starts_with(details) {
            wrong.push(format!("{}: Envoy says {line}", stand.upstream));
        }
    }
    let expected: BTreeMap<_, u64> = stands.iter().flat_map(Stand::failures).collect();
    let mut found = failures(&envoy);
    for stand in stands.iter().filter(|stand| stand.after.is_some()) {
        // Of an attempt that was repeated Envoy does not say how it failed.
        let key = |reason: &str| (stand.upstream.clone(), stand.server.addr().to_string(), reason.to_owned());
        if let (Some(reason), Some(count)) = (stand.row.counts, found.remove(&key("retried"))) {
            found.insert(key(reason), count);
        }
    }
    for (failure, count) in &found {
        if expected.get(failure) != Some(count) {
            wrong.push(format!("counted {count} times, and should not be: {failure:?}"));
        }
    }
    wrong.extend(
        expected
            .keys()
            .filter(|failure| !found.contains_key(failure))
            .map(|failure| format!("not counted: {failure:?}")),
    );
    assert!(wrong.is_empty(), "access log: {access_log}\n{}", wrong.join("\n"));
}

fn http1(filter: &Value) -> Config {
    let tunnel = json!({
        "match": { "connect_matcher": {} },
        "route": { "cluster": "durpina", "upgrade_configs": [{ "upgrade_type": "CONNECT", "connect_config": {} }],
            "timeout": "0s", "retry_policy": { "retry_on": "connect-failure", "num_retries": 2 } },
    });
    Config::reference(filter).upgrades().route(&tunnel)
}

#[test]
fn each_way_in_which_an_attempt_ends() {
    check(ROWS, true, http1);
}

#[test]
fn each_way_in_which_an_attempt_ends_without_the_access_log() {
    check(ROWS, false, http1);
}

#[test]
fn each_way_in_which_an_attempt_over_http2_ends() {
    for access_log in [true, false] {
        check(H2_ROWS, access_log, |filter| Config::reference(filter).http2_peers());
    }
}

/// Requests whose route in the filter JSON names an upstream, and whose route in Envoy leads elsewhere.
fn elsewhere(access_log: bool) {
    // Three candidates, so that what is tried again elsewhere could be taken for a second and third.
    let ours = [(); 3].map(|()| Peer::Serves(answers).start());
    let theirs =
        Peer::Serves(|mut stream| says(&mut stream, b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")).start();
    let redirects = b"HTTP/1.1 302 Found\r\nlocation: http://test/direct/\r\ncontent-length: 0\r\n\r\n";
    let redirecting = TcpServer::start(move |mut stream| says(&mut stream, redirects));
    let dead = Port::free();
    let upstream = |servers: &[SocketAddr]| {
        let servers: Vec<String> = servers.iter().map(|server| format!("{server} max_fails=0")).collect();
        json!({ "servers": servers, "fail_codes": "302 404 503" })
    };
    let filter = json!({
        "upstreams": {
            "web": upstream(&ours.each_ref().map(Running::addr)),
            "redirecting": upstream(&[redirecting.addr()]),
        },
        "routes": [{ "prefix": "/redirected/", "upstream": "redirecting" }, { "prefix": "/", "upstream": "web" },
            { "host": "nowhere", "upstream": "web" }],
        "envoy": { "access_log": access_log },
        "admin": { "prefix": "/durpina", "token": TOKEN },
    });
    let to = |prefix: &str, route: Value| {
        let mut route = json!({ "match": { "prefix": prefix }, "route": route });
        route["route"]["retry_policy"] = json!({ "retry_on": "connect-failure,reset,5xx", "num_retries": 2 });
        route
    };
    let weighted = json!([{ "name": "dead", "weight": 50 }, { "name": "durpina", "weight": 50 }]);
    let redirected = json!({ "cluster": "durpina", "internal_redirect_policy": { "redirect_response_codes": [302] } });
    let config = Config::reference(&filter)
        .cluster_of("dead", &[dead.addr()])
        .cluster_of("busy", &[theirs.addr()])
        .route(&to("/legacy/", json!({ "cluster": "dead" })))
        .route(&to("/busy/", json!({ "cluster": "busy" })))
        .route(&to("/weighted/", json!({ "weighted_clusters": { "clusters": weighted } })))
        .route(&to("/nowhere/", json!({ "cluster_header": "x-nowhere" })))
        .route(&json!({ "match": { "prefix": "/direct/" }, "direct_response": { "status": 503 } }))
        .route(&to("/redirected/", redirected))
        .upgrades()
        .lines(LINE);
    let envoy = Setup::new(config).start();
    let status = |path: &str| envoy.client().get(path).expect("an answer").status;
    for path in ["/legacy/", "/busy/", "/nowhere/", "/direct/", "/redirected/"] {
        assert_eq!(status(path), 503, "{path}");
    }
    let tunnel = envoy.client().send_bytes(b"CONNECT nowhere:80 HTTP/1.1\r\nhost: nowhere:80\r\n\r\n", true);
    assert_eq!(tunnel.expect("an answer").status, 404, "no route");
    let mut weighted: Vec<u16> = (0..40).map(|_| status("/weighted/")).collect();
    weighted.sort_unstable();
    weighted.dedup();
    assert_eq!(weighted, [200, 503], "both clusters are asked");
    eventually("all requests are over", PATIENCE, || envoy.lines().len() >= 47);
    assert_eq!(failures(&envoy), BTreeMap::new(), "access log: {access_log}\n{}", envoy.lines().join("\n"));
}

#[test]
fn what_goes_elsewhere_is_no_candidate_s_failure() {
    [true, false].into_iter().for_each(elsewhere);
}

/// Servers, what is particular about their route, what Envoy says, and the reasons that count: one for each server, none for those
/// that are not to blame.
struct Journey {
    name: &'static str,
    servers: &'static [Peer],
    route: fn(&mut Value),
    says: &'static str,
    counts: &'static [&'static str],
}

const HANGS: Peer = Peer::Serves(|mut stream| wait(&mut stream));
const STALLS: Peer = Peer::Serves(begins_and_stalls);
const ANSWERS: Peer = Peer::Serves(answers);
const BUSY: Peer = Peer::Serves(|mut stream| says(&mut stream, b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"));

fn per_try(route: &mut Value) {
    route["retry_policy"]["per_try_timeout"] = "0.4s".into();
}

fn per_try_idle(route: &mut Value) {
    route["retry_policy"]["per_try_idle_timeout"] = "0.2s".into();
}

fn idle(route: &mut Value) {
    route["idle_timeout"] = "0.2s".into();
}

fn longest_stream(route: &mut Value) {
    route["max_stream_duration"] = json!({ "max_stream_duration": "0.2s" });
}

#[rustfmt::skip]
const JOURNEYS: &[Journey] = &[
    Journey { name: "connecting-1", servers: &[Peer::Silent], route: |_| {}, says: "504|UT|response_timeout", counts: &["timeout"] },
    Journey { name: "connecting-2", servers: &[Peer::Refuses, Peer::Silent], route: |_| {},
        says: "504|UT|response_timeout", counts: &["retried", "timeout"] },
    Journey { name: "connecting-3", servers: &[Peer::Refuses, Peer::Refuses, Peer::Silent], route: |_| {},
        says: "504|UT|response_timeout", counts: &["retried", "retried", "timeout"] },
    Journey { name: "more-retries-than-candidates", servers: &[Peer::Refuses, Peer::Refuses, Peer::Refuses],
        route: |route| route["retry_policy"]["num_retries"] = 5.into(),
        says: "503|UH|no_healthy_upstream", counts: &["retried", "retried", "retried"] },
    Journey { name: "per-try", servers: &[HANGS, ANSWERS], route: per_try, says: "200|-|via_upstream", counts: &["retried", ""] },
    Journey { name: "per-try-last", servers: &[HANGS, HANGS], route: per_try,
        says: "504|URX,UT|upstream_per_try_timeout", counts: &["retried", "timeout"] },
    Journey { name: "per-try-idle", servers: &[HANGS], route: per_try_idle, says: "504|URX,UT|upstream_per_try_idle_timeout", counts: &[""] },
    Journey { name: "per-try-idle-stalls", servers: &[STALLS], route: per_try_idle,
        says: "200|UT|upstream_per_try_idle_timeout", counts: &[""] },
    Journey { name: "idle", servers: &[HANGS], route: idle, says: "504|SI|stream_idle_timeout", counts: &[""] },
    Journey { name: "idle-stalls", servers: &[STALLS], route: idle, says: "200|SI|stream_idle_timeout", counts: &[""] },
    Journey { name: "longest-stream", servers: &[HANGS], route: longest_stream, says: "504|-|max_duration_timeout", counts: &[""] },
    Journey { name: "longest-stream-stalls", servers: &[STALLS], route: longest_stream, says: "200|-|max_duration_timeout", counts: &[""] },
    Journey { name: "answer-that-is-retried", servers: &[BUSY, ANSWERS], route: |route| route["retry_policy"]["retry_on"] = "5xx".into(),
        says: "200|-|via_upstream", counts: &["retried", ""] },
    Journey { name: "answer-that-is-not-retried", servers: &[BUSY, ANSWERS], route: |_| {}, says: "503|-|via_upstream", counts: &["", ""] },
];

fn journeys(access_log: bool) {
    let running: Vec<Vec<Running>> =
        JOURNEYS.iter().map(|journey| journey.servers.iter().map(Peer::start).collect()).collect();
    let mut upstreams = Map::new();
    let mut routes = Vec::new();
    for (journey, servers) in JOURNEYS.iter().zip(&running) {
        let servers: Vec<String> = servers.iter().map(|server| format!("{} max_fails=0", server.addr())).collect();
        upstreams.insert(journey.name.to_owned(), json!({ "servers": servers }));
        routes.push(json!({ "path": format!("/{}/", journey.name), "upstream": journey.name }));
    }
    let filter = json!({
        "upstreams": upstreams, "routes": routes,
        "envoy": { "access_log": access_log },
        "admin": { "prefix": "/durpina", "token": TOKEN },
    });
    let config =
        JOURNEYS.iter().fold(Config::reference(&filter).connect_timeout(10.0).lines(LINE), |config, journey| {
            let retries = json!({ "retry_on": "connect-failure,reset", "num_retries": 2 });
            let mut route = json!({ "cluster": "durpina", "timeout": format!("{ROUTE}s"), "retry_policy": retries });
            (journey.route)(&mut route);
            config.route(&json!({ "match": { "path": format!("/{}/", journey.name) }, "route": route }))
        });
    let envoy = Setup::new(config).start();
    std::thread::scope(|scope| {
        for journey in JOURNEYS {
            let mut client = envoy.client();
            scope.spawn(move || client.get(&format!("/{}/", journey.name)));
        }
    });
    eventually("all requests are over", PATIENCE, || envoy.lines().len() >= JOURNEYS.len());
    let (lines, found) = (envoy.lines(), failures(&envoy));
    for (journey, servers) in JOURNEYS.iter().zip(&running) {
        let line = lines.iter().find(|line| line.starts_with(&format!("/{}/|", journey.name))).expect("a line");
        assert!(line.contains(&format!("|{}|", journey.says)), "{}: Envoy says {line}", journey.name);
        let expected = servers.iter().zip(journey.counts).filter(|(_, reason)| !reason.is_empty());
        let expected = expected.map(|(server, reason)| (server.addr().to_string(), (*reason).to_owned()));
        let mut expected: Vec<(String, String)> = expected.collect();
        let counted = found.keys().filter(|(upstream, ..)| upstream == journey.name);
        let mut counted: Vec<_> = counted.map(|(_, peer, reason)| (peer.clone(), reason.clone())).collect();
        expected.sort();
        counted.sort();
        assert_eq!(counted, expected, "{}, access log: {access_log}", journey.name);
    }
    assert!(found.values().all(|count| *count == 1), "{found:?}");
}

#[test]
fn each_timeout_and_each_retry() {
    [true, false].into_iter().for_each(journeys);
}

/// Envoy's own limits are nobody's failure.
#[test]
fn no_room_for_a_request_counts_for_nothing() {
    let [a, b] = [(); 2].map(|()| Peer::Serves(answers).start());
    for access_log in [true, false] {
        let servers = [&a, &b].map(|server| format!("{} max_fails=0", server.addr()));
        let filter = json!({
            "upstreams": { "web": { "servers": servers } }, "upstream": "web",
            "envoy": { "access_log": access_log }, "admin": { "prefix": "/durpina", "token": TOKEN },
        });
        let envoy = Setup::new(Config::reference(&filter).no_room().lines(LINE)).start();
        assert_eq!(envoy.client().get("/").expect("an answer").status, 503);
        eventually("the request is over", PATIENCE, || !envoy.lines().is_empty());
        let line = envoy.lines().remove(0);
        assert!(line.contains("|503|UO|upstream_reset_before_response_started{overflow}|"), "Envoy says {line}");
        assert_eq!(failures(&envoy), BTreeMap::new());
    }
}

/// What Envoy writes as an address is what was offered.
#[test]
fn a_failure_of_an_ipv6_address_finds_its_peer() {
    let Ok(dead) = Port::free_on(Ipv6Addr::LOCALHOST) else { return };
    let filter = json!({
        "upstreams": { "web": { "servers": [format!("{} max_fails=0", dead.addr())] } }, "upstream": "web",
        "envoy": { "access_log": true }, "admin": { "prefix": "/durpina", "token": TOKEN },
    });
    let envoy = Setup::new(Config::reference(&filter)).start();
    assert_eq!(envoy.client().get("/").expect("an answer").status, 503);
    let failure = ("web".to_owned(), dead.addr().to_string(), "connect".to_owned());
    eventually("it is counted", PATIENCE, || failures(&envoy).contains_key(&failure));
}
