//! `durpina-module envoy|nginx LINKED MADE`: see the [library](durpina_module).

use std::process::ExitCode;

use durpina_module::{module, For};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match make(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make(arguments: &[String]) -> Result<(), String> {
    let [host, linked, made] = arguments else {
        return Err("usage: durpina-module envoy|nginx LINKED MADE".to_owned());
    };
    let host = match host.as_str() {
        "envoy" => For::Envoy,
        "nginx" => For::Nginx,
        other => return Err(format!("expected envoy or nginx, found {other:?}")),
    };
    let bytes = std::fs::read(linked).map_err(|error| format!("{linked}: {error}"))?;
    let bytes = module(&bytes, host).map_err(|error| format!("{linked}: {error}"))?;
    std::fs::write(made, bytes).map_err(|error| format!("{made}: {error}"))
}
