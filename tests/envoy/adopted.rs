//! Configurations of many kinds, with the filter put in by `durpina envoy`: they validate, start, serve, and fail over, and what was put in
//! comes out to the byte. They are in `tests/data/configurations`, whose README says how to try others.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use regex_lite::Regex;
use serde_json::{json, Value};

use crate::support::client::{Answer, Client, Request};
use crate::support::config::repository;
use crate::support::envoy::{envoy_binary, filter_module, Directory};
use crate::support::ports::Port;
use crate::support::server::Server;
use crate::support::{command_line, eventually, tls};
use crate::PATIENCE;

/// How peers and clients speak.
#[derive(Clone, Copy, PartialEq)]
enum Speech {
    Plain,
    Http2,
    Tls,
}

/// A configuration, and what is done with it.
struct Example {
    /// The bootstrap first.
    files: &'static [&'static str],
    /// Which of its listeners is asked, from 0.
    listener: usize,
    routes: &'static [&'static str],
    path: &'static str,
    host: &'static str,
    headers: &'static [(&'static str, &'static str)],
    clients: Speech,
    peers: Speech,
    monitor: Option<&'static str>,
    /// What the filter JSON calls the headers, if it says that.
    names: Option<[&'static str; 3]>,
    /// Written as JSON first.
    json: bool,
}

/// One that is asked over plain HTTP/1.1 for `/`, as are its servers.
const PLAIN: Example = Example {
    files: &[],
    listener: 0,
    routes: &[],
    path: "/",
    host: "test",
    headers: &[],
    clients: Speech::Plain,
    peers: Speech::Plain,
    monitor: None,
    names: None,
    json: false,
};

/// An Envoy that is killed with its owner.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn envoy(arguments: &[&str], config: &str, log: &str) -> Command {
    let mut command = Command::new(envoy_binary());
    command.args(["-c", config, "--log-level", "warning", "--use-dynamic-base-id", "--concurrency", "1"]);
    command.args(["--component-log-level", "wasm:info"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(log).expect("a log"));
    command
}

pub(crate) fn listens(port: &Port) -> bool {
    std::net::TcpStream::connect(port.addr()).is_ok()
}

/// An Envoy that speaks in another way than what it stands before: a server's or a client's.
struct Relay {
    port: Port,
    _directory: Directory,
    process: Option<Process>,
}

impl Relay {
    fn start(target: std::net::SocketAddr, before: Speech, behind: Speech) -> Relay {
        let (port, directory) = (Port::free(), Directory::create());
        let address = |addr: std::net::SocketAddr| json!({ "socket_address": { "address": "127.0.0.1", "port_value": addr.port() } });
        let http =
            "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
        let router = json!({ "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" });
        let host = json!({ "name": "all", "domains": ["*"], "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "target" } }] });
        let manager = json!({
            "@type": http,
            "stat_prefix": "relay",
            "codec_type": if before == Speech::Http2 { "HTTP2" } else { "AUTO" },
            "http_filters": [{ "name": "router", "typed_config": router }],
            "route_config": { "virtual_hosts": [host] },
        });
        let mut chain = json!({ "filters": [{ "name": "manager", "typed_config": manager }] });
        if before == Speech::Tls {
            chain["transport_socket"] = json!({ "name": "tls", "typed_config": tls::server(&["http/1.1"]) });
        }
        let endpoint = json!({ "endpoint": { "address": address(target) } });
        let mut cluster = json!({
            "name": "target",
            "type": "STATIC",
            "load_assignment": { "cluster_name": "target", "endpoints": [{ "lb_endpoints": [endpoint] }] },
        });
        if behind == Speech::Tls {
            cluster["transport_socket"] = tls::client(&json!({}));
        }
        let listener = json!({ "name": "relay", "address": address(port.addr()), "filter_chains": [chain] });
        let config = json!({ "static_resources": { "listeners": [listener], "clusters": [cluster] } });
        let file = directory.path("relay.json");
        fs::write(&file, config.to_string()).unwrap();
        let log = directory.path("log");
        let process = Process(envoy(&[], &file.to_string_lossy(), &log.to_string_lossy()).spawn().unwrap());
        eventually("a relay listens", PATIENCE, || listens(&port));
        Relay { port, _directory: directory, process: Some(process) }
    }
}

/// A server, and what its clients connect to.
struct Peer {
    server: Server,
    relay: Option<Relay>,
}

impl Peer {
    fn start(name: &str, speech: Speech) -> Peer {
        let server = Server::start(name);
        let relay = (speech != Speech::Plain).then(|| Relay::start(server.addr(), speech, Speech::Plain));
        Peer { server, relay }
    }

    fn addr(&self) -> std::net::SocketAddr {
        self.relay.as_ref().map_or_else(|| self.server.addr(), |relay| relay.port.addr())
    }

    fn die(&mut self) {
        match &mut self.relay {
            Some(relay) => drop(relay.process.take()),
            None => self.server.stop(),
        }
    }
}

/// An example in a directory of its own, with free ports in place of its own, and its servers in place of its hosts.
struct Adapted {
    directory: Directory,
    files: Vec<PathBuf>,
    /// Of its listeners, in their order.
    ports: Vec<Port>,
}

/// Puts a text, which may have lines, in place of a name: on a line of its own in a block, or within double quotes.
fn fill(text: &str, name: &str, value: &str) -> String {
    let line = Regex::new(&format!("(?m)^( +){name}$")).unwrap();
    let block = |found: &regex_lite::Captures<'_>| {
        value.lines().map(|line| format!("{}{line}", &found[1])).collect::<Vec<_>>().join("\n")
    };
    line.replace_all(text, block).replace(name, &value.replace('\n', "\\n"))
}

impl Adapted {
    fn new(example: &Example, server: std::net::SocketAddr) -> Adapted {
        let directory = Directory::create();
        // In YAML of any kind and in JSON, with comments between.
        let address =
            Regex::new(r#"(address"?:\s*"?)([\w.-]+)("?,?\s+(?:#[^\n]*\n\s*)*"?port_value"?:\s*)(\d+)"#).unwrap();
        let mut ports = Vec::new();
        let files: Vec<PathBuf> = example
            .files
            .iter()
            .map(|file| {
                let text = fs::read_to_string(repository().join("tests/data/configurations").join(file)).unwrap();
                let text = fill(&fill(&text, "@CERTIFICATE@", tls::CERTIFICATE), "@KEY@", tls::KEY);
                let text = address.replace_all(&text, |found: &regex_lite::Captures<'_>| {
                    let port = match &found[2] {
                        "0.0.0.0" => {
                            ports.push(Port::free());
                            ports.last().unwrap().addr().port()
                        }
                        // The administration.
                        "127.0.0.1" => 0,
                        _ => server.port(),
                    };
                    format!("{}127.0.0.1{}{port}", &found[1], &found[3])
                });
                let name = file.rsplit('/').next().unwrap();
                let path = directory.path(&if example.json { name.replace("yaml", "json") } else { name.to_owned() });
                let mut text = text.replace("/etc/envoy/", &directory.path("").to_string_lossy());
                if example.json {
                    let value: Value = serde_norway::from_str(&text).unwrap();
                    text = serde_json::to_string_pretty(&value).unwrap();
                }
                fs::write(&path, text).unwrap();
                path
            })
            .collect();
        Adapted { directory, files, ports }
    }

    fn texts(&self) -> Vec<String> {
        self.files.iter().map(|file| fs::read_to_string(file).unwrap()).collect()
    }

    /// Runs `durpina envoy` on the files; gives what it printed.
    #[track_caller]
    fn durpina(&self, arguments: &[String]) -> String {
        let output = command_line().arg("envoy").args(&self.files).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{said}");
        said
    }

    fn path(&self, name: &str) -> String {
        self.directory.path(name).to_string_lossy().into_owned()
    }
}

impl Example {
    fn run(&self) {
        let mut a = Peer::start("a", self.peers);
        let b = Peer::start("b", self.peers);
        let before = Server::start("before");
        let adapted = Adapted::new(self, before.addr());
        let texts = adapted.texts();

        let monitors: Vec<Value> =
            self.monitor.iter().map(|name| json!({ "name": name, "interval": "200ms", "schedule": "all" })).collect();
        let mut filter = json!({
            "upstreams": { "web": { "servers": [a.addr().to_string(), b.addr().to_string()], "monitors": monitors } },
            "upstream": "web",
        });
        if let Some(names) = self.names {
            filter["envoy"]["peer_headers"] = json!(names);
        }
        fs::write(adapted.directory.path("filter.json"), filter.to_string()).unwrap();
        let mut arguments = vec![adapted.path("filter.json"), "--write".to_owned()];
        for (option, value) in
            [("--wasm", filter_module().to_string_lossy().into_owned()), ("--socket", adapted.path("durpina-tcp.sock"))]
        {
            arguments.extend([option.to_owned(), value]);
        }
        arguments.extend(self.routes.iter().flat_map(|route| ["--route".to_owned(), (*route).to_owned()]));
        adapted.durpina(&arguments);
        let written = adapted.texts();
        assert_ne!(written, texts);
        assert!(adapted.durpina(&arguments).contains("nothing to change"), "called again it changes nothing");
        assert_eq!(adapted.texts(), written);

        let checked = command_line().arg("check").args(&adapted.files).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));

        let (config, log) = (adapted.files[0].to_string_lossy().into_owned(), adapted.path("log"));
        let validated = envoy(&["--mode", "validate"], &config, &log).status().unwrap();
        assert!(validated.success(), "{}\n{}", fs::read_to_string(&log).unwrap(), written.join("\n"));

        let process = Process(envoy(&[], &config, &log).spawn().unwrap());
        let port = &adapted.ports[self.listener];
        eventually("Envoy listens", PATIENCE, || listens(port));
        let relay = (self.clients == Speech::Tls).then(|| Relay::start(port.addr(), Speech::Plain, Speech::Tls));
        let mut client = Client::new(relay.as_ref().map_or(port.addr(), |relay| relay.port.addr()));
        self.serves(&mut client, &mut a, &log);
        assert_eq!(before.requests(), 0, "the route leads to durpina alone");
        drop(process);
        let log = fs::read_to_string(&log).unwrap();
        assert!(!log.contains("panicked"), "{log}");

        adapted.durpina(&["--remove".to_owned(), "--write".to_owned()]);
        assert_eq!(adapted.texts(), texts, "to the byte");
    }

    fn ask(&self, client: &mut Client, method: &str) -> Answer {
        let mut request = Request::new(method, self.path).header("host", self.host);
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        if method == "POST" {
            request = request.body("x");
        }
        client.send(&request).expect("an answer")
    }

    /// Both serve; when one dies, no request fails.
    fn serves(&self, client: &mut Client, a: &mut Peer, log: &str) {
        let by = |answer: &Answer| (answer.status, answer.served_by().to_owned());
        let served: Vec<_> = (0..6).map(|_| by(&self.ask(client, "GET"))).collect();
        for name in ["a", "b"] {
            assert!(served.contains(&(200, name.to_owned())), "{served:?}\n{}", fs::read_to_string(log).unwrap());
        }
        assert!(served.iter().all(|(status, _)| *status == 200), "{served:?}");
        a.die();
        if let Some(monitor) = self.monitor {
            // Before any request could: through the clusters that were put in for it, and its socket.
            let by = format!("to=down by=\"monitor {monitor}\"");
            let found = || fs::read_to_string(log).is_ok_and(|log| log.contains(&by));
            eventually("the monitor finds the dead server", PATIENCE, found);
        }
        for method in ["GET", "POST", "GET", "POST", "GET", "POST"] {
            assert_eq!(by(&self.ask(client, method)), (200, "b".to_owned()), "{method}");
        }
    }
}

#[test]
fn front_proxy() {
    let files = &["shop-front.yaml"];
    let routes = &["catalogue/catalogue"];
    Example { files, routes, path: "/catalogue/1", monitor: Some("tcp"), ..PLAIN }.run();
    Example { files, routes: &["orders"], path: "/orders/new", host: "orders.shop.test", ..PLAIN }.run();
}

#[test]
fn front_proxy_over_tls() {
    let files = &["shop-front.yaml"];
    let routes = &["catalogue/catalogue", "catalogue/orders"];
    Example { files, listener: 1, routes, path: "/orders/2", clients: Speech::Tls, ..PLAIN }.run();
}

#[test]
fn websocket() {
    Example { files: &["live.yaml"], routes: &["news/"], monitor: Some("http"), ..PLAIN }.run();
    Example { files: &["live-route.yaml"], routes: &["chat/rooms/"], path: "/rooms/1", ..PLAIN }.run();
}

#[test]
fn grpc() {
    Example { files: &["grpc-bridge.yaml"], routes: &["ledger"], host: "ledger", ..PLAIN }.run();
    // An HTTP/1.1 client of a server of HTTP/2.
    let headers = &[("content-type", "application/grpc")];
    let path = "/ledger.v1.Ledger/Balance";
    Example { files: &["grpc.yaml"], routes: &["ledger"], path, peers: Speech::Http2, headers, ..PLAIN }.run();
}

/// What the filter JSON calls its headers holds in either wiring.
#[test]
fn headers_of_other_names() {
    let names = Some([":durpina-1", ":durpina-2", ":durpina-3"]);
    let files = &["grpc.yaml"];
    let headers = &[("content-type", "application/grpc")];
    Example {
        files,
        routes: &["ledger"],
        path: "/ledger.v1.Ledger/Balance",
        peers: Speech::Http2,
        headers,
        names,
        ..PLAIN
    }
    .run();
    let files = &["live.yaml"];
    Example { files, routes: &["news/"], names: Some(["x-one", "x-two", "x-three"]), ..PLAIN }.run();
    Example { files, routes: &["news/"], names: Some([":x-one", ":x-two", ":x-three"]), ..PLAIN }.run();
}

#[test]
fn cors() {
    let files = &["cors.yaml"];
    Example { files, routes: &["weather"], path: "/open", ..PLAIN }.run();
    // A route with settings of its own, which its copy has too.
    Example { files, routes: &["weather/private"], path: "/private/x", ..PLAIN }.run();
}

/// Listeners, routes and clusters in files of their own.
#[test]
fn dynamic_config_from_files() {
    let files = &["files/bootstrap.yaml", "files/lds.yaml", "files/rds.yaml", "files/cds.yaml"];
    Example { files, routes: &["books/"], monitor: Some("tcp"), ..PLAIN }.run();
    Example { files, routes: &["desk/loans"], listener: 1, path: "/loans/1", ..PLAIN }.run();
}

/// Routes in a file of their own, which two listeners share.
#[test]
fn routes_from_a_file() {
    let files = &["../envoy-rds/envoy.yaml", "../envoy-rds/lds.yaml", "../envoy-rds/rds.yaml", "../envoy-rds/cds.yaml"];
    for listener in [0, 1] {
        let routes = &["shop/api/"];
        Example { files, listener, routes, path: "/api/x", monitor: Some("tcp"), ..PLAIN }.run();
    }
}

#[test]
fn tls() {
    Example { files: &["tls-to-servers.yaml"], routes: &["payroll/"], peers: Speech::Tls, ..PLAIN }.run();
    Example { files: &["tls-from-clients.yaml"], routes: &["tickets/"], clients: Speech::Tls, ..PLAIN }.run();
    let routes = &["letters/"];
    Example { files: &["tls-both.yaml"], routes, clients: Speech::Tls, peers: Speech::Tls, ..PLAIN }.run();
}

#[test]
fn access_control() {
    let headers = &[("x-badge", "staff-12")];
    Example { files: &["access.yaml"], routes: &["archive/"], headers, ..PLAIN }.run();
}

#[test]
fn chain_of_two_proxies() {
    Example { files: &["chain-edge.yaml"], routes: &["everything"], ..PLAIN }.run();
    Example { files: &["chain-inner.yaml"], routes: &["application"], path: "/app/x", ..PLAIN }.run();
}

#[test]
fn written_in_other_ways() {
    Example { files: &["comments.yaml"], routes: &["photos/small/"], path: "/small/1", ..PLAIN }.run();
    Example { files: &["flow.yaml"], routes: &["links/"], monitor: Some("http"), ..PLAIN }.run();
}

/// What rejects requests goes on doing so, before durpina picks anybody.
#[test]
fn local_rate_limit() {
    let files = &["rate-limit.yaml"];
    let example = Example { files, routes: &["search/"], ..PLAIN };
    let (mut a, b) = (Peer::start("a", Speech::Plain), Peer::start("b", Speech::Plain));
    let before = Server::start("before");
    let adapted = Adapted::new(&example, before.addr());
    let texts = adapted.texts();
    let filter = json!({ "upstreams": { "web": { "servers": [a.addr().to_string(), b.addr().to_string()] } }, "upstream": "web" });
    fs::write(adapted.directory.path("filter.json"), filter.to_string()).unwrap();
    let wasm = filter_module().to_string_lossy().into_owned();
    let arguments = ["--route", "search/", "--wasm", &wasm, "--write", &adapted.path("filter.json")].map(str::to_owned);
    adapted.durpina(&arguments);
    let (config, log) = (adapted.files[0].to_string_lossy().into_owned(), adapted.path("log"));
    assert!(envoy(&["--mode", "validate"], &config, &log).status().unwrap().success());
    let process = Process(envoy(&[], &config, &log).spawn().unwrap());
    eventually("Envoy listens", PATIENCE, || listens(&adapted.ports[0]));
    let mut client = Client::new(adapted.ports[0].addr());
    a.die();
    // Two requests have a token, and durpina's retry takes none.
    let served: Vec<(u16, String)> = (0..4)
        .map(|_| client.get("/").expect("an answer"))
        .map(|answer| (answer.status, answer.served_by().to_owned()))
        .collect();
    let (good, rejected) = ((200, "b".to_owned()), (429, String::new()));
    assert_eq!(served, [good.clone(), good, rejected.clone(), rejected]);
    assert_eq!(b.server.requests(), 2);
    drop(process);
    adapted.durpina(&["--remove".to_owned(), "--write".to_owned()]);
    assert_eq!(adapted.texts(), texts, "to the byte");
}

#[test]
fn json() {
    let path = "/tenants/7";
    Example { files: &["gateway.json"], routes: &["tenants/tenants"], path, monitor: Some("tcp"), ..PLAIN }.run();
    // The keys of the YAML come in another order, and its listeners do not.
    let (files, routes) = (&["shop-front.yaml"], &["catalogue/catalogue"]);
    Example { files, routes, path: "/catalogue/1", monitor: Some("tcp"), json: true, ..PLAIN }.run();
}

fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        if path.is_dir() && !path.is_symlink() {
            found.extend(below(&path));
        } else if matches!(ending, Some("yaml" | "yml" | "json")) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Configurations of others, in a directory that `ENVOY_EXAMPLES` names: what this Envoy accepts, it accepts with the filter, too.
#[test]
fn configurations_of_others() {
    // Also without `--nocapture`.
    let say = |line: &str| writeln!(std::io::stderr(), "{line}").unwrap();
    let Some(root) = std::env::var_os("ENVOY_EXAMPLES") else {
        say("skipped: ENVOY_EXAMPLES names no directory with configurations of others");
        return;
    };
    let directory = Directory::create();
    let path = |name: &str| directory.path(name).to_string_lossy().into_owned();
    let filter = json!({ "upstreams": { "web": { "servers": ["127.0.0.1:1"], "monitors": [{ "name": "http" }, { "name": "tcp" }] } }, "upstream": "web" });
    fs::write(path("filter.json"), filter.to_string()).unwrap();
    let known = Regex::new(r"there are (\S+?)(?:,|\s|$)").unwrap();
    let (mut done, mut refused, mut without) = (0, 0, 0);
    for original in below(Path::new(&root)) {
        let ending = original.extension().unwrap().to_string_lossy();
        let config = path(&format!("envoy.{ending}"));
        let Ok(text) = fs::read_to_string(&original) else { continue };
        fs::write(&config, &text).unwrap();
        let (filter, wasm, socket) = (path("filter.json"), filter_module(), path("tcp.sock"));
        let durpina = |more: &[&str]| {
            let mut command = command_line();
            command.args(["envoy", &config, &filter, "--socket", &socket, "--wasm"]).arg(&wasm).args(more);
            let output = command.output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (_, said) = durpina(&[]);
        let Some(route) = known.captures(&said).map(|found| found[1].to_owned()) else {
            without += 1;
            continue;
        };
        // With the names of files that it has.
        let validates = || {
            let mut command = envoy(&["--mode", "validate"], &config, &path("log"));
            command.current_dir(original.parent().unwrap()).status().unwrap().success()
        };
        if !validates() {
            say(&format!("this Envoy alone refuses {}", original.display()));
            refused += 1;
            continue;
        }
        let (written, said) = durpina(&["--route", &route, "--write"]);
        if !written {
            say(&format!("durpina envoy refuses {}: {said}", original.display()));
            refused += 1;
            continue;
        }
        let log = || fs::read_to_string(path("log")).unwrap();
        assert!(validates(), "{}, route {route}: {}", original.display(), log());
        let removed = command_line().args(["envoy", &config, "--remove", "--write"]).output().unwrap();
        assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
        assert!(fs::read_to_string(&config).unwrap() == text, "{}: to the byte", original.display());
        done += 1;
    }
    say(&format!("{done} validate with the filter, {refused} refused, {without} are no whole configuration with a route to one cluster"));
    assert!(done > 0, "nothing was tried");
}
