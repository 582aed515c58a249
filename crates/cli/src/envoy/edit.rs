//! Edits of a text: what is put in goes there as its neighbours are written, and what is taken out is just that.
//!
//! Each edit has an inverse. In block style whole lines come and go. In flow style, which is all that JSON has, an item comes and
//! goes with the comma, and the space behind the comma, that part it from its neighbour.

use std::collections::BTreeMap;
use std::ops::Range;

use super::part::{Part, Style};
use super::yaml::{Doc, Id};

/// Bytes of a text, and what they become.
pub(crate) type Edit = (Range<usize>, String);

/// Why something cannot be written where it should be, and the node.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) at: Id,
    pub(crate) why: String,
}

fn refuse<T>(at: Id, why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { at, why: why.into() })
}

/// How the text is written, by the majority of its first maps and lists.
pub(crate) fn style(doc: &Doc) -> Style {
    let mut steps = Vec::new();
    let mut dashes = Vec::new();
    look(doc, doc.root(), &mut steps, &mut dashes);
    let most = |found: &[usize], default: usize| {
        let mut counts = BTreeMap::new();
        for value in found {
            *counts.entry(*value).or_insert(0) += 1;
        }
        counts.into_iter().max_by_key(|(_, count)| *count).map_or(default, |(value, _)| value)
    };
    Style { step: most(&steps, 2), dash: most(&dashes, 0), json: doc.is_json() }
}

fn look(doc: &Doc, id: Id, steps: &mut Vec<usize>, dashes: &mut Vec<usize>) {
    if doc.is_flow(id) || steps.len() + dashes.len() > 500 {
        return;
    }
    for (key, value) in doc.entries(id) {
        // An alias is written elsewhere.
        if doc.resolve(*value) != *value || doc.is_flow(*value) {
            continue;
        }
        let column = column(doc, doc.span(*key).start);
        if let Some(item) = doc.items(*value).first().filter(|_| doc.is_list(*value)) {
            if let Some(dash) = dash(doc, *item) {
                dashes.push(dash.saturating_sub(column));
            }
        } else if let Some((inner, _)) = doc.entries(*value).first() {
            steps.push(self::column(doc, doc.span(*inner).start).saturating_sub(column));
        }
        for item in doc.items(*value) {
            look(doc, item, steps, dashes);
        }
    }
}

/// The column of a byte, in characters.
fn column(doc: &Doc, at: usize) -> usize {
    doc.text().get(line_start(doc, at)..at).unwrap_or_default().chars().count()
}

fn line_start(doc: &Doc, at: usize) -> usize {
    doc.text().get(..at).unwrap_or_default().rfind('\n').map_or(0, |at| at + 1)
}

/// Behind the line break of this line, or the end of the text.
fn line_end(doc: &Doc, at: usize) -> usize {
    doc.text().get(at..).unwrap_or_default().find('\n').map_or(doc.text().len(), |found| at + found + 1)
}

/// The column of the dash of an item, if nothing else stands before the item on its line.
fn dash(doc: &Doc, item: Id) -> Option<usize> {
    let start = doc.span(item).start;
    let before = doc.text().get(line_start(doc, start)..start)?;
    let behind = before.trim_start_matches(' ').strip_prefix('-')?;
    let is_property = |word: &str| word.starts_with(['&', '!']);
    (behind.starts_with(' ') && behind.split_ascii_whitespace().all(is_property))
        .then(|| before.len() - before.trim_start_matches(' ').len())
}

/// Nothing is written into what counts in other places too.
fn writable(doc: &Doc, id: Id) -> Result<(), Refusal> {
    if doc.counts_elsewhere(id) {
        return refuse(id, "has an anchor that is used elsewhere: what is written here would count there too");
    }
    Ok(())
}

/// Several items before the `at`-th of a list, or behind the last one.
pub(crate) fn insert_items(
    doc: &Doc,
    list: Id,
    at: usize,
    parts: &[Part],
    note: Option<&str>,
) -> Result<Edit, Refusal> {
    let text = |neighbour: Id, style: Style| -> Vec<String> {
        let (indent, unit) = indentation(doc, neighbour);
        let one_line = !gap(doc, doc.resolve(list), neighbour).contains('\n');
        let write = |part: &Part| if one_line { part.line(style) } else { part.lines(&indent, &unit, style) };
        parts.iter().map(write).collect()
    };
    insert(doc, list, at, &|column, style| parts.iter().map(|part| part.item(column, note, style)).collect(), &text)
}

/// The same item once more before the `at`-th of a list, as it is written.
pub(crate) fn repeat_item(doc: &Doc, list: Id, at: usize) -> Result<Edit, Refusal> {
    let items = doc.items(list);
    let Some(item) = items.get(at).copied() else { return refuse(list, "has too few items") };
    let lines = doc.text().get(line_start(doc, doc.span(item).start)..doc.span(item).end).unwrap_or_default();
    let source = doc.source(item).to_owned();
    if doc.is_flow(list) {
        return insert(doc, list, at, &|_, _| String::new(), &|_, _| vec![source.clone()]);
    }
    writable(doc, list)?;
    if dash(doc, item).is_none() {
        return refuse(item, "does not stand behind its dash");
    }
    let start = line_start(doc, doc.span(item).start);
    Ok((start..start, format!("{lines}{}", super::splice::line_break(doc.text()))))
}

fn insert(
    doc: &Doc,
    list: Id,
    at: usize,
    block: &dyn Fn(usize, Style) -> String,
    flow: &dyn Fn(Id, Style) -> Vec<String>,
) -> Result<Edit, Refusal> {
    let list = doc.resolve(list);
    writable(doc, list)?;
    let items = doc.items(list);
    if !doc.is_list(list) {
        return refuse(list, "is no list");
    }
    let (Some(first), Some(last)) = (items.first().copied(), items.last().copied()) else {
        return refuse(list, "is an empty list: take it out, and this command makes one");
    };
    let style = style(doc);
    if doc.is_flow(list) {
        let gap = gap(doc, list, first);
        return Ok(match at.min(items.len()).checked_sub(1).and_then(|before| items.get(before)).copied() {
            Some(before) => {
                let end = doc.span(before).end;
                (end..end, flow(first, style).iter().map(|item| format!(",{gap}{item}")).collect())
            }
            None => {
                let start = doc.span(first).start;
                (start..start, flow(first, style).iter().map(|item| format!("{item},{gap}")).collect())
            }
        });
    }
    let Some(column) = dash(doc, first) else { return refuse(first, "does not stand behind its dash") };
    match items.get(at).copied() {
        Some(next) => {
            if dash(doc, next).is_none() {
                return refuse(next, "does not stand behind its dash");
            }
            let start = above_comments(doc, line_start(doc, doc.span(next).start), column);
            Ok((start..start, lines(doc, &block(column, style))))
        }
        None => Ok(behind(doc, last, &block(column, style))),
    }
}

/// Where the comments begin that stand right above a line and belong to it.
fn above_comments(doc: &Doc, start: usize, column: usize) -> usize {
    let mut start = start;
    while start > 0 {
        let above = line_start(doc, start - 1);
        let line = doc.text().get(above..start).unwrap_or_default();
        let indent = line.len() - line.trim_start_matches(' ').len();
        if indent != column || !line.trim_start().starts_with('#') {
            break;
        }
        start = above;
    }
    start
}

/// Whole lines, with the breaks of the text.
fn lines(doc: &Doc, block: &str) -> String {
    super::splice::with_breaks(block, super::splice::line_break(doc.text())).into_owned()
}

/// Whole lines behind the last line of a node.
fn behind(doc: &Doc, id: Id, block: &str) -> Edit {
    let mut deepest = id;
    // Whose end it is.
    loop {
        let last = match doc.entries(deepest).last() {
            Some((_, value)) => Some(*value),
            None if doc.is_list(deepest) => doc.items(deepest).last().copied(),
            None => None,
        };
        match last.filter(|last| !doc.is_flow(deepest) && doc.span(*last).end == doc.span(id).end) {
            Some(last) if last != deepest => deepest = last,
            _ => break,
        }
    }
    let mut end = line_end(doc, doc.span(id).end);
    if doc.keeps_breaks(deepest) {
        // Empty lines belong to it.
        while end < doc.text().len() {
            let next = line_end(doc, end);
            if !doc.text().get(end..next).unwrap_or_default().trim().is_empty() {
                break;
            }
            end = next;
        }
    }
    let block = lines(doc, block);
    if doc.text().get(..end).is_some_and(|text| !text.ends_with('\n')) {
        // The last line of the text has no end, and shall have none.
        let line_break = super::splice::line_break(doc.text());
        return (end..end, format!("{line_break}{}", block.trim_end_matches(['\r', '\n'])));
    }
    (end..end, block)
}

/// What stands between a bracket or a comma and the next item.
fn gap(doc: &Doc, container: Id, first: Id) -> String {
    let between = doc.text().get(doc.span(container).start + 1..doc.span(first).start).unwrap_or_default();
    match between.rfind('\n') {
        // Without comments.
        Some(at) => {
            let indent: String =
                between.get(at + 1..).unwrap_or_default().chars().take_while(|c| c.is_whitespace()).collect();
            format!("{}{indent}", super::splice::line_break(doc.text()))
        }
        None => " ".to_owned(),
    }
}

/// What the line of a node begins with, and what a level more adds to that.
fn indentation(doc: &Doc, id: Id) -> (String, String) {
    let start = doc.span(id).start;
    let indent = |at: usize| -> String {
        let line = doc.text().get(line_start(doc, at)..).unwrap_or_default();
        line.chars().take_while(|c| matches!(c, ' ' | '\t')).collect()
    };
    let own = indent(start);
    let mut above = Some(id);
    while let Some(id) = above {
        let outer = indent(doc.span(id).start);
        if let Some(unit) = own.strip_prefix(outer.as_str()).filter(|unit| !unit.is_empty()) {
            // Two levels may share a line.
            let unit = if unit.starts_with('\t') { "\t" } else { unit.get(..unit.len().min(4)).unwrap_or(unit) };
            return (own.clone(), unit.to_owned());
        }
        above = doc.parent(id);
    }
    (own, "  ".to_owned())
}

/// A new entry behind the `at`-th of a map.
pub(crate) fn insert_entry(doc: &Doc, map: Id, at: usize, key: &str, part: &Part) -> Result<Edit, Refusal> {
    let map = doc.resolve(map);
    writable(doc, map)?;
    if !doc.is_map(map) {
        return refuse(map, "is no map");
    }
    let entries = doc.entries(map);
    let (Some((first, _)), Some((_, value))) = (entries.first(), entries.get(at)) else {
        return refuse(map, "is an empty map: take it out, and this command makes one");
    };
    let style = style(doc);
    if doc.is_flow(map) {
        let gap = gap(doc, map, *first);
        let (indent, unit) = indentation(doc, *first);
        let key = super::part::quoted(key, style);
        let part = if gap.contains('\n') { part.lines(&indent, &unit, style) } else { part.line(style) };
        let end = doc.span(*value).end;
        return Ok((end..end, format!(",{gap}{key}: {part}")));
    }
    let column = column(doc, doc.span(*first).start);
    Ok(behind(doc, *value, &part.block_entry(key, column, style)))
}

/// A new entry behind all others.
pub(crate) fn append_entry(doc: &Doc, map: Id, key: &str, part: &Part) -> Result<Edit, Refusal> {
    insert_entry(doc, map, doc.entries(map).len().saturating_sub(1), key, part)
}

/// Another scalar, as it is to be written.
pub(crate) fn replace(doc: &Doc, scalar: Id, source: &str) -> Result<Edit, Refusal> {
    writable(doc, scalar)?;
    if doc.resolve(scalar) != scalar {
        return refuse(scalar, "is an alias");
    }
    Ok((doc.span(scalar), source.to_owned()))
}

/// Takes a node out of its list or map; if nothing else is in that, that too, and so on.
pub(crate) fn remove(doc: &Doc, id: Id) -> Result<Edit, Refusal> {
    let Some(parent) = doc.parent(id) else { return refuse(id, "is all that there is") };
    writable(doc, parent)?;
    let is_list = doc.is_list(parent);
    let spans: Vec<Range<usize>> = if is_list {
        doc.items(parent).into_iter().map(|item| doc.span(item)).collect()
    } else {
        doc.entries(parent).iter().map(|(key, value)| doc.span(*key).start..doc.span(*value).end).collect()
    };
    if spans.len() == 1 && doc.parent(parent).is_some() {
        return remove(doc, parent);
    }
    let own = doc.span(id);
    let Some(at) = spans.iter().position(|span| span.start <= own.start && own.end <= span.end) else {
        return refuse(id, "is not where it was");
    };
    let Some(span) = spans.get(at).cloned() else { return refuse(id, "is not where it was") };
    if doc.is_flow(parent) {
        if let Some(before) = at.checked_sub(1).and_then(|at| spans.get(at)) {
            return Ok((before.end..span.end, String::new()));
        }
        return Ok(match spans.get(at + 1) {
            Some(next) => (span.start..next.start, String::new()),
            None => (span, String::new()),
        });
    }
    let start = line_start(doc, span.start);
    let before = doc.text().get(start..span.start).unwrap_or_default();
    let alone = if is_list { dash(doc, id).is_some() } else { before.trim_matches(' ').is_empty() };
    if !alone {
        return refuse(id, "shares its line with something else: take it out by hand");
    }
    let end = line_end(doc, span.end.max(start));
    let ends = doc.text().get(..end).is_some_and(|text| text.ends_with('\n'));
    if ends || start == 0 {
        return Ok((start..end, String::new()));
    }
    // The last line of the text has no end.
    let text = doc.text().get(..start).unwrap_or_default();
    let kept = text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text).len();
    Ok((kept..end, String::new()))
}
