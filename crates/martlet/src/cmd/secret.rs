//! `martlet secret`: secrets of other systems in a running node. Values are read from standard
//! input or a file, because other users can see command lines. Values are never shown.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use martlet_control::secrets::SECRET_BYTES_MAX;
use martlet_control::text::printable;
use serde_json::{Value, json};

use crate::cmd::admin::{AdminOptions, ask, ask_with, finish_as};
use crate::cmd::columns::columns;
use crate::cmd::node_options::TeamOption;
use crate::cmd::prompt;
use crate::cmd::query::encoded;

/// Additional time limit of a change.
const LONGER: Duration = Duration::from_secs(10);

/// Arguments of `martlet secret`.
#[derive(Args, Debug)]
pub(crate) struct SecretCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// List secrets with their owners and the integrations that use them, without their values
    #[command(alias = "list")]
    Ls(ListOptions),
    /// Set a secret; integrations use the new value at once
    ///
    /// The value is read from standard input or a file, never from the command line. At a terminal
    /// it is entered at a prompt, without echo. A line break at its end is removed.
    Set(SetOptions),
    /// Remove a secret
    Rm(RemoveOptions),
}

#[derive(Args, Debug)]
struct ListOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
}

#[derive(Args, Debug)]
struct SetOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Name: letters, digits, -, _ and .
    name: String,
    /// Read the value from this file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct RemoveOptions {
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    of: TeamOption,
    /// Name of the secret
    name: String,
    /// Remove the secret even if an integration uses it; that integration stops
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) fn run(command: &SecretCommand) -> ExitCode {
    match &command.action {
        Action::Ls(options) => finish_as(options.admin.json, list(options)),
        Action::Set(options) => finish_as(options.admin.json, set(options)),
        Action::Rm(options) => finish_as(options.admin.json, remove(options)),
    }
}

fn list(options: &ListOptions) -> anyhow::Result<String> {
    let target = format!("/api/v1/secrets{}", options.of.query());
    let body = ask(&options.admin.node.data_dir()?, "GET", &target)?;
    if options.admin.json {
        return Ok(body);
    }
    let all: Value = serde_json::from_str(&body).context("reading the answer")?;
    let all = all["items"].as_array().map_or(&[][..], Vec::as_slice);
    let rows = all.iter().map(|one| {
        let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        let users = one["used_by"].as_array().map_or(&[][..], Vec::as_slice);
        let users: Vec<&str> = users.iter().filter_map(Value::as_str).collect();
        [
            text("name"),
            text("team"),
            text("changed_at"),
            text("changed_by"),
            users.join(" "),
        ]
    });
    let headers = ["SECRET", "TEAM", "CHANGED", "BY", "USED-BY"];
    Ok(columns(headers, rows, "There are no secrets."))
}

fn set(options: &SetOptions) -> anyhow::Result<String> {
    let data_dir = options.admin.node.data_dir()?;
    let value = match &options.file {
        Some(file) => value_of(file)?,
        None => prompt::secret(&options.name, SECRET_BYTES_MAX)?,
    };
    let (name, query) = (encoded(&options.name), options.of.query());
    let target = format!("/api/v1/secrets/{name}{query}");
    let body = json!({ "value": value }).to_string();
    ask_with(&data_dir, "PUT", &target, &body, LONGER)?;
    Ok(match options.admin.json {
        true => json!({ "name": options.name }).to_string(),
        false => format!("the secret {} is set", printable(&options.name)),
    })
}

fn value_of(path: &Path) -> anyhow::Result<String> {
    let reading = || format!("reading {}", path.display());
    let file = File::open(path).with_context(reading)?;
    let mut bytes = Vec::new();
    let read = file
        .take(SECRET_BYTES_MAX as u64 + 3)
        .read_to_end(&mut bytes);
    read.with_context(reading)?;
    prompt::secret_text(bytes, SECRET_BYTES_MAX).with_context(reading)
}

fn remove(options: &RemoveOptions) -> anyhow::Result<String> {
    let data_dir = options.admin.node.data_dir()?;
    let mut target = format!(
        "/api/v1/secrets/{}?force={}",
        encoded(&options.name),
        options.force
    );
    if let Some((name, team)) = options.of.filter() {
        target.push_str(&format!("&{name}={}", encoded(team)));
    }
    ask(&data_dir, "DELETE", &target)?;
    Ok(match options.admin.json {
        true => json!({ "name": options.name }).to_string(),
        false => format!("the secret {} is removed", printable(&options.name)),
    })
}
