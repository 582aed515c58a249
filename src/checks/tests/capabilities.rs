//! Checks on hosts that can do less.

use super::*;
use crate::host::Capabilities;
use crate::testing::test;

/// The simulated host stops the test at a call too many, and at one from a reply where it does not survive that.
#[test]
fn hosts_that_can_make_few_calls_and_none_from_a_reply_are_not_asked_for_more() {
    let names = "\"resolver\": [\"10.9.9.8\", \"10.9.9.9\"]";
    let config = two_servers(HTTP)
        .replace(B, "web.example:80")
        .replace("\"upstream\": \"u\"", &format!("\"upstream\": \"u\", {names}"));
    for most_calls in [1, 2, 500] {
        for calls_from_replies in [false, true] {
            let sim = Sim::with(Capabilities { most_calls, calls_from_replies, ..Capabilities::default() });
            sim.name("web.example", &["10.0.0.2"], 5);
            sim.server("10.9.9.8:53", Behaviour::Fails(Failure::Connect));
            let mut all = workers(&sim, 2, &config);
            pass(&sim, &mut all, secs(20));
            assert_eq!(served(&mut all[0]), [A, B], "by the second name server");
            let (a, b) = (sim.calls(A).len(), sim.calls(B).len());
            assert!((18..=20).contains(&a) && (18..=20).contains(&b), "{a} and {b} checks in 20 s");
        }
    }
}

#[test]
fn name_servers_that_hang_do_not_hold_up_checks_where_one_call_is_made_at_a_time() {
    let config = two_servers(HTTP)
        .replace(B, "web.example:80")
        .replace("\"upstream\": \"u\"", "\"upstream\": \"u\", \"resolver\": [\"10.9.9.8\", \"10.9.9.9\"]");
    let sim = Sim::with(Capabilities { most_calls: 1, calls_from_replies: false, ..Capabilities::default() });
    let mut all = workers(&sim, 1, &config);
    let questions = |sim: &Sim| sim.calls("10.9.9.8:53").len() + sim.calls("10.9.9.9:53").len();
    let mut asked = 0;
    for _ in 0..6_000 {
        sim.advance(millis(10));
        all[0].tick();
        if questions(&sim) > asked {
            // No reply comes, until the wait for it is over.
            asked = questions(&sim);
            sim.advance(secs(3));
            all[0].lose_calls();
        } else {
            all[0].deliver();
        }
    }
    assert!(asked > 10, "{asked} questions");
    let checks = sim.calls(A);
    let longest = checks.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert!(longest < 4_200, "{longest} ms without a check, of which a question takes 3 s");
}

#[test]
fn where_the_host_resolves_names_they_are_checked_by_their_names() {
    let host = Capabilities { resolves_names: true, most_calls: 1, ..Capabilities::default() };
    let sim = Sim::with(host);
    let text = r#"{"upstreams": {"u": {"servers": ["web:8080"], "monitors": [{"name": "http", "interval": "1s", "port": 81}]}}}"#;
    let mut worker = Worker::start(&sim, text).unwrap();
    let asked = |sim: &Sim| sim.calls("0.0.0.0:81").len();
    for _ in 0..40 {
        worker.tick();
        worker.deliver();
        sim.advance(Duration::from_millis(100));
    }
    assert!((3..=5).contains(&asked(&sim)), "{}", asked(&sim));
}
