//! Puts durpina into a configuration that knows nothing of it.

mod choose;
mod host;
mod point;
mod wire;

use crate::envoy::edit::{self, Edit, Refusal};
use crate::envoy::filter::Filter;
use crate::envoy::part::Part;
use crate::envoy::parts::{self, Connection, Setting, NAME, NOTE};
use crate::envoy::places::{self, File, Manager, Place, Route};
use crate::envoy::prune::Pointed;
use crate::envoy::splice::splice;
use crate::envoy::way::Step;
use crate::envoy::wiring::{Peers, Wiring};
use crate::envoy::yaml::{Doc, Id};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// The connection managers, by name; all if there is none.
    pub(crate) managers: Vec<String>,
    /// `HOST/PREFIX`, or `HOST` for all of its routes.
    pub(crate) routes: Vec<String>,
    pub(crate) peers: Option<Peers>,
    pub(crate) wasm: Option<String>,
    pub(crate) socket: Option<String>,
}

/// Where the filter is, and the gateway's socket, unless somebody says otherwise: as in the reference configuration.
const WASM: &str = "/etc/envoy/durpina.wasm";
const SOCKET: &str = "/run/envoy/durpina-tcp.sock";

/// What there is to know beside the change.
pub(crate) type Notes = Vec<String>;

/// Files under change.
struct Graft<'w> {
    files: Vec<File>,
    edits: Vec<(usize, Edit)>,
    wishes: &'w Wishes,
    problems: Vec<String>,
    notes: Notes,
}

/// A route that is pointed to durpina.
struct Target {
    route: Route,
    /// Once more, for the methods that may be sent twice.
    split: bool,
}

/// The files with durpina in them. `kept` are routes that led to durpina before.
///
/// # Errors
///
/// Everything that cannot be done, with its place.
pub(crate) fn graft(
    files: Vec<File>,
    filter: &Filter,
    kept: &[Pointed],
    wishes: &Wishes,
) -> Result<(Vec<File>, Notes), Vec<String>> {
    let mut graft = Graft { files, edits: Vec::new(), wishes, problems: Vec::new(), notes: Vec::new() };
    let managers = graft.managers();
    let routes = graft.routes(&managers, kept);
    let connection = graft.connection(&routes);
    let (wiring, json) = graft.wiring(filter, &managers, &routes, &connection);
    let setting = Setting {
        json,
        wasm: wishes.wasm.clone().unwrap_or_else(|| WASM.to_owned()),
        socket: wishes.socket.clone().unwrap_or_else(|| SOCKET.to_owned()),
        access_log: filter.access_log,
        checks: filter.checks,
    };
    for manager in &managers {
        graft.put_filters(manager, &setting, &wiring);
    }
    let mut hosts = Vec::new();
    let targets: Vec<Target> =
        routes.into_iter().filter_map(|route| graft.point(route, &setting, &mut hosts)).collect();
    graft.put_clusters(&targets, &setting, &wiring, &connection);
    if setting.checks.tcp {
        graft.put_into(
            "listeners",
            "Listener",
            "type.googleapis.com/envoy.config.listener.v3.Listener",
            None,
            vec![parts::gateway(&setting)],
        );
    }
    if setting.checks.any() {
        graft.put_layer();
    }
    for cluster in &filter.others {
        if places::cluster(&graft.files, cluster).is_none() {
            let note = format!("the filter JSON asks through the cluster {cluster:?}, which is not in these files");
            graft.notes.push(note);
        }
    }
    // Ways that stay the same through the edits: nothing was put before a route or a host yet.
    let split: Vec<(usize, Vec<Step>)> = targets
        .iter()
        .filter(|target| target.split)
        .filter_map(|target| {
            let file = target.route.place.file;
            Some((file, graft.files.get(file)?.doc.steps(target.route.place.id)))
        })
        .collect();
    graft.apply();
    graft.split(split);
    if graft.problems.is_empty() {
        Ok((graft.files, graft.notes))
    } else {
        Err(graft.problems)
    }
}

impl Graft<'_> {
    fn doc(&self, place: Place) -> Option<&Doc> {
        self.files.get(place.file).map(|file| &file.doc)
    }

    fn problem(&mut self, place: Place, why: &str) {
        let problem = format!("{} {why}", places::show(&self.files, place));
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn note(&mut self, place: Place, what: &str) {
        let note = format!("{} {what}", places::show(&self.files, place));
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn push(&mut self, file: usize, edit: Result<Edit, Refusal>) {
        match edit {
            Ok(edit) => self.edits.push((file, edit)),
            Err(refusal) => self.problem(Place { file, id: refusal.at }, &refusal.why),
        }
    }

    /// Makes the edits that were gathered.
    fn apply(&mut self) {
        let edits = std::mem::take(&mut self.edits);
        for (at, file) in self.files.iter_mut().enumerate() {
            let own = edits.iter().filter(|(file, _)| *file == at).map(|(_, edit)| edit.clone()).collect();
            match Doc::parse(&splice(file.doc.text(), own)) {
                Ok(doc) => file.doc = doc,
                Err(error) => self.problems.push(format!("{}: cannot be edited: {error}", file.name)),
            }
        }
    }

    /// The filters right before the router, and the access log.
    fn put_filters(&mut self, manager: &Manager, setting: &Setting, wiring: &Wiring) {
        let place = manager.place;
        let Some(doc) = self.doc(place) else { return };
        let Some(list) = doc.get(place.id, "http_filters") else {
            return self.problem(place, "has no http_filters, and so no router before which durpina could go");
        };
        let items = doc.items(list);
        let is_router =
            |id: &Id| doc.get(*id, "typed_config").is_some_and(|typed| places::is_type(doc, typed, "Router"));
        let Some(at) = items.iter().position(is_router) else {
            return self.problem(place.at(list), "has no router, before which durpina could go");
        };
        if items.iter().any(|id| doc.text_at(*id, &["name"]) == Some(NAME)) {
            return self.problem(place.at(list), "has a filter named durpina that this command did not write");
        }
        let filters = edit::insert_items(doc, list, at, &parts::filters(setting, wiring), Some(NOTE));
        let log = setting.access_log.then(|| match doc.get(place.id, "access_log") {
            Some(list) => edit::insert_items(doc, list, usize::MAX, &[parts::access_log(setting)], Some(NOTE)),
            None => {
                let at = doc.entry(place.id, "http_filters").unwrap_or_default();
                edit::insert_entry(doc, place.id, at, "access_log", &Part::List(vec![parts::access_log(setting)]))
            }
        });
        self.push(place.file, filters);
        if let Some(log) = log {
            self.push(place.file, log);
        }
    }

    fn put_clusters(&mut self, targets: &[Target], setting: &Setting, wiring: &Wiring, connection: &Connection) {
        let beside = targets.first().and_then(|target| {
            let name = places::text(&self.files, target.route.place, &["route", "cluster"])?;
            places::cluster(&self.files, name)
        });
        let mut durpina = parts::composite();
        let (key, value) = parts::WRITTEN_BY;
        let mut mark = parts::mark([(key, Part::text(value))]);
        if let Some(peers) = self.wishes.peers {
            mark = parts::mark([(key, Part::text(value)), ("peers", Part::text(peers.name()))]);
        }
        durpina.set("metadata", mark);
        let mut all = vec![durpina];
        all.extend(parts::peers(wiring, connection));
        all.extend(parts::probes(setting));
        self.put_into("clusters", "Cluster", "type.googleapis.com/envoy.config.cluster.v3.Cluster", beside, all);
    }

    /// Puts things of a kind where such things are.
    fn put_into(&mut self, key: &str, kind: &str, typed: &str, beside: Option<Place>, mut parts: Vec<Part>) {
        let Some(place) = beside.or_else(|| places::all(&self.files, key, kind).into_iter().next()) else {
            return self.put_first(key, &parts);
        };
        let Some(doc) = self.doc(place) else { return };
        let Some(list) = doc.parent(place.id) else { return };
        if doc.parent(list).is_some_and(|above| above == doc.root()) {
            for part in &mut parts {
                if let Some(entries) = part.entries_mut() {
                    entries.insert(0, ("@type".to_owned(), Part::text(typed)));
                }
            }
        }
        let edit = edit::insert_items(doc, list, usize::MAX, &parts, Some(NOTE));
        self.push(place.file, edit);
    }

    /// Where there are no such things yet, they go into the bootstrap.
    fn put_first(&mut self, key: &str, parts: &[Part]) {
        let Some(file) = self.bootstrap() else {
            self.problems.push(format!(
                "there is no place for {key} in these files: give the bootstrap, or the file with {key}, too"
            ));
            return;
        };
        let Some(File { doc, .. }) = self.files.get(file) else { return };
        let list = Part::List(parts.to_vec());
        let edit = match doc.get(doc.root(), "static_resources") {
            None => edit::append_entry(doc, doc.root(), "static_resources", &Part::map([(key, list)])),
            Some(resources) => match doc.get(resources, key) {
                None => edit::append_entry(doc, resources, key, &list),
                // It is empty.
                Some(there) => edit::insert_items(doc, there, 0, parts, Some(NOTE)),
            },
        };
        self.push(file, edit);
    }

    fn bootstrap(&self) -> Option<usize> {
        let keys = ["static_resources", "dynamic_resources", "layered_runtime"];
        self.files.iter().position(|file| keys.iter().any(|key| file.doc.get(file.doc.root(), key).is_some()))
    }

    /// The limit on answers to checks.
    fn put_layer(&mut self) {
        const LIMIT: &str = "http.async_response_buffer_limit";
        let Some(file) = self.bootstrap() else {
            let note = format!(
                "the bootstrap is not among these files: put {LIMIT}: 262144 into a layer of its layered_runtime"
            );
            self.notes.push(note);
            return;
        };
        let Some(File { doc, .. }) = self.files.get(file) else { return };
        let edit = match doc.get(doc.root(), "layered_runtime") {
            None => {
                let layers = Part::List(vec![parts::layer(), parts::admin_layer()]);
                edit::append_entry(doc, doc.root(), "layered_runtime", &Part::map([("layers", layers)]))
            }
            Some(runtime) if Part::of(doc, runtime).has_key(LIMIT) => return,
            Some(runtime) => match doc.get(runtime, "layers") {
                Some(layers) => edit::insert_items(doc, layers, 0, &[parts::layer()], Some(NOTE)),
                None => edit::append_entry(doc, runtime, "layers", &Part::List(vec![parts::layer()])),
            },
        };
        self.push(file, edit);
    }
}
