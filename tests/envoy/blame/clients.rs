//! What clients do. Each does it once, and then the request is over.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockRef, Socket, Type};

use super::servers::{read_head, the_client_has_the_beginning, Running};
use super::BEYOND;
use crate::support::client::connect;
use crate::support::eventually;
use crate::PATIENCE;

/// A client's request.
pub(super) struct Visit<'e> {
    pub(super) envoy: SocketAddr,
    pub(super) path: String,
    pub(super) server: &'e Running,
}

impl Visit<'_> {
    /// A connection over which these bytes went, with the path in place of `PATH`.
    pub(super) fn send(&self, bytes: &str) -> TcpStream {
        let mut stream = connect(self.envoy).expect("a connection to Envoy");
        stream.write_all(bytes.replace("PATH", &self.path).as_bytes()).expect("Envoy reads");
        stream
    }

    pub(super) fn get(&self) -> TcpStream {
        self.send(GET)
    }

    /// Ends the wait of the server, if it waits for that: see [`until_the_client_has_the_beginning`].
    pub(super) fn tell_that_the_answer_began(&self) {
        the_client_has_the_beginning(self.server.addr());
    }

    /// Waits until the server has a connection.
    pub(super) fn until_the_server_is_reached(&self) {
        eventually("the server is reached", PATIENCE, || self.server.connections() > 0);
    }
}

pub(super) const GET: &str = "GET PATH HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n";

/// Reads what comes, to its end.
pub(super) fn gets(visit: &mut Visit) {
    let mut stream = visit.get();
    read_head(&mut stream);
    visit.tell_that_the_answer_began();
    read_all(stream);
}

pub(super) fn heads(visit: &mut Visit) {
    read_all(visit.send("HEAD PATH HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"));
}

pub(super) fn read_all(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    bytes
}

/// Reads at 4 MB/s until the route's time is over.
pub(super) fn reads_slowly(visit: &mut Visit) {
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
pub(super) fn read_answer(mut stream: TcpStream) {
    read_head(&mut stream);
}

/// A connection whose other side cannot get far ahead.
pub(super) fn connect_with_little_room(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&addr.into()).expect("a connection to Envoy");
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.into()
}

pub(super) fn leaves_before_the_answer(visit: &mut Visit) {
    let stream = visit.get();
    visit.until_the_server_is_reached();
    drop(stream);
}

pub(super) fn leaves_during_the_answer(visit: &mut Visit) {
    let mut stream = visit.get();
    stream.read_exact(&mut [0; 15]).expect("the beginning of an answer");
}

pub(super) fn resets_during_the_answer(visit: &mut Visit) {
    let mut stream = visit.get();
    stream.read_exact(&mut [0; 15]).expect("the beginning of an answer");
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Takes longer than the route's time to send its body.
pub(super) fn uploads_slowly(visit: &mut Visit) {
    let mut stream = visit.send("POST PATH HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 10\r\n\r\n");
    for _ in 0..10 {
        std::thread::sleep(BEYOND / 10);
        stream.write_all(b"x").expect("Envoy reads");
    }
    read_all(stream);
}

pub(super) fn aborts_its_upload(visit: &mut Visit) {
    let stream = visit.send("POST PATH HTTP/1.1\r\nhost: test\r\ncontent-length: 1000\r\n\r\n0123456789");
    visit.until_the_server_is_reached();
    drop(stream);
}

pub(super) fn uploads_a_lot(visit: &mut Visit) {
    let mut stream = visit.send("POST PATH HTTP/1.1\r\nhost: test\r\ncontent-length: 400000\r\n\r\n");
    let _ = stream.write_all(&[b'x'; 200_000]);
    read_answer(stream);
}

pub(super) fn expects_to_continue(visit: &mut Visit) {
    read_all(visit.send(
        "POST PATH HTTP/1.1\r\nhost: test\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nok",
    ));
}

pub(super) const UPGRADE: &str = "GET PATH HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
    sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n";

/// A WebSocket over which something went; the server ends it.
pub(super) fn upgrades(visit: &mut Visit) {
    let mut stream = visit.send(UPGRADE);
    read_head(&mut stream);
    let _ = stream.write_all(b"hello");
    read_all(stream);
}

/// A WebSocket that is still open when the route's time is over.
pub(super) fn upgrades_and_stays(visit: &mut Visit) {
    let mut stream = visit.send(UPGRADE);
    read_head(&mut stream);
    std::thread::sleep(BEYOND);
    stream.write_all(b"hello").expect("Envoy reads");
    stream.read_exact(&mut [0; 5]).expect("an echo");
}

pub(super) fn upgrades_and_leaves(visit: &mut Visit) {
    let mut stream = visit.send(UPGRADE);
    read_head(&mut stream);
    stream.write_all(b"hello").expect("Envoy reads");
    stream.read_exact(&mut [0; 5]).expect("an echo");
}

pub(super) fn upgrades_and_resets(visit: &mut Visit) {
    let mut stream = visit.send(UPGRADE);
    read_head(&mut stream);
    stream.write_all(b"hello").expect("Envoy reads");
    stream.read_exact(&mut [0; 5]).expect("an echo");
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// A tunnel to the server. The path is in the host's place, as `CONNECT` has none.
pub(super) fn tunnels(visit: &mut Visit) {
    let host = visit.path.trim_matches('/');
    let mut stream = visit.send(&format!("CONNECT {host}:80 HTTP/1.1\r\nhost: {host}:80\r\n\r\n"));
    read_head(&mut stream);
    let _ = stream.write_all(b"hello");
    read_all(stream);
}

/// A call with a deadline of its own, shorter than what the route allows.
pub(super) fn calls_with_a_deadline(visit: &mut Visit) {
    read_all(visit.send(
        "POST PATH HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/grpc\r\nte: trailers\r\ngrpc-timeout: 100m\r\n\
         content-length: 0\r\n\r\n",
    ));
}

pub(super) fn calls(visit: &mut Visit) {
    read_all(visit.send(
        "POST PATH HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/grpc\r\nte: trailers\r\ngrpc-timeout: 1H\r\n\
         content-length: 0\r\n\r\n",
    ));
}
