//! `martlet device import` and `export`: many devices at once as a table.

use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use martlet_api::{devices_of_json, devices_of_table, json_of_device, table_of_devices};
use martlet_control::csv::{self, LineEnd};
use martlet_control::text::printable;
use martlet_control::use_cases::{
    AddDevices, FindTeamId, ReadExportNames, TryDevices, UseCaseError,
};
use martlet_registry::{AddedDevice, Import, NewDevice, RowOutcome};

use super::list::{ListOptions, listed};
use crate::cmd::errors::{error_text, in_commands};
use crate::cmd::listing;
use crate::cmd::node_and_form::NodeAndForm;
use crate::cmd::node_options::TeamOption;
use crate::cmd::print::{err, errln, out, write_data, write_err};
use crate::cmd::tables::{self, OpenTables};

#[derive(Args, Debug)]
pub(super) struct ImportOptions {
    /// CSV, or JSON: a list of devices, as export --json prints it; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Add nothing; show the result for each row
    #[arg(long)]
    dry_run: bool,
    /// Add no row if one of them cannot be added
    #[arg(long, conflicts_with = "dry_run")]
    all_or_none: bool,
    #[command(flatten)]
    of: TeamOption,
    #[command(flatten)]
    on: NodeAndForm,
}

pub(super) fn export(options: &ListOptions) -> anyhow::Result<String> {
    let names = tables::run(&options.on.node, ReadExportNames)?;
    let all = listed(options)?.into_iter();
    let all: Vec<_> = all.map(|device| names.named(device)).collect();
    if options.on.json {
        let all: Vec<_> = all.into_iter().map(json_of_device).collect();
        return Ok(format!("{}\n", serde_json::Value::Array(all)));
    }
    // It is imported again as it is.
    write_data(table_of_devices(&all, LineEnd::Lf).as_bytes());
    Ok(String::new())
}

/// Exit code of an import with refused rows.
const SOME_REFUSED: u8 = 3;
/// Longest table, in bytes: more than a million devices.
const BYTES_MAX: u64 = 256 << 20;
/// Number of rows between reports of progress.
const STEP: usize = 500;

pub(super) fn import(options: &ImportOptions) -> ExitCode {
    match try_import(options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(SOME_REFUSED),
        Err(error) => {
            let error = error_text(&error);
            errln!("martlet: {}", printable(&error));
            ExitCode::FAILURE
        }
    }
}

/// Returns the number of refused rows.
fn try_import(options: &ImportOptions) -> anyhow::Result<usize> {
    let text = match options.file.as_os_str() == "-" {
        true => read(io::stdin().lock()),
        // A pipe too, as a shell makes one of <(…).
        false => File::open(&options.file).and_then(read),
    };
    let text = text.with_context(|| format!("cannot read {}", options.file.display()))?;
    let is_json = is_json(&options.file, &text);
    let (rows, row) = match is_json {
        true => (devices_of_json(&text), "device"),
        false => (devices_of_table(&text), "line"),
    };
    let rows = rows.map_err(anyhow::Error::msg)?;
    let (mut named, mut devices, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for (line, id, read) in rows {
        match read {
            Ok(device) => {
                named.push((line, id));
                devices.push(device);
            }
            Err(why) => refused.push((line, id, why)),
        }
    }
    let is_whole = options.all_or_none;
    let total = devices.len();
    let outcomes = match is_whole && !refused.is_empty() {
        true => vec![RowOutcome::NotDone; total],
        false => tables::with(&options.on.node, async |open| {
            add_devices(open, devices, options).await
        })?,
    };
    let mut added = Vec::new();
    let mut missed = 0;
    for ((line, id), outcome) in named.into_iter().zip(outcomes) {
        match outcome {
            RowOutcome::Added(device) => added.push(device),
            RowOutcome::Exists(why) => refused.push((line, id, in_commands(&why))),
            RowOutcome::Refused(why) => refused.push((line, id, in_commands(&why))),
            RowOutcome::Conflict(why) => refused.push((line, id, in_commands(&why))),
            RowOutcome::NotDone => missed += 1,
        }
    }
    refused.sort();
    for (line, id, why) in &refused {
        errln!("{row} {line}: {}: {}", printable(id), printable(why));
    }
    let done = match options.dry_run {
        true => "would be added",
        false => "added",
    };
    let left_out = match missed {
        0 => String::new(),
        missed => format!(", {missed} left out because of those"),
    };
    errln!(
        "{} {done}, {} refused{left_out}",
        added.len(),
        refused.len()
    );
    if !options.dry_run && !added.is_empty() {
        print_added(&added, options.on.json);
        err!("{}", tables::reload_tables(&options.on.node));
    }
    Ok(refused.len())
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

async fn add_devices(
    open: &mut OpenTables,
    devices: Vec<NewDevice>,
    options: &ImportOptions,
) -> Result<Vec<RowOutcome>, UseCaseError> {
    let team = match options.of.team.clone() {
        Some(team) => Some(open.run(FindTeamId { team }).await?),
        None => None,
    };
    let mut devices = devices;
    for device in &mut devices {
        device.team = device.team.take().or_else(|| team.clone());
    }
    if options.dry_run {
        return open.run(TryDevices { devices }).await;
    }
    if options.all_or_none {
        let import = Import::AllOrNone;
        return open.run(AddDevices { devices, import }).await;
    }
    let (total, is_watched) = (devices.len(), io::stderr().is_terminal());
    let mut outcomes = Vec::with_capacity(total);
    let mut left = devices.into_iter().peekable();
    while left.peek().is_some() {
        let some = AddDevices {
            devices: left.by_ref().take(STEP).collect(),
            import: Import::EachByItself,
        };
        outcomes.extend(open.run(some).await?);
        if is_watched {
            let (done, wide) = (outcomes.len(), 30);
            let full = done * wide / total.max(1);
            let bar = "#".repeat(full);
            write_err(&format!("\r[{bar:<wide$}] {done} of {total} rows"));
        }
    }
    if is_watched && total > 0 {
        err!("\n");
    }
    Ok(outcomes)
}

/// Prints generated secrets, which are shown only once, with the user names that differ from the
/// ids.
fn print_added(added: &[AddedDevice], json: bool) {
    let secret = |device: &AddedDevice| device.secret.as_ref().map(|one| one.text().to_owned());
    if json {
        let all = added.iter().map(|device| {
            serde_json::json!({
                "id": device.id, "user_name": device.user_name, "secret": secret(device),
            })
        });
        out!("{}", listing::items(all));
        return;
    }
    let is_named = added.iter().any(|device| device.user_name != device.id);
    let width = if is_named { 3 } else { 2 };
    let print_line = |fields: [&str; 3]| {
        out!(
            "{}",
            csv::exact_line(fields.into_iter().take(width), LineEnd::Lf)
        );
    };
    print_line(["id", "secret", "user_name"]);
    for device in added {
        let secret = secret(device).unwrap_or_default();
        print_line([&device.id, &secret, &device.user_name]);
    }
}
