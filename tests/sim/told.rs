//! What the log told of an upstream's state, replayed.

use proxy_wasm_sim::Process;
use serde_json::Value;

/// The states from and to which the lines say that the upstream `web` went, in their order.
fn lines(process: &Process) -> Vec<(String, String)> {
    let word = |text: &str, name: &str| -> String {
        let behind = text.split_once(name).map_or("", |(_, behind)| behind);
        behind.split(' ').next().unwrap_or_default().to_owned()
    };
    let logs = process.logs();
    let of_web = logs.iter().filter(|line| line.text.starts_with("upstream state: upstream=web "));
    of_web.map(|line| (word(&line.text, " from="), word(&line.text, " to="))).collect()
}

/// Each line goes on from where the one before it ended, none tells of no change, and the last one ends where the document stands. Where VMs
/// end before their time, one may have ended before it wrote its line: the document is right all the same.
pub(crate) fn ends_in(process: &Process, document: &Value, with_traps: bool) -> Result<(), String> {
    if document["since"].is_null() {
        return Err(format!("nobody was told of the upstream's state: {document}"));
    }
    let mut state = "up".to_owned();
    for (from, to) in lines(process) {
        if from == to || from != state && !with_traps {
            return Err(format!("the log says from={from} to={to} of an upstream that it said was {state}"));
        }
        state = to;
    }
    if document["state"] != *state && !with_traps {
        return Err(format!("the log says at last that the upstream is {state}: {document}"));
    }
    Ok(())
}
