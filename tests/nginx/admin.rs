//! The management API, the status page, the metrics and the command line.

use serde_json::{json, Value};

use crate::support::client::{Answer, Client, Request};
use crate::support::load::Load;
use crate::support::nginx::{Conf, Setup};
use crate::support::proxy::Proxy as _;
use crate::support::server::Server;
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
    for conf in [Conf::Keepalive, Conf::AnyAddress, Conf::Streaming] {
        let [a, b] = ["a", "b"].map(Server::start);
        let nginx = Setup::new(conf, &with_admin(&[server(&a, "")])).workers(4).start();
        let mut clients: Vec<Client> = (0..24).map(|_| nginx.client()).collect();
        for client in &mut clients {
            assert_eq!(client.get("/").unwrap().served_by(), "a");
        }
        let mut admin = nginx.client();
        for _ in 0..10 {
            let body = json!({ "name": b.addr().to_string(), "weight": 65535 });
            let added = send(&mut admin, &json_request("POST", "/upstreams/web/peers", &body));
            assert_eq!(added.status, 201, "{conf}: {}", added.text());
            let by = clients.iter_mut().map(|client| client.get("/").unwrap().served_by().to_owned());
            let served = by.filter(|by| by == "b").count();
            assert!(served >= 20, "{conf}: {served} of 24 connections were served by b at once");
            let location = added.header("location").expect("where it is").to_owned();
            let removed = Request::new("DELETE", location).header("authorization", format!("Bearer {TOKEN}"));
            assert_eq!(send(&mut admin, &removed).status, 204);
            for client in &mut clients {
                assert_eq!(client.get("/").unwrap().served_by(), "a");
            }
        }
    }
}

#[test]
fn a_thousand_changes_by_eight_clients_under_load_all_happen() {
    let real = ["a", "b"].map(Server::start);
    let mut servers: Vec<String> = real.iter().map(|one| server(one, "")).collect();
    // These never get a request: all that counts is what is written.
    servers.extend((0..48).map(|n| format!("127.0.1.{n}:9 down")));
    let nginx = Setup::new(Conf::Keepalive, &with_admin(&servers)).workers(2).start();
    let names: Vec<String> = servers.iter().map(|server| server.split(' ').next().unwrap().to_owned()).collect();
    let before = get(&mut nginx.client(), "/upstreams/web")["revision"].as_u64().unwrap();
    let load = Load::new(nginx.addr(), 1_000_000).connections(4).start();
    std::thread::scope(|scope| {
        for client in 0..8_usize {
            let (names, nginx) = (&names, &nginx);
            scope.spawn(move || {
                let mut admin = nginx.client();
                for change in 0..125_usize {
                    let at = (client * 125 + change) % names.len();
                    let path = format!("/upstreams/web/peers/{}", names[at]);
                    let body = json!({ "weight": 2 + client * 1_000 + change });
                    let answer = send(&mut admin, &json_request("PATCH", &path, &body));
                    assert_eq!(answer.status, 200, "{}", answer.text());
                }
            });
        }
    });
    load.stop();
    let report = load.finish();
    let web = get(&mut nginx.client(), "/upstreams/web");
    assert_eq!(web["revision"].as_u64().unwrap() - before, 1_000, "every change is one revision");
    assert!(report.failures().is_empty(), "{:?}", report.failures());
}

#[test]
fn answers_are_those_of_the_api() {
    let a = Server::start("a");
    let nginx = Setup::new(Conf::Keepalive, &with_admin(&[server(&a, "")])).start();
    let path = format!("/upstreams/web/peers/{}", a.addr());
    let mut admin = nginx.client();
    let mut status = |request: &Request| send(&mut admin, request).status;
    let patch = || request("PATCH", &path).header("content-type", "application/json");
    assert_eq!(status(&Request::get("/durpina/upstreams")), 401);
    assert_eq!(status(&patch()), 400, "no body");
    assert_eq!(status(&patch().body("[".repeat(60_000))), 400);
    assert_eq!(status(&patch().body(vec![b' '; 65_537])), 413);
    assert_eq!(status(&request("PATCH", &path).body("{\"weight\": 1}")), 415);
    assert_eq!(status(&request("PUT", &path)), 405);
    assert_eq!(status(&request("GET", "/upstreams/none")), 404);
    assert_eq!(status(&patch().body("{\"weight\": 0}")), 422);
    assert_eq!(status(&patch().body("{\"weight\": 3}")), 200);
    let mut chunked = patch().header("transfer-encoding", "chunked").bytes();
    chunked.extend_from_slice(b"d\r\n{\"weight\": 4}\r\n0\r\n\r\n");
    assert_eq!(nginx.client().send_bytes(&chunked, true).expect("an answer").status, 200);
    assert_eq!(get(&mut nginx.client(), &path)["weight"], 4);
    assert_eq!(a.requests(), 0, "none of this is for servers");
}

#[test]
fn the_page_and_the_metrics_are_there() {
    for conf in Conf::all() {
        let [a, b] = ["a", "b"].map(Server::start);
        let nginx = Setup::new(conf, &with_admin(&[server(&a, ""), server(&b, "")])).workers(2).start();
        assert!(Load::new(nginx.addr(), 40).connections(4).connect_each_time().run().failures().is_empty());
        let page = send(&mut nginx.client(), &request("GET", "/"));
        assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")), "{conf}");
        let metrics = || send(&mut nginx.client(), &request("GET", "/metrics")).text();
        let sum = |name: &str| -> u64 {
            let text = metrics();
            let lines = text.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        eventually("all workers have told", PATIENCE, || sum("durpina_peer_picks_total") == 40);
        assert_eq!(sum("durpina_peer_up"), 2, "{conf}");
        if conf != Conf::Streaming {
            // There no filter sees how a request ended.
            eventually("answers are counted", PATIENCE, || sum("durpina_peer_http_responses_total") == 40);
        }
    }
}

#[test]
fn the_command_line_does_what_the_api_does() {
    let a = Server::start("a");
    let nginx = Setup::new(Conf::Keepalive, &with_admin(&[server(&a, "")])).workers(2).start();
    let durpina = |arguments: &[&str]| {
        let mut command = command_line();
        command.args(arguments).env("DURPINA_URL", format!("http://{}/durpina", nginx.addr()));
        let output = command.env("DURPINA_TOKEN", TOKEN).output().expect("the program runs");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let name = a.addr().to_string();
    let (code, table) = durpina(&["peers", "web"]);
    assert!(code == Some(0) && table.contains(&name), "{table}");
    assert_eq!(durpina(&["weight", "web", &name, "7"]).0, Some(0));
    assert_eq!(durpina(&["add", "web", "[::1]:9 down"]).0, Some(0));
    assert_eq!(durpina(&["state", "web", &name, "drain"]).0, Some(0));
    assert_eq!(durpina(&["remove", "web", "[::1]:9"]).0, Some(0));
    let peer = get(&mut nginx.client(), &format!("/upstreams/web/peers/{name}"));
    assert_eq!((&peer["weight"], &peer["state"]), (&json!(7), &json!("draining")));
}
