//! Parts of a text replaced, and how a text breaks its lines.

use std::borrow::Cow;
use std::ops::Range;

/// The text with parts of it replaced. The parts do not overlap; what goes to one place goes there in the order given.
pub(crate) fn splice(text: &str, mut edits: Vec<(Range<usize>, String)>) -> String {
    edits.sort_by_key(|(range, _)| (range.start, range.end));
    let mut result = String::with_capacity(text.len());
    let mut at = 0;
    for (range, new) in edits {
        result += text.get(at..range.start).unwrap_or_default();
        result += &new;
        at = range.end.max(at);
    }
    result + text.get(at..).unwrap_or_default()
}

/// How a text breaks its lines.
pub(crate) fn line_break(text: &str) -> &'static str {
    if text.contains("\r\n") {
        "\r\n"
    } else {
        "\n"
    }
}

/// The same lines with other ends.
pub(crate) fn with_breaks<'t>(text: &'t str, line_break: &str) -> Cow<'t, str> {
    if line_break == "\n" {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.replace('\n', line_break))
    }
}
