//! What a virtual host needs whose routes lead to durpina.

use crate::envoy::edit::{self, Edit, Refusal};
use crate::envoy::part::Part;
use crate::envoy::parts::{Setting, BUFFER};
use crate::envoy::yaml::{Doc, Id};

/// Its edits, and what the marks at its routes say of them.
#[derive(Default)]
pub(super) struct Host {
    pub(super) edits: Vec<Result<Edit, Refusal>>,
    pub(super) mark: Vec<(String, Part)>,
}

impl Host {
    pub(super) fn of(doc: &Doc, host: Id, setting: &Setting) -> Self {
        let mut all = Self::default();
        if setting.access_log {
            all.attempts(doc, host);
        }
        all.buffer(doc, host);
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
}
