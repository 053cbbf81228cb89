//! `martlet device`: devices and their credentials, which are generated and shown once.

mod bans;
mod bulk;
mod list;
mod twin;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use martlet_api::json_of_device;
use martlet_control::devices::DeviceName;
use martlet_control::text::{printable, typed};
use martlet_control::use_cases::{
    AddDevice, ChangeDevice, DeleteDevice, FindDevice, FindGroup, FindTeam, GroupName,
    ListTeamNames, PurgeDevice, RestoreDevice, RotateSecret, UseCaseError,
};
use martlet_registry::{
    DEVICE_TYPE, Device, DeviceChange, DeviceSecret, Expected, NewDevice, NotFound, Owner,
    RegistryError, Secret, Status, Visibility,
};

use crate::cmd::admin::finish_as;
use crate::cmd::deleted::DeletedKept;
use crate::cmd::duration::{grace, time};
use crate::cmd::listing;
use crate::cmd::node_and_form::NodeAndForm;
use crate::cmd::node_options::TeamOption;
use crate::cmd::print::err;
use crate::cmd::prompt;
use crate::cmd::role;
use crate::cmd::tables::{self, OpenTables};
use list::{ListOptions, listed};

/// Arguments of `martlet device`.
#[derive(Args, Debug)]
pub(crate) struct DeviceCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Add a device; its credential is generated and printed once
    #[command(alias = "create")]
    Add(AddOptions),
    /// Show a device
    Show(NamedOptions),
    /// Add devices from CSV, whose first line names the columns (id is required), or from JSON
    ///
    /// Columns: id, name, type, kind, status, description, location, firmware_version,
    /// hardware_version, owner, team, tags, groups, secret. An empty id is generated. Several tags
    /// or groups are separated by ;, and \; is a ; within a name. Team and groups are given by name
    /// or id. JSON has members of the same names, with lists of tags and groups; the output of
    /// export --json is accepted.
    ///
    /// Prints id and credential of the devices that were added, once, as CSV. Exit code 3: some
    /// rows were refused; the reasons are printed on standard error, a line each.
    Import(bulk::ImportOptions),
    /// Print all devices as CSV or JSON, which import reads again; without credentials
    ///
    /// Team and groups are given by name, or by id where a name is ambiguous.
    Export(ListOptions),
    /// Delete a device; its connection ends, and it can be restored
    Rm(RemoveOptions),
    /// Restore a deleted device, with its credentials
    Restore(NamedOptions),
    /// List the devices of all teams
    #[command(alias = "list")]
    Ls(ListOptions),
    /// Replace the credential of a device; the new one is printed once
    Rotate(RotateOptions),
    /// Change a device: its status, type, team or description
    Set(SetOptions),
    /// Show or change the desired values of a device, and show its reported values
    Twin(twin::TwinOptions),
    /// Device types: rules about the topics that devices of a type may use
    Type {
        #[command(subcommand)]
        action: role::Action,
    },
}

#[derive(Args, Debug)]
struct NamedOptions {
    /// Id of the device: its Client Identifier and user name
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    of: TeamOption,
    #[command(flatten)]
    on: NodeAndForm,
}

#[derive(Args, Debug)]
struct RemoveOptions {
    #[command(flatten)]
    device: NamedOptions,
    /// Remove it permanently, with everything that belongs to it, whether it was deleted before or
    /// not; asks for confirmation at a terminal
    #[arg(long)]
    purge: bool,
    /// Do not ask for confirmation
    #[arg(long, requires = "purge")]
    yes: bool,
}

#[derive(Args, Debug)]
struct AddOptions {
    /// Id of the device: its Client Identifier and user name [default: 16 random characters]
    #[arg(value_name = "ID")]
    id: Option<String>,
    #[command(flatten)]
    on: NodeAndForm,
    /// Team of the device, by id or name [default: none]
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// Type of the device: one of martlet device type ls
    #[arg(long = "type", value_name = "TYPE", default_value = DEVICE_TYPE)]
    device_type: String,
    /// A name for people [default: the id]
    #[arg(long)]
    name: Option<String>,
    /// Status; only active devices are accepted
    #[arg(long, default_value = "active")]
    status: StatusName,
    #[command(flatten)]
    said: DescriptionOptions,
    /// Tag of the device; repeatable
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Group of the device, by id or name; repeatable
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Create no credential, for example for a device with a certificate
    #[arg(long)]
    no_secret: bool,
}

/// Options that change a device.
const OTHER_CHANGES: [&str; 13] = [
    "name",
    "device_type",
    "kind",
    "to_team",
    "description",
    "location",
    "firmware_version",
    "hardware_version",
    "owner",
    "tags",
    "untags",
    "joins",
    "leaves",
];

/// Options that describe a device.
#[derive(Args, Debug)]
struct DescriptionOptions {
    /// Kind of the device: any text
    #[arg(long, value_name = "KIND")]
    kind: Option<String>,
    /// Description, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Location of the device
    #[arg(long, value_name = "TEXT")]
    location: Option<String>,
    /// Version of its firmware
    #[arg(long, value_name = "TEXT")]
    firmware_version: Option<String>,
    /// Version of its hardware
    #[arg(long, value_name = "TEXT")]
    hardware_version: Option<String>,
    /// User who owns the device; "" is no user
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
}

#[derive(Args, Debug)]
struct RotateOptions {
    #[command(flatten)]
    device: NamedOptions,
    /// Time until the old credential expires: 30s, 90m, 24h, 7d, at most 365d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = grace)]
    grace: Duration,
    /// The old credential expires at once, and connections end
    #[arg(long, conflicts_with = "grace")]
    now: bool,
}

#[derive(Args, Debug)]
struct SetOptions {
    #[command(flatten)]
    device: NamedOptions,
    #[command(flatten)]
    changes: Changes,
}

#[derive(Args, Debug)]
struct Changes {
    /// Status; only active devices are accepted, connections of other devices end
    #[arg(long, required_unless_present_any = OTHER_CHANGES)]
    status: Option<StatusName>,
    /// A name for people
    #[arg(long)]
    name: Option<String>,
    /// Type of the device
    #[arg(long = "type", value_name = "TYPE")]
    device_type: Option<String>,
    /// Move it to this team, by id or name; "" is none. It leaves the groups of its old team; if
    /// the tenant changes, it also loses its connection, its session and its user name
    #[arg(long, value_name = "TEAM")]
    to_team: Option<String>,
    #[command(flatten)]
    said: DescriptionOptions,
    /// Add this tag; repeatable
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Remove this tag; repeatable
    #[arg(long = "untag", value_name = "TAG")]
    untags: Vec<String>,
    /// Add it to this group, by id or name; repeatable
    #[arg(long = "join", value_name = "GROUP")]
    joins: Vec<String>,
    /// Remove it from this group, by id or name; repeatable
    #[arg(long = "leave", value_name = "GROUP")]
    leaves: Vec<String>,
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
        Action::Import(options) => return bulk::import(options),
        Action::Show(options) => show(options),
        Action::Export(options) => bulk::export(options),
        Action::Restore(options) => restore(options),
        Action::Add(options) => add(options),
        Action::Rm(options) => remove(options),
        Action::Ls(options) => list(options),
        Action::Rotate(options) => rotate(options),
        Action::Set(options) => set(options),
        Action::Twin(options) => return finish_as(options.admin.json, twin::run(options)),
        Action::Type { action } => role::run_for(Owner::DeviceType, action),
    })
}

/// Finds a device. `ID@TEAM`, the form used in logins, is a device of the team, unless a device has
/// this id.
async fn found(open: &mut OpenTables, named: &NamedOptions) -> Result<Device, UseCaseError> {
    let find = |id: &str| FindDevice {
        device: DeviceName::Id(id.to_owned()),
    };
    let team = named.of.team.as_deref();
    let device = open.run_in(team, find(&named.id)).await;
    let (Err(error), None, Some((id, team))) = (&device, team, named.id.rsplit_once('@')) else {
        return device;
    };
    if !error.is_not_found() {
        return device;
    }
    let name = team.to_owned();
    match open.run(FindTeam { team: name }).await {
        Err(error) if error.is_not_found() => device,
        Err(error) => Err(error),
        Ok(team) => open.run_in(Some(&team.id), find(id)).await,
    }
}

fn add(options: &AddOptions) -> anyhow::Result<String> {
    let AddOptions { id, team, on, .. } = options;
    let (device_type, said) = (&options.device_type, &options.said);
    let device = NewDevice {
        number: None,
        name: options.name.clone(),
        device_type: device_type.clone(),
        kind: said.kind.clone().unwrap_or_default(),
        status: options.status.status(),
        description: said.description.clone().unwrap_or_default(),
        location: said.location.clone().unwrap_or_default(),
        firmware_version: said.firmware_version.clone().unwrap_or_default(),
        hardware_version: said.hardware_version.clone().unwrap_or_default(),
        owner: said.owner.clone().unwrap_or_default(),
        team: team.clone(),
        tags: options.tags.clone(),
        groups: options.groups.clone(),
        secret: match options.no_secret {
            true => DeviceSecret::None,
            false => DeviceSecret::MadeUp,
        },
        id: id.clone(),
    };
    let add = AddDevice {
        device,
        kind_is_type: false,
    };
    let (added, secret) = tables::run(&on.node, add)?;
    let reload_note = tables::reload_tables(&on.node);
    err!("{}", bans::notes(&on.node, &added));
    let (id, user_name) = (&added.id, &added.user_name);
    let Some(secret) = secret.as_ref().map(Secret::text) else {
        return Ok(match on.json {
            true => {
                let answer = serde_json::json!({
                    "id": id, "user_name": user_name, "type": device_type, "secret": null,
                });
                format!("{answer}\n")
            }
            false => format!(
                "Added device {id} of the type {device_type}{}, without a credential\n{reload_note}",
                comes_as(id, user_name)
            ),
        });
    };
    let given = tables::Given {
        id,
        user_name,
        device_type,
        secret,
    };
    let line = tables::line_to_try(&on.node, &given);
    Ok(match on.json {
        true => {
            let answer = serde_json::json!({
                "id": id, "user_name": user_name, "type": device_type, "secret": secret,
                "try": line,
            });
            format!("{answer}\n")
        }
        false => format!(
            "Added device {id} of the type {device_type}{}\nIts credential, shown this once: \
             {secret}\n{reload_note}Try it: {line}\n",
            comes_as(id, user_name)
        ),
    })
}

/// Note on the user name of a device, if it differs from the id.
fn comes_as(id: &str, user_name: &str) -> String {
    match user_name == id {
        true => String::new(),
        false => format!("; its user name is {}", printable(user_name)),
    }
}

fn rotate(options: &RotateOptions) -> anyhow::Result<String> {
    let NamedOptions { on, .. } = &options.device;
    let grace = match options.now {
        true => Duration::ZERO,
        false => options.grace,
    };
    let (secret, device) = tables::with(&on.node, async |open| {
        let device = found(open, &options.device).await?;
        let renew = RotateSecret {
            device: DeviceName::Number(device.number),
            grace,
        };
        Ok((open.run(renew).await?, device))
    })?;
    let reload_note = tables::reload_tables(&on.node);
    // The actual id, whatever form the argument has.
    let id = &device.id;
    let given = tables::Given {
        id,
        user_name: &device.user_name,
        device_type: &device.device_type,
        secret: secret.text(),
    };
    let line = tables::line_to_try(&on.node, &given);
    let old = match options.now {
        true => "The old one is no longer valid.".to_owned(),
        false => format!("The old one stays valid for {}.", time(grace)),
    };
    Ok(match on.json {
        true => {
            let answer = serde_json::json!({
                "id": id, "user_name": device.user_name, "secret": secret.text(),
                "grace_secs": grace.as_secs(), "try": line,
            });
            format!("{answer}\n")
        }
        false => format!(
            "The credential of device {id}, shown this once: {}\n{old}\n{reload_note}Try it: {line}\n",
            secret.text()
        ),
    })
}

fn set(options: &SetOptions) -> anyhow::Result<String> {
    let NamedOptions { id, on, .. } = &options.device;
    let changes = &options.changes;
    let changed = tables::with(&on.node, async |open| {
        let device = found(open, &options.device).await?;
        let change = DeviceChange {
            name: changes.name.clone(),
            device_type: changes.device_type.clone(),
            kind: changes.said.kind.clone(),
            status: changes.status.map(StatusName::status),
            description: changes.said.description.clone(),
            location: changes.said.location.clone(),
            firmware_version: changes.said.firmware_version.clone(),
            hardware_version: changes.said.hardware_version.clone(),
            owner: changes.said.owner.clone(),
            team: changes.to_team.clone(),
            tags: changed_list(&device.tags, &changes.tags, &changes.untags),
            groups: groups_after(open, &device, changes).await?,
        };
        let change = ChangeDevice {
            device: DeviceName::Number(device.number),
            within: Visibility::All,
            change,
            // The change applies only to the revision that was read.
            expected_revision: device.revision.into(),
        };
        open.run(change).await
    })?;
    let reload_note = tables::reload_tables(&on.node);
    // In a team with a separate tenant, its user name changes.
    let user_name = changes.to_team.as_ref().map(|_| &changed.user_name);
    Ok(match (on.json, user_name) {
        (true, None) => format!("{}\n", serde_json::json!({ "changed": id })),
        (true, Some(user_name)) => {
            let answer = serde_json::json!({ "changed": id, "user_name": user_name });
            format!("{answer}\n")
        }
        (false, None) => format!("Changed device {id}\n{reload_note}"),
        (false, Some(user_name)) => format!(
            "Changed device {id}: its User Name is {} now\n{reload_note}",
            printable(user_name)
        ),
    })
}

/// The list after adding and removing elements; `None` if it is unchanged.
fn changed_list(all: &[String], more: &[String], less: &[String]) -> Option<Vec<String>> {
    if more.is_empty() && less.is_empty() {
        return None;
    }
    let left = all.iter().filter(|one| !less.contains(one));
    Some(left.chain(more).cloned().collect())
}

/// The device's groups after the change, if they change. A device that leaves its team leaves its
/// groups too.
async fn groups_after(
    open: &mut OpenTables,
    device: &Device,
    changes: &Changes,
) -> Result<Option<Vec<String>>, UseCaseError> {
    if changes.joins.is_empty() && changes.leaves.is_empty() {
        return Ok(None);
    }
    let (mut left, mut stays) = (Vec::new(), Vec::new());
    for id in &device.groups {
        let group = GroupName {
            text: id.clone(),
            team: None,
        };
        let group = open.run(FindGroup { group }).await?;
        let named = |text: &&String| **text == group.id || **text == group.name;
        match changes.leaves.iter().find(named) {
            Some(text) => left.push(text),
            None => stays.push(group),
        }
    }
    if let Some(odd) = changes.leaves.iter().find(|text| !left.contains(text)) {
        let missing = NotFound::GroupOfDevice(device.object_name(), (*odd).clone());
        return Err(RegistryError::from(missing).into());
    }
    if changes.to_team.is_some() {
        stays.retain(|group| group.team.is_empty());
    }
    let stays = stays.into_iter().map(|group| group.id);
    Ok(Some(stays.chain(changes.joins.iter().cloned()).collect()))
}

fn remove(options: &RemoveOptions) -> anyhow::Result<String> {
    let NamedOptions { id, of, on } = &options.device;
    if options.purge && !options.yes {
        let id = printable(id);
        prompt::expect_agreed(&format!(
            "Remove the device {id} permanently, with everything that belongs to it?"
        ))?;
    }
    let (team, device) = (of.team.as_deref(), DeviceName::Id(id.clone()));
    match options.purge {
        true => {
            let keeps_telemetry = false;
            let purge = PurgeDevice {
                device,
                keeps_telemetry,
            };
            tables::run_in(&on.node, team, purge)?
        }
        false => {
            let delete = DeleteDevice {
                device,
                expected_revision: Expected::any(),
            };
            tables::run_in(&on.node, team, delete)?;
        }
    }
    let reload_note = tables::reload_tables(&on.node);
    let view = serde_json::json!({ "removed": id, "can_be_restored": !options.purge });
    Ok(match (on.json, options.purge) {
        (true, _) => format!("{view}\n"),
        (false, true) => format!("Removed device {id} permanently\n{reload_note}"),
        (false, false) => {
            let team = of.team.as_ref();
            let team = team.map_or_else(String::new, |team| format!("--team={} ", typed(team)));
            let note = DeletedKept::of(&on.node)?.note(&on.node, "device", id, &team);
            format!("Deleted device {id}\n{reload_note}{note}")
        }
    })
}

fn restore(options: &NamedOptions) -> anyhow::Result<String> {
    let NamedOptions { id, of, on } = options;
    let restore = RestoreDevice {
        device: DeviceName::Id(id.clone()),
    };
    let device = tables::run_in(&on.node, of.team.as_deref(), restore)?;
    let reload_note = tables::reload_tables(&on.node);
    Ok(match on.json {
        true => format!("{}\n", json_of_device(device)),
        false => format!("Restored device {id}\n{reload_note}"),
    })
}

fn show(options: &NamedOptions) -> anyhow::Result<String> {
    let on = &options.on;
    let (device, teams) = tables::read(&on.node, async |open| {
        Ok((found(open, options).await?, open.run(ListTeamNames).await?))
    })?;
    let team = teams.get(&device.team).cloned();
    let mut view = json_of_device(device);
    if on.json {
        return Ok(format!("{view}\n"));
    }
    // In JSON it is the id.
    if let Some(team) = team {
        view["team"] = team.into();
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

fn list(options: &ListOptions) -> anyhow::Result<String> {
    let all = listed(options)?;
    let kept = DeletedKept::of(&options.on.node)?;
    if options.on.json {
        let all = all.iter().map(|device| {
            let is_deleted = device.deleted_ms > 0;
            let until = kept.until(device.deleted_ms).filter(|_| is_deleted);
            let until = until.map_or(0, jiff::Timestamp::as_millisecond);
            serde_json::json!({
                "id": device.id, "user_name": device.user_name, "team": device.team,
                "name": device.name, "type": device.device_type, "kind": device.kind,
                "status": device.status.word(), "credentials": device.credentials,
                "created_at": listing::time(device.created_ms), "deleted_at": listing::time(device.deleted_ms),
                "kept_until": listing::time(until),
            })
        });
        return Ok(listing::items(all));
    }
    Ok(list::table(&all, options.deleted.then_some(kept)))
}
