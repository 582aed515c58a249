//! A bounded amount of traffic: so many requests, over so many connections, and what became of each.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::{Client, Request};

/// What to send.
#[derive(Clone)]
pub struct Load {
    addr: SocketAddr,
    request: Request,
    requests: usize,
    connections: usize,
    connect_each_time: bool,
    pause: Duration,
}

/// What became of one request.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub latency: Duration,
    /// The status and the name of the server that answered, or why there was no answer.
    pub result: Result<(u16, String), String>,
}

impl Outcome {
    pub fn succeeded(&self) -> bool {
        matches!(self.result, Ok((200, _)))
    }
}

impl Load {
    /// `GET /` to this address.
    pub fn new(addr: SocketAddr, requests: usize) -> Load {
        Load {
            addr,
            request: Request::get("/"),
            requests,
            connections: 1,
            connect_each_time: false,
            pause: Duration::ZERO,
        }
    }

    #[must_use]
    pub fn request(mut self, request: Request) -> Load {
        self.request = request;
        self
    }

    #[must_use]
    pub fn connections(mut self, connections: usize) -> Load {
        self.connections = connections;
        self
    }

    /// A new connection for every request, so that every worker of Envoy gets some.
    #[must_use]
    pub fn connect_each_time(mut self) -> Load {
        self.connect_each_time = true;
        self
    }

    /// The pause of each connection between an answer and its next request.
    #[must_use]
    pub fn pause(mut self, pause: Duration) -> Load {
        self.pause = pause;
        self
    }

    /// Sends it all and waits for the end.
    pub fn run(self) -> Report {
        self.start().finish()
    }

    /// Sends it on threads, so that something can happen meanwhile.
    pub fn start(self) -> Running {
        let left = Arc::new(AtomicUsize::new(self.requests));
        let outcomes = Arc::new(Mutex::new(Vec::with_capacity(self.requests.min(1 << 20))));
        let stopped = Arc::new(AtomicBool::new(false));
        let threads = (0..self.connections)
            .map(|_| {
                let (load, left, outcomes, stopped) =
                    (self.clone(), Arc::clone(&left), Arc::clone(&outcomes), Arc::clone(&stopped));
                std::thread::spawn(move || load.send(&left, &outcomes, &stopped))
            })
            .collect();
        Running { outcomes, stopped, threads, start: Instant::now() }
    }

    /// One connection's part: takes from what is `left` until nothing is.
    fn send(&self, left: &AtomicUsize, outcomes: &Mutex<Vec<Outcome>>, stopped: &AtomicBool) {
        let mut client = Client::new(self.addr);
        let one_more = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        while !stopped.load(Ordering::Relaxed) && one_more() {
            let start = Instant::now();
            let result = match client.send(&self.request) {
                Ok(answer) => Ok((answer.status, answer.served_by().to_owned())),
                Err(error) => Err(error.to_string()),
            };
            outcomes.lock().unwrap().push(Outcome { latency: start.elapsed(), result });
            if self.connect_each_time {
                client.close();
            }
            if !self.pause.is_zero() {
                std::thread::sleep(self.pause);
            }
        }
    }
}

/// A load that is being sent.
pub struct Running {
    outcomes: Arc<Mutex<Vec<Outcome>>>,
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    start: Instant,
}

impl Running {
    /// How many requests have their outcome.
    pub fn done(&self) -> usize {
        self.outcomes.lock().unwrap().len()
    }

    /// The outcomes since the last call, which the final report then lacks.
    pub fn take(&self) -> Vec<Outcome> {
        std::mem::take(&mut self.outcomes.lock().unwrap())
    }

    /// Sends no more than what is under way.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether everything was sent and answered.
    pub fn is_done(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Waits until everything was sent and answered.
    pub fn finish(mut self) -> Report {
        for thread in self.threads.drain(..) {
            thread.join().expect("a sending thread does not panic");
        }
        Report { outcomes: self.take(), elapsed: self.start.elapsed() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What became of all requests.
pub struct Report {
    pub outcomes: Vec<Outcome>,
    pub elapsed: Duration,
}

impl Report {
    /// Answers per server; those that no server of ours gave are under the empty name.
    pub fn served(&self) -> BTreeMap<String, usize> {
        let mut served = BTreeMap::new();
        for (_, name) in self.outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok()) {
            *served.entry(name.clone()).or_default() += 1;
        }
        served
    }

    /// The answers of this server.
    pub fn served_by(&self, name: &str) -> usize {
        self.served().get(name).copied().unwrap_or(0)
    }

    /// Everything but 200, in words, with how often it happened.
    pub fn failures(&self) -> BTreeMap<String, usize> {
        let mut failures = BTreeMap::new();
        for outcome in self.outcomes.iter().filter(|outcome| !outcome.succeeded()) {
            let what = match &outcome.result {
                Ok((status, _)) => format!("status {status}"),
                Err(error) => error.clone(),
            };
            *failures.entry(what).or_default() += 1;
        }
        failures
    }
}
