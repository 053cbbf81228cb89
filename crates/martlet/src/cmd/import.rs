//! `martlet import mosquitto`: our configuration from Mosquitto's, and what becomes of each line.

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cmd::listing;
use crate::cmd::print::{err, errln, in_words_of_commands, out};
use crate::config::mosquitto::{Outcome, ReportLine};
use crate::config::{self, Effective};
use crate::serve;

/// Arguments of `martlet import`.
#[derive(Args, Debug)]
pub(crate) struct ImportCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Write a configuration file from a mosquitto.conf, and report what each line becomes
    ///
    /// Exit code 0: the file was written, or printed. 1: a line is not understood, or would leave
    /// access open if it were ignored; the error names it, and nothing is written. 3: the file was
    /// written or printed, but no node starts with it here; the end of the report says why.
    Mosquitto(MosquittoOptions),
}

#[derive(Args, Debug)]
struct MosquittoOptions {
    /// mosquitto.conf
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// File to write; an existing file is not changed [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Exit code where the file is written, and no node starts with it.
const DOES_NOT_START: u8 = 3;

/// Runs the command.
pub(crate) fn run(command: &ImportCommand) -> ExitCode {
    let Action::Mosquitto(options) = &command.action;
    match import(options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(DOES_NOT_START),
        Err(error) => {
            errln!("martlet: {}", in_words_of_commands(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Whether a node starts with what it becomes.
fn import(options: &MosquittoOptions) -> anyhow::Result<bool> {
    let config::Imported {
        effective,
        mut report,
        error,
    } = config::import_mosquitto(&options.file)?;
    // Who is in the tables there decides whether a listener lets anybody in.
    let data_dir = config::data_dir(&effective).map_or_else(
        |_| "no data directory".to_owned(),
        |directory| directory.display().to_string(),
    );
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
        place: options.file.display().to_string(),
        text: "all of it".to_owned(),
        outcome: Outcome::DoesNotStart,
        note: format!("{problem} (users and devices: those of {data_dir})"),
    }));
    let toml = toml_of(&effective, &options.file.display().to_string());
    let told = match options.json {
        true => json(&report),
        false => text(&report, &data_dir),
    };
    match &options.out {
        Some(path) => {
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .open(path)
                .map_err(|error| match error.kind() {
                    ErrorKind::AlreadyExists => anyhow::anyhow!(
                        "{} is there already and is not written over: name another with --out, or \
                         remove it",
                        path.display()
                    ),
                    _ => {
                        anyhow::Error::new(error).context(format!("cannot make {}", path.display()))
                    }
                })?;
            file.write_all(toml.as_bytes())?;
            out!("{told}");
            errln!(
                "written: {0}\nnext: martlet config check -c {0}",
                path.display()
            );
        }
        None => {
            out!("{toml}");
            err!("{told}");
        }
    }
    Ok(starts)
}

/// Everything that keeps a node from starting with this: files that are missing, and what is wrong
/// with each listener.
fn problems(effective: &Effective) -> Vec<String> {
    let first = match config::resolve(effective) {
        Ok(node) => {
            let log = serve::check_log_file(&node).err();
            return log.iter().map(|error| format!("{error:#}")).collect();
        }
        Err(first) => first,
    };
    let mut all = config::unreadable_files(effective);
    let alone = effective.listeners.iter().filter_map(|table| {
        let alone = Effective {
            listeners: vec![table.clone()],
            ..effective.clone()
        };
        config::resolve(&alone).err()
    });
    let told: Vec<String> = [first]
        .into_iter()
        .chain(alone)
        .map(|error| error.to_string())
        .collect();
    for problem in told {
        // A file that is missing is named already.
        if !all.iter().any(|known| {
            problem.contains(known.trim_start_matches("cannot read ")) || *known == problem
        }) {
            all.push(problem);
        }
    }
    all
}

/// What differs from the defaults, as our file says it.
fn toml_of(effective: &Effective, from: &str) -> String {
    let mut text = format!("# Made of {from} by martlet import mosquitto.\n");
    let mut section = "";
    let set = effective.values.iter();
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
        for (key, sourced) in table {
            let line = format!("{key} = {}", sourced.value);
            text.push_str(&format!("{line:<48} # {}\n", sourced.source));
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
            "{:<14} {place}: {words}\n{:15}{note}\n",
            outcome.word(),
            ""
        ));
    }
    text.push_str(&format!(
        "users and devices: those of the data directory {data_dir} count, as for a node that is \
         started here with this file\n"
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
