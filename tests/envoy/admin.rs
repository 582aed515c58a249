//! The management API on a real proxy: what is changed counts at once for all workers, and nothing breaks it.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{json, Value};

use crate::support::client::{connect, Answer, Client, Request};
use crate::support::config::{repository, Config};
use crate::support::envoy::{Envoy, Setup};
use crate::support::load::Load;
use crate::support::proxy::Proxy as _;
use crate::support::server::{Behaviour, Server};
use crate::support::{command_line, eventually};
use crate::{one_upstream, server, PATIENCE};

const TOKEN: &str = "s3cret-t0ken";

fn with_admin(servers: &[String]) -> Value {
    let mut filter = one_upstream(servers);
    filter["admin"] = json!({ "prefix": "/durpina", "token": TOKEN });
    filter
}

fn request(method: &str, path: &str) -> Request {
    Request::new(method, format!("/durpina{path}")).header("authorization", format!("Bearer {TOKEN}"))
}

fn json_request(method: &str, path: &str, body: &Value) -> Request {
    request(method, path).header("content-type", "application/json").body(body.to_string())
}

fn send(client: &mut Client, request: &Request) -> Answer {
    client.send(request).unwrap_or_else(|error| panic!("{request:?}: {error}"))
}

fn get(client: &mut Client, path: &str) -> Value {
    let answer = send(client, &request("GET", path));
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[test]
fn what_is_added_and_removed_counts_at_the_very_next_request_of_every_worker() {
    let [a, b] = ["a", "b"].map(Server::start);
    let envoy = Setup::new(Config::reference(&with_admin(&[server(&a, "")]))).workers(4).start();
    // Each connection belongs to one worker; with so many every worker has some.
    let mut clients: Vec<Client> = (0..24).map(|_| envoy.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").unwrap().served_by(), "a");
    }
    let mut admin = envoy.client();
    for _ in 0..10 {
        let body = json!({ "name": b.addr().to_string(), "weight": 65535 });
        let added = send(&mut admin, &json_request("POST", "/upstreams/web/peers", &body));
        assert_eq!(added.status, 201, "{}", added.text());
        let by = clients.iter_mut().map(|client| client.get("/").unwrap().served_by().to_owned());
        let served = by.filter(|by| by == "b").count();
        assert!(served >= 20, "{served} of 24 connections were served by b at once");
        let location = added.header("location").expect("where it is").to_owned();
        let removed = Request::new("DELETE", location).header("authorization", format!("Bearer {TOKEN}"));
        assert_eq!(send(&mut admin, &removed).status, 204);
        for client in &mut clients {
            assert_eq!(client.get("/").unwrap().served_by(), "a");
        }
    }
}

#[test]
fn a_thousand_changes_by_eight_clients_under_load_all_happen() {
    let real = ["a", "b"].map(Server::start);
    let mut servers: Vec<String> = real.iter().map(|one| server(one, "")).collect();
    // These never get a request: all that counts is what is written.
    servers.extend((0..48).map(|n| format!("127.0.1.{n}:9 down")));
    let envoy = Setup::new(Config::reference(&with_admin(&servers))).workers(2).start();
    let names: Vec<String> = servers.iter().map(|server| server.split(' ').next().unwrap().to_owned()).collect();
    let before = get(&mut envoy.client(), "/upstreams/web")["revision"].as_u64().unwrap();
    let load = Load::new(envoy.addr(), 1_000_000).connections(4).start();
    std::thread::scope(|scope| {
        for client in 0..8_usize {
            let (names, envoy) = (&names, &envoy);
            scope.spawn(move || {
                let mut admin = envoy.client();
                // 125 changes each, of weights that differ every time.
                for change in 0..125_usize {
                    let at = (client * 125 + change) % names.len();
                    let weight = 2 + client * 1_000 + change;
                    let path = format!("/upstreams/web/peers/{}", names[at]);
                    let answer = send(&mut admin, &json_request("PATCH", &path, &json!({ "weight": weight })));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            });
        }
    });
    load.stop();
    let report = load.finish();
    let web = get(&mut envoy.client(), "/upstreams/web");
    assert_eq!(web["revision"].as_u64().unwrap() - before, 1_000, "every change is one revision");
    assert!(report.failures().is_empty(), "{:?}", report.failures());
    assert!(report.outcomes.len() > 100);
}

#[test]
fn bodies_of_all_kinds_are_answered() {
    let a = Server::start("a");
    let envoy = Setup::new(Config::reference(&with_admin(&[server(&a, "")]))).start();
    let path = format!("/upstreams/web/peers/{}", a.addr());
    let mut admin = envoy.client();
    let mut status = |request: &Request| {
        let answer = send(&mut admin, request);
        (answer.status, answer.header("content-type").unwrap_or_default().to_owned())
    };
    let problem = |status: u16| (status, "application/problem+json".to_owned());
    let patch = || request("PATCH", &path).header("content-type", "application/json");
    assert_eq!(status(&patch()), problem(400));
    assert_eq!(status(&patch().header("content-length", "0")), problem(400));
    assert_eq!(status(&patch().body(vec![b' '; 65_537])), problem(413));
    assert_eq!(status(&patch().body("[".repeat(60_000))), problem(400));
    assert_eq!(status(&patch().body(b"{\"weight\": 1, \"state\": \"\xff\"}")), problem(400));
    assert_eq!(status(&request("GET", &format!("/upstreams/{}", "a".repeat(8_000)))), problem(404));
    let many = (0..90).fold(patch(), |request, n| request.header(format!("x-{n}"), "y"));
    assert_eq!(status(&many.body("{\"weight\": 1}")).0, 200);
    let chunked = patch().header("transfer-encoding", "chunked").bytes();
    let mut raw = chunked;
    raw.extend_from_slice(b"d\r\n{\"weight\": 3}\r\n0\r\nx-trailer: y\r\n\r\n");
    let answer = envoy.client().send_bytes(&raw, true).expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    // More than Envoy keeps of a body, and more headers than it takes: an answer all the same.
    for request in [
        patch().body(vec![b'1'; 1 << 20]),
        (0..1_000).fold(patch(), |request, n| request.header(format!("x-{n}"), "y")),
    ] {
        let mut stream = connect(envoy.addr()).expect("a connection");
        let _ = stream.write_all(&request.bytes());
        let mut head = [0; 16];
        let _ = stream.read(&mut head);
        assert!(head.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&head));
    }
    assert_eq!(get(&mut envoy.client(), &path)["weight"], 3);
}

#[test]
fn a_slow_body_holds_up_nobody() {
    let a = Server::start("a");
    let envoy = Setup::new(Config::reference(&with_admin(&[server(&a, "")]))).start();
    let path = format!("/upstreams/web/peers/{}", a.addr());
    let slow = request("PATCH", &path).header("content-type", "application/json").body("{\"weight\": 7}").bytes();
    let mut stream = connect(envoy.addr()).expect("a connection");
    let (most, rest) = slow.split_at(slow.len() - 5);
    stream.write_all(most).expect("most of the request");
    for _ in 0..20 {
        assert_eq!(envoy.client().get("/").unwrap().served_by(), "a");
        assert_eq!(get(&mut envoy.client(), &path)["weight"], 1);
    }
    stream.write_all(rest).expect("the rest");
    eventually("it is answered in the end", PATIENCE, || get(&mut envoy.client(), &path)["weight"] == 7);
}

#[test]
fn head_works_where_get_does_and_what_looks_like_the_api_reaches_the_servers() {
    let a = Server::start("a");
    let envoy = Setup::new(Config::reference(&with_admin(&[server(&a, "")]))).start();
    let mut admin = envoy.client();
    for path in ["/", "/upstreams", "/upstreams/web", "/metrics"] {
        let head = send(&mut admin, &request("HEAD", path));
        let whole = send(&mut admin, &request("GET", path));
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), whole.header("content-type"));
        assert_eq!(whole.header("cache-control"), Some("no-store"));
        assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(a.requests(), 0, "none of this is for servers");
    for path in ["/durpinax", "//durpina", "/durpina/../x", "/x/../durpin", "/Durpina/"] {
        assert_eq!(envoy.client().get(path).unwrap().served_by(), "a", "{path}");
    }
    let unauthorized = envoy.client().get("/durpina/upstreams").unwrap();
    assert_eq!((unauthorized.status, unauthorized.header("www-authenticate")), (401, Some("Bearer realm=\"durpina\"")));
}

/// What Envoy says of a client differs with its configuration; an address from a header opens nothing with any of them.
#[test]
fn an_address_in_a_header_opens_nothing_wherever_envoy_has_addresses_from() {
    let a = Server::start("a");
    let mut filter = with_admin(&[server(&a, "")]);
    let from = |envoy: &Envoy, forwarded: Option<&str>| {
        let request = forwarded.iter().fold(request("GET", "/upstreams"), |r, by| r.header("x-forwarded-for", *by));
        send(&mut envoy.client(), &request).status
    };
    // The test's own address is not allowed, the one that it claims is.
    filter["admin"]["allow"] = json!(["10.0.0.0/8", "fd00::/8"]);
    for (remote, hops) in [(true, 0), (true, 1), (false, 0), (false, 1)] {
        let envoy = Setup::new(Config::reference(&filter).client_addresses(remote, hops)).start();
        for claim in ["10.0.0.1", "fd00::1", "::ffff:10.0.0.1", "10.0.0.1:80", "[fd00::1]:80", "10.0.0.1, 10.0.0.2"] {
            assert_eq!(from(&envoy, Some(claim)), 403, "{claim}, use_remote_address: {remote}, hops: {hops}");
        }
        assert_eq!(from(&envoy, None), 403);
    }
    filter["admin"]["allow"] = json!(["127.0.0.0/8"]);
    for (remote, hops, expected) in [(true, 0, 200), (true, 1, 403), (false, 0, 403)] {
        let envoy = Setup::new(Config::reference(&filter).client_addresses(remote, hops)).start();
        assert_eq!(from(&envoy, None), 200, "the connection's own address, use_remote_address: {remote}, hops: {hops}");
        // Where the header is not looked at, it does no harm.
        assert_eq!(from(&envoy, Some("127.0.0.1")), expected, "use_remote_address: {remote}, hops: {hops}");
    }
    // Behind a proxy of one's own: everybody's address, and a token.
    filter["admin"]["allow"] = json!(["0.0.0.0/0", "::/0"]);
    let envoy = Setup::new(Config::reference(&filter).client_addresses(true, 1)).start();
    assert_eq!(from(&envoy, Some("198.51.100.7")), 200);
    let stranger = Request::new("GET", "/durpina/upstreams").header("x-forwarded-for", "198.51.100.7");
    assert_eq!(send(&mut envoy.client(), &stranger).status, 401);
}

#[test]
fn without_a_token_only_the_proxy_s_own_names_are_answered() {
    let a = Server::start("a");
    let mut filter = with_admin(&[server(&a, "")]);
    filter["admin"] = json!({ "prefix": "/durpina", "hosts": ["proxy.internal"] });
    let envoy = Setup::new(Config::reference(&filter)).start();
    let ask = |host: &str| {
        let request = Request::new("GET", "/durpina/upstreams").header("host", host);
        send(&mut envoy.client(), &request)
    };
    for host in [envoy.addr().to_string().as_str(), "localhost:8000", "[::1]", "proxy.internal:8000", "PROXY.internal"]
    {
        assert_eq!(ask(host).status, 200, "{host}");
    }
    for host in ["rebound.example", "localhost.rebound.example:8000", "127.0.0.1.rebound.example"] {
        let answer = ask(host);
        assert_eq!((answer.status, answer.header("content-type")), (403, Some("application/problem+json")), "{host}");
        assert!(answer.text().contains("admin.hosts"), "{}", answer.text());
    }
}

#[test]
fn the_state_of_peers_is_seen_and_ordered() {
    let [a, b] = ["a", "b"].map(Server::start);
    let mut filter = with_admin(&[server(&a, ""), server(&b, "")]);
    filter["upstreams"]["web"]["monitors"] = json!([{"name": "http", "interval": "200ms", "schedule": "all"}]);
    let envoy = Setup::new(Config::reference(&filter)).workers(2).start();
    let mut admin = envoy.client();
    let path = format!("/upstreams/web/peers/{}", a.addr());
    eventually("a is checked", PATIENCE, || !get(&mut admin, &path)["checks"].as_array().unwrap().is_empty());
    a.behave(Behaviour::Status(500));
    eventually("a is down", PATIENCE, || get(&mut admin, &path)["state"] == "down");
    let peer = get(&mut admin, &path);
    assert_eq!(peer["by"], "monitor http");
    assert_eq!(peer["why"], "status 500, expected 101 102 2xx 3xx");
    assert!(peer["since"].as_str().unwrap().ends_with('Z'));
    a.behave(Behaviour::Answer);
    eventually("a is up", PATIENCE, || get(&mut admin, &path)["state"] == "up");

    let down = send(&mut admin, &json_request("PATCH", &path, &json!({ "state": "down" })));
    assert_eq!(serde_json::from_slice::<Value>(&down.body).unwrap()["state"], "down");
    let seen = a.requests();
    eventually("good checks go on", PATIENCE, || a.requests() > seen + 5);
    assert_eq!(get(&mut admin, &path)["state"], "down", "and lift no order");
    assert!(envoy.log().contains(&format!("admin: client=127.0.0.1 upstream=web peer={} state=down", a.addr())));
    assert!(!envoy.log().contains(TOKEN));
    assert_eq!(send(&mut admin, &json_request("PATCH", &path, &json!({ "state": "up" }))).status, 200);
    assert_eq!(get(&mut admin, &path)["state"], "up");
}

#[test]
fn a_listener_of_its_own_shows_and_changes_what_the_other_serves() {
    let a = Server::start("a");
    let envoy = Setup::new(Config::of("envoy/admin.yaml")).workers(2).start();
    assert_eq!(envoy.client().get("/durpina/upstreams").unwrap().status, 503, "not on the listener for traffic");
    let mut admin = Client::new(envoy.second_addr());
    let secret = "Bearer change-me";
    let peers = Request::new("POST", "/upstreams/web/peers").header("authorization", secret);
    let answer = send(&mut admin, &peers.header("content-type", "text/plain").body(server(&a, "weight=9")));
    assert_eq!(answer.status, 404, "the prefix belongs to the path");
    // The other listener's filter declares its upstreams at a tick of its own.
    eventually("the upstream is there", PATIENCE, || {
        let read = Request::get("/durpina/upstreams/web").header("authorization", secret);
        send(&mut admin, &read).status == 200
    });
    let peers = Request::new("POST", "/durpina/upstreams/web/peers").header("authorization", secret);
    let answer = send(&mut admin, &peers.header("content-type", "text/plain").body(server(&a, "weight=9")));
    assert_eq!(answer.status, 201, "{}", answer.text());
    for peer in ["127.0.0.1:8081", "127.0.0.1:8082"] {
        let remove = Request::new("DELETE", format!("/durpina/upstreams/web/peers/{peer}"));
        assert_eq!(send(&mut admin, &remove.header("authorization", secret)).status, 204);
    }
    assert_eq!(envoy.client().get("/").unwrap().served_by(), "a");
}

fn page(envoy: &Envoy) -> String {
    send(&mut envoy.client(), &request("GET", "/metrics")).text()
}

#[test]
fn figures_add_up_over_all_workers_and_prometheus_likes_them() {
    for access_log in [true, false] {
        let [a, b] = ["a", "b"].map(Server::start);
        let mut filter = with_admin(&[server(&a, ""), server(&b, "max_fails=0")]);
        filter["envoy"] = json!({ "access_log": access_log });
        filter["upstreams"]["web"]["monitors"] = json!([{"name": "tcp", "interval": "200ms", "schedule": "all"}]);
        let envoy = Setup::new(Config::reference(&filter)).workers(2).start();
        let mut client = envoy.client();
        let mut served = |times: usize| {
            let by: Vec<String> = (0..times).map(|_| client.get("/").unwrap().served_by().to_owned()).collect();
            let of = |server: &Server| by.iter().filter(|by| *by == server.name()).count() as u64;
            (of(&a), of(&b))
        };
        let (a_ok, b_ok) = served(30);
        b.behave(Behaviour::Status(404));
        let (a_beside, b_404) = served(10);
        b.behave(Behaviour::CloseEarly);
        let (a_last, none) = served(10);
        assert_eq!((a_last, none), (10, 0), "b's are retried");
        let tried_at_b = 5;
        let figure = |page: &str, name: &str, labels: &[&str]| -> u64 {
            let lines =
                page.lines().filter(|line| line.starts_with(name) && labels.iter().all(|label| line.contains(label)));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        let picks = |page: &str| figure(page, "durpina_peer_picks_total", &[]);
        eventually("all workers have told", PATIENCE, || picks(&page(&envoy)) == 50 + tried_at_b);
        let page = page(&envoy);
        let of = |name: &str, server: &Server, label: &str| figure(&page, name, &[&server.addr().to_string(), label]);
        let responses = |server: &Server, class: &str| of("durpina_peer_http_responses_total", server, class);
        assert_eq!(responses(&a, "2xx"), a_ok + a_beside + a_last, "access log: {access_log}");
        assert_eq!((responses(&b, "2xx"), responses(&b, "4xx")), (b_ok, b_404), "access log: {access_log}");
        assert_eq!(of("durpina_peer_failures_total", &b, "retried"), tried_at_b);
        let checks = || figure(&self::page(&envoy), "durpina_peer_checks_total", &["result=\"ok\""]);
        eventually("checks are counted", PATIENCE, || checks() > 0);
        assert_eq!(of("durpina_peer_up", &a, ""), 1);

        let mut promtool = Command::new(repository().join(".tools/bin/promtool"))
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool: `make test` installs it");
        promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.trim().is_empty(), "{said}");
    }
}

/// An Envoy with servers, monitors and the API, for programs that try what they can.
fn playground() -> (Envoy, [Server; 3]) {
    let servers = ["a", "b", "c"].map(Server::start);
    let mut filter =
        with_admin(&[server(&servers[0], "weight=5"), server(&servers[1], ""), server(&servers[2], "backup")]);
    filter["upstreams"]["web"]["monitors"] = json!([{"name": "http", "interval": "1s", "schedule": "all"}]);
    filter["upstreams"]["[::1]/x y"] = json!({ "servers": ["[::1]:1 down"] });
    let envoy = Setup::new(Config::reference(&filter)).workers(2).start();
    (envoy, servers)
}

#[track_caller]
fn succeeds(mut command: Command) {
    let output = command.current_dir(repository()).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; `make test` installs it"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = said.lines().collect();
    assert!(output.status.success(), "{}", lines[lines.len().saturating_sub(120)..].join("\n"));
}

fn python_program(name: &str) -> Command {
    let path = repository().join(".venv/bin").join(name);
    assert!(Path::exists(&path), "{} is missing: `make test` sets it up", path.display());
    Command::new(path)
}

#[test]
fn all_answers_are_as_the_description_says() {
    let (envoy, _servers) = playground();
    let mut schemathesis = python_program("schemathesis");
    schemathesis.args(["--config-file", "tests/schemathesis.toml", "run", "docs/openapi.yaml"]);
    schemathesis.args(["--checks", "all", "--max-examples", "40", "--no-color"]);
    // Methods that Envoy does not know it refuses by itself, with 400.
    schemathesis.args(["--exclude-checks", "unsupported_method"]);
    schemathesis.args(["--url", &format!("http://{}/durpina", envoy.addr())]);
    schemathesis.args(["--header", &format!("Authorization: Bearer {TOKEN}")]);
    succeeds(schemathesis);
    assert!(envoy.client().get("/").is_ok(), "and the proxy is still there");
}

#[test]
fn the_status_page_works_in_a_browser() {
    let (envoy, _servers) = playground();
    let mut page = Command::new("scripts/page-test.sh");
    page.args(["--url", &format!("http://{}/durpina/", envoy.addr()), "--token", TOKEN]);
    succeeds(page);
}

#[test]
fn many_upstreams_are_listed_quickly() {
    let upstreams: serde_json::Map<String, Value> = (0..100)
        .map(|n| {
            let servers: Vec<String> = (0..10).map(|peer| format!("127.0.{n}.{peer}:9")).collect();
            (format!("u{n}"), json!({ "servers": servers }))
        })
        .collect();
    let filter = json!({ "upstreams": upstreams, "admin": { "prefix": "/durpina", "token": TOKEN } });
    let envoy = Setup::new(Config::reference(&filter)).start();
    let mut admin = envoy.client();
    let all = get(&mut admin, "/upstreams");
    assert_eq!((all.as_array().unwrap().len(), all[99]["peers"].as_array().unwrap().len()), (100, 10));
    let mut times: Vec<Duration> = (0..9).map(|_| send(&mut admin, &request("GET", "/upstreams")).latency).collect();
    times.sort();
    println!("GET /upstreams with 100 upstreams of 10 peers: {:?} (median of 9)", times[4]);
    // The figure to reach is 20 ms; a machine that does other things at the same time may take longer.
    assert!(times[0] < Duration::from_millis(100), "{times:?}");
}

#[test]
fn the_command_line_does_what_the_api_does() {
    let (envoy, servers) = playground();
    let durpina = |arguments: &[&str]| {
        let mut command = command_line();
        command.args(arguments).env("DURPINA_URL", format!("http://{}/durpina", envoy.addr()));
        let output = command.env("DURPINA_TOKEN", TOKEN).output().expect("the program runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    };
    let name = servers[0].addr().to_string();
    let (code, table) = durpina(&["peers", "web"]);
    assert!(code == Some(0) && table.contains(&name), "{table}");
    assert_eq!(durpina(&["weight", "web", &name, "7"]).0, Some(0));
    assert_eq!(durpina(&["state", "web", &name, "drain"]).0, Some(0));
    let peer = get(&mut envoy.client(), &format!("/upstreams/web/peers/{name}"));
    assert_eq!((&peer["weight"], &peer["state"]), (&json!(7), &json!("draining")));
    assert_eq!(durpina(&["add", "web", "[::1]:9 down"]).0, Some(0));
    let (code, json) = durpina(&["peers", "web", "--selector", "permanent_down", "--json"]);
    let peers: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &peers[0]["name"]), (Some(0), &json!("[::1]:9")));
    assert_eq!(durpina(&["remove", "web", "[::1]:9"]).0, Some(0));
    let (code, said) = durpina(&["add", "web", "10.0.0.4 weight=0 fail_timeout=30x"]);
    assert!(code == Some(3) && said.contains("\n  weight: ") && said.contains("\n  fail_timeout: "), "{said}");
    let (code, said) = durpina(&["info", "[::1]/x y"]);
    assert!(code == Some(0) && said.contains("[::1]:1"), "{said}");
}
