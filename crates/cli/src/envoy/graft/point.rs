//! Routes pointed to durpina.

use super::host::Host;
use super::{Graft, Target};
use crate::envoy::edit;
use crate::envoy::edit::Refusal;
use crate::envoy::part::{quoted, Part};
use crate::envoy::parts::{self, Setting, NAME};
use crate::envoy::places::{self, File, Place, Route};
use crate::envoy::way::Step;
use crate::envoy::yaml::{Doc, Id};

impl Graft<'_> {
    /// Points a route to durpina.
    pub(super) fn point(&mut self, route: Route, setting: &Setting, hosts: &mut Vec<Place>) -> Option<Target> {
        let place = route.place;
        let doc = self.doc(place)?;
        let Some(action) = doc.get(place.id, "route") else {
            let other = ["redirect", "direct_response", "non_forwarding_action", "filter_action"];
            let other = other.into_iter().find(|key| doc.get(place.id, key).is_some()).unwrap_or("nothing");
            self.problem(place, &format!("has {other}, and no route to a cluster"));
            return None;
        };
        let Some(at) = doc.entry(action, "cluster") else {
            let other =
                doc.entries(action).iter().find_map(|(key, _)| doc.scalar(*key).filter(|key| key.contains("cluster")));
            let why = format!(
                "chooses its cluster by {}: durpina can take the place of one cluster only",
                other.unwrap_or("other means")
            );
            self.problem(place, &why);
            return None;
        };
        let cluster = doc.get(action, "cluster")?;
        let own_policy = ["retry_policy", "retry_policy_typed_config"]
            .iter()
            .find_map(|key| doc.get(action, key).or_else(|| doc.get(route.host, key)));
        let rule = doc.get(place.id, "match");
        let headers = rule.and_then(|rule| doc.get(rule, "headers")).map(|list| doc.items(list)).unwrap_or_default();
        let by_method = headers.iter().any(|header| doc.text_at(*header, &["name"]) == Some(":method"));
        let one_kind = by_method
            || rule.is_some_and(|rule| ["grpc", "connect_matcher"].iter().any(|key| doc.get(rule, key).is_some()));
        let split = own_policy.is_none() && !one_kind;

        let mut mark = vec![("was".to_owned(), Part::text(doc.source(cluster)))];
        let mut edits = vec![edit::replace(doc, cluster, &quoted(NAME, edit::style(doc)))];
        if own_policy.is_none() {
            edits.push(edit::insert_entry(doc, action, at, "retry_policy", &parts::retry_policy(false)));
            mark.push(("retry_policy".to_owned(), Part::text("written")));
        }
        if split {
            mark.push(("methods".to_owned(), Part::text("others")));
        }
        let host = place.at(route.host);
        let own = Host::of(doc, route.host, setting);
        mark.extend(own.mark);
        if !hosts.contains(&host) {
            hosts.push(host);
            edits.extend(own.edits);
        }
        let mark = Part::Map(mark);
        let wrapped = |key: &str, part: &Part| Part::map([(key, part.clone())]);
        edits.push(match doc.get(place.id, "metadata") {
            None => edit::append_entry(doc, place.id, "metadata", &wrapped("filter_metadata", &wrapped(NAME, &mark))),
            Some(metadata) => match doc.get(metadata, "filter_metadata") {
                None => edit::append_entry(doc, metadata, "filter_metadata", &wrapped(NAME, &mark)),
                Some(all) => edit::append_entry(doc, all, NAME, &mark),
            },
        });
        let rewrites = doc.get(action, "auto_host_rewrite").is_some();
        for edit in edits {
            self.push(place.file, edit);
        }
        if let Some(policy) = own_policy {
            self.note(
                place.at(policy),
                "stays as it is: for a request to go on to the next peer it needs connect-failure and reset in retry_on, and num_retries: 2",
            );
        }
        if rewrites {
            self.note(place, "has auto_host_rewrite: with durpina the Host becomes the peer's address");
        }
        Some(Target { route, split })
    }

    /// Puts a copy of each of these routes before it, for the methods that may safely be sent twice.
    pub(super) fn split(&mut self, split: Vec<(usize, Vec<Step>)>) {
        for (file, steps) in &split {
            let Some(File { doc, .. }) = self.files.get(*file) else { continue };
            let Some((id, (list, at))) = doc.find(steps).and_then(|id| Some((id, in_list(doc, id)?))) else { continue };
            if places::mark(doc, id).and_then(|mark| doc.text_at(mark, &["methods"])) != Some("others") {
                // Never a copy of another route.
                self.problem(Place { file: *file, id }, "is not the route that was to be copied");
                continue;
            }
            let edit = edit::repeat_item(doc, list, at).map_err(|refusal| Refusal { at: id, ..refusal });
            self.push(*file, edit);
        }
        self.apply();
        let mut found = Vec::new();
        for (file, File { doc, .. }) in self.files.iter().enumerate() {
            for (_, steps) in split.iter().filter(|(of, _)| *of == file) {
                let Some((_, list)) = steps.split_last() else { continue };
                let lists: Vec<Id> = doc.find(list).into_iter().collect();
                for list in lists {
                    found.extend(first_of_pairs(doc, list).into_iter().map(|id| Place { file, id }));
                }
            }
        }
        found.sort_by_key(|place| (place.file, place.id));
        found.dedup();
        for place in found {
            let Some(doc) = self.doc(place) else { continue };
            let style = edit::style(doc);
            let mut edits = Vec::new();
            if let Some(id) = places::mark(doc, place.id).and_then(|mark| doc.get(mark, "methods")) {
                edits.push(edit::replace(doc, id, &quoted("safe", style)));
            }
            if let Some(id) = doc.at(place.id, &["route", "retry_policy", "retry_on"]) {
                edits.push(edit::replace(doc, id, &quoted(parts::RETRY_ALWAYS, style)));
            }
            if let Some(rule) = doc.get(place.id, "match") {
                let methods = parts::safe_methods();
                edits.push(match doc.get(rule, "headers") {
                    Some(list) => edit::insert_items(doc, list, usize::MAX, &[methods], None),
                    None => edit::append_entry(doc, rule, "headers", &Part::List(vec![methods])),
                });
            }
            for edit in edits {
                self.push(place.file, edit);
            }
        }
        self.apply();
    }
}

fn in_list(doc: &Doc, id: Id) -> Option<(Id, usize)> {
    let list = doc.parent(id)?;
    let at = doc.items(list).into_iter().position(|item| item == id)?;
    Some((list, at))
}

/// Of two routes in a row that are marked alike, as a copy and its original are, the first one.
fn first_of_pairs(doc: &Doc, list: Id) -> Vec<Id> {
    let is_marked = |id: &Id| places::mark(doc, *id).and_then(|mark| doc.text_at(mark, &["methods"])) == Some("others");
    let marked: Vec<Id> = doc.items(list).into_iter().filter(is_marked).collect();
    marked.chunks(2).filter_map(|pair| pair.first().copied()).collect()
}
