//! What counts against a peer and takes it out of use, and what does not: the main cases. [`blame`](crate::blame) has them all.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use crate::support::client::{connect, Request};
use crate::support::config::{Config, MINIMAL};
use crate::support::envoy::{Envoy, Setup};
use crate::support::eventually;
use crate::support::ports::Port;
use crate::support::server::{Behaviour, Server};
use crate::support::tcp::TcpServer;
use crate::{one_upstream, served_in_turn, server, start, PATIENCE};

/// The peers that the log says are temporarily down, in the order in which they went.
fn taken_out(envoy: &Envoy) -> Vec<String> {
    let changes = envoy.state_changes();
    changes.into_iter().filter(|change| change.to == "temporary_down").map(|change| change.peer).collect()
}

/// `a` fails like this once; from then on all requests are for `b`, and `b` is blamed for nothing: where Envoy's access
/// log tells of failures, and where durpina asks after every request.
#[track_caller]
fn counts(behaviour: Behaviour) {
    for access_log in [true, false] {
        let [a, b] = ["a", "b"].map(Server::start);
        let mut filter =
            one_upstream(&[server(&a, "max_fails=1 fail_timeout=60s"), server(&b, "max_fails=1 fail_timeout=60s")]);
        filter["envoy"] = json!({ "access_log": access_log });
        let envoy = Setup::new(Config::reference(&filter).route_timeout(0.3)).start();
        a.behave(behaviour);
        // Two requests, so that one is for `a`. Its client may get an error or half an answer.
        for _ in 0..2 {
            let _ = envoy.client().get("/");
        }
        eventually("a is temporarily down", PATIENCE, || !taken_out(&envoy).is_empty());
        assert_eq!(served_in_turn(&envoy, 20), ["b"; 20], "access log: {access_log}");
        assert_eq!(taken_out(&envoy), [a.addr().to_string()], "access log: {access_log}");
    }
}

#[test]
fn a_refused_connection_counts() {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let filter = one_upstream(&[server(&a, "fail_timeout=60s"), server(&b, "fail_timeout=60s")]);
    let envoy = start(&filter);
    a.stop();
    assert_eq!(served_in_turn(&envoy, 20), ["b"; 20], "the first request, too, is answered: by a retry");
    assert_eq!(taken_out(&envoy), [a.addr().to_string()]);
    assert_eq!(envoy.failed_connects(), 1);
}

#[test]
fn a_reset_counts() {
    counts(Behaviour::Reset);
}

#[test]
fn a_connection_closed_without_an_answer_counts() {
    counts(Behaviour::CloseEarly);
}

#[test]
fn no_headers_in_time_count() {
    counts(Behaviour::Hang);
}

#[test]
fn bytes_that_are_not_http_count() {
    counts(Behaviour::Garbage);
}

#[test]
fn a_body_that_is_cut_off_counts() {
    counts(Behaviour::CutOff);
}

/// Whether the server, the network or the client is slow cannot be told, once the answer began.
#[test]
fn a_body_that_stalls_counts_for_nothing() {
    for access_log in [true, false] {
        let a = Server::start("a");
        let mut filter = one_upstream(&[server(&a, "max_fails=1 fail_timeout=60s")]);
        filter["envoy"] = json!({ "access_log": access_log });
        let envoy = Setup::new(Config::reference(&filter).route_timeout(0.3)).start();
        a.behave(Behaviour::Stall);
        assert!(envoy.client().get("/").is_err(), "half an answer");
        a.behave(Behaviour::Answer);
        assert_eq!(served_in_turn(&envoy, 10), ["a"; 10], "access log: {access_log}");
        assert!(!envoy.log().contains(&format!("peer={} failed", a.addr())), "access log: {access_log}");
        assert_eq!(envoy.state_changes(), [], "access log: {access_log}");
    }
}

#[test]
fn every_attempt_of_a_request_counts() {
    let [a, b, c] = ["a", "b", "c"].map(Server::start);
    let mut filter = one_upstream(&[&a, &b, &c].map(|peer| server(peer, "fail_timeout=60s")));
    filter["upstreams"]["web"]["max_ejected_percent"] = json!(100);
    let envoy = start(&filter);
    a.behave(Behaviour::Reset);
    b.behave(Behaviour::CloseEarly);
    assert_eq!(served_in_turn(&envoy, 1), ["c"], "the third attempt succeeds");
    eventually("both peers that failed are out", PATIENCE, || {
        taken_out(&envoy) == [a.addr().to_string(), b.addr().to_string()]
    });
    assert_eq!((a.requests(), b.requests(), c.requests()), (1, 1, 1));
}

#[test]
fn the_last_attempt_counts_too() {
    let [a, b, c] = ["a", "b", "c"].map(Server::start);
    let envoy = start(&one_upstream(&[&a, &b, &c].map(|peer| server(peer, "fail_timeout=60s"))));
    for peer in [&a, &b, &c] {
        peer.behave(Behaviour::Reset);
    }
    assert_eq!(envoy.client().get("/").expect("an answer").status, 503);
    let all = [&a, &b, &c].map(|peer| peer.addr().to_string());
    eventually("the failures are counted", PATIENCE, || taken_out(&envoy) == all);
    // Half of three is one. The others stay in use.
    let log = envoy.log();
    let kept = log.lines().filter(|line| line.contains("; kept in use: max_ejected_percent (50 %)"));
    assert_eq!(kept.count(), 2, "{log}");
}

/// Streams of events that do not end while the test lasts: the failure before their beginning counts nevertheless.
#[test]
fn a_failed_attempt_before_a_stream_counts_while_the_stream_goes_on() {
    for access_log in [true, false] {
        let dead = Port::free();
        let events = TcpServer::start(|mut stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n");
            while stream.write_all(b"data: 1\n\n").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let servers = [format!("{} fail_timeout=60s", dead.addr()), events.addr().to_string()];
        let mut filter = one_upstream(&servers);
        filter["envoy"] = json!({ "access_log": access_log });
        let envoy = start(&filter);
        let streams: Vec<TcpStream> = (0..2)
            .map(|_| {
                let mut stream = TcpStream::connect(envoy.addr()).expect("a connection");
                stream.write_all(&Request::get("/").bytes()).expect("Envoy reads");
                stream
            })
            .collect();
        // Envoy ends them after its route's time, which is longer.
        eventually("the dead one is out", Duration::from_secs(5), || taken_out(&envoy) == [dead.addr().to_string()]);
        assert_eq!(envoy.failed_connects(), 1);
        drop(streams);
    }
}

/// Envoy holds an upload until it cannot be tried again any more, as far as there is room for it: the reference configuration makes some.
#[test]
fn an_upload_of_four_megabytes_survives_a_dead_first_peer() {
    let dead = Port::free();
    let b = Server::start("b");
    let filter = one_upstream(&[format!("{} max_fails=0", dead.addr()), format!("{} backup", b.addr())]);
    let envoy = start(&filter);
    for megabytes in [1, 2, 4] {
        for method in ["POST", "PUT"] {
            let upload = Request::new(method, "/").body(vec![b'x'; megabytes * 1_000_000]);
            let answer = envoy.client().send(&upload).expect("an answer");
            assert_eq!((answer.status, answer.served_by()), (200, "b"), "{method} of {megabytes} MB");
        }
    }
}

#[test]
fn without_retries_the_only_attempt_counts() {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let mut filter = one_upstream(&[server(&a, "fail_timeout=60s"), server(&b, "")]);
    filter["upstreams"]["web"]["retries"] = json!(0);
    let envoy = start(&filter);
    a.stop();
    assert_eq!(envoy.client().get("/").expect("an answer").status, 503, "there was nobody else to try");
    assert_eq!(served_in_turn(&envoy, 10), ["b"; 10]);
}

#[test]
fn a_client_gets_the_real_error_when_there_is_nobody_else_to_try() {
    // Not Envoy's "no healthy upstream" for the retry that has no candidate.
    let a = Server::start("a");
    let envoy = start(&one_upstream(&[server(&a, "")]));
    a.behave(Behaviour::Garbage);
    assert_eq!(envoy.client().get("/").expect("an answer").status, 502);
    a.behave(Behaviour::Answer);
    let answer = envoy.client().send(&Request::get("/").header("x-envoy-max-retries", "2")).expect("an answer");
    assert_eq!(answer.status, 200);
    let seen = a.heads();
    assert!(seen.iter().all(|head| head.header("x-envoy-max-retries").is_none()), "the server does not see it");
}

#[test]
fn the_minimal_configuration_sees_failures_too() {
    // Envoy repeats nothing there, so that it is the last attempt's own failure that is judged.
    for (behaviour, status) in [(Behaviour::Reset, 503), (Behaviour::CloseEarly, 503), (Behaviour::Garbage, 502)] {
        let [a, b] = ["a", "b"].map(Server::start);
        let filter = one_upstream(&[server(&a, "fail_timeout=60s"), server(&b, "")]);
        let envoy = Setup::new(Config::of(MINIMAL).filter(&filter)).start();
        assert_eq!(served_in_turn(&envoy, 4), ["a", "b", "a", "b"]);
        a.behave(behaviour);
        assert_eq!(envoy.client().get("/").expect("an answer").status, status, "{behaviour:?}");
        assert_eq!(served_in_turn(&envoy, 10), ["b"; 10], "{behaviour:?}");
    }
}

#[test]
fn a_peer_goes_down_at_max_fails_and_not_before() {
    let [a, b] = ["a", "b"].map(Server::start);
    let envoy = start(&one_upstream(&[server(&a, "max_fails=3 fail_timeout=60s"), server(&b, "")]));
    a.behave(Behaviour::Reset);
    assert_eq!(served_in_turn(&envoy, 20), ["b"; 20]);
    assert_eq!(a.requests(), 3);
    assert_eq!(taken_out(&envoy), [a.addr().to_string()]);
}

#[test]
fn with_max_fails_zero_a_peer_never_goes_down() {
    let [a, b] = ["a", "b"].map(Server::start);
    let envoy = start(&one_upstream(&[server(&a, "max_fails=0"), server(&b, "")]));
    a.behave(Behaviour::Reset);
    assert_eq!(served_in_turn(&envoy, 20), ["b"; 20]);
    assert_eq!(a.requests(), 10);
    assert_eq!(taken_out(&envoy), [""; 0]);
}

#[test]
fn real_answers_count_for_nothing() {
    let [a, b] = ["a", "b"].map(Server::start);
    let envoy = start(&one_upstream(&[server(&a, "max_fails=1"), server(&b, "max_fails=1")]));
    for status in [404, 500, 502, 503, 504] {
        a.behave(Behaviour::Status(status));
        assert_eq!(served_in_turn(&envoy, 10).join(" "), ["a b"; 5].join(" "), "a answers {status}");
    }
    assert_eq!(envoy.state_changes(), []);
}

#[test]
fn real_answers_count_where_fail_codes_name_them() {
    let [a, b] = ["a", "b"].map(Server::start);
    let mut filter = one_upstream(&[server(&a, "fail_timeout=60s"), server(&b, "fail_timeout=60s")]);
    filter["upstreams"]["web"]["fail_codes"] = json!("500 503");
    let envoy = start(&filter);
    a.behave(Behaviour::Status(502));
    assert_eq!(served_in_turn(&envoy, 4), ["a", "b", "a", "b"]);
    a.behave(Behaviour::Status(503));
    assert_eq!(served_in_turn(&envoy, 10).join(" "), "a b b b b b b b b b", "the answer itself reaches the client");
    assert_eq!(taken_out(&envoy), [a.addr().to_string()]);
}

#[test]
fn a_client_that_goes_away_counts_for_nothing() {
    let a = Server::start("a");
    let [whole, half] = [Request::get("/"), Request::new("POST", "/").body([b'x'; 100])].map(|request| request.bytes());
    let envoy = start(&one_upstream(&[server(&a, "max_fails=1 fail_timeout=60s")]));
    for behaviour in [Behaviour::Hang, Behaviour::Stall] {
        a.behave(behaviour);
        for bytes in [&whole[..], &half[..half.len() - 50]] {
            let before = a.connections();
            let mut client = connect(envoy.addr()).expect("a connection");
            client.write_all(bytes).expect("bytes can be sent");
            eventually("the request is on its way to the server", PATIENCE, || a.connections() > before);
            drop(client);
            let ended = || envoy.stat(r"^http\.http\.downstream_rq_active$") == 0;
            eventually("Envoy has noticed that the client went away", PATIENCE, ended);
        }
    }
    a.behave(Behaviour::Answer);
    assert_eq!(served_in_turn(&envoy, 10), ["a"; 10]);
    assert_eq!(envoy.state_changes(), []);
}

#[test]
fn with_every_peer_down_the_answer_is_a_503_at_once() {
    let [a, b] = ["a", "b"].map(Server::start);
    let filters = [
        one_upstream(&[server(&a, "down"), server(&b, "drain")]),
        one_upstream(&["0.0.0.0"]),
        one_upstream::<&str>(&[]),
    ];
    for filter in filters {
        let envoy = start(&filter);
        let answer = envoy.client().get("/").expect("an answer");
        assert_eq!(answer.status, 503, "{filter}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{filter}");
        let problem: serde_json::Value = serde_json::from_slice(&answer.body).expect("a JSON document");
        assert_eq!(problem["status"], 503, "{problem}");
        assert!(answer.latency < Duration::from_secs(1), "{:?}", answer.latency);
    }
    assert_eq!(a.connections() + b.connections(), 0);
}

#[test]
fn peers_that_are_only_temporarily_down_are_tried_rather_than_refusing() {
    let (mut a, mut b) = (Server::start("a"), Server::start("b"));
    let envoy = start(&one_upstream(&[server(&a, "fail_timeout=60s"), server(&b, "fail_timeout=60s")]));
    a.stop();
    b.stop();
    assert_eq!(envoy.client().get("/").expect("an answer").status, 503);
    let all = [&a, &b].map(|peer| peer.addr().to_string());
    eventually("a is out, and b stays in use", PATIENCE, || taken_out(&envoy) == all);
    a.resume();
    for _ in 0..10 {
        let answer = envoy.client().get("/").expect("an answer");
        assert_eq!((answer.status, answer.served_by()), (200, "a"));
    }
}
