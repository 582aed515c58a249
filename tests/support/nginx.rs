//! A real nginx with ngx_wasm_module as a child process.
//!
//! The environment variable `NGINX` names the binary, `DURPINA_WASM` the filter. Each nginx runs what `durpina nginx-config` writes
//! from one of the files in `nginx-wasm/`, with the few places changed that a test has to change: ports, paths, how many
//! workers. A change that finds nothing to change is an error. Whoever drops an [`Nginx`] also asserts that no filter
//! crashed in it and that no worker died, unless the test did that itself.

use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use super::client::connect;
use super::envoy::{nginx_filter_module, Directory, Process};
use super::proxy::Proxy;
use super::{command_line, eventually};

/// How long an nginx may take to get ready on a busy machine.
const START: Duration = Duration::from_secs(60);

/// The nginx under test.
pub fn nginx_binary() -> PathBuf {
    let path = std::env::var_os("NGINX").map(PathBuf::from);
    let path = path.expect("NGINX names no nginx: make test-nginx NGINX=/path/to/nginx");
    assert!(path.is_file(), "{}, which NGINX names, is missing", path.display());
    path
}

/// The nginx under test as a command. nginx itself reads a variable of this name, and would take the path for sockets to inherit.
fn nginx() -> Command {
    let mut command = Command::new(nginx_binary());
    command.env_remove("NGINX");
    command
}

/// The nginx under test, as numbers: 1.30.4 is (1, 30, 4).
pub fn nginx_version() -> (u32, u32, u32) {
    let output = nginx().arg("-v").output().expect("nginx can be started");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let (_, version) = said.split_once("nginx/").expect("nginx tells its version");
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let mut next = || numbers.next().unwrap_or(0);
    (next(), next(), next())
}

/// Which of the files in `nginx-wasm/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conf {
    AnyAddress,
    Keepalive,
    StickyRoute,
    Streaming,
}

impl Conf {
    /// Those that this nginx can run.
    pub fn all() -> Vec<Conf> {
        let mut all = vec![Conf::AnyAddress, Conf::Keepalive, Conf::Streaming];
        if nginx_version() >= (1, 29, 6) {
            all.push(Conf::StickyRoute);
        }
        all
    }
}

impl fmt::Display for Conf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Conf::AnyAddress => "any-address",
            Conf::Keepalive => "keepalive",
            Conf::StickyRoute => "sticky-route",
            Conf::Streaming => "streaming",
        })
    }
}

/// How to run an nginx.
#[derive(Clone)]
pub struct Setup {
    conf: Conf,
    filter: Value,
    workers: u32,
    edits: Vec<(String, String)>,
    may_crash: bool,
    module: Option<PathBuf>,
}

impl Setup {
    /// This file with this filter JSON, one worker, a free port.
    pub fn new(conf: Conf, filter: &Value) -> Setup {
        Setup { conf, filter: filter.clone(), workers: 1, edits: Vec::new(), may_crash: false, module: None }
    }

    #[must_use]
    pub fn workers(mut self, workers: u32) -> Setup {
        self.workers = workers;
        self
    }

    /// Replaces every `from` in the configuration.
    #[must_use]
    pub fn edit(mut self, from: &str, to: &str) -> Setup {
        self.edits.push((from.to_owned(), to.to_owned()));
        self
    }

    /// With this filter instead of the one under test.
    #[must_use]
    pub fn module(mut self, path: PathBuf) -> Setup {
        self.module = Some(path);
        self
    }

    /// The test kills workers.
    #[must_use]
    pub fn may_crash(mut self) -> Setup {
        self.may_crash = true;
        self
    }

    /// An nginx that answers; fails with its log when it does not get there.
    #[track_caller]
    pub fn start(self) -> Nginx {
        let workers = self.workers as usize;
        self.start_with(workers)
    }

    /// The same as soon as it takes connections, which is before it has a worker.
    #[track_caller]
    pub fn start_at_once(self) -> Nginx {
        self.start_with(0)
    }

    #[track_caller]
    fn start_with(self, workers: usize) -> Nginx {
        let directory = Directory::create();
        let held = hold();
        let addr = held.local_addr().ok().and_then(|addr| addr.as_socket()).expect("an address");
        self.write(&directory, addr);
        let mut command = nginx();
        command.arg("-p").arg(directory.path("")).arg("-c").arg(directory.path("nginx.conf"));
        command.arg("-e").arg(directory.path("log"));
        let stderr = File::create(directory.path("stderr")).expect("a file for what nginx says");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).process_group(0);
        let process = Process::start(&mut command);
        let mut nginx = Nginx { setup: self, addr, _held: held, directory, process };
        let start = Instant::now();
        while nginx.workers().len() < workers || connect(addr).is_err() {
            // A master whose workers all failed at once goes on without any.
            let failed = nginx.log().contains("cannot be respawned");
            let ended = nginx.process.ended();
            if failed || ended.is_some() || start.elapsed() > START {
                let said = fs::read_to_string(nginx.directory.path("stderr")).unwrap_or_default();
                panic!("nginx does not start ({ended:?}):\n{said}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        nginx
    }

    /// What `nginx -t` says, and whether it is content.
    pub fn check(&self) -> (bool, String) {
        let directory = Directory::create();
        self.write(&directory, SocketAddr::from((Ipv4Addr::LOCALHOST, 9)));
        let mut command = nginx();
        command.arg("-t").arg("-p").arg(directory.path("")).arg("-c").arg(directory.path("nginx.conf"));
        let output = command.arg("-e").arg(directory.path("log")).output().expect("nginx can be started");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// Writes the configuration and what it names.
    #[track_caller]
    fn write(&self, directory: &Directory, addr: SocketAddr) {
        let path = |name: &str| directory.path(name).to_string_lossy().into_owned();
        let mut filter = self.filter.clone();
        filter["nginx"]["helper"] = format!("unix:{}", path("helper.sock")).into();
        let mut text = generate(self.conf, &filter);
        let mut replace = |from: &str, to: &str| {
            assert!(text.contains(from), "the configuration {} has not got {from:?}:\n{text}", self.conf);
            text = text.replace(from, to);
        };
        replace("127.0.0.1:8000", &addr.to_string());
        replace("worker_processes auto;", &format!("worker_processes {};", self.workers));
        replace("/run/nginx.pid", &path("pid"));
        replace("/var/log/nginx/error.log", &path("log"));
        replace(
            "/etc/nginx/durpina-nginx.wasm",
            &self.module.clone().unwrap_or_else(nginx_filter_module).to_string_lossy(),
        );
        replace("/etc/nginx/durpina-cache.toml", &path("cache.toml"));
        replace("listen unix:/run/durpina/helper.sock", &format!("listen unix:{}", path("helper.sock")));
        // Temporary files in the test's own directory.
        let temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temp: String = temp.iter().map(|name| format!("    {name}_temp_path {};\n", path(name))).collect();
        replace("http {\n", &format!("http {{\n{temp}"));
        for (from, to) in &self.edits {
            replace(from, to);
        }
        // Its workers use what the test's user owns.
        let user = if uid() == 0 { "user root root;\n" } else { "" };
        fs::write(directory.path("nginx.conf"), format!("daemon off;\n{user}{text}"))
            .expect("the configuration's file");
        // One cache for all runs: to compile the filter takes half a second of each worker. wasmtime keeps it small.
        let cache = std::env::temp_dir().join(format!("durpina-wasm-cache-{}", uid()));
        fs::create_dir_all(&cache).unwrap_or_else(|error| panic!("{}: {error}", cache.display()));
        let toml = format!("[cache]\nenabled = true\ndirectory = \"{}\"\n", cache.display());
        fs::write(directory.path("cache.toml"), toml).expect("the cache's configuration");
    }
}

/// What the command line writes.
fn generate(conf: Conf, filter: &Value) -> String {
    let mut command = command_line();
    command.args(["nginx-config", "-", "--conf", &conf.to_string()]);
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command line can be started");
    let mut input = process.stdin.take().expect("a pipe");
    input.write_all(filter.to_string().as_bytes()).expect("the command line reads");
    drop(input);
    let output = process.wait_with_output().expect("the command line ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn uid() -> u32 {
    fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).expect("Linux")
}

/// A port that is ours although nginx binds it: nginx sets `SO_REUSEADDR`, and beside a socket that has it too and does not listen
/// Linux lets it.
fn hold() -> Socket {
    let held = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    held.set_reuse_address(true).expect("an option of Linux");
    held.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    held
}

/// A running nginx.
pub struct Nginx {
    setup: Setup,
    addr: SocketAddr,
    _held: Socket,
    directory: Directory,
    process: Process,
}

impl Proxy for Nginx {
    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn log(&self) -> String {
        self.directory.log()
    }
}

impl Nginx {
    /// The workers' processes, those of an older generation included.
    pub fn workers(&self) -> Vec<u32> {
        let master = self.process.child.id();
        let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children")).unwrap_or_default();
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    /// Has nginx read its configuration again (SIGHUP) and waits until new workers have taken over.
    #[track_caller]
    pub fn reload(&self) {
        let old = self.workers();
        signal(self.process.child.id(), "HUP");
        let workers = self.setup.workers as usize;
        eventually("new workers", START, || self.workers().iter().filter(|pid| !old.contains(pid)).count() == workers);
    }

    /// The same with another filter JSON.
    #[track_caller]
    pub fn update(&mut self, filter: &Value) {
        self.setup.filter = filter.clone();
        self.setup.write(&self.directory, self.addr);
        self.reload();
    }

    /// From the next [`update`](Self::update) on these edits instead of the set-up's.
    pub fn edits(&mut self, edits: &[(&str, &str)]) {
        self.setup.edits = edits.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
    }

    /// `kill -9`.
    pub fn kill(&self, worker: u32) {
        assert!(self.workers().contains(&worker), "{worker} is none of this nginx's workers");
        signal(worker, "KILL");
    }

    /// The path of the helper's socket.
    pub fn helper(&self) -> PathBuf {
        self.directory.path("helper.sock")
    }

    /// CPU time of the workers so far.
    pub fn cpu(&self) -> Duration {
        let of = |pid: &u32| {
            let text =
                fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("schedstat")).unwrap_or_default();
            text.split_whitespace().next().and_then(|time| time.parse().ok()).unwrap_or(0)
        };
        Duration::from_nanos(self.workers().iter().map(of).sum())
    }

    /// Lines of the log that no nginx should have.
    pub fn crashes(&self) -> Vec<String> {
        let signs = ["panicked", "[emerg]", "[alert]", "exited on signal", "wasm trap", "unreachable"];
        let is_sign = |line: &&str| signs.iter().any(|sign| line.contains(sign));
        self.log().lines().filter(is_sign).map(str::to_owned).collect()
    }
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(status.is_ok_and(|status| status.success()), "kill -{name} {pid}");
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            let log = self.log();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains("[notice]")).collect();
            eprintln!("--- the end of nginx's log ---\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
        let (crashes, ended) = (self.crashes(), self.process.ended());
        // The master ends its workers; killed, it would leave them behind.
        if ended.is_none() {
            signal(self.process.child.id(), "TERM");
            let start = Instant::now();
            while self.process.ended().is_none() && start.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        if failed {
            return;
        }
        assert!(ended.is_none(), "nginx ended by itself ({ended:?}):\n{}", self.log());
        assert!(self.setup.may_crash || crashes.is_empty(), "a filter crashed:\n{}", crashes.join("\n"));
    }
}
