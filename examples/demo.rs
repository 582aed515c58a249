//! `make run`: a real Envoy with durpina in front of three servers, told as a short story on the terminal.
//!
//! Three servers with different weights are started, each in a process of its own, and traffic is sent
//! through Envoy. After a few seconds one server is killed with `kill -9`: no request fails, because its
//! requests are answered by the others, and durpina takes it out of use. It is started again, and durpina
//! takes it back. A summary follows; then everything goes on serving until Ctrl-C, for one's own curl.
//!
//! On a terminal a live table is redrawn in place; otherwise a line is printed every second.
//!
//! Where the table's numbers come from: `requests` are what the client counted, by the server that answered,
//! and `share` is the same for the last seconds; `failures` are attempts that Envoy saw fail, by peer (its
//! admin page `/clusters`); `state` is what the filter logged last.

#![cfg_attr(target_arch = "wasm32", no_main)]
#![cfg(not(target_arch = "wasm32"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
// The core is not allowed to read a clock; a show needs one.
#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use durpina_e2e as support;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{json, Value};

use support::config::Config;
use support::envoy::{Envoy, Setup};
use support::load::{Load, Running};
use support::proxy::{Proxy as _, StateChange};
use support::server::{serve_until_orphaned, ServerProcess};

/// The servers: names and weights. The first one is killed.
const CAST: [(&str, u32); 3] = [("red", 5), ("green", 2), ("blue", 1)];
const FAIL_TIMEOUT: &str = "3s";
/// Of the management API.
const TOKEN: &str = "demo";

/// The plot: how long each part lasts.
const BEFORE_THE_KILL: Duration = Duration::from_secs(5);
const BEFORE_THE_RESTART: Duration = Duration::from_millis(2_000);
const AFTER_THE_RETURN: Duration = Duration::from_secs(4);
/// How long to wait for durpina to notice something before going on with the story.
const PATIENCE: Duration = Duration::from_secs(15);

/// The time over which a share is taken.
const SHARE_OVER: Duration = Duration::from_secs(2);

/// How often the table is redrawn on a terminal.
const FRAME: Duration = Duration::from_millis(200);
/// How often a line is printed elsewhere.
const LINE: Duration = Duration::from_secs(1);

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, role, name, addr] = &arguments[..] {
        if role == "server" {
            serve_until_orphaned(name, addr.parse().expect("an address"));
            return Ok(());
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    match Show::new(stop)?.run() {
        // Whoever reads the output has seen enough (`make run | head`).
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Everything that is on stage.
struct Show {
    stop: Arc<AtomicBool>,
    start: Instant,
    load: Running,
    envoy: Envoy,
    servers: Vec<ServerProcess>,
    tally: Tally,
    /// How many of the filter's state changes were told already.
    told: usize,
    screen: Screen,
}

impl Show {
    fn new(stop: Arc<AtomicBool>) -> io::Result<Show> {
        let mut screen = Screen::new();
        screen.say("durpina: dynamic upstreams for Envoy. Starting three servers and an Envoy with the filter …")?;
        let servers: Vec<ServerProcess> = CAST.iter().map(|(name, _)| ServerProcess::start(name, server)).collect();
        let filter = filter(&servers);
        let envoy = Setup::new(Config::reference(&filter)).workers(2).prefer_port(8000).start();
        screen.say(&format!(
            "\nEnvoy listens on http://{} with envoy/durpina.yaml and two workers. All that was added is this filter JSON:\n\n{}\n",
            envoy.addr(),
            serde_json::to_string_pretty(&filter)?,
        ))?;
        // Bounded, although the story ends long before.
        let load = Load::new(envoy.addr(), 1_000_000).connections(4).pause(Duration::from_millis(5)).start();
        Ok(Show { stop, start: Instant::now(), load, envoy, servers, tally: Tally::default(), told: 0, screen })
    }

    fn run(mut self) -> io::Result<()> {
        self.story()?;
        if !self.stopped() {
            self.summary()?;
        }
        while !self.stopped() {
            std::thread::sleep(FRAME);
            self.tell_state_changes()?;
        }
        self.load.stop();
        self.screen.say("\nStopping Envoy and the servers.")
    }

    fn story(&mut self) -> io::Result<()> {
        self.tell("traffic starts: four clients, each sends one request after the other")?;
        self.play(BEFORE_THE_KILL, |_| false)?;
        if self.stopped() {
            return Ok(());
        }

        let pid = self.servers[0].pid().unwrap_or_default();
        self.servers[0].kill();
        self.tell(&format!("kill -9 {pid}: the server {} is gone without a farewell", CAST[0].0))?;
        self.play(BEFORE_THE_RESTART, |_| false)?;
        if self.stopped() {
            return Ok(());
        }

        self.servers[0].restart();
        self.tell(&format!("the server {} is started again, on the same port", CAST[0].0))?;
        let peer = self.servers[0].addr().to_string();
        self.play(PATIENCE, |show| show.state(&peer) == "up")?;
        self.play(AFTER_THE_RETURN, |_| false)?;

        self.load.stop();
        while !self.stopped() && !self.load.is_done() {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.observe()
    }

    /// Shows what happens, for so long or until `done`.
    fn play(&mut self, length: Duration, done: impl Fn(&Show) -> bool) -> io::Result<()> {
        let start = Instant::now();
        while start.elapsed() < length && !self.stopped() && !done(self) {
            std::thread::sleep(FRAME);
            self.observe()?;
            self.draw()?;
        }
        Ok(())
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// Takes in what the client, Envoy and the filter have to say since the last time.
    fn observe(&mut self) -> io::Result<()> {
        self.tally.remember();
        for outcome in self.load.take() {
            match outcome.result {
                Ok((200, server)) => *self.tally.answered.entry(server).or_default() += 1,
                _ => self.tally.failed += 1,
            }
        }
        self.tally.observe_attempts(&self.envoy);
        self.tell_state_changes()
    }

    fn tell_state_changes(&mut self) -> io::Result<()> {
        let changes = self.envoy.state_changes();
        for StateChange { peer, from, to, .. } in changes.iter().skip(self.told) {
            let meaning = match to.as_str() {
                "temporary_down" => ": it gets no requests for now",
                "down" => ": its monitor is sure",
                "up" => ": it gets its share again",
                _ => "",
            };
            self.tell(&format!("durpina: {} is {to} (it was {from}){meaning}", self.name(peer)))?;
        }
        self.told = changes.len();
        Ok(())
    }

    fn name<'a>(&'a self, peer: &'a str) -> &'a str {
        self.servers.iter().find(|server| server.addr().to_string() == peer).map_or(peer, ServerProcess::name)
    }

    /// The state that the filter logged last for a peer.
    fn state(&self, peer: &str) -> String {
        let last = self.envoy.state_changes().into_iter().rev().find(|change| change.peer == peer);
        last.map_or_else(|| "up".to_owned(), |change| change.to)
    }

    fn tell(&mut self, event: &str) -> io::Result<()> {
        let line = format!("{:6.1} s  {event}", self.start.elapsed().as_secs_f64());
        self.screen.say(&line)
    }

    fn draw(&mut self) -> io::Result<()> {
        let picture = if self.screen.live { self.table() } else { self.line() };
        self.screen.draw(&picture)
    }

    /// Fits into 80 columns: a line that wraps could not be redrawn.
    fn table(&self) -> String {
        let mut table = format!(
            "\n {:7}{:16}{:15}{:>6}  {:14}{:>9}{:>9}\n",
            "server", "peer", "state", "weight", "share (2 s)", "requests", "failures"
        );
        for row in self.rows() {
            let bar = format!("{:8}{:5.1}%", "█".repeat((row.share * 8.0).round() as usize), row.share * 100.0);
            let state = self.screen.colour(&row.state, &format!("{:15}", row.state));
            let Row { name, peer, weight, requests, failures, .. } = row;
            table.push_str(&format!(" {name:7}{peer:16}{state}{weight:>6}  {bar}{requests:>9}{failures:>9}\n"));
        }
        table.push_str(&format!("\n client: {}\n", self.client()));
        table
    }

    /// The same on one line.
    fn line(&self) -> String {
        let servers = self.rows().map(|Row { name, state, weight, share, failures, .. }| {
            format!("{name} {state}, weight {weight}, share {:.0} %, {failures} failures", share * 100.0)
        });
        let seconds = self.start.elapsed().as_secs_f64();
        format!("{seconds:6.1} s  {} | client: {}\n", servers.collect::<Vec<_>>().join(" | "), self.client())
    }

    fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        CAST.iter().zip(&self.servers).map(|((name, weight), server)| {
            let peer = server.addr().to_string();
            Row {
                name,
                state: self.state(&peer),
                weight: *weight,
                share: self.tally.share(name),
                requests: self.tally.answered.get(*name).copied().unwrap_or(0),
                failures: self.tally.failed_attempts(&peer),
                peer,
            }
        })
    }

    fn client(&self) -> String {
        format!("{} requests, {} failed", self.tally.total(), self.tally.failed)
    }

    fn summary(&mut self) -> io::Result<()> {
        let table = self.table();
        self.screen.say(&table)?;
        let failed = self.tally.failed;
        let verdict = if failed == 0 {
            "One of three servers died under load and came back, and no client noticed.".to_owned()
        } else {
            format!("{failed} requests failed, and none should have.")
        };
        let addr = self.envoy.addr();
        let admin = self.envoy.admin_addr();
        let (name, pid, peer) =
            (self.servers[1].name(), self.servers[1].pid().unwrap_or_default(), self.servers[1].addr());
        let text = format!(
            "{verdict}\n\n\
             The traffic has ended; Envoy and the servers go on until Ctrl-C. To try from another terminal:\n\n\
             \x20 curl -i http://{addr}/                       # who answers?\n\
             \x20 for i in 1 2 3 4 5 6 7 8; do curl -s http://{addr}/; done\n\
             \x20 kill -9 {pid}                                  # the server {name}; then curl again\n\
             \x20 curl -s 'http://{admin}/stats?filter=durpina'  # what Envoy counted\n\
             \n\
             Its management API: the page http://{addr}/durpina/ in a browser, with the token {TOKEN}, or\n\
             \n\
             \x20 export DURPINA_URL=http://{addr}/durpina DURPINA_TOKEN={TOKEN}\n\
             \x20 cargo run -q --bin durpina -- peers web\n\
             \x20 cargo run -q --bin durpina -- state web {peer} drain     # a drained server gets no new requests\n"
        );
        self.screen.say(&text)
    }
}

/// The whole configuration of the filter.
fn filter(servers: &[ServerProcess]) -> Value {
    let servers: Vec<String> = servers
        .iter()
        .zip(CAST)
        .map(|(server, (_, weight))| format!("{} weight={weight} fail_timeout={FAIL_TIMEOUT}", server.addr()))
        .collect();
    let monitor = json!({ "name": "http", "interval": "1s", "schedule": "all" });
    json!({
        "upstreams": { "web": { "servers": servers, "retries": 2, "monitors": [monitor] } },
        "upstream": "web",
        "admin": { "prefix": "/durpina", "token": TOKEN }
    })
}

/// A server is this program again.
fn server(name: &str, addr: SocketAddr) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the path of the running program"));
    command.args(["server", name, &addr.to_string()]);
    command
}

/// A server in the table.
struct Row {
    name: &'static str,
    peer: String,
    state: String,
    weight: u32,
    /// From 0 to 1.
    share: f64,
    requests: u64,
    failures: u64,
}

/// What was counted.
#[derive(Default)]
struct Tally {
    /// By the name of the server.
    answered: BTreeMap<String, u64>,
    failed: u64,
    /// `answered` as it was during the last seconds.
    history: VecDeque<(Instant, BTreeMap<String, u64>)>,
    /// Attempts that failed, by peer: as Envoy showed them last, and as far as it showed them twice.
    attempts: BTreeMap<String, (u64, u64)>,
}

impl Tally {
    fn total(&self) -> u64 {
        self.answered.values().sum::<u64>() + self.failed
    }

    fn remember(&mut self) {
        self.history.push_back((Instant::now(), self.answered.clone()));
        while self.history.front().is_some_and(|(then, _)| then.elapsed() > SHARE_OVER) {
            self.history.pop_front();
        }
    }

    /// This server's part of the answers of the last seconds.
    fn share(&self, server: &str) -> f64 {
        let nothing = BTreeMap::new();
        let before = self.history.front().map_or(&nothing, |(_, answered)| answered);
        let recent = |server: &str| self.answered.get(server).unwrap_or(&0) - before.get(server).unwrap_or(&0);
        let all: u64 = self.answered.keys().map(|server| recent(server)).sum();
        recent(server) as f64 / all.max(1) as f64
    }

    fn failed_attempts(&self, peer: &str) -> u64 {
        self.attempts.get(peer).map_or(0, |(_, confirmed)| *confirmed)
    }

    fn observe_attempts(&mut self, envoy: &Envoy) {
        for (peer, failed) in envoy.failed_attempts() {
            let (last, confirmed) = self.attempts.entry(peer).or_default();
            *confirmed = failed.min(*last).max(*confirmed);
            *last = failed;
        }
    }
}

/// Standard output: lines that stay, and below them, on a terminal, a picture that is redrawn.
struct Screen {
    live: bool,
    coloured: bool,
    /// Lines of the picture that is being shown.
    height: usize,
    drawn: Option<Instant>,
}

impl Screen {
    fn new() -> Screen {
        let live = io::stdout().is_terminal();
        let coloured = live && std::env::var_os("NO_COLOR").is_none();
        Screen { live, coloured, height: 0, drawn: None }
    }

    /// Text that stays.
    fn say(&mut self, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        self.erase(&mut out)?;
        writeln!(out, "{text}")?;
        out.flush()
    }

    /// The picture of the moment.
    fn draw(&mut self, picture: &str) -> io::Result<()> {
        if !self.live && self.drawn.is_some_and(|drawn| drawn.elapsed() < LINE) {
            return Ok(());
        }
        self.drawn = Some(Instant::now());
        let mut out = io::stdout().lock();
        self.erase(&mut out)?;
        write!(out, "{picture}")?;
        if self.live {
            self.height = picture.lines().count();
        }
        out.flush()
    }

    /// Takes the picture away, so that what comes next stands in its place.
    fn erase(&mut self, out: &mut impl Write) -> io::Result<()> {
        if self.height > 0 {
            // So many lines up, then clear to the end of the screen.
            write!(out, "\x1b[{}A\x1b[J", self.height)?;
            self.height = 0;
        }
        Ok(())
    }

    fn colour(&self, state: &str, text: &str) -> String {
        let code = match state {
            "up" => 32,
            "failing" => 33,
            _ => 31,
        };
        if self.coloured {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}
