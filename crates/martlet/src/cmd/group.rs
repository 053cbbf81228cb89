//! `martlet group`: groups of devices in the tables of a node, and their members.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use martlet_control::text::printable;
use martlet_control::use_cases::{
    self, AddGroup, ChangeMembers, FindGroup, GroupName, ListTeamNames, ReadGroupRules, RemoveGroup,
};
use martlet_registry::{Expected, Group, NewGroup, RuleLine};
use serde_json::{Value, json};

use crate::cmd::admin::{AdminOptions, ask, finish_as};
use crate::cmd::columns::columns;
use crate::cmd::desired::DesiredChange;
use crate::cmd::listing;
use crate::cmd::node_and_form::NodeAndForm;
use crate::cmd::node_options::TeamOption;
use crate::cmd::query::encoded;
use crate::cmd::role;
use crate::cmd::tables;

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
    on: NodeAndForm,
}

#[derive(Args, Debug)]
pub(crate) struct AddGroupOptions {
    /// Name of the group
    #[arg(value_name = "NAME")]
    name: String,
    /// Devices that are added to a group that exists: `member add` was called `add`
    #[arg(value_name = "DEVICE", hide = true)]
    devices: Vec<String>,
    /// Description, for people
    #[arg(long, value_name = "TEXT", conflicts_with = "devices")]
    description: Option<String>,
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
            let of = (&*options.name, options.team.as_deref());
            change(of, &options.devices, &options.on, true)
        }
        GroupCommand::Add(options) => {
            let group = NewGroup {
                name: options.name.clone(),
                description: options.description.clone().unwrap_or_default(),
                colour: String::new(),
                team: options.team.clone(),
            };
            let group = tables::run(&options.on.node, AddGroup { group })?;
            let line = format!("Added the group {} ({})", group.name, group.id);
            Ok(match options.on.json {
                true => format!("{}\n", json!({ "id": group.id, "name": group.name })),
                false => format!("{}\n", printable(&line)),
            })
        }
        GroupCommand::Rm(named) => {
            let (found, on) = (find(named)?.0, &named.on);
            let remove = RemoveGroup {
                group: GroupName {
                    text: found.id.clone(),
                    team: None,
                },
                expected_revision: Expected::any(),
            };
            tables::run(&on.node, remove)?;
            let reload_note = tables::reload_tables(&on.node);
            Ok(match on.json {
                true => format!("{}\n", json!({ "removed": found.id })),
                false => format!(
                    "Removed the group {}\n{reload_note}",
                    printable(&found.name)
                ),
            })
        }
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

/// The group with this id or name, the name of its team, and its rules.
fn find(named: &NamedGroup) -> anyhow::Result<(Group, String, Vec<RuleLine>)> {
    let name = |text: &str, team: &Option<String>| GroupName {
        text: text.to_owned(),
        team: team.clone(),
    };
    tables::read(&named.on.node, async |open| {
        let group = name(&named.group, &named.team);
        let found = open.run(FindGroup { group }).await?;
        let team = open.run(ListTeamNames).await?.remove(&found.team);
        let group = name(&found.id, &None);
        let rules = open.run(ReadGroupRules { group }).await?.rules;
        Ok((found, team.unwrap_or_default(), rules))
    })
}

fn json_of(group: &Group, team: &str) -> Value {
    json!({
        "id": group.id, "name": group.name, "description": group.description,
        "team": group.team, "team_name": team, "devices": group.devices,
    })
}

fn show(named: &NamedGroup) -> anyhow::Result<String> {
    let (group, team, rules) = find(named)?;
    let rules: Vec<String> = rules.iter().map(RuleLine::to_string).collect();
    let mut view = json_of(&group, &team);
    if named.on.json {
        view["rules"] = json!(rules);
        return Ok(format!("{view}\n"));
    }
    let fields = [
        ("id", group.id),
        ("name", group.name),
        ("description", group.description),
        ("team", team),
        ("devices", group.devices.to_string()),
        ("rules", rules.join(", ")),
    ];
    let line = |(name, text): (&str, String)| {
        let line = format!("{name:<18} {text}");
        format!("{}\n", printable(line.trim_end()))
    };
    Ok(fields.map(line).concat())
}

fn list(options: &ListGroups) -> anyhow::Result<String> {
    let team = options.team.as_deref();
    let (all, teams) = tables::read(&options.on.node, async |open| {
        let all = open.run_in(team, use_cases::ListGroups).await?;
        Ok((all, open.run(ListTeamNames).await?))
    })?;
    let team_of = |group: &Group| teams.get(&group.team).map_or("", String::as_str);
    if options.on.json {
        let views = all.iter().map(|group| json_of(group, team_of(group)));
        return Ok(listing::items(views));
    }
    let row = |group: &Group| {
        [
            group.id.clone(),
            group.name.clone(),
            group.devices.to_string(),
            team_of(group).to_owned(),
            group.description.clone(),
        ]
    };
    let headers = ["ID", "GROUP", ">DEVICES", "TEAM", "DESCRIPTION"];
    Ok(columns(
        headers,
        all.iter().map(row),
        "There are no groups.",
    ))
}

fn counted(devices: u64) -> String {
    match devices {
        1 => "1 device".to_owned(),
        count => format!("{count} devices"),
    }
}

impl Members {
    fn change(&self, is_added: bool) -> anyhow::Result<String> {
        let of = (&*self.group, self.team.as_deref());
        change(of, &self.devices, &self.on, is_added)
    }
}

/// Adds devices to a group, given by its name and possibly its team, or removes them.
fn change(
    (group, team): (&str, Option<&str>),
    devices: &[String],
    on: &NodeAndForm,
    is_added: bool,
) -> anyhow::Result<String> {
    let group = GroupName {
        text: group.to_owned(),
        team: team.map(str::to_owned),
    };
    let change = ChangeMembers {
        group,
        devices: devices.to_vec(),
        is_added,
    };
    let (found, changed) = tables::run(&on.node, change)?;
    // The rules of the group apply from now on.
    let reload_note = tables::reload_tables(&on.node);
    let name = printable(&found.name);
    Ok(match (on.json, is_added) {
        (true, _) => format!("{}\n", json!({ "group": found.id, "changed": changed })),
        (_, true) => format!(
            "Added {} to the group {name}\n{reload_note}",
            counted(changed)
        ),
        (_, false) => format!(
            "Removed {} from the group {name}\n{reload_note}",
            counted(changed)
        ),
    })
}
