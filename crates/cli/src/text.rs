//! Text that comes from elsewhere, such as what a server's agent said, on its way to a terminal.

/// The text on one line, without characters that a terminal would obey: each becomes `�`, a line feed or tab a space.
pub(crate) fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\t' => ' ',
            c if c.is_control() => char::REPLACEMENT_CHARACTER,
            c => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(one_line("disk\tfull\n\u{1b}[2Jü\u{9b}"), "disk full �[2Jü�");
    }
}
