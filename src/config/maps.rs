//! Reading maps, and which names a configuration gives to variables.

use super::error::{quoted, ConfigErrors, Place};
use super::json::{Json, Object};
use super::read;
use crate::model::template::{Template, Variable};
use crate::request::maps::{Map, Maps, MOST_VARIABLES};

/// The most maps of one configuration, and the most values of a map: both are looked for one by one.
const MOST: usize = 1_000;

/// The parts of a configuration that give names to variables, before they are read: its maps, and its routes with the groups of
/// their regexes.
#[derive(Clone, Copy)]
pub(super) struct Names<'j> {
    pub(super) maps: Option<&'j Json>,
    pub(super) routes: Option<&'j Json>,
}

impl Names<'_> {
    /// Whether there is a map, or a group in some route's regex, of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        let routes = if let Some(Json::Array(routes)) = self.routes { routes.as_slice() } else { &[] };
        let is_group = |part: &str| part.strip_prefix(name).is_some_and(|rest| rest.starts_with('>'));
        self.maps.is_some_and(|maps| maps.get(name).is_some())
            || routes
                .iter()
                .filter_map(|route| route.get("regex")?.as_str())
                .any(|regex| regex.split('<').any(is_group))
    }
}

/// A text with variables, where these names are variables as well.
pub(super) fn template(
    at: &Place<'_>,
    value: &Json,
    is_known: &dyn Fn(&str) -> bool,
    errors: &mut ConfigErrors,
) -> Option<Template> {
    let text = read::string(at, value, "a text with variables", errors)?;
    Template::parse_with(text, is_known).map_err(|error| errors.say(at, error)).ok()
}

pub(super) fn maps(at: &Place<'_>, value: &Json, names: Names<'_>, errors: &mut ConfigErrors) -> Maps {
    let mut maps = Maps::default();
    let Some(object) = Object::open(at, value, "an object of maps by name", errors) else { return maps };
    let entries = bounded(at, object.entries(), errors);
    for (name, value) in entries {
        maps.0.extend(map(&at.key(name), name, value, names, errors));
    }
    if let Some(Map { name, .. }) = maps.endless() {
        let what = format!(
            "the map ${name} needs itself, directly or through others, or more than {MOST_VARIABLES} variables"
        );
        errors.say(&at.key(name), what);
    }
    maps
}

fn bounded<'j>(at: &Place<'_>, entries: &'j [(String, Json)], errors: &mut ConfigErrors) -> &'j [(String, Json)] {
    if entries.len() > MOST {
        errors.expected(at, format_args!("at most {MOST}"), entries.len());
        return &[];
    }
    entries
}

fn map(at: &Place<'_>, name: &str, value: &Json, names: Names<'_>, errors: &mut ConfigErrors) -> Option<Map> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let is_good = (1..=64).contains(&name.len()) && name.bytes().all(is_word) && name.as_bytes().first() > Some(&b'9');
    if !is_good || Variable::parse(name).is_some() {
        errors.expected(at, "a map's name of 1 to 64 letters, digits and _ that no variable has", quoted(name));
    }
    let mut object = Object::open(at, value, "a map", errors)?;
    let (from, values, default) = (object.get("from"), object.get("values"), object.get("default"));
    object.close(None, errors);
    if from.is_none() {
        errors.say(at, "expected a map with \"from\", found none");
    }
    let mut map = Map { name: name.to_owned(), templates: Vec::new(), sources: Vec::new() };
    let mut read = |at: &Place<'_>, value: Option<&Json>, errors: &mut ConfigErrors| {
        let template = value.and_then(|value| template(at, value, &|name| names.has(name), errors));
        map.templates.push(template.unwrap_or_default());
    };
    read(&at.key("from"), from, errors);
    read(&at.key("default"), default, errors);
    let place = at.key("values");
    if let Some(values) = values.and_then(|values| Object::open(&place, values, "an object of values", errors)) {
        for (source, value) in bounded(&place, values.entries(), errors) {
            read(&place.key(source), Some(value), errors);
            map.sources.push(source.clone());
        }
    }
    Some(map)
}
