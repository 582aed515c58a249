//! What servers do with a connection.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::BEYOND;
use crate::support::eventually;
use crate::support::h2::Session;
use crate::support::ports::Port;
use crate::support::tcp::TcpServer;
use crate::PATIENCE;

pub(super) enum Peer {
    /// Nobody listens.
    Refuses,
    /// A listener whose queue is full: no connection in time.
    Silent,
    /// Does this with each connection.
    Serves(fn(TcpStream)),
}

/// A running peer.
pub(super) enum Running {
    Refuses(Port),
    Silent(Port, #[allow(dead_code)] Socket, #[allow(dead_code)] Vec<Socket>),
    Serves(TcpServer),
}

impl Peer {
    pub(super) fn start(&self) -> Running {
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
    pub(super) fn addr(&self) -> SocketAddr {
        match self {
            Running::Refuses(port) | Running::Silent(port, ..) => port.addr(),
            Running::Serves(server) => server.addr(),
        }
    }

    pub(super) fn connections(&self) -> usize {
        match self {
            Running::Serves(server) => server.connections(),
            _ => 0,
        }
    }
}

/// Reads a message's head, byte by byte, so that nothing of what follows is missing later.
pub(super) fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read > 0) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Reads until the other side closes.
pub(super) fn wait(stream: &mut TcpStream) {
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).is_ok_and(|read| read > 0) {}
}

/// The servers whose clients have the beginning of an answer.
static BEGAN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());

pub(super) fn the_client_has_the_beginning(server: SocketAddr) {
    BEGAN.lock().unwrap().insert(server);
}

/// A connection that is reset takes with it what the other side has not read yet.
pub(super) fn until_the_client_has_the_beginning(server: SocketAddr) {
    eventually("the client has the beginning", PATIENCE, || BEGAN.lock().unwrap().contains(&server));
}

pub(super) fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Reads the request and sends these bytes.
pub(super) fn says(stream: &mut TcpStream, bytes: &[u8]) {
    read_head(stream);
    let _ = stream.write_all(bytes);
}

pub(super) const BEGUN: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n0123456789";
pub(super) const BEGUN_CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n";
pub(super) const EVENTS: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
pub(super) const SWITCHES: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// Answers one request after the other.
pub(super) fn answers(mut stream: TcpStream) {
    while !read_head(&mut stream).is_empty() {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    }
}

pub(super) fn answers_all(mut stream: TcpStream) {
    let head = read_head(&mut stream);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).and_then(|text| text.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    let _ = stream.read_exact(&mut body);
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    wait(&mut stream);
}

pub(super) fn answers_a_lot(mut stream: TcpStream) {
    // More than fits into all buffers on the way.
    let length = 20_000_000;
    says(&mut stream, format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes());
    let _ = stream.write_all(&vec![b'x'; length]);
    wait(&mut stream);
}

pub(super) fn sends_events(mut stream: TcpStream) {
    says(&mut stream, EVENTS);
    let until = Instant::now() + BEYOND;
    while Instant::now() < until && stream.write_all(b"a\r\ndata: 123\n\r\n").is_ok() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    wait(&mut stream);
}

pub(super) fn begins_and_stalls(mut stream: TcpStream) {
    says(&mut stream, BEGUN);
    wait(&mut stream);
}

pub(super) fn echoes(mut stream: TcpStream) {
    says(&mut stream, SWITCHES);
    let mut bytes = [0; 5];
    if stream.read_exact(&mut bytes).is_ok() {
        let _ = stream.write_all(&bytes);
    }
    wait(&mut stream);
}

/// What is done with an HTTP/2 request, on its stream.
pub(super) fn serves_h2(stream: TcpStream, serve: impl FnOnce(&mut Session, u32) -> std::io::Result<()>) {
    let Ok(mut session) = Session::begin(stream) else { return };
    if let Ok(request) = session.request() {
        let _ = serve(&mut session, request);
    }
}

pub(super) const H2_BEGUN: &[(&str, &str)] = &[(":status", "200"), ("content-type", "application/grpc")];

/// A good server, of either protocol, for whatever comes.
pub(super) fn obliges(stream: TcpStream) {
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
