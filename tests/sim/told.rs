//! What the log told of an upstream's state, replayed.

use proxy_wasm_sim::Process;
use serde_json::Value;

/// The states from and to which the lines that begin like this say that something went, in their order.
fn lines(process: &Process, beginning: &str) -> Vec<(String, String)> {
    let word = |text: &str, name: &str| -> String {
        let behind = text.split_once(name).map_or("", |(_, behind)| behind);
        behind.split(' ').next().unwrap_or_default().to_owned()
    };
    let logs = process.logs();
    let meant = logs.iter().filter(|line| line.text.starts_with(beginning));
    meant.map(|line| (word(&line.text, " from="), word(&line.text, " to="))).collect()
}

/// Where nothing is against a peer but monitors: the log tells in turn that it is down and that it is not, and the last line is what the
/// document says.
pub(crate) fn of_peers(process: &Process, document: &Value) -> Result<(), String> {
    for peer in document["peers"].as_array().expect("peers") {
        let name = peer["name"].as_str().expect("a name");
        let mut is_down = false;
        for (from, to) in lines(process, &format!("peer state: upstream=web peer={name} ")) {
            if (from == "down") != is_down || (to == "down") == is_down {
                return Err(format!(
                    "the log says from={from} to={to} of {name}, of which it said that down is {is_down}"
                ));
            }
            is_down = !is_down;
        }
        if (peer["state"] == "down") != is_down {
            return Err(format!("the log said last of {name} that down is {is_down}: {peer}"));
        }
    }
    Ok(())
}

/// Each line goes on from where the one before it ended, none tells of no change, and the last one ends where the document stands. Where VMs
/// end before their time, one may have ended before it wrote its line: the document is right all the same.
pub(crate) fn ends_in(process: &Process, document: &Value, with_traps: bool) -> Result<(), String> {
    if document["since"].is_null() {
        return Err(format!("nobody was told of the upstream's state: {document}"));
    }
    let mut state = "up".to_owned();
    for (from, to) in lines(process, "upstream state: upstream=web ") {
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
