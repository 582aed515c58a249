//! The server's side of HTTP/2, frame by frame (RFC 9113), for servers that misbehave on purpose.
//!
//! What a client sends is read only as far as its frames go; what is sent is whatever a test asks for.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

const PREFACE: usize = 24;

/// Types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// Error codes.
pub const NO_ERROR: u32 = 0;
pub const INTERNAL_ERROR: u32 = 2;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;

/// A connection of a client.
pub struct Session {
    stream: TcpStream,
}

impl Session {
    /// Exchanges the prefaces.
    pub fn begin(mut stream: TcpStream) -> io::Result<Session> {
        stream.set_nodelay(true)?;
        stream.read_exact(&mut [0; PREFACE])?;
        let mut session = Session { stream };
        session.send(SETTINGS, 0, 0, &[])?;
        Ok(session)
    }

    /// The address that the client connected to.
    pub fn addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket")
    }

    /// Waits for a request's headers, and gives its stream.
    pub fn request(&mut self) -> io::Result<u32> {
        loop {
            if let (HEADERS, stream) = self.frame()? {
                return Ok(stream);
            }
        }
    }

    /// Reads until the client ends the connection.
    pub fn rest(&mut self) {
        while self.frame().is_ok() {}
    }

    /// The next frame, after what has to be answered was answered: its type and its stream.
    fn frame(&mut self) -> io::Result<(u8, u32)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload)?;
        let (kind, flags) = (head[3], head[4]);
        match kind {
            SETTINGS if flags & ACK == 0 => self.send(SETTINGS, ACK, 0, &[])?,
            PING if flags & ACK == 0 => self.send(PING, ACK, 0, &payload)?,
            _ => {}
        }
        Ok((kind, u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
    }

    /// A header block with these headers, none of them compressed.
    pub fn headers(&mut self, stream: u32, headers: &[(&str, &str)], end: bool) -> io::Result<()> {
        let mut block = Vec::new();
        for (name, value) in headers {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).expect("a short header"));
                block.extend_from_slice(text.as_bytes());
            }
        }
        self.send(HEADERS, END_HEADERS | if end { END_STREAM } else { 0 }, stream, &block)
    }

    pub fn data(&mut self, stream: u32, bytes: &[u8], end: bool) -> io::Result<()> {
        self.send(DATA, if end { END_STREAM } else { 0 }, stream, bytes)
    }

    pub fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    /// Streams beyond `last` were not looked at.
    pub fn go_away(&mut self, last: u32, code: u32) -> io::Result<()> {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.stream.write_all(&[head, payload.to_vec()].concat())
    }
}
