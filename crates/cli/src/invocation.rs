//! What one call of the command asks for: its arguments, and the environment where they are silent.
//!
//! The token is read here and printed nowhere: no message repeats it, and [`Access`] does not show it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};
use ureq::http::HeaderValue;

use crate::arguments::{self, Action, ApiOptions, Command, CommandLine, NginxConf, OwnNames, Secret};
use crate::envoy;
use crate::manual;
use crate::text;
use crate::url::Base;

/// The API's address in the reference configuration (`envoy/durpina.yaml`) with the admin prefix of the documentation.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8000/durpina";

/// Long enough for a busy proxy, short enough for a person who waits.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Debug)]
pub(crate) enum Invocation {
    /// Print this: help, the version, a completion script, the manual page.
    Print(String),
    /// Validate these files.
    Check(Vec<PathBuf>, OwnNames),
    /// Write an nginx configuration for this file.
    NginxConfig { file: PathBuf, conf: NginxConf },
    /// Put the filter into an Envoy configuration, or take it out.
    Envoy(envoy::Task),
    /// Call the management API.
    Call { access: Access, action: Action, json: bool },
}

/// How to reach the management API.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) url: Base,
    /// `Bearer TOKEN`, marked as sensitive: its `Debug` does not show it.
    pub(crate) authorization: Option<HeaderValue>,
    /// For the whole call, from the look-up of the host to the last byte of the answer.
    pub(crate) timeout: Duration,
}

/// The command was called wrongly. Its text is for the person who called: what is wrong, and how to call it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Misuse(String);

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the arguments behind the program's name. `variable` looks up an environment variable.
///
/// # Errors
///
/// [`Misuse`] for what no command takes, and for values that cannot be right whatever the API says.
pub(crate) fn parse(
    arguments: impl Iterator<Item = OsString>,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Invocation, Misuse> {
    let arguments: Vec<OsString> = arguments.collect();
    let mut definition = arguments::definition();
    definition.build();
    let words = std::iter::once(OsString::from("durpina")).chain(arguments.iter().cloned());
    let read = match definition.try_get_matches_from_mut(words) {
        Ok(matches) => act(&definition, &matches, variable),
        Err(error) => match error.kind() {
            ErrorKind::DisplayVersion => Ok(Invocation::Print(version())),
            // clap stops at the first --help. `durpina --help weight` asks for the help of `weight` all the same.
            ErrorKind::DisplayHelp => {
                Ok(Invocation::Print(named(&definition, &arguments).render_long_help().to_string()))
            }
            _ => Err(error),
        },
    };
    read.map_err(|mut error| {
        // clap says how to call a command after some mistakes only.
        let usage = named(&definition, &arguments).render_usage();
        error.insert(ContextKind::Usage, ContextValue::StyledStr(usage));
        Misuse(conceal(text::lines(&error.render().to_string()), &arguments))
    })
}

fn version() -> String {
    concat!("durpina ", env!("CARGO_PKG_VERSION"), "\n").to_owned()
}

/// The first command that is named, or else the whole.
fn named(definition: &clap::Command, words: &[impl AsRef<OsStr>]) -> clap::Command {
    words.iter().find_map(|word| definition.find_subcommand(word)).unwrap_or(definition).clone()
}

fn act(
    definition: &clap::Command,
    matches: &ArgMatches,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Invocation, clap::Error> {
    let CommandLine { options: before, selector: selector_before, command, .. } =
        CommandLine::from_arg_matches(matches)?;
    let Some((name, own)) = matches.subcommand() else {
        return Err(definition.clone().error(ErrorKind::MissingSubcommand, "expected a command"));
    };

    // clap lets any command follow the options that stand before it.
    let given = |option: &&clap::Arg| matches.value_source(option.get_id().as_str()) == Some(ValueSource::CommandLine);
    let takes = |option: &&clap::Arg| own.try_contains_id(option.get_id().as_str()).is_ok();
    let foreign = definition.get_arguments().filter(given).find(|option| !takes(option));
    let wrong = |kind, message: String| named(definition, &[name]).error(kind, message);
    if let Some(long) = foreign.and_then(clap::Arg::get_long) {
        return Err(wrong(ErrorKind::UnknownArgument, format!("`durpina {name}` takes no --{long}")));
    }

    Ok(match command {
        Command::Call(mut action) => {
            if let Action::Peers { selector, .. } = &mut action {
                *selector = selector.take().or(selector_before);
            }
            let options = ApiOptions::from_arg_matches(own)?.or(before);
            let json = options.json;
            let access = access(options, variable).map_err(|message| wrong(ErrorKind::ValueValidation, message))?;
            Invocation::Call { access, action, json }
        }
        Command::Check { files, own } => Invocation::Check(files, own),
        Command::NginxConfig { file, conf } => Invocation::NginxConfig { file, conf },
        Command::Envoy { files, routes, managers, peers, wasm, socket, remove, write, manifest } => {
            let wishes = envoy::Wishes { managers, routes, peers, wasm, socket };
            Invocation::Envoy(envoy::Task { files, wishes, remove, write, manifest })
        }
        Command::Completions { shell } => Invocation::Print(manual::completions(shell)),
        Command::Man => Invocation::Print(manual::page()),
        Command::Help { command } => {
            Invocation::Print(named(definition, command.as_slice()).render_long_help().to_string())
        }
        Command::Version => Invocation::Print(version()),
    })
}

/// The environment is looked up here and not by clap (its `env`): an empty variable counts as absent, no value of the
/// environment can come into a help text or an error, and tests bring their own.
fn access(options: ApiOptions, variable: impl Fn(&str) -> Option<OsString>) -> Result<Access, String> {
    let value = |option: Option<Secret>, option_name: &str, variable_name: &str| {
        let (value, name) = match option {
            Some(Secret(value)) => (Some(value), format!("the value of {option_name}")),
            // An empty variable is how shells and service managers unset one.
            None => (variable(variable_name).filter(|value| !value.is_empty()), variable_name.to_owned()),
        };
        // The value is not shown: it may be the token.
        value.map(|value| value.into_string().map_err(|_| format!("{name} is not UTF-8"))).transpose()
    };
    let url = value(options.url, "--url", "DURPINA_URL")?;
    let token = value(options.token, "--token", "DURPINA_TOKEN")?;
    Ok(Access {
        url: Base::parse(url.as_deref().unwrap_or(DEFAULT_URL))?,
        authorization: token.as_deref().map(bearer).transpose()?,
        timeout: options.timeout.unwrap_or(DEFAULT_TIMEOUT),
    })
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    if token.is_empty() {
        return Err("the token is empty".to_owned());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "the token has characters that cannot be sent, such as a line feed".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// The message without what may be the token. clap repeats words that it has no use for, and those may hold it where
/// quotes or a space are amiss: `"--token secret"`, `--token:secret`, `-- --token secret`.
fn conceal(message: String, arguments: &[OsString]) -> String {
    const TOKEN: &str = "token";
    let mut message = message;
    let mut previous = "".into();
    for argument in arguments {
        let argument = argument.to_string_lossy();
        let end = argument.to_ascii_lowercase().find(TOKEN).map(|start| start + TOKEN.len());
        // clap puts quotes around what it repeats, so that a short word does not match inside of another.
        let quoted = format!("'{}'", text::one_line(&argument));
        if previous == "--token" {
            message = message.replace(&quoted, "'…'");
        } else if let Some((shown, _)) =
            end.and_then(|end| argument.split_at_checked(end)).filter(|(_, rest)| !rest.is_empty())
        {
            message = message.replace(&quoted, &format!("'{shown}…'"));
        }
        previous = argument;
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::AdminState;
    use clap::{Parser, Subcommand};

    fn parse_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, Misuse> {
        parse(arguments.iter().map(OsString::from), |name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| OsString::from(value))
        })
    }

    /// What a call would do, where it would go and with which header.
    fn call(arguments: &[&str], variables: &[(&str, &str)]) -> (Action, String, Option<String>, Duration, bool) {
        match parse_with(arguments, variables) {
            Ok(Invocation::Call { access, action, json }) => {
                let authorization = access.authorization.map(|value| value.to_str().unwrap().to_owned());
                (action, access.url.to_string(), authorization, access.timeout, json)
            }
            other => panic!("{arguments:?} is no call of the API but {other:?}"),
        }
    }

    #[track_caller]
    fn printed(arguments: &[&str]) -> String {
        match parse_with(arguments, &[]) {
            Ok(Invocation::Print(text)) => text,
            other => panic!("{arguments:?} prints nothing but is {other:?}"),
        }
    }

    /// What is wrong, without how to call the command.
    #[track_caller]
    fn message(arguments: &[&str]) -> String {
        let misuse = parse_with(arguments, &[]).expect_err("this is wrong").to_string();
        let (message, usage) = misuse.split_once("\n\nUsage: durpina ").expect("a mistake is answered with the usage");
        if let Some(command) =
            arguments.iter().find(|argument| arguments::definition().find_subcommand(argument).is_some())
        {
            assert!(usage.starts_with(command), "{arguments:?} is answered with the usage of another command: {usage}");
        }
        message.strip_prefix("error: ").expect("it is called an error").to_owned()
    }

    #[test]
    fn clap_finds_no_fault_with_the_definition() {
        arguments::definition().debug_assert();
    }

    #[test]
    fn options_stand_anywhere_and_may_be_glued_to_their_values() {
        let peers = Action::Peers { upstream: "web".into(), selector: Some("down".into()) };
        for arguments in [
            [
                "peers",
                "web",
                "--url",
                "http://h:1/x",
                "--token",
                "t",
                "--selector",
                "down",
                "--timeout",
                "250ms",
                "--json",
            ]
            .as_slice(),
            &["--json", "--url=http://h:1/x", "--token=t", "peers", "--timeout=250ms", "--selector=down", "--", "web"],
            &["--selector=down", "--timeout", "250ms", "peers", "--json", "--token", "t", "web", "--url=http://h:1/x"],
        ] {
            let expected = (
                peers.clone(),
                "http://h:1/x".to_owned(),
                Some("Bearer t".to_owned()),
                Duration::from_millis(250),
                true,
            );
            assert_eq!(call(arguments, &[]), expected, "{arguments:?}");
        }
    }

    #[test]
    fn of_an_option_given_twice_the_last_one_counts() {
        for arguments in [
            ["info", "--timeout", "1s", "--timeout", "2s", "--json", "--json", "--token", "a", "--token", "b"]
                .as_slice(),
            &["--timeout", "1s", "--token=a", "--json", "info", "--timeout", "2s", "--token=b"],
            &["--token=a", "--token=b", "--json", "--timeout=1s", "--timeout=2s", "info"],
        ] {
            let (_, _, authorization, timeout, json) = call(arguments, &[]);
            let expected = (Some("Bearer b"), Duration::from_secs(2), true);
            assert_eq!((authorization.as_deref(), timeout, json), expected, "{arguments:?}");
        }
    }

    #[test]
    fn the_environment_speaks_where_the_arguments_are_silent() {
        let variables = [("DURPINA_URL", "http://env:2/d"), ("DURPINA_TOKEN", "secret")];
        let (_, url, authorization, timeout, json) = call(&["info"], &variables);
        assert_eq!((url.as_str(), authorization.as_deref()), ("http://env:2/d", Some("Bearer secret")));
        assert_eq!((timeout, json), (DEFAULT_TIMEOUT, false));

        for arguments in
            [["info", "--url", "http://arg:3", "--token", "t"], ["--url", "http://arg:3", "--token", "t", "info"]]
        {
            let (_, url, authorization, ..) = call(&arguments, &variables);
            assert_eq!((url.as_str(), authorization.as_deref()), ("http://arg:3", Some("Bearer t")));
        }

        let (_, url, authorization, ..) = call(&["info"], &[("DURPINA_URL", ""), ("DURPINA_TOKEN", "")]);
        assert_eq!((url.as_str(), authorization), (DEFAULT_URL, None), "empty variables count as absent");
    }

    #[test]
    fn every_command_has_its_words() {
        let action = |arguments: &[&str]| call(arguments, &[]).0;
        assert_eq!(action(&["info"]), Action::Info { upstream: None });
        assert_eq!(action(&["info", "web"]), Action::Info { upstream: Some("web".into()) });
        let server = |arguments: &[&str]| match action(arguments) {
            Action::Add { upstream, server } => (upstream, server.join(" ")),
            other => panic!("{other:?}"),
        };
        let add = ("web".to_owned(), "10.0.0.1:80 weight=5".to_owned());
        assert_eq!(server(&["add", "web", "10.0.0.1:80 weight=5"]), add);
        assert_eq!(server(&["add", "web", "10.0.0.1:80", "weight=5"]), add, "the quotes may be forgotten");
        assert_eq!(server(&["add", "web", "10.0.0.1:80", "--json", "weight=5"]), add, "an option may stand there, too");
        assert_eq!(action(&["remove", "web", "p"]), Action::Remove { upstream: "web".into(), peer: "p".into() });
        let weight = Action::Weight { upstream: "web".into(), peer: "p".into(), weight: 7 };
        assert_eq!(action(&["weight", "web", "p", "7"]), weight);
        for (word, state) in [
            ("up", AdminState::Up),
            ("down", AdminState::Down),
            ("temporary_down", AdminState::TemporaryDown),
            ("drain", AdminState::Drain),
        ] {
            let expected = Action::State { upstream: "web".into(), peer: "p".into(), state };
            assert_eq!(action(&["state", "web", "p", word]), expected);
        }
        assert!(
            matches!(parse_with(&["check", "-"], &[]), Ok(Invocation::Check(files, _)) if files == [PathBuf::from("-")])
        );
    }

    #[test]
    fn help_and_version_need_nothing_else() {
        let help = printed(&["--help"]);
        assert!(help.contains("Usage: durpina [OPTIONS] <COMMAND>"), "{help}");
        for arguments in [["--help"], ["-h"], ["help"]] {
            assert_eq!(printed(&arguments), help);
        }
        let weight = printed(&["weight", "--help"]);
        assert!(weight.contains("Usage: durpina weight [OPTIONS] <UPSTREAM> <PEER> <N>"), "{weight}");
        for arguments in [["weight", "-h"].as_slice(), &["--help", "weight", "web"], &["help", "weight"]] {
            assert_eq!(printed(arguments), weight);
        }
        for arguments in [["--version"].as_slice(), &["-V"], &["version"], &["weight", "--version"], &["-V", "weight"]]
        {
            assert_eq!(printed(arguments), concat!("durpina ", env!("CARGO_PKG_VERSION"), "\n"), "{arguments:?}");
        }
    }

    #[test]
    fn help_fits_a_terminal_and_names_every_command_option_and_exit_code() {
        // Whatever terminal the test runs in.
        let mut definition = arguments::definition().term_width(100);
        definition.build();
        let help_of = |words: &[&str]| named(&definition, words).render_long_help().to_string();
        let help = help_of(&[]);
        for command in definition.get_subcommands() {
            let name = command.get_name();
            assert!(help.contains(&format!("\n  {name} ")), "{name} is not in the list");
            let own = help_of(&[name]);
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(own.contains(&format!("--{option}")), "{name} takes --{option} and does not say so");
            }
            assert!(own.lines().all(|line| line.len() <= 120), "the help of {name} is too wide");
            assert!(own.contains(&format!("Examples:\n  durpina {name}")) || name == "check", "{name} has no example");
            for code in 0..=4 {
                assert!(own.contains(&format!("\n  {code}  ")), "the help of {name} lacks the exit code {code}");
            }
            assert_eq!(own.contains("--token"), Action::has_subcommand(name), "{name} and the API's options");
        }
        assert!(help.lines().all(|line| line.len() <= 120), "the help is too wide");
        assert!(help.contains("DURPINA_TOKEN") && help.contains("DURPINA_URL") && help.contains(DEFAULT_URL));
    }

    #[test]
    fn mistakes_are_named() {
        assert!(message(&[]).starts_with("'durpina' requires a subcommand but one was not provided"));
        assert!(message(&["piers"]).starts_with("unrecognized subcommand 'piers'"));
        assert!(message(&["help", "piers"]).starts_with("invalid value 'piers' for '[COMMAND]'"));
        let required = "the following required arguments were not provided:\n  ";
        assert_eq!(message(&["peers"]), format!("{required}<UPSTREAM>"));
        assert_eq!(message(&["peers", "web", "10.0.0.1:80"]), "unexpected argument '10.0.0.1:80' found");
        assert_eq!(message(&["info", "web", "api"]), "unexpected argument 'api' found");
        assert_eq!(message(&["add", "web"]), format!("{required}<SERVER>..."));
        assert_eq!(message(&["remove", "web"]), format!("{required}<PEER>"));
        assert_eq!(message(&["state", "web", "p"]), format!("{required}<STATE>"));
        assert_eq!(message(&["remove", "web", ""]), "invalid value '' for '<PEER>': a name cannot be empty");
        assert_eq!(message(&["remove", "web", ".."]), "invalid value '..' for '<PEER>': it cannot be a name in a URL");
        assert_eq!(
            message(&["weight", "web", "p", "heavy"]),
            "invalid value 'heavy' for '<N>': expected a weight, an integer of 1 or more"
        );
        assert_eq!(
            message(&["state", "web", "p", "off"]),
            "invalid value 'off' for '<STATE>'\n  [possible values: up, down, temporary_down, drain]"
        );
        assert!(message(&["info", "--selector", "down"]).starts_with("unexpected argument '--selector' found"));
        assert_eq!(message(&["--selector", "down", "info"]), "`durpina info` takes no --selector");
        assert!(message(&["check", "file", "--json"]).starts_with("unexpected argument '--json' found"));
        assert_eq!(message(&["--json", "check", "file"]), "`durpina check` takes no --json");
        assert_eq!(message(&["--url=http://h", "completions", "bash"]), "`durpina completions` takes no --url");
        assert_eq!(message(&["check"]), format!("{required}<FILE>..."));
        assert!(message(&["info", "--verbose"]).starts_with("unexpected argument '--verbose' found"));
        assert_eq!(message(&["info", "--token"]), "a value is required for '--token <TOKEN>' but none was supplied");
        assert_eq!(
            message(&["info", "--timeout", "0"]),
            "invalid value '0' for '--timeout <TIME>': expected a time above zero"
        );
        assert!(message(&["info", "--timeout", "soon"])
            .starts_with("invalid value 'soon' for '--timeout <TIME>': expected "));
        assert!(message(&["info", "--url", "example"]).contains("\"example\""));
        assert!(message(&["completions", "tcsh"]).starts_with("invalid value 'tcsh' for '<SHELL>'"));
    }

    #[test]
    fn the_token_is_never_shown() {
        let shown = format!("{:?}", parse_with(&["info", "--token", "secret"], &[]).unwrap());
        assert!(!shown.contains("secret"), "{shown}");
        let shown = format!("{:?}", CommandLine::try_parse_from(["durpina", "--token", "secret", "info"]).unwrap());
        assert!(shown.contains("Secret") && !shown.contains("secret"), "{shown}");
        let shown = message(&["info", "--token", "sec\nret"]);
        assert_eq!(shown, "the token has characters that cannot be sent, such as a line feed");
        assert_eq!(message(&["info", "--token", ""]), "the token is empty");
    }

    #[test]
    fn a_token_at_a_wrong_place_is_not_shown() {
        for arguments in [
            ["info", "--token", "secret", "web", "api"].as_slice(),
            &["info", "--token", "-secret", "web", "api"],
            &["check", "file", "--token", "secret"],
            &["check", "file", "--token=secret"],
            &["--token", "secret", "check", "file"],
            &["--token", "secret"],
            &["info", "--tokn=secret"],
            &["info", "--tokn", "secret"],
            &["info", "--token secret"],
            &["info", "--token:secret"],
            &["info", "--tokensecret"],
            &["info", "--TOKEN=secret"],
            &["info", "-token", "secret"],
            &["info", "-tsecret"],
            &["info", "--", "--token", "secret"],
            &["info", "web", "token=secret"],
            &["info", "web", "Token\u{1b}secret"],
            &["--token secret", "info"],
            &["info", "--url", "http://user:secret@h/"],
            &["info", "--timeout", "0", "--token", "secret"],
        ] {
            let misuse = parse_with(arguments, &[]).expect_err("this is wrong").to_string();
            assert!(!misuse.contains("secret"), "{arguments:?} is answered with: {misuse}");
            assert!(misuse.contains("Usage: durpina "), "{misuse}");
        }
    }

    #[test]
    fn what_is_repeated_does_not_reach_the_terminal_as_it_is() {
        assert!(message(&["pi\u{1b}[2Jers"]).starts_with("unrecognized subcommand 'pi\u{fffd}[2Jers'"));
        let shown = message(&["info", "--a\u{9b}2J"]);
        assert!(!shown.contains('\u{9b}') && shown.contains("--a\u{fffd}2J"), "{shown:?}");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_utf_8_is_refused_without_being_shown_where_it_may_be_the_token() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(b"secret\xff".to_vec());
        let refused = |before: &[&str], variable: Option<OsString>| {
            let last = if variable.is_none() { Some(odd.clone()) } else { None };
            let arguments = before.iter().map(OsString::from).chain(last);
            let misuse = parse(arguments, |_| variable.clone()).expect_err("this is wrong").to_string();
            assert!(!misuse.contains("secret"), "{before:?} is answered with: {misuse}");
            misuse
        };
        assert!(refused(&["info", "--token"], None).starts_with("error: the value of --token is not UTF-8\n"));
        assert!(refused(&["info", "--url"], None).starts_with("error: the value of --url is not UTF-8\n"));
        assert!(refused(&["peers"], None).starts_with("error: invalid UTF-8 was detected"));
        assert!(refused(&["info"], Some(odd.clone())).starts_with("error: DURPINA_URL is not UTF-8\n"));
        let misuse = parse(["info".into()].into_iter(), |name| Some(odd.clone()).filter(|_| name == "DURPINA_TOKEN"));
        let misuse = misuse.expect_err("this is wrong").to_string();
        assert!(misuse.starts_with("error: DURPINA_TOKEN is not UTF-8\n") && !misuse.contains("secret"), "{misuse}");
    }
}
