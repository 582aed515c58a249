//! Names with several addresses, some of which cannot be connected to.

use super::*;
use crate::model::state::PeerState;
use crate::testing::test;

const V6: &str = "[fd00::1]:80";

fn config(monitor: &str, resolver: &str) -> String {
    format!(
        r#"{{"upstreams": {{"u": {{"servers": ["web.example:80", "{B} backup"], "monitors": [{monitor}]}}}}, "upstream": "u",
            "resolver": "10.9.9.9"{resolver}}}"#
    )
}

fn state(host: &SimHost) -> PeerState {
    upstream(host).get_peer("web.example:80").unwrap().state()
}

#[test]
fn an_address_that_cannot_be_connected_to_is_passed_over_for_longer_and_longer() {
    for monitor in [HTTP, &HTTP.replace("http", "tcp"), &HTTP.replace("all", "rotate")] {
        let sim = Sim::new();
        sim.name("web.example", &["10.0.0.1", "fd00::1"], 5);
        sim.server(V6, Behaviour::Fails(Failure::Connect));
        let mut all = workers(&sim, 2, &config(monitor, ""));
        pass(&sim, &mut all, secs(120));
        assert!(sim.logged("peer=web.example:80 from=up").is_empty(), "{:?}", sim.logged("peer state"));
        assert_eq!(state(&all[0].host), PeerState::Up);
        let (v4, v6) = (sim.calls(A).len(), sim.calls(V6));
        assert!((2..=8).contains(&v6.len()), "{} tries in 120 s", v6.len());
        let pauses: Vec<u64> = v6.windows(2).map(|pair| pair[1] - pair[0]).collect();
        // To within a slot.
        assert!(pauses.windows(2).all(|pair| pair[1] + 200 >= pair[0]), "{pauses:?}");
        let least = if monitor.contains("rotate") { 55 } else { 115 };
        assert!(v4 >= least, "{v4} checks went to the address that answers");
    }
}

#[test]
fn a_peer_is_down_when_none_of_its_addresses_can_be_connected_to_and_back_with_the_first_that_can() {
    let sim = Sim::new();
    sim.name("web.example", &["10.0.0.1", "fd00::1"], 5);
    let mut all = workers(&sim, 1, &config(HTTP, ""));
    pass(&sim, &mut all, secs(3));
    for server in [A, V6] {
        sim.server(server, Behaviour::Fails(Failure::Connect));
    }
    pass(&sim, &mut all, secs(3));
    assert_eq!(state(&all[0].host), PeerState::Down, "never left without an address to check");
    sim.server(V6, Behaviour::Answers(200));
    pass(&sim, &mut all, secs(30));
    assert_eq!(state(&all[0].host), PeerState::Up);
}

#[test]
fn an_address_that_answers_badly_is_not_passed_over() {
    let sim = Sim::new();
    sim.name("web.example", &["10.0.0.1", "fd00::1"], 5);
    sim.server(V6, Behaviour::Answers(500));
    let mut all = workers(&sim, 1, &config(HTTP, ""));
    pass(&sim, &mut all, secs(20));
    assert!(sim.calls(V6).len() >= 9, "{}", sim.calls(V6).len());
}

#[test]
fn without_ipv6_nobody_asks_for_it_and_what_was_known_of_it_is_forgotten() {
    let sim = Sim::new();
    sim.name("web.example", &["10.0.0.1", "fd00::1"], 3_600);
    let mut all = workers(&sim, 1, &config(HTTP, ""));
    pass(&sim, &mut all, secs(1));
    let addresses = |host: &SimHost| upstream(host).get_peer("web.example:80").unwrap().addresses();
    assert_eq!(addresses(&all[0].host).len(), 2);
    assert_eq!(sim.calls("10.9.9.9:53").len(), 2);

    let mut all = workers(&sim, 1, &config(HTTP, ", \"resolver_ipv6\": false"));
    pass(&sim, &mut all, secs(1));
    assert_eq!(addresses(&all[0].host), ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(served(&mut all[0]), [A]);
    upstream(&all[0].host).get_peer("web.example:80").unwrap().resolve(true).unwrap();
    pass(&sim, &mut all, secs(1));
    assert_eq!(sim.calls("10.9.9.9:53").len(), 3, "one question more, for IPv4");
    assert_eq!(addresses(&all[0].host).len(), 1);
}

#[test]
fn without_ipv6_a_name_that_has_nothing_else_says_so() {
    let sim = Sim::new();
    sim.name("web.example", &["fd00::1"], 3_600);
    let mut all = workers(&sim, 1, &with_api(&config(HTTP, ", \"resolver_ipv6\": false")));
    pass(&sim, &mut all, secs(1));
    let info = api(&mut all[0], "/upstreams/u");
    assert!(info.contains("the name has no IPv4 address, and resolver_ipv6 is false"), "{info}");
}
