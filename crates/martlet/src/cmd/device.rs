//! `martlet device`: devices and their credentials, which are made up and shown once.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use martlet_control::text::printable;
use martlet_registry::{DEVICE_TYPE, Device, Owner, Status};

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
    Add(AddOptions),
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
        Action::Add(options) => add(options),
        Action::Rm(options) => remove(options),
        Action::Ls(options) => list(options),
        Action::Rotate(options) => rotate(options),
        Action::Set(options) => set(options),
        Action::Type { action } => role::run_for(Owner::DeviceType, action),
    })
}

/// A number with a unit, as people write it.
fn duration(text: &str) -> Result<Duration, String> {
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
