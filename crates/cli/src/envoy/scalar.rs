//! Scalars of YAML: how far they go in a text, and what they mean.

use saphyr_parser::ScalarStyle;
use serde_json::Value;

/// How much of it is the scalar: within brackets the parser's end is that of the comments behind it.
pub(super) fn length(text: &str, style: ScalarStyle) -> usize {
    let mut bytes = text.bytes().enumerate().skip(1).peekable();
    match style {
        ScalarStyle::DoubleQuoted => {
            while let Some((at, byte)) = bytes.next() {
                match byte {
                    b'\\' => drop(bytes.next()),
                    b'"' => return at + 1,
                    _ => {}
                }
            }
            text.len()
        }
        ScalarStyle::SingleQuoted => {
            while let Some((at, byte)) = bytes.next() {
                if byte == b'\'' && bytes.next_if(|(_, next)| *next == b'\'').is_none() {
                    return at + 1;
                }
            }
            text.len()
        }
        ScalarStyle::Plain => {
            let comment = [" #", "\t#", "\n#"].iter().filter_map(|start| text.find(start)).min();
            text.get(..comment.unwrap_or(text.len())).unwrap_or_default().trim_end().len()
        }
        ScalarStyle::Literal | ScalarStyle::Folded => text.trim_end().len(),
    }
}

/// What YAML's core schema makes of a word without quotes.
pub(super) fn plain_value(word: &str) -> Value {
    match word {
        "" | "~" | "null" => Value::Null,
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => {
            let is_number = word.starts_with(|c: char| c.is_ascii_digit() || c == '-');
            match serde_json::from_str::<Value>(word) {
                Ok(number @ Value::Number(_)) if is_number => number,
                _ => Value::String(word.to_owned()),
            }
        }
    }
}
