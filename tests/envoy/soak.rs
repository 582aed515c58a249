//! Healthy servers, whatever clients do: not one failure is counted, and nobody is taken out of use.
//!
//! The test takes 20 s; the environment variable `DURPINA_SOAK` has another number of seconds.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use socket2::{Domain, SockRef, Socket, Type};

use crate::support::client::{connect, Client, Request};
use crate::support::config::Config;
use crate::support::envoy::{Envoy, Setup};
use crate::support::ports::Port;
use crate::support::proxy::Proxy as _;
use crate::support::tcp::TcpServer;
use crate::PATIENCE;

const SECONDS: u64 = 20;

/// The time that a request has, in seconds.
const ROUTE: f64 = 1.0;
/// Longer than that: how long events are sent, and how long slow clients are slow.
const BEYOND: Duration = Duration::from_millis(1_700);

/// More than all buffers between a server and a client take, so that the client's pace is the server's.
const LONG: usize = 24_000_000;

const TOKEN: &str = "s3cret-t0ken";

/// A server that does what the path says, one request after the other.
fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    while let Some(head) = read_head(&mut stream) {
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.and_then(|text| text.parse().ok()).unwrap_or(0)];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        let path = head.split(' ').nth(1).unwrap_or_default();
        let done = match path {
            "/events" => send_events(&mut stream),
            "/socket" => return echo(&mut stream, true),
            "/socket/ours" => return echo(&mut stream, false),
            "/long" => send_long(&mut stream),
            "/closed" => {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nuntil the connection ends");
                return;
            }
            _ => stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"),
        };
        if done.is_err() {
            return;
        }
    }
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if !stream.read(&mut byte).is_ok_and(|read| read > 0) {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

fn send_events(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")?;
    let until = Instant::now() + BEYOND;
    while Instant::now() < until {
        stream.write_all(b"d\r\ndata: event\n\n\r\n")?;
        std::thread::sleep(Duration::from_millis(100));
    }
    stream.write_all(b"0\r\n\r\n")
}

fn send_long(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {LONG}\r\n\r\n").as_bytes())?;
    let chunk = vec![b'x'; 100_000];
    (0..LONG / chunk.len()).try_for_each(|_| stream.write_all(&chunk))
}

/// A WebSocket: one message back and forth, then either side ends it.
fn echo(stream: &mut TcpStream, until_the_client_ends: bool) {
    let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
    let mut message = [0; 5];
    while stream.read_exact(&mut message).and_then(|()| stream.write_all(&message)).is_ok() && until_the_client_ends {}
}

/// A request, as far as it was sent.
fn send(envoy: SocketAddr, request: &Request) -> Option<TcpStream> {
    let mut stream = connect(envoy).ok()?;
    stream.write_all(&request.bytes()).ok()?;
    Some(stream)
}

fn read_all(mut stream: TcpStream) {
    let mut bytes = [0; 64 * 1024];
    while stream.read(&mut bytes).is_ok_and(|read| read > 0) {}
}

fn open_socket(envoy: SocketAddr, path: &str) -> Option<TcpStream> {
    let upgrade = Request::get(path).header("connection", "upgrade").header("upgrade", "websocket");
    let upgrade = upgrade.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").header("sec-websocket-version", "13");
    let mut stream = send(envoy, &upgrade)?;
    let head = read_head(&mut stream)?;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    stream.write_all(b"hello").ok()?;
    stream.read_exact(&mut [0; 5]).ok()?;
    Some(stream)
}

/// A client of one kind: what it is called, and what it does again and again. `None` where Envoy did not let it.
type Kind = (&'static str, fn(SocketAddr) -> Option<()>);

const KINDS: &[Kind] = &[
    ("ordinary", |envoy| {
        let answer = Client::new(envoy).get("/").ok()?;
        assert_eq!(answer.status, 200);
        Some(())
    }),
    ("upload", |envoy| {
        let answer = Client::new(envoy).send(&Request::new("POST", "/").body([b'x'; 10_000])).ok()?;
        assert_eq!(answer.status, 200);
        Some(())
    }),
    ("WebSocket, closed by the server", |envoy| {
        read_all(open_socket(envoy, "/socket/ours")?);
        Some(())
    }),
    ("WebSocket, closed by the client", |envoy| open_socket(envoy, "/socket").map(drop)),
    ("WebSocket, beyond the time", |envoy| {
        let mut stream = open_socket(envoy, "/socket")?;
        std::thread::sleep(BEYOND);
        stream.write_all(b"hello").ok()?;
        stream.read_exact(&mut [0; 5]).ok()
    }),
    ("WebSocket, reset by the client", |envoy| {
        SockRef::from(&open_socket(envoy, "/socket")?).set_linger(Some(Duration::ZERO)).ok()
    }),
    ("events", |envoy| {
        read_all(send(envoy, &Request::get("/events"))?);
        Some(())
    }),
    ("reader of 4 MB/s", |envoy| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).ok()?;
        socket.set_recv_buffer_size(16 * 1024).ok()?;
        socket.connect(&envoy.into()).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut stream: TcpStream = socket.into();
        stream.write_all(&Request::get("/long").bytes()).ok()?;
        let until = Instant::now() + BEYOND;
        while Instant::now() < until && stream.read(&mut [0; 40_000]).is_ok_and(|read| read > 0) {
            std::thread::sleep(Duration::from_millis(10));
        }
        read_all(stream);
        Some(())
    }),
    ("until the connection ends", |envoy| {
        let answer = Client::new(envoy).get("/closed").ok()?;
        assert_eq!(answer.text(), "until the connection ends");
        Some(())
    }),
    ("gone before the answer", |envoy| send(envoy, &Request::get("/long")).map(drop)),
    ("gone in the answer", |envoy| {
        let mut stream = send(envoy, &Request::get("/long"))?;
        stream.read_exact(&mut [0; 1_000]).ok()
    }),
    ("reset in the answer", |envoy| {
        let mut stream = send(envoy, &Request::get("/events"))?;
        stream.read_exact(&mut [0; 100]).ok()?;
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).ok()
    }),
    ("gone in an upload", |envoy| {
        let whole = Request::new("POST", "/").body([b'x'; 10_000]).bytes();
        connect(envoy).ok()?.write_all(&whole[..5_000]).ok()
    }),
    ("of another cluster, which is dead", |envoy| {
        let answer = Client::new(envoy).get("/legacy/").ok()?;
        assert_eq!(answer.status, 503);
        Some(())
    }),
];

fn check(envoy: &Envoy, visits: &[AtomicUsize]) {
    let request = Request::get("/durpina/metrics").header("authorization", format!("Bearer {TOKEN}"));
    let page = envoy.client().send(&request).expect("the metrics").text();
    let failures =
        page.lines().filter(|line| line.starts_with("durpina_peer_failures_total{") && !line.ends_with(" 0"));
    let failures: Vec<&str> = failures.collect();
    let visits: Vec<String> = KINDS.iter().zip(visits).map(|((name, _), count)| format!("{name}: {count:?}")).collect();
    assert!(failures.is_empty(), "{failures:#?}\n{visits:#?}");
    assert_eq!(envoy.state_changes(), [], "{visits:#?}");
}

#[test]
fn healthy_servers_are_blamed_for_nothing() {
    let seconds =
        std::env::var("DURPINA_SOAK").ok().map_or(SECONDS, |text| text.parse().expect("DURPINA_SOAK: seconds"));
    let servers = [(); 3].map(|()| TcpServer::start(serve));
    let dead = Port::free();
    let peers = servers.each_ref().map(|server| format!("{} max_fails=1 fail_timeout=60s", server.addr()));
    let filter = json!({
        "upstreams": { "web": { "servers": peers } }, "upstream": "web",
        "envoy": { "access_log": true },
        "admin": { "prefix": "/durpina", "token": TOKEN },
    });
    let retries = json!({ "retry_on": "connect-failure,reset", "num_retries": 2 });
    let legacy = json!({ "match": { "prefix": "/legacy/" }, "route": { "cluster": "dead", "retry_policy": retries } });
    let config = Config::reference(&filter).upgrades().cluster_of("dead", &[dead.addr()]).route_timeout(ROUTE);
    let envoy = Setup::new(config.route(&legacy)).workers(2).start();
    let visits: Vec<AtomicUsize> = KINDS.iter().map(|_| AtomicUsize::new(0)).collect();
    let end = Instant::now() + Duration::from_secs(seconds);
    std::thread::scope(|scope| {
        for ((_, visit), count) in KINDS.iter().zip(&visits) {
            let addr = envoy.addr();
            scope.spawn(move || {
                while Instant::now() < end {
                    count.fetch_add(usize::from(visit(addr).is_some()), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
        }
        while Instant::now() < end {
            std::thread::sleep(Duration::from_secs(1));
            check(&envoy, &visits);
        }
    });
    check(&envoy, &visits);
    for ((name, _), count) in KINDS.iter().zip(&visits) {
        println!("{name}: {}", count.load(Ordering::Relaxed));
        assert!(count.load(Ordering::Relaxed) as u64 > seconds / 10, "too few of these: {name}");
    }
    let timeouts = envoy.stat(r"^cluster\.durpina(_\d)?\.upstream_rq_timeout$");
    println!("requests beyond the route's time: {timeouts}");
    assert!(timeouts > 0, "slow clients and long streams go beyond the route's time");
}
