//! Text that comes from elsewhere, such as what a server's agent said, on its way to a terminal.

use std::borrow::Cow;

/// Whether a terminal would obey it: control characters, and those that change the order in which a line is read.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text on one line, without characters that a terminal would obey: each becomes `�`, a tab or the end of a line a space.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
            c if is_obeyed(c) => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

/// Each line of the text for itself, with its end.
pub(crate) fn lines(text: &str) -> String {
    text.lines().map(|line| one_line(line) + "\n").collect()
}

/// The same JSON, with escapes for the characters that a terminal would obey. JSON has them in strings only, but for the ends
/// of lines and the tabs between its tokens, which stay.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    let is_escaped = |c: char| is_obeyed(c) && !matches!(c, '\n' | '\r' | '\t');
    if !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if is_escaped(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(one_line("disk\tfull\n\u{1b}[2Jü\u{9b}"), "disk full �[2Jü�");
        assert_eq!(one_line("a\u{2028}b\u{202e}c\u{2066}d\u{200f}"), "a b�c�d�", "lines stay lines, and their order");
    }

    #[test]
    fn json_is_the_same_document() {
        let text = "{\r\n\t\"a\": \"ü\\u001b\"}";
        assert_eq!(json(text), text);
        assert_eq!(json("[\"\u{7f}\u{9b}\u{202e}\"]"), r#"["\u007f\u009b\u202e"]"#);
    }
}
