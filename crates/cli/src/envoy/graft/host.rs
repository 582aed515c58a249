//! What a virtual host needs whose routes lead to durpina.

use crate::envoy::edit::{self, Edit, Refusal};
use crate::envoy::part::Part;
use crate::envoy::parts::{Setting, BUFFER};
use crate::envoy::wiring::Wiring;
use crate::envoy::yaml::{Doc, Id};

/// Its edits, and what the marks at its routes say of them.
#[derive(Default)]
pub(super) struct Host {
    pub(super) edits: Vec<Result<Edit, Refusal>>,
    pub(super) mark: Vec<(String, Part)>,
    /// What is to be known, and of which node.
    pub(super) notes: Vec<(Id, String)>,
}

impl Host {
    pub(super) fn of(doc: &Doc, host: Id, setting: &Setting, wiring: &Wiring) -> Self {
        let mut all = Self::default();
        if setting.access_log {
            all.attempts(doc, host);
        }
        all.buffer(doc, host);
        all.unused(doc, host, wiring.unused());
        all
    }

    fn put(&mut self, doc: &Doc, host: Id, key: &str, part: &Part) {
        let at = doc.entry(host, "domains").unwrap_or_default();
        self.edits.push(edit::insert_entry(doc, host, at, key, part));
    }

    fn attempts(&mut self, doc: &Doc, host: Id) {
        const COUNT: &str = "include_request_attempt_count";
        let count = doc.get(host, COUNT);
        let was = count.map_or("none", |id| doc.source(id));
        if was == "true" {
            return;
        }
        self.mark.push(("attempts".to_owned(), Part::text(was)));
        match count {
            Some(id) => self.edits.push(edit::replace(doc, id, "true")),
            None => self.put(doc, host, COUNT, &Part::Word("true".to_owned())),
        }
    }

    /// Room for uploads, unless somebody said how much.
    fn buffer(&mut self, doc: &Doc, host: Id) {
        let (key, size) = BUFFER;
        if [key, "per_request_buffer_limit_bytes"].iter().all(|key| doc.get(host, key).is_none()) {
            self.mark.push(("buffer".to_owned(), Part::text("written")));
            self.put(doc, host, key, &Part::Word(size.to_owned()));
        }
    }

    /// Headers that are nothing for servers, beside those that are taken out already.
    fn unused(&mut self, doc: &Doc, host: Id, names: &[&str]) {
        const KEY: &str = "request_headers_to_remove";
        let list = doc.get(host, KEY);
        let there = list.map(|list| doc.items(list)).unwrap_or_default();
        let is_there =
            |name: &str| there.iter().any(|id| doc.scalar(*id).is_some_and(|own| own.eq_ignore_ascii_case(name)));
        let names: Vec<Part> = names.iter().copied().filter(|name| !is_there(name)).map(Part::text).collect();
        if names.is_empty() {
            return;
        }
        match list.map(|list| (list, edit::insert_items(doc, list, usize::MAX, &names, None))) {
            None => self.put(doc, host, KEY, &Part::List(names.clone())),
            Some((_, Ok(edit))) => self.edits.push(Ok(edit)),
            Some((list, Err(refusal))) => {
                // Nothing depends on it.
                let what = format!("{}: servers see what clients send as x-durpina-peer", refusal.why);
                return self.notes.push((list, what));
            }
        }
        self.mark.push(("removed".to_owned(), Part::List(names)));
    }
}
