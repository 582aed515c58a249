//! Counts the instructions that a worker of Envoy executes for requests, with valgrind's callgrind.
//!
//! Time tells little on a machine that does other things as well. The number of instructions in user space hardly
//! depends on them. Only the worker's are counted: other threads work by the clock, so that more of it falls on a
//! request the slower the machine is (8 % more were seen at a load of 16 on two cores). What the kernel does is not
//! counted, and an instruction that waits for memory counts like any other.
//!
//! valgrind is taken from `PATH`, together with vgdb, which comes with it and tells a program under valgrind when to
//! count. Both need to trace processes, which a container may forbid: what goes wrong with them is an [`Unavailable`],
//! so that a program can say so and go on without figures.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::process::{Command, Stdio};

use super::client::{Client, Request};
use super::envoy::{Directory, Envoy, Setup};
use super::proxy::Proxy as _;

/// Requests before the first count, after which V8 has optimised what is called often.
const WARM_UP: usize = 2_000;

/// Why instructions cannot be counted here, in one line.
#[derive(Debug)]
pub struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The version of valgrind, once it has run a program here.
pub fn version() -> Result<String, Unavailable> {
    run(Command::new("valgrind").args(["-q", "--tool=callgrind", "--callgrind-out-file=/dev/null", "true"]))?;
    Ok(run(Command::new("valgrind").arg("--version"))?.trim().to_owned())
}

/// An Envoy whose instructions can be counted, and one connection to it.
pub struct Counted {
    // First, so that Envoy has ended when the directory goes.
    envoy: Envoy,
    client: Client,
    request: Request,
    directory: Directory,
    /// Counts that were written so far.
    dumps: usize,
}

impl Counted {
    /// Starts the Envoy and warms it up with requests like this one.
    pub fn start(setup: Setup, request: Request) -> Result<Counted, Unavailable> {
        let directory = Directory::create();
        let option = |name: &str, file: &str| {
            let mut option = OsString::from(name);
            option.push(directory.path(file));
            option
        };
        let mut valgrind: Vec<OsString> = ["valgrind", "-q", "--tool=callgrind"].map(OsString::from).into();
        valgrind.extend([
            // V8 writes code at run time, and writes it again.
            "--smc-check=all-non-file".into(),
            "--instr-atstart=no".into(),
            "--separate-threads=yes".into(),
            // The binary may be a script that executes the real one.
            "--trace-children=yes".into(),
            option("--callgrind-out-file=", "counts"),
            option("--vgdb-prefix=", "vgdb"),
        ]);
        let envoy = setup.under(valgrind).try_start().map_err(|refusal| {
            let last = refusal.log.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            Unavailable(format!("Envoy does not start under valgrind ({}): {last}", refusal.status))
        })?;
        let client = envoy.client();
        let mut counted = Counted { envoy, client, request, directory, dumps: 0 };
        counted.send(WARM_UP);
        counted.tell("instrumentation on")?;
        // Requests that were under way while counting began would count in part.
        counted.send(10);
        Ok(counted)
    }

    /// Instructions per request, over so many requests one after the other.
    pub fn per_request(&mut self, requests: usize) -> Result<f64, Unavailable> {
        self.tell("zero")?;
        self.send(requests);
        self.tell("dump")?;
        self.dumps += 1;
        // The worker that has the connection; no other thread comes near.
        let worker = self.counts().into_iter().max();
        let worker = worker.ok_or_else(|| Unavailable("callgrind wrote no counts".to_owned()))?;
        Ok(worker as f64 / requests as f64)
    }

    /// What each thread executed, by the last dump: there is a file for each.
    fn counts(&self) -> Vec<u64> {
        let name = format!("counts.{}-", self.dumps);
        let mut counts = Vec::new();
        for file in fs::read_dir(self.directory.path("")).expect("the directory of the counts") {
            let file = file.expect("a file of the counts").path();
            if file.file_name().is_some_and(|found| found.to_string_lossy().starts_with(&name)) {
                let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
                let summary = text.lines().find_map(|line| line.strip_prefix("summary: ")?.trim().parse().ok());
                counts.push(summary.unwrap_or_else(|| panic!("{}: no summary", file.display())));
            }
        }
        counts
    }

    fn send(&mut self, requests: usize) {
        for _ in 0..requests {
            let answer = self.client.send(&self.request).expect("an answer under valgrind");
            assert_eq!(answer.status, 200, "under valgrind");
        }
    }

    /// A command for callgrind, in the words of `vgdb help`.
    fn tell(&self, command: &str) -> Result<(), Unavailable> {
        let mut vgdb = Command::new("vgdb");
        vgdb.arg(format!("--vgdb-prefix={}", self.directory.path("vgdb").display()));
        vgdb.arg(format!("--pid={}", self.envoy.pid())).args(["--cmd-time-out=60", "-c"]);
        run(vgdb.args(command.split(' '))).map(drop)
    }
}

/// What the command writes.
fn run(command: &mut Command) -> Result<String, Unavailable> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| Unavailable(format!("{name}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Unavailable(format!("{name}: {}: {}", output.status, said.lines().last().unwrap_or_default())))
}
