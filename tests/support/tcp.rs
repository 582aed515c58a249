//! Servers of protocols other than HTTP: each connection is handed to a function.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::ports::{listen, Port};

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
