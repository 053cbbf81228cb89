//! Examples, and a page of the documentation, at the end of the help of each command.

use clap::Command;

/// Table of examples. Its head says how it is written.
const TABLE: &str = include_str!("examples.txt");

/// Number of lines for a command that only has commands below it.
const LINES_OF_GROUP: usize = 3;

/// Examples of one command.
pub(crate) struct Examples {
    /// Words of the command, without the program's name.
    pub(crate) command: &'static str,
    /// Page of the documentation, from the root of the repository.
    pub(crate) page: &'static str,
    /// Lines for a shell.
    pub(crate) lines: Vec<&'static str>,
}

/// Reads the table.
pub(crate) fn all() -> Vec<Examples> {
    let entries = TABLE.split("\n[").skip(1).filter_map(|entry| {
        let (head, lines) = entry.split_once('\n')?;
        let (command, page) = head.split_once("] ")?;
        let lines = lines.lines().filter(|line| !line.is_empty()).collect();
        Some(Examples {
            command,
            page,
            lines,
        })
    });
    entries.collect()
}

/// Adds the examples of the table to the help of all commands.
pub(crate) fn add_to(cli: Command) -> Command {
    add_below(cli, "", &all())
}

fn add_below(command: Command, words: &str, table: &[Examples]) -> Command {
    let command = command.mut_subcommands(|below| {
        let words = format!("{words} {}", below.get_name());
        add_below(below, words.trim_start(), table)
    });
    let Some((page, lines)) = examples_of(words, table) else {
        return command;
    };
    let header = *command.get_styles().get_header();
    let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
    command.after_help(format!(
        "{header}Examples:{header:#}\n{lines}\n{header}Documentation:{header:#} {page}"
    ))
}

/// Page and lines of a command: its own, else first lines of the commands below it, then second
/// ones.
fn examples_of<'a>(words: &str, table: &'a [Examples]) -> Option<(&'a str, Vec<&'a str>)> {
    if let Some(own) = table.iter().find(|entry| entry.command == words) {
        return Some((own.page, own.lines.clone()));
    }
    let is_below = |entry: &&Examples| {
        let rest = entry.command.strip_prefix(words);
        rest.is_some_and(|rest| rest.starts_with(' '))
    };
    let below: Vec<_> = table.iter().filter(is_below).collect();
    let lines = |nth| {
        below
            .iter()
            .filter_map(move |entry| entry.lines.get(nth).copied())
    };
    let lines = lines(0).chain(lines(1)).take(LINES_OF_GROUP);
    Some((below.first()?.page, lines.collect()))
}
