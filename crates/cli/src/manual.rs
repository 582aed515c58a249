//! The manual page, and the scripts by which shells complete the command's words.

use std::io;

use clap_complete::Shell;
use clap_mangen::roff::{bold, roman, Roff};
use clap_mangen::Man;

use crate::arguments;
use crate::texts::{ENVIRONMENT, EXAMPLES, EXIT_CODES, NOTES, TUNNEL};

/// The script by which a shell completes the words of the command.
pub(crate) fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut arguments::definition(), "durpina", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page, in roff.
///
/// clap_mangen makes a page of the options of one command, and expects a page of its own for each command below it. This is
/// one page, so that there is one file to install and nothing to miss in it: it is put together from clap_mangen's parts.
pub(crate) fn page() -> String {
    let man = Man::new(arguments::definition());
    let mut page = Roff::new().render();
    page += &part(|to| man.render_title(to));
    page += &part(|to| man.render_name_section(to));
    page += &part(|to| man.render_synopsis_section(to));
    page += &part(|to| man.render_description_section(to));
    page += &heading("COMMANDS");
    page += &text("Those that call the management API take the API options below, too.");
    for command in arguments::bare_definition().get_subcommands() {
        page += &section_of(command);
    }
    page += &part(|to| man.render_options_section(to));
    page += &(heading("ENVIRONMENT") + &list(&ENVIRONMENT));
    page += &(heading("EXIT STATUS") + &list(&EXIT_CODES));
    page += &(heading("EXAMPLES") + &verbatim(EXAMPLES));
    page + &heading("NOTES") + &text(NOTES) + &verbatim(TUNNEL)
}

/// What the page says of one command: how to call it, what it does, its own arguments and options, examples.
fn section_of(command: &clap::Command) -> String {
    let called = format!("durpina {}", command.get_name());
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let man = Man::new(command.clone().bin_name(&called).disable_help_flag(true));
    let mut section = part(|to| Roff::new().control("SS", [called.as_str()]).to_writer(to));
    for part in [
        part(|to| man.render_synopsis_section(to)),
        part(|to| man.render_description_section(to)),
        part(|to| man.render_options_section(to)),
    ] {
        // The headings of a page are of no use within one.
        for line in part.lines().filter(|line| !line.starts_with(".SH ")) {
            section += line;
            section.push('\n');
        }
        section += ".PP\n";
    }
    section + &verbatim(&examples)
}

fn heading(title: &str) -> String {
    part(|to| Roff::new().control("SH", [title]).to_writer(to))
}

fn text(paragraph: &str) -> String {
    part(|to| Roff::new().text([roman(paragraph)]).to_writer(to))
}

fn list(entries: &[(&str, &str)]) -> String {
    let mut roff = Roff::new();
    for (term, meaning) in entries {
        roff.control("TP", []).text([bold(*term)]).text([roman(*meaning)]);
    }
    part(|to| roff.to_writer(to))
}

/// Lines that stay as they are.
fn verbatim(lines: &str) -> String {
    let mut roff = Roff::new();
    roff.control("PP", []).control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    part(|to| roff.to_writer(to))
}

/// One part of the page, without the preamble that each part brings along.
fn part(render: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
    let mut part = Vec::new();
    // Writing to memory cannot fail.
    drop(render(&mut part));
    let part = String::from_utf8_lossy(&part);
    part.strip_prefix(&Roff::new().render()).unwrap_or(&part).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_shell_has_a_script_with_every_command_and_option() {
        for shell in Shell::value_variants() {
            let script = completions(*shell);
            for command in arguments::definition().get_subcommands() {
                let words = command.get_arguments().filter_map(clap::Arg::get_long).chain([command.get_name()]);
                for word in words {
                    assert!(script.contains(word), "the script for {shell} lacks {word} of {}", command.get_name());
                }
            }
        }
        // What else they complete is up to clap_complete: docs/command-line.md says it.
        for (shells, values) in [
            ([Shell::Bash, Shell::Zsh].as_slice(), ["permanent_down", "drain", "powershell"].as_slice()),
            (&[Shell::Fish], &["permanent_down"]),
        ] {
            for (shell, value) in shells.iter().flat_map(|shell| values.iter().map(move |value| (shell, value))) {
                assert!(completions(*shell).contains(value), "the script for {shell} lacks the value {value}");
            }
        }
    }

    #[test]
    fn the_page_has_every_command_with_its_options_values_and_examples() {
        let page = page();
        assert!(page.starts_with(".ie "), "{page}");
        assert_eq!(page.matches(".ie ").count(), 1, "the preamble stands at the top only");
        let titles: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let expected = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "COMMANDS",
            "OPTIONS",
            "\"API OPTIONS\"",
            "ENVIRONMENT",
            "\"EXIT STATUS\"",
            "EXAMPLES",
            "NOTES",
        ];
        assert_eq!(titles, expected);

        let mut sections = page.split(".SS ").skip(1);
        for command in arguments::bare_definition().get_subcommands() {
            let name = command.get_name();
            let section = sections.next().unwrap();
            // roff would break a line at a bare hyphen.
            let hyphens = |text: &str| text.replace('-', "\\-");
            let title = format!("\"durpina {name}\"\n\\fBdurpina {}\\fR ", hyphens(name));
            assert!(section.starts_with(&title), "{section}");
            let about = command.get_about().unwrap().to_string();
            assert!(section.contains(&about), "{name} is listed without what it does: {section}");
            assert!(section.contains(".nf\n"), "{name} is listed without an example: {section}");
            for argument in command.get_arguments() {
                let shown = argument.get_long().unwrap_or_else(|| argument.get_value_names().unwrap()[0].as_str());
                assert!(section.contains(shown), "{name} lacks {shown}: {section}");
                // clap says "true" and "false" of an option that takes no value.
                let values =
                    argument.get_possible_values().into_iter().filter(|_| argument.get_action().takes_values());
                for value in values {
                    assert!(
                        section.contains(&format!("\n{}", hyphens(value.get_name()))),
                        "{name} lacks a value of {shown}"
                    );
                }
            }
        }
        assert_eq!(sections.next(), None);
        for entry in ["\\fBDURPINA_TOKEN\\fR", "\\fB\\-\\-timeout\\fR", "\\fB4\\fR", "ssh \\-N \\-L"] {
            assert!(page.contains(entry), "{entry} is not on the page");
        }
    }
}
