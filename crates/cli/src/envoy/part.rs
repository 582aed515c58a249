//! What is written into a configuration, as values: independent of where it goes, and written as its place is.

use std::fmt::Write;

use serde_json::Value;

use super::yaml::{Doc, Id};

/// A value whose maps keep their order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Part {
    /// A number, `true`, `false`, `null`.
    Word(String),
    Text(String),
    List(Vec<Part>),
    Map(Vec<(String, Part)>),
}

/// How the text around is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    /// Columns from a map to the maps in it.
    pub(crate) step: usize,
    /// Columns from a key to the dashes of its list.
    pub(crate) dash: usize,
    /// Whether quotes are needed everywhere.
    pub(crate) json: bool,
}

/// So long may a map or list be that is written on one line.
const SHORT: usize = 90;

impl Part {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(crate) fn map<const N: usize>(entries: [(&str, Part); N]) -> Self {
        Self::Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    }

    /// What stands in a text, with aliases replaced by what they mean.
    pub(crate) fn of(doc: &Doc, id: Id) -> Self {
        if doc.is_map(id) {
            let entry =
                |(key, value): &(Id, Id)| (doc.scalar(*key).unwrap_or_default().to_owned(), Self::of(doc, *value));
            return Self::Map(doc.entries(id).iter().map(entry).collect());
        }
        if doc.is_list(id) {
            return Self::List(doc.items(id).into_iter().map(|item| Self::of(doc, item)).collect());
        }
        match doc.value(id) {
            Value::String(text) => Self::Text(text),
            // As it is written: 0.10 stays that.
            _ => Self::Word(doc.scalar(id).map_or("null", |word| if word == "~" { "null" } else { word }).to_owned()),
        }
    }

    /// The entries, if it is a map.
    pub(crate) fn entries_mut(&mut self) -> Option<&mut Vec<(String, Part)>> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Part> {
        match self {
            Self::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// Whether a key of this name is anywhere in it.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        match self {
            Self::Map(entries) => entries.iter().any(|(name, value)| name == key || value.has_key(key)),
            Self::List(items) => items.iter().any(|item| item.has_key(key)),
            Self::Word(_) | Self::Text(_) => false,
        }
    }

    /// Gives a map this entry, in the place of the one with this key or behind all others.
    pub(crate) fn set(&mut self, key: &str, value: Part) {
        if let Some(entries) = self.entries_mut() {
            match entries.iter_mut().find(|(name, _)| name == key) {
                Some((_, old)) => *old = value,
                None => entries.push((key.to_owned(), value)),
            }
        }
    }

    /// The value of a key of a map, which is made if it is missing.
    pub(crate) fn entry(&mut self, key: &str) -> Option<&mut Part> {
        let entries = self.entries_mut()?;
        if !entries.iter().any(|(name, _)| name == key) {
            entries.push((key.to_owned(), Self::Map(Vec::new())));
        }
        entries.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The same value as others know it.
    #[cfg(test)]
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Word(word) => serde_json::from_str(word).unwrap(),
            Self::Text(text) => Value::String(text.clone()),
            Self::List(items) => items.iter().map(Self::value).collect(),
            Self::Map(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.clone(), value.value())).collect())
            }
        }
    }

    /// As an item of a list in block style: whole lines, the dash at column `column`, with `note` behind the first line.
    pub(crate) fn item(&self, column: usize, note: Option<&str>, style: Style) -> String {
        let Self::Map(entries) = self else {
            return format!("{:column$}- {}\n", "", self.line(style));
        };
        let lines = Self::Map(entries.clone()).block(column + 2, style);
        let mut item = format!("{:column$}- ", "");
        for (at, line) in lines.split_inclusive('\n').enumerate() {
            item += if at == 0 { line.trim_start_matches(' ') } else { line };
            if let Some(note) = note.filter(|_| at == 0) {
                let _ = writeln!(item, "{:1$}# {note}", "", column + 2);
            }
        }
        item
    }

    /// As an entry of a map in block style: whole lines.
    pub(crate) fn block_entry(&self, key: &str, column: usize, style: Style) -> String {
        let key = quoted(key, style);
        let head = format!("{:column$}{key}:", "");
        match self {
            Self::Text(text) if text.trim_end().contains('\n') && is_printable(text) => {
                // A first line that begins with a space would be taken for the measure of all.
                let chomp = if text.ends_with('\n') { "" } else { "-" };
                let mut lines = format!("{head} |{chomp}\n");
                for line in text.trim_end().lines() {
                    if line.is_empty() {
                        lines.push('\n');
                    } else {
                        let _ = writeln!(lines, "{:1$}{line}", "", column + style.step);
                    }
                }
                lines
            }
            Self::Map(entries) if !entries.is_empty() && !self.is_short() => {
                format!("{head}\n{}", self.block(column + style.step, style))
            }
            Self::List(items) if !items.is_empty() && !self.is_short() => {
                let items = items.iter().map(|item| item.item(column + style.dash, None, style));
                format!("{head}\n{}", items.collect::<String>())
            }
            _ => format!("{head} {}\n", self.line(style)),
        }
    }

    /// The entries of a map in block style: whole lines.
    pub(crate) fn block(&self, column: usize, style: Style) -> String {
        match self {
            Self::Map(entries) if !entries.is_empty() => {
                entries.iter().map(|(key, value)| value.block_entry(key, column, style)).collect()
            }
            _ => format!("{:column$}{}\n", "", self.line(style)),
        }
    }

    /// Whether it is written on one line: short, and not an `@type` with all that belongs to it.
    fn is_short(&self) -> bool {
        let typed = matches!(self, Self::Map(entries) if entries.iter().any(|(key, _)| key == "@type"));
        let lines = self.has_lines();
        !typed && !lines && self.line(Style { step: 2, dash: 0, json: false }).len() <= SHORT
    }

    fn has_lines(&self) -> bool {
        match self {
            Self::Word(_) => false,
            Self::Text(text) => text.contains('\n'),
            Self::List(items) => items.iter().any(Self::has_lines),
            Self::Map(entries) => entries.iter().any(|(_, value)| value.has_lines()),
        }
    }

    /// On one line.
    pub(crate) fn line(&self, style: Style) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Text(text) => quoted(text, style),
            Self::List(items) => {
                format!("[{}]", items.iter().map(|item| item.line(style)).collect::<Vec<_>>().join(", "))
            }
            Self::Map(entries) if entries.is_empty() => "{}".to_owned(),
            Self::Map(entries) => {
                let entry = |(key, value): &(String, Part)| format!("{}: {}", quoted(key, style), value.line(style));
                let entries = entries.iter().map(entry).collect::<Vec<_>>().join(", ");
                if style.json {
                    format!("{{{entries}}}")
                } else {
                    format!("{{ {entries} }}")
                }
            }
        }
    }

    /// With brackets, over several lines where it is long. `indent` is what the line that it begins on begins with.
    pub(crate) fn lines(&self, indent: &str, unit: &str, style: Style) -> String {
        let one = self.line(style);
        let inner = format!("{indent}{unit}");
        let (open, close, parts): (_, _, Vec<String>) = match self {
            Self::List(items) if one.len() > SHORT => {
                ("[", "]", items.iter().map(|item| item.lines(&inner, unit, style)).collect())
            }
            Self::Map(entries) if one.len() > SHORT => {
                let entry = |(key, value): &(String, Part)| {
                    format!("{}: {}", quoted(key, style), value.lines(&inner, unit, style))
                };
                ("{", "}", entries.iter().map(entry).collect())
            }
            _ => return one,
        };
        format!("{open}\n{inner}{}\n{indent}{close}", parts.join(&format!(",\n{inner}")))
    }
}

/// Whether a block scalar can hold it: YAML has no escapes there.
fn is_printable(text: &str) -> bool {
    !text.starts_with([' ', '\n', '\t'])
        && !text.chars().any(|c| c.is_control() && c != '\n')
        && !text.contains(['\u{85}', '\u{2028}', '\u{2029}', '\u{feff}'])
}

/// A text as a scalar: in quotes, unless it can be taken for nothing else and the place does without.
pub(crate) fn quoted(text: &str, style: Style) -> String {
    // 0.25s
    let is_duration = text.strip_suffix('s').is_some_and(|number| {
        number.starts_with(|c: char| c.is_ascii_digit()) && number.chars().all(|c| c.is_ascii_digit() || c == '.')
    });
    let is_plain = is_duration
        || text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c))
            && !matches!(
                text.to_ascii_lowercase().as_str(),
                "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n"
            );
    if is_plain && !style.json {
        return text.to_owned();
    }
    // What JSON has in quotes, YAML reads too; it has further characters that break lines.
    let mut json = Value::String(text.to_owned()).to_string();
    for (c, escape) in [('\u{85}', "\\u0085"), ('\u{2028}', "\\u2028"), ('\u{2029}', "\\u2029"), ('\u{7f}', "\\u007f")]
    {
        json = json.replace(c, escape);
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    const YAML: Style = Style { step: 2, dash: 0, json: false };

    fn part(text: &str) -> Part {
        let doc = Doc::parse(text).unwrap();
        Part::of(&doc, doc.root())
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let text = "a: 1\nb: [x, \"true\", true, null, 0.10, \"1\", 'no', \"a: b\", \"# c\", 1s]\nc:\n- d: {}\n  e: []\n- |\n  l1\n\n   l2\n- \"\\u2028 \\t \\e\"\nlong: [aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, {b: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}]\n";
        let part = part(text);
        for style in [YAML, Style { step: 4, dash: 2, json: false }] {
            let block = part.block(3, style);
            assert_eq!(self::part(&block), part, "{block}");
            let item = Part::List(vec![part.clone(), part.clone()]);
            let text = [part.item(1, Some("note"), style), part.item(1, None, style)].concat();
            assert_eq!(self::part(&text), item, "{text}");
            let lines = part.lines("  ", "\t", style);
            assert_eq!(self::part(&lines), part, "{lines}");
        }
        let json = part.lines("", "  ", Style { json: true, ..YAML });
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), part.value());
    }
}
