//! A real name server: dnsmasq, with names that the test changes.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::envoy::Directory;
use super::ports::Port;

/// A dnsmasq on a free loopback port that knows the names of a hosts file, all with a time to live of 5 s.
pub struct NameServer {
    directory: Directory,
    addr: SocketAddr,
    child: Child,
}

impl NameServer {
    /// Starts with these names.
    pub fn start(names: &[(&str, &str)]) -> NameServer {
        let directory = Directory::create();
        write(&directory, names);
        // dnsmasq shares no port, so there is a moment in which somebody else can take it.
        for _ in 0..10 {
            let addr = Port::free().addr();
            let mut child = spawn(&directory, addr);
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(10) {
                if child.try_wait().expect("a child").is_some() {
                    break;
                }
                if TcpStream::connect(addr).is_ok() {
                    return NameServer { directory, addr, child };
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("dnsmasq does not start");
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Knows these names from now on.
    pub fn set(&mut self, names: &[(&str, &str)]) {
        write(&self.directory, names);
        // SIGHUP makes it read the file again.
        let done = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status();
        assert!(done.is_ok_and(|status| status.success()), "dnsmasq can be told to read its names again");
    }

    /// Answers nobody any more.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn write(directory: &Directory, names: &[(&str, &str)]) {
    let lines: String = names.iter().map(|(name, address)| format!("{address} {name}\n")).collect();
    fs::write(directory.path("hosts"), lines).expect("the hosts file");
}

fn spawn(directory: &Directory, addr: SocketAddr) -> Child {
    let mut command = Command::new(program());
    command.args(["--keep-in-foreground", "--no-resolv", "--no-hosts", "--bind-interfaces", "--local=/example/"]);
    command.args(["--local-ttl=5", "--conf-file=/dev/null", "--pid-file=", "--user=root"]);
    command.arg(format!("--listen-address={}", addr.ip())).arg(format!("--port={}", addr.port()));
    command.arg(format!("--addn-hosts={}", directory.path("hosts").display()));
    if !is_root() {
        // It runs as who started it then, and cannot change that.
        command = without_user(command);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("dnsmasq: `make test` installs it")
}

fn program() -> PathBuf {
    let known = ["/usr/sbin/dnsmasq", "/usr/bin/dnsmasq", "/usr/local/sbin/dnsmasq"].map(PathBuf::from);
    known.into_iter().find(|path| path.exists()).unwrap_or_else(|| PathBuf::from("dnsmasq"))
}

fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"))
    })
}

fn without_user(command: Command) -> Command {
    let mut other = Command::new(command.get_program());
    other.args(command.get_args().filter(|argument| *argument != "--user=root"));
    other
}
