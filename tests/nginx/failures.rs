//! What counts against a peer and takes it out of use.

use std::io::{Read as _, Write as _};

use serde_json::json;

use crate::support::client::{connect, Request};
use crate::support::eventually;
use crate::support::nginx::{Conf, Setup};
use crate::support::proxy::Proxy as _;
use crate::support::server::{Behaviour, Server};
use crate::{one_upstream, served_in_turn, server, start, Started, PATIENCE};

fn taken_out(nginx: &Started) -> Vec<String> {
    let changes = nginx.state_changes();
    changes.into_iter().filter(|change| change.to == "temporary_down").map(|change| change.peer).collect()
}

/// `a` fails like this once; from then on all requests are for `b`, and `b` is blamed for nothing.
#[track_caller]
fn counts(behaviour: Behaviour) {
    for conf in [Conf::Keepalive, Conf::AnyAddress] {
        let [a, b] = ["a", "b"].map(Server::start);
        let filter = one_upstream(&[server(&a, "fail_timeout=60s"), server(&b, "fail_timeout=60s")]);
        let nginx = Setup::new(conf, &filter).edit("proxy_read_timeout 2s;", "proxy_read_timeout 300ms;").start();
        a.behave(behaviour);
        // Two requests, so that one is for `a`.
        for _ in 0..2 {
            let _ = nginx.client().get("/");
        }
        eventually("a is temporarily down", PATIENCE, || !taken_out(&nginx).is_empty());
        assert_eq!(served_in_turn(&nginx, 20), ["b"; 20], "{conf}");
        assert_eq!(taken_out(&nginx), [a.addr().to_string()], "{conf}");
    }
}

#[test]
fn a_refused_connection_counts() {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let nginx = start(&one_upstream(&[server(&a, "fail_timeout=60s"), server(&b, "fail_timeout=60s")]));
    a.stop();
    assert_eq!(served_in_turn(&nginx, 20), ["b"; 20], "the first request, too, is answered: by a retry");
    assert_eq!(taken_out(&nginx), [a.addr().to_string()]);
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

/// nginx takes them for an answer of HTTP/0.9, and hands them on.
#[test]
fn bytes_that_are_not_http_count_for_nothing() {
    let a = Server::start("a");
    let nginx = start(&one_upstream(&[server(&a, "fail_timeout=60s")]));
    a.behave(Behaviour::Garbage);
    let mut stream = connect(nginx.addr()).expect("a connection");
    stream.write_all(&Request::get("/").bytes()).expect("sent");
    let mut answer = [0; 64];
    let length = stream.read(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(answer.contains("this is not HTTP") && !answer.starts_with("HTTP/1.1 5"), "{answer:?}");
    a.behave(Behaviour::Answer);
    assert_eq!(served_in_turn(&nginx, 5), ["a"; 5]);
    assert_eq!(taken_out(&nginx), [""; 0]);
}

#[test]
fn every_attempt_of_a_request_counts() {
    let [a, b, c] = ["a", "b", "c"].map(Server::start);
    let mut filter = one_upstream(&[&a, &b, &c].map(|peer| server(peer, "fail_timeout=60s")));
    filter["upstreams"]["web"]["max_ejected_percent"] = json!(100);
    let nginx = start(&filter);
    a.behave(Behaviour::Reset);
    b.behave(Behaviour::CloseEarly);
    assert_eq!(served_in_turn(&nginx, 1), ["c"], "the third attempt succeeds");
    eventually("both peers that failed are out", PATIENCE, || {
        taken_out(&nginx) == [a.addr().to_string(), b.addr().to_string()]
    });
    assert_eq!((a.requests(), b.requests(), c.requests()), (1, 1, 1));
}

#[test]
fn the_last_attempt_counts_too() {
    let [a, b, c] = ["a", "b", "c"].map(Server::start);
    let mut filter = one_upstream(&[&a, &b, &c].map(|peer| server(peer, "fail_timeout=60s")));
    filter["upstreams"]["web"]["max_ejected_percent"] = json!(100);
    let nginx = start(&filter);
    let all = [&a, &b, &c];
    all.iter().for_each(|peer| peer.behave(Behaviour::Reset));
    assert_eq!(nginx.client().get("/").expect("an answer").status, 502, "nginx's own answer");
    let all = all.map(|peer| peer.addr().to_string());
    eventually("the failures are counted", PATIENCE, || taken_out(&nginx) == all);
}

#[test]
fn retries_stop_where_the_configuration_says() {
    let [a, b, c] = ["a", "b", "c"].map(Server::start);
    for (retries, asked) in [(0, 1), (1, 2), (2, 3)] {
        let mut filter = one_upstream(&[&a, &b, &c].map(|peer| server(peer, "max_fails=0")));
        filter["upstreams"]["web"]["retries"] = json!(retries);
        let nginx = start(&filter);
        let before = a.requests() + b.requests() + c.requests();
        [&a, &b, &c].iter().for_each(|peer| peer.behave(Behaviour::CloseEarly));
        assert_eq!(nginx.client().get("/").expect("an answer").status, 502);
        assert_eq!(a.requests() + b.requests() + c.requests() - before, asked, "retries: {retries}");
    }
}

#[test]
fn an_answer_that_the_configuration_calls_a_failure_counts() {
    let [a, b] = ["a", "b"].map(Server::start);
    let mut filter = one_upstream(&[server(&a, "fail_timeout=60s"), server(&b, "")]);
    filter["upstreams"]["web"]["fail_codes"] = json!("500 503");
    let nginx = start(&filter);
    a.behave(Behaviour::Status(503));
    let statuses: Vec<u16> = (0..2).map(|_| nginx.client().get("/").expect("an answer").status).collect();
    assert_eq!(statuses, [503, 200], "the client gets the server's answer");
    assert_eq!(served_in_turn(&nginx, 10), ["b"; 10]);
    assert_eq!(taken_out(&nginx), [a.addr().to_string()]);
}

#[test]
fn nobody_usable_is_a_problem_document() {
    let a = Server::start("a");
    for conf in Conf::all() {
        let nginx = Setup::new(conf, &one_upstream(&[server(&a, "down")])).start();
        let answer = nginx.client().get("/").expect("an answer");
        let kind = answer.header("content-type").unwrap_or_default().to_owned();
        assert_eq!((answer.status, kind.as_str()), (503, "application/problem+json"), "{conf}: {}", answer.text());
        assert_eq!(a.requests(), 0);
    }
}
