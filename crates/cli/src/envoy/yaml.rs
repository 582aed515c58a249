//! YAML and JSON with the place of everything in the text.
//!
//! A [`Doc`] is a text and its tree. Nodes know the bytes where they stand, so that an edit can replace these and leave all else
//! as it is. What YAML has beyond JSON is read where it can be: an alias is followed, an anchor is remembered, so that nothing is
//! written into a place that counts elsewhere too. Several documents in one file and merge keys are refused.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::Value;

use super::scalar::{length, plain_value};

/// A node of a [`Doc`].
pub(crate) type Id = usize;

#[derive(Debug)]
enum Kind {
    Scalar { value: String, style: ScalarStyle },
    List(Vec<Id>),
    Map(Vec<(Id, Id)>),
    Alias(usize),
}

#[derive(Debug)]
struct Node {
    kind: Kind,
    /// Bytes of the text. Of what has an anchor or a tag, without these.
    span: Range<usize>,
    parent: Option<Id>,
    anchor: usize,
}

/// A text that was read.
#[derive(Debug)]
pub(crate) struct Doc {
    text: String,
    nodes: Vec<Node>,
    anchors: BTreeMap<usize, Id>,
    /// The anchors that something refers to.
    used: Vec<usize>,
    root: Id,
}

/// What cannot be read, and the line, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) line: usize,
    pub(crate) why: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

/// Containers within each other, so that no text exhausts the stack of those who walk the tree.
const DEEPEST: usize = 200;

impl Doc {
    /// Reads a text.
    ///
    /// # Errors
    ///
    /// What is neither YAML nor JSON, and what cannot be edited safely.
    pub(crate) fn parse(text: &str) -> Result<Self, Unreadable> {
        if text.starts_with('\u{feff}') {
            return Err(Unreadable { line: 1, why: "begins with a byte order mark: take it out".to_owned() });
        }
        // The parser counts characters.
        let mut offsets: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        offsets.push(text.len());
        let byte = |index: usize| offsets.get(index).copied().unwrap_or(text.len());
        let mut doc =
            Self { text: text.to_owned(), nodes: Vec::new(), anchors: BTreeMap::new(), used: Vec::new(), root: 0 };
        // The containers that are open, and the key in each that waits for its value.
        let mut open: Vec<(Id, Option<Id>)> = Vec::new();
        let mut documents = 0;
        for event in Parser::new_from_str(text) {
            let (event, span) =
                event.map_err(|error| Unreadable { line: error.marker().line(), why: error.info().to_owned() })?;
            let mut start = byte(span.start.index());
            let (kind, anchor) = match event {
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        let why = "a second document begins here: Envoy reads one for each file".to_owned();
                        return Err(Unreadable { line: span.start.line(), why });
                    }
                    continue;
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    if let Some((id, _)) = open.pop() {
                        // What follows the bracket may belong to the parser's end.
                        let bracket = byte(span.start.index());
                        let is_bracket = text.get(bracket..).is_some_and(|rest| rest.starts_with([']', '}']));
                        doc.close(id, if is_bracket { bracket + 1 } else { byte(span.end.index()) });
                    }
                    continue;
                }
                Event::Alias(anchor) => {
                    doc.used.push(anchor);
                    (Kind::Alias(anchor), 0)
                }
                Event::Scalar(value, style, anchor, _) => (Kind::Scalar { value: value.into_owned(), style }, anchor),
                Event::SequenceStart(anchor, _) => (Kind::List(Vec::new()), anchor),
                Event::MappingStart(anchor, _) => (Kind::Map(Vec::new()), anchor),
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => continue,
            };
            let is_container = matches!(kind, Kind::List(_) | Kind::Map(_));
            let end = match &kind {
                // Of an empty value and of a block scalar the parser says more than what is there.
                Kind::Scalar { value, style: ScalarStyle::Plain }
                    if value == "~" && !text.get(start..).is_some_and(|rest| rest.starts_with('~')) =>
                {
                    start
                }
                _ => byte(span.end.index()),
            };
            let mut end = end.max(start);
            if let Kind::Scalar { style, .. } = &kind {
                end = start + length(text.get(start..end).unwrap_or_default(), *style);
            }
            if start == end {
                // An empty value stands behind its colon, not where the next thing is.
                if let Some(key) = open.last().and_then(|(_, key)| *key) {
                    let behind = doc.span(key).end;
                    let colon = text.get(behind..start).and_then(|between| between.find(':'));
                    start = colon.map_or(start, |at| behind + at + 1);
                    end = start;
                }
            }
            if let Kind::Scalar { style: ScalarStyle::Literal | ScalarStyle::Folded | ScalarStyle::Plain, .. } = &kind {
                end = start + text.get(start..end).unwrap_or_default().trim_end().len();
            }
            let id = doc.nodes.len();
            let parent = open.last().map(|(parent, _)| *parent);
            doc.nodes.push(Node { kind, span: start..end, parent, anchor });
            if anchor != 0 {
                doc.anchors.insert(anchor, id);
            }
            match open.last_mut() {
                None => doc.root = id,
                Some((parent, key)) => {
                    let waiting = key.take();
                    match doc.nodes.get_mut(*parent).map(|node| &mut node.kind) {
                        Some(Kind::List(items)) => items.push(id),
                        Some(Kind::Map(entries)) => match waiting {
                            Some(key) => entries.push((key, id)),
                            None => *key = Some(id),
                        },
                        _ => {}
                    }
                }
            }
            if is_container {
                open.push((id, None));
                if open.len() > DEEPEST {
                    return Err(Unreadable { line: span.start.line(), why: "nested too deeply".to_owned() });
                }
            }
        }
        doc.refuse_merge_keys()?;
        Ok(doc)
    }

    /// The end of a container: behind its bracket, or, where it has none, of what is in it.
    fn close(&mut self, id: Id, end: usize) {
        let children = match self.nodes.get(id).map(|node| &node.kind) {
            Some(Kind::List(items)) => items.last().copied(),
            Some(Kind::Map(entries)) => entries.last().map(|(_, value)| *value),
            _ => None,
        };
        let within = children.and_then(|child| self.nodes.get(child)).map(|child| child.span.end);
        let is_flow = self.is_flow(id);
        if let Some(node) = self.nodes.get_mut(id) {
            node.span.end = if is_flow { end } else { within.unwrap_or(node.span.start) };
        }
    }

    fn refuse_merge_keys(&self) -> Result<(), Unreadable> {
        for node in &self.nodes {
            let Kind::Map(entries) = &node.kind else { continue };
            if let Some((key, _)) = entries.iter().find(|(key, _)| self.source(*key) == "<<") {
                let why = "a merge key (<<), which Envoy does not know".to_owned();
                return Err(Unreadable { line: self.line(*key), why });
            }
        }
        Ok(())
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn root(&self) -> Id {
        self.root
    }

    fn node(&self, id: Id) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// Where the node stands in the text.
    pub(crate) fn span(&self, id: Id) -> Range<usize> {
        self.node(id).map_or(0..0, |node| node.span.clone())
    }

    /// What stands there.
    pub(crate) fn source(&self, id: Id) -> &str {
        self.text.get(self.span(id)).unwrap_or_default()
    }

    pub(crate) fn parent(&self, id: Id) -> Option<Id> {
        self.node(id)?.parent
    }

    /// The line of a node's beginning, from 1.
    pub(crate) fn line(&self, id: Id) -> usize {
        self.line_of(self.span(id).start)
    }

    pub(crate) fn line_of(&self, at: usize) -> usize {
        1 + self.text.get(..at).unwrap_or_default().matches('\n').count()
    }

    /// Whether it is written with brackets, as all of JSON is.
    pub(crate) fn is_flow(&self, id: Id) -> bool {
        self.node(id).is_some_and(|node| {
            matches!(node.kind, Kind::List(_) | Kind::Map(_))
                && self.text.get(node.span.start..).is_some_and(|rest| rest.starts_with(['[', '{']))
        })
    }

    /// Whether all of it is written as in JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.is_flow(self.root)
    }

    /// Whether the node is a scalar whose last line breaks count (`|+`).
    pub(crate) fn keeps_breaks(&self, id: Id) -> bool {
        let is_block = matches!(
            &self.resolved(id).kind,
            Some(Kind::Scalar { style: ScalarStyle::Literal | ScalarStyle::Folded, .. })
        );
        let line = self.text.get(..self.span(id).start).unwrap_or_default();
        let head = line.trim_end().rsplit('\n').next().unwrap_or_default();
        is_block
            && (self.source(id).lines().next().unwrap_or_default().contains('+')
                || head.contains("|+")
                || head.contains(">+"))
    }

    /// Whether it is a scalar each line of which is a line of the text (`|`).
    pub(crate) fn is_literal(&self, id: Id) -> bool {
        matches!(self.resolved(id).kind, Some(Kind::Scalar { style: ScalarStyle::Literal, .. }))
    }

    fn resolved(&self, id: Id) -> Resolved<'_> {
        let mut id = id;
        // An alias cannot refer to another one.
        if let Some(Kind::Alias(anchor)) = self.node(id).map(|node| &node.kind) {
            id = self.anchors.get(anchor).copied().unwrap_or(id);
        }
        Resolved { id, kind: self.node(id).map(|node| &node.kind) }
    }

    /// The node itself, or the one that an alias means.
    pub(crate) fn resolve(&self, id: Id) -> Id {
        self.resolved(id).id
    }

    pub(crate) fn is_map(&self, id: Id) -> bool {
        matches!(self.resolved(id).kind, Some(Kind::Map(_)))
    }

    pub(crate) fn is_list(&self, id: Id) -> bool {
        matches!(self.resolved(id).kind, Some(Kind::List(_)))
    }

    /// The text of a scalar.
    pub(crate) fn scalar(&self, id: Id) -> Option<&str> {
        match self.resolved(id).kind {
            Some(Kind::Scalar { value, .. }) => Some(value),
            _ => None,
        }
    }

    /// The items of a list; of anything else that is said once, which Envoy reads as a list of one, that.
    pub(crate) fn items(&self, id: Id) -> Vec<Id> {
        match self.resolved(id).kind {
            Some(Kind::List(items)) => items.clone(),
            Some(Kind::Map(_)) => vec![self.resolve(id)],
            _ => Vec::new(),
        }
    }

    /// Keys and values of a map, in their order.
    pub(crate) fn entries(&self, id: Id) -> &[(Id, Id)] {
        match self.resolved(id).kind {
            Some(Kind::Map(entries)) => entries,
            _ => &[],
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, id: Id, key: &str) -> Option<Id> {
        self.entry(id, key).and_then(|at| self.entries(id).get(at)).map(|(_, value)| *value)
    }

    /// Which entry of a map has this key.
    pub(crate) fn entry(&self, id: Id, key: &str) -> Option<usize> {
        self.entries(id).iter().position(|(entry, _)| self.scalar(*entry) == Some(key))
    }

    /// The value at the end of several keys.
    pub(crate) fn at(&self, id: Id, keys: &[&str]) -> Option<Id> {
        keys.iter().try_fold(id, |id, key| self.get(id, key))
    }

    /// The text of the scalar at the end of several keys.
    pub(crate) fn text_at(&self, id: Id, keys: &[&str]) -> Option<&str> {
        self.at(id, keys).and_then(|id| self.scalar(id))
    }

    /// Whether another place has what is written into this node too, by an alias.
    pub(crate) fn counts_elsewhere(&self, id: Id) -> bool {
        let mut at = Some(id);
        while let Some(id) = at {
            let anchor = self.node(id).map_or(0, |node| node.anchor);
            if anchor != 0 && self.used.contains(&anchor) {
                return true;
            }
            at = self.parent(id);
        }
        false
    }

    /// The value, with aliases replaced by what they mean. Numbers and words of YAML become those of JSON.
    pub(crate) fn value(&self, id: Id) -> Value {
        // Aliases cannot form a circle, but they can multiply.
        self.bounded_value(id, &mut 100_000)
    }

    fn bounded_value(&self, id: Id, left: &mut usize) -> Value {
        *left = left.saturating_sub(1);
        if *left == 0 {
            return Value::Null;
        }
        match self.resolved(id).kind {
            Some(Kind::Scalar { value, style: ScalarStyle::Plain }) => plain_value(value),
            Some(Kind::Scalar { value, .. }) => Value::String(value.clone()),
            Some(Kind::List(items)) => items.iter().map(|item| self.bounded_value(*item, left)).collect(),
            Some(Kind::Map(entries)) => {
                let entry = |(key, value): &(Id, Id)| {
                    (self.scalar(*key).unwrap_or_default().to_owned(), self.bounded_value(*value, left))
                };
                Value::Object(entries.iter().map(entry).collect())
            }
            _ => Value::Null,
        }
    }
}

struct Resolved<'d> {
    id: Id,
    kind: Option<&'d Kind>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doc(text: &str) -> Doc {
        Doc::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// What the parser says of spans, upon which every edit rests.
    #[test]
    fn spans_are_what_stands_there() {
        let text = "ü: \"ä\"\nlist:\n- name: one # comment\n  more: |\n    text\n\n    more\n\n- two\n# end\nflow: {a: [1, 2], b: ~}\nnone:\nlast: x y\n\n# over\n";
        let doc = doc(text);
        let root = doc.root();
        let source = |keys: &[&str]| doc.source(doc.at(root, keys).unwrap());
        assert_eq!(source(&["ü"]), "\"ä\"");
        let items = doc.items(doc.get(root, "list").unwrap());
        assert_eq!(doc.source(items[0]), "name: one # comment\n  more: |\n    text\n\n    more");
        assert_eq!(doc.source(items[1]), "two");
        assert_eq!(source(&["flow"]), "{a: [1, 2], b: ~}");
        assert_eq!(source(&["flow", "a"]), "[1, 2]");
        assert_eq!(source(&["none"]), "");
        assert_eq!(doc.value(doc.get(root, "none").unwrap()), Value::Null);
        assert_eq!(source(&["last"]), "x y");
        assert_eq!(doc.line(items[1]), 9);
        let flow = self::doc("a: [ 'it''s' # x\n , \"\\\"#\" # y\n , c d # z\n , e ]\n");
        let in_flow = flow.items(flow.get(flow.root(), "a").unwrap());
        let sources: Vec<&str> = in_flow.iter().map(|item| flow.source(*item)).collect();
        assert_eq!(sources, ["'it''s'", "\"\\\"#\"", "c d", "e"]);
        assert_eq!(doc.path(items[1]), "list[1]");
    }

    #[test]
    fn json_with_tabs_and_escapes_is_read() {
        let doc = doc("{\r\n\t\"a\\/b\": [\r\n\t\t1,\r\n\t\t\"\\u00e9\"\r\n\t]\r\n}\r\n");
        assert_eq!(doc.value(doc.root()), serde_json::json!({"a/b": [1, "é"]}));
        assert!(doc.is_json());
        // YAML has no surrogates. A file with such a text is told of, and left alone.
        assert_eq!(Doc::parse("{\n\"a\": \"\\ud83d\\ude00\"}").unwrap_err().line, 2);
    }

    #[test]
    fn several_documents_and_merge_keys_are_refused() {
        assert_eq!(Doc::parse("a: 1\n---\nb: 2\n").unwrap_err().line, 2);
        assert_eq!(Doc::parse("a: &x {b: 1}\nc:\n  <<: *x\n").unwrap_err().line, 3);
        assert!(Doc::parse("---\na: 1\n...\n").is_ok());
        assert!(Doc::parse("a: [1\n").is_err());
        assert!(Doc::parse(&"[".repeat(100_000)).is_err());
    }

    #[test]
    fn aliases_are_followed_and_known() {
        let doc = doc("a: &x\n  b: {c: 1}\nd: *x\n");
        let c = doc.at(doc.root(), &["d", "b", "c"]).unwrap();
        assert_eq!(doc.scalar(c), Some("1"));
        assert!(doc.counts_elsewhere(c));
        assert_eq!(doc.path(c), "a.b.c");
        assert!(!doc.counts_elsewhere(doc.get(doc.root(), "d").unwrap()));
    }
}
