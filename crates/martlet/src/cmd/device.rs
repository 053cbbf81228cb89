//! `martlet device`: devices and their credentials, which are generated and shown once.

mod bans;
mod bulk;
mod list;
mod table_parts;
mod twin;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use martlet_control::text::{printable, typed};
use martlet_registry::{DEVICE_TYPE, Device, Owner};
use serde_json::{Map, Value, json};

use crate::cmd::admin::{NodeRefusal, finish_as};
use crate::cmd::answers::done;
use crate::cmd::deleted::DeletedKept;
use crate::cmd::door::Door;
use crate::cmd::duration::{grace, time};
use crate::cmd::fields::{self, FieldOptions};
use crate::cmd::node_options::{NodeAndForm, NodeOptions, TeamOption};
use crate::cmd::print::err;
use crate::cmd::prompt;
use crate::cmd::query::{DEVICES, device_path, encoded, team_query};
use crate::cmd::reach;
use crate::cmd::role;
use crate::cmd::user_source::note_of_other;
use crate::cmd::view::text;
use list::{Selection, StatusName};

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
    Export(Selection),
    /// Delete a device; its connection ends, and it can be restored
    Rm(RemoveOptions),
    /// Restore a deleted device, with its credentials
    Restore(NamedOptions),
    /// List the devices of all teams
    #[command(alias = "list")]
    Ls(list::ListDevices),
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

/// The path of a device in the API, or of what belongs to it.
fn path(id: &str, rest: &str, team: Option<&str>) -> String {
    format!("{}{rest}{}", device_path(id), team_query(team))
}

/// The path of what belongs to this device.
fn path_of(device: &Value, rest: &str) -> String {
    let team = device["team"].as_str().filter(|team| !team.is_empty());
    path(&text(device, "id"), rest, team)
}

impl NamedOptions {
    /// The device, as the API shows it. `ID@TEAM`, the form used in logins, is a device of the
    /// team, unless a device has this id.
    fn find(&self, door: &Door<'_>) -> anyhow::Result<Value> {
        let team = self.of.team.as_deref();
        let found = door.get(&path(&self.id, "", team));
        match (&found, team, self.id.rsplit_once('@')) {
            (Err(error), None, Some((id, team))) if NodeRefusal::is_not_found(error) => {
                match door.get(&path(id, "", Some(team))) {
                    Err(error) if NodeRefusal::is_not_found(&error) => found,
                    of_team => of_team,
                }
            }
            _ => found,
        }
    }
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
    said: FieldOptions<Device>,
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
fn other_changes() -> impl Iterator<Item = &'static str> {
    let own = [
        "name",
        "device_type",
        "to_team",
        "tags",
        "untags",
        "joins",
        "leaves",
    ];
    own.into_iter().chain(fields::names::<Device>())
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
    #[arg(long, required_unless_present_any = other_changes())]
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
    said: FieldOptions<Device>,
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

/// Runs the command.
pub(crate) fn run(command: &DeviceCommand) -> ExitCode {
    role::finish(match &command.action {
        Action::Import(options) => return bulk::import(options),
        Action::Show(options) => show(options),
        Action::Export(options) => bulk::export(options),
        Action::Restore(options) => restore(options),
        Action::Add(options) => add(options),
        Action::Rm(options) => remove(options),
        Action::Ls(options) => list::list(options),
        Action::Rotate(options) => rotate(options),
        Action::Set(options) => set(options),
        Action::Twin(options) => return finish_as(options.admin.json, twin::run(options)),
        Action::Type { action } => role::run_for(Owner::DeviceType, action),
    })
}

fn add(options: &AddOptions) -> anyhow::Result<String> {
    let on = &options.on;
    let door = Door::of(&on.node)?;
    let mut body = json!({
        "id": options.id, "name": options.name, "type": options.device_type,
        "status": options.status.word(), "team": options.team, "tags": options.tags,
        "groups": options.groups, "with_secret": !options.no_secret,
    });
    options.said.add_to(&mut body);
    let mut device = door.ask("POST", DEVICES, Some(&body))?;
    err!("{}", bans::notes(&door, &on.node, &device));
    let members = ["id", "user_name", "type"];
    let [id, user_name, device_type] = members.map(|member| text(&device, member));
    let what = format!(
        "Added device {id} of the type {device_type}{}",
        comes_as(&id, &user_name)
    );
    let Some(secret) = device["secret"].as_str().map(str::to_owned) else {
        let line = format!("{what}, without a credential");
        return Ok(done(on, &device, &line, &door.note()));
    };
    let other = note_of_other(&on.node, &user_name, false);
    if !other.is_empty() {
        let shown = format!(
            "Its credential, shown this once: {secret}\n{}{other}",
            door.note()
        );
        return Ok(done(on, &device, &what, &shown));
    }
    let line = line_to_try(&on.node, &device, &secret);
    device["try"] = line.clone().into();
    let shown = format!(
        "Its credential, shown this once: {secret}\n{}Try it: {line}\n",
        door.note()
    );
    Ok(done(on, &device, &what, &shown))
}

/// A command line with which a device publishes.
fn line_to_try(node: &NodeOptions, device: &Value, secret: &str) -> String {
    let members = ["id", "user_name", "type"];
    let [id, user_name, device_type] = members.map(|member| text(device, member));
    let given = reach::Given {
        id: &id,
        user_name: &user_name,
        device_type: &device_type,
        secret,
    };
    reach::line_to_try(node, &given)
}

/// Note on the user name of a device, if it differs from the id.
fn comes_as(id: &str, user_name: &str) -> String {
    match user_name == id {
        true => String::new(),
        false => format!("; its user name is {}", printable(user_name)),
    }
}

fn rotate(options: &RotateOptions) -> anyhow::Result<String> {
    let on = &options.device.on;
    let grace = match options.now {
        true => Duration::ZERO,
        false => options.grace,
    };
    let door = Door::of(&on.node)?;
    let device = options.device.find(&door)?;
    let body = json!({ "grace_secs": grace.as_secs() });
    let mut rotated = door.ask("POST", &path_of(&device, "/rotate"), Some(&body))?;
    let secret = text(&rotated, "secret");
    let line = line_to_try(&on.node, &device, &secret);
    let old = match options.now {
        true => "The old one is no longer valid.".to_owned(),
        false => format!("The old one stays valid for {}.", time(grace)),
    };
    // The actual id, whatever form the argument has.
    let what = format!(
        "The credential of device {}, shown this once: {secret}",
        text(&device, "id")
    );
    rotated["user_name"] = device["user_name"].clone();
    rotated["try"] = line.clone().into();
    let shown = format!("{old}\n{}Try it: {line}\n", door.note());
    Ok(done(on, &rotated, &what, &shown))
}

fn set(options: &SetOptions) -> anyhow::Result<String> {
    let NamedOptions { id, on, .. } = &options.device;
    let changes = &options.changes;
    let door = Door::of(&on.node)?;
    let device = options.device.find(&door)?;
    let mut body = json!({
        "name": changes.name, "type": changes.device_type,
        "status": changes.status.map(StatusName::word), "team": changes.to_team,
        "tags": changed_list(&list_of(&device, "tags"), &changes.tags, &changes.untags),
        "groups": groups_after(&door, &device, changes)?,
    });
    changes.said.add_to(&mut body);
    // The change applies only to the revision that was read.
    let changed = door.change(&path_of(&device, ""), &body, &device["revision"])?;
    let line = match changes.to_team {
        // In a team with a separate tenant, its user name changes.
        Some(_) => format!(
            "Changed device {id}: its User Name is {} now",
            text(&changed, "user_name")
        ),
        None => format!("Changed device {id}"),
    };
    Ok(done(on, &changed, &line, &door.note()))
}

/// The texts in a list of an object.
fn list_of(object: &Value, member: &str) -> Vec<String> {
    let all = object[member].as_array().into_iter().flatten();
    all.filter_map(|one| one.as_str().map(str::to_owned))
        .collect()
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
fn groups_after(
    door: &Door<'_>,
    device: &Value,
    changes: &Changes,
) -> anyhow::Result<Option<Vec<String>>> {
    if changes.joins.is_empty() && changes.leaves.is_empty() {
        return Ok(None);
    }
    let (mut left, mut stays) = (Vec::new(), Vec::new());
    for id in list_of(device, "groups") {
        let group = door.get(&format!("/api/v1/groups/{}", encoded(&id)))?;
        let named = |text: &&String| group["id"] == **text || group["name"] == **text;
        match changes.leaves.iter().find(named) {
            Some(text) => left.push(text),
            None if changes.to_team.is_some() && group["team"] != "" => {}
            None => stays.push(id),
        }
    }
    if let Some(odd) = changes.leaves.iter().find(|text| !left.contains(text)) {
        let id = text(device, "id");
        anyhow::bail!(
            "the device {id} is in no group {odd}: martlet device show {} shows its groups",
            typed(&id)
        );
    }
    Ok(Some(
        stays
            .into_iter()
            .chain(changes.joins.iter().cloned())
            .collect(),
    ))
}

fn remove(options: &RemoveOptions) -> anyhow::Result<String> {
    let NamedOptions { id, of, on } = &options.device;
    if options.purge && !options.yes {
        let id = printable(id);
        prompt::expect_agreed(&format!(
            "Remove the device {id} permanently, with everything that belongs to it?"
        ))?;
    }
    let door = Door::of(&on.node)?;
    let team = of.team.as_deref();
    match options.purge {
        true => door.ask("POST", &path(id, "/purge", team), None)?,
        false => door.ask("DELETE", &path(id, "", team), None)?,
    };
    let view = json!({ "removed": id, "can_be_restored": !options.purge });
    if options.purge {
        let line = format!("Removed device {id} permanently");
        return Ok(done(on, &view, &line, &door.note()));
    }
    let team = team.map_or_else(String::new, |team| format!("--team={} ", typed(team)));
    let kept = DeletedKept::of(&on.node)?.note(&on.node, "device", id, &team);
    let note = format!("{}{kept}", door.note());
    Ok(done(on, &view, &format!("Deleted device {id}"), &note))
}

fn restore(options: &NamedOptions) -> anyhow::Result<String> {
    let NamedOptions { id, of, on } = options;
    let door = Door::of(&on.node)?;
    let path = path(id, "/restore", of.team.as_deref());
    let device = door.ask("POST", &path, None)?;
    Ok(done(
        on,
        &device,
        &format!("Restored device {id}"),
        &door.note(),
    ))
}

fn show(options: &NamedOptions) -> anyhow::Result<String> {
    let on = &options.on;
    let door = Door::of(&on.node)?;
    let mut view = options.find(&door)?;
    if on.json {
        return Ok(format!("{view}\n"));
    }
    // In JSON it is the id.
    view["team"] = door.team_of(&view).into();
    let names = view.as_object().into_iter().flat_map(Map::keys);
    let line = |name: &String| {
        let line = format!("{:<18} {}", name.replace('_', " "), text(&view, name));
        format!("{}\n", printable(line.trim_end()))
    };
    Ok(names.map(line).collect())
}
