//! Functions that take any bytes, and panic where something does not hold.
//!
//! | target | bytes | must hold |
//! | --- | --- | --- |
//! | [`configuration`] | a filter JSON | what is accepted starts, and serves a request; what is refused says why |
//! | [`server`] | a server's string | what is accepted has a name that is accepted, and means the same |
//! | [`agent`] | what an agent sent | what is kept of it is short |
//! | [`dns`] | what a name server sent | |
//! | [`stored`] | a stored value, its kind first | what is read, written and read again is the same |
//! | [`shared`] | values in shared data under the filter's keys | requests are answered, and so is the API |
//! | [`api`] | a request to the management API | it is answered, and the state can be read afterwards |

// Panics are how a target says what does not hold.
#![allow(clippy::panic)]

use std::time::Duration;

use durpina::config::{parse_server, Config};
use durpina::host::{Capabilities, Expect, Failure, Host};
use durpina::model::report::Report;
use durpina::model::server::Server;
use durpina::{fuzzing, Filter, Registry};
use durpina_sim::{Behaviour, Sent, Sim, Worker};

/// The longest configuration that is tried: what it makes of its size is not what is looked for.
const LONGEST: usize = 4_096;

/// What takes any bytes.
pub type Target = fn(&[u8]);

/// The targets by their names.
pub const TARGETS: [(&str, Target); 7] = [
    ("agent", agent),
    ("api", api),
    ("configuration", configuration),
    ("dns", dns),
    ("server", server),
    ("shared", shared),
    ("stored", stored),
];

thread_local! {
    static REGISTRY: Registry = Registry::default();
}

/// A filter JSON.
pub fn configuration(bytes: &[u8]) {
    let Some(bytes) = Some(bytes).filter(|bytes| bytes.len() <= LONGEST) else { return };
    match REGISTRY.with(|registry| Config::parse(bytes, Capabilities::default(), registry)) {
        Ok(_) => {
            let text = String::from_utf8_lossy(bytes);
            let sim = Sim::new();
            let started = Worker::<Filter>::start(&sim, &text);
            let Ok(mut worker) = started else { panic!("a configuration is accepted, and does not start") };
            worker.tick();
            worker.deliver();
            worker.send(Sent::get("/"));
        }
        Err(errors) => assert!(!errors.to_string().is_empty(), "a configuration is refused without a reason"),
    }
}

/// A server's string.
pub fn server(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = |text: &str| parse_server(text, &Server::default(), 80).ok().flatten();
    if let Some(server) = read(text) {
        let again = read(&server.name).map(|again| again.name);
        assert_eq!(again, Some(server.name), "a server's name means another server");
    }
}

/// What an agent sent.
pub fn agent(bytes: &[u8]) {
    let report = Report::parse(bytes);
    assert!(report.description.as_ref().is_none_or(|text| text.len() <= bytes.len() * 3), "a description grows");
    let texts = report.unknown.iter().chain(&report.description);
    assert!(!texts.flat_map(|text| text.chars()).any(char::is_control), "a control character is kept");
}

/// What a name server sent.
pub fn dns(bytes: &[u8]) {
    let _ = fuzzing::dns(bytes);
}

/// A stored value, its kind first.
pub fn stored(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    let kind = kind % fuzzing::KINDS;
    let (is_same, _) = fuzzing::stored(kind, bytes);
    assert!(is_same, "a stored value of kind {kind} is another one when it is written and read again");
}

/// What the filter has in [`shared`] and [`api`].
const FILTER: &str = r#"{
    "upstreams": {"web": {
        "servers": ["10.0.0.1:80", "10.0.0.2:80 max_fails=2", "shop.example:80"], "monitors": [{"name": "tcp"}]
    }},
    "resolver": "10.0.0.53",
    "upstream": "web", "admin": {"prefix": "/durpina", "token": "t", "allow": ["0.0.0.0/0"]}
}"#;

fn started() -> (Sim, Worker<Filter>) {
    let sim = Sim::new();
    let started = Worker::<Filter>::start(&sim, FILTER);
    let mut worker = started.unwrap_or_else(|errors| panic!("the filter does not start: {errors}"));
    worker.tick();
    (sim, worker)
}

/// Asks the API.
fn ask(worker: &mut Worker<Filter>, sent: Sent) -> u32 {
    worker.send(sent.client("127.0.0.1").header("authorization", "Bearer t"));
    let Some(response) = worker.host.answer() else { panic!("the API does not answer") };
    assert!((200..600).contains(&response.status), "status {}", response.status);
    response.status
}

/// Values in shared data under the filter's keys: for each the number of the key, the length, and so many bytes.
pub fn shared(bytes: &[u8]) {
    let (sim, mut worker) = started();
    worker.send(Sent::get("/"));
    let keys = sim.keys();
    let mut rest = bytes;
    while let [key, length, behind @ ..] = rest {
        let (value, behind) = behind.split_at(usize::from(*length).min(behind.len()));
        rest = behind;
        let Some(key) = keys.get(usize::from(*key) % keys.len().max(1)) else { return };
        let Ok(Some(stored)) = worker.host.read(key) else { continue };
        let _ = worker.host.write(key, value, Expect::Cas(stored.cas));
        worker.host.announce();
    }
    for path in ["/", "/durpina/upstreams", "/durpina/metrics", "/"] {
        worker.send(Sent::get(path).client("127.0.0.1").header("authorization", "Bearer t"));
        sim.advance(Duration::from_secs(1));
        worker.tick();
        worker.deliver();
    }
}

/// A request to the API: the method and the path in a line, headers with a colon each in lines, an empty line, a body.
pub fn api(bytes: &[u8]) {
    let (head, body) = match bytes.windows(2).position(|window| window == b"\n\n") {
        Some(at) => (bytes.get(..at).unwrap_or_default(), bytes.get(at + 2..).unwrap_or_default()),
        None => (bytes, &[] as &[u8]),
    };
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let (method, path) = lines.next().and_then(|line| line.split_once(' ')).unwrap_or(("GET", "/"));
    let (_sim, mut worker) = started();
    let mut sent = Sent::get(&format!("/durpina{path}")).method(method).body(body);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        sent = sent.header(name.trim(), value.trim());
    }
    // What does not begin like the prefix is no request to the API.
    if !path.starts_with('/') {
        return;
    }
    // Nor is what could be another path to the next one who reads it.
    let mut steps = path.split(['/', '?', '#']);
    if steps.any(|step| matches!(&*step.to_ascii_lowercase().replace("%2e", "."), "." | "..")) {
        worker.send(sent);
    } else {
        ask(&mut worker, sent);
    }
    assert_eq!(ask(&mut worker, Sent::get("/durpina/upstreams")), 200, "the state cannot be read");
    worker.tick();
    worker.send(Sent::get("/"));
}

/// A value of each kind as a filter stores it.
#[must_use]
pub fn stored_by_a_filter() -> Vec<(u8, Vec<u8>)> {
    let (sim, mut worker) = started();
    sim.server("10.0.0.1:80", Behaviour::Fails(Failure::Connect));
    sim.name("shop.example", &["10.0.0.7"], 60);
    ask(&mut worker, Sent::get("/durpina/upstreams/web/peers/10.0.0.2:80").method("PATCH").body(br#"{"weight":2}"#));
    sim.lose_cluster("durpina_tcp", Some("no such cluster"));
    for second in 0..20 {
        if second == 10 {
            sim.lose_cluster("durpina_tcp", None);
        }
        worker.send(Sent::get("/"));
        sim.advance(Duration::from_secs(1));
        worker.tick();
        worker.deliver();
    }
    let kinds = ["upstream", "status", "health", "index", "counters", "state", "log", "obstacles"];
    let kind = |key: &str| kinds.iter().position(|kind| key.split('/').nth(2) == Some(kind));
    let value = |key: &String| Some((kind(key)?, worker.host.read(key).ok()??.value));
    let found = sim.keys().iter().filter_map(value).collect::<Vec<_>>();
    found.into_iter().filter_map(|(kind, value)| Some((u8::try_from(kind).ok()?, value))).collect()
}
