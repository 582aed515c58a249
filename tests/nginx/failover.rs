//! Servers die under load, in each of the configurations, and no client notices.

use std::time::Duration;

use crate::support::client::Request;
use crate::support::eventually;
use crate::support::load::Load;
use crate::support::nginx::{nginx_version, Conf, Setup};
use crate::support::proxy::Proxy as _;
use crate::support::server::{Behaviour, Server};
use crate::{one_upstream, served_in_turn, server, spawn_server, start, PATIENCE};

#[track_caller]
fn no_request_fails(conf: Conf) {
    let mut servers = ["a", "b", "c"].map(spawn_server);
    let filter = one_upstream(&servers.each_ref().map(|server| format!("{} fail_timeout=10s", server.addr())));
    let nginx = Setup::new(conf, &filter).workers(2).start();

    let load = Load::new(nginx.addr(), 20_000).connections(8).pause(Duration::from_millis(1)).start();
    eventually("the load is under way", PATIENCE, || load.done() > 3_000);
    servers[0].kill();
    let report = load.finish();

    println!("{conf}: {} requests in {:?}, {:?}", report.outcomes.len(), report.elapsed, report.served());
    assert!(report.failures().is_empty(), "{conf}: {:?}", report.failures());
    assert_eq!(report.outcomes.len(), 20_000);
    assert_eq!(nginx.state(&servers[0].addr().to_string()), "temporary_down", "{conf}");
}

#[test]
fn a_server_is_killed_under_load_any_address() {
    no_request_fails(Conf::AnyAddress);
}

#[test]
fn a_server_is_killed_under_load_keepalive() {
    no_request_fails(Conf::Keepalive);
}

#[test]
fn a_server_is_killed_under_load_streaming() {
    no_request_fails(Conf::Streaming);
}

#[test]
fn a_server_is_killed_under_load_sticky_route() {
    if nginx_version() >= (1, 29, 6) {
        no_request_fails(Conf::StickyRoute);
    } else {
        // This nginx has no such directive.
        assert!(!Conf::all().contains(&Conf::StickyRoute));
    }
}

#[test]
fn a_server_comes_back_by_itself_in_every_worker() {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let filter = one_upstream(&[server(&a, "fail_timeout=1s"), server(&b, "")]);
    let nginx = Setup::new(Conf::Keepalive, &filter).workers(4).start();
    let served = || Load::new(nginx.addr(), 60).connections(8).connect_each_time().run();
    assert_eq!(served().served().len(), 2);
    a.stop();
    let during = served();
    assert!(during.failures().is_empty(), "{:?}", during.failures());
    assert_eq!(served().served_by("a"), 0);
    a.resume();
    eventually("a serves again", PATIENCE, || served().served_by("a") >= 25);
}

#[test]
fn a_post_is_sent_again_only_if_nobody_got_it() {
    let [mut a, mut b] = ["a", "b"].map(Server::start);
    let nginx = start(&one_upstream(&[server(&a, "max_fails=0"), server(&b, "max_fails=0")]));
    let post = Request::new("POST", "/order").body("one book");
    a.behave(Behaviour::Reset);
    b.behave(Behaviour::Reset);
    for turn in 1..=4 {
        let answer = nginx.client().send(&post).expect("an answer");
        assert_eq!(answer.status, 502);
        assert_eq!(a.requests() + b.requests(), turn, "a POST that a server has read is not repeated");
    }
    let get = nginx.client().get("/").expect("an answer");
    assert_eq!((get.status, a.requests() + b.requests()), (502, 6), "a GET goes to both");
    a.behave(Behaviour::Answer);
    b.behave(Behaviour::Answer);
    a.stop();
    for _ in 0..4 {
        let answer = nginx.client().send(&post).expect("an answer");
        assert_eq!((answer.status, answer.served_by()), (200, "b"), "no connection was made");
    }
    a.resume();
    b.stop();
    assert_eq!(served_in_turn(&nginx, 4), ["a"; 4]);
}

#[test]
fn uploads_are_streamed_and_never_sent_in_part() {
    let (mut a, b) = (Server::start("a"), Server::start("b"));
    let filter = one_upstream(&[server(&a, "max_fails=0"), format!("{} backup", b.addr())]);
    let nginx = Setup::new(Conf::Streaming, &filter).start();
    let upload = Request::new("POST", "/").body(vec![b'x'; 3_000_000]);
    let answer = nginx.client().send(&upload).expect("an answer");
    assert_eq!((answer.status, answer.served_by()), (200, "a"));
    a.stop();
    assert_eq!(nginx.client().send(&upload).expect("an answer").status, 502, "nginx does not hold it any more");
    assert_eq!(b.requests(), 0, "and no other server gets its beginning");
    assert_eq!(nginx.client().get("/").expect("an answer").served_by(), "b");
}
