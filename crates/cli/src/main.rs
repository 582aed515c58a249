//! The `durpina` command: a filter JSON checked without a proxy, and the management API in a terminal.
//!
//! What it takes is in [`manual`], which `durpina --help` prints. Exit codes, the same for all commands:
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | the configuration is wrong (`check`) |
//! | 2 | called wrongly, or the file cannot be read |
//! | 3 | the management API refused (4xx) |
//! | 4 | the management API cannot be reached, failed (5xx), or what answered is not the API |
//!
//! | module | what is there |
//! | --- | --- |
//! | [`arguments`], [`manual`] | what the command was asked, and what it can be asked |
//! | [`check`] | `durpina check` |
//! | [`action`] | the commands that call the management API |
//! | [`api`], [`url`], [`problem`] | a request and its answer, the address it goes to, the answer that refuses |
//! | [`peer`], [`upstream`] | what the API answers, as a person reads it |
//! | [`table`], [`text`] | columns, and text that is safe to show in a terminal |

mod action;
mod api;
mod arguments;
mod check;
mod manual;
mod peer;
mod problem;
mod table;
mod text;
mod upstream;
mod url;

use std::io::{self, Write};
use std::process::ExitCode;

use api::{Api, Failure};
use arguments::Command;

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
    let command = arguments::parse(std::env::args_os().skip(1), |name| std::env::var_os(name));
    match command {
        Ok(Command::Help(text)) => {
            say(&text);
            Exit::Done
        }
        Ok(Command::Version) => {
            say(concat!("durpina ", env!("CARGO_PKG_VERSION"), "\n"));
            Exit::Done
        }
        Ok(Command::Check(file)) => check_file(&file),
        Ok(Command::Call { access, action, json }) => match action.perform(&Api::new(access), json) {
            Ok(text) => {
                say(&text);
                Exit::Done
            }
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

fn check_file(file: &std::path::Path) -> Exit {
    match check::read(file) {
        Ok(text) => {
            let (report, good) = check::check(file, &text);
            say(&report);
            if good {
                Exit::Done
            } else {
                Exit::Invalid
            }
        }
        Err(error) => {
            complain(&format!("{}: {error}\n", file.display()));
            Exit::Misuse
        }
    }
}

// Nobody to read the output is no reason to fail.

fn say(text: &str) {
    drop(io::stdout().write_all(text.as_bytes()));
}

fn complain(text: &str) {
    drop(io::stderr().write_all(text.as_bytes()));
}
