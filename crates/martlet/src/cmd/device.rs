//! `martlet device`: devices and their credentials, which are made up and shown once.

use std::io::{IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use martlet_api::{devices_of_table, json_of_device, table_of_devices};
use martlet_control::csv;
use martlet_control::text::printable;
use martlet_registry::{
    Actor, AddedDevice, DEVICE_TYPE, Device, DeviceRef, Import, NewDevice, Owner, Registry,
    RegistryError, RowOutcome, Scope, Status,
};

use crate::cmd::role::{self, NodeAndForm};
use crate::cmd::tables;

/// Arguments of `martlet device`.
#[derive(Args, Debug)]
pub(crate) struct DeviceCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Add a device; its credential is made up and printed, once
    #[command(alias = "create")]
    Add(AddOptions),
    /// Show a device
    Show(NamedOptions),
    /// Add devices from a table: CSV whose first line names the columns, of which id is one
    ///
    /// Prints id and credential of those that were added, once, as CSV. Exit code 3: some rows were
    /// refused; why stands on standard error, a line each.
    Import(ImportOptions),
    /// Print all devices as CSV, which import reads again; no credentials are in it
    Export(NodeAndForm),
    /// Remove a device; its connection ends
    Rm(NamedOptions),
    /// List the devices
    Ls(NodeAndForm),
    /// Give a device another credential, which is printed, once
    Rotate(RotateOptions),
    /// Change whether a device is let in, its name or its type
    Set(SetOptions),
    /// Types of devices: which topics those of a type may use
    Type {
        #[command(subcommand)]
        action: role::Action,
    },
}

#[derive(Args, Debug)]
struct NamedOptions {
    /// Its id: Client Identifier and user name
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    on: NodeAndForm,
}

#[derive(Args, Debug)]
struct AddOptions {
    #[command(flatten)]
    device: NamedOptions,
    /// Its type: one of martlet device type ls
    #[arg(long = "type", value_name = "TYPE", default_value = DEVICE_TYPE)]
    device_type: String,
    /// A name for people [default: the id]
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args, Debug)]
struct RotateOptions {
    #[command(flatten)]
    device: NamedOptions,
    /// For how long the old credential is still good: 30s, 90m, 24h, 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    grace: Duration,
    /// The old credential is good no more, and connections end
    #[arg(long, conflicts_with = "grace")]
    now: bool,
}

#[derive(Args, Debug)]
struct SetOptions {
    #[command(flatten)]
    device: NamedOptions,
    /// Only active devices are let in; connections of others end
    #[arg(long, required_unless_present_any = ["name", "device_type"])]
    status: Option<StatusName>,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// Its type
    #[arg(long = "type", value_name = "TYPE")]
    device_type: Option<String>,
}

#[derive(Args, Debug)]
struct ImportOptions {
    /// The table; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Add nothing; say what would become of each row
    #[arg(long)]
    dry_run: bool,
    /// If one row cannot be added, none is
    #[arg(long, conflicts_with = "dry_run")]
    all_or_none: bool,
    #[command(flatten)]
    on: NodeAndForm,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum StatusName {
    Active,
    Inactive,
    Maintenance,
}

impl StatusName {
    fn status(self) -> Status {
        match self {
            Self::Active => Status::Active,
            Self::Inactive => Status::Inactive,
            Self::Maintenance => Status::Maintenance,
        }
    }
}

/// Runs the command.
pub(crate) fn run(command: &DeviceCommand) -> ExitCode {
    role::finish(match &command.action {
        Action::Import(options) => return import(options),
        Action::Show(options) => show(options),
        Action::Export(options) => export(options),
        Action::Add(options) => add(options),
        Action::Rm(options) => remove(options),
        Action::Ls(options) => list(options),
        Action::Rotate(options) => rotate(options),
        Action::Set(options) => set(options),
        Action::Type { action } => role::run_for(Owner::DeviceType, action),
    })
}

/// A number with a unit, as people write it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || format!("{text:?} is no time, expected such as 30s, 90m, 24h, 7d");
    let unit = text.chars().next_back().ok_or_else(expected)?;
    let secs = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(expected()),
    };
    let number: u64 = text[..text.len() - 1].parse().map_err(|_| expected())?;
    let whole = number.checked_mul(secs).filter(|secs| *secs > 0);
    whole.map(Duration::from_secs).ok_or_else(expected)
}

/// A time as it is given: `24h`.
fn time(time: Duration) -> String {
    let secs = time.as_secs();
    let units = [(86_400, 'd'), (3_600, 'h'), (60, 'm')];
    let fits = |(unit, _): &(u64, char)| secs > *unit && secs.is_multiple_of(*unit);
    let (unit, letter) = units.into_iter().find(fits).unwrap_or((1, 's'));
    format!("{}{letter}", secs / unit)
}

fn add(options: &AddOptions) -> anyhow::Result<String> {
    let NamedOptions { id, on } = &options.device;
    let (name, device_type) = (options.name.as_deref(), &*options.device_type);
    let secret = tables::with(&on.node, async |registry| {
        registry.add_device(id, name, device_type).await
    })?;
    let told = tables::tell_node(&on.node);
    let line = tables::line_to_try(&on.node, id, device_type, secret.text());
    Ok(match on.json {
        true => {
            let answer = serde_json::json!({
                "id": id, "type": device_type, "secret": secret.text(), "try": line,
            });
            format!("{answer}\n")
        }
        false => format!(
            "Added device {id} of the type {device_type}\nIts credential, shown this once: {}\n\
             {told}Try it: {line}\n",
            secret.text()
        ),
    })
}

fn rotate(options: &RotateOptions) -> anyhow::Result<String> {
    let NamedOptions { id, on } = &options.device;
    let grace = match options.now {
        true => Duration::ZERO,
        false => options.grace,
    };
    let (secret, device_type) = tables::with(&on.node, async |registry| {
        let secret = registry.rotate(id, grace).await?;
        Ok((secret, registry.type_of(id).await?))
    })?;
    let told = tables::tell_node(&on.node);
    let line = tables::line_to_try(&on.node, id, &device_type, secret.text());
    let old = match options.now {
        true => "The old one is good no more.".to_owned(),
        false => format!("The old one is good for {} more.", time(grace)),
    };
    Ok(match on.json {
        true => {
            let answer = serde_json::json!({
                "id": id, "secret": secret.text(), "grace_secs": grace.as_secs(), "try": line,
            });
            format!("{answer}\n")
        }
        false => format!(
            "The credential of device {id}, shown this once: {}\n{old}\n{told}Try it: {line}\n",
            secret.text()
        ),
    })
}

fn set(options: &SetOptions) -> anyhow::Result<String> {
    let NamedOptions { id, on } = &options.device;
    let status = options.status.map(StatusName::status);
    let (name, device_type) = (options.name.as_deref(), options.device_type.as_deref());
    tables::with(&on.node, async |registry| {
        registry.set_device(id, status, name, device_type).await
    })?;
    let told = tables::tell_node(&on.node);
    Ok(match on.json {
        true => format!("{}\n", serde_json::json!({ "changed": id })),
        false => format!("Changed device {id}\n{told}"),
    })
}

fn remove(options: &NamedOptions) -> anyhow::Result<String> {
    let NamedOptions { id, on } = options;
    tables::with(&on.node, async |registry| registry.remove_device(id).await)?;
    let told = tables::tell_node(&on.node);
    Ok(match on.json {
        true => format!("{}\n", serde_json::json!({ "removed": id })),
        false => format!("Deleted device {id}\n{told}"),
    })
}

fn show(options: &NamedOptions) -> anyhow::Result<String> {
    let NamedOptions { id, on } = options;
    let device = tables::read(&on.node, async |registry| {
        registry.device(&Scope::All, DeviceRef::Id(id)).await
    })?;
    let view = json_of_device(device);
    if on.json {
        return Ok(format!("{view}\n"));
    }
    let fields = view.as_object().into_iter().flatten();
    let line = |(name, value): (&String, &serde_json::Value)| {
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => String::new(),
            serde_json::Value::Array(all) => {
                let all = all.iter().filter_map(serde_json::Value::as_str);
                all.collect::<Vec<_>>().join(", ")
            }
            other => other.to_string(),
        };
        let line = format!("{:<18} {text}", name.replace('_', " "));
        format!("{}\n", printable(line.trim_end()))
    };
    Ok(fields.map(line).collect())
}

fn export(options: &NodeAndForm) -> anyhow::Result<String> {
    let all = tables::read(&options.node, async |registry| registry.devices().await)?;
    if options.json {
        let all: Vec<_> = all.into_iter().map(json_of_device).collect();
        return Ok(format!("{}\n", serde_json::Value::Array(all)));
    }
    Ok(table_of_devices(all))
}

/// Exit code of an import of which some rows were refused.
const SOME_REFUSED: u8 = 3;
/// Rows after which it is said how far it is.
const STEP: usize = 500;

fn import(options: &ImportOptions) -> ExitCode {
    match try_import(options) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(SOME_REFUSED),
        Err(error) => {
            eprintln!("martlet: {}", printable(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// Answers how many were refused.
fn try_import(options: &ImportOptions) -> anyhow::Result<usize> {
    let text = match options.file.as_os_str() == "-" {
        true => {
            let mut text = Vec::new();
            std::io::stdin().lock().read_to_end(&mut text).map(|_| text)
        }
        false => std::fs::read(&options.file),
    };
    let text = text.with_context(|| format!("cannot read {}", options.file.display()))?;
    let rows = devices_of_table(&text).map_err(anyhow::Error::msg)?;
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
        false => tables::with(&options.on.node, async |registry| {
            add_devices(registry, devices, options).await
        })?,
    };
    let mut added = Vec::new();
    let mut missed = 0;
    for ((line, id), outcome) in named.into_iter().zip(outcomes) {
        match outcome {
            RowOutcome::Added(device) => added.push(device),
            RowOutcome::Exists(why) | RowOutcome::Refused(why) | RowOutcome::LimitReached(why) => {
                refused.push((line, id, why));
            }
            RowOutcome::NotDone => missed += 1,
        }
    }
    refused.sort();
    for (line, id, why) in &refused {
        eprintln!("line {line}: {}: {}", printable(id), printable(why));
    }
    let done = match options.dry_run {
        true => "would be added",
        false => "added",
    };
    eprintln!(
        "{} {done}, {} refused, {missed} not done",
        added.len(),
        refused.len()
    );
    if !options.dry_run && !added.is_empty() {
        print_added(&added, options.on.json);
        eprint!("{}", tables::tell_node(&options.on.node));
    }
    Ok(refused.len())
}

async fn add_devices(
    registry: &mut Registry,
    devices: Vec<NewDevice>,
    options: &ImportOptions,
) -> Result<Vec<RowOutcome>, RegistryError> {
    let actor = Actor::local();
    if options.dry_run {
        return registry.try_devices(&actor, devices).await;
    }
    if options.all_or_none {
        return registry
            .add_devices(&actor, devices, Import::AllOrNone)
            .await;
    }
    let (total, is_watched) = (devices.len(), std::io::stderr().is_terminal());
    let mut outcomes = Vec::with_capacity(total);
    let mut left = devices.into_iter().peekable();
    while left.peek().is_some() {
        let some = left.by_ref().take(STEP).collect();
        outcomes.extend(
            registry
                .add_devices(&actor, some, Import::EachByItself)
                .await?,
        );
        if is_watched {
            let (done, wide) = (outcomes.len(), 30);
            let full = done * wide / total.max(1);
            eprint!("\r[{:<wide$}] {done} of {total} rows", "#".repeat(full));
        }
    }
    if is_watched && total > 0 {
        eprintln!();
    }
    Ok(outcomes)
}

/// What was made up is shown here, and never again.
fn print_added(added: &[AddedDevice], json: bool) {
    let secret = |device: &AddedDevice| device.secret.as_ref().map(|one| one.text().to_owned());
    if json {
        let all = added
            .iter()
            .map(|device| serde_json::json!({ "id": device.id, "secret": secret(device) }));
        println!("{}", serde_json::Value::Array(all.collect()));
        return;
    }
    print!("{}", csv::exact_line(["id", "secret"]));
    for device in added {
        let secret = secret(device).unwrap_or_default();
        print!("{}", csv::exact_line([device.id.as_str(), &secret]));
    }
}

fn list(options: &NodeAndForm) -> anyhow::Result<String> {
    let all = tables::read(&options.node, async |registry| registry.devices().await)?;
    if options.json {
        let all = all.iter().map(|device| {
            serde_json::json!({
                "id": device.id, "name": device.name, "type": device.device_type,
                "status": device.status.word(), "credentials": device.credentials,
                "created_ms": device.created_ms,
            })
        });
        let all: Vec<_> = all.collect();
        return Ok(format!("{}\n", serde_json::json!({ "devices": all })));
    }
    let line = |device: &Device| {
        let name = match device.name == device.id {
            true => "",
            false => &device.name,
        };
        let line = format!(
            "{:<24} {:<12} {:<16} {} credentials {name}",
            device.id,
            device.status.word(),
            device.device_type,
            device.credentials
        );
        format!("{}\n", printable(line.trim_end()))
    };
    Ok(all.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_with_a_unit() {
        assert_eq!(duration("90m"), Ok(Duration::from_secs(5_400)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for text in ["1s", "90m", "24h", "7d", "61s"] {
            assert_eq!(duration(text).map(time), Ok(text.to_owned()));
        }
        for text in ["", "7", "d", "-1h", "0s", "1é", "99999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
