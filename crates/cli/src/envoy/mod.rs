//! `durpina envoy`, and `durpina check` for files of Envoy's: durpina put into an Envoy's configuration that somebody already has, and taken out again.
//!
//! | module | what is there |
//! | --- | --- |
//! | [`yaml`], [`scalar`], [`way`], [`splice`], [`edit`] | YAML and JSON with the place of everything; edits that leave all else byte for byte |
//! | [`part`], [`parts`], [`wiring`] | what is written, as values: of what durpina consists in an Envoy, and how a pick comes to a cluster |
//! | [`places`] | where things are in the files |
//! | [`filter`] | what a filter JSON needs of an Envoy |
//! | [`graft`], [`prune`] | putting it in, taking it out |
//! | [`check`] | what is wrong with durpina in a configuration |
//! | [`files`] | the difference, and writing all or none |
//! | [`kubernetes`] | the same for proxies whose configuration a controller writes |

mod check;
mod edit;
mod files;
mod filter;
mod graft;
mod kubernetes;
mod part;
mod parts;
mod places;
mod prune;
mod scalar;
mod splice;
mod way;
mod wiring;
mod yaml;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use durpina::Registry;
use files::Change;
use filter::Filter;
pub(crate) use graft::Wishes;
pub(crate) use kubernetes::Options as Manifest;
use places::File;
pub(crate) use wiring::Peers;
use yaml::Doc;

/// What `durpina envoy` is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    /// Files of Envoy's, and at most one filter JSON.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) wishes: Wishes,
    pub(crate) remove: bool,
    pub(crate) write: bool,
    /// A manifest instead of a change.
    pub(crate) manifest: Manifest,
}

/// How it went.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// For the standard output.
    pub(crate) output: String,
    /// For the standard error.
    pub(crate) messages: String,
    /// Why nothing was done.
    pub(crate) failure: Option<Failure>,
}

/// Why nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The configuration, or what was asked of it.
    Configuration,
    /// A file cannot be read or written.
    Files,
}

/// Does what was asked.
pub(crate) fn run(task: &Task) -> Report {
    let mut report = Report::default();
    if let Some(platform) = task.manifest.platform {
        match manifest(task, platform) {
            Ok((text, notes)) => {
                report.output = text;
                report.messages = notes.iter().map(|note| format!("note: {note}\n")).collect();
            }
            Err((failure, problems)) => {
                report.messages = problems.iter().map(|problem| format!("{problem}\n")).collect();
                report.failure = Some(failure);
            }
        }
        return report;
    }
    match changes(task, &mut report.messages) {
        Ok(changes) => {
            for change in &changes {
                report.output += &change.diff();
            }
            if task.write {
                if let Err(error) = files::write(&changes) {
                    report.messages += &format!("{error}\nnothing was written\n");
                    report.failure = Some(Failure::Files);
                    report.output.clear();
                }
            }
            if report.output.is_empty() && report.failure.is_none() {
                report.messages += "nothing to change\n";
            }
        }
        Err((failure, problems)) => {
            for problem in problems {
                report.messages += &format!("{problem}\n");
            }
            report.messages += "nothing was written\n";
            report.failure = Some(failure);
        }
    }
    report
}

/// What `durpina check` says of files of Envoy's, and whether there is no error. `None` if they are none of Envoy's.
///
/// # Errors
///
/// What cannot be read, a line for each.
pub(crate) fn check(texts: &[(String, String)], registry: &Registry) -> Option<Result<(String, bool), String>> {
    let read: Vec<_> = texts.iter().map(|(name, text)| (name, Doc::parse(text))).collect();
    if !read.iter().any(|(_, doc)| doc.as_ref().is_ok_and(places::is_envoy)) {
        return None;
    }
    let mut files = Vec::new();
    let mut unreadable = String::new();
    for (name, doc) in read {
        match doc {
            Ok(doc) => files.push(File { name: name.clone(), doc }),
            Err(error) => unreadable += &format!("{name}: {error}\n"),
        }
    }
    Some(if unreadable.is_empty() { Ok(check::check(&files, registry)) } else { Err(unreadable) })
}

type Problems = (Failure, Vec<String>);

fn manifest(task: &Task, platform: kubernetes::Platform) -> Result<(String, graft::Notes), Problems> {
    let wrong = |problem: &str| (Failure::Configuration, vec![problem.to_owned()]);
    let [file] = task.files.as_slice() else {
        return Err(wrong("with --for there is one file, the filter JSON: the controller has the rest"));
    };
    let name = file.display();
    let text = crate::check::read(file).map_err(|error| (Failure::Files, vec![format!("{name}: {error}")]))?;
    let text = String::from_utf8(text).map_err(|_| wrong(&format!("{name}: is not UTF-8")))?;
    kubernetes::write(&text, platform, &task.manifest, &task.wishes)
        .map_err(|problems| (Failure::Configuration, problems))
}

fn changes(task: &Task, messages: &mut String) -> Result<Vec<Change>, Problems> {
    let wrong = |problems| (Failure::Configuration, problems);
    let (files, paths, json) = read(&task.files)?;
    let before: Vec<String> = files.iter().map(|file| file.doc.text().to_owned()).collect();
    let after = match task.remove {
        true => remove(files),
        false => put(files, json, &task.wishes).map(|(files, notes)| {
            for note in notes {
                *messages += &format!("note: {note}\n");
            }
            files
        }),
    }
    .map_err(wrong)?;
    let changes = paths.into_iter().zip(before).zip(after);
    Ok(changes.map(|((path, before), after)| Change { path, before, after: after.doc.text().to_owned() }).collect())
}

type Read = (Vec<File>, Vec<PathBuf>, Option<String>);

fn read(paths: &[PathBuf]) -> Result<Read, Problems> {
    let (mut files, mut found, mut json) = (Vec::new(), Vec::new(), None);
    let mut problems = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        let text = crate::check::read(path).map_err(|error| (Failure::Files, vec![format!("{name}: {error}")]))?;
        let Ok(text) = String::from_utf8(text) else {
            problems.push(format!("{name}: is not UTF-8"));
            continue;
        };
        match Doc::parse(&text) {
            Ok(doc) if places::is_envoy(&doc) => {
                files.push(File { name, doc });
                found.push(path.clone());
            }
            // Its own reader says more of what is wrong with it.
            _ if text.trim_start().starts_with('{') && json.is_none() => json = Some(text),
            Ok(_) => problems.push(format!("{name}: is neither a configuration of Envoy's (static_resources, dynamic_resources, resources) nor a filter JSON")),
            Err(error) => problems.push(format!("{name}: {error}")),
        }
    }
    if files.is_empty() && problems.is_empty() {
        problems.push("there is no configuration of Envoy's among the files".to_owned());
    }
    if problems.is_empty() {
        Ok((files, found, json))
    } else {
        Err((Failure::Configuration, problems))
    }
}

const BY_HAND: &str =
    "there is a cluster named durpina that this command did not write: what was put in by hand is taken out by hand";

fn remove(files: Vec<File>) -> Result<Vec<File>, Vec<String>> {
    match places::is_ours(&files) {
        Some(true) => prune::prune(files).map_err(|error| vec![error]),
        Some(false) => Err(vec![BY_HAND.to_owned()]),
        None if prune::pointed(&files).is_empty() => Ok(files),
        None => Err(vec!["the cluster durpina is not in these files: give the file with it, too".to_owned()]),
    }
}

fn put(files: Vec<File>, json: Option<String>, wishes: &Wishes) -> Result<(Vec<File>, graft::Notes), Vec<String>> {
    let json = json.or_else(|| filter_in(&files));
    let Some(json) = json else {
        return Err(vec!["there is no filter JSON among the files, and none in the configuration".to_owned()]);
    };
    let filter = Filter::read(&json)?;
    let kept = prune::pointed(&files);
    let wishes = as_before(&files, wishes);
    let files = remove(files)?;
    graft::graft(files, &filter, &kept, &wishes)
}

/// The wishes, and where they are silent, what was wished before.
fn as_before(files: &[File], wishes: &Wishes) -> Wishes {
    let mut wishes = wishes.clone();
    let listener = places::listeners(files);
    let gateway = listener.into_iter().find(|place| places::text(files, *place, &["name"]) == Some(parts::TCP));
    let socket = gateway.and_then(|place| places::text(files, place, &["address", "pipe", "path"]));
    wishes.socket = wishes.socket.or_else(|| socket.map(str::to_owned));
    wishes.wasm = wishes.wasm.or_else(|| config_in(files, &["vm_config", "code", "local", "filename"]));
    if wishes.managers.is_empty() {
        let with = places::managers(files).into_iter().filter(|manager| filter_of(files, manager).is_some());
        wishes.managers = with.map(|manager| format!("{}/{}", manager.listener, manager.stat_prefix)).collect();
    }
    let mark = places::cluster(files, parts::NAME).and_then(|place| {
        let keys = ["metadata", "filter_metadata", parts::NAME, "peers"];
        places::text(files, place, &keys)
    });
    let known = [Peers::Http1, Peers::Http2, Peers::Tls];
    wishes.peers = wishes.peers.or_else(|| known.into_iter().find(|peers| mark == Some(peers.name())));
    wishes
}

/// The filter JSON that is in the configuration already.
fn filter_in(files: &[File]) -> Option<String> {
    config_in(files, &["configuration", "value"])
}

/// A text of the filter's configuration.
fn config_in(files: &[File], keys: &[&str]) -> Option<String> {
    places::managers(files).iter().find_map(|manager| {
        let doc = &files.get(manager.place.file)?.doc;
        let config = doc.at(filter_of(files, manager)?, &["typed_config", "config"])?;
        doc.text_at(config, keys).map(str::to_owned)
    })
}

/// The filter in a connection manager.
fn filter_of(files: &[File], manager: &places::Manager) -> Option<yaml::Id> {
    let doc = &files.get(manager.place.file)?.doc;
    let filters = doc.items(doc.get(manager.place.id, "http_filters")?);
    filters.into_iter().find(|id| doc.text_at(*id, &["name"]) == Some(parts::NAME))
}
