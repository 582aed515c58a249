//! Reading monitors.

use std::collections::HashSet;

use super::envoy;
use super::error::{quoted, ConfigErrors, Place};
use super::json::{parse_json, Json, Object};
use super::read::{self, Bare};
use crate::model::selector::Selector;
use crate::model::spec::{MonitorSpec, Schedule, SHORTEST_INTERVAL};
use crate::model::upstream::MOST_MONITORS;
use crate::monitor::Grammar;
use crate::registry::Registry;

/// Reads one monitor outside a configuration, as JSON.
///
/// # Errors
///
/// All that is wrong with it.
pub fn parse_monitor(text: &[u8], registry: &Registry) -> Result<MonitorSpec, ConfigErrors> {
    read_monitor(&parse_json(text)?, registry)
}

pub(crate) fn read_monitor(json: &Json, registry: &Registry) -> Result<MonitorSpec, ConfigErrors> {
    let mut errors = ConfigErrors::default();
    match self::monitor(&Place::ROOT, json, registry, &mut errors) {
        Some(monitor) if errors.is_empty() => Ok(monitor),
        _ => Err(errors),
    }
}

pub(super) fn monitors(
    at: &Place<'_>,
    value: &Json,
    registry: &Registry,
    errors: &mut ConfigErrors,
) -> Vec<MonitorSpec> {
    let Json::Array(items) = value else {
        errors.expected(at, "an array of monitors", value);
        return Vec::new();
    };
    if items.len() > MOST_MONITORS {
        errors.expected(at, format_args!("at most {MOST_MONITORS} monitors"), items.len());
    }
    let mut ids = HashSet::new();
    let mut monitors = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        if let Some(monitor) = monitor(&place, item, registry, errors) {
            if !ids.insert(monitor.id.clone()) {
                errors.say(&place, format!("two monitors of the id {}", quoted(&monitor.id)));
            }
            monitors.push(monitor);
        }
    }
    monitors
}

/// Reads one monitor; what is wrong with it is in `errors`.
pub(super) fn monitor(
    at: &Place<'_>,
    value: &Json,
    registry: &Registry,
    errors: &mut ConfigErrors,
) -> Option<MonitorSpec> {
    let mut object = Object::open(at, value, "a monitor", errors)?;
    let mut config = MonitorSpec::default();
    let kind = match object.get("name") {
        Some(Json::String(name)) if registry.monitor(name).is_some() => registry.monitor(name),
        Some(value) => {
            errors.expected(&at.key("name"), read::one_of(registry.monitors().map(|kind| kind.name)), value);
            None
        }
        None => {
            errors.say(at, "expected a monitor with a \"name\", found none");
            None
        }
    };
    config.name = kind.map_or("", |kind| kind.name).to_owned();
    let id = object.get("id").and_then(|value| read::string(&at.key("id"), value, "an id", errors));
    // Paths with . and .. in them mean something else.
    if id.is_some_and(|id| matches!(id, "" | "." | "..") || id.len() > 255 || id.chars().any(char::is_control)) {
        errors.expected(&at.key("id"), "an id of 1 to 255 bytes without control characters", quoted(id.unwrap_or("")));
    }
    config.interval = kind.map_or(config.interval, |kind| kind.interval);
    config.id = id.unwrap_or(&config.name).to_owned();
    read_common(at, &mut object, &mut config, errors);
    // With an unknown name all options are known: one error is enough.
    let all = Grammar { http: true, request: true, grpc: true, send: true };
    let grammar = kind.map_or(all, |kind| kind.grammar);
    if grammar.http {
        read_http(at, &mut object, &mut config, errors);
    }
    if let Some(value) = (grammar.http || grammar.grpc).then(|| object.get("keepalive")).flatten() {
        config.keepalive = read::boolean(&at.key("keepalive"), value, errors).unwrap_or(false);
    }
    if grammar.request {
        if let Some(value) = object.get("method") {
            let place = at.key("method");
            if let Some(method) = read::string(&place, value, "a request method", errors) {
                // RFC 9110, section 9.1: a token, case-sensitive; the methods in use are in upper case.
                let is_method = method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_');
                if method.is_empty() || !is_method || method == "CONNECT" {
                    errors.expected(&place, "a request method in upper case", value);
                }
                method.clone_into(&mut config.method);
            }
        }
        if let Some(value) = object.get("body") {
            config.body = secret_text(&at.key("body"), value, errors);
        }
        if let Some(value) = object.get("expect_body") {
            put_text(&mut config.expect_body, &at.key("expect_body"), value, 1, errors);
        }
    }
    if let Some(value) = grammar.grpc.then(|| object.get("service")).flatten() {
        put_text(&mut config.service, &at.key("service"), value, 0, errors);
    }
    if grammar.send {
        if let Some(value) = object.get("send") {
            config.send = secret_text(&at.key("send"), value, errors);
        }
    }
    if let Some(own) = kind.and_then(|kind| kind.own()) {
        let open_prefix = grammar.http.then_some("header_");
        config.options = object.own(open_prefix, &|_| false, &|reading| own.read(reading), errors);
    }
    object.close(grammar.http.then_some("header_"), errors);
    kind.map(|_| config)
}

/// A text that answers are compared with, or that names something.
fn put_text(slot: &mut String, at: &Place<'_>, value: &Json, least: usize, errors: &mut ConfigErrors) {
    if let Some(text) = read::sized(at, value, "a text", least..=1_000, errors) {
        text.clone_into(slot);
    }
}

/// A text that may hold a secret: an error does not show it.
fn secret_text(at: &Place<'_>, value: &Json, errors: &mut ConfigErrors) -> String {
    if let Json::String(text) = value {
        return text.clone();
    }
    errors.expected(at, "a text", value.kind());
    String::new()
}

/// Reads the options that all monitors have.
fn read_common(at: &Place<'_>, object: &mut Object<'_, '_>, config: &mut MonitorSpec, errors: &mut ConfigErrors) {
    fn put<T>(slot: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *slot = value;
        }
    }
    if let Some(value) = object.get("interval") {
        let place = at.key("interval");
        put(&mut config.interval, read::positive_duration(&place, value, Bare::Seconds, errors));
        if config.interval < SHORTEST_INTERVAL {
            errors.expected(&place, "a time of at least 100ms", value);
        }
    }
    if let Some(value) = object.get("timeout") {
        put(&mut config.timeout, read::positive_duration(&at.key("timeout"), value, Bare::Milliseconds, errors));
    }
    if let Some(name) = object.get("cluster").and_then(|value| envoy::cluster(&at.key("cluster"), value, errors)) {
        name.clone_into(&mut config.cluster);
    }
    if let Some(value) = object.get("port") {
        config.port = read::integer(&at.key("port"), value, 1..=65535, errors);
    }
    if let Some(value) = object.get("rise") {
        put(&mut config.rise, read::integer(&at.key("rise"), value, 1..=1000, errors));
    }
    if let Some(value) = object.get("fall") {
        put(&mut config.fall, read::integer(&at.key("fall"), value, 1..=1000, errors));
    }
    if let Some(value) = object.get("peers") {
        put(&mut config.peers, read::word(&at.key("peers"), value, Selector::NAMES, errors));
    }
    if let Some(value) = object.get("schedule") {
        put(&mut config.schedule, read::word(&at.key("schedule"), value, Schedule::NAMES, errors));
    }
}

/// Reads the options of monitors over HTTP.
fn read_http(at: &Place<'_>, object: &mut Object<'_, '_>, config: &mut MonitorSpec, errors: &mut ConfigErrors) {
    let mut found = None;
    for key in ["url", "uri"] {
        let place = at.key(key);
        let Some(url) = object.get(key).and_then(|v| read::string(&place, v, "a path", errors)) else { continue };
        if !url.starts_with('/') || !url.bytes().all(|b| b.is_ascii_graphic() && b != b'#') {
            errors.expected(&place, "a path that starts with /", quoted(url));
        }
        if found.replace(url).is_some_and(|before| before != url) {
            errors.say(&place, "expected either \"url\" or \"uri\", found both");
        }
        url.clone_into(&mut config.url);
    }
    if let Some(codes) = object.get("ok_codes").and_then(|v| read::codes(&at.key("ok_codes"), v, errors)) {
        config.ok_codes = codes;
    }
    for (key, value) in object.starting_with("header_") {
        let name = key.strip_prefix("header_").unwrap_or_default().to_ascii_lowercase();
        let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let place = at.key(key);
        if name.is_empty() || !name.bytes().all(token) {
            errors.expected(&place, "header_ and the name of a header", quoted(key));
        }
        // What frames the message, and what says where it goes, is not the configuration's.
        if matches!(&*name, "content-length" | "transfer-encoding" | "connection") || name.starts_with("x-durpina") {
            errors.say(&place, "this header cannot be set");
        }
        // The value may be a secret, and errors go into logs.
        match value {
            Json::String(text) if !text.chars().any(char::is_control) => config.headers.push((name, text.clone())),
            _ => errors.expected(&place, "a text without control characters", value.kind()),
        }
    }
}
