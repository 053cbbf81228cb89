//! `martlet firmware`: versions of firmware for devices.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use martlet_control::text::printable;
use martlet_text_file::owned;
use serde_json::{Value, json};

use crate::cmd::admin::{AdminOptions, ask, ask_with, download, finish_as, upload};
use crate::cmd::columns::columns;
use crate::cmd::print::piped;
use crate::cmd::query::{encoded, with_query};

/// Arguments of `martlet firmware`.
#[derive(Args, Debug)]
pub(crate) struct FirmwareCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Add a version of firmware: a file, or the URL of one
    Add(AddOptions),
    /// List versions of firmware
    #[command(alias = "list")]
    Ls(ListOptions),
    /// Show a version of firmware
    Show(FirmwareName),
    /// Delete a version of firmware, with its file
    Rm(FirmwareName),
    /// Download the file of a version
    Get(GetOptions),
}

#[derive(Args, Debug)]
struct AddOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Name of the firmware: letters, digits and . _ - +
    #[arg(value_name = "NAME")]
    name: String,
    /// Version of the firmware, as devices report it
    #[arg(value_name = "VERSION")]
    version: String,
    /// The file
    #[arg(value_name = "FILE", required_unless_present = "url")]
    file: Option<PathBuf>,
    /// Type of the devices for which it is made
    #[arg(long = "type", value_name = "TYPE", default_value = "device")]
    device_type: String,
    /// SHA-256 of the file, in hexadecimal
    #[arg(long, value_name = "HEX")]
    sha256: Option<String>,
    /// Signature in Base64; see firmware.public_keys
    #[arg(long, value_name = "BASE64")]
    signature: Option<String>,
    /// URL from which devices download the file, instead of a file on the node
    #[arg(long, value_name = "URL", conflicts_with = "file", requires_all = ["sha256", "size"])]
    url: Option<String>,
    /// Size of the file at the URL, bytes
    #[arg(long, value_name = "BYTES", requires = "url")]
    size: Option<u64>,
    /// Add it to this team, by id or name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
}

#[derive(Args, Debug)]
struct ListOptions {
    #[command(flatten)]
    admin: AdminOptions,
    /// Only versions of this firmware
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Only firmware for devices of this type
    #[arg(long = "type", value_name = "TYPE")]
    device_type: Option<String>,
    /// Only firmware of this team, by id or name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// List the first N, at most 1000
    #[arg(long, value_name = "N", default_value_t = 1000,
        value_parser = clap::value_parser!(u16).range(1..=1_000))]
    limit: u16,
}

#[derive(Args, Debug)]
struct FirmwareName {
    #[command(flatten)]
    admin: AdminOptions,
    /// Name of the firmware
    #[arg(value_name = "NAME")]
    name: String,
    /// Version of the firmware
    #[arg(value_name = "VERSION")]
    version: String,
    /// Team of the firmware, by id or name; required if several teams have this version
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
}

#[derive(Args, Debug)]
struct GetOptions {
    #[command(flatten)]
    named: FirmwareName,
    /// Output file [default: standard output]
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(command: &FirmwareCommand) -> ExitCode {
    match &command.action {
        Action::Add(options) => finish_as(options.admin.json, add(options)),
        Action::Ls(options) => finish_as(options.admin.json, list(options)),
        Action::Show(named) => finish_as(named.admin.json, show(named)),
        Action::Rm(named) => finish_as(named.admin.json, remove(named)),
        Action::Get(options) => finish_as(options.named.admin.json, get(options)),
    }
}

impl FirmwareName {
    fn path(&self, behind: &str) -> String {
        let (name, version) = (encoded(&self.name), encoded(&self.version));
        let path = format!("/api/v1/firmware/{name}/{version}{behind}");
        with_query(&path, &[("team", self.team.as_deref())])
    }
}

fn add(options: &AddOptions) -> anyhow::Result<String> {
    let data_dir = options.admin.node.data_dir()?;
    let team = ("team", options.team.as_deref());
    let body = match (&options.file, &options.url) {
        (Some(file), _) => {
            let target = with_query(
                "/api/v1/firmware",
                &[
                    ("name", Some(&options.name)),
                    ("version", Some(&options.version)),
                    ("device_type", Some(&options.device_type)),
                    ("sha256", options.sha256.as_deref()),
                    ("signature", options.signature.as_deref()),
                    team,
                ],
            );
            upload(&data_dir, &target, file)?
        }
        (None, url) => {
            let target = with_query("/api/v1/firmware", &[team]);
            let reference = json!({
                "name": options.name, "version": options.version,
                "device_type": options.device_type, "url": url, "size": options.size,
                "sha256": options.sha256,
                "signature": options.signature.as_deref().unwrap_or_default(),
            });
            ask_with(
                &data_dir,
                "POST",
                &target,
                &reference.to_string(),
                Default::default(),
            )?
        }
    };
    if options.admin.json {
        return Ok(body);
    }
    let added: Value = serde_json::from_str(&body)?;
    let verified = match added["verified"] == true {
        true => ", signature verified",
        false => "",
    };
    let line = format!(
        "Added the firmware {} {} ({} bytes, SHA-256 {}{verified})",
        options.name,
        options.version,
        added["size"],
        text_of(&added["sha256"]),
    );
    Ok(printable(&line).to_string())
}

/// The text of a member, safe for a terminal.
pub(crate) fn text_of(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => printable(text).to_string(),
        other => printable(&other.to_string()).to_string(),
    }
}

fn list(options: &ListOptions) -> anyhow::Result<String> {
    let limit = options.limit.to_string();
    let target = with_query(
        "/api/v1/firmware",
        &[
            ("limit", Some(&limit)),
            ("name", options.name.as_deref()),
            ("device_type", options.device_type.as_deref()),
            ("team", options.team.as_deref()),
        ],
    );
    let body = ask(&options.admin.node.data_dir()?, "GET", &target)?;
    if options.admin.json {
        return Ok(body);
    }
    let answer: Value = serde_json::from_str(&body)?;
    let none = Vec::new();
    let items = answer["items"].as_array().unwrap_or(&none);
    let row = |one: &Value| {
        let place = match text_of(&one["url"]) {
            url if url.is_empty() => "node".to_owned(),
            url => url,
        };
        [
            text_of(&one["name"]),
            text_of(&one["version"]),
            text_of(&one["device_type"]),
            one["size"].to_string(),
            text_of(&one["sha256"]).chars().take(12).collect(),
            text_of(&one["created_at"]),
            place,
        ]
    };
    let headers = [
        "FIRMWARE", "VERSION", "TYPE", ">BYTES", "SHA-256", "ADDED", "FILE",
    ];
    let mut text = columns(headers, items.iter().map(row), "There is no firmware.");
    if !answer["next"].is_null() {
        text.push_str("There are more: raise --limit, or name the firmware.\n");
    }
    Ok(text)
}

fn show(named: &FirmwareName) -> anyhow::Result<String> {
    let body = ask(&named.admin.node.data_dir()?, "GET", &named.path(""))?;
    if named.admin.json {
        return Ok(body);
    }
    let found: Value = serde_json::from_str(&body)?;
    let mut text = String::new();
    for name in [
        "name",
        "version",
        "device_type",
        "team",
        "size",
        "sha256",
        "signature",
        "verified",
        "url",
        "file",
        "added_by",
        "created_at",
    ] {
        let line = format!("{name:<12} {}", text_of(&found[name]));
        text.push_str(line.trim_end());
        text.push('\n');
    }
    Ok(text)
}

fn remove(named: &FirmwareName) -> anyhow::Result<String> {
    ask(&named.admin.node.data_dir()?, "DELETE", &named.path(""))?;
    Ok(match named.admin.json {
        true => json!({ "removed": named.version, "firmware": named.name }).to_string(),
        false => format!(
            "Deleted the firmware {} {}",
            printable(&named.name),
            printable(&named.version)
        ),
    })
}

fn get(options: &GetOptions) -> anyhow::Result<String> {
    let named = &options.named;
    let (data_dir, path) = (named.admin.node.data_dir()?, named.path("/file"));
    match &options.output {
        Some(file) => {
            let name = file.display();
            let mut options = OpenOptions::new();
            let made = owned::open(file, options.write(true).create(true).truncate(true))
                .with_context(|| format!("cannot write {name}"));
            let mut out = std::io::BufWriter::new(made?);
            download(&data_dir, &path, &mut out)?;
            out.flush()?;
        }
        None => piped(|out| download(&data_dir, &path, out).map(drop))?,
    }
    Ok(String::new())
}
