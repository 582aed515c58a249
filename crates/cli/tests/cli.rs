//! The command `durpina` as a person or a script runs it: what it asks of the management API, what it prints, and its
//! exit codes.
//!
//! The API is a server in this process that answers what a test tells it, and records what it was asked.

#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The core has no threads; the server in here has one.
#![allow(clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

const PEER: &str = r#"{"name": "10.0.0.1:80", "address": "10.0.0.1", "weight": 5, "state": "up", "in_use": true, "host": "10.0.0.1", "port": 80,
 "addresses": ["10.0.0.1"], "initial_weight": 5, "effective_weight": 5.0, "by": null, "why": null, "since": null,
 "until": null, "fails": 0, "max_fails": 1, "fail_timeout": "10s", "max_conns": 0, "slow_start": "0ms", "backup": false,
 "configured": true, "in_flight": 2, "picks": 1234, "failures": 3, "checks": [], "description": null}"#;

const FAILED_PEER: &str = r#"{"name": "[::1]:8080", "address": "::1", "weight": 1, "state": "temporary_down", "by": "passive",
 "why": "connection refused", "in_use": false, "until": "2026-11-22T10:45:31.250Z", "fails": 1, "in_flight": 0, "picks": 7}"#;

/// What the API was asked.
#[derive(Clone, Debug, Default)]
struct Request {
    /// Method and target.
    line: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }
}

/// A management API that gives every request the same answer.
struct Api {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Api {
    fn answering(status: &str, content_type: &str, body: &str) -> Self {
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        Self::raw(answer)
    }

    fn json(body: &str) -> Self {
        Self::answering("200 OK", "application/json", body)
    }

    fn problem(status: &str, body: &str) -> Self {
        Self::answering(status, "application/problem+json", body)
    }

    fn raw(answer: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&requests);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let request = read(&connection);
                record.lock().unwrap().push(request);
                connection.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { address, requests }
    }

    fn url(&self) -> String {
        format!("http://{}/durpina", self.address)
    }

    /// Runs a command against this API.
    fn durpina(&self, arguments: &[&str]) -> Outcome {
        durpina(arguments, &[("DURPINA_URL", &self.url())])
    }

    /// The only request there was.
    fn request(&self) -> Request {
        let requests = self.requests.lock().unwrap();
        assert_eq!(requests.len(), 1, "a command asks once: {requests:?}");
        requests[0].clone()
    }
}

fn read(connection: &TcpStream) -> Request {
    let mut reader = BufReader::new(connection);
    let mut next = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let mut request = Request { line: next(), ..Request::default() };
    loop {
        let line = next();
        let Some((name, value)) = line.split_once(':') else { break };
        request.headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request.body = String::from_utf8(body).unwrap();
    request
}

#[derive(Debug)]
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// Ended with this code, and what a person sees is where it belongs: what was asked for, or what went wrong.
    #[track_caller]
    fn expect(&self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!((self.code, self.stdout.as_str(), self.stderr.as_str()), (code, stdout, stderr));
    }
}

/// Runs the command with these variables and none of the caller's that it reads.
fn durpina(arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let output = Command::new(env!("CARGO_BIN_EXE_durpina"))
        .args(arguments)
        .env_remove("DURPINA_URL")
        .env_remove("DURPINA_TOKEN")
        // Help is as wide as the caller's terminal.
        .env_remove("COLUMNS")
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let shown = Outcome {
        code: output.status.code().expect("it ends by itself"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    for (_, token) in variables.iter().filter(|(name, _)| *name == "DURPINA_TOKEN") {
        assert!(!shown.stdout.contains(token) && !shown.stderr.contains(token), "the token is shown: {shown:?}");
    }
    shown
}

#[test]
fn peers_are_a_table() {
    let api = Api::json(&format!("[{PEER}, {FAILED_PEER}]"));
    api.durpina(&["peers", "web"]).expect(
        0,
        "\
PEER         ADDRESS   STATE           IN-USE  WEIGHT  FAILS  IN-FLIGHT  PICKS  WHY
10.0.0.1:80  10.0.0.1  up              yes          5      0          2   1234
[::1]:8080   ::1       temporary_down  no           1      1          0      7  passive: connection refused, until 2026-11-22T10:45:31.250Z
",
        "",
    );
    let request = api.request();
    assert_eq!(request.line, "GET /durpina/upstreams/web/peers HTTP/1.1");
    assert_eq!(request.header("authorization"), None);
    assert_eq!(request.header("host"), Some(api.address.to_string().as_str()));
}

#[test]
fn json_comes_out_as_it_came_in() {
    let json = format!("[{PEER},\n\t{FAILED_PEER}]");
    Api::json(&json).durpina(&["peers", "web", "--json"]).expect(0, &format!("{json}\n"), "");
}

#[test]
fn json_is_harmless_in_a_terminal() {
    // A line feed and an escape cannot stand in a JSON string as they are; these can.
    let json = format!("[{}]", PEER.replace("\"up\"", "\"u\u{9b}2Jp\u{7f}\u{202e}\""));
    let outcome = Api::json(&json).durpina(&["peers", "web", "--json"]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert!(outcome.stdout.contains(r#""u\u009b2Jp\u007f\u202e""#), "{outcome:?}");
    let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(value(&outcome.stdout), value(&json), "it is the same document");

    let table = Api::json(&json).durpina(&["peers", "web"]);
    assert!(table.stdout.contains(" u\u{fffd}2Jp\u{fffd}\u{fffd} "), "{table:?}");
}

#[test]
fn names_and_selectors_are_encoded() {
    let api = Api::json("[]");
    api.durpina(&["peers", "a/b ü?", "--selector", "down&x"]).expect(
        0,
        "PEER  ADDRESS  STATE  IN-USE  WEIGHT  FAILS  IN-FLIGHT  PICKS  WHY\n",
        "",
    );
    assert_eq!(api.request().line, "GET /durpina/upstreams/a%2Fb%20%C3%BC%3F/peers?selector=down%26x HTTP/1.1");
}

#[test]
fn the_token_is_sent_and_never_shown() {
    for (arguments, variables) in [
        (["info", "--token", "s3cret"].as_slice(), [].as_slice()),
        (&["info"], &[("DURPINA_TOKEN", "s3cret")]),
        (&["info", "--token=s3cret"], &[("DURPINA_TOKEN", "another")]),
    ] {
        let api =
            Api::problem("401 Unauthorized", r#"{"title": "Unauthorized", "status": 401, "detail": "wrong token"}"#);
        let url = api.url();
        let variables = [variables, &[("DURPINA_URL", url.as_str())]].concat();
        durpina(arguments, &variables).expect(3, "", "durpina: Unauthorized: wrong token\n");
        assert_eq!(api.request().header("authorization"), Some("Bearer s3cret"));
    }
}

#[test]
fn info_shows_one_upstream_or_all() {
    let kept = FAILED_PEER.replace(r#""in_use": false"#, r#""in_use": true"#);
    let upstream = format!(
        r#"{{"name": "web", "revision": 7, "peers": [{PEER}, {kept}], "monitors": [{{"id": "http", "name": "http", "interval": "5s",
        "timeout": "1s", "schedule": "rotate", "rise": 2, "fall": 3, "peers": "all", "port": null, "url": "/up"}}],
        "state": "degraded", "since": "2026-11-22T10:45:21.250Z", "by": "passive", "why": "peer [::1]:8080: no connection",
        "peers_up": 1, "peers_out": 0,
        "balancer": "round-robin", "retries": 2, "max_ejected_percent": 50}}"#
    );
    let api = Api::json(&upstream);
    api.durpina(&["info", "web"]).expect(
        0,
        "\
web: degraded (1 of 2 up) since 2026-11-22T10:45:21.250Z, by passive: peer [::1]:8080: no connection
revision 7, balancer round-robin, retries 2

PEER         ADDRESS   STATE           IN-USE  WEIGHT  FAILS  IN-FLIGHT  PICKS  WHY
10.0.0.1:80  10.0.0.1  up              yes          5      0          2   1234
[::1]:8080   ::1       temporary_down  kept         1      1          0      7  passive: connection refused, until 2026-11-22T10:45:31.250Z

MONITOR  KIND  INTERVAL  TIMEOUT  RISE  FALL  SCHEDULE
http     http        5s       1s     2     3  rotate
",
        "",
    );
    assert_eq!(api.request().line, "GET /durpina/upstreams/web HTTP/1.1");

    let api = Api::json(&format!("[{upstream}]"));
    api.durpina(&["info"]).expect(
        0,
        "\
UPSTREAM  STATE      UP  OUT  REVISION  MONITORS  BALANCER     WHY
web       degraded  1/2    0         7         1  round-robin  passive: peer [::1]:8080: no connection
",
        "",
    );
    assert_eq!(api.request().line, "GET /durpina/upstreams HTTP/1.1");
}

#[test]
fn a_peer_is_added_as_nginx_writes_it() {
    for arguments in [["add", "web", "10.0.0.1:80 weight=5"].as_slice(), &["add", "web", "10.0.0.1:80", "weight=5"]] {
        let api = Api::answering("201 Created", "application/json", PEER);
        let added = api.durpina(arguments);
        assert_eq!(
            (added.code, added.stdout.lines().nth(1).map(|line| &line[..11])),
            (0, Some("10.0.0.1:80")),
            "{added:?}"
        );
        let request = api.request();
        assert_eq!(request.line, "POST /durpina/upstreams/web/peers HTTP/1.1");
        assert_eq!(request.header("content-type"), Some("text/plain"));
        assert_eq!(request.body, "10.0.0.1:80 weight=5");
    }
}

#[test]
fn a_peer_is_removed() {
    for (arguments, said) in [
        (["remove", "web", "[::1]:80"].as_slice(), "removed [::1]:80 from web\n"),
        // There is no JSON in this answer.
        (&["remove", "web", "[::1]:80", "--json"], ""),
    ] {
        let api = Api::raw("HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n".to_owned());
        api.durpina(arguments).expect(0, said, "");
        let request = api.request();
        assert_eq!(request.line, "DELETE /durpina/upstreams/web/peers/%5B%3A%3A1%5D%3A80 HTTP/1.1");
        assert_eq!(request.body, "");
    }
}

#[test]
fn weight_and_state_change_a_peer() {
    for (arguments, body) in [
        (["weight", "web", "10.0.0.1:80", "5"], r#"{"weight":5}"#),
        (["state", "web", "10.0.0.1:80", "temporary_down"], r#"{"state":"temporary_down"}"#),
    ] {
        let api = Api::json(PEER);
        let changed = api.durpina(&arguments);
        assert_eq!((changed.code, changed.stdout.lines().count(), changed.stderr.as_str()), (0, 2, ""), "{changed:?}");
        let request = api.request();
        assert_eq!(request.line, "PATCH /durpina/upstreams/web/peers/10.0.0.1%3A80 HTTP/1.1");
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.body, body);
    }
}

#[test]
fn every_error_of_a_refusal_has_its_line() {
    let api = Api::problem(
        "422 Unprocessable Content",
        r#"{"type": "about:blank", "title": "Unprocessable Content", "status": 422, "detail": "weight: expected more\nfail_timeout: expected a time",
            "errors": [{"place": "weight", "message": "expected more"}, {"place": "fail_timeout", "message": "expected a time"}]}"#,
    );
    api.durpina(&["add", "web", "10.0.0.1 weight=0 fail_timeout=x", "--json"]).expect(
        3,
        "",
        "durpina: Unprocessable Content\n  weight: expected more\n  fail_timeout: expected a time\n",
    );
}

#[test]
fn what_fails_behind_the_api_is_not_a_refusal() {
    let api =
        Api::problem("503 Service Unavailable", r#"{"title": "Service Unavailable", "detail": "shared data is full"}"#);
    api.durpina(&["info"]).expect(4, "", "durpina: Service Unavailable: shared data is full\n");

    for (status, reason) in [
        ("404 Not Found", "is not the management API: status 404, text/html. Is the URL right?"),
        ("200 OK", "is not the management API: status 200, text/html. Is the URL right?"),
        ("502 Bad Gateway", "answered with status 502, and without a reason (text/html)"),
    ] {
        let api = Api::answering(status, "text/html", "<html>");
        let message = format!("durpina: {}/upstreams {reason}\n", api.url());
        for arguments in [["info"].as_slice(), &["info", "--json"]] {
            api.durpina(arguments).expect(4, "", &message);
        }
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Api::json("[]");
    let location = elsewhere.url();
    let api = Api::raw(format!(
        "HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    ));
    assert_eq!(api.durpina(&["info", "--token", "s3cret"]).code, 4);
    assert!(elsewhere.requests.lock().unwrap().is_empty(), "the token went elsewhere");
}

#[test]
fn a_proxy_of_the_environment_is_not_asked() {
    let api = Api::json("[]");
    let proxy = Api::json("[]");
    let (url, proxy_url) = (api.url(), format!("http://{}", proxy.address));
    let variables = [("DURPINA_URL", url.as_str()), ("HTTP_PROXY", &proxy_url), ("ALL_PROXY", &proxy_url)];
    assert_eq!(durpina(&["peers", "web"], &variables).code, 0);
    assert_eq!(api.requests.lock().unwrap().len(), 1);
    assert!(proxy.requests.lock().unwrap().is_empty(), "the token could be seen by a proxy");
}

#[test]
fn nobody_there() {
    // Bound and given back: nobody listens on this port.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{address}/durpina");
    let outcome = durpina(&["info", "--url", &url], &[("DURPINA_TOKEN", "s3cret")]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (4, ""));
    assert!(outcome.stderr.starts_with(&format!("durpina: cannot reach {url}: Connection refused")), "{outcome:?}");
}

#[test]
fn somebody_who_never_answers() {
    // The kernel accepts the connection, and nobody reads from it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/durpina", listener.local_addr().unwrap());
    let silence = format!("durpina: no answer from {url} within 200ms");
    durpina(&["info", "--timeout", "200ms", "--url", &url], &[]).expect(4, "", &format!("{silence}\n"));
    durpina(&["remove", "web", "p", "--timeout", "200ms", "--url", &url], &[]).expect(
        4,
        "",
        &format!("{silence}; the change may have been made\n"),
    );
}

#[test]
fn help_goes_to_the_output_and_mistakes_do_not() {
    let help = durpina(&["--help"], &[]);
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    assert!(help.stdout.contains("Exit codes:\n  0  done\n"), "{}", help.stdout);
    let weight = durpina(&["weight", "--help"], &[]);
    assert!(weight.stdout.contains("\n\nUsage: durpina weight [OPTIONS] <UPSTREAM> <PEER> <N>\n"), "{weight:?}");
    durpina(&["--version"], &[]).expect(0, concat!("durpina ", env!("CARGO_PKG_VERSION"), "\n"), "");

    for arguments in [
        [].as_slice(),
        &["piers"],
        &["peers"],
        &["remove", "web", ""],
        &["info", "--verbose"],
        &["info", "--url", "localhost"],
    ] {
        let outcome = durpina(arguments, &[]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(outcome.stderr.contains("Usage: durpina "), "{outcome:?}");
    }
}

/// Variables that would break every command that calls the API.
const NO_API: &[(&str, &str)] = &[("DURPINA_URL", "no URL"), ("DURPINA_TOKEN", "s3\ncret")];

const COMMANDS: [&str; 12] = [
    "peers",
    "info",
    "add",
    "remove",
    "weight",
    "state",
    "check",
    "nginx-config",
    "completions",
    "man",
    "help",
    "version",
];

#[test]
fn completions_and_the_manual_page_need_no_api() {
    assert_eq!(durpina(&["info"], NO_API).code, 2, "these variables would break a call");

    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = durpina(&["completions", shell], NO_API);
        assert_eq!((script.code, script.stderr.as_str()), (0, ""), "{shell}");
        for command in COMMANDS {
            assert!(script.stdout.contains(command), "the script for {shell} lacks {command}");
        }
    }

    let page = durpina(&["man"], NO_API);
    assert_eq!((page.code, page.stderr.as_str()), (0, ""));
    assert!(page.stdout.starts_with(".ie ") && page.stdout.contains("\n.TH durpina 1 "), "{}", page.stdout);
    for command in COMMANDS {
        assert!(page.stdout.contains(&format!("\n.SS \"durpina {command}\"\n")), "the page lacks {command}");
    }

    for arguments in [["completions", "tcsh"].as_slice(), &["completions"], &["man", "peers"], &["man", "--json"]] {
        let outcome = durpina(arguments, NO_API);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(outcome.stderr.contains("Usage: durpina "), "{outcome:?}");
    }
}

#[test]
fn bash_completes_with_the_script() {
    let Ok(found) = Command::new("bash").args(["-c", ":"]).status() else {
        println!("skipped: there is no bash");
        return;
    };
    assert!(found.success());
    let script = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("completions.bash");
    std::fs::write(&script, durpina(&["completions", "bash"], &[]).stdout).unwrap();
    let syntax = Command::new("bash").arg("-n").arg(&script).output().unwrap();
    assert!(syntax.status.success() && syntax.stderr.is_empty(), "{syntax:?}");

    // As bash calls the function: the command, the word to complete, the word before it.
    let complete = |words: &[&str]| {
        let output = Command::new("bash")
            .arg("-c")
            .arg(
                r#"source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _durpina durpina "${@: -1}" "${@: -2:1}"
                printf '%s\n' "${COMPREPLY[@]}""#,
            )
            .arg(&script)
            .arg("durpina")
            .args(words)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = complete(&[""]);
    assert!(COMMANDS.iter().all(|command| all.iter().any(|word| word == command)), "{all:?}");
    assert_eq!(complete(&["pe"]), ["peers"]);
    assert_eq!(complete(&["state", "web", "10.0.0.1:80", "d"]), ["down", "drain"]);
    assert_eq!(complete(&["peers", "web", "--selector", "p"]), ["permanent_down"]);
    assert_eq!(complete(&["weight", "--to"]), ["--token"]);
    assert_eq!(complete(&["completions", "b"]), ["bash"]);
}

#[test]
fn the_documentation_names_what_there_is() {
    let text = include_str!("../../../docs/command-line.md");
    for command in COMMANDS {
        let help = durpina(&[command, "--help"], &[]).stdout;
        assert!(
            text.contains(&format!("\ndurpina {command} ")) || text.contains(&format!("\ndurpina {command}\n")),
            "{command}"
        );
        let words = help.split(|c: char| !(c.is_ascii_lowercase() || c == '-')).filter(|word| word.starts_with("--"));
        for option in words.filter(|option| !["--help", "--version"].contains(option)) {
            assert!(
                text.contains(&format!("`{option}")) || text.contains(&format!("[{option} ")),
                "{command} {option}"
            );
        }
    }
    for line in durpina(&["--help"], &[]).stdout.split("Exit codes:\n").nth(1).unwrap().lines() {
        let (code, meaning) = line.trim().split_once("  ").unwrap();
        let row = text.lines().find(|row| row.starts_with(&format!("| {code} | ")));
        assert!(row.is_some_and(|row| row.replace('`', "").contains(meaning)), "exit code {code}: {meaning}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_durpina")).arg("man").stdout(full).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.starts_with("durpina: cannot write the output: No space left on device"), "{said}");
}

#[cfg(unix)]
#[test]
fn nobody_has_to_read_the_output() {
    use std::os::{fd::OwnedFd, unix::net::UnixStream};
    let (output, reader) = UnixStream::pair().unwrap();
    drop(reader);
    let output = Command::new(env!("CARGO_BIN_EXE_durpina")).arg("man").stdout(OwnedFd::from(output)).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn check_reads_the_standard_input() {
    let check = |json: &str| {
        let mut process = Command::new(env!("CARGO_BIN_EXE_durpina"))
            .args(["check", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        process.stdin.take().unwrap().write_all(json.as_bytes()).unwrap();
        let output = process.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let good = r#"{"upstreams": {"web": {"servers": ["10.0.0.1"]}}, "upstream": "web"}"#;
    assert_eq!(check(good), (Some(0), "-: good. 1 upstreams with 1 servers, 1 routes\n".to_owned()));
    let (code, said) = check("{");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.ends_with("\n-: 1 errors\n"), "{said}");
}

#[test]
fn check_tells_good_from_bad() {
    let directory = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        path.into_os_string().into_string().unwrap()
    };
    let good = file("good.json", r#"{"upstreams": {"web": {"servers": ["10.0.0.1"]}}, "upstream": "web"}"#);
    durpina(&["check", &good], &[]).expect(0, &format!("{good}: good. 1 upstreams with 1 servers, 1 routes\n"), "");

    let own = file(
        "own.json",
        r#"{"upstreams": {"web": {"servers": [], "balancer": {"name": "in-order", "key": "$uri", "deep": {"a": [1]}},
            "monitors": [{"name": "ready", "url": 7, "panics": true}]}}, "upstream": "web"}"#,
    );
    let names = ["check", "--monitor", "ready", "--monitor", "other", "--balancer", "in-order", &own];
    durpina(&names, &[]).expect(0, &format!("{own}: good. 1 upstreams with 0 servers, 1 routes\n"), "");
    let outcome = durpina(&["check", "--monitor", "ready", &own], &[]);
    assert!(
        outcome.code == 1 && outcome.stdout.starts_with("upstreams.web.balancer.name: expected one of"),
        "{outcome:?}"
    );
    let outcome = durpina(&["check", "--monitor", "http", &good], &[]);
    assert_eq!(outcome.stdout, format!("configuration: there is a monitor \"http\" already\n{good}: 1 errors\n"));

    let bad = file("bad.json", r#"{"upstreams": {"web": {"servers": ["10.0.0.1 weight=0"]}}}"#);
    let outcome = durpina(&["check", &bad], &[]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
    assert!(outcome.stdout.starts_with("upstreams.web.servers[0].weight: expected an integer"), "{outcome:?}");
    assert!(outcome.stdout.ends_with(&format!("\n{bad}: 1 errors\n")), "{outcome:?}");

    let json = r#"{"upstreams": {"web": {"servers": ["10.0.0.1 \u009b2J"]}}}"#;
    let outcome = durpina(&["check", &file("control.json", json)], &[]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (1, ""));
    assert!(outcome.stdout.contains("\u{fffd}2J") && !outcome.stdout.contains('\u{9b}'), "{outcome:?}");

    let absent = directory.join("absent.json").into_os_string().into_string().unwrap();
    let outcome = durpina(&["check", &absent], &[]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""));
    assert!(outcome.stderr.starts_with(&format!("{absent}: No such file")), "{outcome:?}");
}

#[test]
fn a_configuration_for_nginx_is_written() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("nginx.json");
    let file = path.to_str().unwrap();
    std::fs::write(&path, r#"{"upstreams": {"web": {"servers": ["10.0.0.1:81 weight=5"]}}, "upstream": "web"}"#)
        .unwrap();
    for conf in ["any-address", "keepalive", "sticky-route", "streaming"] {
        let outcome = durpina(&["nginx-config", file, "--conf", conf], NO_API);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{conf}");
        assert!(
            outcome.stdout.starts_with(&format!("# Written by `durpina nginx-config --conf {conf}`")),
            "{outcome:?}"
        );
        assert!(outcome.stdout.contains(r#"'{"upstreams": {"web": {"servers": ["10.0.0.1:81 weight=5"]}}"#), "{conf}");
        assert!(!outcome.stdout.contains("127.0.0.1:808"), "no server of the example is left: {conf}");
        assert_eq!(durpina(&["nginx-config", "--conf", conf, file], NO_API).stdout, outcome.stdout, "the same again");
    }
    let keepalive = durpina(&["nginx-config", file], NO_API).stdout;
    assert!(keepalive.contains("        '10.0.0.1:81' durpina_1;\n"), "{keepalive}");

    std::fs::write(&path, r#"{"upstreams": {"web": {"servers": ["10.0.0.1 weight=0"]}}}"#).unwrap();
    let outcome = durpina(&["nginx-config", file], NO_API);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "nothing that could be taken for a configuration");
    assert!(outcome.stderr.starts_with("upstreams.web.servers[0].weight: expected an integer"), "{outcome:?}");
    let outcome = durpina(&["nginx-config", "absent.json"], NO_API);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""));
    let outcome = durpina(&["nginx-config", file, "--conf", "fastest"], NO_API);
    assert!(outcome.code == 2 && outcome.stderr.contains("sticky-route"), "{outcome:?}");
}
