//! Checks and lookups that cannot be made, though the host takes the call.

use super::*;
use crate::model::state::PeerState;
use crate::testing::test;

const TCP: &str = r#"{"name": "tcp", "interval": "1s", "schedule": "all"}"#;
const WHY: &str = "the gateway is not there";
const PROBLEM: &str = "calls go through the cluster \\\"durpina_tcp\\\": the gateway is not there";

#[test]
fn a_gateway_that_is_not_there_changes_nothing_of_any_peer_until_it_is_there() {
    for name in ["tcp", "haproxy-agent-check"] {
        let sim = Sim::new();
        let monitors = format!("{}, {HTTP}", TCP.replace("tcp", name));
        let mut all = workers(&sim, 2, &with_api(&two_servers(&monitors)));
        sim.says(A, "up");
        sim.says(B, "up");
        sim.lose_cluster("durpina_tcp", Some(WHY));
        pass(&sim, &mut all, secs(20));
        assert!(sim.logged("peer state").is_empty(), "{:?}", sim.logged("peer state"));
        assert_eq!(served(&mut all[0]), [A, B]);
        let line =
            format!("cannot be checked by monitor \"{name}\": calls go through the cluster \"durpina_tcp\": {WHY}");
        assert_eq!(sim.logged(&line).len(), 1, "{:?}", sim.logged("cannot be"));
        for worker in &mut all {
            let document = api(worker, "/upstreams/u");
            assert_eq!(document.matches(&format!("\"problem\":\"{PROBLEM}\"")).count(), 1, "{document}");
            assert!(!document.contains("\"failed\""), "{document}");
            assert!(api(worker, "/upstreams/u/monitors").contains(PROBLEM));
        }
        sim.lose_cluster("durpina_tcp", None);
        pass(&sim, &mut all, secs(3));
        let document = api(&mut all[0], "/upstreams/u");
        assert!(!document.contains("problem") && document.contains(&format!("\"monitor\":\"{name}\"")), "{document}");
    }
}

#[test]
fn a_worker_that_takes_over_takes_back_what_another_said() {
    let sim = Sim::new();
    let mut all = workers(&sim, 2, &with_api(&two_servers(TCP)));
    sim.lose_cluster("durpina_tcp", Some(WHY));
    pass(&sim, &mut all, secs(3));
    assert!(api(&mut all[1], "/upstreams/u").contains(PROBLEM));
    sim.lose_cluster("durpina_tcp", None);
    // Whichever of them made the checks, one is gone.
    for _ in 0..2 {
        all.swap(0, 1);
        pass(&sim, &mut all[..1], secs(6));
    }
    assert!(!api(&mut all[0], "/upstreams/u").contains("problem"));
}

#[test]
fn what_is_known_is_not_written_again() {
    let sim = Sim::new();
    let mut all = workers(&sim, 1, &two_servers(TCP));
    pass(&sim, &mut all, secs(3));
    assert!(sim.keys().iter().all(|key| !key.contains("obstacles")), "{:?}", sim.keys());
    sim.lose_cluster("durpina_tcp", Some(WHY));
    pass(&sim, &mut all, secs(2));
    let mut writes = |lost: Option<&str>| {
        sim.lose_cluster("durpina_tcp", lost);
        pass(&sim, &mut all, secs(3));
        let before = sim.writes();
        pass(&sim, &mut all, secs(10));
        sim.writes() - before
    };
    // The lease is renewed all the time, and what checks found is written.
    let (lost, found) = (writes(Some(WHY)), writes(None));
    assert!(lost < found, "{lost} and {found}");
}

#[test]
fn a_monitor_asks_through_the_cluster_that_it_names() {
    let sim = Sim::new();
    let tls = HTTP.replace("\"http\"", "\"http\", \"cluster\": \"tls\"");
    let plain = HTTP.replace("\"http\"", "\"http\", \"id\": \"plain\"");
    let grpc = r#"{"name": "grpc", "interval": "1s", "schedule": "all"}"#;
    let mut all = workers(&sim, 1, &with_api(&two_servers(&format!("{tls}, {plain}, {grpc}"))));
    for cluster in ["tls", "durpina_probe_h2"] {
        sim.lose_cluster(cluster, Some("nothing is"));
    }
    pass(&sim, &mut all, secs(4));
    let document = api(&mut all[0], "/upstreams/u");
    assert_eq!(document.matches("calls go through the cluster \\\"tls\\\": nothing is").count(), 1, "{document}");
    assert_eq!(
        document.matches("calls go through the cluster \\\"durpina_probe_h2\\\": nothing is").count(),
        1,
        "{document}"
    );
    assert_eq!(document.matches("\"monitor\":\"plain\"").count(), 2, "{document}");
    assert_eq!(document.matches("\"cluster\":\"tls\"").count(), 1, "{document}");
    assert_eq!(sim.logged("cannot be checked by").len(), 2, "once for each cluster");
}

#[test]
fn a_health_service_is_judged_by_what_it_says() {
    let sim = Sim::new();
    let grpc = r#"{"name": "grpc", "interval": "1s", "schedule": "all"}"#;
    let mut all = workers(&sim, 1, &two_servers(grpc));
    sim.says(A, "\0\0\0\0\x02\x08\x01");
    sim.says(B, "\0\0\0\0\x02\x08\x01");
    pass(&sim, &mut all, secs(3));
    assert!(sim.logged("peer state").is_empty(), "{:?}", sim.logged("peer state"));
    sim.says(A, "\0\0\0\0\x02\x08\x02");
    pass(&sim, &mut all, secs(4));
    assert_eq!(sim.logged("why=\"the health service says NOT_SERVING (2)\"").len(), 1);
    assert_eq!(served(&mut all[0]), [B]);
}

#[test]
fn a_name_that_cannot_be_asked_for_keeps_its_addresses_and_says_why() {
    let sim = Sim::new();
    sim.name("web.example", &["10.0.0.1"], 5);
    let config = r#"{"upstreams": {"u": {"servers": ["web.example:80"]}}, "upstream": "u", "resolver": "10.9.9.9"}"#;
    let mut all = workers(&sim, 1, &with_api(config));
    pass(&sim, &mut all, secs(2));
    assert_eq!(served(&mut all[0]), [A]);
    sim.lose_cluster("durpina_tcp", Some(WHY));
    pass(&sim, &mut all, secs(20));
    assert_eq!(served(&mut all[0]), [A]);
    assert!(api(&mut all[0], "/upstreams/u").contains(&format!("\"problem\":\"{PROBLEM}\"")));
    let line = "cannot be resolved: calls go through the cluster \"durpina_tcp\": the gateway is not there; still \"10.0.0.1\"";
    assert_eq!(sim.logged(line).len(), 1, "{:?}", sim.logged("resolved"));
    sim.lose_cluster("durpina_tcp", None);
    pass(&sim, &mut all, secs(10));
    assert!(!api(&mut all[0], "/upstreams/u").contains("problem"));
    assert_eq!(upstream(&all[0].host).get_peer("web.example:80").unwrap().state(), PeerState::Up);
}
