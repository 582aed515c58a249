//! The `durpina` command: a filter JSON checked without a proxy, and the management API in a terminal.
//!
//! What it takes is in [`arguments`], which `durpina --help` prints. Exit codes, the same for all commands:
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | the configuration is wrong (`check`, `envoy`, `nginx-config`) |
//! | 2 | called wrongly, or a file cannot be read or the output not be written |
//! | 3 | the management API refused (4xx) |
//! | 4 | the management API cannot be reached, failed (5xx), or what answered is not the API |
//!
//! | module | what is there |
//! | --- | --- |
//! | [`arguments`], [`invocation`] | what the command can be asked, and what it was asked |
//! | [`manual`], [`texts`] | the manual page and completion scripts; descriptions, examples, exit codes |
//! | [`check`] | `durpina check` |
//! | [`nginx_config`], [`nginx_text`] | `durpina nginx-config`; how nginx is told a text |
//! | [`envoy`] | `durpina envoy` |
//! | [`action`] | the commands that call the management API |
//! | [`api`], [`url`], [`problem`] | a request and its answer, the address it goes to, the answer that refuses |
//! | [`peer`], [`upstream`] | what the API answers, as a person reads it |
//! | [`table`], [`text`] | columns, and text that is safe to show in a terminal |

mod action;
mod api;
mod arguments;
mod check;
mod envoy;
mod invocation;
mod manual;
mod nginx_config;
mod nginx_text;
mod peer;
mod problem;
mod table;
mod text;
mod texts;
mod upstream;
mod url;

use std::io::{self, Write};
use std::process::ExitCode;

use api::{Api, Failure};
use invocation::Invocation;

/// How a command ended; the numbers are the exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    Done = 0,
    Invalid = 1,
    Misuse = 2,
    Refused = 3,
    Unavailable = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Does what the process was called for.
fn main() -> ExitCode {
    let invocation = invocation::parse(std::env::args_os().skip(1), |name| std::env::var_os(name));
    match invocation {
        Ok(Invocation::Print(text)) => say(&text, Exit::Done),
        Ok(Invocation::Check(files, own)) => check_files(&files, own),
        Ok(Invocation::NginxConfig { file, conf }) => write_nginx_config(&file, conf),
        Ok(Invocation::Envoy(task)) => change_envoy(&task),
        Ok(Invocation::Call { access, action, json }) => match action.perform(&Api::new(access), json) {
            Ok(text) => say(&text, Exit::Done),
            Err(failure) => {
                complain(&format!("durpina: {failure}\n"));
                match failure {
                    Failure::Refused(_) => Exit::Refused,
                    Failure::Unavailable(_) => Exit::Unavailable,
                }
            }
        },
        Err(misuse) => {
            complain(&misuse.to_string());
            Exit::Misuse
        }
    }
    .into()
}

fn check_files(files: &[std::path::PathBuf], own: arguments::OwnNames) -> Exit {
    let mut texts = Vec::new();
    for file in files {
        match check::read(file) {
            Ok(text) => texts.push((file, text)),
            Err(error) => {
                complain(&format!("{}: {error}\n", file.display()));
                return Exit::Misuse;
            }
        }
    }
    let (report, good) = check::check(&texts, own);
    say(&report, if good { Exit::Done } else { Exit::Invalid })
}

fn change_envoy(task: &envoy::Task) -> Exit {
    let report = envoy::run(task);
    complain(&report.messages);
    match report.failure {
        None => say(&text::json(&report.output), Exit::Done),
        Some(envoy::Failure::Configuration) => Exit::Invalid,
        Some(envoy::Failure::Files) => Exit::Misuse,
    }
}

fn write_nginx_config(file: &std::path::Path, conf: arguments::NginxConf) -> Exit {
    let json = match check::read(file) {
        Ok(json) => json,
        Err(error) => {
            complain(&format!("{}: {error}\n", file.display()));
            return Exit::Misuse;
        }
    };
    match nginx_config::write(&json, conf) {
        Ok(text) => say(&text, Exit::Done),
        Err(problems) => {
            // Not to the standard output: that is a configuration, or nothing.
            complain(&format!("{problems}{}: no configuration was written\n", file.display()));
            Exit::Invalid
        }
    }
}

/// Prints what was asked for, and ends as it would. Nobody to read it (`durpina peers web | head -1`) is no reason to fail; a
/// full disk is, where a script or a page would be cut off.
fn say(text: &str, exit: Exit) -> Exit {
    let mut output = io::stdout();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("durpina: cannot write the output: {error}\n"));
            Exit::Misuse
        }
        _ => exit,
    }
}

/// There is nobody left to tell when this fails.
fn complain(message: &str) {
    drop(io::stderr().write_all(text::lines(message).as_bytes()));
}
