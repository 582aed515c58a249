//! A real Envoy as a child process.
//!
//! The binary and the filter come from the environment variables `ENVOY` and `DURPINA_WASM`, or from
//! where `make` puts them. Each Envoy has a directory of its own with its configuration, its log and its
//! sockets, and is ended with its owner. Whoever drops an [`Envoy`] also asserts that no filter crashed in
//! it: a panic in wasm is not seen by clients when Envoy reloads the filter, only in the log.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Client;
use super::config::{repository, Config, LINES};
use super::eventually;
use super::ports::Port;
use super::proxy::Proxy;

/// How long an Envoy may take to get ready on a busy machine.
const START: Duration = Duration::from_secs(60);

/// The Envoy binary.
pub fn envoy_binary() -> PathBuf {
    existing("ENVOY", ".venv/bin/envoy")
}

/// The filter under test.
pub fn filter_module() -> PathBuf {
    existing("DURPINA_WASM", "dist/durpina.wasm")
}

/// The same for nginx.
pub fn nginx_filter_module() -> PathBuf {
    existing("DURPINA_NGINX_WASM", "dist/durpina-nginx.wasm")
}

fn existing(variable: &str, default: &str) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(|| repository().join(default), PathBuf::from);
    let path = path.canonicalize().unwrap_or(path);
    assert!(path.is_file(), "{} is missing: `make test` sets it up, or {variable} names another one", path.display());
    path
}

/// How to run an Envoy.
#[derive(Clone)]
pub struct Setup {
    config: Config,
    module: Option<PathBuf>,
    workers: u32,
    port: Option<u16>,
    updatable: bool,
    drain: u32,
    under: Vec<OsString>,
    wasm_log: &'static str,
    may_crash: bool,
}

impl Setup {
    /// One worker, a free port.
    pub fn new(config: Config) -> Setup {
        let (under, wasm_log) = (Vec::new(), "info");
        let (updatable, may_crash) = (false, false);
        Setup { config, module: None, workers: 1, port: None, updatable, drain: 1, under, wasm_log, may_crash }
    }

    #[must_use]
    pub fn workers(mut self, workers: u32) -> Setup {
        self.workers = workers;
        self
    }

    /// Listens on this port if nobody else does.
    #[must_use]
    pub fn prefer_port(mut self, port: u16) -> Setup {
        self.port = Some(port);
        self
    }

    /// Another filter than the one under test.
    #[must_use]
    pub fn module(mut self, module: PathBuf) -> Setup {
        self.module = Some(module);
        self
    }

    /// The listener is in a file that [`Envoy::update`] replaces.
    #[must_use]
    pub fn updatable(mut self) -> Setup {
        self.updatable = true;
        self
    }

    /// Old listeners drain for so many seconds.
    #[must_use]
    pub fn drain(mut self, seconds: u32) -> Setup {
        self.drain = seconds;
        self
    }

    /// Another program runs Envoy, as a debugger does: its name and its arguments.
    #[must_use]
    pub fn under(mut self, program: Vec<OsString>) -> Setup {
        self.under = program;
        self
    }

    /// The level of what Envoy logs about wasm; `info` unless told.
    #[must_use]
    pub fn wasm_log(mut self, level: &'static str) -> Setup {
        self.wasm_log = level;
        self
    }

    /// The filter may crash in it: that is what is tested.
    #[must_use]
    pub fn may_crash(mut self) -> Setup {
        self.may_crash = true;
        self
    }

    /// An Envoy that is ready for requests; fails with its log when it does not get there.
    #[track_caller]
    pub fn start(self) -> Envoy {
        match self.try_start() {
            Ok(envoy) => envoy,
            Err(refusal) => panic!("Envoy does not start ({}):\n{}", refusal.status, refusal.log),
        }
    }

    /// An Envoy that is ready for requests, or what it said when it refused to start.
    pub fn try_start(self) -> Result<Envoy, Refusal> {
        let mut config = self.config.clone();
        let mut ports = vec![self.port.map_or_else(Port::free, Port::prefer)];
        ports.resize_with(config.http_listeners().len(), Port::free);
        let directory = Directory::create();
        let listener_file = directory.path("listener.json");
        self.prepare(&mut config, &ports, &directory);
        if self.updatable {
            let listener = config.split(&listener_file);
            fs::write(&listener_file, listener.to_string()).expect("the listener's file");
        }
        // A program that runs Envoy makes it slower by an order of magnitude.
        let limit = if self.under.is_empty() { START } else { 10 * START };
        let start = Instant::now();
        let mut command = command(&self.under, &directory, &config, &["--use-dynamic-base-id"]);
        command.args(["--drain-time-s", &self.drain.to_string()]);
        command.args(["--concurrency", &self.workers.to_string()]);
        command.args(["--component-log-level", &format!("wasm:{}", self.wasm_log)]);
        // Access logs of tests are looked at at once; Envoy's default is ten seconds.
        command.args(["--file-flush-interval-msec", "20"]);
        command.arg("--admin-address-path").arg(directory.path("admin"));
        // The log goes to stderr: Envoy writes a log file of its own only every ten seconds.
        command.stderr(File::create(directory.path("log")).expect("a file for the log"));
        let mut process = Process::start(&mut command);
        loop {
            if let Some(status) = process.ended() {
                return Err(Refusal { status: status.to_string(), log: directory.log() });
            }
            let admin = fs::read_to_string(directory.path("admin")).ok().and_then(|text| text.trim().parse().ok());
            if let Some(admin) = admin.filter(|admin| is_ready(*admin)) {
                let ready_after = start.elapsed();
                return Ok(Envoy { setup: self, ports, directory, process, admin, ready_after });
            }
            if start.elapsed() > limit {
                return Err(Refusal { status: format!("not ready after {limit:?}"), log: directory.log() });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// What `envoy --mode validate` says.
    pub fn validate(&self) -> Result<(), Refusal> {
        let directory = Directory::create();
        let mut config = self.config.clone();
        self.prepare(&mut config, &[Port::free()], &directory);
        let output = command(&[], &directory, &config, &["--mode", "validate"]).output().expect("Envoy can be started");
        if output.status.success() {
            return Ok(());
        }
        Err(Refusal { status: output.status.to_string(), log: String::from_utf8_lossy(&output.stderr).into_owned() })
    }

    fn prepare(&self, config: &mut Config, ports: &[Port], directory: &Directory) {
        config.module(&self.module.clone().unwrap_or_else(filter_module));
        config.place(&ports.iter().map(Port::addr).collect::<Vec<_>>(), &directory.root);
    }
}

fn command(under: &[OsString], directory: &Directory, config: &Config, arguments: &[&str]) -> Command {
    let file = directory.path("envoy.json");
    fs::write(&file, config.text()).expect("the configuration's file");
    let program: Vec<OsString> = under.iter().cloned().chain([envoy_binary().into()]).collect();
    let mut command = Command::new(&program[0]);
    command.args(&program[1..]);
    command.arg("-c").arg(file).args(["--log-level", "warning"]).args(arguments);
    // In a process group of its own, so that Ctrl-C on a terminal ends it through us and in order.
    command.stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
    command
}

/// Memory that a process has in use, in bytes (resident).
pub fn rss(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux, and a process");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kilobytes");
    kilobytes * 1024
}

fn is_ready(admin: SocketAddr) -> bool {
    Client::new(admin).get("/ready").is_ok_and(|answer| answer.status == 200)
}

/// An Envoy that ended instead of starting.
pub struct Refusal {
    /// How it ended.
    pub status: String,
    pub log: String,
}

/// A running Envoy.
pub struct Envoy {
    setup: Setup,
    /// One for each listener that clients connect to.
    ports: Vec<Port>,
    directory: Directory,
    process: Process,
    admin: SocketAddr,
    ready_after: Duration,
}

impl Envoy {
    /// Where its second listener does.
    pub fn second_addr(&self) -> SocketAddr {
        self.ports[1].addr()
    }

    /// Where its admin pages are.
    pub fn admin_addr(&self) -> SocketAddr {
        self.admin
    }

    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// From the start of the process to its being ready.
    pub fn ready_after(&self) -> Duration {
        self.ready_after
    }

    /// An admin page.
    pub fn admin(&self, page: &str) -> String {
        let answer = Client::new(self.admin).get(page);
        answer.unwrap_or_else(|error| panic!("Envoy's admin page {page}: {error}")).text()
    }

    /// The counters and gauges whose name matches the regular expression.
    pub fn stats(&self, filter: &str) -> BTreeMap<String, u64> {
        let page = self.admin(&format!("/stats?filter={filter}"));
        let pairs = page.lines().filter_map(|line| line.rsplit_once(": "));
        pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// Their sum.
    pub fn stat(&self, filter: &str) -> u64 {
        self.stats(filter).values().sum()
    }

    /// Connections to peers that failed, over all clusters that carry requests.
    pub fn failed_connects(&self) -> u64 {
        self.stat(r"^cluster\.durpina(_\d)?\.upstream_cx_connect_fail$")
    }

    /// Attempts that got no good answer, by peer: refused connections and requests that broke off.
    ///
    /// Envoy forgets a peer that nobody asks for some seconds. Workers write these figures while they are
    /// read, so that one can be off by the requests of that very moment.
    pub fn failed_attempts(&self) -> BTreeMap<String, u64> {
        let page: Value = serde_json::from_str(&self.admin("/clusters?format=json")).expect("JSON from Envoy");
        let mut attempts = BTreeMap::new();
        for cluster in array(&page["cluster_statuses"]) {
            for host in array(&cluster["host_statuses"]) {
                let address = &host["address"]["socket_address"];
                let Some(ip) = address["address"].as_str() else { continue };
                let stat = |name: &str| -> u64 {
                    let stat = array(&host["stats"]).find(|stat| stat["name"] == name);
                    stat.and_then(|stat| stat["value"].as_str()?.parse().ok()).unwrap_or(0)
                };
                // What Envoy calls rq_error leaves out the attempts that it repeated.
                let broken = stat("rq_total").saturating_sub(stat("rq_success") + stat("rq_active"));
                let failed = broken + stat("cx_connect_fail");
                *attempts.entry(format!("{ip}:{}", address["port_value"])).or_default() += failed;
            }
        }
        attempts
    }

    /// The lines that [`Config::lines`] asked for, one for each request that is over.
    pub fn lines(&self) -> Vec<String> {
        let text = fs::read(self.directory.path(LINES)).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// CPU time that the process has used so far, on all its threads.
    pub fn cpu(&self) -> Duration {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("Envoy runs on Linux");
        let nanoseconds = tasks.filter_map(|task| {
            let text = fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            text.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Memory that the process has in use, in bytes (resident).
    pub fn rss(&self) -> u64 {
        rss(self.pid())
    }

    /// Replaces the configuration of a running Envoy that was set up as `updatable`; true if it was accepted.
    #[track_caller]
    pub fn update(&mut self, config: Config) -> bool {
        assert!(self.setup.updatable, "this Envoy was not set up for updates");
        let listener_file = self.directory.path("listener.json");
        self.setup.config = config.clone();
        let mut config = config;
        self.setup.prepare(&mut config, &self.ports, &self.directory);
        let listener = config.split(&listener_file);
        let verdicts = |envoy: &Envoy| {
            let count = |name: &str| envoy.stat(&format!(r"^listener_manager\.lds\.update_{name}$"));
            (count("success"), count("rejected"))
        };
        let before = verdicts(self);
        // Envoy watches for a file that is moved into place, so that it never reads half of one.
        let next = self.directory.path("listener.json.next");
        fs::write(&next, listener.to_string()).expect("the listener's next file");
        fs::rename(&next, &listener_file).expect("the listener's file can be replaced");
        eventually("Envoy takes notice of its new listener", START, || verdicts(self) != before);
        verdicts(self).0 > before.0
    }

    /// Signs of a crashed filter in the log.
    pub fn crashes(&self) -> Vec<String> {
        let signs = ["panicked", "RuntimeError", "Function: proxy_", "assert failure"];
        let is_sign = |line: &&str| signs.iter().any(|sign| line.contains(sign));
        self.log().lines().filter(is_sign).map(str::to_owned).collect()
    }
}

impl Proxy for Envoy {
    fn addr(&self) -> SocketAddr {
        self.ports[0].addr()
    }

    fn log(&self) -> String {
        self.directory.log()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let end = lines[lines.len().saturating_sub(60)..].join("\n");
            eprintln!("--- the end of Envoy's log ---\n{end}");
            return;
        }
        let crashes = self.crashes();
        assert!(crashes.is_empty() || self.setup.may_crash, "a filter crashed:\n{}", crashes.join("\n"));
        if let Some(status) = self.process.ended() {
            panic!("Envoy ended by itself ({status}):\n{}", self.log());
        }
    }
}

/// A child that is ended with its owner, and also when this process is killed before it can do so.
pub(super) struct Process {
    pub(super) child: Child,
    guard: Child,
}

impl Process {
    pub(super) fn start(command: &mut Command) -> Process {
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        // Its standard input ends with us, however we end.
        let mut guard = Command::new("sh");
        guard.args(["-c", &format!("read _; kill -9 {}", child.id())]).process_group(0);
        guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Process { child, guard: guard.spawn().expect("sh can be started") }
    }

    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // First the guard, so that it cannot hit another process with the child's number.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The elements of an array; none of what is not one.
fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A temporary directory of one's own.
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    pub fn create() -> Directory {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short: the path of a Unix socket has room for 107 bytes.
        let root = std::env::temp_dir().join(format!("durpina-{}-{count}", std::process::id()));
        // What a killed process with the same number left behind.
        let _ = fs::remove_dir_all(&root);
        fs::create_dir_all(&root).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
        Directory { root }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// What was logged so far; not always valid UTF-8, as it can hold bytes of a request.
    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("log")).unwrap_or_default()).into_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}
