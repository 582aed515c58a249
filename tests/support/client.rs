//! A plain HTTP/1.1 client: one connection, kept alive, that can send any bytes.
//!
//! Well-behaved client libraries refuse to send what an attacker would, so requests are bytes here.
//! Answers are parsed strictly: a body that ends early is an error, never a short answer.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// How long an answer may take before it counts as an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request; whatever is put in goes out as it is.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: Vec<u8>,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    pub fn get(target: impl AsRef<[u8]>) -> Request {
        Request::new("GET", target)
    }

    pub fn new(method: &str, target: impl AsRef<[u8]>) -> Request {
        Request { method: method.to_owned(), target: target.as_ref().to_vec(), headers: Vec::new(), body: Vec::new() }
    }

    /// One more header; a name that is there already is sent again. A `host` replaces the default one.
    #[must_use]
    pub fn header(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Request {
        self.headers.push((name.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    #[must_use]
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Request {
        self.body = body.as_ref().to_vec();
        self
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = [self.method.as_bytes(), b" ", &self.target, b" HTTP/1.1\r\n"].concat();
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"host")) {
            bytes.extend_from_slice(b"host: test\r\n");
        }
        for (name, value) in &self.headers {
            bytes.extend_from_slice(&[name, b": ".as_slice(), value, b"\r\n"].concat());
        }
        if !self.body.is_empty() {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// A complete answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub latency: Duration,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The name of the server that answered, or the empty string if none of ours did.
    pub fn served_by(&self) -> &str {
        self.header("x-served-by").unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// One connection, opened when it is needed and kept as long as the other side keeps it.
pub struct Client {
    addr: SocketAddr,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    pub fn new(addr: SocketAddr) -> Client {
        Client { addr, stream: None, buffer: Vec::new() }
    }

    /// Over a connection that is there already, and over others to `addr` after it.
    pub fn over(stream: TcpStream, addr: SocketAddr) -> Client {
        Client { stream: Some(stream), ..Client::new(addr) }
    }

    pub fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.send(&Request::get(target))
    }

    pub fn send(&mut self, request: &Request) -> io::Result<Answer> {
        self.send_bytes(&request.bytes(), request.method != "HEAD")
    }

    /// Sends these bytes as they are and reads one answer. After an error the next call opens a new connection.
    pub fn send_bytes(&mut self, bytes: &[u8], body_follows: bool) -> io::Result<Answer> {
        let start = Instant::now();
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(self.addr)?,
        };
        stream.write_all(bytes)?;
        let mut answer = self.read_answer(&mut stream, body_follows)?;
        answer.latency = start.elapsed();
        if !answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    /// Closes the connection; the next request opens another.
    pub fn close(&mut self) {
        self.stream = None;
    }

    fn read_answer(&mut self, stream: &mut TcpStream, body_follows: bool) -> io::Result<Answer> {
        self.buffer.clear();
        let mut answer = loop {
            if let Some((answer, length)) = parse_answer(&self.buffer)? {
                self.buffer.drain(..length);
                // An interim answer (100 Continue) precedes the real one.
                if answer.status >= 200 {
                    break answer;
                }
            } else if self.fill(stream)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        if !body_follows || matches!(answer.status, 204 | 304) {
            return Ok(answer);
        }
        if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            self.read_chunks(stream, &mut answer.body)?;
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().map_err(invalid)?;
            answer.body = self.take(stream, length)?;
        } else {
            while self.fill(stream)? > 0 {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        Ok(answer)
    }

    fn read_chunks(&mut self, stream: &mut TcpStream, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            match httparse::parse_chunk_size(&self.buffer).map_err(|_| invalid("chunk size"))? {
                httparse::Status::Complete((start, size)) => {
                    self.buffer.drain(..start);
                    let size = usize::try_from(size).map_err(invalid)?;
                    let chunk = self.take(stream, size + 2)?;
                    if size == 0 {
                        return Ok(());
                    }
                    body.extend_from_slice(&chunk[..size]);
                }
                httparse::Status::Partial => {
                    if self.fill(stream)? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    /// The next `length` bytes of the stream.
    fn take(&mut self, stream: &mut TcpStream, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if self.fill(stream)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    fn fill(&mut self, stream: &mut TcpStream) -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let read = stream.read(&mut chunk)?;
        self.buffer.extend_from_slice(&chunk[..read]);
        Ok(read)
    }
}

/// A connection that gives up when nothing comes for long.
pub fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn parse_answer(bytes: &[u8]) -> io::Result<Option<(Answer, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes).map_err(invalid)? else { return Ok(None) };
    let answer = Answer {
        status: response.code.unwrap_or_default(),
        headers: response
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
            .collect(),
        body: Vec::new(),
        latency: Duration::ZERO,
    };
    Ok(Some((answer, length)))
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
