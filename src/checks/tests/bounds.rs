//! How much checks do, say and wait for, however badly it goes.

use super::*;
use crate::model::state::PeerState;
use crate::testing::test;

fn one_server(monitor: &str) -> String {
    format!(r#"{{"upstreams": {{"u": {{"servers": ["{A} max_fails=0"], "monitors": [{monitor}]}}}}, "upstream": "u"}}"#)
}

/// Lets time pass in which the worker ticks when it wants to. Returns how often it did.
fn pass_as_asked(sim: &Sim, worker: &mut Worker, time: Duration) -> usize {
    let (mut ticks, mut passed, mut asked) = (0, Duration::ZERO, Duration::ZERO);
    while passed < time {
        let wait = worker.host.wait();
        if worker.deliver() > 0 && worker.host.wait() != wait {
            asked = passed;
        }
        if passed >= asked + worker.host.wait() {
            worker.tick();
            asked = passed;
            ticks += 1;
        }
        sim.advance(millis(1));
        passed += millis(1);
    }
    ticks
}

#[test]
fn good_checks_are_made_together_and_write_next_to_nothing() {
    let sim = Sim::new();
    let servers: Vec<String> = (0..1_000).map(|n| format!("\"10.0.{}.{}:80\"", n / 200, n % 200 + 1)).collect();
    let monitor = r#"{"name": "http", "interval": "5s", "schedule": "all"}"#;
    let upstream = format!(r#"{{"servers": [{}], "monitors": [{monitor}]}}"#, servers.join(", "));
    let mut worker = Worker::start(&sim, &format!(r#"{{"upstreams": {{"u": {upstream}}}, "upstream": "u"}}"#)).unwrap();
    pass_as_asked(&sim, &mut worker, secs(6));
    let calls = |sim: &Sim| servers.iter().map(|server| sim.calls(server.trim_matches('"')).len()).sum::<usize>();
    let (made, written) = (calls(&sim), sim.writes());
    let ticks = pass_as_asked(&sim, &mut worker, secs(10));
    let (made, written) = (calls(&sim) - made, sim.writes() - written);
    assert!((1_900..=2_100).contains(&made), "{made} checks");
    // Each tick renews the lease, and once in a second it is written what was found.
    assert!(ticks <= 210 && written <= ticks + 10, "{ticks} ticks, {written} writes");
}

#[test]
fn a_check_after_a_failed_one_waits_for_no_others() {
    let sim = Sim::new();
    let monitor = r#"{"name": "http", "interval": "2s", "fall": 20, "schedule": "all"}"#;
    let others: Vec<String> = (2..100).map(|n| format!("\"10.0.0.{n}:80\"")).collect();
    let config = one_server(monitor).replace("max_fails=0\"", &format!("max_fails=0\", {}", others.join(", ")));
    let mut worker = Worker::start(&sim, &config).unwrap();
    pass_as_asked(&sim, &mut worker, secs(3));
    sim.server(A, Behaviour::Answers(500));
    pass_as_asked(&sim, &mut worker, secs(5));
    let failed = &sim.calls(A)[2..];
    let gaps: Vec<u64> = failed.windows(2).map(|pair| pair[1] - pair[0]).take(15).collect();
    assert!(gaps.len() == 15 && gaps.iter().all(|gap| *gap <= 110), "{gaps:?}");
}

#[test]
fn a_failing_peer_has_one_chain_of_rechecks_however_high_fall_is() {
    for schedule in ["all", "rotate"] {
        let sim = Sim::new();
        let monitor = format!(r#"{{"name": "http", "interval": "5s", "fall": 1000, "schedule": "{schedule}"}}"#);
        let mut all = workers(&sim, 2, &two_servers(&monitor));
        sim.server(A, Behaviour::Answers(500));
        pass(&sim, &mut all, secs(60));
        let before = sim.calls(A).len();
        pass(&sim, &mut all, secs(5));
        let checks = sim.calls(A).len() - before;
        assert!((40..=51).contains(&checks), "{checks} checks in an interval, one each 100 ms and in its slot");
        assert_eq!(sim.calls(B).len(), if schedule == "all" { 13 } else { 6 }, "and nobody else is checked more often");
    }
}

#[test]
fn fall_failures_take_less_than_two_intervals_to_see() {
    for fall in [1, 2, 3, 10, 20] {
        let sim = Sim::new();
        let monitor = format!(r#"{{"name": "http", "interval": "5s", "fall": {fall}, "schedule": "all"}}"#);
        let config = two_servers(&monitor).replace(A, &format!("{A} max_fails=0"));
        let mut all = workers(&sim, 1, &config);
        pass(&sim, &mut all, secs(7));
        sim.server(A, Behaviour::Answers(500));
        pass(&sim, &mut all, secs(10));
        assert_eq!(upstream(&all[0].host).get_peer(A).unwrap().state(), PeerState::Down, "fall {fall}");
    }
}

#[test]
fn an_agent_whose_unknown_words_differ_each_time_is_reported_once_a_minute_and_shown_in_the_info() {
    let sim = Sim::new();
    let monitors = ["one", "two"].map(|id| {
        format!(r#"{{"name": "haproxy-agent-check", "id": "{id}", "port": 9000, "interval": "1s", "schedule": "all"}}"#)
    });
    let mut all = workers(&sim, 1, &with_api(&two_servers(&monitors.join(","))));
    for second in 0..180 {
        sim.says("10.0.0.1:9000", &format!("up word-{second}\n"));
        sim.says("10.0.0.2:9000", "up sideways\n");
        pass(&sim, &mut all, secs(1));
    }
    pass(&sim, &mut all, secs(1));
    for monitor in ["one", "two"] {
        for (peer, most) in [(A, 4), (B, 1)] {
            let lines = sim.logged(&format!("peer={peer} monitor={monitor:?}: the agent said unknown words")).len();
            assert!((1..=most).contains(&lines), "{lines} lines about {peer} by {monitor}");
        }
    }
    let info: serde_json::Value = serde_json::from_str(&api(&mut all[0], "/upstreams/u")).unwrap();
    assert_eq!(info["peers"][0]["unknown_words"], serde_json::json!(["word-179"]), "{info}");
}

#[test]
fn each_cause_of_trouble_is_said_and_none_again_and_again() {
    let sim = Sim::new();
    let mut all = workers(&sim, 1, &two_servers(HTTP));
    pass(&sim, &mut all, secs(3));
    sim.refuse_calls(true);
    pass(&sim, &mut all, secs(5));
    sim.fill_up(true);
    pass(&sim, &mut all, secs(20));
    for cause in ["cannot be checked by monitor", "the lease of the checks cannot be had"] {
        let lines = sim.logged(cause).len();
        assert_eq!(lines, 1, "in 25 s: {cause}");
    }
    sim.fill_up(false);
    pass(&sim, &mut all, secs(120));
    let lines = sim.logged("cannot be checked by monitor").len();
    assert!((2..=3).contains(&lines), "once a minute: {lines}");
}

#[test]
fn one_check_of_a_peer_by_a_monitor_is_under_way_at_a_time() {
    for schedule in ["all", "rotate"] {
        let sim = Sim::new();
        let monitor = format!(r#"{{"name": "http", "interval": "100ms", "timeout": "3s", "schedule": "{schedule}"}}"#);
        let mut all = workers(&sim, 1, &one_server(&monitor));
        // The server accepts and says nothing.
        let hang = |time: u64, all: &mut [Worker]| {
            for _ in 0..time / 10 {
                sim.advance(millis(10));
                all[0].tick();
            }
        };
        hang(2_500, &mut all);
        assert_eq!(sim.calls(A).len(), 1, "{schedule}");
        assert!(sim.logged("peer state").is_empty(), "a slot without a check is no verdict");
        all[0].deliver();
        hang(1_000, &mut all);
        assert_eq!(sim.calls(A).len(), 2, "and it goes on when that is over");
    }
}

#[test]
fn two_monitors_check_a_peer_at_the_same_time() {
    let sim = Sim::new();
    let monitors = ["one", "two"].map(|id| format!(r#"{{"name": "http", "id": "{id}", "interval": "1s"}}"#));
    let mut all = workers(&sim, 1, &one_server(&monitors.join(",")));
    for _ in 0..150 {
        sim.advance(millis(10));
        all[0].tick();
    }
    assert_eq!(sim.calls(A).len(), 2, "what one waits for does not hold up the other");
}

#[test]
fn an_answer_that_breaks_off_or_is_longer_than_the_proxy_takes_reads_as_that() {
    let sim = Sim::new();
    let mut all = workers(&sim, 1, &two_servers(&HTTP.replace("\"1s\"", "\"1s\", \"timeout\": \"500ms\"")));
    // No headers, long before the timeout: so the proxy tells of an answer that it gave up.
    sim.server(A, Behaviour::Fails(Failure::Timeout));
    pass(&sim, &mut all, secs(3));
    let why = "connection reset: the answer broke off, or is longer than the proxy takes";
    assert!(
        !sim.logged(&format!("to=down by=\"monitor http\" why={why:?}")).is_empty(),
        "{:?}",
        sim.logged("peer state")
    );
}

#[test]
fn checks_that_cannot_be_made_are_nobody_s_failure_and_are_reported_as_what_they_are() {
    for monitor in ["http", "tcp", "haproxy-agent-check"] {
        let sim = Sim::new();
        let monitor = HTTP.replace("\"http\"", &format!("{monitor:?}"));
        let mut all = workers(&sim, 1, &two_servers(&monitor));
        sim.says(A, "up");
        sim.says(B, "up");
        pass(&sim, &mut all, secs(3));
        sim.refuse_calls(true);
        pass(&sim, &mut all, secs(30));
        assert!(!sim.logged("cannot be checked by monitor").is_empty());
        assert!(sim.logged("peer state").is_empty(), "{:?}", sim.logged("peer state"));
        for peer in upstream(&all[0].host).get_peers(crate::model::selector::Selector::All) {
            assert_eq!((peer.state(), peer.is_failing()), (PeerState::Up, false));
        }
        assert_eq!(served(&mut all[0]), [A, B]);
    }
}
