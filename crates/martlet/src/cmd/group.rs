//! `martlet group`: groups of devices in the tables of a node, and their members.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use martlet_control::text::printable;
use martlet_registry::Group;
use serde_json::{Value, json};

use crate::cmd::admin::{AdminOptions, ask, finish_as};
use crate::cmd::answers::{ListForm, done};
use crate::cmd::desired::DesiredChange;
use crate::cmd::door::Door;
use crate::cmd::fields::FieldOptions;
use crate::cmd::node_options::{NodeAndForm, TeamOption};
use crate::cmd::query::{encoded, team_query};
use crate::cmd::role;
use crate::cmd::view::text;

/// Arguments of `martlet group`.
#[derive(Subcommand, Debug)]
pub(crate) enum GroupCommand {
    /// List groups, with their teams
    #[command(alias = "list")]
    Ls(ListGroups),
    /// Show a group and its rules
    Show(NamedGroup),
    /// Add a group
    #[command(aliases = ["create", "new"])]
    Add(AddGroupOptions),
    /// Remove a group; its devices are kept
    Rm(NamedGroup),
    /// Devices of a group
    #[command(subcommand)]
    Member(MemberCommand),
    /// Remove devices from a group: what `member rm` was called
    #[command(hide = true)]
    Remove(Members),
    /// Show or change the desired values of the devices of a group
    Desired(DesiredOptions),
}

/// Arguments of `martlet group member`.
#[derive(Subcommand, Debug)]
pub(crate) enum MemberCommand {
    /// Add devices to a group
    Add(Members),
    /// Remove devices from a group; the devices are kept
    Rm(Members),
}

#[derive(Args, Debug)]
pub(crate) struct DesiredOptions {
    /// Id or name of the group
    #[arg(value_name = "GROUP")]
    group: String,
    #[command(flatten)]
    of: TeamOption,
    #[command(flatten)]
    admin: AdminOptions,
    #[command(flatten)]
    change: DesiredChange,
}

#[derive(Args, Debug)]
pub(crate) struct ListGroups {
    /// Only groups of this team, by id or name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    #[command(flatten)]
    form: ListForm,
}

/// The path of groups in the API.
const PATH: &str = "/api/v1/groups";

/// The path of a group, or of what belongs to it.
fn path(group: &str, rest: &str, team: Option<&str>) -> String {
    format!("{PATH}/{}{rest}{}", encoded(group), team_query(team))
}

#[derive(Args, Debug)]
pub(crate) struct AddGroupOptions {
    /// Name of the group
    #[arg(value_name = "NAME")]
    name: String,
    /// Devices that are added to a group that exists: `member add` was called `add`
    #[arg(value_name = "DEVICE", hide = true)]
    devices: Vec<String>,
    #[command(flatten)]
    said: FieldOptions<Group>,
    /// Team of the group, by id or name [default: none]
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    #[command(flatten)]
    on: NodeAndForm,
}

#[derive(Args, Debug)]
pub(crate) struct NamedGroup {
    /// Name or id of the group
    #[arg(value_name = "GROUP")]
    group: String,
    /// Team of the group, by id or name; required if several teams have a group of that name
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    #[command(flatten)]
    on: NodeAndForm,
}

#[derive(Args, Debug)]
pub(crate) struct Members {
    /// Name or id of the group
    #[arg(value_name = "GROUP")]
    group: String,
    /// Devices
    #[arg(value_name = "DEVICE", required = true)]
    devices: Vec<String>,
    /// Team of the devices, by id or name; required if it has its own tenant and the group belongs
    /// to no team. Of several groups with the same name, the group of the devices' team is used
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    #[command(flatten)]
    on: NodeAndForm,
}

/// Runs the command.
pub(crate) fn run(command: &GroupCommand) -> ExitCode {
    match command {
        GroupCommand::Desired(options) => finish_as(options.admin.json, desired(options)),
        command => role::finish(work(command)),
    }
}

fn work(command: &GroupCommand) -> anyhow::Result<String> {
    match command {
        GroupCommand::Ls(options) => list(options),
        GroupCommand::Show(named) => show(named),
        GroupCommand::Add(options) if !options.devices.is_empty() => {
            let team = options.team.as_deref();
            change(&options.name, team, &options.devices, &options.on, true)
        }
        GroupCommand::Add(options) => add(options),
        GroupCommand::Rm(named) => remove(named),
        GroupCommand::Member(MemberCommand::Add(members)) => members.change(true),
        GroupCommand::Member(MemberCommand::Rm(members)) | GroupCommand::Remove(members) => {
            members.change(false)
        }
        GroupCommand::Desired(options) => desired(options),
    }
}

/// Shows the desired values of a group, after changing them if requested.
fn desired(options: &DesiredOptions) -> anyhow::Result<String> {
    let (group, query) = (encoded(&options.group), options.of.query());
    let data_dir = options.admin.node.data_dir()?;
    let target = format!("/api/v1/groups/{group}/twin/desired{query}");
    let body = match options.change.apply(&data_dir, &target)? {
        Some(body) => body,
        None => ask(&data_dir, "GET", &target)?,
    };
    if options.admin.json {
        return Ok(body);
    }
    let found: Value = serde_json::from_str(&body)?;
    let desired = &found["desired"];
    let line = format!(
        "desired      {} (version {})",
        desired["values"], desired["version"]
    );
    Ok(format!("{}\n", printable(&line)))
}

fn add(options: &AddGroupOptions) -> anyhow::Result<String> {
    let door = Door::of(&options.on.node)?;
    let mut body = json!({ "name": options.name, "team": options.team });
    options.said.add_to(&mut body);
    let group = door.ask("POST", PATH, Some(&body))?;
    let line = format!(
        "Added the group {} ({})",
        text(&group, "name"),
        text(&group, "id")
    );
    Ok(done(&options.on, &group, &line, ""))
}

fn remove(named: &NamedGroup) -> anyhow::Result<String> {
    let door = Door::of(&named.on.node)?;
    let group = door.get(&path(&named.group, "", named.team.as_deref()))?;
    let (id, name) = (text(&group, "id"), text(&group, "name"));
    door.ask("DELETE", &path(&id, "", None), None)?;
    let line = format!("Removed the group {name}");
    Ok(done(
        &named.on,
        &json!({ "removed": id }),
        &line,
        &door.note(),
    ))
}

fn show(named: &NamedGroup) -> anyhow::Result<String> {
    let door = Door::of(&named.on.node)?;
    let mut group = door.get(&path(&named.group, "", named.team.as_deref()))?;
    let rules = door.get(&path(&text(&group, "id"), "/rules", None))?;
    group["rules"] = rules["rules"].clone();
    if named.on.json {
        return Ok(format!("{group}\n"));
    }
    let field = |name: &'static str| match name {
        "team" => (name, door.team_of(&group)),
        name => (name, text(&group, name)),
    };
    let fields = ["id", "name", "description", "team", "devices", "rules"].map(field);
    let line = |(name, text): (&str, String)| {
        let line = format!("{name:<18} {text}");
        format!("{}\n", printable(line.trim_end()))
    };
    Ok(fields.map(line).concat())
}

fn list(options: &ListGroups) -> anyhow::Result<String> {
    let form = &options.form;
    let door = Door::of(&form.on.node)?;
    let team = options.team.as_deref().map(|team| ("team", team));
    let all = form.read(&door, PATH, team.as_slice())?;
    let row = |group: &Value| {
        let members = ["id", "name", "devices", "description"];
        let [id, name, devices, description] = members.map(|member| text(group, member));
        [id, name, devices, door.team_of(group), description]
    };
    let headers = ["ID", "GROUP", ">DEVICES", "TEAM", "DESCRIPTION"];
    form.show(all, headers, row, "There are no groups.")
}

fn counted(devices: Option<u64>) -> String {
    match devices.unwrap_or_default() {
        1 => "1 device".to_owned(),
        count => format!("{count} devices"),
    }
}

impl Members {
    fn change(&self, is_added: bool) -> anyhow::Result<String> {
        let team = self.team.as_deref();
        change(&self.group, team, &self.devices, &self.on, is_added)
    }
}

/// Adds devices to a group, given by its name and possibly its team, or removes them.
fn change(
    group: &str,
    team: Option<&str>,
    devices: &[String],
    on: &NodeAndForm,
    is_added: bool,
) -> anyhow::Result<String> {
    let door = Door::of(&on.node)?;
    let rest = if is_added {
        "/devices"
    } else {
        "/devices/remove"
    };
    let body = json!({ "devices": devices });
    let moved = door.ask("POST", &path(group, rest, team), Some(&body))?;
    let (group, count) = (text(&moved, "group"), counted(moved["changed"].as_u64()));
    let line = match is_added {
        true => format!("Added {count} to the group {group}"),
        false => format!("Removed {count} from the group {group}"),
    };
    Ok(done(on, &moved, &line, &door.note()))
}
