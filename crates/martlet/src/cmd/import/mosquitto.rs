//! `martlet import mosquitto FILE`: converts Mosquitto's configuration to ours, and reports the
//! result for each line.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use martlet_control::text::{printable, typed};
use martlet_registry::USER_ROLE;
use martlet_text_file::owned;

use crate::cmd::errors::error_text;
use crate::cmd::listing;
use crate::cmd::node_options::NodeOptions;
use crate::cmd::print::{err, errln, out};
use crate::config::mosquitto::{Outcome, ReportLine};
use martlet_settings::Value;

use crate::config::{self, Effective, SinkTable};
use crate::serve;

#[derive(Args, Debug)]
pub(super) struct MosquittoOptions {
    /// mosquitto.conf
    #[arg(value_name = "FILE", required_unless_present = "password_file")]
    file: Option<PathBuf>,
    /// File to write; an existing file is not changed [default: standard output]
    #[arg(long, value_name = "FILE", conflicts_with = "password_file")]
    out: Option<PathBuf>,
    /// Add the users of this password file to the tables
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    password_file: Option<PathBuf>,
    /// Create roles for these users from the rules of this ACL file
    #[arg(long, value_name = "FILE", requires = "password_file")]
    acl_file: Option<PathBuf>,
    /// Role of these users without --acl-file
    #[arg(long, value_name = "ROLE", requires = "password_file", default_value = USER_ROLE)]
    role: String,
    /// Show which users would be added, and add none
    #[arg(long, requires = "password_file")]
    dry_run: bool,
    #[command(flatten)]
    pub(super) node: NodeOptions,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl MosquittoOptions {
    pub(super) fn password_file(&self) -> Option<&Path> {
        self.password_file.as_deref()
    }

    pub(super) fn acl_file(&self) -> Option<&Path> {
        self.acl_file.as_deref()
    }

    pub(super) fn role(&self) -> &str {
        &self.role
    }

    pub(super) fn dry_run(&self) -> bool {
        self.dry_run
    }
}

/// Exit code if the file is written but no node can start with it.
const DOES_NOT_START: u8 = 3;

/// Runs the command.
pub(super) fn run(options: &MosquittoOptions) -> ExitCode {
    match import(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(DOES_NOT_START),
        Err(error) => {
            errln!("martlet: {}", printable(&error_text(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Converts the file. Returns whether a node can start with the result.
fn import(options: &MosquittoOptions) -> anyhow::Result<bool> {
    let file = options.file.as_deref().context("no file is named")?;
    let config::Imported {
        effective,
        mut report,
        error,
    } = config::import_mosquitto(file)?;
    // The users in its tables decide whether a listener admits any client.
    let data_dir = config::data_dir(&effective).map_or_else(
        |_| "no data directory".to_owned(),
        |directory| directory.display().to_string(),
    );
    refer_to_secrets(&mut report, &effective);
    if let Some(error) = error {
        match options.json {
            true => err!("{}", json(&report)),
            false => err!("{}", text(&report, &data_dir)),
        }
        return Err(error.into());
    }
    let problems = problems(&effective);
    let starts = problems.is_empty();
    report.extend(problems.into_iter().map(|problem| ReportLine {
        place: file.display().to_string(),
        text: "all of it".to_owned(),
        outcome: Outcome::DoesNotStart,
        note: format!("{problem} (users and devices: those of {data_dir})"),
    }));
    let toml = toml_of(&effective, &file.display().to_string());
    let shown = match options.json {
        true => json(&report),
        false => text(&report, &data_dir),
    };
    match &options.out {
        Some(path) => {
            owned::check(path)?;
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path)
                .map_err(|error| match error.kind() {
                    ErrorKind::AlreadyExists => anyhow::anyhow!(
                        "{} already exists and is not overwritten: name another with --out, or \
                         remove it",
                        path.display()
                    ),
                    _ => {
                        anyhow::Error::new(error).context(format!("cannot make {}", path.display()))
                    }
                })?;
            file.write_all(toml.as_bytes())?;
            out!("{shown}");
            errln!(
                "written: {0}\nnext: martlet config check -c {0}",
                path.display()
            );
        }
        None => {
            out!("{toml}");
            err!("{shown}");
        }
    }
    Ok(starts)
}

/// Everything that prevents a node from starting with this configuration: missing files, and faults
/// of each listener.
fn problems(effective: &Effective) -> Vec<String> {
    let first = match config::resolve(effective) {
        Ok(node) => {
            let log = serve::check_log_file(&node.log).err();
            return log.iter().map(|error| format!("{error:#}")).collect();
        }
        Err(first) => first,
    };
    let unreadable = config::unreadable_files(effective);
    let mut all: Vec<String> = unreadable.iter().map(ToString::to_string).collect();
    let alone = effective.listeners.iter().filter_map(|table| {
        let mut alone = effective.clone();
        alone.listeners = vec![table.clone()];
        config::resolve(&alone).err()
    });
    let problems: Vec<String> = [first]
        .into_iter()
        .chain(alone)
        .map(|error| error.to_string())
        .collect();
    for problem in problems {
        // Missing files are already reported.
        let is_of_file = unreadable.iter().any(|file| problem.contains(&file.what));
        if !is_of_file && !all.contains(&problem) {
            all.push(problem);
        }
    }
    all
}

/// The reference that replaces the password of a bridge in our file.
fn reference(bridge: &str) -> String {
    format!("\"${{secret:bridge-{bridge}}}\"")
}

/// The command that sets this password as a secret.
fn secret_command(effective: &Effective, bridge: &str) -> String {
    let name = typed(&format!("bridge-{bridge}"));
    match config::data_dir(effective) {
        Ok(directory) => {
            let options = config::command_options(Some(&directory), None);
            format!("martlet secret set {name} {options}")
        }
        Err(_) => format!("martlet secret set {name}"),
    }
}

/// Replaces the lines with passwords in the report by references, with the command that remains to
/// be run.
fn refer_to_secrets(report: &mut [ReportLine], effective: &Effective) {
    for table in &effective.sinks {
        let name = name_of(table);
        for (key, sourced) in &table.keys {
            let of_line = |line: &&mut ReportLine| line.place == sourced.source;
            if let (Value::Secret(_), Some(line)) =
                (&sourced.value, report.iter_mut().find(of_line))
            {
                line.note = format!(
                    "{key} = {}; then: {}",
                    reference(name),
                    secret_command(effective, name)
                );
            }
        }
    }
}

fn name_of(table: &SinkTable) -> &str {
    let name = table.keys.get("name");
    let name = name.and_then(|name| name.value.as_text());
    name.unwrap_or_default()
}

/// Values that differ from the defaults, in our file format.
fn toml_of(effective: &Effective, from: &str) -> String {
    let mut text = format!("# Made of {from} by martlet import mosquitto.\n");
    let mut section = "";
    let set = effective.values().iter();
    for (key, sourced) in set.filter(|(_, sourced)| sourced.source != "default") {
        let (name, rest) = key.split_once('.').unwrap_or(("", key));
        if name != section {
            text.push_str(&format!("\n[{name}]\n"));
            section = name;
        }
        let line = format!("{rest} = {}", sourced.value);
        text.push_str(&format!("{line:<48} # {}\n", sourced.source));
    }
    for table in &effective.listeners {
        text.push_str("\n[[listeners]]\n");
        for (key, sourced) in table.values() {
            let line = format!("{key} = {}", sourced.value);
            text.push_str(&format!("{line:<48} # {}\n", sourced.source));
        }
    }
    for table in &effective.sinks {
        text.push_str(&format!("\n[[{}]]\n", table.section()));
        let name = name_of(table);
        for (key, sourced) in &table.keys {
            let (value, source) = match &sourced.value {
                // Secrets are stored separately.
                Value::Secret(_) => {
                    let note = format!("{}; {}", sourced.source, secret_command(effective, name));
                    (reference(name), note)
                }
                value => (value.to_string(), sourced.source.clone()),
            };
            let line = format!("{key} = {value}");
            text.push_str(&format!("{line:<48} # {source}\n"));
        }
    }
    text
}

fn text(report: &[ReportLine], data_dir: &str) -> String {
    let mut text = String::new();
    for line in report {
        let ReportLine {
            place,
            text: words,
            outcome,
            note,
        } = line;
        text.push_str(&format!(
            "{:<14} {}: {}\n{:15}{}\n",
            outcome.word(),
            printable(place),
            printable(words),
            "",
            printable(note)
        ));
    }
    text.push_str(&format!(
        "users and devices: those of the data directory {data_dir}, as for a node that is started \
         here with this file\n"
    ));
    let count = |outcome| report.iter().filter(|line| line.outcome == outcome).count();
    text.push_str(&format!(
        "{} mapped, {} changed in meaning, {} state a default, {} not needed, {} unsupported{}\n",
        count(Outcome::Mapped),
        count(Outcome::Changed),
        count(Outcome::Default),
        count(Outcome::NotNeeded),
        count(Outcome::Unsupported),
        match count(Outcome::Refused) {
            0 => String::new(),
            refused => format!(", {refused} refused"),
        }
    ));
    text
}

fn json(report: &[ReportLine]) -> String {
    let lines = report.iter().map(|line| {
        serde_json::json!({
            "place": line.place, "line": line.text, "outcome": line.outcome.word(), "note": line.note,
        })
    });
    listing::items(lines)
}
