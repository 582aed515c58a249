//! Where in the files of an Envoy's configuration things are: listeners, connection managers, routes, clusters.

use super::yaml::{Doc, Id};

/// A file of a configuration.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) doc: Doc,
}

/// Something in one of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) file: usize,
    pub(crate) id: Id,
}

impl Place {
    pub(crate) fn at(self, id: Id) -> Self {
        Self { id, ..self }
    }
}

/// A connection manager with what it is called.
#[derive(Clone, Debug)]
pub(crate) struct Manager {
    /// Its `typed_config`.
    pub(crate) place: Place,
    /// The listener's `name`, or its address.
    pub(crate) listener: String,
    pub(crate) stat_prefix: String,
    /// What routes there are: in the manager itself, or in a file of routes.
    pub(crate) routes: Result<Place, String>,
}

impl Manager {
    /// Whether a person means it by this name.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        name == self.listener || name == self.stat_prefix || name == format!("{}/{}", self.listener, self.stat_prefix)
    }
}

/// The keys of which a file of Envoy's has one.
const TOP: [&str; 4] = ["static_resources", "dynamic_resources", "resources", "layered_runtime"];

/// Whether it is a file of Envoy's, and no filter JSON.
pub(crate) fn is_envoy(doc: &Doc) -> bool {
    TOP.iter().any(|key| doc.get(doc.root(), key).is_some())
}

/// Whether a type is this one, whatever its host and version.
pub(crate) fn is_type(doc: &Doc, typed: Id, name: &str) -> bool {
    doc.text_at(typed, &["@type"]).is_some_and(|found| found.rsplit(['.', '/']).next() == Some(name))
}

/// Lists of this kind: in `static_resources`, and those of a file with resources of this type.
pub(crate) fn all(files: &[File], key: &str, kind: &str) -> Vec<Place> {
    let mut found = Vec::new();
    for (file, File { doc, .. }) in files.iter().enumerate() {
        if let Some(list) = doc.at(doc.root(), &["static_resources", key]) {
            found.extend(doc.items(list).into_iter().map(|id| Place { file, id }));
        }
        if let Some(list) = doc.get(doc.root(), "resources") {
            let of_kind = doc.items(list).into_iter().filter(|id| is_type(doc, *id, kind));
            found.extend(of_kind.map(|id| Place { file, id }));
        }
    }
    found
}

pub(crate) fn clusters(files: &[File]) -> Vec<Place> {
    all(files, "clusters", "Cluster")
}

pub(crate) fn listeners(files: &[File]) -> Vec<Place> {
    all(files, "listeners", "Listener")
}

/// The cluster of this name.
pub(crate) fn cluster(files: &[File], name: &str) -> Option<Place> {
    clusters(files).into_iter().find(|place| text(files, *place, &["name"]) == Some(name))
}

/// A text below a place.
pub(crate) fn text<'f>(files: &'f [File], place: Place, keys: &[&str]) -> Option<&'f str> {
    files.get(place.file).and_then(|file| file.doc.text_at(place.id, keys))
}

/// All connection managers of listeners, in their order. The gateway's is none of clients.
pub(crate) fn managers(files: &[File]) -> Vec<Manager> {
    let mut found = Vec::new();
    for listener in listeners(files) {
        let Some(File { doc, .. }) = files.get(listener.file) else { continue };
        let name = called(doc, listener.id);
        if name == super::parts::TCP {
            continue;
        }
        let mut chains: Vec<Id> = doc.get(listener.id, "filter_chains").map(|list| doc.items(list)).unwrap_or_default();
        chains.extend(doc.get(listener.id, "default_filter_chain"));
        for filters in chains.into_iter().filter_map(|chain| doc.get(chain, "filters")) {
            for typed in doc.items(filters).into_iter().filter_map(|filter| doc.get(filter, "typed_config")) {
                if is_type(doc, typed, "HttpConnectionManager") {
                    let place = listener.at(typed);
                    let stat_prefix = doc.text_at(typed, &["stat_prefix"]).unwrap_or_default().to_owned();
                    let routes = routes(files, place);
                    found.push(Manager { place, listener: name.clone(), stat_prefix, routes });
                }
            }
        }
    }
    found
}

/// What a listener is called: by its name, or else by its address.
fn called(doc: &Doc, listener: Id) -> String {
    if let Some(name) = doc.text_at(listener, &["name"]) {
        return name.to_owned();
    }
    let socket = ["address", "socket_address"];
    let part = |key| doc.at(listener, &socket).and_then(|id| doc.text_at(id, &[key])).unwrap_or_default();
    format!("{}:{}", part("address"), part("port_value"))
}

fn routes(files: &[File], manager: Place) -> Result<Place, String> {
    let Some(File { doc, .. }) = files.get(manager.file) else { return Err("is missing".to_owned()) };
    if let Some(config) = doc.get(manager.id, "route_config") {
        return Ok(manager.at(config));
    }
    if let Some(name) = doc.text_at(manager.id, &["rds", "route_config_name"]) {
        let all = all(files, "route_configs", "RouteConfiguration");
        return all
            .into_iter()
            .find(|place| text(files, *place, &["name"]) == Some(name))
            .ok_or_else(|| format!("has its routes ({name:?}) from elsewhere (rds): give the file with them, too"));
    }
    if doc.get(manager.id, "scoped_routes").is_some() {
        return Err("has its routes by scopes (scoped_routes), which this command does not read".to_owned());
    }
    Err("has no routes".to_owned())
}

/// A route with what it is in.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) place: Place,
    /// The list, and where in it.
    pub(crate) list: Id,
    pub(crate) at: usize,
    pub(crate) host: Id,
    pub(crate) host_name: String,
}

/// The routes of a route configuration.
pub(crate) fn routes_of(files: &[File], config: Place) -> Vec<Route> {
    let mut found = Vec::new();
    let Some(File { doc, .. }) = files.get(config.file) else { return found };
    for host in doc.get(config.id, "virtual_hosts").map(|list| doc.items(list)).unwrap_or_default() {
        let host_name = doc.text_at(host, &["name"]).unwrap_or_default().to_owned();
        let Some(list) = doc.get(host, "routes") else { continue };
        for (at, id) in doc.items(list).into_iter().enumerate() {
            found.push(Route { place: config.at(id), list, at, host, host_name: host_name.clone() });
        }
    }
    found
}

/// The clusters that are named below a place, but for these scalars; `None` for one that a request or a plugin chooses.
pub(crate) fn led_to(files: &[File], below: Place, but: &[Place]) -> Vec<Option<String>> {
    let mut found = Vec::new();
    if let Some(File { doc, .. }) = files.get(below.file) {
        let but: Vec<Id> = but.iter().filter(|place| place.file == below.file).map(|place| place.id).collect();
        gather(doc, below.id, &but, &mut found);
    }
    found
}

fn gather(doc: &Doc, id: Id, but: &[Id], found: &mut Vec<Option<String>>) {
    for (key, value) in doc.entries(id) {
        match doc.scalar(*key) {
            Some("cluster") if doc.scalar(*value).is_some() => {
                if !but.contains(value) {
                    found.push(doc.scalar(*value).map(str::to_owned));
                }
            }
            Some("weighted_clusters") => {
                let list = doc.get(*value, "clusters").map(|list| doc.items(list)).unwrap_or_default();
                found.extend(list.into_iter().map(|one| doc.text_at(one, &["name"]).map(str::to_owned)));
            }
            Some("cluster_header" | "cluster_specifier_plugin" | "inline_cluster_specifier_plugin") => found.push(None),
            // What this command wrote down.
            Some("metadata") => {}
            _ => gather(doc, *value, but, found),
        }
    }
    if doc.is_list(id) {
        for item in doc.items(id) {
            gather(doc, item, but, found);
        }
    }
}

/// The keys by which a route matches a path.
pub(crate) const PATHS: [&str; 4] = ["prefix", "path", "path_separated_prefix", "safe_regex"];

/// What a route matches, and by which key.
pub(crate) fn matched(doc: &Doc, route: Id) -> Option<(&'static str, String)> {
    let rule = doc.get(route, "match")?;
    PATHS.into_iter().find_map(|key| {
        let id = doc.get(rule, key)?;
        let text = doc.scalar(id).or_else(|| doc.text_at(id, &["regex"]))?;
        Some((key, text.to_owned()))
    })
}

/// The mark that this command left at a route or a cluster.
pub(crate) fn mark(doc: &Doc, id: Id) -> Option<Id> {
    doc.at(id, &["metadata", "filter_metadata", super::parts::NAME])
}

/// Whether this command put durpina in: the cluster `durpina` says so. `None` where there is no such cluster.
pub(crate) fn is_ours(files: &[File]) -> Option<bool> {
    let place = cluster(files, super::parts::NAME)?;
    let doc = &files.get(place.file)?.doc;
    let (key, value) = super::parts::WRITTEN_BY;
    Some(mark(doc, place.id).and_then(|mark| doc.text_at(mark, &[key])) == Some(value))
}

/// A place as a person finds it: file, line, path.
pub(crate) fn show(files: &[File], place: Place) -> String {
    let Some(file) = files.get(place.file) else { return String::new() };
    format!("{}:{}: {}", file.name, file.doc.line(place.id), file.doc.path(place.id))
}
