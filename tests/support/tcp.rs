//! Servers of protocols other than HTTP: each connection is handed to a function.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::ports::{listen, Port};

/// Bodies by their paths, which can be changed at any time.
pub type Pages = Arc<Mutex<HashMap<String, String>>>;

/// A TCP server on a free port.
pub struct TcpServer {
    port: Port,
    connections: Arc<AtomicUsize>,
    stopping: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl TcpServer {
    /// Calls `serve` with each connection, on a thread of its own.
    pub fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> TcpServer {
        let port = Port::free();
        let listener = listen(port.addr()).expect("a port that is ours");
        let (connections, stopping) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stop, serve) = (Arc::clone(&connections), Arc::clone(&stopping), Arc::new(serve));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let serve = Arc::clone(&serve);
                if let Ok(stream) = stream {
                    std::thread::spawn(move || serve(stream));
                }
            }
        });
        TcpServer { port, connections, stopping, accepting: Some(accepting) }
    }

    /// One that sends what is in `line` and closes the connection, as agents do.
    pub fn agent(line: &Arc<Mutex<Vec<u8>>>) -> TcpServer {
        let line = Arc::clone(line);
        TcpServer::start(move |mut stream| {
            let line = line.lock().unwrap().clone();
            let _ = stream.write_all(&line);
        })
    }

    /// A web server that says its name (`x-served-by`), and answers each of these paths with this body. It closes each connection after one
    /// answer, and calls `seen` with each path.
    pub fn pages(name: &str, pages: &Pages, seen: impl Fn(&str) + Send + Sync + 'static) -> TcpServer {
        let (name, pages) = (name.to_owned(), Arc::clone(pages));
        TcpServer::start(move |mut stream| {
            let (mut head, mut byte) = (Vec::new(), [0]);
            while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            let head = String::from_utf8_lossy(&head);
            let Some(path) = head.split(' ').nth(1) else { return };
            seen(path);
            let body = pages.lock().unwrap().get(path).cloned().unwrap_or_else(|| name.clone());
            let (length, close) = (body.len(), "connection: close");
            let answer =
                format!("HTTP/1.1 200 OK\r\n{close}\r\nx-served-by: {name}\r\ncontent-length: {length}\r\n\r\n{body}");
            let _ = stream.write_all(answer.as_bytes());
        })
    }

    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that waits in `accept`.
        let _ = TcpStream::connect(self.addr());
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}
