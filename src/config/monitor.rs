//! Reading monitors. Their grammar is whole, their work is still to come: a monitor that is right is refused
//! as not supported yet.

use std::collections::HashSet;

use super::json::{Json, Object};
use super::problem::{quoted, Place, Problems};
use super::read::{self, Bare};
use crate::peer::Selector;

/// The monitors of the predecessor.
const MONITORS: [&str; 4] = ["http", "tcp", "haproxy-agent-check", "http-haproxy-agent-check"];

pub(super) fn monitors(at: &Place<'_>, value: &Json, problems: &mut Problems) {
    let Json::Array(items) = value else {
        problems.expected(at, "an array of monitors", value);
        return;
    };
    let mut ids = HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let place = at.index(index);
        if let Some(id) = monitor(&place, item, problems) {
            if !ids.insert(id) {
                problems.say(&place, format!("two monitors of the id {}", quoted(id)));
            }
        }
    }
    if !items.is_empty() {
        problems.unsupported(at, "monitoring");
    }
}

/// Reads one monitor and returns its id.
fn monitor<'j>(at: &Place<'_>, value: &'j Json, problems: &mut Problems) -> Option<&'j str> {
    let mut object = Object::open(at, value, "a monitor", problems)?;
    let words: Vec<(&str, &str)> = MONITORS.iter().map(|name| (*name, *name)).collect();
    let name = match object.get("name") {
        Some(value) => read::word(&at.key("name"), value, &words, problems),
        None => {
            problems.say(at, "expected a monitor with a \"name\", found none");
            None
        }
    };
    let id = object.get("id").and_then(|value| read::string(&at.key("id"), value, "an id", problems)).or(name);
    if id.is_some_and(|id| id.is_empty() || id.chars().any(char::is_control)) {
        problems.say(&at.key("id"), "expected an id that is not empty");
    }
    if let Some(value) = object.get("interval") {
        read::positive_duration(&at.key("interval"), value, Bare::Seconds, problems);
    }
    if let Some(value) = object.get("timeout") {
        read::positive_duration(&at.key("timeout"), value, Bare::Milliseconds, problems);
    }
    if let Some(value) = object.get("port") {
        read::integer::<u16>(&at.key("port"), value, 1..=65535, problems);
    }
    for key in ["rise", "fall"] {
        if let Some(value) = object.get(key) {
            read::integer::<u32>(&at.key(key), value, 1..=1000, problems);
        }
    }
    if let Some(value) = object.get("peers") {
        read::word(&at.key("peers"), value, Selector::NAMES, problems);
    }
    if let Some(value) = object.get("schedule") {
        read::word(&at.key("schedule"), value, &[("rotate", ()), ("all", ())], problems);
    }
    let over_http = matches!(name, Some("http" | "http-haproxy-agent-check"));
    if over_http || name.is_none() {
        for key in ["url", "uri"] {
            let place = at.key(key);
            if let Some(url) = object.get(key).and_then(|v| read::string(&place, v, "a path", problems)) {
                if !url.starts_with('/') || !url.bytes().all(|b| b.is_ascii_graphic()) {
                    problems.expected(&place, "a path that starts with /", quoted(url));
                }
            }
        }
        if let Some(value) = object.get("ok_codes") {
            read::codes(&at.key("ok_codes"), value, problems);
        }
        for (key, value) in object.starting_with("header_") {
            let name = key.strip_prefix("header_").unwrap_or_default();
            let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            let place = at.key(key);
            if name.is_empty() || !name.bytes().all(token) {
                problems.expected(&place, "header_ and the name of a header", quoted(key));
            }
            if let Some(text) = read::string(&place, value, "a header's value", problems) {
                if text.chars().any(char::is_control) {
                    problems.expected(&place, "a header's value without control characters", value);
                }
            }
        }
    }
    if name == Some("http") || name.is_none() {
        if let Some(value) = object.get("method") {
            read::string(&at.key("method"), value, "a request method", problems);
        }
        if let Some(value) = object.get("body") {
            read::string(&at.key("body"), value, "a request body", problems);
        }
    }
    if name.is_none_or(|name| name.ends_with("agent-check")) {
        if let Some(value) = object.get("send") {
            read::string(&at.key("send"), value, "a text to send", problems);
        }
    }
    object.close(over_http.then_some("header_"), problems);
    id
}
