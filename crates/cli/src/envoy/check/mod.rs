//! `durpina check envoy.yaml`: the filter JSON that is in a configuration, and what has to be around it.
//!
//! | module | what is looked at |
//! | --- | --- |
//! | [`json`] | the filter JSON itself, with its lines in the file |
//! | [`manager`] | the filter in its connection manager: its neighbours, the access log, its routes |
//! | [`headers`] | the headers in which picks are, where clusters read them |
//! | [`cluster`] | the clusters that it leads to, and those of its checks |

mod cluster;
mod headers;
mod json;
mod manager;

use std::collections::BTreeSet;

use durpina::Registry;
use serde_json::Value;

use super::parts::NAME;
use super::places::{self, File, Manager, Place};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Requests or checks fail, or the proxy is open.
    Error,
    /// It works, and probably not as it is meant.
    Warning,
}

/// Something to mend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    file: usize,
    line: usize,
    severity: Severity,
    message: String,
}

/// A filter of durpina's.
struct Filter {
    manager: Manager,
    /// The HTTP filter, which of the list it is, and its `typed_config.config`.
    place: Place,
    at: usize,
    config: Place,
    json: Value,
}

impl Filter {
    fn text<'f>(&self, files: &'f [File], keys: &[&str]) -> Option<&'f str> {
        places::text(files, self.config, keys)
    }
}

/// What was found.
struct Findings<'f> {
    files: &'f [File],
    found: BTreeSet<Finding>,
}

impl Findings<'_> {
    fn say(&mut self, severity: Severity, place: Place, message: &str) {
        let Some(file) = self.files.get(place.file) else { return };
        let line = file.doc.line(place.id);
        let path = file.doc.path(place.id);
        self.at_line(severity, place.file, line, format!("{path}: {message}"));
    }

    fn error(&mut self, place: Place, message: &str) {
        self.say(Severity::Error, place, message);
    }

    fn warning(&mut self, place: Place, message: &str) {
        self.say(Severity::Warning, place, message);
    }

    fn at_line(&mut self, severity: Severity, file: usize, line: usize, message: String) {
        self.found.insert(Finding { file, line, severity, message });
    }
}

/// What there is to say of the configuration, a line for each, and whether there is no error.
pub(crate) fn check(files: &[File], registry: &Registry) -> (String, bool) {
    let mut findings = Findings { files, found: BTreeSet::new() };
    let managers = places::managers(files);
    let mut filters = Vec::new();
    for manager in &managers {
        filters.extend(filters_of(files, manager));
    }
    for filter in &mut filters {
        json::check(filter, registry, &mut findings);
    }
    for filter in &filters {
        manager::check(filter, &mut findings);
        cluster::check(filter, &mut findings);
    }
    root_ids(&filters, &mut findings);
    headers::alike(&filters, &mut findings);
    for manager in &managers {
        if !filters.iter().any(|filter| filter.manager.place == manager.place) {
            manager::check_without(manager, &mut findings);
        }
    }
    let mut report = String::new();
    for finding in &findings.found {
        let file = files.get(finding.file).map_or("", |file| file.name.as_str());
        let severity = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        report += &format!("{file}:{}: {severity}: {}\n", finding.line, finding.message);
    }
    let count = |severity| findings.found.iter().filter(|finding| finding.severity == severity).count();
    let (mut errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let names = names.join(", ");
    if filters.is_empty() {
        errors += 1;
        report += &format!("{names}: error: there is no filter of durpina's in a connection manager of these files\n");
    }
    let number = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (count, warnings) = (number(filters.len(), "filter"), number(warnings, "warning"));
    report += &match errors {
        0 => format!("{names}: good. {count}, {warnings}\n"),
        _ => format!("{names}: {}, {warnings}\n", number(errors, "error")),
    };
    (report, errors == 0)
}

/// The wasm filters that are durpina, by one of their names.
fn filters_of(files: &[File], manager: &Manager) -> Vec<Filter> {
    let Some(File { doc, .. }) = files.get(manager.place.file) else { return Vec::new() };
    let list = doc.get(manager.place.id, "http_filters").map(|list| doc.items(list)).unwrap_or_default();
    let mut found = Vec::new();
    for (at, id) in list.into_iter().enumerate() {
        let Some(typed) = doc.get(id, "typed_config").filter(|typed| places::is_type(doc, *typed, "Wasm")) else {
            continue;
        };
        let Some(config) = doc.get(typed, "config") else { continue };
        let names = [
            doc.text_at(id, &["name"]),
            doc.text_at(config, &["name"]),
            doc.text_at(config, &["root_id"]),
            doc.text_at(config, &["vm_config", "vm_id"]),
            doc.text_at(config, &["vm_config", "code", "local", "filename"]),
        ];
        if names.into_iter().flatten().any(|name| name.contains(NAME)) {
            let (place, config) = (manager.place.at(id), manager.place.at(doc.resolve(config)));
            found.push(Filter { manager: manager.clone(), place, at, config, json: Value::Null });
        }
    }
    found
}

/// Two filters that are told apart by nothing must not contradict each other.
fn root_ids(filters: &[Filter], findings: &mut Findings<'_>) {
    let files = findings.files;
    for (at, filter) in filters.iter().enumerate() {
        let id = |filter: &Filter| {
            let text = |keys: &[&str]| filter.text(files, keys).unwrap_or_default().to_owned();
            (text(&["vm_config", "vm_id"]), text(&["root_id"]))
        };
        let twin = filters.iter().take(at).find(|other| id(other) == id(filter) && other.json != filter.json);
        if let Some(twin) = twin {
            let line = files.get(twin.place.file).map_or(0, |file| file.doc.line(twin.place.id));
            let message = format!(
                "has the root_id {:?} of the filter in line {line}, and another filter JSON: durpina tells filters apart by \
                 their root_id, so give each its own",
                id(filter).1
            );
            findings.error(filter.config, &message);
        }
    }
}

#[cfg(test)]
mod tests;
