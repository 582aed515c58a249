//! The `durpina` command: what one wants to know of a filter without a proxy.
//!
//! `durpina check FILE` validates a filter JSON; `-` is standard input. It prints every error with its place.
//!
//! Exit codes: 0 when the configuration is good, 1 when it is not, 2 when the command was called wrongly or the
//! file cannot be read.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use durpina::config::{Capabilities, Config};

const USAGE: &str = "usage: durpina check FILE

Validates a filter JSON (\"-\" reads standard input). Prints every error with its place.
Exit codes: 0 good, 1 errors, 2 wrong usage or no such file.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Nobody to read the output is no reason to fail.
    let say = |text: &str| drop(io::stdout().write_all(text.as_bytes()));
    let complain = |text: &str| drop(io::stderr().write_all(text.as_bytes()));
    match words.as_slice() {
        ["check", file] => match read(file) {
            Ok(text) => {
                let (report, good) = check(file, &text);
                say(&report);
                ExitCode::from(u8::from(!good))
            }
            Err(error) => {
                complain(&format!("{file}: {error}\n"));
                ExitCode::from(2)
            }
        },
        ["help" | "--help" | "-h"] => {
            say(USAGE);
            ExitCode::SUCCESS
        }
        ["version" | "--version" | "-V"] => {
            say(concat!("durpina ", env!("CARGO_PKG_VERSION"), "\n"));
            ExitCode::SUCCESS
        }
        _ => {
            complain(USAGE);
            ExitCode::from(2)
        }
    }
}

fn read(file: &str) -> io::Result<Vec<u8>> {
    if file == "-" {
        let mut text = Vec::new();
        io::stdin().read_to_end(&mut text)?;
        return Ok(text);
    }
    std::fs::read(file)
}

/// What there is to say about a configuration, and whether it is good.
fn check(file: &str, text: &[u8]) -> (String, bool) {
    match Config::parse(text, Capabilities::default()) {
        Ok(config) => {
            let servers: usize = config.upstreams.iter().map(|(_, upstream)| upstream.servers.len()).sum();
            let mut report: String = config.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            let (upstreams, routes) = (config.upstreams.len(), config.routes.len());
            report += &format!("{file}: good. {upstreams} upstreams with {servers} servers, {routes} routes\n");
            (report, true)
        }
        Err(problems) => {
            let mut report = problems.to_string();
            report += &format!("\n{file}: {} errors\n", problems.count());
            (report, false)
        }
    }
}
