//! Peers that behave until they are told to turn, and then send without an end, or keep what they began.
//!
//! Each is a port of its own, all in this process. What they send stops when the other side closes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::tcp::TcpServer;

/// What is written at a time.
const BLOCK: usize = 64 * 1024;
/// No connection is written to or kept for longer, whatever the other side does.
const LONGEST: Duration = Duration::from_secs(20);

/// How long one that says nothing more keeps its connection.
const SILENCE: Duration = Duration::from_secs(3);

/// What peers do once they have turned.
#[derive(Clone, Debug)]
pub struct Worst {
    /// Whether they wait for something to be sent first.
    pub listens: bool,
    /// What they send once.
    pub first: Vec<u8>,
    /// What they send again and again; if it is empty they keep the connection open and say nothing more.
    pub again: Vec<u8>,
}

/// Peers that are good to begin with.
pub struct Crowd {
    servers: Vec<TcpServer>,
    has_turned: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
}

impl Crowd {
    /// So many peers; `good` is what one answers before it turns.
    pub fn start(count: usize, good: &[u8], worst: &Worst) -> Crowd {
        let (has_turned, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let servers = (0..count).map(|_| {
            let (good, worst) = (good.to_vec(), worst.clone());
            let (has_turned, sent) = (Arc::clone(&has_turned), Arc::clone(&sent));
            TcpServer::start(move |mut stream| {
                if has_turned.load(Ordering::SeqCst) {
                    worst.perform(&mut stream, &sent);
                } else {
                    if worst.listens {
                        let _ = stream.read(&mut [0; 4096]);
                    }
                    let _ = stream.write_all(&good);
                }
            })
        });
        Crowd { servers: servers.collect(), has_turned, sent }
    }

    /// From the next connection on.
    pub fn turn(&self) {
        self.has_turned.store(true, Ordering::SeqCst);
    }

    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(TcpServer::addr).collect()
    }

    /// Connections accepted so far, of all.
    pub fn connections(&self) -> usize {
        self.servers.iter().map(TcpServer::connections).sum()
    }

    /// Bytes that were sent so far after they had turned.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::SeqCst)
    }
}

impl Worst {
    fn perform(&self, stream: &mut TcpStream, sent: &AtomicU64) {
        let start = Instant::now();
        // Whoever does not read any more is not waited for without an end.
        let _ = stream.set_write_timeout(Some(LONGEST));
        let _ = stream.set_read_timeout(Some(LONGEST));
        if self.listens && stream.read(&mut [0; 4096]).is_err() {
            return;
        }
        let mut send = |bytes: &[u8]| {
            let is_sent = stream.write_all(bytes).is_ok();
            sent.fetch_add(if is_sent { bytes.len() as u64 } else { 0 }, Ordering::SeqCst);
            is_sent
        };
        if !send(&self.first) {
            return;
        }
        if self.again.is_empty() {
            // The end of what the other side sends is not the end of its reading, so that nothing tells when it is gone.
            std::thread::sleep(SILENCE);
            return;
        }
        let block = self.again.repeat((BLOCK / self.again.len()).max(1));
        while start.elapsed() < LONGEST && send(&block) {}
    }
}

/// A peer that always behaves, and remembers when it was checked.
pub struct Witness {
    server: TcpServer,
    seen: Arc<Mutex<Vec<Instant>>>,
}

impl Witness {
    /// `good` is what it answers, to what it is sent if it `listens`.
    pub fn start(good: &[u8], listens: bool) -> Witness {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (good, times) = (good.to_vec(), Arc::clone(&seen));
        let server = TcpServer::start(move |mut stream| {
            times.lock().unwrap().push(Instant::now());
            if listens {
                let _ = stream.read(&mut [0; 4096]);
            }
            let _ = stream.write_all(&good);
        });
        Witness { server, seen }
    }

    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The times of all checks so far.
    pub fn seen(&self) -> Vec<Instant> {
        self.seen.lock().unwrap().clone()
    }

    /// The longest time without a check since `since`.
    pub fn longest_gap(&self, since: Instant) -> Duration {
        let seen = self.seen();
        let times: Vec<Instant> = [since].into_iter().chain(seen.into_iter().filter(|at| *at > since)).collect();
        let ends = times.iter().skip(1).copied().chain([Instant::now()]);
        times.iter().zip(ends).map(|(begin, end)| end - *begin).max().unwrap_or_default()
    }
}
