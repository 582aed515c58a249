//! The `durpina` command: a filter JSON checked without a proxy, and the management API in a terminal.
//!
//! What it takes is in `cli::manual`, which `durpina --help` prints. Exit codes, the same for all commands:
//!
//! | code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | the configuration is wrong (`check`) |
//! | 2 | called wrongly, or the file cannot be read |
//! | 3 | the management API refused (4xx) |
//! | 4 | the management API cannot be reached, failed (5xx), or what answered is not the API |

#![cfg_attr(target_arch = "wasm32", no_main)]
#![cfg(not(target_arch = "wasm32"))]

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
