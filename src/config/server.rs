//! Reading servers: a string in the grammar of nginx's `server` directive, or an object with the same
//! parameters as keys.

use super::error::{quoted, ConfigErrors, Place};
use super::json::{Json, Object};
use super::read::{self, Bare};
use crate::model::server::{Endpoint, Server, ServerHost};

/// The keys of a server, in both forms.
const PARAMETERS: [&str; 8] =
    ["weight", "max_fails", "fail_timeout", "max_conns", "slow_start", "down", "backup", "drain"];
/// Those of them that `server_defaults` may hold.
const DEFAULTS: [&str; 5] = ["weight", "max_fails", "fail_timeout", "max_conns", "slow_start"];

/// What a server that says less gets: the port, and the parameters.
#[derive(Clone, Debug)]
pub(crate) struct Defaults<'a> {
    pub(crate) port: u16,
    pub(crate) server: &'a Server,
}

/// Reads one server outside a configuration: a string, in the grammar of nginx's `server` directive.
///
/// # Errors
///
/// All that is wrong with it. `Ok(None)` for the placeholder.
pub fn parse_server(text: &str, defaults: &Server, default_port: u16) -> Result<Option<Server>, ConfigErrors> {
    read_server(&Json::String(text.to_owned()), defaults, default_port)
}

/// Reads one server outside a configuration, from JSON.
pub(crate) fn read_server(json: &Json, defaults: &Server, default_port: u16) -> Result<Option<Server>, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    let defaults = Defaults { port: default_port, server: defaults };
    let server = self::server(&Place::ROOT, json, &defaults, &mut errors);
    if errors.is_empty() {
        Ok(server)
    } else {
        Err(errors)
    }
}

/// Reads a server in either form. `None` for one that is in error, and for the placeholder.
pub(crate) fn server(
    at: &Place<'_>,
    value: &Json,
    defaults: &Defaults<'_>,
    errors: &mut ConfigErrors,
) -> Option<Server> {
    let before = errors.count();
    let (endpoint, mut server) = match value {
        Json::String(text) => directive(at, text, defaults, errors)?,
        Json::Object(_) => object(at, value, defaults, errors)?,
        _ => {
            errors.expected(at, "a server as a string or an object", value);
            return None;
        }
    };
    server.name = endpoint.to_string();
    (errors.count() == before && !endpoint.is_placeholder()).then_some(server)
}

/// Reads `server_defaults`.
pub(crate) fn defaults(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Option<Server> {
    let mut server = Server::default();
    let mut object = Object::open(at, value, "an object of server parameters", errors)?;
    for key in DEFAULTS {
        if let Some(value) = object.get(key) {
            parameter(&at.key(key), key, value, &mut server, errors);
        }
    }
    object.close(None, errors);
    Some(server)
}

fn object(
    at: &Place<'_>,
    value: &Json,
    defaults: &Defaults<'_>,
    errors: &mut ConfigErrors,
) -> Option<(Endpoint, Server)> {
    let mut server = defaults.server.clone();
    let mut object = Object::open(at, value, "a server", errors)?;
    let name = object.get("name");
    let host = object.get("host");
    let port = object.get("port");
    let labels = object.get("labels");
    for key in PARAMETERS {
        if let Some(value) = object.get(key) {
            parameter(&at.key(key), key, value, &mut server, errors);
        }
    }
    object.close(None, errors);
    if let Some(value) = labels {
        server.labels = read_labels(&at.key("labels"), value, errors);
    }

    let port = match port {
        Some(value) => Some(read::integer(&at.key("port"), value, 1..=65535, errors)?),
        None => None,
    };
    let named = match name {
        Some(value) => {
            let place = at.key("name");
            let text = read::string(&place, value, "host:port", errors)?;
            Some(endpoint(&place, text, port.unwrap_or(defaults.port), errors)?)
        }
        None => None,
    };
    let hosted = match host {
        Some(value) => {
            let place = at.key("host");
            let text = read::string(&place, value, "an IP address or a host name", errors)?;
            let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
            match ServerHost::parse(bare) {
                Ok(host) => Some(host),
                Err(error) => {
                    errors.say(&place, format!("{error}, found {}", quoted(text)));
                    return None;
                }
            }
        }
        None => None,
    };
    let endpoint = match (named, hosted) {
        (None, None) => {
            errors.say(at, "expected a server with a \"name\" or a \"host\", found neither");
            return None;
        }
        (None, Some(host)) => Endpoint { host, port: port.unwrap_or(defaults.port) },
        (Some(endpoint), host) => {
            if host.is_some_and(|host| host != endpoint.host) {
                errors.say(&at.key("host"), "expected the host of \"name\", or no host at all");
            }
            if port.is_some_and(|port| port != endpoint.port) {
                errors.say(&at.key("port"), "expected the port of \"name\", or no port at all");
            }
            endpoint
        }
    };
    Some((endpoint, server))
}

/// The most labels of a server.
const MOST_LABELS: usize = 16;

fn read_labels(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> Vec<(String, String)> {
    let Some(object) = Object::open(at, value, "an object of labels by name", errors) else { return Vec::new() };
    let mut labels = Vec::new();
    for (name, value) in object.entries() {
        match value.as_str() {
            Some(text) if labels.len() < MOST_LABELS && (1..=63).contains(&name.len()) && text.len() <= 255 => {
                labels.push((name.clone(), text.to_owned()));
            }
            _ => {
                errors.expected(&at.key(name), "at most 16 labels: names of 1 to 63 bytes, texts of 0 to 255", value);
                break;
            }
        }
    }
    labels
}

/// nginx's `server` directive without the keyword and the semicolon.
fn directive(
    at: &Place<'_>,
    text: &str,
    defaults: &Defaults<'_>,
    errors: &mut ConfigErrors,
) -> Option<(Endpoint, Server)> {
    let mut server = defaults.server.clone();
    let mut words = text.split_ascii_whitespace();
    let Some(address) = words.next() else {
        errors.expected(at, "a server such as \"host:port weight=5\"", quoted(text));
        return None;
    };
    let mut seen: Vec<&str> = Vec::new();
    for word in words {
        let (key, value) = word.split_once('=').map_or((word, None), |(key, value)| (key, Some(value)));
        let Some(key) = PARAMETERS.into_iter().find(|known| *known == key) else {
            let known = PARAMETERS.join(", ");
            match key {
                "service" | "resolve" | "route" => errors.unsupported(at, &format!("the parameter {}", quoted(word))),
                _ => errors.say(at, format!("unknown parameter {}, expected one of {known}", quoted(word))),
            }
            continue;
        };
        let place = at.key(key);
        if seen.contains(&key) {
            errors.say(&place, "this parameter appears more than once");
        }
        seen.push(key);
        let is_flag = matches!(key, "down" | "backup" | "drain");
        match value {
            Some(_) if is_flag => errors.say(&place, format!("expected {key} alone, found {}", quoted(word))),
            None if is_flag => parameter(&place, key, &Json::Bool(true), &mut server, errors),
            None => errors.say(&place, format!("expected {key}=…, found {key} alone")),
            Some(value) => parameter(&place, key, &as_json(value), &mut server, errors),
        }
    }
    Some((endpoint(at, address, defaults.port, errors)?, server))
}

/// The value of a word, so that one reader serves both forms: digits are a number, the rest is text.
fn as_json(value: &str) -> Json {
    match value.parse::<u64>() {
        Ok(number) if value.bytes().all(|b| b.is_ascii_digit()) => Json::Number(number.into()),
        _ => Json::String(value.to_owned()),
    }
}

fn endpoint(at: &Place<'_>, text: &str, default_port: u16, errors: &mut ConfigErrors) -> Option<Endpoint> {
    match Endpoint::parse(text, default_port) {
        Ok(endpoint) => Some(endpoint),
        Err(error) => {
            errors.say(at, format!("{error}, found {}", quoted(text)));
            None
        }
    }
}

pub(super) fn parameter(at: &Place<'_>, key: &str, value: &Json, server: &mut Server, errors: &mut ConfigErrors) {
    fn put<T>(slot: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *slot = value;
        }
    }
    match key {
        "weight" => put(&mut server.weight, read::integer(at, value, 1..=65535, errors)),
        "max_fails" => put(&mut server.max_fails, read::integer(at, value, 0..=1_000_000, errors)),
        "fail_timeout" => put(&mut server.fail_timeout, read::duration(at, value, Bare::Seconds, errors)),
        "max_conns" => put(&mut server.max_conns, read::integer(at, value, 0..=1_000_000, errors)),
        "slow_start" => put(&mut server.slow_start, read::duration(at, value, Bare::Seconds, errors)),
        "down" => put(&mut server.down, read::boolean(at, value, errors)),
        "backup" => put(&mut server.backup, read::boolean(at, value, errors)),
        _ => put(&mut server.drain, read::boolean(at, value, errors)),
    }
}
