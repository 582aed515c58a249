//! What the command was called with: its arguments, and the environment where they are silent.
//!
//! The token is read here and printed nowhere: no message repeats it, and [`Access`] does not show it.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use durpina::time;
use lexopt::Arg;
use ureq::http::HeaderValue;

use crate::action::Action;
use crate::manual::{self, Manual};
use crate::url::Base;

/// Long enough for a busy proxy, short enough for a person who waits.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Print this.
    Help(String),
    /// Print the version.
    Version,
    /// Validate this file.
    Check(PathBuf),
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
pub(crate) struct Misuse {
    /// `None` when nothing at all was asked.
    message: Option<String>,
    usage: String,
}

impl fmt::Display for Misuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(message) = &self.message {
            writeln!(f, "durpina: {message}")?;
        }
        f.write_str(&self.usage)
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
) -> Result<Command, Misuse> {
    let mut given = Given::default();
    let read = given.read(arguments);
    let mut words = given.words.iter().map(String::as_str);
    let name = words.next();
    let manual = name.and_then(manual::find);
    let misuse = |message: Option<String>| {
        let mut usage = manual.map_or_else(manual::usage, Manual::usage);
        usage += "`durpina --help` says more.\n";
        Misuse { message, usage }
    };
    let wrong = |message: String| misuse(Some(message));

    read.map_err(wrong)?;
    if given.version {
        return Ok(Command::Version);
    }
    match (name, manual) {
        (None, _) if given.help => Ok(Command::Help(manual::help())),
        (None, _) => Err(misuse(None)),
        (Some(_), Some(manual)) if given.help => Ok(Command::Help(manual.help())),
        (Some("help"), None) => match words.next() {
            None => Ok(Command::Help(manual::help())),
            Some(name) => match manual::find(name) {
                Some(manual) => Ok(Command::Help(manual.help())),
                None => Err(wrong(format!("there is no command {name:?}"))),
            },
        },
        (Some("version"), None) => Ok(Command::Version),
        (Some(name), None) => Err(wrong(format!("there is no command {name:?}"))),
        (Some(_), Some(manual)) => {
            let words: Vec<&str> = words.collect();
            given.command(manual, &words, variable).map_err(wrong)
        }
    }
}

/// What was given, before anything is known of the command. Of an option given twice the last one counts.
#[derive(Default)]
struct Given {
    /// Everything that is no option and no option's value.
    words: Vec<String>,
    /// Options with their values.
    values: Vec<(&'static str, OsString)>,
    json: bool,
    help: bool,
    version: bool,
}

impl Given {
    fn read(&mut self, arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
        // lexopt wants an iterator of its own ('static).
        let mut parser = lexopt::Parser::from_args(arguments.collect::<Vec<_>>());
        while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
            let option = match argument {
                Arg::Value(word) => {
                    let word = word.into_string().map_err(|word| format!("{word:?} is not UTF-8"))?;
                    self.words.push(word);
                    continue;
                }
                Arg::Long("json") => {
                    self.json = true;
                    continue;
                }
                Arg::Long("help") | Arg::Short('h') => {
                    self.help = true;
                    continue;
                }
                Arg::Long("version") | Arg::Short('V') => {
                    self.version = true;
                    continue;
                }
                Arg::Long("url") => "--url",
                Arg::Long("token") => "--token",
                Arg::Long("timeout") => "--timeout",
                Arg::Long("selector") => "--selector",
                other => return Err(other.unexpected().to_string()),
            };
            let value = parser.value().map_err(|error| error.to_string())?;
            self.values.push((option, value));
        }
        Ok(())
    }

    fn command(
        &self,
        manual: &Manual,
        words: &[&str],
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Command, String> {
        let options = self.values.iter().map(|(option, _)| *option).chain(self.json.then_some("--json"));
        for option in options {
            if !manual.options.contains(&option) {
                return Err(format!("`durpina {}` takes no {option}", manual.name));
            }
        }
        if manual.name == "check" {
            return match words {
                [file] => Ok(Command::Check(PathBuf::from(file))),
                _ => Err("expected one FILE".to_owned()),
            };
        }
        let action = Action::new(manual.name, words, self.value("--selector")?)?;
        let access = self.access(variable)?;
        Ok(Command::Call { access, action, json: self.json })
    }

    fn access(&self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Access, String> {
        // An empty variable is how shells and service managers unset one.
        let variable = |name: &str| match variable(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => value.into_string().map(Some).map_err(|_| format!("{name} is not UTF-8")),
        };
        let url = match self.value("--url")? {
            Some(url) => Some(url),
            None => variable("DURPINA_URL")?,
        };
        let token = match self.value("--token")? {
            Some(token) => Some(token),
            None => variable("DURPINA_TOKEN")?,
        };
        let timeout = match self.value("--timeout")? {
            None => DEFAULT_TIMEOUT,
            Some(text) => match time::parse_duration(&text) {
                Ok(Duration::ZERO) => return Err("--timeout: expected a time above zero".to_owned()),
                Ok(timeout) => timeout,
                Err(expected) => return Err(format!("--timeout: expected {expected}, found {text:?}")),
            },
        };
        Ok(Access {
            url: Base::parse(url.as_deref().unwrap_or(manual::DEFAULT_URL))?,
            authorization: token.as_deref().map(bearer).transpose()?,
            timeout,
        })
    }

    fn value(&self, option: &str) -> Result<Option<String>, String> {
        match self.values.iter().rev().find(|(name, _)| *name == option) {
            None => Ok(None),
            // The value is not shown: it may be the token.
            Some((_, value)) => match value.to_str() {
                Some(value) => Ok(Some(value.to_owned())),
                None => Err(format!("the value of {option} is not UTF-8")),
            },
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_with(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Command, Misuse> {
        parse(arguments.iter().map(OsString::from), |name| {
            variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| OsString::from(value))
        })
    }

    /// What a call would do, where it would go and with which header.
    fn call(arguments: &[&str], variables: &[(&str, &str)]) -> (Action, String, Option<String>, Duration, bool) {
        match parse_with(arguments, variables) {
            Ok(Command::Call { access, action, json }) => {
                let authorization = access.authorization.map(|value| value.to_str().unwrap().to_owned());
                (action, access.url.to_string(), authorization, access.timeout, json)
            }
            other => panic!("{arguments:?} is no call of the API but {other:?}"),
        }
    }

    #[track_caller]
    fn message(arguments: &[&str]) -> String {
        let misuse = parse_with(arguments, &[]).expect_err("this is wrong");
        assert!(misuse.to_string().contains("usage: durpina "), "a mistake is answered with the usage: {misuse}");
        misuse.message.unwrap_or_default()
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
    fn the_environment_speaks_where_the_arguments_are_silent() {
        let variables = [("DURPINA_URL", "http://env:2/d"), ("DURPINA_TOKEN", "secret")];
        let (_, url, authorization, timeout, json) = call(&["info"], &variables);
        assert_eq!((url.as_str(), authorization.as_deref()), ("http://env:2/d", Some("Bearer secret")));
        assert_eq!((timeout, json), (DEFAULT_TIMEOUT, false));

        let (_, url, authorization, ..) = call(&["info", "--url", "http://arg:3", "--token", "t"], &variables);
        assert_eq!((url.as_str(), authorization.as_deref()), ("http://arg:3", Some("Bearer t")));

        let (_, url, authorization, ..) = call(&["info"], &[("DURPINA_URL", ""), ("DURPINA_TOKEN", "")]);
        assert_eq!((url.as_str(), authorization), (manual::DEFAULT_URL, None), "empty variables count as absent");
    }

    #[test]
    fn every_command_has_its_words() {
        let action = |arguments: &[&str]| call(arguments, &[]).0;
        assert_eq!(action(&["info"]), Action::Info { upstream: None });
        assert_eq!(action(&["info", "web"]), Action::Info { upstream: Some("web".into()) });
        let add = Action::Add { upstream: "web".into(), server: "10.0.0.1:80 weight=5".into() };
        assert_eq!(action(&["add", "web", "10.0.0.1:80 weight=5"]), add);
        assert_eq!(action(&["add", "web", "10.0.0.1:80", "weight=5"]), add, "the quotes may be forgotten");
        assert_eq!(action(&["remove", "web", "p"]), Action::Remove { upstream: "web".into(), peer: "p".into() });
        let weight = Action::Weight { upstream: "web".into(), peer: "p".into(), weight: 7 };
        assert_eq!(action(&["weight", "web", "p", "7"]), weight);
        let state = Action::State { upstream: "web".into(), peer: "p".into(), state: "drain".into() };
        assert_eq!(action(&["state", "web", "p", "drain"]), state);
        assert!(matches!(parse_with(&["check", "-"], &[]), Ok(Command::Check(file)) if file.as_os_str() == "-"));
    }

    #[test]
    fn help_and_version_need_nothing_else() {
        let help = |arguments: &[&str]| match parse_with(arguments, &[]) {
            Ok(Command::Help(text)) => text,
            other => panic!("{arguments:?} gives no help but {other:?}"),
        };
        for arguments in [["--help"], ["-h"], ["help"]] {
            assert_eq!(help(&arguments), manual::help());
        }
        let weight = manual::find("weight").unwrap().help();
        for arguments in [["weight", "--help"].as_slice(), &["--help", "weight", "web"], &["help", "weight"]] {
            assert_eq!(help(arguments), weight);
        }
        for arguments in [["--version"], ["-V"], ["version"]] {
            assert!(matches!(parse_with(&arguments, &[]), Ok(Command::Version)), "{arguments:?}");
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(message(&[]), "");
        assert_eq!(message(&["piers"]), "there is no command \"piers\"");
        assert_eq!(message(&["help", "piers"]), "there is no command \"piers\"");
        assert_eq!(message(&["peers"]), "expected UPSTREAM");
        assert_eq!(message(&["peers", "web", "10.0.0.1:80"]), "expected UPSTREAM");
        assert_eq!(message(&["remove", "web", ""]), "a name cannot be empty");
        assert_eq!(message(&["remove", "web", ".."]), "\"..\" cannot be a name in a URL");
        assert_eq!(
            message(&["weight", "web", "p", "heavy"]),
            "expected a weight, an integer of 1 or more, found \"heavy\""
        );
        assert_eq!(message(&["state", "web", "p", "off"]), "expected up, down, temporary_down or drain, found \"off\"");
        assert_eq!(message(&["info", "--selector", "down"]), "`durpina info` takes no --selector");
        assert_eq!(message(&["check", "file", "--json"]), "`durpina check` takes no --json");
        assert_eq!(message(&["check"]), "expected one FILE");
        assert_eq!(message(&["info", "--verbose"]), "invalid option '--verbose'");
        assert_eq!(message(&["info", "--token"]), "missing argument for option '--token'");
        assert_eq!(message(&["info", "--timeout", "0"]), "--timeout: expected a time above zero");
        assert!(message(&["info", "--timeout", "soon"]).ends_with("found \"soon\""));
        assert!(message(&["info", "--url", "example"]).contains("\"example\""));
    }

    #[test]
    fn the_token_is_never_shown() {
        let shown = format!("{:?}", parse_with(&["info", "--token", "secret"], &[]).unwrap());
        assert!(!shown.contains("secret"), "{shown}");
        let shown = message(&["info", "--token", "sec\nret"]);
        assert_eq!(shown, "the token has characters that cannot be sent, such as a line feed");
        assert_eq!(message(&["info", "--token", ""]), "the token is empty");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_not_utf_8_is_refused_without_being_shown_where_it_may_be_the_token() {
        use std::os::unix::ffi::OsStringExt;
        let odd = OsString::from_vec(b"secret\xff".to_vec());
        let arguments = ["info", "--token"].map(OsString::from).into_iter().chain([odd.clone()]);
        let misuse = parse(arguments, |_| None).expect_err("this is wrong");
        assert_eq!(misuse.message.as_deref(), Some("the value of --token is not UTF-8"));
        let misuse = parse(["info".into()].into_iter(), |_| Some(odd.clone())).expect_err("this is wrong");
        assert_eq!(misuse.message.as_deref(), Some("DURPINA_URL is not UTF-8"));
    }
}
