//! Reading routes.

use std::collections::HashSet;
use std::rc::Rc;

use regex_lite::Regex;

use super::error::{quoted, ConfigErrors, Place};
use super::json::{Json, Object};
use super::{maps, read};
use crate::model::template::{Template, Variable};
use crate::request::maps::Maps;
use crate::request::routes::Route;

/// The most routes of one configuration.
const MOST: usize = 10_000;

pub(super) fn routes(
    at: &Place<'_>,
    value: &Json,
    known: &HashSet<&str>,
    maps: &Maps,
    errors: &mut ConfigErrors,
) -> Vec<Route> {
    let Json::Array(items) = value else {
        errors.expected(at, "an array of routes", value);
        return Vec::new();
    };
    if items.len() > MOST {
        errors.expected(at, format_args!("at most {MOST} routes"), items.len());
        return Vec::new();
    }
    let one = |(index, item)| route(&at.index(index), item, known, maps, errors);
    items.iter().enumerate().filter_map(one).collect()
}

fn route(at: &Place<'_>, value: &Json, known: &HashSet<&str>, maps: &Maps, errors: &mut ConfigErrors) -> Option<Route> {
    let mut object = Object::open(at, value, "a route", errors)?;
    let prefix = text(at, "prefix", "the beginning of a path", &mut object, errors);
    let path = text(at, "path", "a path", &mut object, errors);
    for (path, place) in [&prefix, &path].into_iter().flatten() {
        if !path.starts_with('/') || path.contains('?') {
            errors.expected(place, "a path that starts with / and has no query", quoted(path));
        }
    }
    let regex = text(at, "regex", "a regular expression", &mut object, errors);
    let regex = regex.and_then(|(pattern, place)| {
        // The time of a match is at most that of the path's bytes times the pattern's states. The crate's own limit bounds the
        // states; the path is bounded where it is matched.
        let built = Regex::new(pattern).map(Rc::new);
        built.map_err(|error| errors.say(&place, format!("not a regular expression: {error}"))).ok()
    });
    let host = object.get("host").and_then(|value| read::host(&at.key("host"), value, errors));
    let method = text(at, "method", "a request method", &mut object, errors);
    if let Some((method, place)) = &method {
        // RFC 9110, section 9.1: a token, case-sensitive; the methods in use are in upper case.
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase() || b == b'-' || b == b'_') {
            errors.expected(place, "a request method in upper case", quoted(method));
        }
    }
    let upstream = object.get("upstream");
    object.close(None, errors);
    let Some(upstream) = upstream else {
        errors.say(at, "expected a route with an \"upstream\", found none");
        return None;
    };
    for name in regex.iter().flat_map(|regex| regex.capture_names()).flatten() {
        if Variable::parse(name).is_some() || maps.get(name).is_some() {
            errors.say(&at.key("regex"), format!("there is a variable ${name} already"));
        }
    }
    let upstream = target(&at.key("upstream"), upstream, regex.as_deref(), known, maps, errors)?;
    let owned = |text: Option<(&str, Place<'_>)>| text.map(|(text, _)| text.to_owned());
    Some(Route { prefix: owned(prefix), path: owned(path), regex, host, method: owned(method), upstream })
}

fn text<'p, 'j>(
    at: &'p Place<'p>,
    key: &'static str,
    what: &str,
    object: &mut Object<'_, 'j>,
    errors: &mut ConfigErrors,
) -> Option<(&'j str, Place<'p>)> {
    let place = at.key(key);
    let text = read::string(&place, object.get(key)?, what, errors)?;
    Some((text, place))
}

pub(super) fn target(
    at: &Place<'_>,
    value: &Json,
    regex: Option<&Regex>,
    known: &HashSet<&str>,
    maps: &Maps,
    errors: &mut ConfigErrors,
) -> Option<Template> {
    let groups = regex.map_or(0, |regex| regex.captures_len().saturating_sub(1));
    let is_group = |name: &str| regex.is_some_and(|regex| regex.capture_names().flatten().any(|known| known == name));
    let target = maps::template(at, value, &|name| is_group(name) || maps.get(name).is_some(), errors)?;
    if let Some(name) = target.as_literal() {
        if name.is_empty() {
            errors.expected(at, "the name of an upstream", value);
        } else if !known.contains(name) {
            let name = quoted(name);
            errors.warn(
                at,
                format!(
                    "no upstream {name} here; requests get 503 unless another filter in the same process defines it"
                ),
            );
        }
    }
    if target.highest_group() > groups {
        errors.expected(
            at,
            format_args!("variables up to ${groups}, the groups of the route's regex"),
            format_args!("${}", target.highest_group()),
        );
    }
    Some(target)
}
