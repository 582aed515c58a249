//! The API on the simulated host.

use std::time::Duration;

use serde_json::{json, Value};

use crate::filter::Filter;
use crate::host::Response;
use crate::testing::test;
use durpina_sim::{Answer, Sent, Sim};

type Worker = durpina_sim::Worker<Filter>;

const CONFIG: &str = r#"{
    "upstreams": {
        "web": {"servers": ["10.0.0.1:80 weight=5", "10.0.0.2:80", "[::1]:80"], "monitors": [{"name": "http", "header_Authorization": "s3cret"}]},
        "a/b": {"servers": ["10.1.0.1:80"]}
    },
    "routes": [{"prefix": "/", "upstream": "web"}],
    "admin": {"prefix": "/durpina", "token": "hunter2"}
}"#;

fn start(config: &str) -> (Sim, Worker) {
    let sim = Sim::new();
    let mut worker = Worker::start(&sim, config).unwrap();
    worker.tick();
    (sim, worker)
}

/// A request from a client that may do everything.
fn with(method: &str, path: &str) -> Sent {
    Sent::get(path).method(method).client("127.0.0.1").header("authorization", "Bearer hunter2")
}

fn json_body(method: &str, path: &str, body: &str) -> Sent {
    with(method, path).header("content-type", "application/json").body(body.as_bytes())
}

fn respond(worker: &mut Worker, sent: Sent) -> Response {
    worker.send(sent);
    worker.host.answer().expect("the filter's own answer")
}

fn status(worker: &mut Worker, sent: Sent) -> u32 {
    respond(worker, sent).status
}

fn document(response: &Response) -> Value {
    serde_json::from_slice(&response.body).unwrap()
}

fn get(worker: &mut Worker, path: &str) -> Value {
    let response = respond(worker, with("GET", path));
    assert_eq!(response.status, 200, "{path}");
    document(&response)
}

fn header<'r>(response: &'r Response, name: &str) -> Option<&'r str> {
    response.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
}

#[test]
fn an_upstream_s_document_begins_as_the_predecessor_s() {
    let (_sim, mut worker) = start(CONFIG);
    let response = respond(&mut worker, with("GET", "/durpina/upstreams/web"));
    let text = String::from_utf8(response.body.clone()).unwrap();
    assert!(text.starts_with(
        r#"{"name":"web","revision":1,"peers":[{"name":"10.0.0.1:80","address":"10.0.0.1","weight":5,"state":"up","#
    ));
    let web = document(&response);
    assert_eq!(header(&response, "etag"), Some("\"1\""));
    assert_eq!(web["monitors"][0]["id"], "http");
    let names: Vec<Value> =
        get(&mut worker, "/durpina/upstreams").as_array().unwrap().iter().map(|u| u["name"].clone()).collect();
    assert_eq!(names, ["web", "a/b"]);
    assert_eq!(get(&mut worker, "/durpina/upstreams/a%2Fb")["peers"][0]["name"], "10.1.0.1:80");
    assert_eq!(get(&mut worker, "/durpina/upstreams/web/peers/%5B::1%5D:80")["host"], "::1");
}

#[test]
fn peers_come_change_and_go_while_every_worker_sees_it_at_its_next_request() {
    let (sim, mut worker) = start(CONFIG);
    let mut other = Worker::start(&sim, CONFIG).unwrap();
    other.send(Sent::get("/"));
    let added = respond(
        &mut worker,
        json_body("POST", "/durpina/upstreams/web/peers", r#"{"host": "10.0.0.9", "port": 8080, "weight": 30}"#),
    );
    assert_eq!((added.status, header(&added, "location")), (201, Some("/durpina/upstreams/web/peers/10.0.0.9:8080")));
    assert_eq!(document(&added)["weight"], 30);
    let served = |worker: &mut Worker| (0..50).filter(|_| worker.send(Sent::get("/")).by() == "10.0.0.9:8080").count();
    assert!(served(&mut other) > 30);
    assert_eq!(
        status(&mut worker, json_body("POST", "/durpina/upstreams/web/peers", r#"{"name": "10.0.0.9:8080"}"#)),
        409
    );

    let peer = "/durpina/upstreams/web/peers/10.0.0.9:8080";
    let changed =
        respond(&mut worker, json_body("PATCH", peer, r#"{"weight": 1, "state": "drain", "fail_timeout": "3s"}"#));
    let changed = document(&changed);
    assert_eq!(
        (&changed["state"], &changed["weight"], &changed["initial_weight"]),
        (&json!("draining"), &json!(1), &json!(30))
    );
    assert_eq!((&changed["by"], &changed["fail_timeout"]), (&json!("operator"), &json!("3s")));
    assert_eq!(served(&mut other), 0);
    assert_eq!(
        sim.logged("admin: client=127.0.0.1 upstream=web peer=10.0.0.9:8080 weight=1 state=drain fail_timeout=3s")
            .len(),
        1
    );
    assert_eq!(sim.logged("from=up to=draining by=operator why=\"ordered drain\"").len(), 1);

    assert_eq!(status(&mut worker, with("DELETE", peer)), 204);
    assert_eq!(status(&mut worker, with("DELETE", peer)), 404);
    let text = with("POST", "/durpina/upstreams/web/peers").header("content-type", "text/plain; charset=utf-8");
    assert_eq!(status(&mut worker, text.body(b"10.0.0.8:81 weight=2\n")), 201);
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let (_sim, mut worker) = start(CONFIG);
    let before = get(&mut worker, "/durpina/upstreams/web");
    let peers = "/durpina/upstreams/web/peers";
    let peer = "/durpina/upstreams/web/peers/10.0.0.1:80";
    let deep = format!("{}1{}", "[".repeat(60_000), "]".repeat(3));
    for (method, path, body, expected) in [
        ("PATCH", peer, r#"{"weight": 0}"#, 422),
        ("PATCH", peer, r#"{"weight": 1e400}"#, 400),
        ("PATCH", peer, r#"{"weight": 99999999999999999999}"#, 422),
        ("PATCH", peer, r#"{"weight": "9"}"#, 422),
        ("PATCH", peer, r#"{"weight": 1, "weight": 2}"#, 422),
        ("PATCH", peer, r#"{"weight": 3, "state": "gone"}"#, 422),
        ("PATCH", peer, r#"{"wait": 3}"#, 422),
        ("PATCH", peer, "[]", 422),
        ("PATCH", peer, "{", 400),
        ("PATCH", peer, "", 400),
        ("PATCH", peer, deep.as_str(), 400),
        ("POST", peers, r#"{"host": "0.0.0.0"}"#, 422),
        ("POST", peers, r#"{"host": "web.example"}"#, 422),
        ("POST", peers, r#"{"port": 1}"#, 422),
        ("POST", "/durpina/upstreams/none/peers", r#"{"host": "10.0.0.5"}"#, 404),
        ("PATCH", "/durpina/upstreams/web/peers/none", r#"{"weight": 3}"#, 404),
        ("POST", "/durpina/upstreams/web/monitors", r#"{"name": "http"}"#, 409),
        ("POST", "/durpina/upstreams/web/monitors", r#"{"name": "htp"}"#, 422),
        ("POST", "/durpina/upstreams/web/peers/10.0.0.1:80/resolve?force=maybe", "{}", 400),
        ("GET", "/durpina/upstreams/web/peers?selector=some", "", 400),
        ("GET", "/durpina/upstreams/%zz", "", 400),
        ("GET", "/durpina/nothing", "", 404),
        ("POST", "/durpina/nothing", "{}", 404),
        ("PUT", peer, "{}", 405),
        ("POST", "/durpina/upstreams", "{}", 405),
    ] {
        let response = respond(&mut worker, json_body(method, path, body));
        let short = &body[..body.len().min(60)];
        assert_eq!(response.status, expected, "{method} {path} {short}: {}", document(&response));
        assert_eq!(header(&response, "content-type"), Some("application/problem+json"));
        assert_eq!(document(&response)["status"], expected);
    }
    let wrong_type = with("PATCH", peer).header("content-type", "text/html").body(b"{}");
    assert_eq!(status(&mut worker, wrong_type), 415);
    let bytes = with("POST", peers).header("content-type", "application/json").body(b"{\"name\": \"\xff\"}");
    assert_eq!(status(&mut worker, bytes), 400);
    let long = vec![b' '; super::LONGEST_BODY + 1];
    assert_eq!(status(&mut worker, with("PATCH", peer).header("content-type", "application/json").body(&long)), 413);
    let allowed = respond(&mut worker, with("PUT", peer));
    assert_eq!(header(&allowed, "allow"), Some("GET, HEAD, PATCH, DELETE"));
    let invalid = document(&respond(&mut worker, json_body("PATCH", peer, r#"{"weight": 0, "max_fails": "x"}"#)));
    assert_eq!(invalid["errors"].as_array().unwrap().len(), 2);
    assert_eq!(invalid["errors"][0]["place"], "weight");
    assert_eq!(get(&mut worker, "/durpina/upstreams/web"), before);
}

#[test]
fn only_who_may_gets_in() {
    let (_sim, mut worker) = start(CONFIG);
    let path = "/durpina/upstreams";
    let from = |address: &str| Sent::get(path).client(address);
    for (sent, expected) in [
        (from("127.0.0.1"), 401),
        (from("127.0.0.1").header("authorization", "Bearer hunter"), 401),
        (from("127.0.0.1").header("authorization", "Bearer hunter22"), 401),
        (from("127.0.0.1").header("authorization", "Basic hunter2"), 401),
        (from("127.0.0.1").header("authorization", "bearer hunter2"), 200),
        (from("::1").header("authorization", "Bearer hunter2"), 200),
        (from("::ffff:127.0.0.1").header("authorization", "Bearer hunter2"), 403),
        (from("10.0.0.1").header("authorization", "Bearer hunter2"), 403),
        (Sent::get(path).header("authorization", "Bearer hunter2"), 403),
        (Sent::get("/durpina/").client("127.0.0.1"), 200),
        (Sent::get("/durpina/").client("10.0.0.1"), 403),
        (Sent::get("/durpina").client("127.0.0.1"), 308),
        (Sent::get("/durpina/metrics").client("127.0.0.1"), 401),
    ] {
        let shown = format!("{sent:?}");
        let response = respond(&mut worker, sent);
        assert_eq!(response.status, expected, "{shown}");
        assert_eq!(header(&response, "www-authenticate").is_some(), expected == 401);
        assert_eq!(
            (header(&response, "cache-control"), header(&response, "x-content-type-options")),
            (Some("no-store"), Some("nosniff"))
        );
    }
    let (_sim, mut open) = start(&CONFIG.replace(", \"token\": \"hunter2\"", ""));
    assert_eq!(status(&mut open, Sent::get(path).client("127.0.0.1")), 200);
    assert_eq!(status(&mut open, json_body("PATCH", "/durpina/upstreams/web/peers/10.0.0.1:80", "{}")), 403);
    let (_sim, mut wide) = start(&CONFIG.replace("\"token\"", "\"allow\": [\"10.0.0.0/8\", \"::/0\"], \"token\""));
    assert_eq!(status(&mut wide, with("GET", path).client("10.200.0.1")), 200);
    assert_eq!(status(&mut wide, with("GET", path).client("2001:db8::1")), 200);
    assert_eq!(status(&mut wide, with("GET", path).client("11.0.0.1")), 403);
}

#[test]
fn an_address_that_a_header_names_is_nobody_s() {
    let (_sim, mut worker) = start(CONFIG);
    let path = "/durpina/upstreams";
    let forwarded = |address: &str| with("GET", path).forwarded(address);
    for address in ["127.0.0.1", "::1", "10.0.0.1"] {
        let response = respond(&mut worker, forwarded(address));
        assert_eq!(response.status, 403, "{address}");
        let detail = document(&response)["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("use_remote_address: true"), "{detail}");
    }
    assert_eq!(status(&mut worker, Sent::get("/durpina/").forwarded("127.0.0.1")), 403, "nor is the page shown");
    // Where everybody may come, it does not matter who says where from.
    let allow = |networks: &str| CONFIG.replace("\"token\"", &format!("\"allow\": [{networks}], \"token\""));
    let (_sim, mut open) = start(&allow("\"::1\", \"0.0.0.0/0\""));
    assert_eq!(status(&mut open, forwarded("10.0.0.1")), 200);
    assert_eq!(status(&mut open, forwarded("::1")), 403);
    assert_eq!(status(&mut open, Sent::get(path).forwarded("10.0.0.1")), 401, "the token is asked for all the same");
    let (_sim, mut half) = start(&allow("\"0.0.0.0/1\", \"128.0.0.0/1\""));
    assert_eq!(status(&mut half, forwarded("10.0.0.1")), 403);
}

#[test]
fn the_page_is_compressed_for_who_takes_that() {
    let (_sim, mut worker) = start(CONFIG);
    let page = || Sent::get("/durpina/").client("127.0.0.1");
    for sent in [page(), page().header("accept-encoding", "gzip, deflate, br")] {
        let response = respond(&mut worker, sent);
        assert_eq!((response.status, header(&response, "content-encoding")), (200, Some("gzip")));
        assert_eq!(header(&response, "vary"), Some("accept-encoding"));
        assert!(header(&response, "content-security-policy").unwrap().contains("script-src 'sha256-"));
    }
    assert_eq!(status(&mut worker, page().header("accept-encoding", "identity")), 406);
}

#[test]
fn a_web_page_cannot_read_by_giving_its_own_name_this_address() {
    let without_token = |more: &str| CONFIG.replace(", \"token\": \"hunter2\"", more);
    let (_sim, mut worker) = start(&without_token(""));
    let named = |name: &str| Sent::get("/durpina/upstreams").client("127.0.0.1").authority(name);
    for name in ["127.0.0.1", "127.0.0.1:8000", "[::1]:8000", "[::1]", "10.1.2.3:1", "localhost", "LocalHost:8000", ""]
    {
        assert_eq!(status(&mut worker, named(name)), 200, "{name}");
    }
    for name in [
        "evil.example",
        "evil.example:8000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "proxy",
        "[::1",
        "::x",
    ] {
        let response = respond(&mut worker, named(name));
        assert_eq!(response.status, 403, "{name}");
        let detail = document(&response)["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("admin.hosts"), "{detail}");
    }
    assert_eq!(status(&mut worker, Sent::get("/durpina/").client("127.0.0.1").authority("evil.example")), 403);
    let (_sim, mut told) = start(&without_token(", \"hosts\": [\"Proxy.internal\", \"proxy\"]"));
    assert_eq!(status(&mut told, named("proxy.INTERNAL:8001")), 200);
    assert_eq!(status(&mut told, named("proxy")), 200);
    assert_eq!(status(&mut told, named("127.0.0.1:8001")), 200);
    assert_eq!(status(&mut told, named("evil.proxy")), 403);
    // With a token the page's requests are refused for want of it.
    let (_sim, mut safe) = start(CONFIG);
    assert_eq!(status(&mut safe, named("evil.example")), 401);
    assert_eq!(status(&mut safe, with("GET", "/durpina/upstreams").authority("evil.example")), 200);
}

#[test]
fn pages_of_other_origins_change_nothing() {
    let (_sim, mut worker) = start(CONFIG);
    let patch =
        || json_body("PATCH", "/durpina/upstreams/web/peers/10.0.0.1:80", "{\"weight\": 2}").authority("proxy:8000");
    for (name, value, expected) in [
        ("origin", "http://proxy:8000", 200),
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("origin", "http://proxy:8001", 403),
        ("sec-fetch-site", "same-origin", 200),
        ("sec-fetch-site", "same-site", 403),
        ("sec-fetch-site", "cross-site", 403),
    ] {
        assert_eq!(status(&mut worker, patch().header(name, value)), expected, "{name}: {value}");
    }
}

#[test]
fn what_only_looks_like_the_api_goes_where_any_request_goes() {
    let (_sim, mut worker) = start(CONFIG);
    for path in [
        "/durpinax",
        "/durpina/../x",
        "/durpina/%2e%2E/x",
        "//durpina",
        "/x/durpina",
        "/Durpina/",
        "/durpin",
        "/durpina/./x",
    ] {
        assert!(matches!(worker.send(Sent::get(path)), Answer::Served { .. }), "{path}");
    }
    let (_sim, mut none) =
        start(&CONFIG.replace(r#""prefix": "/durpina", "token": "hunter2""#, r#""prefix": "/other""#));
    assert!(matches!(none.send(with("GET", "/durpina/upstreams")), Answer::Served { .. }));
}

#[test]
fn a_change_can_be_made_conditional() {
    let (_sim, mut worker) = start(CONFIG);
    let patch = |tag: &str, weight: u32| {
        json_body("PATCH", "/durpina/upstreams/web/peers/10.0.0.1:80", &format!("{{\"weight\": {weight}}}"))
            .header("if-match", tag)
    };
    assert_eq!(status(&mut worker, patch("\"9\"", 2)), 412);
    let done = respond(&mut worker, patch("\"1\"", 2));
    assert_eq!((done.status, header(&done, "etag")), (200, Some("\"2\"")));
    assert_eq!(status(&mut worker, patch("\"1\"", 3)), 412);
    assert_eq!(status(&mut worker, patch("W/\"2\"", 3)), 412, "weak tags never match");
    assert_eq!(status(&mut worker, patch("*", 3)), 200);
    assert_eq!(status(&mut worker, patch("\"7\", \"3\"", 4)), 200);
}

#[test]
fn secrets_are_in_no_answer_and_no_log() {
    let (sim, mut worker) = start(CONFIG);
    let monitor = r#"{"name": "tcp", "id": "x", "header_Authorization": "s3cret"}"#;
    for sent in [
        with("GET", "/durpina/upstreams"),
        with("GET", "/durpina/upstreams/web/monitors"),
        with("GET", "/durpina/upstreams/web/monitors/http"),
        with("GET", "/durpina/metrics"),
        json_body("POST", "/durpina/upstreams/web/monitors", monitor),
        json_body(
            "POST",
            "/durpina/upstreams/web/monitors",
            r#"{"name": "http", "id": "y", "header_Authorization": "s3cret", "body": "s3cret"}"#,
        ),
    ] {
        let response = respond(&mut worker, sent);
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert!(!text.contains("s3cret") && !text.contains("hunter2"), "{text}");
    }
    let wrong =
        json_body("POST", "/durpina/upstreams/web/monitors", r#"{"name": "http", "id": "z", "method": "s3cret"}"#);
    assert_eq!(status(&mut worker, wrong), 422);
    assert_eq!(status(&mut worker, Sent::get("/durpina/metrics").header("authorization", "Bearer hunter2s3cret")), 403);
    assert!(sim.logged("s3cret").is_empty() && sim.logged("hunter2").is_empty());
}

#[test]
fn what_is_refused_is_a_line_with_who_tried_what_and_what_is_read_is_none() {
    let (sim, mut worker) = start(CONFIG);
    let peer = "/durpina/upstreams/web/peers/10.0.0.2:80";
    assert_eq!(status(&mut worker, with("GET", "/durpina/upstreams")), 200);
    assert_eq!(status(&mut worker, with("GET", "/durpina/upstreams/none")), 404);
    assert_eq!(sim.logged("admin:"), [""; 0]);
    for _ in 0..30 {
        assert_eq!(status(&mut worker, Sent::get(peer).method("DELETE").client("127.0.0.1")), 401);
    }
    assert_eq!(status(&mut worker, with("GET", "/durpina/upstreams").client("10.0.0.9")), 403);
    assert_eq!(status(&mut worker, json_body("PATCH", &format!("{peer}?a"), r#"{"weight": 0, "x": 1}"#)), 422);
    assert_eq!(status(&mut worker, with("A\nB", peer)), 405);
    let unauthorized = format!(
        "admin: client=127.0.0.1 refused: status=401 method=\"DELETE\" path=\"{peer}\" why=\"expected the token of the management API: \
         Authorization: Bearer …\""
    );
    let expected = [
        unauthorized.clone(),
        "admin: client=10.0.0.9 refused: status=403 method=\"GET\" path=\"/durpina/upstreams\" why=\"this address may not use the \
         management API\""
            .to_owned(),
        format!("admin: client=127.0.0.1 refused: status=422 method=\"PATCH\" path=\"{peer}\" why=\"not valid: weight, x\""),
        format!(
            "admin: client=127.0.0.1 refused: status=405 method=\"A\\nB\" path=\"{peer}\" why=\"this address does not take that \
             method\""
        ),
    ];
    assert_eq!(sim.logged("admin:"), expected);
    sim.advance(Duration::from_secs(10));
    worker.tick();
    assert_eq!(sim.logged("more"), [format!("{unauthorized}; 29 more in 10s")]);
}

#[test]
fn monitors_come_and_go() {
    let (sim, mut worker) = start(CONFIG);
    let added = respond(
        &mut worker,
        json_body("POST", "/durpina/upstreams/web/monitors", r#"{"name": "tcp", "interval": "1s", "schedule": "all"}"#),
    );
    assert_eq!((added.status, header(&added, "location")), (201, Some("/durpina/upstreams/web/monitors/tcp")));
    for _ in 0..300 {
        sim.advance(Duration::from_millis(10));
        worker.tick();
        worker.deliver();
    }
    let checks = get(&mut worker, "/durpina/upstreams/web/peers/10.0.0.2:80")["checks"].clone();
    let tcp = checks.as_array().unwrap().iter().find(|check| check["monitor"] == "tcp").unwrap().clone();
    assert_eq!((&tcp["state"], &tcp["result"]), (&json!("up"), &json!("ok")));
    assert_eq!(status(&mut worker, with("DELETE", "/durpina/upstreams/web/monitors/tcp")), 204);
    assert_eq!(status(&mut worker, with("DELETE", "/durpina/upstreams/web/monitors/tcp")), 404);
    let checks = get(&mut worker, "/durpina/upstreams/web/peers/10.0.0.2:80")["checks"].clone();
    assert!(checks.as_array().unwrap().iter().all(|check| check["monitor"] == "http"));
}

#[test]
fn a_monitor_s_verdicts_go_with_it_and_the_log_says_so() {
    let (sim, mut worker) =
        start(&CONFIG.replace("\"name\": \"http\"", "\"name\": \"http\", \"interval\": \"1s\", \"schedule\": \"all\""));
    sim.server("10.0.0.1:80", durpina_sim::Behaviour::Answers(500));
    for _ in 0..400 {
        sim.advance(Duration::from_millis(10));
        worker.tick();
        worker.deliver();
    }
    assert_eq!(get(&mut worker, "/durpina/upstreams/web/peers/10.0.0.1:80")["by"], "monitor http");
    assert_eq!(status(&mut worker, with("DELETE", "/durpina/upstreams/web/monitors/http")), 204);
    assert_eq!(sim.logged("from=down to=up by=operator why=\"monitor http is removed\"").len(), 1);
}

#[test]
fn figures_add_up_over_all_workers() {
    let (sim, mut one) = start(CONFIG);
    let mut two = Worker::start(&sim, CONFIG).unwrap();
    for _ in 0..70 {
        one.send(Sent::get("/"));
        two.send(Sent::get("/"));
    }
    two.tick();
    sim.advance(Duration::from_secs(1));
    two.tick();
    let page = String::from_utf8(respond(&mut one, with("GET", "/durpina/metrics")).body).unwrap();
    assert!(page.contains("durpina_peer_picks_total{upstream=\"web\",peer=\"10.0.0.1:80\"} 100\n"), "{page}");
    assert!(page.contains("durpina_peer_http_responses_total{upstream=\"web\",peer=\"10.0.0.2:80\",code=\"2xx\"} 20\n"));
    assert!(page.contains("durpina_peer_status{upstream=\"a/b\",peer=\"10.1.0.1:80\",state=\"up\"} 1\n"));
    assert!(page.contains("durpina_configuration_generation 1\n"));
    assert_eq!(get(&mut one, "/durpina/upstreams/web/peers/10.0.0.1:80")["picks"], 100);
}

#[test]
fn metrics_tell_what_is_taken_out_from_what_failed() {
    let (sim, mut worker) = start(&CONFIG.replace("\"[::1]:80\"", "\"[::1]:80 drain\""));
    let peer = |n| format!("/durpina/upstreams/web/peers/10.0.0.{n}:80");
    let ordered = json_body("PATCH", &peer(1), r#"{"state": "temporary_down"}"#);
    assert_eq!(status(&mut worker, ordered), 200);
    assert_eq!(status(&mut worker, with("POST", &format!("{}/fail", peer(2)))), 200);
    let mut page = || String::from_utf8(respond(&mut worker, with("GET", "/durpina/metrics")).body).unwrap();
    let all = page();
    assert!(all.contains("durpina_upstream_peers{upstream=\"web\",state=\"temporary_down\"} 2\n"), "{all}");
    assert!(all.contains("durpina_upstream_peers{upstream=\"web\",state=\"draining\"} 1\n"), "{all}");
    assert!(all.contains("# TYPE durpina_upstream_peers_out gauge\n"), "{all}");
    assert!(all.contains("durpina_upstream_peers_out{upstream=\"web\"} 2\n"), "{all}");
    assert!(all.contains("durpina_upstream_peers_out{upstream=\"a/b\"} 0\n"), "{all}");
    sim.advance(Duration::from_secs(10));
    let later = page();
    assert!(later.contains("durpina_upstream_peers_out{upstream=\"web\"} 1\n"), "the order has ended: {later}");
}

#[test]
fn a_failure_can_be_counted() {
    let (sim, mut worker) = start(CONFIG);
    let failed = respond(&mut worker, with("POST", "/durpina/upstreams/web/peers/10.0.0.1:80/fail"));
    let failed = document(&failed);
    assert_eq!(
        (&failed["state"], &failed["fails"], &failed["by"]),
        (&json!("temporary_down"), &json!(1), &json!("passive"))
    );
    let down = get(&mut worker, "/durpina/upstreams/web/peers?selector=temporary_down");
    assert_eq!(down.as_array().unwrap().len(), 1);
    sim.advance(Duration::from_secs(10));
    assert_eq!(get(&mut worker, "/durpina/upstreams/web/peers/10.0.0.1:80")["state"], "up");
}

#[test]
fn many_changes_at_once_all_happen() {
    let (sim, mut worker) = start(CONFIG);
    for weight in 1..50 {
        let host = sim.clone();
        let mut rival = Worker::start(&sim, CONFIG).unwrap();
        sim.interfere(move || {
            let _ = &host;
            let body = format!("{{\"weight\": {weight}}}");
            rival.send(json_body("PATCH", "/durpina/upstreams/web/peers/10.0.0.2:80", &body));
        });
        let body = format!("{{\"weight\": {weight}}}");
        assert_eq!(status(&mut worker, json_body("PATCH", "/durpina/upstreams/web/peers/10.0.0.1:80", &body)), 200);
        let web = get(&mut worker, "/durpina/upstreams/web");
        assert_eq!((&web["peers"][0]["weight"], &web["peers"][1]["weight"]), (&json!(weight), &json!(weight)));
    }
}

#[test]
fn an_upstream_that_no_configuration_has_any_more_is_not_there() {
    let (sim, mut worker) = start(CONFIG);
    let smaller = CONFIG
        .replace(r#","a/b": {"servers": ["10.1.0.1:80"]}"#, "")
        .replace(",\n        \"a/b\": {\"servers\": [\"10.1.0.1:80\"]}", "");
    let mut next = Worker::start(&sim, &smaller).unwrap();
    next.tick();
    assert_eq!(get(&mut worker, "/durpina/upstreams").as_array().unwrap().len(), 1);
    assert_eq!(status(&mut worker, with("GET", "/durpina/upstreams/a%2Fb")), 404);
}

#[test]
fn any_request_is_answered() {
    let (_sim, mut worker) = start(CONFIG);
    let mut random = fastrand::Rng::with_seed(6);
    let bodies = [r#"{"weight": 3, "state": "down"}"#, r#"{"name": "tcp", "interval": 5}"#, "10.0.0.7 weight=2"];
    let paths =
        ["/durpina/upstreams/web/peers", "/durpina/upstreams/web/peers/10.0.0.1:80", "/durpina/upstreams/web/monitors"];
    for _ in 0..5_000 {
        let mut body = bodies[random.usize(..3)].as_bytes().to_vec();
        let mut path = paths[random.usize(..3)].as_bytes().to_vec();
        for _ in 0..random.usize(0..4) {
            let at = random.usize(..body.len());
            body[at] = random.u8(..);
            let at = random.usize(9..path.len());
            path[at] = *random.choice(b"/%?.#&=\xff\x00a0:[").unwrap();
        }
        let method = random.choice(["POST", "PATCH", "DELETE", "GET", "PUT"]).unwrap();
        let kind = random.choice(["application/json", "text/plain"]).unwrap();
        let sent = Sent::bytes(&path).method(method).client("127.0.0.1").header("authorization", "Bearer hunter2");
        worker.send(sent.header("content-type", kind).body(&body));
        if let Some(response) = worker.host.answer() {
            assert!(response.status < 500 || response.status == 503, "{}", response.status);
        }
    }
}
