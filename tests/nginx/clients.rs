//! Clients that upgrade their connection, dawdle, break off, and go away: no server is blamed, and nobody else notices.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::client::{connect, Request};
use crate::support::nginx::{Conf, Setup};
use crate::support::proxy::Proxy as _;
use crate::support::server::{Behaviour, Server};
use crate::support::tcp::TcpServer;
use crate::{one_upstream, server, start_workers, PATIENCE};

fn read_head(stream: &mut TcpStream) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// A server that upgrades and sends back what it gets.
fn echo() -> TcpServer {
    TcpServer::start(|mut stream| {
        let head = read_head(&mut stream).to_lowercase();
        if !head.contains("upgrade: websocket\r\n") || !head.contains("connection: upgrade\r\n") {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            return;
        }
        let _ =
            stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
        let mut bytes = [0; 1_024];
        while let Ok(length @ 1..) = stream.read(&mut bytes) {
            if stream.write_all(&bytes[..length]).is_err() {
                break;
            }
        }
    })
}

/// As `nginx-wasm/README.md` says.
#[test]
fn web_sockets_pass_and_their_end_is_no_failure() {
    let map = "    map $http_upgrade $durpina_connection { default upgrade; '' ''; }\n";
    let headers = "proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $durpina_connection;";
    for conf in Conf::all() {
        let mut dead = Server::start("dead");
        let (one, other) = (echo(), echo());
        let servers = [server(&dead, ""), one.addr().to_string(), other.addr().to_string()];
        dead.stop();
        let nginx = Setup::new(conf, &one_upstream(&servers))
            .edit("    server {\n        # 127.0.0.1 so", &format!("{map}    server {{\n        # 127.0.0.1 so"))
            .edit("proxy_set_header Connection \"\";", headers)
            .start();
        let expected = if conf == Conf::StickyRoute { 0 } else { 1 };
        for turn in 0..6_u8 {
            let mut stream = connect(nginx.addr()).expect("a connection");
            stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
            let upgrade = Request::get("/").header("upgrade", "websocket").header("connection", "Upgrade");
            stream.write_all(&upgrade.bytes()).expect("sent");
            let head = read_head(&mut stream);
            assert!(head.starts_with("HTTP/1.1 101"), "{conf}: {head}");
            for word in 0..3 {
                stream.write_all(&[turn, word]).expect("sent");
                let mut back = [9, 9];
                stream.read_exact(&mut back).expect("an echo");
                assert_eq!(back, [turn, word], "{conf}");
            }
        }
        let blamed: Vec<String> = nginx.state_changes().into_iter().map(|change| change.peer).collect();
        assert!(blamed.iter().all(|peer| *peer == dead.addr().to_string()), "{conf}: {blamed:?}");
        assert!(blamed.len() >= expected, "{conf}: {blamed:?}");
        assert!(one.connections() > 0 && other.connections() > 0, "{conf}");
    }
}

#[test]
fn clients_that_dawdle_or_go_away_blame_nobody() {
    for conf in Conf::all() {
        let [a, b] = ["a", "b"].map(Server::start);
        let filter = one_upstream(&[server(&a, "fail_timeout=60s"), server(&b, "fail_timeout=60s")]);
        let nginx = Setup::new(conf, &filter).workers(4).start();
        let workers = nginx.workers();
        let mut waiting = Vec::new();
        for turn in 0..40 {
            let mut stream = connect(nginx.addr()).expect("a connection");
            let begun: &[u8] = match turn % 5 {
                0 => b"GET / HT",
                1 => b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\nhalf",
                2 => b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
                3 => b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nnonsense\r\n",
                _ => b"\x16\x03\x01 not HTTP at all\r\n\r\n",
            };
            stream.write_all(begun).expect("sent");
            waiting.push(stream);
        }
        // Meanwhile everybody else is served, and a slow one in the end as well.
        let mut slow = connect(nginx.addr()).expect("a connection");
        slow.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        for byte in b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello" {
            slow.write_all(&[*byte]).expect("sent");
            assert_eq!(nginx.client().get("/").expect("an answer").status, 200, "{conf}");
        }
        let mut answer = String::new();
        slow.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{conf}: {answer}");
        drop(waiting);
        // Those that wait for an answer, and do not any more.
        [&a, &b].iter().for_each(|one| one.behave(Behaviour::Slow(Duration::from_millis(300))));
        for _ in 0..20 {
            let mut stream = connect(nginx.addr()).expect("a connection");
            stream.write_all(&Request::get("/").bytes()).expect("sent");
            std::thread::sleep(Duration::from_millis(20));
        }
        [&a, &b].iter().for_each(|one| one.behave(Behaviour::Answer));
        assert_eq!(nginx.client().get("/").expect("an answer").status, 200, "{conf}");
        assert_eq!((nginx.state_changes(), nginx.workers()), (Vec::new(), workers), "{conf}");
    }
}

/// The servers are killed and come back, and nginx reads its configuration again, all at once.
#[test]
fn reloads_while_servers_go_and_come() {
    let mut servers = ["a", "b", "c"].map(Server::start);
    let nginx = start_workers(&one_upstream(&servers.each_ref().map(|peer| server(peer, "fail_timeout=1s"))), 4);
    let load = crate::support::load::Load::new(nginx.addr(), 1_000_000).connections(6).connect_each_time();
    let load = load.pause(Duration::from_millis(1)).start();
    for round in 0..6 {
        servers[round % 3].stop();
        nginx.reload();
        std::thread::sleep(Duration::from_millis(200));
        servers[round % 3].resume();
    }
    load.stop();
    let report = load.finish();
    println!("{} requests, failed {:?}", report.outcomes.len(), report.failures());
    assert!(report.failures().is_empty(), "{:?}", report.failures());
}
