//! `martlet device import` and `export`: many devices at once as a table.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use martlet_control::csv::{self, LineEnd};
use martlet_control::text::printable;
use serde_json::{Value, json};

use super::list::Selection;
use super::table_parts::{Part, PartSize, parts_of_json, parts_of_table};
use crate::cmd::admin::{AdminRequest, finish_as};
use crate::cmd::door::Door;
use crate::cmd::errors::row_in_words_of_commands;
use crate::cmd::node_options::{NodeAndForm, TeamOption};
use crate::cmd::print::{err, errln, out, outln, write_data, write_err};
use crate::cmd::query::{DEVICES, query_of, team_path};
use crate::cmd::view::text;

#[derive(Args, Debug)]
pub(super) struct ImportOptions {
    /// CSV, or JSON: a list of devices, as export --json prints it; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Add nothing; show the result for each row
    #[arg(long)]
    dry_run: bool,
    /// Add no row if one of them cannot be added; for at most 10,000 devices
    #[arg(long, conflicts_with = "dry_run")]
    all_or_none: bool,
    #[command(flatten)]
    of: TeamOption,
    #[command(flatten)]
    on: NodeAndForm,
}

pub(super) fn export(options: &Selection) -> anyhow::Result<String> {
    let format = if options.on.json { "json" } else { "csv" };
    let filters = options.filters().chain([("format", format.to_owned())]);
    let path = format!("{DEVICES}/export{}", query_of(filters));
    let exported = Door::of(&options.on.node)?.transfer(&AdminRequest::get(&path))?;
    if options.on.json {
        return Ok(format!("{exported}\n"));
    }
    // As programs of a shell expect it. It is imported again as it is.
    let rows = csv::read(&exported).map_err(anyhow::Error::msg)?;
    let lines = rows.into_iter().map(|(_, fields)| {
        let fields = fields.iter().map(|field| &**field);
        csv::exact_line(fields, LineEnd::Lf)
    });
    write_data(lines.collect::<String>().as_bytes());
    Ok(String::new())
}

/// Exit code of an import with refused rows.
const SOME_REFUSED: u8 = 3;
/// Longest table, in bytes: more than a million devices.
const BYTES_MAX: u64 = 256 << 20;

pub(super) fn import(options: &ImportOptions) -> ExitCode {
    match try_import(options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(SOME_REFUSED),
        Err(error) => finish_as(options.on.json, Err(error)),
    }
}

/// Returns the number of refused rows.
fn try_import(options: &ImportOptions) -> anyhow::Result<u64> {
    let bytes = match options.file.as_os_str() == "-" {
        true => read(io::stdin().lock()),
        // A pipe too, as a shell makes one of <(…).
        false => File::open(&options.file).and_then(read),
    };
    let bytes = bytes.with_context(|| format!("cannot read {}", options.file.display()))?;
    let door = Door::of(&options.on.node)?;
    let team = match &options.of.team {
        Some(team) => Some(text(&door.get(&team_path(team))?, "id")),
        None => None,
    };
    let size = match (options.all_or_none, options.dry_run) {
        (true, _) => PartSize::WHOLE,
        (_, true) => PartSize::OF_REQUEST,
        (false, false) => PartSize::STEP,
    };
    let is_json = is_json(&options.file, &bytes);
    let (kind, parts) = match is_json {
        true => (
            "application/json",
            parts_of_json(&bytes, team.as_deref(), size),
        ),
        false => ("text/csv", parts_of_table(&bytes, team.as_deref(), size)),
    };
    let mut imported = Imported::default();
    let outcome = imported.send(&door, options, kind, &parts?);
    // What was added is shown only once, also if something fails after it.
    imported.print(options, if is_json { "device" } else { "line" });
    if !options.dry_run && imported.added > 0 {
        err!("{}", door.note());
    }
    outcome.map(|()| imported.refused)
}

/// Reads a table up to the limit.
fn read(from: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(BYTES_MAX + 1).read_to_end(&mut text)?;
    match text.len() as u64 > BYTES_MAX {
        true => Err(io::Error::other(format!(
            "it is longer than {} MiB: import it in parts",
            BYTES_MAX >> 20
        ))),
        false => Ok(text),
    }
}

/// Whether a file is JSON, by its name or its first character, which cannot begin a table.
fn is_json(file: &Path, text: &[u8]) -> bool {
    let is_named = file
        .extension()
        .is_some_and(|extension| extension == "json");
    is_named
        || text.trim_ascii_start().starts_with(b"[")
        || text.trim_ascii_start().starts_with(b"{")
}

/// Answers to all requests of an import, as one.
#[derive(Default)]
struct Imported {
    added: u64,
    refused: u64,
    rows: Vec<Value>,
}

impl Imported {
    fn send(
        &mut self,
        door: &Door<'_>,
        options: &ImportOptions,
        kind: &str,
        parts: &[Part],
    ) -> anyhow::Result<()> {
        let how = [
            ("dry_run", options.dry_run),
            ("all_or_none", options.all_or_none),
        ];
        let how = how.map(|(name, is_set)| (name, is_set.to_string()));
        let path = format!("{DEVICES}/import{}", query_of(how));
        let total: usize = parts.iter().map(|part| part.rows.len()).sum();
        let is_watched = io::stderr().is_terminal() && total > 0 && !options.dry_run;
        for part in parts {
            let answer = door.transfer(&AdminRequest {
                method: "POST",
                body: Some(&part.body),
                content_type: kind,
                ..AdminRequest::get(&path)
            });
            let answer = match (answer, &*part.rows) {
                (Err(error), [first, .., last]) if parts.len() > 1 => {
                    return Err(error.context(format!("rows {first} to {last}")));
                }
                (answer, _) => answer?,
            };
            self.add(serde_json::from_str(&answer)?, &part.rows);
            if is_watched {
                let (done, wide) = (self.rows.len(), 30);
                let bar = "#".repeat(done * wide / total);
                write_err(&format!("\r[{bar:<wide$}] {done} of {total} rows"));
            }
        }
        if is_watched {
            err!("\n");
        }
        Ok(())
    }

    /// Adds an answer. The rows of its request are these of the file.
    fn add(&mut self, mut answer: Value, rows: &[usize]) {
        self.added += answer["added"].as_u64().unwrap_or_default();
        self.refused += answer["refused"].as_u64().unwrap_or_default();
        if let Value::Array(answered) = answer["rows"].take() {
            for (at, mut row) in answered.into_iter().enumerate() {
                if let Some(number) = rows.get(at) {
                    row["row"] = (*number).into();
                }
                self.rows.push(row);
            }
        }
    }

    fn outcomes(&self, outcome: &str) -> impl Iterator<Item = &Value> {
        self.rows
            .iter()
            .filter(move |row| row["outcome"] == outcome)
    }

    /// Prints the refused rows, the counts, and the new secrets. `noun` is that of a row.
    fn print(&self, options: &ImportOptions, noun: &str) {
        for row in self.rows.iter().filter(|row| row["why"].is_string()) {
            let (number, id) = (text(row, "row"), text(row, "id"));
            let why = row_in_words_of_commands(row);
            errln!("{noun} {number}: {}: {}", printable(&id), printable(&why));
        }
        let (count, done) = match options.dry_run {
            true => (self.outcomes("would_add").count() as u64, "would be added"),
            false => (self.added, "added"),
        };
        let left_out = match self.outcomes("not_done").count() {
            0 => String::new(),
            missed => format!(", {missed} left out because of those"),
        };
        errln!("{count} {done}, {} refused{left_out}", self.refused);
        if options.on.json {
            let (added, refused, rows) = (self.added, self.refused, &self.rows);
            let dry_run = options.dry_run;
            let all = json!({
                "added": added, "refused": refused, "dry_run": dry_run, "rows": rows,
            });
            outln!("{all}");
        } else if self.added > 0 {
            self.print_secrets();
        }
    }

    /// Prints generated secrets, which are shown only once, with the user names that differ from
    /// the ids.
    fn print_secrets(&self) {
        let is_named = self
            .outcomes("added")
            .any(|row| row["user_name"] != row["id"]);
        let names = ["id", "secret", "user_name"];
        let width = if is_named { 3 } else { 2 };
        let line = |fields: [&str; 3]| {
            out!(
                "{}",
                csv::exact_line(fields.into_iter().take(width), LineEnd::Lf)
            );
        };
        line(names);
        for row in self.outcomes("added") {
            let [id, secret, user_name] = names.map(|name| text(row, name));
            line([&id, &secret, &user_name]);
        }
    }
}
