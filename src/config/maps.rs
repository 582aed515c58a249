//! Reading maps, and the names that a configuration gives to variables.

use super::error::{quoted, ConfigErrors, Place};
use super::json::{Json, Object};
use super::read;
use crate::model::template::{Template, Variable};
use crate::request::maps::{Map, Maps};

/// The most maps of one configuration. They are found one by one.
const MOST: usize = 100;

/// The names of the maps, as far as they can be names.
fn map_names(maps: Option<&Json>) -> impl Iterator<Item = &str> {
    let entries = if let Some(Json::Object(entries)) = maps { entries.as_slice() } else { &[] };
    entries.iter().map(|(name, _)| name.as_str())
}

/// The variables that a configuration names itself: its maps, and the groups of its routes' regexes. Those need not be regexes yet; what is
/// wrong with them is told where they are read.
pub(super) fn names(maps: Option<&Json>, routes: Option<&Json>) -> Vec<String> {
    let mut names: Vec<String> = map_names(maps).map(str::to_owned).collect();
    let routes = if let Some(Json::Array(routes)) = routes { routes.as_slice() } else { &[] };
    for regex in routes.iter().filter_map(|route| route.get("regex").and_then(Json::as_str)) {
        for part in regex.split("(?").skip(1) {
            let named = part.strip_prefix('P').unwrap_or(part).strip_prefix('<');
            if let Some((name, _)) = named.and_then(|rest| rest.split_once('>')) {
                if !names.iter().any(|known| known == name) {
                    names.push(name.to_owned());
                }
            }
        }
    }
    names
}

/// A text with variables, where these names are variables as well.
pub(super) fn template(
    at: &Place<'_>,
    value: &Json,
    what: &str,
    names: &[String],
    errors: &mut ConfigErrors,
) -> Option<Template> {
    let text = read::string(at, value, what, errors)?;
    let is_known = |name: &str| names.iter().any(|known| known == name);
    Template::parse_with(text, &is_known).map_err(|error| errors.say(at, error)).ok()
}

pub(super) fn maps(at: &Place<'_>, value: &Json, names: &[String], errors: &mut ConfigErrors) -> Option<Maps> {
    let object = Object::open(at, value, "an object of maps by name", errors)?;
    if object.entries().len() > MOST {
        errors.expected(at, format_args!("at most {MOST} maps"), object.entries().len());
        return None;
    }
    let one = |(name, value): &(String, Json)| map(&at.key(name), name, value, names, errors);
    let maps = Maps(object.entries().iter().filter_map(one).collect());
    if let Some(map) = maps.in_a_circle() {
        errors.say(&at.key(map.name()), format!("the map ${} needs itself, directly or through others", map.name()));
    }
    Some(maps)
}

fn map(at: &Place<'_>, name: &str, value: &Json, names: &[String], errors: &mut ConfigErrors) -> Option<Map> {
    let is_word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if name.is_empty() || name.len() > 64 || !is_word || name.starts_with(|c: char| c.is_ascii_digit()) {
        errors.expected(at, "a map's name of 1 to 64 letters, digits and _, not a digit first", quoted(name));
    } else if Variable::parse(name).is_some() {
        errors.say(at, format!("there is a variable ${name} already"));
    }
    let mut object = Object::open(at, value, "a map", errors)?;
    let (from, values, default) = (object.get("from"), object.get("values"), object.get("default"));
    object.close(None, errors);
    let Some(from) = from else {
        errors.say(at, "expected a map with \"from\", found none");
        return None;
    };
    let from = template(&at.key("from"), from, "a text with variables", names, errors)?;
    let place = at.key("values");
    let values = values.and_then(|values| Object::open(&place, values, "an object of values", errors));
    let mut pairs = Vec::new();
    for (source, value) in values.iter().flat_map(|values| values.entries()) {
        let value = template(&place.key(source), value, "a text with variables", names, errors)?;
        pairs.push((source.clone(), value));
    }
    let default = match default {
        Some(value) => Some(template(&at.key("default"), value, "a text with variables", names, errors)?),
        None => None,
    };
    Some(Map::new(name, from, pairs, default))
}
