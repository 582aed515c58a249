//! What can be asked: the commands, their arguments and options, and what `--help` and the manual page say of each.
//!
//! clap reads these types and their comments. Where a value may hold a secret it is taken as it is ([`Secret`]) and judged
//! by [`crate::invocation`], because clap repeats in its errors what it cannot use.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use durpina::time;
use serde::Serialize;

use crate::envoy::{Manifest, Peers};
use crate::texts;

/// The command line of `durpina`.
#[derive(Debug, Parser)]
#[command(
    name = "durpina",
    version,
    about = "Manages the upstreams of a running durpina, and validates a filter JSON without a proxy",
    long_about = texts::DESCRIPTION,
    after_help = texts::EXAMPLES,
    subcommand_value_name = "COMMAND",
    subcommand_help_heading = "Commands",
    max_term_width = 100,
    args_override_self = true,
    propagate_version = true,
    disable_help_flag = true,
    disable_help_subcommand = true,
    disable_version_flag = true
)]
pub(crate) struct CommandLine {
    /// Those that stand before the command.
    #[command(flatten)]
    pub(crate) options: ApiOptions,
    /// Shows only some of the peers
    // Here too, because options may stand anywhere; hidden, because of all commands only `peers` takes it.
    #[arg(long, hide = true, value_parser = SelectorParser)]
    pub(crate) selector: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Prints this help
    #[arg(short, long, global = true, action = ArgAction::HelpLong)]
    help: Option<bool>,
    /// Prints the version
    #[arg(short = 'V', long, global = true, action = ArgAction::Version)]
    version: Option<bool>,
}

/// The heading of [`ApiOptions`] in the help.
const API_OPTIONS: &str = "API options";

// How to reach the management API, and how to print its answer. Every command that calls it takes these. (No doc comment:
// clap would take it for what the commands do.)
#[derive(Debug, Args)]
pub(crate) struct ApiOptions {
    /// Address of the management API
    ///
    /// Scheme, host and port of a listener with the filter, and admin.prefix. There is no TLS; from another machine use a
    /// tunnel (ssh -L). Default: the environment variable DURPINA_URL, or http://127.0.0.1:8000/durpina.
    #[arg(
        long,
        help_heading = API_OPTIONS,
        value_name = "URL",
        value_hint = ValueHint::Url,
        value_parser = OsStringValueParser::new().map(Secret)
    )]
    pub(crate) url: Option<Secret>,
    /// Bearer token of the management API
    ///
    /// What admin.token says. Default: the environment variable DURPINA_TOKEN, which is the better place: all users of the
    /// machine see the arguments of a process. The token is never printed.
    // A token may begin with a hyphen.
    #[arg(
        long,
        help_heading = API_OPTIONS,
        value_name = "TOKEN",
        value_hint = ValueHint::Other,
        allow_hyphen_values = true,
        value_parser = OsStringValueParser::new().map(Secret)
    )]
    pub(crate) token: Option<Secret>,
    /// Time limit of the whole call
    ///
    /// From the look-up of the host to the last byte of the answer, such as 500ms, 10s or 1m. Default: 5s.
    #[arg(long, help_heading = API_OPTIONS, value_name = "TIME", value_hint = ValueHint::Other, value_parser = timeout)]
    pub(crate) timeout: Option<Duration>,
    /// Prints the JSON of the API as it is
    ///
    /// For scripts, instead of a table. "remove" has no answer, and prints nothing.
    #[arg(long, help_heading = API_OPTIONS)]
    pub(crate) json: bool,
}

impl ApiOptions {
    /// These, and `before` where these are silent.
    pub(crate) fn or(self, before: Self) -> Self {
        Self {
            url: self.url.or(before.url),
            token: self.token.or(before.token),
            timeout: self.timeout.or(before.timeout),
            json: self.json || before.json,
        }
    }
}

// What the filter has besides what durpina brings. (No doc comment, as above.)
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub(crate) struct OwnNames {
    /// A monitor that your filter has besides durpina's
    ///
    /// Its name is good then, and the options of its own are not looked at: only your filter knows them. Once for each monitor.
    #[arg(long = "monitor", value_name = "NAME", value_hint = ValueHint::Other)]
    pub(crate) monitors: Vec<String>,
    /// A balancer that your filter has besides durpina's
    ///
    /// The same for a balancer.
    #[arg(long = "balancer", value_name = "NAME", value_hint = ValueHint::Other)]
    pub(crate) balancers: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Call(Action),
    /// Validates a filter JSON, alone or in an Envoy configuration
    ///
    /// Reads the filter JSON as the filter would, and prints every error with its place. Given files that Envoy reads, in YAML
    /// or JSON (a bootstrap, or what it has from LDS, RDS and CDS; all that belong together), it finds the filter JSON in them,
    /// and looks at what has to be around it: filters, access log, routes, clusters. Exit code 1 if there is an error;
    /// warnings are none.
    #[command(after_help = texts::CHECK)]
    Check {
        /// The filter JSON, or the files of Envoy's configuration; "-" is standard input
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        own: OwnNames,
    },
    /// Writes an nginx configuration for a filter JSON
    ///
    /// Prints one of the files in nginx-wasm/ with this filter JSON in its place, quoted for nginx, and with the servers that it
    /// names. Ports and paths are those of the file. The same filter JSON gives the same text. Exit code 1 if the filter JSON
    /// has an error.
    #[command(after_help = texts::NGINX_CONFIG)]
    NginxConfig {
        /// The filter JSON; "-" is standard input
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
        /// Which of the files
        #[arg(long, value_name = "NAME", value_enum, default_value_t = NginxConf::Keepalive)]
        conf: NginxConf,
    },
    /// Puts the filter into an Envoy configuration, or takes it out
    ///
    /// Reads files that Envoy reads, in YAML or JSON (a bootstrap, or what it has from LDS, RDS and CDS; all that belong
    /// together), and a filter JSON. Shows as a diff what has to change: the filter before the router of each connection manager,
    /// its clusters, the access log, and the routes that --route names. Comments, order and everything else stay. Called again
    /// it changes nothing. Without a filter JSON the one in the configuration is kept. Exit code 1 if something cannot be
    /// done; then nothing is written.
    #[command(after_help = texts::ENVOY)]
    Envoy {
        /// The files of Envoy's configuration, and the filter JSON
        #[arg(required = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
        files: Vec<PathBuf>,
        /// Points this route to durpina: HOST/PREFIX, or HOST alone for all of its routes
        ///
        /// HOST is the name of a virtual host, or * for any; PREFIX the prefix, path or regex that the route matches, as it is
        /// written. May be given several times.
        #[arg(long = "route", value_name = "HOST/PREFIX", value_hint = ValueHint::Other, action = ArgAction::Append)]
        routes: Vec<String>,
        /// Only this connection manager: its stat_prefix, its listener's name, or LISTENER/STAT_PREFIX
        ///
        /// May be given several times. Default: those that have the filter already, or all of them.
        #[arg(long = "manager", value_name = "NAME", value_hint = ValueHint::Other, action = ArgAction::Append)]
        managers: Vec<String>,
        /// What the peers speak
        ///
        /// Default: as was said before, or what the clusters speak to which the routes led, with their TLS settings.
        #[arg(long, value_name = "KIND", value_enum)]
        peers: Option<Peers>,
        /// Where Envoy finds the filter
        ///
        /// Default: as before, or /etc/envoy/durpina.wasm.
        #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
        wasm: Option<String>,
        /// The socket of the gateway for TCP checks; its directory has to exist
        ///
        /// Default: as before, or /run/envoy/durpina-tcp.sock.
        #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
        socket: Option<String>,
        /// Takes out what this command put in
        #[arg(long)]
        remove: bool,
        /// Writes the files, all or none
        #[arg(long)]
        write: bool,
        #[command(flatten)]
        manifest: Manifest,
    },
    /// Prints a completion script for a shell
    ///
    /// The script completes commands, options, and the values that are known beforehand. It calls no API.
    #[command(after_help = texts::COMPLETIONS)]
    Completions {
        /// The shell that reads it
        shell: Shell,
    },
    /// Prints the manual page
    ///
    /// One page in the format of man(1), with every command.
    #[command(after_help = texts::MAN)]
    Man,
    /// Prints the help of durpina, or of one command
    #[command(after_help = texts::HELP)]
    Help {
        /// The command; without it, all of them in short
        command: Option<String>,
    },
    /// Prints the version
    #[command(after_help = texts::VERSION)]
    Version,
}

/// The commands that call the management API. Names are as the API knows them, not encoded.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum Action {
    /// Shows the peers of an upstream
    ///
    /// STATE is what is said of the peer: nothing is against it in up and failing. IN-USE is whether it gets requests: "yes",
    /// "no", or "kept", which is in spite of its state. WHY is who put the peer into its state, the reason, also for being
    /// kept, and when the state ends by itself. A "-" stands where the API says nothing.
    #[command(after_help = texts::PEERS)]
    Peers {
        /// Name of the upstream
        #[arg(value_parser = name, value_hint = ValueHint::Other)]
        upstream: String,
        /// Shows only some of the peers
        ///
        /// "down" are those that are temporary_down or down; "permanent_down" are those that are down until somebody says
        /// otherwise. Default: all.
        #[arg(long, value_parser = SelectorParser)]
        selector: Option<String>,
    },
    /// Shows an upstream with its peers and monitors, or all upstreams in short
    ///
    /// STATE is up, degraded or down. UP is how many peers nothing is against, of how many; OUT are those that an operator or
    /// the configuration took out. WHY is whose word put the upstream into its state, and the reason.
    #[command(after_help = texts::INFO)]
    Info {
        /// Name of the upstream; without it, one line for each upstream
        #[arg(value_parser = name, value_hint = ValueHint::Other)]
        upstream: Option<String>,
    },
    /// Adds a peer
    ///
    /// All workers have it at their next request. It outlives a change of Envoy's configuration, and neither a restart nor
    /// a reload of nginx.
    #[command(after_help = texts::ADD)]
    Add {
        /// Name of the upstream
        #[arg(value_parser = name, value_hint = ValueHint::Other)]
        upstream: String,
        /// The peer, as in nginx's server directive: HOST:PORT and parameters
        ///
        /// Parameters are those of a server in the filter JSON, such as weight=5, max_fails=3, fail_timeout=10s, backup
        /// and down. The quotes around them may be left out.
        #[arg(required = true, value_hint = ValueHint::Other)]
        server: Vec<String>,
    },
    /// Removes a peer
    ///
    /// It gets no request any more. Put it into the state drain first, and wait until its IN-FLIGHT is 0.
    #[command(after_help = texts::REMOVE)]
    Remove {
        /// Name of the upstream
        #[arg(value_parser = name, value_hint = ValueHint::Other)]
        upstream: String,
        /// Name of the peer, as "peers" shows it: HOST:PORT
        #[arg(value_parser = name, value_hint = ValueHint::Other)]
        peer: String,
    },
    /// Sets the weight of a peer
    ///
    /// The weight is the peer's share of the requests, beside the weights of the others. All workers have it at their next
    /// request.
    #[command(after_help = texts::WEIGHT)]
    Weight {
        /// Name of the upstream
        #[arg(value_parser = name, value_hint = ValueHint::Other)]
        upstream: String,
        /// Name of the peer, as "peers" shows it: HOST:PORT
        #[arg(value_parser = name, value_hint = ValueHint::Other)]
        peer: String,
        /// The weight, 1 to 65535
        #[arg(value_name = "N", value_parser = weight, value_hint = ValueHint::Other)]
        weight: u64,
    },
    /// Takes a peer out of use, or puts it back
    #[command(after_help = texts::STATE)]
    State {
        /// Name of the upstream
        #[arg(value_parser = name, value_hint = ValueHint::Other)]
        upstream: String,
        /// Name of the peer, as "peers" shows it: HOST:PORT
        #[arg(value_parser = name, value_hint = ValueHint::Other)]
        peer: String,
        /// What the operator wants of it
        state: AdminState,
    },
}

/// The states that an operator may give a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum AdminState {
    /// In use, whatever was held against it
    Up,
    /// Out of use until it is put up again, whatever monitors find
    Down,
    /// Out of use for its fail_timeout, then back by itself
    TemporaryDown,
    /// Gets no new requests until it is put up again; those in flight end as usual
    Drain,
}

/// The nginx configurations that there are. Each is a file in nginx-wasm/.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum NginxConf {
    /// Any address at run time; a connection for each request
    AnyAddress,
    /// Connections to the servers of the filter JSON are kept
    Keepalive,
    /// The same in one upstream of nginx, from 1.29.6 on
    StickyRoute,
    /// Uploads are passed on while they arrive
    Streaming,
}

/// A value that may be or hold a secret: nothing shows it.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) OsString);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Everything that clap has to know, with the help as it is printed.
pub(crate) fn definition() -> clap::Command {
    let with_exit_codes = |command: clap::Command| {
        let examples = command.get_after_help().map(|lines| format!("Examples:\n{lines}\n\n")).unwrap_or_default();
        command.after_help(format!("{examples}{}", texts::exit_codes()))
    };
    with_exit_codes(bare_definition()).mut_subcommands(with_exit_codes).mut_subcommands(|command| {
        if Action::has_subcommand(command.get_name()) {
            ApiOptions::augment_args(command)
        } else {
            command
        }
    })
}

/// The definition without what all commands share: where `definition` repeats it, the manual page has it once.
pub(crate) fn bare_definition() -> clap::Command {
    let definition = CommandLine::command();
    let commands = definition.get_subcommands().map(|command| command.get_name().to_owned());
    let commands = PossibleValuesParser::new(commands.collect::<Vec<_>>());
    definition
        // One short message is enough where the command is missing.
        .arg_required_else_help(false)
        .mut_subcommand("help", |help| help.mut_arg("command", |command| command.value_parser(commands)))
}

/// A name that a path can hold. An empty one is a variable of the shell that is not set, and would address all peers where
/// one was meant; `.` and `..` are taken for steps in the path, encoded or not.
fn name(word: &str) -> Result<String, &'static str> {
    match word {
        "" => Err("a name cannot be empty"),
        "." | ".." => Err("it cannot be a name in a URL"),
        _ => Ok(word.to_owned()),
    }
}

/// A number at all. Its limits are the API's matter.
fn weight(word: &str) -> Result<u64, &'static str> {
    word.parse().map_err(|_| "expected a weight, an integer of 1 or more")
}

fn timeout(text: &str) -> Result<Duration, String> {
    match time::parse_duration(text) {
        Ok(Duration::ZERO) => Err("expected a time above zero".to_owned()),
        Ok(timeout) => Ok(timeout),
        Err(expected) => Err(format!("expected {expected}")),
    }
}

/// Shells complete the selectors that are known here. Others pass as well: which there are is the API's matter.
#[derive(Clone, Copy, Debug)]
struct SelectorParser;

impl TypedValueParser for SelectorParser {
    type Value = String;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let selectors = ["all", "failing", "down", "temporary_down", "permanent_down"];
        Some(Box::new(selectors.into_iter().map(PossibleValue::new)))
    }
}
