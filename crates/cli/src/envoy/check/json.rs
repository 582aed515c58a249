//! The filter JSON in its place.

use durpina::config::Config;
use durpina::host::Capabilities;
use durpina::Registry;

use super::{Filter, Findings, Severity};
use crate::envoy::places::{self, File, Place};
use crate::envoy::yaml::{Doc, Id};

/// Reads the filter JSON, and says what is wrong with it.
pub(super) fn check(filter: &mut Filter, registry: &Registry, findings: &mut Findings<'_>) {
    let place = filter.config;
    let Some(File { doc, .. }) = findings.files.get(place.file) else { return };
    let Some(configuration) = doc.get(place.id, "configuration") else {
        return findings.error(place, "has no configuration: the filter JSON belongs there, as a StringValue");
    };
    let configuration = place.at(configuration);
    let Some(value) = doc.get(configuration.id, "value") else {
        return findings.error(configuration, "has no value: the filter JSON belongs there");
    };
    let is = |name| places::is_type(doc, configuration.id, name);
    let value = doc.resolve(value);
    if is("Struct") {
        let json = doc.value(value);
        let text = json.to_string();
        filter.json = json;
        say(findings, place, registry, &text, |path| doc.line(deepest(doc, value, path)));
    } else if is("StringValue") {
        let Some(text) = doc.scalar(value) else {
            return findings
                .error(place.at(value), "is no text: write the filter JSON as one (value: |), or take a Struct");
        };
        let own = Doc::parse(text).ok();
        // Of a text in quotes only the first line is known.
        let first = first_line(doc, value);
        let line = |path: &str| {
            let within = own.as_ref().map_or(1, |own| own.line(deepest(own, own.root(), path)));
            first.map_or(doc.line(value), |first| first + within - 1)
        };
        filter.json = serde_json::from_str(text).unwrap_or_default();
        let text = text.to_owned();
        if let Err(error) = serde_json::from_str::<serde_json::Value>(&text) {
            let at = first.map_or(doc.line(value), |first| first + error.line().max(1) - 1);
            return findings.at_line(Severity::Error, place.file, at, format!("the filter JSON: {error}"));
        }
        say(findings, place, registry, &text, line);
    } else {
        findings.error(configuration, "is neither a StringValue nor a Struct: the filter JSON cannot be read here");
    }
}

fn say(findings: &mut Findings<'_>, place: Place, registry: &Registry, text: &str, line: impl Fn(&str) -> usize) {
    let (errors, warnings) = match Config::parse(text.as_bytes(), Capabilities::default(), registry) {
        Ok(config) => (Vec::new(), config.warnings),
        Err(errors) => (errors.errors().to_vec(), errors.warnings().to_vec()),
    };
    for (severity, list) in [(Severity::Error, errors), (Severity::Warning, warnings)] {
        for one in list {
            findings.at_line(severity, place.file, line(&one.place), format!("the filter JSON: {one}"));
        }
    }
}

/// The line of the first line of a text that stands in lines of its own, one for each.
fn first_line(doc: &Doc, value: Id) -> Option<usize> {
    let source = doc.source(value);
    if !doc.is_literal(value) {
        return None;
    }
    let line = doc.line(value);
    Some(if source.starts_with('|') { line + 1 } else { line })
}

/// What is at a path such as `upstreams.web.servers[1]["x y"]`, or as far as there is something.
fn deepest(doc: &Doc, from: Id, path: &str) -> Id {
    let (mut id, mut rest) = (from, path);
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let next = match rest.strip_prefix('[') {
            Some(inner) => {
                let mut stream = serde_json::Deserializer::from_str(inner).into_iter::<serde_json::Value>();
                let Some(Ok(step)) = stream.next() else { return id };
                rest = inner.get(stream.byte_offset()..).and_then(|rest| rest.strip_prefix(']')).unwrap_or_default();
                match step {
                    serde_json::Value::String(key) => doc.get(id, &key),
                    step => step.as_u64().and_then(|at| doc.items(id).get(usize::try_from(at).ok()?).copied()),
                }
            }
            None => {
                let end = rest.find(['.', '[']).unwrap_or(rest.len());
                let (key, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
                rest = behind;
                doc.get(id, key)
            }
        };
        match next {
            Some(next) => id = next,
            None => return id,
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_lines() {
        let doc = Doc::parse("{\"a\": {\n\"b c\": [1,\n{\"d\":\n 2}]}}").unwrap();
        let line = |path: &str| doc.line(deepest(&doc, doc.root(), path));
        assert_eq!(["", "a[\"b c\"]", "a[\"b c\"][1].d", "a.x", "a[\"b c\"][7]"].map(line), [1, 2, 4, 1, 2]);
    }
}
