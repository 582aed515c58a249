//! The commands that there are, and what `--help` says of them.

/// A command, as a person calls it.
#[derive(Debug)]
pub(crate) struct Manual {
    /// The first word.
    pub(crate) name: &'static str,
    /// What comes after it, without the options that all calls of the API share.
    synopsis: &'static str,
    /// One line in the list of commands, a sentence without its full stop.
    summary: &'static str,
    /// More, in `durpina COMMAND --help`; empty or lines that end.
    details: &'static str,
    /// The options it takes beside `--help` and `--version`.
    pub(crate) options: &'static [&'static str],
}

/// The options of every command that calls the API.
const API: &[&str] = &["--url", "--token", "--timeout", "--json"];

const COMMANDS: [Manual; 7] = [
    Manual {
        name: "peers",
        synopsis: "UPSTREAM [--selector S]",
        summary: "Shows the peers of an upstream",
        details: "  --selector S   only some of them: all, failing, down, temporary_down, permanent_down\n",
        options: &["--url", "--token", "--timeout", "--json", "--selector"],
    },
    Manual {
        name: "info",
        synopsis: "[UPSTREAM]",
        summary: "Shows an upstream with its peers and monitors, or all upstreams in short",
        details: "",
        options: API,
    },
    Manual {
        name: "add",
        synopsis: "UPSTREAM SERVER",
        summary: "Adds a peer",
        details: "SERVER is written as in nginx's server directive: '10.0.0.1:80 weight=5 max_fails=3'.\n",
        options: API,
    },
    Manual { name: "remove", synopsis: "UPSTREAM PEER", summary: "Removes a peer", details: "", options: API },
    Manual {
        name: "weight",
        synopsis: "UPSTREAM PEER N",
        summary: "Sets a peer's share of the requests, 1 to 65535",
        details: "",
        options: API,
    },
    Manual {
        name: "state",
        synopsis: "UPSTREAM PEER up|down|temporary_down|drain",
        summary: "Takes a peer out of use, or puts it back",
        details: "\
down: out of use until it is put up again. temporary_down: out of use for a while, and back by itself.
drain: gets no new requests. up: in use.
",
        options: API,
    },
    Manual {
        name: "check",
        synopsis: "FILE",
        summary: "Validates a filter JSON without a proxy, and prints every error with its place",
        details: "FILE may be \"-\" for standard input.\n",
        options: &[],
    },
];

/// The API's address in the reference configuration (`envoy/durpina.yaml`) with the admin prefix of the documentation.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8000/durpina";

const API_OPTIONS: &str = "\
Options:
  --url URL      where the management API is: http://HOST:PORT and admin.prefix. Default: the variable
                 DURPINA_URL, or http://127.0.0.1:8000/durpina
  --token TOKEN  what admin.token says. Better put it into the variable DURPINA_TOKEN: all users of the machine
                 see the arguments of a process in the list of processes
  --timeout T    how long it may take in all, such as 500ms or 1m. Default: 5s
  --json         prints the API's JSON as it is, instead of a table
";

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the configuration is wrong (check)
  2  called wrongly, or the file cannot be read
  3  the management API refused: no such peer, a wrong token, an invalid value (4xx)
  4  the management API cannot be reached, failed (5xx), or what answered is not the API
";

/// The command of that name.
pub(crate) fn find(name: &str) -> Option<&'static Manual> {
    COMMANDS.iter().find(|command| command.name == name)
}

impl Manual {
    /// One line: how to call it.
    pub(crate) fn usage(&self) -> String {
        let options = if self.calls_api() { " [OPTIONS]" } else { "" };
        format!("usage: durpina {} {}{options}\n", self.name, self.synopsis)
    }

    /// What `durpina COMMAND --help` prints.
    pub(crate) fn help(&self) -> String {
        let mut text = format!("{}\n{}.\n", self.usage(), self.summary);
        if !self.details.is_empty() {
            text += &format!("\n{}", self.details);
        }
        if self.calls_api() {
            text += &format!("\n{API_OPTIONS}");
        }
        text + "\n" + EXIT_CODES
    }

    fn calls_api(&self) -> bool {
        !self.options.is_empty()
    }
}

/// One line: how to call any command.
pub(crate) fn usage() -> String {
    "usage: durpina COMMAND [ARGUMENTS] [OPTIONS]\n".to_owned()
}

/// What `durpina --help` prints.
pub(crate) fn help() -> String {
    let mut text =
        usage() + "\nLooks after the upstreams of a running durpina, and checks a configuration without one.\n\n";
    text += "Commands:\n";
    for command in &COMMANDS {
        text += &format!("  {} {}\n      {}.\n", command.name, command.synopsis, command.summary);
    }
    text += "\n`durpina COMMAND --help` says more of one; `durpina --version` prints the version.\n";
    text + "\n" + API_OPTIONS + "\n" + EXIT_CODES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_a_terminal_and_names_every_command_option_and_exit_code() {
        let text = help();
        for command in &COMMANDS {
            assert!(text.contains(&format!("\n  {} ", command.name)), "{} is not in the list", command.name);
            for option in command.options {
                assert!(command.help().contains(option), "{} takes {option} and does not say so", command.name);
            }
            assert!(command.help().lines().all(|line| line.len() <= 120), "the help of {} is too wide", command.name);
            assert!(command.help().contains("\n  4  "), "the help of {} has no exit codes", command.name);
        }
        assert!(text.lines().all(|line| line.len() <= 120), "the help is too wide");
        assert!(text.contains("DURPINA_TOKEN") && text.contains("DURPINA_URL") && text.contains(DEFAULT_URL));
    }
}
