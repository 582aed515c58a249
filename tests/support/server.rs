//! HTTP/1.1 servers that do as they are told: answer, fail in every way a server can, or die.
//!
//! [`Server`] runs on threads of this process and can be watched: how many connections and requests it
//! got, with which headers. [`ServerProcess`] runs the same code in a process of its own, for `kill -9`.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;

use super::eventually;
use super::ports::{listen, Port};

/// What a server does with the next requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    /// 200, with the server's name in `x-served-by` and in the body.
    Answer,
    /// This status, with the name as above.
    Status(u16),
    /// As `Answer`, this much later.
    Slow(Duration),
    /// Reads the request and never answers.
    Hang,
    /// Sends the headers and a part of the body, and then nothing more.
    Stall,
    /// Sends the headers and a part of the body, and closes the connection.
    CutOff,
    /// Reads the request and closes the connection without a word.
    CloseEarly,
    /// Reads the request and resets the connection (RST).
    Reset,
    /// Answers with bytes that are not HTTP.
    Garbage,
}

/// The head of a request as the server got it.
#[derive(Clone, Debug)]
pub struct Head {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
}

impl Head {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// How many heads of requests a server remembers.
const REMEMBERED: usize = 4_096;

/// A server on threads of this process.
pub struct Server {
    port: Port,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    name: String,
    behaviour: Mutex<Behaviour>,
    connections: AtomicUsize,
    requests: AtomicUsize,
    heads: Mutex<Vec<Head>>,
    /// The open connections, so that a stop can end them.
    open: Mutex<HashMap<usize, TcpStream>>,
    stopping: AtomicBool,
}

impl Server {
    /// A server that answers, on a free port.
    pub fn start(name: &str) -> Server {
        Server::start_at(name, Port::free())
    }

    pub fn start_at(name: &str, port: Port) -> Server {
        let mut server = Server {
            port,
            shared: Arc::new(Shared {
                name: name.to_owned(),
                behaviour: Mutex::new(Behaviour::Answer),
                connections: AtomicUsize::new(0),
                requests: AtomicUsize::new(0),
                heads: Mutex::new(Vec::new()),
                open: Mutex::new(HashMap::new()),
                stopping: AtomicBool::new(false),
            }),
            accepting: None,
        };
        server.resume();
        server
    }

    pub fn name(&self) -> &str {
        &self.shared.name
    }

    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// From the next request on, on open connections too.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().unwrap() = behaviour;
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Requests read so far.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// The heads of the first requests since the start or the last `forget`.
    pub fn heads(&self) -> Vec<Head> {
        self.shared.heads.lock().unwrap().clone()
    }

    pub fn forget(&self) {
        self.shared.heads.lock().unwrap().clear();
    }

    /// Ends every connection and refuses new ones; the address stays reserved.
    pub fn stop(&mut self) {
        let Some(accepting) = self.accepting.take() else { return };
        self.shared.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that waits in `accept`.
        let _ = TcpStream::connect(self.addr());
        accepting.join().expect("the accepting thread does not panic");
        for (_, stream) in self.shared.open.lock().unwrap().drain() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Listens again after a stop.
    pub fn resume(&mut self) {
        if self.accepting.is_some() {
            return;
        }
        self.shared.stopping.store(false, Ordering::SeqCst);
        let listener = listen(self.addr()).expect("the held port can be listened on");
        let shared = Arc::clone(&self.shared);
        self.accepting = Some(std::thread::spawn(move || shared.accept(&listener)));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.stopping.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let Ok(second) = stream.try_clone() else { continue };
            let id = self.connections.fetch_add(1, Ordering::SeqCst);
            self.open.lock().unwrap().insert(id, second);
            let shared = Arc::clone(self);
            std::thread::spawn(move || {
                // An error here is the client's going away, or our own stop.
                let _ = shared.converse(&stream);
                // The last handle closes, so this one goes first.
                shared.open.lock().unwrap().remove(&id);
                drop(stream);
            });
        }
    }

    /// Requests and answers on one connection until either side ends it.
    fn converse(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut buffer = Vec::new();
        while let Some(head) = read_request(stream, &mut buffer)? {
            self.requests.fetch_add(1, Ordering::SeqCst);
            let body_follows = head.method != "HEAD";
            {
                let mut heads = self.heads.lock().unwrap();
                if heads.len() < REMEMBERED {
                    heads.push(head);
                }
            }
            let behaviour = *self.behaviour.lock().unwrap();
            match behaviour {
                Behaviour::Answer => self.answer(stream, 200, body_follows)?,
                Behaviour::Status(status) => self.answer(stream, status, body_follows)?,
                Behaviour::Slow(delay) => {
                    std::thread::sleep(delay);
                    self.answer(stream, 200, body_follows)?;
                }
                Behaviour::Hang => return wait_for_end(stream),
                Behaviour::Stall => {
                    self.begin(stream)?;
                    return wait_for_end(stream);
                }
                Behaviour::CutOff => return self.begin(stream),
                Behaviour::CloseEarly => return Ok(()),
                Behaviour::Reset => return SockRef::from(stream).set_linger(Some(Duration::ZERO)),
                Behaviour::Garbage => return stream.write_all(b"\x00\xffthis is not HTTP\r\n\r\n"),
            }
        }
        Ok(())
    }

    fn answer(&self, mut stream: &TcpStream, status: u16, with_body: bool) -> io::Result<()> {
        let name = &self.name;
        let mut answer =
            format!("HTTP/1.1 {status} -\r\nx-served-by: {name}\r\ncontent-length: {}\r\n\r\n", name.len() + 1);
        if with_body {
            answer.push_str(name);
            answer.push('\n');
        }
        stream.write_all(answer.as_bytes())
    }

    /// The headers and ten of the thousand bytes they promise.
    fn begin(&self, mut stream: &TcpStream) -> io::Result<()> {
        let name = &self.name;
        let part = format!("HTTP/1.1 200 OK\r\nx-served-by: {name}\r\ncontent-length: 1000\r\n\r\n0123456789");
        stream.write_all(part.as_bytes())
    }
}

/// Reads until the client closes or the server stops, whatever comes.
fn wait_for_end(mut stream: &TcpStream) -> io::Result<()> {
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored)? > 0 {}
    Ok(())
}

/// Reads one request, its body included, and leaves what follows it in `buffer`. None at the end of the stream.
fn read_request(mut stream: &TcpStream, buffer: &mut Vec<u8>) -> io::Result<Option<Head>> {
    loop {
        if let Some((head, length)) = parse_request(buffer)? {
            if buffer.len() >= length {
                buffer.drain(..length);
                return Ok(Some(head));
            }
        }
        let mut chunk = [0; 16 * 1024];
        match stream.read(&mut chunk)? {
            0 => return Ok(None),
            read => buffer.extend_from_slice(&chunk[..read]),
        }
    }
}

/// The head of the request that `bytes` begin with, and its whole length; None while the head is incomplete.
fn parse_request(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let mut headers = [httparse::EMPTY_HEADER; 256];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    let httparse::Status::Complete(head_length) = parsed else { return Ok(None) };
    let head = Head {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        headers: request
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
            .collect(),
    };
    let body_length: usize = head.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    Ok(Some((head, head_length + body_length)))
}

/// A server in a process of its own, on a port that stays reserved while the process is dead.
pub struct ServerProcess {
    name: String,
    port: Port,
    command: fn(&str, SocketAddr) -> Command,
    child: Option<Child>,
}

impl ServerProcess {
    /// `command` makes the command whose process calls [`serve_until_orphaned`] with the same name and address.
    pub fn start(name: &str, command: fn(&str, SocketAddr) -> Command) -> ServerProcess {
        let mut server = ServerProcess { name: name.to_owned(), port: Port::free(), command, child: None };
        server.restart();
        server
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// `kill -9`: no farewell to anybody.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// On the same port as before.
    pub fn restart(&mut self) {
        self.kill();
        let mut command = (self.command)(&self.name, self.addr());
        // In a process group of its own, so that Ctrl-C on a terminal reaches only its parent.
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("server {}: {error}", self.name)));
        let addr = self.addr();
        eventually("a server process listens", Duration::from_secs(10), || TcpStream::connect(addr).is_ok());
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The whole life of a server process: serves until its standard input ends, which it does when the
/// parent is gone, however it went.
pub fn serve_until_orphaned(name: &str, addr: SocketAddr) {
    let port = Port::at(addr).expect("the port that the parent holds");
    let server = Server::start_at(name, port);
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    drop(server);
}
