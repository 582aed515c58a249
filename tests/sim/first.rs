//! One peer of three refuses connections: no client notices, the peer is out of use, and back when it answers again.

use std::time::Duration;

use proxy_wasm_sim::{Behaviour, Peer, Process, Request};
use serde_json::json;

use crate::{api, module, reference};

const PEERS: [&str; 3] = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"];

fn started(seed: u64) -> Process {
    let mut process = reference::envoy(module(), seed);
    for peer in PEERS {
        process.world().peer(peer);
    }
    let servers: Vec<String> = PEERS.iter().map(|peer| format!("{peer} fail_timeout=5s")).collect();
    let filter = json!({
        "upstreams": { "web": { "servers": servers, "monitors": [{ "name": "http", "interval": "1s", "schedule": "all" }] } },
        "upstream": "web",
        "admin": api::admin(),
        "envoy": { "access_log": true },
    });
    process.start(&reference::plugins(&filter)).unwrap();
    process
}

fn run(seed: u64) -> (Process, usize) {
    let mut process = started(seed);
    process.world().peer(PEERS[0]).behaviour = Behaviour::Refuses;
    let mut refused = 0;
    for _ in 0..300 {
        let outcome = process.request(Request::get("/")).unwrap();
        assert_eq!(outcome.status, Some(200), "{outcome:?}");
        refused += outcome.attempts.iter().filter(|attempt| attempt.end.is_failure()).count();
    }
    (process, refused)
}

#[test]
fn one_of_three_refuses_and_no_client_notices() {
    let (mut process, refused) = run(1);
    assert!((1..20).contains(&refused), "{refused} attempts at the dead peer");
    assert_eq!(api::upstream(&mut process, 0)["peers"][0]["state"], "temporary_down");
    assert_eq!(api::upstream(&mut process, 1)["peers"][0]["state"], "temporary_down");
    assert!(process.shared_bytes() > 0);

    // The checks find it well again.
    process.world().peer(PEERS[0]).behaviour = Behaviour::Answers;
    process.run_for(Duration::from_secs(8)).unwrap();
    assert_eq!(api::upstream(&mut process, 0)["peers"][0]["state"], "up");
    let checks = process.world().peer(PEERS[1]).received.iter().filter(|received| received.is_call).count();
    assert!((6..=12).contains(&checks), "{checks} checks of a peer in {:?}", process.now());
    assert!(process.traps().is_empty(), "{:?}", process.traps());
}

#[test]
fn a_seed_is_a_run() {
    let traces: Vec<Vec<String>> = [7, 7, 8].into_iter().map(|seed| run(seed).0.trace()).collect();
    assert!(traces[0].len() > 1_000);
    assert_eq!(traces[0], traces[1]);
    assert_ne!(traces[0], traces[2]);
}

/// Through the gateway for TCP, whose mark tells a server that is dead from a gateway that is missing.
#[test]
fn connections_and_agents_are_checked_through_the_gateway() {
    let mut process = reference::envoy(module(), 3);
    process.world().peers.insert(PEERS[0].to_owned(), Peer::speaking(|_| b"up 50%\n".to_vec()));
    process.world().peer(PEERS[1]).behaviour = Behaviour::Refuses;
    process.world().peer(PEERS[2]).behaviour = Behaviour::BlackHole;
    let monitor = |name: &str| json!({ "name": name, "interval": "1s", "schedule": "all", "timeout": "2s", "fall": 2 });
    let filter = json!({
        "upstreams": { "web": { "servers": PEERS, "monitors": [monitor("tcp"), monitor("haproxy-agent-check")], "max_ejected_percent": 100 } },
        "upstream": "web",
        "admin": api::admin(),
        "envoy": { "access_log": true },
    });
    process.start(&reference::plugins(&filter)).unwrap();
    process.run_for(Duration::from_secs(8)).unwrap();
    let web = api::upstream(&mut process, 0);
    let found: Vec<_> = web["peers"].as_array().unwrap().iter().map(|peer| (&peer["state"], &peer["by"])).collect();
    assert_eq!(found[0].0, "up", "{web}");
    assert_eq!(found[1..], [(&json!("down"), &json!("monitor tcp")); 2], "{web}");
    assert_eq!(web["peers"][0]["weight"], 1, "half of 1, rounded up: {web}");
    let of_gateway = process.logs().into_iter().filter(|line| line.text.contains("gateway")).collect::<Vec<_>>();
    assert!(of_gateway.is_empty(), "{of_gateway:?}");
}

/// Three die one after the other, and one of three may go out of use: the first.
#[test]
fn those_that_died_first_go_out_of_use() {
    let mut process = started(5);
    for name in ["10.0.0.3:80", "10.0.0.1:80", "10.0.0.2:80"] {
        process.world().peer(name).behaviour = Behaviour::Refuses;
        process.run_for(Duration::from_secs(5)).unwrap();
        // Their order is that of the verdicts, whoever asks.
        for worker in 0..2 {
            let peers = &api::upstream(&mut process, worker)["peers"];
            assert_eq!(peers[2]["in_use"], false, "{peers}");
            assert_eq!(peers[1]["in_use"], true, "{peers}");
        }
    }
}
